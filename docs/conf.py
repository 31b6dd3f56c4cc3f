"""Sphinx: Markdown, docstrings, formulas as MathML; no page needs the network."""

import argparse
import functools
import sys
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.utils.math.latex2mathml import tex2mathml

sys.path.insert(0, str(Path(__file__).parents[1]))

import xpcnn
from xpcnn.cli import parser

project = "xpcnn"
author = "The xpcnn authors"
version = release = xpcnn.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build", "package-index.md"]

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings tell shapes and dtypes, which types do not

html_theme = "alabaster"
html_title = "xpcnn"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = html_show_sourcelink = html_show_copyright = False
html_math_renderer = "mathml"
html_sidebars = {"**": ["about.html", "searchfield.html", "navigation.html"]}
html_theme_options = {
    "description": "Image classifiers from one readable source, on NumPy or CuPy",
    "fixed_sidebar": True,
    "sidebar_collapse": True,
    "page_width": "1080px",
    "sidebar_width": "240px",
    "font_family": "system-ui, sans-serif",
    "head_font_family": "system-ui, sans-serif",
    "font_size": "16px",
    "show_powered_by": False,
    "show_relbar_bottom": True,
    "pre_bg": "#f6f8fa",
}


class Commands(Directive):
    """``.. commands::``: a section for each command, with all that its --help tells."""

    def run(self):
        """Return the sections."""
        (commands,) = (action.choices for action in parser()._actions if action.choices)
        return [self._section(name, command) for name, command in commands.items()]

    def _section(self, name, command):
        command.formatter_class = functools.partial(argparse.HelpFormatter, width=92)
        text = command.format_help()
        title = nodes.title(text=f"xpcnn {name}")
        block = nodes.literal_block(text, text, language="text")
        return nodes.section("", title, block, ids=[f"xpcnn-{name}"])


def inline_formula(translator, node):
    """Write a formula within a line."""
    translator.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def formula(translator, node):
    """Write a formula on lines of its own."""
    written = tex2mathml(node.astext(), as_block=True)
    translator.body.append(f'<div class="formula">{written}</div>\n')
    raise nodes.SkipNode


def keep_links(app, docname, source):
    """Let links out of this folder, right where pages are read as files, lead here."""
    for name in ("SECURITY", "CHANGELOG"):
        source[0] = source[0].replace(f"](../{name}.md)", f"](/{name.lower()}.md)")


def setup(app):
    """Add what is above."""
    app.add_directive("commands", Commands)
    app.add_html_math_renderer("mathml", (inline_formula, None), (formula, None))
    app.connect("source-read", keep_links)
