"""The page's HTML, made of the templates beside this file; all text in it is escaped."""

from __future__ import annotations

from functools import cache
from typing import Any

import jinja2

from vidray.report import formats


@cache
def environment() -> jinja2.Environment:
    """The templates; an unknown name in one is an error, and everything is escaped."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("vidray.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"cell": formats.cell}
    found.globals |= {"rows_of": formats.rows_of}
    return found


def fragment(block: Any) -> str:
    """The HTML of one part, as a notebook shows it, with the page's style."""
    return environment().get_template("fragment.html.j2").render(block=block)


def page(**values: Any) -> str:
    """The whole page."""
    return environment().get_template("page.html.j2").render(**values)
