"""Texture of a frame: co-occurrence, local binary patterns, Gabor energy (92 numbers).

Definitions are those of scikit-image's functions; the ways to the same numbers are faster:
joint histograms of pairs packed into one byte, integer comparisons for the binary patterns, and
one-dimensional filters for the Gabor kernels.
"""

import functools
import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

PARTS = (("glcm", 48), ("lbp", 32), ("gabor", 12))
LENGTH = 92

FREQUENCIES = (0.2, 0.4)  # cycles per pixel; the angles are 0, 45 and 90 degrees


def describe_frame(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Texture numbers of one frame.

    Args:
        rgb: ``uint8 (H, W, 3)`` RGB, at least 3 by 3 pixels.

    Returns:
        ``float32 (92,)``: co-occurrence statistics (48), uniform binary patterns (32), mean and
        variance of the Gabor magnitude (12).
    """
    return numbers(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)).astype(np.float32)


def numbers(gray: NDArray[Any]) -> NDArray[np.float64]:
    """The 92 numbers of one gray frame ``uint8 (H, W)``, in float64."""
    return np.concatenate([glcm(gray), lbp(gray), gabor(gray)])


# Co-occurrence of gray levels (Haralick 1973), distances 1 and 2, angles 0, 45, 90, 135 degrees.
# scikit-image rounds the offset of distance 2 at 45 and 135 degrees (1.41) to (1, 1): the same
# pairs as at distance 1, so six joint histograms make the eight matrices.
_OFFSETS = ((0, 1), (1, 1), (1, 0), (1, -1), (0, 2), (2, 0))
_MATRIX_OF = (0, 1, 2, 3, 4, 1, 5, 3)  # distance-major

_I = np.arange(16, dtype=np.float64)
_DIFFERENCE = np.abs(_I[:, None] - _I[None, :]).ravel()
# Columns: contrast, dissimilarity, homogeneity, as weights of the matrix' 256 cells.
_WEIGHTS = np.stack([_DIFFERENCE**2, _DIFFERENCE, 1.0 / (1.0 + _DIFFERENCE**2)], axis=1)


def glcm(gray: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Contrast, dissimilarity, homogeneity, energy, correlation and ASM of the eight matrices.

    Gray is cut to 16 levels; the matrices are symmetric and sum to 1. The correlation of a matrix
    without spread is 1, scikit-image's convention. Returns ``float64 (48,)``, distance-major.
    """
    level = gray >> 4
    height, width = gray.shape
    joint = np.empty((6, 16, 16))
    high = gray & 0xF0  # the level in the upper half of the byte: a pair is then one byte
    for k, (down, right) in enumerate(_OFFSETS):
        here = high[: height - down, max(0, -right) : width - max(0, right)]
        there = level[down:, max(0, right) : width - max(0, -right)]
        pair = cv2.bitwise_or(here, there)
        joint[k] = cv2.calcHist([pair], [0], None, [256], [0, 256]).reshape(16, 16)
    joint += joint.transpose(0, 2, 1)
    joint /= joint.sum(axis=(1, 2), keepdims=True)
    cells = joint.reshape(6, 256)
    contrast, dissimilarity, homogeneity = (cells @ _WEIGHTS).T
    asm = np.einsum("kc,kc->k", cells, cells)
    # Symmetric: rows and columns have one mean and one spread.
    marginal = joint.sum(axis=1)  # (6, 16)
    centred = _I - (marginal @ _I)[:, None]
    variance = (marginal * centred**2).sum(axis=1)
    covariance = np.einsum("ki,kij,kj->k", centred, joint, centred)
    flat = np.sqrt(variance) < 1e-15
    correlation = np.where(flat, 1.0, covariance / np.where(flat, 1.0, variance))
    properties = np.stack(
        [contrast, dissimilarity, homogeneity, np.sqrt(asm), correlation, asm]
    )  # (6, 6)
    return properties[:, _MATRIX_OF].ravel()


# Local binary patterns (Ojala 2002): 8 points at radius 1, uniform patterns.
# The four diagonal points lie between pixels: scikit-image puts them 0.70711 away (b; a = 1 - b)
# along both axes and interpolates in float64. Less the centre's value, that is
# a * b * (side + side) + b * b * corner, of the sign of 29289 * sides + 70711 * corner: an integer.
# 29 and 70 give the same sign for all differences of 8-bit values but 26 pairs of them, all with
# 29 * sides + 70 * corner from -2 to 2, and 128 = 29 + 29 + 70 times a value stays within int16.
_SIDE = 29
_CORNER = 70
_CLOSE = 2
_POINT = 0.70711
# Counter-clockwise from the right, as (down, right). Which neighbour is bit 0 does not matter for
# uniform patterns, only that neighbours on the circle are neighbours in the byte.
_CIRCLE = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))
_MAX_STEP = 3  # side pixels this far from the centre at most are looked up when they tie


