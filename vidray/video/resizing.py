"""The resize rules of the packages that published weights come from, to the last bit, without them.

A network was trained on pixels that one library made, and each has its own rule for the size of the
longer side, for the mean of neighbours and for the middle of what is cropped. PyTorch is not
imported here: it costs each decoding process two seconds.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Resizer = Literal[
    "swscale",
    "torchvision",
    "torchvision_antialias",
    "torchvision_antialias_bicubic",
    "torchvision_pillow",
    "torchvision_pillow_bicubic",
    "pytorchvideo",
    "pyslowfast",
    "pillow",
    "pillow_bicubic",
    "opencv",
    "videomae",
]
RESIZERS: tuple[Resizer, ...] = get_args(Resizer)


@dataclass(frozen=True, kw_only=True)
class Box:
    """A rectangle of a frame, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, pixels: Picture) -> Picture:
        """Its pixels: ``uint8 (H, W, 3)`` -> ``uint8 (height, width, 3)``, a view."""
        return pixels[self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """The rule of one package.

    Attributes:
        resample: pixels ``uint8 (H, W, 3)``, the new height and width, and the box of the new frame
            that is wanted -> that box.
        long_side: the longer side, from the shorter one wanted and the longer and shorter one of
            the frame.
        offset: pixels before a middle crop, from those left over on both sides together.
    """

    resample: Callable[[Picture, tuple[int, int], Box], Picture]
    long_side: Callable[[int, int, int], int]
    offset: Callable[[int], int]


def size_of(
    resizer: Resizer, resize_px: tuple[int, ...], *, height: int, width: int
) -> tuple[int, int]:
    """Height and width that a frame is resized to.

    Args:
        resize_px: the shorter side, or height and width.
        height, width: the frame's.
    """
    if len(resize_px) == 2:
        return resize_px[0], resize_px[1]
    (short,) = resize_px
    long = _RULES[resizer].long_side(short, max(height, width), min(height, width))
    return (short, long) if height <= width else (long, short)


def middle_offset(resizer: Resizer, rest: int) -> int:
    """Pixels before a middle crop that leaves ``rest`` pixels before and after it together."""
    return _RULES[resizer].offset(rest)


def middle_box(resizer: Resizer, size: tuple[int, int], side_px: int) -> Box:
    """The middle square of a frame of this height and width."""
    top, left = (middle_offset(resizer, side - side_px) for side in size)
    return Box(top=top, left=left, height=side_px, width=side_px)


def resized(
    pixels: Picture, resizer: Resizer, *, size: tuple[int, int], middle_px: int | None = None
) -> Picture:
    """A frame resized by a package's rule.

    Args:
        pixels: ``uint8 (H, W, 3)``.
        resizer: any but ``swscale``, which scales while it converts.
        size: the new height and width.
        middle_px: gives only the middle square of so many pixels; no side of ``size`` is below it.

    Returns:
        ``uint8 (height, width, 3)``, or ``uint8 (middle_px, middle_px, 3)``.
    """
    box = Box(top=0, left=0, height=size[0], width=size[1])
    if middle_px is not None:
        box = middle_box(resizer, size, middle_px)
    if pixels.shape[:2] == size:
        return box.of(pixels)
    return _RULES[resizer].resample(pixels, size, box)


def _bilinear(pixels: Picture, size: tuple[int, int], box: Box) -> Picture:
    """PyTorch's bilinear ``interpolate`` of float32 on one thread, rounded half to even.

    The order of its four products and its fused multiply-adds decide the last bit, and so on which
    side of a half a value comes to lie: one of 100,000 pixels is another if they are not kept. On
    two threads PyTorch itself gives as many others.
    """
    (top, bottom, high, low) = _neighbours(pixels.shape[0], size[0], box.top, box.height)
    (left, right, near, far) = _neighbours(pixels.shape[1], size[1], box.left, box.width)
    high, low = high[:, None, None], low[:, None, None]  # (h, 1, 1)
    near, far = near[:, None], far[:, None]  # (w, 1)
    # (h, w, 3) float32
    total = pixels[np.ix_(top, right)].astype(np.float32) * (high * far)
    for rows, columns, weights in (
        (top, left, high * near),
        (bottom, left, low * near),
        (bottom, right, low * far),
    ):
        # A byte times a float32 is exact in float64: rounded once, as a fused multiply-add is.
        product = pixels[np.ix_(rows, columns)].astype(np.float64) * weights
        total = (product + total).astype(np.float32)
    return np.rint(total).astype(np.uint8)


def _neighbours(
    stored: int, wanted: int, first: int, count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """The pixel before and behind each place of one axis, and their weights, ``(count,)`` each."""
    scale = np.float64(np.float32(stored) / np.float32(wanted))
    places = scale * (np.arange(first, first + count) + 0.5) - 0.5
    places = np.maximum(places.astype(np.float32), np.float32(0))
    before = np.minimum(places.astype(np.int64), stored - 1)
    behind = np.minimum(before + 1, stored - 1)
    share = np.clip(places - before.astype(np.float32), 0, 1).astype(np.float32)
    return before, behind, np.float32(1) - share, share


def _antialiased(pixels: Picture, size: tuple[int, int], box: Box, *, cubic: bool) -> Picture:
    """PyTorch's antialiased ``interpolate`` of uint8, rows first: all of it in whole numbers."""
    columns = _taps(pixels.shape[1], size[1], cubic)
    rows = _taps(pixels.shape[0], size[0], cubic)
    across = _weighed(pixels.transpose(1, 0, 2), columns, box.left, box.width)  # (w, H, 3)
    return _weighed(across.transpose(1, 0, 2), rows, box.top, box.height)


@dataclass(frozen=True)
class _Taps:
    """Weights of an axis: ``int32 (N, K)`` of the K pixels from ``first`` (N,) on, in 2**-bits."""

    first: NDArray[np.int64]
    weights: NDArray[np.int32]
    bits: int


def _weighed(lines: Picture, taps: _Taps, begin: int, count: int) -> Picture:
    """Weighted sums along the first axis, of ``count`` places: ``uint8 (count, ...)``."""
    lines = np.ascontiguousarray(lines)
    first, weights = (values[begin : begin + count] for values in (taps.first, taps.weights))
    total = np.full((count, *lines.shape[1:]), 1 << (taps.bits - 1), np.int32)
    for k in range(weights.shape[1]):
        chosen = lines[np.minimum(first + k, len(lines) - 1)]
        total += chosen * weights[:, k, None, None]
    rounded: NDArray[np.int32] = np.clip(total >> taps.bits, 0, 255)
    return rounded.astype(np.uint8)


@functools.lru_cache(maxsize=16)
def _taps(stored: int, wanted: int, cubic: bool) -> _Taps:
    """The weights of Pillow's filters, rounded to 16 bits with as many binary places as fit."""
    scale = stored / wanted
    stretch = max(scale, 1.0)  # Enlarging looks at no more neighbours than the filter has.
    support = (2 if cubic else 1) * stretch
    middles = scale * (np.arange(wanted) + 0.5)
    first = np.maximum((middles - support + 0.5).astype(np.int64), 0)
    last = np.minimum((middles + support + 0.5).astype(np.int64), stored)
    offsets = np.arange(int((last - first).max()))
    places = first[:, None] + offsets  # (N, K)
    distance = np.abs((places - middles[:, None] + 0.5) / stretch)
    shares = np.where(places < last[:, None], _filter(distance, cubic), 0.0)
    shares /= shares.sum(axis=1, keepdims=True)
    bits = 0
    while bits < 22 and int(0.5 + shares.max() * (1 << (bits + 1))) < 1 << 15:
        bits += 1
    weights = np.trunc(shares * (1 << bits) + np.where(shares < 0, -0.5, 0.5))
    return _Taps(first, weights.astype(np.int32), bits)


def _filter(x: NDArray[np.float64], cubic: bool) -> NDArray[np.float64]:
    """Bilinear (a triangle) or bicubic (Keys 1981, a = -0.5), of distances from 0."""
    if not cubic:
        return np.maximum(1 - x, 0)
    inner = (1.5 * x - 2.5) * x * x + 1
    outer = (((x - 5) * x + 8) * x - 4) * -0.5
    return np.where(x < 1, inner, np.where(x < 2, outer, 0.0))


def _pillow(pixels: Picture, size: tuple[int, int], box: Box, *, cubic: bool) -> Picture:
    from PIL import Image  # 30 ms of import, for those only who need it.

    how = Image.Resampling.BICUBIC if cubic else Image.Resampling.BILINEAR
    image = Image.fromarray(np.ascontiguousarray(pixels)).resize(size[::-1], how)
    return box.of(np.asarray(image))


def _opencv(pixels: Picture, size: tuple[int, int], box: Box) -> Picture:
    found: NDArray[Any] = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_LINEAR)
    return box.of(found)


def _scaled_by_swscale(pixels: Picture, size: tuple[int, int], box: Box) -> Picture:
    """Frames that another decoder gave are RGB already: OpenCV's area is the nearest to swscale."""
    found: NDArray[Any] = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_AREA)
    return box.of(found)


