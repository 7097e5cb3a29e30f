"""The documentation site: python tools/docsite.py [FOLDER]

Lessons, demos, results and the reference of the package, built by mkdocs without any network. A broken link stops it.
"""
import ast
import json
import posixpath
import re
import shutil
import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path

import house
from x2face_nb.docs import Parameter, arguments, fields, returned

CFG = house.settings()
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "results/README.md", "results/failures.md",
             "x2face_nb/pretrained/README.md")
WIDE = ".md-grid { max-width: 76rem } .md-typeset pre > code { font-size: .62rem }\n" # room for lines of 110 characters
PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg"}


def tracked() -> set[str]: # paths from the root
    "The files of the repository."
    listed = subprocess.run(["git", "ls-files"], cwd=house.ROOT, capture_output=True, text=True, check=True).stdout
    return {p for p in listed.splitlines() if (house.ROOT / p).exists()}


# Notebooks

def mathml(
    markdown:str, # with $…$ and $$…$$
) -> str:
    "Formulas as MathML, which browsers draw by themselves."
    from latex2mathml.converter import convert
    text = re.sub(r"\$\$(.+?)\$\$", lambda m: "\n" + convert(m[1].strip(), display="block") + "\n", markdown, flags=re.S)
    return re.sub(r"(?<![\\$\w`])\$([^\s$](?:[^$\n`]*[^\s$])?)\$(?![\w$])", lambda m: convert(m[1]), text)


