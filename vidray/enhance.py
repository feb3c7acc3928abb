"""Enhancement of a frame, as in the notebooks: denoise, then sharpen; and when it is called for.

Denoising takes most of the time. Where numba is installed the same integer arithmetic runs as
vector code, bit for bit equal to OpenCV's and twice as fast on one thread.
"""

import functools
import importlib
import importlib.util
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vidray import quality

# fastNlMeansDenoisingColored(frame, None, 5, 5, 7, 21)
_STRENGTH = 5.0
_PATCH_PX = 7
_SEARCH_PX = 21
_PATCH = _PATCH_PX // 2
_SEARCH = _SEARCH_PX // 2
_BORDER = _PATCH + _SEARCH

# Compiling costs a process about as much as 100 frames of 320x240 gain from it. The result is the
# same to the bit, so few frames go through OpenCV, and many are worth the compiler's time.
_FRAMES_BEFORE_COMPILING = 100
_frames_seen = itertools.count(1)

needs_enhancement: Callable[[Mapping[str, float | None]], bool] = quality.calls_for_enhancement


def enhance(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Non-local means (Buades, Coll and Morel 2005), then an unsharp mask.

    Args:
        rgb: ``uint8 (H, W, 3)`` RGB.

    Returns:
        A new ``uint8 (H, W, 3)`` RGB frame.
    """
    return sharpen(denoise(rgb))


def sharpen(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Unsharp mask: 1.5 times the frame less 0.5 times its blur (Gaussian, sigma 1 pixel)."""
    blurred = cv2.GaussianBlur(rgb, (0, 0), 1.0)
    return cv2.addWeighted(rgb, 1.5, blurred, -0.5, 0).astype(np.uint8, copy=False)


def denoise(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``cv2.fastNlMeansDenoisingColored(frame, None, 5, 5, 7, 21)`` of an RGB frame."""
    if next(_frames_seen) <= _FRAMES_BEFORE_COMPILING or not _has_compiler():
        return _denoise_opencv(rgb)
    return _denoise_compiled(rgb)


@functools.cache
def _has_compiler() -> bool:
    return importlib.util.find_spec("numba") is not None


def _denoise_opencv(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    # The denoiser works in Lab and takes its input for BGR.
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    denoised = cv2.fastNlMeansDenoisingColored(
        bgr, None, _STRENGTH, _STRENGTH, _PATCH_PX, _SEARCH_PX
    )
    return cv2.cvtColor(denoised, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def _denoise_compiled(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    lab = cv2.cvtColor(rgb, cv2.COLOR_LRGB2Lab)
    planes = np.ascontiguousarray(lab.transpose(2, 0, 1))  # (3, H, W)
    # As OpenCV: lightness by itself, both colour planes together.
    denoised = np.concatenate([_denoise_planes(planes[:1]), _denoise_planes(planes[1:])])
    lab = np.ascontiguousarray(denoised.transpose(1, 2, 0))
    return cv2.cvtColor(lab, cv2.COLOR_Lab2LRGB).astype(np.uint8, copy=False)


def _denoise_planes(planes: NDArray[Any]) -> NDArray[np.uint8]:
    """Denoise one or two planes that share their weights: ``uint8 (channels, H, W)``, out too."""
    wide = np.stack(
        [
            cv2.copyMakeBorder(plane, _BORDER, _BORDER, _BORDER, _BORDER, cv2.BORDER_REFLECT_101)
            for plane in planes
        ]
    )
    channels, height, width = planes.shape
    table = _weight_table(channels)
    # A pixel's own patch is at distance 0 from itself.
    weights = np.full((height, width + 2 * _BORDER), table[0], np.int32)
    sums = wide[:, _BORDER : _BORDER + height].astype(np.int32) * table[0]
    _compiled()(wide, table, weights, sums)
    inside = slice(_BORDER, _BORDER + width)
    total = weights[:, inside].astype(np.int64)
    mean: NDArray[np.int64] = (sums[:, :, inside] + total // 2) // total
    return mean.astype(np.uint8)


@functools.cache
def _weight_table(channels: int) -> NDArray[np.int32]:
    """Weight of a patch by its squared distance over 64, up to the first weight of 0.

    OpenCV's fixed point: the largest weight is what lets 21 * 21 weighted values of 255 fit int32;
    49 squared differences are divided by 64, the next power of two; weights under a thousandth
    of the largest are 0.
    """
    largest = np.iinfo(np.int32).max // (_SEARCH_PX**2 * 255)
    distance = np.arange(4096) * 64 / _PATCH_PX**2
    weight = np.rint(largest * np.exp(-distance / (_STRENGTH**2 * channels)))
    weight[weight < 0.001 * largest] = 0
    ends = int(np.argmin(weight)) + 1
    return np.array(weight[:ends], np.int32)


@functools.cache
def _compiled() -> Callable[..., None]:
    """The passes below and the loop over offsets, compiled by numba."""
    jit = importlib.import_module("numba").njit(nogil=True, error_model="numpy")
    names = (_differences, _patch_sums, _look_up, _add, _add_weighted)
    differences, patch_sums, look_up, add, add_weighted = map(jit, names)
    border, search, patch = _BORDER, _SEARCH, _PATCH

    def spread(
        sums: Any,
        weights: Any,
        row: int,
        left: int,
        wide: Any,
        source: int,
        shift: int,
        weight: Any,
    ) -> None:
        """Add to one row of pixels, from ``left`` on, what the row ``source`` gives them."""
        stop = left + weight.size
        add(weights[row, left:stop], weight)
        for channel in range(wide.shape[0]):
            values = wide[channel, source, left + shift : stop + shift]
            add_weighted(sums[channel, row, left:stop], weight, values)

    spread = jit(spread)

    def accumulate(wide: Any, table: Any, weights: Any, sums: Any) -> None:
        """Add up weights and weighted values over the search window of each pixel.

        The patches at p and p + offset are as far from each other as those at p + offset and p,
        so half of the offsets are enough, each used in both directions.
        """
        height, width = weights.shape[0], wide.shape[2]
        ring = np.zeros((2 * patch + 1, width), np.int32)  # squared differences, a row each
        columns = np.zeros(width, np.int32)  # and their sums over the ring
        entry = np.zeros(width, np.int32)
        weight = np.zeros(width, np.int32)
        for offset in range(1, (search + 1) * (2 * search + 1) - search):
            down, right = divmod(offset + search, 2 * search + 1)
            right -= search
            begin, end = max(0, -right), width - max(0, right)
            length = end - begin
            patches = length - 2 * patch
            first = begin + patch  # the column of the first patch's centre
            left, stop = max(border, first), min(width - border, first + patches)
            ring[:] = 0
            columns[:] = 0
            for lower in range(border - down - patch, border + height + patch):
                differences(
                    wide[:, lower, begin:end],
                    wide[:, lower + down, begin + right : end + right],
                    ring[lower % (2 * patch + 1), :length],
                    columns[:length],
                )
                row = lower - border - patch
                if row < -down:
                    continue
                patch_sums(columns[:length], entry[:patches], table.size - 1)
                look_up(entry[:patches], table, weight[:patches])
                if row >= 0:
                    part = weight[left - first : stop - first]
                    spread(sums, weights, row, left, wide, row + down + border, right, part)
                if row + down < height:
                    begins = border - right - first
                    part = weight[begins : begins + width - 2 * border]
                    spread(sums, weights, row + down, border, wide, row + border, -right, part)

    compiled: Callable[..., None] = jit(accumulate)
    return compiled


# Each pass is one short loop over a row, of a kind that compilers turn into vector code. They are
# plain Python until _compiled hands them to numba.
def _differences(here: Any, there: Any, oldest: Any, columns: Any) -> None:
    """Squared differences of a row of pixels; those of seven rows above leave the sums."""
    if here.shape[0] == 1:
        for x in range(columns.size):
            lightness = np.int32(here[0, x]) - np.int32(there[0, x])
            square = np.int32(lightness * lightness)
            columns[x] += square - oldest[x]
            oldest[x] = square
    else:
        for x in range(columns.size):
            red_green = np.int32(here[0, x]) - np.int32(there[0, x])
            blue_yellow = np.int32(here[1, x]) - np.int32(there[1, x])
            square = np.int32(red_green * red_green + blue_yellow * blue_yellow)
            columns[x] += square - oldest[x]
            oldest[x] = square


def _patch_sums(c: Any, entry: Any, last: int) -> None:
    """Sums of seven columns, over 64, as places in the table."""
    for x in range(entry.size):
        total = c[x] + c[x + 1] + c[x + 2] + c[x + 3] + c[x + 4] + c[x + 5] + c[x + 6]
        entry[x] = min(np.int32(total) >> np.int32(6), np.int32(last))


def _look_up(entry: Any, table: Any, weight: Any) -> None:
    for x in range(entry.size):
        weight[x] = table[np.uint32(entry[x])]


def _add(total: Any, weight: Any) -> None:
    for x in range(total.size):
        total[x] += weight[x]


def _add_weighted(total: Any, weight: Any, value: Any) -> None:
    for x in range(total.size):
        total[x] += np.int32(weight[x] * np.int32(value[x]))
