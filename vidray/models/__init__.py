"""Models of both kinds: built by name, loaded from a model folder, one ``predict``."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidray.models.folder import ClassicalModel, DeepModel, Model, load
    from vidray.models.names import DEEP
    from vidray.models.networks.build import build, build_model

__all__ = ["DEEP", "ClassicalModel", "DeepModel", "Model", "build", "build_model", "load"]

_BUILD, _FOLDER = "vidray.models.networks.build", "vidray.models.folder"
_HOMES = {
    "DEEP": ("vidray.models.names", "DEEP"),
    "build": (_BUILD, "build"),
    "build_model": (_BUILD, "build_model"),
    "ClassicalModel": (_FOLDER, "ClassicalModel"),
    "DeepModel": (_FOLDER, "DeepModel"),
    "Model": (_FOLDER, "Model"),
    "load": (_FOLDER, "load"),
}


def __getattr__(name: str) -> Any:
    """Import PyTorch only to build or load a model: a driver that only lists does not."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)
