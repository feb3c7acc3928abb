"""What a feature family is: named numbers computed from one kind of material of a video."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Family:
    """One family of features: how many numbers, which parts they fall into, and how to get them.

    Args:
        length: how many numbers ``describe`` returns.
        describe: material -> ``float32 (length,)``.
        looks_at: the material. ``frames``: ``uint8 (T, H, W, 3)`` RGB, sampled at one frame a
            second. ``bursts``: ``uint8 (M, L, H, W, 3)`` RGB, M moments of L adjacent frames.
            ``sound``: mono ``float32 (n,)`` at 16 kHz.
        parts: (name, length) of each named part, in the order of the numbers.

    Raises:
        ValueError: the parts do not add up to the length, or a part's name comes twice.
    """

    length: int
    describe: Callable[..., NDArray[np.float32]]
    looks_at: Literal["frames", "bursts", "sound"]
    parts: tuple[tuple[str, int], ...]

    def __post_init__(self) -> None:
        total = sum(length for _, length in self.parts)
        if total != self.length:
            raise ValueError(f"parts add up to {total}, the family's length is {self.length}")
        names = [name for name, _ in self.parts]
        if len(set(names)) != len(names):
            raise ValueError(f"part names must differ: {', '.join(names)}")

    def __call__(
        self, material: NDArray[Any], pts_seconds: NDArray[np.float64] | None = None
    ) -> NDArray[np.float32]:
        """The family's numbers, ``float32 (length,)``; see ``looks_at`` for the material.

        Args:
            material: what the family looks at.
            pts_seconds: ``float64 (M, L)``, for bursts only: when each frame is shown.
        """
        times = () if pts_seconds is None else (pts_seconds,)
        vector = self.describe(material, *times)
        if vector.shape != (self.length,) or vector.dtype != np.float32:
            raise ValueError(
                f"got {vector.dtype} {vector.shape}, a family of {self.length} numbers "
                f"gives float32 ({self.length},)"
            )
        return vector

    def part_slices(self) -> dict[str, slice]:
        """Where each named part lies in the vector, in order."""
        slices: dict[str, slice] = {}
        begin = 0
        for name, length in self.parts:
            slices[name] = slice(begin, begin + length)
            begin += length
        return slices