def lbp(gray: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Shares of the uniform patterns of ``gray``: ``float64 (32,)``; codes run from 0 to 9."""
    counts = cv2.calcHist([lbp_patterns(gray)], [0], None, [256], [0, 256]).ravel()
    return np.bincount(uniform_codes(), weights=counts, minlength=32) / gray.size


def lbp_patterns(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The eight comparisons of each pixel, as the bits of a byte: ``uint8 (H, W)``.

    ``uniform_codes`` turns them into scikit-image's uniform codes, identical for every pixel.
    """
    height, width = gray.shape
    stride = width + 2
    padded = cv2.copyMakeBorder(gray, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    # One long row: a neighbour is a shift, whatever its direction. The two border pixels between
    # rows get patterns too, dropped at the end.
    pixels = padded.ravel().astype(np.int16)
    begin, end = stride + 1, pixels.size - stride - 1
    side = pixels * np.int16(_SIDE)
    corner = pixels * np.int16(_CORNER)
    centre = pixels[begin:end]
    centre_128 = centre << 7
    patterns = np.zeros((height, stride), np.uint8)
    pattern = patterns.ravel()[: end - begin]
    for down, right in _CIRCLE:
        shift = down * stride + right
        if down == 0 or right == 0:
            above = pixels[begin + shift : end + shift] >= centre
        else:
            value = side[begin + down * stride : end + down * stride] - centre_128
            value += side[begin + right : end + right]
            value += corner[begin + shift : end + shift]
            above = value >= 0
            value += np.int16(_CLOSE)
            close = np.flatnonzero(value.view(np.uint16) <= 2 * _CLOSE)
            if close.size:
                above[close] = _close_above(pixels, close, (height, width), down, right)
        pattern += pattern  # one bit further, faster than a shift of the comparison
        pattern |= above.view(np.uint8)
    return patterns[:, :width]


def _close_above(
    pixels: NDArray[np.int16],
    close: NDArray[np.intp],
    shape: tuple[int, int],
    down: int,
    right: int,
) -> NDArray[np.bool_]:
    """Whether the interpolated diagonal point is >= the centre where the integers leave it open.

    Mostly both are equal (flat areas, straight edges) and float64 rounding decides. scikit-image's
    result then depends on the position too: row + 0.70711 is rounded before its fraction is taken,
    which leaves about ten different fractions along each axis. A table over them answers small
    steps; the rest is computed.
    """
    stride = shape[1] + 2
    place, table = _tie_table(*shape, down, right)
    at = close + stride + 1
    centre = pixels.take(at)
    vertical = pixels.take(at + down * stride)
    corner = pixels.take(at + down * stride + right)
    # Equality with the corner equal to the centre leaves the horizontal side no choice.
    step = vertical - centre
    step += np.int16(_MAX_STEP)
    tabled = (step.view(np.uint16) <= 2 * _MAX_STEP) & (corner == centre)
    entry = place.take(close)
    entry += centre * np.int16(2 * _MAX_STEP + 1)
    entry += step
    above = table.take(entry, mode="clip")
    others = np.flatnonzero(~tabled)
    if others.size:
        row, column = np.divmod(close[others], stride)
        horizontal = pixels[at[others] + right]
        above[others] = _interpolated_above(
            _fraction(row, down),
            _fraction(column, right),
            (down, right),
            (centre[others], vertical[others], horizontal),
            corner[others],
        )
    return above


def _fraction(position: NDArray[np.intp], direction: int) -> NDArray[np.float64]:
    """The point's distance from the pixel before it, as scikit-image takes it."""
    point = position + direction * _POINT
    fraction: NDArray[np.float64] = point - np.floor(point)
    return fraction


def _interpolated_above(
    row_fraction: NDArray[np.float64],
    column_fraction: NDArray[np.float64],
    direction: tuple[int, int],
    cross: tuple[Any, Any, Any],
    corner: Any,
) -> NDArray[np.bool_]:
    """Bilinear interpolation in scikit-image's order of operations, compared with the centre.

    ``cross`` is the centre, the pixel above or below it, and the pixel left or right of it.
    """
    down, right = direction
    centre, vertical, horizontal = cross
    near_row = (centre, horizontal) if right > 0 else (horizontal, centre)
    far_row = (vertical, corner) if right > 0 else (corner, vertical)
    top, bottom = (near_row, far_row) if down > 0 else (far_row, near_row)
    upper = (1 - column_fraction) * top[0] + column_fraction * top[1]
    lower = (1 - column_fraction) * bottom[0] + column_fraction * bottom[1]
    value = (1 - row_fraction) * upper + row_fraction * lower
    above: NDArray[np.bool_] = value - centre >= 0
    return above


@functools.lru_cache(maxsize=16)
def _tie_table(
    height: int, width: int, down: int, right: int
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """A table for ties, and where each pixel's part of it begins.

    The table answers (row fraction, column fraction, centre value, step of the vertical side); the
    horizontal side is then as far on the other side of the centre, and the corner its equal.
    """
    steps = 2 * _MAX_STEP + 1
    rows, row_class = np.unique(_fraction(np.arange(height), down), return_inverse=True)
    # The border columns between rows need a place, not an answer.
    columns, column_class = np.unique(_fraction(np.arange(width), right), return_inverse=True)
    column_class = np.append(column_class, [0, 0])
    place = (row_class[:, None] * columns.size + column_class) * 256 * steps
    centre = np.arange(256)[:, None]
    step = np.arange(-_MAX_STEP, _MAX_STEP + 1)
    table = _interpolated_above(
        rows[:, None, None, None],
        columns[:, None, None],
        (down, right),
        (centre, centre + step, centre - step),
        centre,
    )
    return place.astype(np.int32).ravel(), np.broadcast_to(
        table, (rows.size, columns.size, 256, steps)
    ).ravel()


@functools.cache
def uniform_codes() -> NDArray[np.intp]:
    """(256,): for each byte of comparisons, the number of ones if it is uniform, else 9."""
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1
    changes = (bits != np.roll(bits, 1, axis=1)).sum(axis=1)
    return np.where(changes <= 2, bits.sum(axis=1), 9).astype(np.intp)


# Gabor filters (Gabor 1946; Kruizinga and Petkov 1999), bandwidth one octave, three sigmas.
# The envelope is round, so each kernel is a product of a row and a column of complex numbers.
def gabor(gray: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean and variance of the magnitude of ``gray / 255``, for 2 frequencies by 3 angles.

    Returns ``float64 (12,)``, frequency-major. Filters run in float32; sums in float64.
    """
    image = gray.astype(np.float32)
    statistics: list[float] = []
    for frequency in FREQUENCIES:
        envelope, wave_cos, wave_sin = _axis_kernels(frequency)
        down = _filter(image, envelope)
        along = _filter(image, envelope.T)
        statistics += _magnitude(_filter(down, wave_cos.T), _filter(down, wave_sin.T))
        statistics += _magnitude(*_diagonal(image, frequency))
        statistics += _magnitude(_filter(along, wave_cos), _filter(along, wave_sin))
    return np.array(statistics)


def _filter(image: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[Any]:
    return cv2.filter2D(image, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT)


def _diagonal(image: NDArray[np.float32], frequency: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Real and imaginary response at 45 degrees, up to a phase that the magnitude does not see.

    Shifting the image's spectrum (a product with the wave) and blurring with the round envelope
    is the same filter, in two separable passes instead of six.
    """
    envelope = _diagonal_envelope(frequency)
    radius = envelope.size // 2
    height, width = image.shape
    padded = cv2.copyMakeBorder(image, radius, radius, radius, radius, cv2.BORDER_REFLECT)
    inside = (slice(radius, radius + height), slice(radius, radius + width))
    wave_cos, wave_sin = _diagonal_wave(frequency, padded.shape[0], padded.shape[1])
    real = cv2.sepFilter2D(padded * wave_cos, cv2.CV_32F, envelope, envelope)
    imaginary = cv2.sepFilter2D(padded * wave_sin, cv2.CV_32F, envelope, envelope)
    return real[inside], imaginary[inside]


def _magnitude(real: NDArray[Any], imaginary: NDArray[Any]) -> tuple[float, float]:
    """Mean and population variance of the magnitude."""
    magnitude = cv2.magnitude(real, imaginary)
    # Both sums run in float64, at a third of the time of cv2.meanStdDev.
    mean = cv2.sumElems(magnitude)[0] / magnitude.size
    mean_square = cv2.norm(magnitude, cv2.NORM_L2SQR) / magnitude.size
    return mean, max(0.0, mean_square - mean**2)


def _sigma(frequency: float) -> float:
    """Spread in pixels of a kernel of one octave's bandwidth: 0.56 wavelengths."""
    return math.sqrt(math.log(2) / 2) / math.pi * 3 / frequency


def _envelope(frequency: float, radius: int) -> NDArray[np.float64]:
    sigma = _sigma(frequency)
    offsets = np.arange(-radius, radius + 1)
    gaussian: NDArray[np.float64] = np.exp(-0.5 * (offsets / sigma) ** 2)
    return gaussian / math.sqrt(2 * math.pi) / sigma


@functools.cache
def _axis_kernels(
    frequency: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Columns ``(2 * radius + 1, 1)``: the envelope over 255, and the envelope times the wave."""
    radius = math.ceil(3 * _sigma(frequency))
    envelope = _envelope(frequency, radius)[:, None]
    phase = 2 * math.pi * frequency * np.arange(-radius, radius + 1)[:, None]
    return (
        (envelope / 255).astype(np.float32),
        (envelope * np.cos(phase)).astype(np.float32),
        (envelope * np.sin(phase)).astype(np.float32),
    )


@functools.cache
def _diagonal_envelope(frequency: float) -> NDArray[np.float32]:
    # scikit-image cuts the window to what three sigmas span along each axis: less at 45 degrees.
    radius = math.ceil(3 * _sigma(frequency) * math.cos(math.pi / 4))
    return _envelope(frequency, radius).astype(np.float32)


@functools.lru_cache(maxsize=8)
def _diagonal_wave(
    frequency: float, height: int, width: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosine and sine of the plane wave over 255, ``(height, width)`` each."""
    position = np.arange(height)[:, None] + np.arange(width)[None, :]
    phase = 2 * math.pi * frequency * math.cos(math.pi / 4) * position
    return (np.cos(phase) / 255).astype(np.float32), (np.sin(phase) / 255).astype(np.float32)
