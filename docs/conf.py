"""Sphinx configuration; `make docs` builds with warnings as errors."""

from importlib.metadata import version as installed_version

project = "bayestl"
author = "the bayestl developers"
release = installed_version("bayestl")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True  # no path of the machine that builds
html_theme = "furo"
html_title = f"bayestl {release}"
exclude_patterns = ["_build"]

_LISTS = ("Parameters", "Attributes", "Returns")


def _descriptions(app, what, name, obj, options, lines) -> None:
    """Move what follows `name : ` below the name: napoleon takes it for the name's type."""
    listed, moved = False, []
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if below and not below.strip("-"):
            listed = line in _LISTS
        if listed and not line.startswith(" ") and " : " in line:
            moved += line.split(" : ", 1)
            moved[-1] = f"    {moved[-1]}"
        else:
            moved.append(line)
    lines[:] = moved


def setup(app) -> None:
    app.connect("autodoc-process-docstring", _descriptions, priority=100)  # before napoleon
