"""A decoded frame as pixels: RGB, upright, in the size wanted."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from vidray.frames import Resize


def to_rgb(
    frame: VideoFrame, *, size: tuple[int, int], resize: Resize, rotation_degrees: int
) -> NDArray[np.uint8]:
    """``uint8 (H, W, 3)``, scaled and then turned.

    Args:
        size: width and height before turning.
        rotation_degrees: counter-clockwise, a multiple of 90.
    """
    pixels: NDArray[Any]
    if size == (frame.width, frame.height):
        pixels = frame.to_ndarray(format="rgb24", threads=1)
    elif resize == "opencv_area":
        full = frame.to_ndarray(format="rgb24", threads=1)
        pixels = cv2.resize(full, size, interpolation=cv2.INTER_AREA)
    else:
        shrinks = size[0] <= frame.width and size[1] <= frame.height
        scaler = Interpolation.AREA if shrinks else Interpolation.BICUBIC
        pixels = frame.to_ndarray(
            format="rgb24", width=size[0], height=size[1], interpolation=scaler, threads=1
        )
    upright = np.rot90(pixels, k=rotation_degrees // 90) if rotation_degrees else pixels
    return np.ascontiguousarray(upright, dtype=np.uint8)


def quarter_turns(rotation: float) -> int:
    """Counter-clockwise degrees in 0, 90, 180, 270; what is no quarter turn is left alone."""
    return int(rotation) % 360 if int(rotation) % 90 == 0 else 0
