"""The page's HTML, made of the templates beside this file; all text in it is escaped."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from typing import Any

import jinja2

from vidray.report import formats, svg


@cache
def environment() -> jinja2.Environment:
    """The templates; an unknown name in one is an error, and everything is escaped."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("vidray.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_legible,
    )
    found.globals |= {
        "rows_of": formats.rows_of,
        "groups_of": _groups_of,
        "width_of": svg.width_of,
    }
    return found


def asset(name: str) -> str:
    """The text of a file beside the templates, such as a style."""
    return (resources.files("vidray.report") / "templates" / name).read_text(encoding="utf-8")


def _legible(value: Any) -> Any:
    """A text from outside without characters that hide or turn around what follows them."""
    return formats.legible(value) if type(value) is str else value


def _groups_of(blocks: Sequence[Any]) -> Iterator[tuple[bool, list[Any]]]:
    """Whether they are charts, and the parts: those of a kind that follow one another."""
    for is_chart, group in itertools.groupby(blocks, lambda block: type(block).__name__ == "Chart"):
        yield is_chart, list(group)


def fragment(block: Any) -> str:
    """The HTML of one part, as a notebook shows it, with the page's style."""
    return (
        environment()
        .get_template("fragment.html.j2")
        .render(block=block, style=asset("parts.css"), titles={})
    )


def page(**values: Any) -> str:
    """The whole page."""
    return environment().get_template("page.html.j2").render(**values)
