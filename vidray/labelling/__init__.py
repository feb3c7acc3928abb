"""The nightly labels: what is left to do, one video's label, and the table that is committed."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidray.labelling.commits import read_labels

__all__ = ["read_labels"]


def __getattr__(name: str) -> Any:
    """Import pyarrow only for who reads: a command line that is wrong needs no table."""
    if name != "read_labels":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("vidray.labelling.commits").read_labels
