"""vidray: a bucket of videos in, features and labels out, on Ray."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidray.labelling.commits import read_labels
    from vidray.models.folder import load as load_model
    from vidray.sources import list_videos
    from vidray.tables.runs import read_table
    from vidray.video.decode import read_frames

__all__ = ["list_videos", "load_model", "read_frames", "read_labels", "read_table"]
__version__ = "0.1.0"

_HOMES = {
    "list_videos": ("vidray.sources", "list_videos"),
    "load_model": ("vidray.models.folder", "load"),
    "read_frames": ("vidray.video.decode", "read_frames"),
    "read_labels": ("vidray.labelling.commits", "read_labels"),
    "read_table": ("vidray.tables.runs", "read_table"),
}


def __getattr__(name: str) -> Any:
    """Import a name when it is asked for: decoders, tables and PyTorch together take seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
