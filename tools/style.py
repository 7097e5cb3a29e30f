"""How the notebooks read, in figures: python tools/style.py [NOTEBOOK …]

used     exported definitions that one of the next two cells uses, an exported one not counted, in percent
median   lines of an exported cell, the median; longest: the most
output   code cells with an output, in percent; a template in nbs/experiments is kept without outputs, and its executed copy
         in results/ is counted
line     characters of the longest line of any cell
text     arguments of exported functions and classes with a comment, in percent
"""
import ast
import json
import re
import sys
from pathlib import Path
from statistics import median

import house
from x2face_nb.docs import arguments, fields

EXPORT = {"export", "exports"}
DIRECTIVE = re.compile(r"^#\|\s*(\w+).*\n?", re.M)


def cells(
    path:Path, # a notebook
) -> list[dict]: # type, source without directives, directives, outputs
    "The cells, each with the nbdev directives at its top as a set."
    found = []
    for c in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(c["source"])
        found.append(dict(type=c["cell_type"], source=DIRECTIVE.sub("", source), directives=set(DIRECTIVE.findall(source)),
                          outputs=c.get("outputs", [])))
    return found


def parsed(
    cell:dict, # as `cells` gives
) -> list[ast.stmt]:
    "The statements of a code cell; none where it holds magics."
    try: return ast.parse(cell["source"]).body
    except SyntaxError: return []


def executed(
    path:Path, # a notebook
) -> Path: # the copy of an experiment that papermill executed, in results/; the notebook itself if there is none
    if path.parent.name != "experiments": return path
    return next(iter(sorted((house.ROOT/"results").rglob(path.name))), path)


def definitions(
    cell:dict, # as `cells` gives
) -> list[ast.AST]:
    "The public functions and classes that a cell defines."
    kinds = ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef
    return [n for n in parsed(cell) if isinstance(n, kinds) and not n.name.startswith("_")]


def figures(
    path:Path, # a notebook
) -> dict: # lists, so that the figures of several notebooks can be put together
    "What a notebook brings to the figures."
    all_cells = cells(path)
    written = [c for c in all_cells if c["source"].strip()]
    exported = [c for c in written if c["directives"] & EXPORT]
    used, text = [], []
    for i, c in enumerate(written):
        if c not in exported: continue
        follow = "\n".join(n["source"] for n in written[i + 1:i + 3] if n["type"] == "code" and n not in exported)
        for d in definitions(c):
            used.append(bool(re.search(rf"\b{d.name}\b", follow)))
            lines = c["source"].splitlines()
            init = next((m for m in d.body if getattr(m, "name", "") == "__init__"), None)
            own = fields(d, lines) if isinstance(d, ast.ClassDef) and not init else arguments(init or d, lines)
            text += [bool(p.text) for p in own]
    imports = ast.Import, ast.ImportFrom
    shown = [bool(c["outputs"]) for c in cells(executed(path)) if c["type"] == "code"]
    length = [len(c["source"].strip().splitlines()) for c in exported if not all(isinstance(n, imports) for n in parsed(c))]
    line = max((len(l) for c in all_cells for l in c["source"].splitlines()), default=0)
    return dict(used=used, length=length, shown=shown, line=[line], text=text)


def row(
    f:dict, # as `figures` gives
) -> dict:
    "The figures of the module's docstring; None where a notebook has nothing to count."
    def share(x): return round(100*sum(x)/len(x)) if x else None
    return dict(used=share(f["used"]), median=int(median(f["length"])) if f["length"] else None, longest=max(f["length"], default=None),
                output=share(f["shown"]), line=max(f["line"]), text=share(f["text"]))


def table(
    paths:list[Path], # notebooks
) -> dict: # notebook → row; "all" last
    "The figures of each notebook and of all."
    each = {str(p.relative_to(house.ROOT/"nbs")): figures(p) for p in paths}
    together = {k: [x for f in each.values() for x in f[k]] for k in next(iter(each.values()))}
    return {**{n: row(f) for n, f in each.items()}, "all": row(together)}


if __name__ == "__main__":
    rows = table([Path(p).resolve() for p in sys.argv[1:]] or house.notebooks())
    names = list(next(iter(rows.values())))
    print(f"{'':32}" + "".join(f"{n:>9}" for n in names))
    for name, r in rows.items(): print(f"{name:32}" + "".join(f"{'' if r[n] is None else r[n]:>9}" for n in names))
