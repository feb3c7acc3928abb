"""Evaluation: a model's figures, their intervals, its cost, and comparisons of models."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidray.evaluation.metrics import compute_metrics

__all__ = ["compute_metrics"]


def __getattr__(name: str) -> Any:
    """Import scikit-learn only for computations: a command line needs only the settings."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("vidray.evaluation.metrics"), name)
