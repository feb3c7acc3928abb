"""Where the texts beside the points of a chart stand, so that none lies on another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_HEIGHT_PX = 12
_MOST_TEXTS = 60  # More have no room, and thousands would take seconds.


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a text stands from its point: ``align`` left is to the right of it."""

    align: str
    dx: int
    dy: int


PLACES = (
    Place(align="left", dx=11, dy=0),
    Place(align="right", dx=-11, dy=0),
    Place(align="left", dx=6, dy=-11),
    Place(align="left", dx=6, dy=12),
    Place(align="right", dx=-6, dy=-11),
    Place(align="right", dx=-6, dy=12),
)
TextBox = tuple[float, float, float, float]  # left, top, right, bottom


def places(
    x: Sequence[float], y: Sequence[float], widths: Sequence[float], *, area: tuple[float, float]
) -> list[int]:
    """The number in ``PLACES`` for the text of each point; -1 where none of them is free.

    The points that come first have the first choice.

    Args:
        x, y: of the points on any linear scale; NaN is no point.
        widths: of the texts in pixels.
        area: width and height in pixels that the points spread over.
    """
    across, down = _pixels(x, area[0]), area[1] - _pixels(y, area[1])
    points = [(at - 5, up - 5, at + 5, up + 5) for at, up in zip(across, down, strict=True)]
    taken: list[TextBox] = []
    found = []
    for number, (at, up, width) in enumerate(zip(across, down, widths, strict=True)):
        others = [*points[:number], *points[number + 1 :], *taken]
        chosen = -1
        for place, candidate in enumerate(PLACES if number < _MOST_TEXTS else ()):
            box = _box(at, up, width, candidate)
            if box[0] >= -20 and box[2] <= area[0] + 5 and not any(_meet(box, it) for it in others):
                chosen = place
                taken.append(box)
                break
        found.append(chosen)
    return found


def _pixels(values: Sequence[float], length: float) -> NDArray[np.float64]:
    numbers = np.asarray(values, np.float64)
    known = numbers[np.isfinite(numbers)]
    low, span = (known.min(), float(np.ptp(known))) if len(known) else (0.0, 0.0)
    return length * (numbers - low) / span if span else np.full(len(numbers), length / 2)


def _box(at: float, up: float, width: float, place: Place) -> TextBox:
    left = at + place.dx - (width if place.align == "right" else 0)
    middle = up + place.dy
    return left, middle - _HEIGHT_PX / 2, left + width, middle + _HEIGHT_PX / 2


def _meet(one: TextBox, other: TextBox) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
