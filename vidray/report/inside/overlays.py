"""Pictures of what a network looks at: a frame, beside it the same under a map, a bar below both.

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
from vidray.report.frames.thumbnails import jpeg

# Of the map where it is highest; a frame without any stays grey, so that colour is the map's alone.
_MOST_OPACITY = 0.65
# Twice what the page shows: 147 x 84 px a picture, of which two are beside each other on a phone.
_SIDE_PX, _GAP_PX, _BAR_PX = 144, 6, 18
_MOST_FRAMES = 8


def filmstrip(
    frames: NDArray[np.uint8],
    *,
    weights: NDArray[np.float32],
    weights_are: str,
    maps: NDArray[np.float32] | None,
) -> list[Thumbnail]:
    """Up to eight frames of a clip, each with its map beside it and the bar of its weight below.

    Of a longer clip, the frame of each of eight equal parts that counts most.

    Args:
        frames: ``uint8 (T, H, W, 3)``, RGB.
        weights: ``float32 (T,)``, summing to 1, or all 0; the bar of the highest is full.
        weights_are: what they are of, such as ``of the weight``.
        maps: ``float32 (T, h, w)``, 0 to 1; any size.
    """
    highest = float(weights.max())
    made = []
    for k in shown_frames(weights):
        beside = [_sized(frames[k])]
        if maps is not None:
            beside.append(_overlay(frames[k], maps[k]))
        picture = _joined(beside, axis=1)
        if highest > 0:
            picture = _joined([picture, _bar(weights[k] / highest, picture.shape[1])], axis=0)
        percent = f"{100 * weights[k]:.0f} %" if highest > 0 else ""
        alt = f"frame {k + 1} of {len(frames)}"
        if percent:
            alt += f", {percent} {weights_are}"
        if maps is not None:
            alt += "; beside it where the network looks"
        caption = f"frame {k + 1}: {percent}" if percent else f"frame {k + 1}"
        made.append(Thumbnail(jpeg=jpeg(picture), alt=alt, caption=caption))
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
    """A frame as a square, as networks have them."""
    how = cv2.INTER_AREA if min(frame.shape[:2]) > _SIDE_PX else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(frame, (_SIDE_PX, _SIDE_PX), interpolation=how), np.uint8)


def _bar(share: float, width_px: int) -> NDArray[np.uint8]:
    """A bar that fills ``share`` of a width, 0 to 1."""
    bar = np.full((_BAR_PX, width_px, 3), 90, np.uint8)
    bar[:, : round(share * width_px)] = _colours()[230]
    return bar


def _joined(parts: list[NDArray[np.uint8]], *, axis: int) -> NDArray[np.uint8]:
    """Pictures below (axis 0) or beside (1) one another, with a white line between."""
    shape = list(parts[0].shape)
    shape[axis] = _GAP_PX
    gap = np.full(shape, 255, np.uint8)
    return np.concatenate([part for each in parts for part in (gap, each)][1:], axis=axis)
