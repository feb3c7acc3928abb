"""Pictures of what a network looks at: a frame, below it the same under a map, and a bar.

Maps are drawn in the colours of viridis, from dark blue to yellow: its lightness rises evenly, so
that readers who do not see all colours, and paper without any, show the same order.
"""

from __future__ import annotations

from functools import cache

import cv2
import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from vidray.report.blocks import Thumbnail
from vidray.report.thumbnails import HEIGHT_PX, jpeg

# Of the map where it is highest; a frame without any stays grey, so that colour is the map's alone.
_MOST_OPACITY = 0.65
_BAR_PX, _GAP_PX = 8, 3
_MOST_FRAMES = 8


def filmstrip(
    frames: NDArray[np.uint8],
    *,
    weights: NDArray[np.float32] | None,
    maps: NDArray[np.float32] | None,
) -> list[Thumbnail]:
    """Up to eight frames of a clip, each with its map and the bar of its weight below.

    Of a longer clip, the frame of each of eight equal parts that counts most.

    Args:
        frames: ``uint8 (T, H, W, 3)``, RGB.
        weights: ``float32 (T,)``, summing to 1.
        maps: ``float32 (T, h, w)``, 0 to 1; any size.
    """
    strength = weights if weights is not None else np.zeros(len(frames), np.float32)
    if weights is None and maps is not None:
        strength = maps.mean(axis=(1, 2))
    highest = float(strength.max())
    made = []
    for k in shown_frames(strength):
        rows = [_sized(frames[k])]
        if maps is not None:
            rows.append(_overlay(frames[k], maps[k]))
        if weights is not None:
            rows.append(_bar(float(weights[k]) / highest if highest > 0 else 0.0))
        place = f"frame {k + 1} of {len(frames)}"
        said = f"{place}, {100 * weights[k]:.0f} % of the weight" if weights is not None else place
        made.append(
            Thumbnail(
                jpeg=jpeg(_stacked(rows)),
                alt=f"{said}; below it where the network looks" if maps is not None else said,
                caption=f"{k + 1}: {100 * weights[k]:.0f} %" if weights is not None else f"{k + 1}",
            )
        )
    return made


def shown_frames(strength: NDArray[np.float32]) -> list[int]:
    """Numbers of frames to show: the strongest of each of up to eight equal parts of a clip."""
    parts = np.array_split(np.arange(len(strength)), min(_MOST_FRAMES, len(strength)))
    return [int(part[strength[part].argmax()]) for part in parts]


@cache
def _colours() -> NDArray[np.float32]:
    """Viridis: ``float32 (256, 3)``, RGB from 0 to 255."""
    return np.asarray(mpl.colormaps["viridis"](np.arange(256))[:, :3] * 255, np.float32)


def blend(frame: NDArray[np.uint8], weights: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A frame in grey under the colours of its map: ``uint8 (H, W, 3)``, ``float32 (H, W)``."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)[..., None]
    level = np.clip(weights, 0, 1)
    colours = _colours()[np.rint(level * 255).astype(np.int64)]
    opacity = (_MOST_OPACITY * np.sqrt(level))[..., None]
    return np.rint((1 - opacity) * grey + opacity * colours).astype(np.uint8)


def _overlay(frame: NDArray[np.uint8], weights: NDArray[np.float32]) -> NDArray[np.uint8]:
    sized = _sized(frame)
    grown = cv2.resize(weights, (sized.shape[1], sized.shape[0]), interpolation=cv2.INTER_LINEAR)
    return blend(sized, np.asarray(grown, np.float32))


def _sized(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = frame.shape[:2]
    how = cv2.INTER_AREA if height > HEIGHT_PX else cv2.INTER_CUBIC
    sized = cv2.resize(frame, (round(HEIGHT_PX * width / height), HEIGHT_PX), interpolation=how)
    return np.asarray(sized, np.uint8)


def _bar(share: float) -> NDArray[np.uint8]:
    """A bar as long as ``share`` of a frame, 0 to 1."""
    bar = np.full((_BAR_PX, HEIGHT_PX, 3), 90, np.uint8)
    bar[:, : round(share * HEIGHT_PX)] = _colours()[230]
    return bar


def _stacked(rows: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    gap = np.full((_GAP_PX, HEIGHT_PX, 3), 255, np.uint8)
    spaced = [part for row in rows for part in (gap, row)][1:]
    return np.concatenate(spaced)
