"""A decoded frame as pixels: RGB, upright, in the size wanted."""

from __future__ import annotations

from typing import Any

import av.error
import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from vidray.errors import VideoError
from vidray.video.frames import Request, Resize
from vidray.video.header import Header

_UNSPECIFIED = 2  # ISO/IEC 23091-2, matrix coefficients.


def render(frame: VideoFrame, request: Request, header: Header) -> NDArray[np.uint8]:
    """``uint8 (H, W, 3)``: the frame as the request wants it."""
    size, rotation = request.size, quarter_turns(frame.rotation)
    if request.resize == "as_stored":
        size, rotation = header.size, 0  # A stream that changes its size: as it began.
    elif size is None:
        size = header.square_pixel_size
    elif rotation % 180:
        size = size[::-1]
    return to_rgb(frame, size=size, resize=request.resize, rotation_degrees=rotation)


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
        pixels = _rgb24(frame)
    elif resize == "opencv_area":
        pixels = cv2.resize(_rgb24(frame), size, interpolation=cv2.INTER_AREA)
    else:
        shrinks = size[0] <= frame.width and size[1] <= frame.height
        scaler = Interpolation.AREA if shrinks else Interpolation.BICUBIC
        pixels = _rgb24(frame, width=size[0], height=size[1], interpolation=scaler)
    upright = np.rot90(pixels, k=rotation_degrees // 90) if rotation_degrees else pixels
    return np.ascontiguousarray(upright, dtype=np.uint8)


def _rgb24(frame: VideoFrame, **scaling: Any) -> NDArray[Any]:
    try:
        return frame.to_ndarray(format="rgb24", threads=1, **scaling)
    except MemoryError:
        raise
    except av.error.FFmpegError:
        # YCgCo, ICtCp, constant luminance, reserved numbers: FFmpeg 8 does not convert them. Its
        # earlier versions took them for BT.601, as it does where nothing is stated.
        frame.colorspace = _UNSPECIFIED
    try:
        return frame.to_ndarray(format="rgb24", threads=1, **scaling)
    except MemoryError:
        raise
    except av.error.FFmpegError as error:
        message = f"FFmpeg cannot convert its pixels ({frame.format.name}) to RGB"
        raise VideoError("unsupported", message) from error


def quarter_turns(rotation: float) -> int:
    """Counter-clockwise degrees in 0, 90, 180, 270; what is no quarter turn is left alone."""
    return int(rotation) % 360 if int(rotation) % 90 == 0 else 0
