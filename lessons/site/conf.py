"""Sphinx's settings; `python lessons/site/make.py` builds the site."""

import os
import re
import sys
from pathlib import Path

LESSONS = Path(os.environ["MINIREWIND_LESSONS"])
sys.path.insert(0, str(LESSONS.parent))

project = "minirewind"
author = "The minirewind authors"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = "minirewind"
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["site.css"]
templates_path: list[str] = []

myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_heading_anchors = 2
# Formulas are MathML, which browsers draw by themselves. Only the sliders of 00 to 02 are drawn by scripts that a
# reader's browser fetches (Jupyter's own), and nothing moves them without a kernel.
html_math_renderer = "mathml"

nb_execution_mode = os.environ.get("MINIREWIND_SITE_RUN", "cache")
nb_execution_cache_path = os.environ.get("MINIREWIND_SITE_CACHE", "")
nb_execution_timeout = 300      # a cell takes less than 40 s; on a busy machine nbclient may miss its end until then
nb_execution_raise_on_error = True
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True}
add_module_names = False
toc_object_entries_show_parents = "hide"
default_role = "code"
suppress_warnings = ["mystnb.unknown_mime_type", "ref.python", "misc.highlighting_failure"]


def paragraphs(lines):
    """The blocks of a docstring between its empty lines."""
    block: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            block.append(line)
        elif block:
            yield block
            block = []


def as_text(block):
    """A paragraph of words as reStructuredText: what it says is meant as it stands, but for `code`."""
    parts = re.split(r"(`[^`]+`)", "\n".join(block))
    return "".join(part if part.startswith("`") else re.sub(r"([\\*|_])", r"\\\1", part) for part in parts).split("\n")


def as_written(app, what, name, obj, options, lines):
    """Docstrings are plain text: words become paragraphs, and what stands in columns or indented is kept as it stands.
    """
    found: list[str] = []
    for block in paragraphs(lines):
        rows = [line.rstrip() for line in block]
        if any(line.startswith(" ") or re.search(r"\S {3,}\S", line) for line in rows):
            words = []
            while rows and not rows[0].startswith(" ") and not re.search(r"\S {3,}\S", rows[0]):
                words.append(rows.pop(0))
            found += [*as_text(words), ""] if words else []
            found += ["::", "", *("    " + line for line in rows), ""]
        else:
            found += [*as_text(rows), ""]
    lines[:] = found


def formula(translator, node):
    """A formula as MathML, in its line or on a line of its own."""
    from docutils import nodes
    from latex2mathml.converter import convert

    inline = isinstance(node, nodes.math)
    drawn = convert(node.astext(), display="inline" if inline else "block")
    translator.body.append(drawn if inline else f'<div class="math">{drawn}</div>\n')
    raise nodes.SkipNode


def setup(app):
    app.connect("autodoc-process-docstring", as_written)
    app.add_html_math_renderer("mathml", (formula, None), (formula, None))
