"The files made from other files agree with them, and the package holds what it says."
import ast
import re
import shutil
import subprocess
import sys
import zipfile
from functools import cache
from importlib import import_module
from importlib.metadata import distribution
from operator import attrgetter

import graph
import house
import pytest
from packaging.utils import canonicalize_name

CFG = house.settings()
LIB = house.ROOT / CFG["lib_path"]


def test_package_is_what_the_notebooks_export(): assert house.export_drift() == [], "run make export"


def test_pyflakes():
    r = subprocess.run([sys.executable, "-m", "ruff", "check", "--no-cache", LIB.name, "tests", "tools", "setup.py"],
                       cwd=house.ROOT, capture_output=True, text=True)
    assert r.returncode == 0, r.stdout + r.stderr


@pytest.mark.parametrize("page", house.PAGES)
def test_page_is_its_notebook(page): assert (house.ROOT / page).read_text() == house.readme(page), "run make readme"


def test_security_shows_what_was_tried(): assert (house.ROOT / "SECURITY.md").read_text() == house.security(), "run make readme"


def test_security_holds(): # every attempt of tests/holes.py has a row, and none is open
    import holes
    text = (house.ROOT / "results/holes.csv").read_text()
    assert [l.split(",")[0] for l in text.splitlines()[1:]] == [*holes.HOLES] and "OPEN" not in text, "run make holes"


READERS = {"Image.open", "av.open", "cv2.imread", "torch.load", "pickle.load", "pickle.loads", "eval", "exec", "yaml.load"}


@pytest.mark.parametrize("path", sorted(LIB.glob("*.py")), ids=lambda p: p.stem)
def test_readers_name_what_they_take(path):
    "Pillow starts the parser of any format, and FFmpeg follows references, unless they are told what to take."
    for n in ast.walk(ast.parse(path.read_text())):
        if not isinstance(n, ast.Call) or (name := ast.unparse(n.func)) not in READERS: continue
        said = {k.arg for k in n.keywords}
        writes = any(ast.unparse(a) == "'w'" for a in n.args[1:])
        assert writes or said & {"formats", "container_options", "weights_only"}, f"{path.name}:{n.lineno}: {name} takes anything"


def test_links_move_with_a_page():
    text = "[a](00_core.ipynb) [b](../LICENSE) [c](https://x.org/y) <img src=\"../results/x.png\">"
    assert house.moved(text, "nbs", "") == "[a](nbs/00_core.ipynb) [b](LICENSE) [c](https://x.org/y) <img src=\"results/x.png\">"
    assert house.moved("[a](../results/x.csv)", "nbs", "results") == "[a](x.csv)"


@pytest.mark.parametrize("path", subprocess.run(["git", "ls-files", "*.md"], cwd=house.ROOT, capture_output=True, text=True).stdout.split())
def test_links_lead_somewhere(path):
    at = house.ROOT / path
    assert [l for l in house.links(at.read_text()) if not (at.parent / l.split("#")[0]).exists()] == []


def test_index_names_every_module():
    lessons = {str(p.relative_to(house.ROOT)) for p in house.notebooks() if p.parent.name == "nbs" and p.name != "index.ipynb"}
    assert lessons <= set(house.links(house.readme())), "add the notebook to the table in nbs/index.ipynb"


@pytest.mark.parametrize("req", house.requirements(), ids=lambda r: r.name)
def test_requirement_is_pinned(req):
    version = house.pinned().get(canonicalize_name(req.name))
    assert version and req.specifier.contains(version), f"{req} is pinned at {version}: run make pins"


def test_environment_has_the_pins(): assert (house.ROOT / "environment.yml").read_text() == house.environment(), "run make pins"


def test_pins_hold_no_place(): assert not any(s in (house.ROOT / "constraints.txt").read_text() for s in ("@", "://", "file:", "+"))


def third_party(nodes):
    "Top-level names from elsewhere that these statements import."
    for node in nodes:
        if isinstance(node, ast.Import): names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level: names = [node.module]
        else: continue
        yield from {n.split(".")[0] for n in names} - set(sys.stdlib_module_names) - {LIB.name}


@cache
def provided(*keys):
    "What the distributions that settings.ini declares install. By their files: dlib-bin does not name its own module."
    return {f.parts[0].split(".")[0] for k in keys for r in CFG[k] for f in distribution(r.name).files}


EXTRAS = [f"{e}_requirements" for e in ("eval", "live", "camera", "c2pa", "study", "docs")]
NEEDS_LIVE = {"widgets", "explorer", "server", "control_panel"}  # they are nothing without Jupyter


@pytest.mark.parametrize("path", sorted(LIB.glob("*.py")), ids=lambda p: p.stem)
def test_imports_are_declared(path):
    "A module loads with the requirements alone; only inside a function may it import what an extra brings."
    tree = ast.parse(path.read_text())
    assert set(third_party(tree.body)) <= provided("requirements", *["live_requirements"] * (path.stem in NEEDS_LIVE))
    assert set(third_party(ast.walk(tree))) <= provided("requirements", *EXTRAS)


