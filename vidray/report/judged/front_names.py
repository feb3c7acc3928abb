"""Where the name of a point stands in a small chart: beside it, over no other point or name."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import pandas as pd

from vidray.report.drawing import HEIGHT_PX, WIDTH_PX, text_width

# Side -> alignment and offset of the text, in pixels; the first that is free is taken.
SIDES = {
    "above-left": ("right", -2, -11),
    "above": ("center", 0, -13),
    "above-right": ("left", 2, -11),
    "left": ("right", -8, 0),
    "right": ("left", 8, 0),
    "below-right": ("left", 2, 12),
    "below-left": ("right", -2, 12),
}
_AXIS_PX = 50  # of the width
_TEXT_PX = 12  # height of a line
_POINT_PX = 5  # half a point's width
_Box = tuple[float, float, float, float]  # left, top, right, bottom


def names_beside(
    x: pd.Series[float], y: pd.Series[float], names: Sequence[str], front: Sequence[bool]
) -> list[str | None]:
    """The side of ``SIDES`` for the name of each point of the front; None where none is free.

    Args:
        x, y: of the points, ``x`` rising, as they stand on linear axes.
        names: of the points.
        front: whether the steps that are drawn go through a point; only those have names.
    """
    across = _pixels(x, WIDTH_PX - _AXIS_PX)
    down = [HEIGHT_PX - at for at in _pixels(y, HEIGHT_PX)]
    points: list[_Box] = [
        (one - _POINT_PX, other - _POINT_PX, one + _POINT_PX, other + _POINT_PX)
        for one, other in zip(across, down, strict=True)
    ]
    corners = [(across[k], down[k]) for k, is_front in enumerate(front) if is_front]
    taken = list(_steps(corners))
    found: list[str | None] = [None] * len(points)
    # The highest first: there is least room above them.
    for number in sorted(range(len(points)), key=lambda k: down[k]):
        others = [*taken, *points[:number], *points[number + 1 :]]
        if front[number] and (place := _free(across[number], down[number], names[number], others)):
            found[number] = place[0]
            taken.append(place[1])
    return found


def _steps(corners: Sequence[tuple[float, float]]) -> Iterator[_Box]:
    """The lines of the front: along to the next point, then up to it."""
    for (left, low), (right, high) in itertools.pairwise(corners):
        yield (left, low - 1, right, low + 1)
        yield (right - 1, min(low, high), right + 1, max(low, high))


def _pixels(values: pd.Series[float], size: int) -> list[float]:
    """Values on an axis of so many pixels, with a margin of 12 at both ends."""
    least, most = float(values.min()), float(values.max())
    span = (most - least) or 1.0
    return [12 + (value - least) / span * (size - 24) for value in values.tolist()]


def _free(across: float, down: float, name: str, others: Sequence[_Box]) -> tuple[str, _Box] | None:
    width = text_width([name])
    for side, (align, dx, dy) in SIDES.items():
        left = across + dx - {"left": 0.0, "center": width / 2, "right": width}[align]
        top = down + dy - _TEXT_PX / 2
        box = (left, top, left + width, top + _TEXT_PX)
        is_inside = left >= 0 and left + width <= WIDTH_PX - _AXIS_PX
        if is_inside and not any(_overlap(box, other) for other in others):
            return side, box
    return None


def _overlap(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
