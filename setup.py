"Reads settings.ini, the one source of the package's metadata and dependencies, for setuptools."
import re
import shutil
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_namespace_packages, setup
from setuptools.command.build_py import build_py

here = Path(__file__).parent
ini = ConfigParser(delimiters=["="])
ini.read(here / "settings.ini", encoding="utf-8")
cfg = ini["DEFAULT"]

extras = {k.removesuffix("_requirements"): v.split() for k, v in cfg.items() if k.endswith("_requirements")}
extras["dev"] = list(dict.fromkeys(r for rs in extras.values() for r in rs))  # the tests run all of them


def for_the_wheel(markdown):
    "Links and pictures as addresses, since the page of a wheel has no files beside it."
    def address(m): return f"{m[1]}{m[2]}({cfg['git_url']}/{'raw' if m[1] else 'blob'}/{cfg['branch']}/{m[3]})"
    return re.sub(r"(!?)(\[[^\]]*\])\((?![a-z]+:|#)([^)\s]+)\)", address, markdown)


class WithDemos(build_py):
    "Puts the studios' notebooks into the package."
    def run(self):
        super().run()
        if not self.editable_mode: shutil.copytree(here / "nbs/demos", Path(self.build_lib) / cfg["lib_path"] / "demos", dirs_exist_ok=True)


setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=for_the_wheel((here / "README.md").read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
    keywords=cfg["keywords"],
    author=cfg["author"],
    author_email=cfg["author_email"],
    license=cfg["license"].upper(),
    url=cfg["git_url"],
    python_requires=f">={cfg['min_python']}",
    install_requires=cfg["requirements"].split(),
    extras_require=extras,
    packages=find_namespace_packages(include=[cfg["lib_path"], cfg["lib_path"] + ".*"]),
    package_data={cfg["lib_path"]: ["pretrained/*", "pretrained/motions/*", "static/*"]},
    cmdclass=dict(build_py=WithDemos),
    zip_safe=False,
    entry_points={
        "console_scripts": cfg["console_scripts"].split(),
        "nbdev": [f"{cfg['lib_name']}={cfg['lib_path']}._modidx:d"],
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Natural Language :: " + cfg["language"],
        "Programming Language :: Python :: 3",
    ],
)
