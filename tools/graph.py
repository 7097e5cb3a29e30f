"""The graph of the modules, from their imports: python tools/graph.py

Writes nbs/images/modules.svg and the table of ARCHITECTURE.md. Raises an error for a circle.
"""
import ast
from html import escape
from pathlib import Path

import house
import networkx as nx

PAGE, PICTURE = house.ROOT / "ARCHITECTURE.md", house.ROOT / "nbs/images/modules.svg"
BEGIN, END = "<!-- Made by `make readme`; do not edit. -->", "<!-- end -->"
COLOURS = {"0": "#e0e7ff", "1": "#dcfce7", "2": "#fef9c3", "3": "#fee2e2", "4": "#f3e8ff", "5": "#cffafe", "6": "#e5e7eb"}
WIDTH, HEIGHT, GAP, ROW = 88, 24, 12, 62 # of a box; between boxes; between rows


def lessons() -> dict[str, Path]: # module → notebook, in reading order
    "The modules of the package."
    return {m: p for p in house.notebooks() if (m := house.module_of(p))}


def imported(
    source:str, # of a module
) -> set[str]:
    "The modules of this package that it imports, inside functions as well."
    found = set()
    for n in ast.walk(ast.parse(source)):
        if not isinstance(n, ast.ImportFrom): continue
        name = n.module or ""
        if name.startswith("x2face_nb."): found.add(name.split(".")[1])
        elif n.level and name: found.add(name.split(".")[0])
    return found


def graph() -> nx.DiGraph: # module → what it imports
    "The graph of the imports. Raises `ValueError` if there is a circle."
    known, lib = lessons(), house.ROOT / house.settings()["lib_path"]
    g = nx.DiGraph()
    g.add_nodes_from(known)
    for m in known: g.add_edges_from((m, u) for u in imported((lib / f"{m}.py").read_text(encoding="utf-8")) if u in known)
    if not nx.is_directed_acyclic_graph(g): raise ValueError(f"The imports run in a circle: {nx.find_cycle(g)}")
    return g


def table(
    g:nx.DiGraph, # as `graph` gives
) -> str: # Markdown
    "Each module with all that it imports."
    rows = [f"| [{p.stem}](nbs/{p.name}) | {', '.join(u for u in lessons() if g.has_edge(m, u)) or '—'} |" for m, p in lessons().items()]
    return "\n".join(["| notebook | imports |", "|---|---|", *rows])


def placed(
    g:nx.DiGraph, # reduced
) -> list[list[str]]: # rows, from the modules that import most to core
    "A row is one step above the highest module that it imports; within a row, modules stand above what they import."
    depth = {}
    for m in reversed(list(nx.topological_sort(g))): depth[m] = 1 + max((depth[u] for u in g[m]), default=-1)
    rows = [[m for m in g if depth[m] == d] for d in range(max(depth.values()) + 1)]
    for _ in range(8):
        for order, near in ((rows, g.successors), (rows[::-1], g.predecessors)):
            x = {m: (i + .5) / len(r) for r in rows for i, m in enumerate(r)}
            for r in order:
                r.sort(key=lambda m: (lambda at: sum(at) / len(at) if at else x[m])([x[u] for u in near(m)]))
                x |= {m: (i + .5) / len(r) for i, m in enumerate(r)}
    return rows[::-1]


def svg(
    g:nx.DiGraph, # as `graph` gives
) -> str:
    "The modules as boxes. An arrow that follows from others is left out."
    short, number = nx.transitive_reduction(g), {m: p.stem for m, p in lessons().items()}
    short = short.subgraph(g).copy()
    ordered = nx.DiGraph()
    ordered.add_nodes_from(lessons())
    ordered.add_edges_from(sorted(short.edges))
    rows = placed(ordered)
    wide = max(map(len, rows)) * (WIDTH + GAP) + GAP
    tall = len(rows) * ROW - ROW + HEIGHT + 2 * GAP
    at = {m: (wide * (i + .5) / len(r), GAP + j * ROW) for j, r in enumerate(rows) for i, m in enumerate(r)}
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {tall}" font-family="sans-serif" font-size="11">',
           '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
           '<path d="M0 0L8 4L0 8z" fill="#64748b"/></marker></defs>', f'<rect width="{wide}" height="{tall}" fill="#fff"/>']
    for m, u in ordered.edges:
        (x0, y0), (x1, y1) = at[m], at[u]
        y0, bend = y0 + HEIGHT, min(.5 * (y1 - y0), 40)
        out.append(f'<path d="M{x0:.0f} {y0}C{x0:.0f} {y0 + bend:.0f} {x1:.0f} {y1 - bend:.0f} {x1:.0f} {y1}" fill="none" stroke="#94a3b8" marker-end="url(#a)"/>')
    for m, (x, y) in at.items():
        out.append(f'<rect x="{x - WIDTH / 2:.0f}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="5" fill="{COLOURS[number[m][0]]}" stroke="#64748b"/>'
                   f'<text x="{x:.0f}" y="{y + 16}" text-anchor="middle">{escape(number[m])}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"


def page(
    g:nx.DiGraph, # as `graph` gives
) -> str:
    "ARCHITECTURE.md with the table of today."
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table(g)}\n\n{END}{rest.partition(END)[2]}"


def main():
    g = graph()
    PICTURE.write_text(svg(g), encoding="utf-8")
    PAGE.write_text(page(g), encoding="utf-8")


if __name__ == "__main__": main()
