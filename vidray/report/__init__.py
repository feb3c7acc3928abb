"""The page of finished runs: what they hold, what it means, what needs a person.

In a notebook every part shows itself:

    from vidray import report

    runs = report.read(["runs/features", "runs/judged", "runs/labels"])
    report.chapter("compare", runs)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidray.report.page import chapter, write
    from vidray.report.reading import read

__all__ = ["chapter", "read", "write"]

_HOMES = {"chapter": "page", "read": "reading", "write": "page"}


def __getattr__(name: str) -> Any:
    """Import a name when it is asked for: a wrong command line needs no tables."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"vidray.report.{_HOMES[name]}"), name)
