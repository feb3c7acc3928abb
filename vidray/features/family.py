"""A feature family: named numbers computed from one kind of material of a video."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidray.features.material import LooksAt


@dataclass(frozen=True, kw_only=True)
class Family:
    """One family of features: what it looks at, how it gets its numbers, and what they are called.

    Args:
        looks_at: the material that ``describe`` takes, see ``LooksAt``.
        describe: material -> ``float32 (length,)``.
        parts: (name, length) of each named part, in the order of the numbers.

    Raises:
        ValueError: a part's name comes twice.
    """

    looks_at: LooksAt
    describe: Callable[..., NDArray[np.float32]]
    parts: tuple[tuple[str, int], ...]

    def __post_init__(self) -> None:
        names = [name for name, _ in self.parts]
        if len(set(names)) != len(names):
            raise ValueError(f"part names must differ: {', '.join(names)}")

    @property
    def length(self) -> int:
        """How many numbers it has."""
        return sum(length for _, length in self.parts)

    def __call__(self, *material: NDArray[Any]) -> NDArray[np.float32]:
        """The family's numbers, ``float32 (length,)``.

        Raises:
            ValueError: ``describe`` gave something else.
        """
        vector = self.describe(*material)
        if vector.shape != (self.length,) or vector.dtype != np.float32:
            raise ValueError(
                f"got {vector.dtype} {vector.shape}, a family of {self.length} numbers "
                f"gives float32 ({self.length},)"
            )
        return vector
