"""The files that are made from other files, and whether they still agree.

python tools/house.py pins      constraints.txt and environment.yml, from settings.ini and what is installed
python tools/house.py readme    README.md and results/README.md, from nbs/index.ipynb and nbs/experiments/summary.ipynb;
                                ARCHITECTURE.md's table and picture, from the imports; SECURITY.md's tables, from results/
python tools/house.py check     exit 1 and one line for each notebook that is not clean or module that is not exported
"""
import json
import os
import posixpath
import re
import shutil
import subprocess
import sys
import tempfile
from configparser import ConfigParser
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PYTHON = "3.11"  # of environment.yml
GENERATED = "# Made by `make pins`; do not edit."


def settings(root:Path=ROOT) -> dict:
    "The settings, each `X_requirements` as a list of `Requirement`."
    ini = ConfigParser(delimiters=["="])
    ini.read(root / "settings.ini", encoding="utf-8")
    return {k: [Requirement(r) for r in v.split()] if k.endswith("requirements") else v for k, v in ini["DEFAULT"].items()}


def requirements() -> list[Requirement]:
    "What settings.ini asks for: to run, to evaluate, to develop."
    return [r for k, rs in settings().items() if k.endswith("requirements") for r in rs]


# Pins

def installed(reqs:list[Requirement]) -> dict:
    "Every distribution that `reqs` bring in here, by canonical name."
    found, todo = {}, [(r, "") for r in reqs]
    while todo:
        req, extra = todo.pop()
        name = canonicalize_name(req.name)
        if req.marker and not req.marker.evaluate({"extra": extra}): continue
        dist = distribution(name)
        seen = found.setdefault(name, (dist, set()))[1]
        for e in {"", *req.extras} - seen:
            seen.add(e)
            todo += [(Requirement(d), e) for d in dist.requires or []]
    return {n: d for n, (d, _) in sorted(found.items())}


def constraints() -> str:
    "constraints.txt for what is installed; a version that Python 3.11 cannot have is pinned for newer ones only."
    lines = [GENERATED]
    for dist in installed(requirements()).values():
        pin = f"{dist.metadata['Name']}=={Version(dist.version).public}"
        newer = re.search(r">=\s*(3\.1[2-9])", dist.metadata["Requires-Python"] or "")
        lines.append(pin + (f' ; python_version >= "{newer[1]}"' if newer else ""))
    return "\n".join(lines) + "\n"


def pinned() -> dict[str, str]:
    "Canonical name → version, as constraints.txt has them."
    reqs = [Requirement(l) for l in (ROOT / "constraints.txt").read_text().splitlines() if not l.startswith("#")]
    return {canonicalize_name(r.name): next(iter(r.specifier)).version for r in reqs}


def environment() -> str:
    "environment.yml with the pins of constraints.txt."
    pins = "\n".join(f"      - {n}=={v}" for n, v in pinned().items())
    return (f"{GENERATED}\nname: x2face_nb\nchannels:\n  - conda-forge\ndependencies:\n"
            f"  - python={PYTHON}\n  - pip\n  - pip:\n{pins}\n      - -e .\n")


# README

LINK = re.compile(r'(\]\(|(?:src|href)=")([^)"\s]+)')
ELSEWHERE = re.compile(r"[a-z]+:|#|/")


PAGES = {"README.md": "nbs/index.ipynb", "results/README.md": "nbs/experiments/summary.ipynb"}  # each made from a notebook


def moved(
    markdown:str, # a text with links relative to its folder
    old:str, new:str, # the folder, and the one it moves to, from the root
) -> str:
    "The same text with links that hold in the new folder."
    def move(m): return m[0] if ELSEWHERE.match(m[2]) else m[1] + posixpath.relpath(posixpath.join(old, m[2]), new or ".")
    return LINK.sub(move, markdown)


def links(
    markdown:str, # a text
) -> list[str]:
    "The paths it links to, without addresses and anchors."
    return [path for _, path in LINK.findall(markdown) if not ELSEWHERE.match(path)]


def readme(
    page:str="README.md", # one of `PAGES`
) -> str:
    "The page as nbconvert makes it from its notebook."
    import nbformat
    from nbconvert import MarkdownExporter
    nb = nbformat.read(ROOT / PAGES[page], as_version=4)
    nb.cells = [c for c in nb.cells if not c.source.startswith("#| hide")]
    for c in nb.cells:
        if c.source.startswith("#| echo: false"):  # only what the cell made is shown
            made = "\n\n".join("".join(o.data["text/markdown"]) for o in c.outputs if "text/markdown" in o.get("data", {}))
            c.cell_type, c.source = "markdown", made
        if c.cell_type == "markdown": c.source = moved(c.source, posixpath.dirname(PAGES[page]), posixpath.dirname(page))
    text, resources = MarkdownExporter().from_notebook_node(nb)
    if resources["outputs"]: sys.exit(f"{PAGES[page]} shows a picture as an output; link to a file in a markdown cell instead.")
    return f"<!-- Made by `make readme` from {PAGES[page]}; do not edit. -->\n\n" + text.strip() + "\n"