def from_notebook(
    path:Path, # *.ipynb
    out:Path, # *.md to write; pictures go beside it
) -> str: # the text
    "A notebook as Markdown: cells that are hidden are left out, directives are not shown."
    import nbformat
    from nbconvert import MarkdownExporter
    nb = nbformat.read(path, as_version=4)
    nb.metadata["language_info"] = {"name": "python"}
    kept = []
    for c in nb.cells:
        if re.match(r"#\|\s*(hide|default_exp)", c.source): continue
        if c.cell_type == "markdown": c.source = mathml(c.source)
        else:
            if re.match(r"#\|\s*echo: false", c.source): c.metadata["transient"] = {"remove_source": True}
            c.source = re.sub(r"^#\|.*\n?", "", c.source, flags=re.M)
            for o in c.outputs:
                o.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
                if "text" in o: o["text"] = re.sub(r"\x1b\[[0-9;]*m", "", o["text"])
        kept.append(c)
    nb.cells = kept
    text, resources = MarkdownExporter().from_notebook_node(nb, {"output_files_dir": f"{out.stem}_files"})
    out.parent.mkdir(parents=True, exist_ok=True)
    for name, data in resources["outputs"].items():
        (out.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (out.parent / name).write_bytes(data)
    return text


# Reference

def parameter_table(
    params:list[Parameter], # as x2face_nb.docs reads them
) -> str:
    "Names, types, defaults and comments."
    def code(x): return f"<code>{escape(x).replace('|', '&#124;')}</code>" if x else ""
    rows = [f"| {code(p.name)} | {code(p.type)} | {code(p.default)} | {escape(p.text).replace('|', '&#124;').replace('*', '&#42;')} |" for p in params]
    return "\n".join(["| parameter | type | default | meaning |", "|---|---|---|---|", *rows, ""])


def entry(
    node:ast.AST, # a function, method or class
    lines:list[str], # of its module
    level:int, # of the heading
    owner:str="", # "Class." of a method
) -> str:
    "A heading, the docstring, and tables of parameters and of what is returned."
    is_class = isinstance(node, ast.ClassDef)
    init = next((m for m in node.body if getattr(m, "name", "") == "__init__"), None) if is_class else None
    params = fields(node, lines) if is_class and not init else arguments(init or node, lines)
    out = [f"{'#'*level} {owner}{node.name}", ast.get_docstring(node) or ""]
    if params: out.append(parameter_table(params))
    if not is_class:
        out += [f"Returns {' · '.join(filter(None, (f'`{r.type}`' if r.type else '', r.text)))}" for r in returned(node, lines)]
    else:
        methods = [m for m in node.body if isinstance(m, ast.FunctionDef) and (not m.name.startswith("_") or m.name == "__call__")]
        out += [entry(m, lines, level + 1, f"{node.name}.") for m in methods]
    return "\n\n".join(filter(None, out))


def reference(
    path:Path, # a module of the package
    lesson:str, # its notebook, from the root
) -> str:
    "The page of a module: all that its `__all__` names."
    source = path.read_text(encoding="utf-8")
    tree, lines = ast.parse(source), source.splitlines()
    kinds = ast.FunctionDef, ast.ClassDef
    shown = [n for n in tree.body if isinstance(n, kinds) and not n.name.startswith("_")]
    head = [f"# {path.stem}", ast.get_docstring(tree) or "", f"Explained in [{Path(lesson).stem}](../{lesson})."]
    return "\n\n".join([*head, *(entry(n, lines, 2) for n in shown)])


# The site

def place_links(
    text:str, # Markdown
    at:str, # where it stands, from the root
    pages:dict[str, str], # file of the repository → page
    files:set[str], # of the repository
    src:Path, # pictures are copied here
) -> str:
    "Links to pages stay inside the site, pictures come along, all else leads to the repository."
    def place(m):
        link, _, anchor = m[2].partition("#")
        if house.ELSEWHERE.match(m[2]): return m[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(at), link))
        if (src / target).is_file() and target not in files: return m[0]  # a picture of the notebook itself
        if target in pages: return m[1] + posixpath.relpath(pages[target], posixpath.dirname(pages[at])) + (f"#{anchor}" if anchor else "")
        if target in files and Path(target).suffix in PICTURES:
            (src / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(house.ROOT / target, src / target)
            return m[0]
        if not (house.ROOT / target).exists(): raise SystemExit(f"{at} links to {target}, which does not exist")
        return f"{m[1]}{CFG['git_url']}/{'tree' if (house.ROOT / target).is_dir() else 'blob'}/{CFG['branch']}/{target}"
    fenced = re.split(r"(^```.*?^```|^    .*?$)", text, flags=re.S | re.M)
    return "".join(t if i % 2 else house.LINK.sub(place, t) for i, t in enumerate(fenced))


def title(
    text:str, # Markdown
    otherwise:str, # where there is no heading
) -> str:
    "The first heading."
    found = re.search(r"^# (.+)$", text, re.M)
    return found[1] if found else otherwise


def build(
    out:Path, # folder of the site; what is in it goes
    only:tuple[str, ...]=(), # names of lessons and modules; all where empty
):
    "Write the pages and run mkdocs over them, strictly."
    from mkdocs.commands.build import build as mkdocs_build
    from mkdocs.config import load_config
    files = tracked()
    notebooks = [str(p.relative_to(house.ROOT)) for p in house.notebooks() if p.name != "index.ipynb"]
    ran = sorted(f for f in files if re.fullmatch(r"results/.*\.ipynb", f) and not f.endswith("train.ipynb"))
    modules = {m: str(p.relative_to(house.ROOT)) for p in house.notebooks() if (m := house.module_of(p))}
    def wanted(name): return not only or Path(name).stem in only
    documents = [d for d in DOCUMENTS if d in files]
    pages = {d: d for d in documents} | {n: n.removesuffix(".ipynb") + ".md" for n in (*notebooks, *ran) if wanted(n)} | {"nbs/index.ipynb": "README.md"}
    with tempfile.TemporaryDirectory() as tmp:
        src, titles = Path(tmp) / "src", {}
        for file, page in pages.items():
            if file == "nbs/index.ipynb": continue
            at = src / page
            text = from_notebook(house.ROOT / file, at) if file.endswith(".ipynb") else (house.ROOT / file).read_text(encoding="utf-8")
            text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.S)  # a card's front matter
            at.parent.mkdir(parents=True, exist_ok=True)
            titles[page] = title(text, Path(page).stem)
            at.write_text(place_links(text, file, pages, files, src), encoding="utf-8")
        api = []
        for module, lesson in modules.items():
            if not wanted(module) or lesson not in pages: continue
            page = f"api/{module}.md"
            (src / "api").mkdir(parents=True, exist_ok=True)
            (src / page).write_text(reference(house.ROOT / CFG["lib_path"] / f"{module}.py", pages[lesson]), encoding="utf-8")
            api.append({module: page})
        def group(start): return [{titles[p]: p} for f, p in pages.items() if f.startswith(start) and f.endswith(".ipynb") and p in titles]
        nav = [{"Start": "README.md"},
               {"Lessons": [n for n in group("nbs/") if next(iter(n.values())).count("/") == 1]},
               {"Demos": group("nbs/demos/")}, {"Reference": api},
               {"Results": [{titles[p]: p} for p in documents if p.startswith(("results", "x2face_nb"))] + group("results/")},
               {"Experiments": group("nbs/experiments/")},
               {"Contribute": [*(p for p in ("CONTRIBUTING.md", "ARCHITECTURE.md", "CHANGELOG.md") if p in documents), {"Repository": CFG["git_url"]}]}]
        (src / "wide.css").write_text(WIDE)
        config = Path(tmp) / "mkdocs.json"
        config.write_text(json.dumps(dict(
            site_name=CFG["title"], site_description=CFG["description"], site_url=CFG["doc_host"] + CFG["doc_baseurl"],
            docs_dir=str(src), site_dir=str(out.resolve()), strict=True, nav=[n for n in nav if next(iter(n.values()))],
            theme=dict(name="material", font=False, features=["navigation.tabs", "navigation.top", "content.code.copy", "toc.follow"],
                       palette=[dict(scheme="default", media="(prefers-color-scheme: light)"), dict(scheme="slate", media="(prefers-color-scheme: dark)")]),
            extra_css=["wide.css"],
            markdown_extensions=["tables", "attr_list", "md_in_html", {"pymdownx.highlight": dict(use_pygments=True)}, "pymdownx.superfences", {"toc": dict(permalink=True)}],
            validation=dict(links=dict(not_found="warn", anchors="warn", absolute_links="warn", unrecognized_links="warn"), nav=dict(omitted_files="warn", not_found="warn")),
            plugins=["search"])))
        mkdocs_build(load_config(str(config)))


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else house.ROOT / CFG["doc_path"])
