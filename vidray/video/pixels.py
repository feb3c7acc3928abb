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
from vidray.video import resizing
from vidray.video.frames import Request, Resize
from vidray.video.header import Header
from vidray.video.resizing import Resizer

_UNSPECIFIED = 2  # ISO/IEC 23091-2, matrix coefficients.


def render(frame: VideoFrame, request: Request, header: Header) -> NDArray[np.uint8]:
    """``uint8 (H, W, 3)``: the frame as the request wants it."""
    size, rotation = request.size, quarter_turns(frame.rotation)
    if rule := rule_of(request):
        return fitted(_turned(_rgb24(frame), rotation), request, rule)
    if request.resize == "as_stored":
        size, rotation = header.size, 0  # A stream that changes its size: as it began.
    elif size is None:
        size = header.square_pixel_size
    elif rotation % 180:
        size = size[::-1]
    pixels = to_rgb(frame, size=size, resize=request.resize, rotation_degrees=rotation)
    return middle(pixels, request.middle_px)


def rule_of(request: Request) -> Resizer | None:
    """The package by whose rule frames are resized after their conversion, if there is one."""
    name = request.resize
    if request.size is None or name == "swscale" or name == "opencv_area" or name == "as_stored":
        return None
    return name


def fitted(pixels: NDArray[np.uint8], request: Request, rule: Resizer) -> NDArray[np.uint8]:
    """An upright RGB frame, resized and cut as the request wants it."""
    assert request.size is not None  # Of one that has a rule.
    size = request.size[::-1]
    cut = resizing.resized(pixels, rule, size=size, middle_px=request.middle_px)
    return np.ascontiguousarray(cut)


def middle(pixels: NDArray[np.uint8], middle_px: int | None) -> NDArray[np.uint8]:
    """The middle square of a frame, or all of it: ``uint8 (H, W, 3)``."""
    if middle_px is None:
        return pixels
    height, width = pixels.shape[:2]
    box = resizing.middle_box("swscale", (height, width), middle_px)
    return np.ascontiguousarray(box.of(pixels))


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
    return _turned(pixels, rotation_degrees)


def _turned(pixels: NDArray[Any], rotation_degrees: int) -> NDArray[np.uint8]:
    """Contiguous, turned counter-clockwise by a multiple of 90."""
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
