"What the documents say is so: names exist, figures are those in results/, weights are the packaged ones, lines fit."
import ast
import json
import re
import subprocess
import sys

import house
import pytest
import style

LIB = house.ROOT / house.settings()["lib_path"]
LESSONS = [p for p in house.notebooks() if p.parent.name == "nbs"]
WIDTH = 110
OLD = set()  # notebooks whose outputs name earlier weights, still to be run again


@pytest.mark.parametrize("path", house.notebooks(), ids=lambda p: p.stem)
def test_lines_fit(path):
    long = [l for c in style.cells(path) for l in c["source"].splitlines() if len(l) > WIDTH]
    assert not long, f"{len(long)} lines over {WIDTH} characters, such as {long[0][:60]}…"


def test_style(capsys):
    "The figures of tools/style.py over all lessons; they may only get better."
    got = style.table(LESSONS)["all"]
    with capsys.disabled(): print(f" {got} ", end="")
    assert got["used"] >= 90 and got["median"] <= 12 and got["output"] >= 44 and got["text"] >= 90


# Names

def words(tree):
    "Names and strings in a syntax tree, but for docstrings."
    docs = {id(n.body[0].value) for n in ast.walk(tree) if hasattr(n, "body") and isinstance(n.body, list) and n.body
            and isinstance(n.body[0], ast.Expr)}
    for n in ast.walk(tree):
        for k in ("id", "attr", "arg", "name", "asname", "module"):
            if isinstance(v := getattr(n, k, None), str): yield from v.split(".")
        if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in docs: yield from re.findall(r"\w+", n.value)


@pytest.fixture(scope="module")
def known():
    "Every word of the code, and what Python, the settings and the files bring."
    found = {*dir(__builtins__), *sys.stdlib_module_names}
    sources = [p.read_text() for p in (*LIB.glob("*.py"), *(house.ROOT / "tools").glob("*.py"), house.ROOT / "setup.py")]
    sources += [re.sub(r"^[%!].*", "", c["source"], flags=re.M) for p in house.notebooks() for c in style.cells(p) if c["type"] == "code"]
    for s in sources: found |= {*words(ast.parse(s))}
    tracked = subprocess.run(["git", "ls-files"], cwd=house.ROOT, capture_output=True, text=True).stdout
    for text in (tracked, *((house.ROOT / f).read_text() for f in ("settings.ini", "constraints.txt", "Makefile"))): found |= {*re.findall(r"\w+", text)}
    for p in LIB.glob("static/*.*"): found |= {*re.findall(r"\w+", p.read_text())}
    return found


LOGS = {"CHANGELOG.md", "failures.md"}  # they tell of what was
ELSEWHERE = {"torch", "np", "numpy", "pd", "plt", "cv2", "nn", "F", "conda", "pip", "git", "npm", "accelerate", "SyncBatchNorm", "LocalCluster", "libgl1",
             "lr_rate", "clap", "PixelCrop"}  # a misspelt key, as an example  # other packages


def prose():
    "(where, text) of every document, markdown cell and docstring."
    for p in (*house.ROOT.glob("*.md"), *(house.ROOT / "results").glob("*.md"), *LIB.glob("pretrained/*.md")):
        if p.name not in LOGS: yield p.name, p.read_text()
    for p in house.notebooks():
        for c in style.cells(p):
            if c["type"] == "markdown": yield p.name, c["source"]
    for p in LIB.glob("*.py"):
        for n in ast.walk(ast.parse(p.read_text())):
            if isinstance(n, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (doc := ast.get_docstring(n)): yield p.name, doc


def test_names_in_prose_exist(known):
    "A name in backticks, `like_this` or `Like.this(…)`, is one of the code's; so a function that went leaves the text, too."
    gone = set()
    for where, text in prose():
        text = re.sub(r"```.*?```", "", text, flags=re.S)
        for name in re.findall(r"`([A-Za-z_][\w.]*)(?:\([^`]*\))?`", text):
            parts = name.strip(".").split(".")
            if len(parts[-1]) > 2 and parts[0] not in ELSEWHERE and parts[-1] not in known: gone.add((where, name))
    assert not gone, "no code has " + ", ".join(f"{name} ({where})" for where, name in sorted(gone))


def test_python_of_the_readme_runs(tmp_path, monkeypatch):
    "As it stands there, on a portrait and half a second of a sample video, with the progress bars that a user sees."
    from x2face_nb import VideoReader, VideoWriter, read_image, write_image
    from x2face_nb.samples import sample_driving, sample_source
    monkeypatch.chdir(tmp_path)
    write_image("me.jpg", read_image(sample_source()))
    with VideoReader(sample_driving("carphone"), stop=.5) as r, VideoWriter("talk.mp4", r.info.fps) as w:
        for f in r: w.write(f)
    write_image("you.jpg", f)
    (code,) = re.findall(r"```python\n(.*?)```", (house.ROOT / "README.md").read_text(), re.S)
    exec(code, made := {})
    with VideoReader("out.mp4") as r: assert len(list(r)) > 10
    assert made["frame"].shape == (256, 256, 3)


# Figures and weights

@pytest.mark.parametrize("notebook", house.PAGES.values())
def test_tables_show_what_results_hold(notebook, monkeypatch):
    "Every table of README and results/README.md is what its cell makes of results/ today."
    from execnb.nbio import read_nb
    from execnb.shell import CaptureShell
    monkeypatch.chdir(house.ROOT)
    shell, nb = CaptureShell(mpl_format=None), read_nb(house.ROOT / notebook)
    def made(outputs): return ["".join(o["data"].get("text/markdown", [])) for o in outputs if o.get("data")]
    for c in nb.cells:
        if c.cell_type != "code": continue
        before, now = made(c.outputs), made(shell.run(c.source) or [])
        assert shell.exc is None, shell.exc
        assert now == before, f"run {notebook}, then make readme"


def test_weights_are_the_packaged_ones():
    "Where an output or a record names weights by their hash, they are those in the package."
    from x2face_nb.core import file_hash
    from x2face_nb.x2face import pretrained_path
    packaged, other = file_hash(pretrained_path()), []
    for p in house.notebooks():
        if p.stem in OLD: continue
        for c in json.loads(p.read_text(encoding="utf-8"))["cells"]:
            for line in "".join(t for o in c.get("outputs", []) for t in o.get("text", [])).splitlines():
                if re.search(r"weights|\.safetensors", line): other += [(p.name, h) for h in re.findall(r"\b[0-9a-f]{16}\b", line) if h != packaged]
    for split in ("val", "test"):
        said = json.loads((house.ROOT / "results/release" / split / "weights.json").read_text())["weights"]
        if said != packaged: other.append((split, said))
    assert not other, f"made with other weights than the packaged {packaged}: {other}; run them again"
