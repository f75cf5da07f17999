"""The site: every Markdown page of the repository where it lies, so that its links hold here and on a code host alike.

`make docs` builds it into build/docs, without a network; every warning is an error.
"""

import re
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from textwrap import indent

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.util import logging

import meseta

ROOT = Path(__file__).resolve().parents[1]

project = "meseta"
copyright = "the authors of meseta, Apache-2.0"
version = release = meseta.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md", "benchmarks/**.md"]
exclude_patterns = [".*", "build", "dist", "runs", "results", "src", "tests", "**/.*"]
html_theme = "furo"
html_title = f"meseta {release}"
html_static_path = ["site"]
html_css_files = ["site.css"]
html_extra_path = ["site/index.html"]
html_copy_source = html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
highlight_language = "text"
smartquotes_action = "D"  # dashes alone: x' is a point
pygments_dark_style = "github-dark"

myst_heading_anchors = 4
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!meseta\b).*"),  # torch, numpy: their pages are not here, and none is fetched
    ("py:.*", r"meseta\.(papers|reproductions|report|evaluation)\.\w+\.\w+"),  # parts that nobody asks for by name
    ("py:.*", r"meseta\.configuration\.Config"),  # a type variable
]

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "special-members": "__call__"}
python_use_unqualified_type_names = True
maximum_signature_line_length = 90
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = ["Cost", ("Parts", "params_style")]


def public_names() -> dict[str, list[str]]:
    """Return what meseta promises: the names in `__all__` of its modules, those imported on first use loaded."""
    found = {}
    for name in ["meseta", *(module.name for module in walk_packages(meseta.__path__, "meseta."))]:
        module = import_module(name) if not name.endswith("__main__") else None
        if names := list(getattr(module, "__all__", [])):
            vars(module).update({each: getattr(module, each) for each in names})
            found[name] = names
    return found


PUBLIC = public_names()


def as_markup(text: str, home: str) -> str:
    """Return prose as reStructuredText: backticks quote code, and nothing else is markup.

    A quoted public name becomes a link, to the one of its own package where several have it.
    """

    def quoted(match: re.Match[str]) -> str:
        name = match[1].split(".")[-1] if re.fullmatch(r"(meseta\.)?[\w.]+", match[1]) else ""
        homes = sorted((each for each, names in PUBLIC.items() if name in names), key=lambda each: each != home)
        return f":py:obj:`{match[1]} <{homes[0]}.{name}>`" if homes else f"``{match[1]}``"

    parts = re.split(r"(`+[^`]+`+)", text)
    prose = [re.sub(r"[\\*|]|(?<=\w)_(?!\w)", lambda m: f"\\{m[0]}", part) for part in parts[::2]]
    code = [re.sub(r"^`+([^`]+?)`+$", quoted, part, flags=re.DOTALL) for part in parts[1::2]]
    return "".join(one + other for one, other in zip(prose, [*code, ""], strict=True))


def laid_out(text: str, home: str) -> str:
    """Return a docstring with paragraphs apart: `Cost: ...` begins one, formulas and columns stay as they are.

    A formula is a paragraph that ends as no sentence does.
    """
    blocks = re.split(r"\n{2,}|\n(?=[A-Z]\w*: \S)", text.strip("\n"))
    for at, block in enumerate(blocks):
        first, *rest = block.split("\n")
        columns, sentence = re.search(r"\S {3,}\S", block), block.rstrip().endswith((".", ":"))
        if columns or not (sentence or first.startswith((" ", "- "))):
            blocks[at] = "::\n\n" + indent(block, "    ")
            continue
        if not first.startswith((" ", "- ")) and not first.endswith(":"):
            block = "\n".join([first, *(line.strip() for line in rest)])
        blocks[at] = as_markup(block, home)
    return "\n\n".join(blocks)


def mark_up(_app, _what, name, _object, _options, lines) -> None:
    """Turn the lines of a docstring into markup before napoleon reads its sections."""
    home = next((each for each in sorted(PUBLIC, key=len, reverse=True) if name.startswith(f"{each}.")), "")
    lines[:] = laid_out("\n".join(lines), home).split("\n")


def name_folders(app, doctree) -> None:
    """Show a link to a folder, which a site has no page for, by its path."""
    for link in list(doctree.findall(pending_xref)):
        folder = (ROOT / app.env.docname).parent / link.get("reftarget", "")
        if link.get("reftype") == "myst" and folder.is_dir():
            path = str(folder.resolve().relative_to(ROOT))
            shown = link.astext()
            text = [nodes.Text(f"{shown} ("), nodes.literal(path, path), nodes.Text(")")]
            link.replace_self([nodes.literal(path, path)] if shown.rstrip("/") == path else text)


def link_names(app, doctree) -> None:
    """Link the names of methods in pages to the reference, where they are quoted and there is one such name."""
    homes = [(name, module) for module, names in PUBLIC.items() for name in names]
    once = {name: module for name, module in homes if sum(name == other for other, _ in homes) == 1}
    for quoted in list(doctree.findall(nodes.literal)):
        name = re.match(r"[A-Z]\w+(?=\(|$)", quoted.astext())
        if name and name[0] in once and isinstance(quoted.parent, nodes.paragraph | nodes.entry | nodes.strong):
            link = pending_xref(refdomain="py", reftype="obj", reftarget=f"{once[name[0]]}.{name[0]}", refexplicit=True)
            link["refdoc"] = app.env.docname
            quoted.replace_self(link)
            link += quoted


def check_reference(_app, env) -> None:
    """Warn of public names that the reference leaves out."""
    documented = env.domaindata["py"]["objects"]
    for module, names in PUBLIC.items():
        for name in names:
            if f"{module}.{name}" not in documented:
                logging.getLogger(__name__).warning("%s.%s is public and not in docs/reference", module, name)


def setup(app) -> None:
    """Connect the above."""
    app.connect("autodoc-process-docstring", mark_up, priority=100)
    app.connect("doctree-read", name_folders)
    app.connect("doctree-read", link_names)
    app.connect("env-check-consistency", check_reference)