def test_wheel(tmp_path):
    "Holds every module, the weights, the JavaScript, the console script and the requirements."
    data = [p for d in ("pretrained", "static") for p in (LIB / d).glob("*") if p.is_file()]
    code = f"from setuptools import build_meta; build_meta.build_wheel({str(tmp_path)!r})"
    src = tmp_path / "src"
    shutil.copytree(LIB, src / LIB.name)
    shutil.copytree(house.ROOT / "nbs/demos", src / "nbs/demos")
    for f in ("settings.ini", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"): shutil.copy(house.ROOT / f, src)
    subprocess.run([sys.executable, "-c", code], cwd=src, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as z:
        names = set(z.namelist())
        info = next(n for n in names if n.endswith("/METADATA")).rsplit("/", 1)[0]
        metadata, scripts = z.read(f"{info}/METADATA").decode(), z.read(f"{info}/entry_points.txt").decode()
    assert {str(p.relative_to(house.ROOT)) for p in [*LIB.glob("*.py"), *data]} <= names
    assert {f"{LIB.name}/demos/{p.name}" for p in (house.ROOT / "nbs/demos").glob("*.ipynb")} <= names
    assert "x2face = x2face_nb.__main__:main" in scripts
    assert house.links(metadata) == [] and f"{CFG['git_url']}/raw/main/nbs/images/animation.webp" in metadata
    for extra in ("eval", "live", "camera", "c2pa", "study", "docs", "dev"): assert f"Provides-Extra: {extra}" in metadata
    all_extras = {str(r) for k in (*EXTRAS, "dev_requirements") for r in CFG[k]}
    assert metadata.count("Requires-Dist: ") == len(CFG["requirements"]) + sum(len(CFG[k]) for k in EXTRAS) + len(all_extras)  # dev includes all


def test_last_line_counts(tmp_path):
    "Errors count as failed, the exit status stays, and nothing printed on the way out follows the counts."
    shutil.copy(house.ROOT / "tests/conftest.py", tmp_path)
    (tmp_path / "test_it.py").write_text(
        "import atexit, pytest\natexit.register(print, 'bye')\n"
        "@pytest.fixture\ndef broken(): raise RuntimeError\n"
        "def test_error(broken): pass\ndef test_fail(): assert 0\ndef test_skip(): pytest.skip()\ndef test_pass(): pass\n")
    r = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", tmp_path], cwd=tmp_path, capture_output=True, text=True)
    *_, bye, wall, last = r.stdout.splitlines()
    assert bye == "bye" and wall.startswith("wall time ") and last == "1 passed, 2 failed, 1 skipped" and r.returncode == 1


def run(code): # in a fresh Python
    r = subprocess.run([sys.executable, "-c", code], cwd=house.ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert r.returncode == 0, r.stderr
    return r.stdout


def test_package_imports_nothing_heavy():
    "Users who ask for a version wait for nothing; each exported name brings its module when it is asked for."
    heavy = run("import sys, x2face_nb; print(*sorted({m.split('.')[0] for m in sys.modules} - set(sys.stdlib_module_names)))")
    before = run("import sys; print(*sorted({m.split('.')[0] for m in sys.modules} - set(sys.stdlib_module_names)))")
    assert set(heavy.split()) - set(before.split()) == {LIB.name}


def test_weights_load_without_the_compiler():
    "`torch._dynamo`, which initialising on the meta device brings, takes longer than the weights themselves."
    assert run("import sys; from x2face_nb.x2face import load_model; load_model(); print('torch._dynamo' in sys.modules)") == "False\n"


def test_help_shows_every_parameter():
    "Of all that the package exports by name; `animate` is the function, also after the module of that name was imported."
    run("""
import inspect, x2face_nb.animate
from x2face_nb import *
assert callable(animate) and x2face_nb.animate is animate
for name in set(x2face_nb.__all__) - {"X2FaceError", "X2Face"}: # a plain exception; a module made from a configuration
    obj = getattr(x2face_nb, name)
    for arg in inspect.signature(obj).parameters.values():
        assert f"\\n{arg.name} :" in inspect.getdoc(obj), f"{name}: {arg.name}"
""")


def test_lessons_build_on_those_before():
    "A module imports only from notebooks with a lower number, and nothing that shows a result needs the training."
    number, g = {m: p.name[:2] for m, p in graph.lessons().items()}, graph.graph()
    assert len(number) > 10 and [(m, u) for m, u in g.edges if number[u] >= number[m]] == []
    assert [m for m in g if "50" <= number[m] < "60" and "training" in g[m]] == []


def test_architecture_shows_the_imports():
    "Picture and table are those of today's imports, and what the walks pass exists."
    g = graph.graph()
    assert graph.PAGE.read_text() == graph.page(g) and graph.PICTURE.read_text() == graph.svg(g), "run python tools/graph.py"
    steps = re.findall(r"\| `(\w+)\.([\w.]+)` \|$", graph.PAGE.read_text(), re.M)
    assert len(steps) > 15
    for module, name in steps: attrgetter(name)(import_module(f"x2face_nb.{module}"))