# SECURITY

BEGIN, END = "<!-- Made by `make readme`; do not edit. -->", "<!-- end -->"


def table(
    path:Path, # a CSV file
    **columns:str, # its columns → heads of the table
) -> str:
    "A table in Markdown."
    import csv
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    lines = [[r[k].replace("|", r"\|") for k in columns] for r in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [[*columns.values()], ["---"] * len(columns), *lines])


def security() -> str:
    "SECURITY.md with the tables in results/."
    page, results = (ROOT / "SECURITY.md").read_text(encoding="utf-8"), ROOT / "results"
    parts = [
        "### Damaged files (`make fuzz`)", table(results / "fuzz.csv", cases="cases", read="read", refused="refused in a sentence", findings="findings",
            longest_s="longest case (s)", peak_MB="most memory (MB)"),
        "### Faults (`make faults`)", table(results / "faults.csv", command="command", fault="fault", cases="cases", findings="findings", ends="how they ended"),
        "### Ctrl-C at random points (`make interrupts`)", table(results / "interrupts.csv", end="how the command ended", tries="tries",
            median="seconds from Ctrl-C, median", slowest="slowest"),
        "### Attacks and accidents of the first version (`make holes`)", "Memory is what an attempt added to the process.",
        table(results / "holes.csv", tried="tried", before="in the first version", after="today", seconds="s", peak_MB="MB")]
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n" + "\n\n".join(parts) + f"\n\n{END}{rest.partition(END)[2]}"


# Notebooks

def notebooks() -> list[Path]:
    "Every notebook of the project."
    return sorted(p for p in (ROOT / "nbs").rglob("*.ipynb") if not re.search(r"/[._]", str(p.relative_to(ROOT))))


def module_of(
    path:Path, # a notebook
) -> str|None: # the module it exports, if any
    "What stands behind `default_exp`."
    found = re.search(r"#\|\s*default_exp (\w+)", path.read_text(encoding="utf-8"))
    return found[1] if found else None


def is_clean(
    path:Path, # a notebook
) -> bool:
    "Whether `nbdev_clean` would leave it as it is."
    from execnb.nbio import nb2str
    from nbdev.clean import clean_nb
    text, cfg = path.read_text(encoding="utf-8"), settings()
    nb = json.loads(text)
    clean_nb(nb, allowed_metadata_keys=cfg["allowed_metadata_keys"].split(),
             allowed_cell_metadata_keys=cfg["allowed_cell_metadata_keys"].split())
    return nb2str(nb) == text


def export_drift() -> list[str]:
    "The modules that differ from what the notebooks export, exported afresh in a temporary copy. `__init__` is written by hand."
    lib = settings()["lib_path"]
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        for f in ("settings.ini", "pyproject.toml"): shutil.copy(ROOT / f, tmp)
        shutil.copytree(ROOT / "nbs", tmp / "nbs", ignore=shutil.ignore_patterns(".*"))
        env = {k: v for k, v in os.environ.items() if k != "IN_TEST"}  # set by nbdev's test_nb; turns exports off
        subprocess.run([sys.executable, "-c", "from nbdev.doclinks import nbdev_export; nbdev_export()"],
                       cwd=tmp, env=env, check=True, stdin=subprocess.DEVNULL)
        def read(root): return {str(p.relative_to(root)): p.read_bytes() for p in (root / lib).rglob("*.py") if p.name not in ("__init__.py", "__main__.py")}
        old, new = read(ROOT), read(tmp)
        return sorted(p for p in old.keys() | new.keys() if old.get(p) != new.get(p))


def check() -> int:
    "Print what a commit should not hold; returns how many such things there are."
    bad = [f"{p.relative_to(ROOT)} is not clean: run nbdev_clean --fname {p.relative_to(ROOT)}" for p in notebooks() if not is_clean(p)]
    bad += [f"{p} is not what the notebooks export: run make export" for p in export_drift()]
    print("\n".join(bad), end="\n" if bad else "")
    return len(bad)


def main(verb:str) -> int:
    "One of pins, readme, check."
    if verb == "check": return min(check(), 1)
    if verb == "readme":
        import graph
        for page in PAGES: (ROOT / page).write_text(readme(page), encoding="utf-8")
        (ROOT / "SECURITY.md").write_text(security(), encoding="utf-8")
        graph.main()
    elif verb == "pins":
        (ROOT / "constraints.txt").write_text(constraints())
        (ROOT / "environment.yml").write_text(environment())
    else: sys.exit(__doc__)
    return 0


if __name__ == "__main__": sys.exit(main(sys.argv[1] if len(sys.argv) == 2 else ""))
