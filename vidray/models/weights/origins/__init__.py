"""Whose names the tensors of a file have: one table, a row for an origin and some architectures."""

from vidray.models.weights.origins import facebook, openmmlab, others, torchvision
from vidray.models.weights.origins.row import Origin, Rules

# Of rows that fill as much of a network, the first counts.
ORIGINS: tuple[Origin, ...] = (
    *torchvision.ROWS,
    *facebook.ROWS,
    *openmmlab.ROWS,
    *others.ROWS,
)


def of_model(name: str) -> tuple[Origin, ...]:
    """The rows for one of our architectures."""
    return tuple(origin for origin in ORIGINS if name in origin.models)


__all__ = ["ORIGINS", "Origin", "Rules", "of_model"]