def _truncated(short: int, long_stored: int, short_stored: int) -> int:
    return int(short * long_stored / short_stored)


def _floored_ratio(short: int, long_stored: int, short_stored: int) -> int:
    return math.floor(long_stored / short_stored * short)


def _rounded_half_up(short: int, long_stored: int, short_stored: int) -> int:
    return int(long_stored * (short / short_stored) + 0.5)


def _round_half_even(rest: int) -> int:
    return round(rest / 2)


def _floor_half(rest: int) -> int:
    return rest // 2


def _ceil_half(rest: int) -> int:
    return -(-rest // 2)


_linear_antialiased = functools.partial(_antialiased, cubic=False)
_cubic_antialiased = functools.partial(_antialiased, cubic=True)
_linear_pillow = functools.partial(_pillow, cubic=False)
_cubic_pillow = functools.partial(_pillow, cubic=True)


def _rule(
    resample: Callable[[Picture, tuple[int, int], Box], Picture],
    offset: Callable[[int], int],
    long_side: Callable[[int, int, int], int] = _truncated,
) -> Rule:
    return Rule(resample=resample, long_side=long_side, offset=offset)


_RULES: dict[Resizer, Rule] = {
    "swscale": _rule(_scaled_by_swscale, _floor_half),
    # torchvision.transforms._presets.VideoClassification
    "torchvision": _rule(_bilinear, _round_half_even),
    # transformers 5: TorchvisionBackend.resize (uint8, antialias) and .center_crop
    "torchvision_antialias": _rule(_linear_antialiased, _floor_half),
    "torchvision_antialias_bicubic": _rule(_cubic_antialiased, _floor_half),
    # torchvision.transforms._presets.ImageClassification of a Pillow image, as in its training
    "torchvision_pillow": _rule(_linear_pillow, _round_half_even),
    "torchvision_pillow_bicubic": _rule(_cubic_pillow, _round_half_even),
    # pytorchvideo.transforms.functional.short_side_scale, torchvision's CenterCropVideo
    "pytorchvideo": _rule(_bilinear, _round_half_even, _floored_ratio),
    # slowfast.datasets.transform: random_short_side_scale_jitter, uniform_crop
    "pyslowfast": _rule(_bilinear, _ceil_half, _floored_ratio),
    # transformers.image_transforms: resize, center_crop
    "pillow": _rule(_linear_pillow, _floor_half),
    "pillow_bicubic": _rule(_cubic_pillow, _floor_half),
    # mmcv.rescale_size, mmcv.imresize, mmaction's CenterCrop
    "opencv": _rule(_opencv, _floor_half, _rounded_half_up),
    # VideoMAE's own video_transforms: Resize of arrays, CenterCrop
    "videomae": _rule(_opencv, _round_half_even),
}
