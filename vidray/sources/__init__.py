"""Sources of videos: folders, lists, globs and buckets, as rows of VIDEOS."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidray.sources.listing import list_videos

__all__ = ["list_videos"]


def __getattr__(name: str) -> Any:
    """Import the listing code only to list: a command line needs only the checks."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("vidray.sources.listing"), name)
