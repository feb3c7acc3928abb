"""Nightly labelling: the videos left to do, one video's label, and the committed table."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidray.labelling.commits import read_labels

__all__ = ["read_labels"]


def __getattr__(name: str) -> Any:
    """Import pyarrow only to read labels: a wrong command line needs no table."""
    if name != "read_labels":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("vidray.labelling.commits").read_labels
