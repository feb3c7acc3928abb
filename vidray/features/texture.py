"""Texture of a frame: co-occurrence, local binary patterns, Gabor energy (92 numbers).

Definitions are those of scikit-image's functions; the ways to the same numbers are faster:
joint histograms of pairs packed into one byte, integer comparisons for the binary patterns, and
one-dimensional filters for the Gabor kernels.
"""

import functools
import math

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


def numbers(gray: NDArray[np.uint8]) -> NDArray[np.float64]:
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
# The four diagonal points lie between pixels: scikit-image puts them at 0.70711 (five decimals)
# and interpolates in float64, b = 0.70711, a = 1 - b. With the centre's value taken away, the
# interpolated value is a*b*(side1 + side2) + b*b*corner, of the sign of
# 29289*(side1 + side2) + 70711*corner: an integer. 29 and 70 give the same sign for all
# differences of 8-bit values but those where 29*sides + 70*corner is 0, and keep to int16.
_NEAR = 29
_FAR = 70
_POINT = 0.70711
# Going round as scikit-image does; which neighbour is bit k does not matter for uniform patterns,
# only that neighbours in the circle are neighbours in the byte.
_CIRCLE = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))


def lbp(gray: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Shares of the uniform patterns of ``gray``: ``float64 (32,)``; codes run from 0 to 9."""
    counts = np.bincount(lbp_codes(gray).ravel(), minlength=256)
    shares = np.zeros(32)
    np.add.at(shares, _uniform_code(), counts / gray.size)
    return shares


def lbp_codes(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The eight comparisons of each pixel, as the bits of a byte: ``uint8 (H, W)``.

    ``_uniform_code`` turns them into scikit-image's uniform codes, identical for every pixel.
    """
    padded = cv2.copyMakeBorder(gray, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    wide = padded.astype(np.int16)
    height, width = gray.shape

    def shifted(image: NDArray[np.int16], down: int, right: int) -> NDArray[np.int16]:
        return image[1 + down : 1 + down + height, 1 + right : 1 + right + width]

    centre = shifted(wide, 0, 0)
    near = wide * np.int16(_NEAR)
    far = wide * np.int16(_FAR)
    centre_128 = centre << 7  # 2 * 29 + 70 = 128, and 128 * 255 fits int16
    pattern = np.zeros(gray.shape, np.uint8)
    for bit, (down, right) in enumerate(_CIRCLE):
        if down == 0 or right == 0:
            above = shifted(wide, down, right) >= centre
        else:
            value = shifted(near, down, 0) + shifted(near, 0, right)
            value += shifted(far, down, right)
            value -= centre_128
            above = value >= 0
            ties = np.flatnonzero(value == 0)
            if ties.size:
                above.ravel()[ties] = _interpolated_above(padded, ties, width, down, right)
        pattern |= above.view(np.uint8) << np.uint8(bit)
    return pattern


def _interpolated_above(
    padded: NDArray[np.uint8], ties: NDArray[np.intp], width: int, down: int, right: int
) -> NDArray[np.bool_]:
    """Whether the interpolated diagonal point is >= the centre, at the pixels ``ties``.

    Where the exact values are equal (flat areas, straight edges), float64 rounding decides, so
    these pixels go through the same operations in the same order as in scikit-image: the position
    row + 0.70711 is rounded first, and its fraction differs between rows.
    """
    row, column = np.divmod(ties, width)
    point_row = row + down * _POINT
    point_column = column + right * _POINT
    top = np.floor(point_row)
    left = np.floor(point_column)
    rest_row = point_row - top
    rest_column = point_column - left
    stride = width + 2
    pixels = padded.ravel()
    corner = (top.astype(np.intp) + 1) * stride + left.astype(np.intp) + 1
    upper = (1 - rest_column) * pixels[corner] + rest_column * pixels[corner + 1]
    lower = (1 - rest_column) * pixels[corner + stride] + rest_column * pixels[corner + stride + 1]
    value = (1 - rest_row) * upper + rest_row * lower
    above: NDArray[np.bool_] = value - pixels[(row + 1) * stride + column + 1] >= 0
    return above


@functools.cache
def _uniform_code() -> NDArray[np.intp]:
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


def _filter(image: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    filtered: NDArray[np.float32] = cv2.filter2D(
        image, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT
    )
    return filtered


def _diagonal(
    image: NDArray[np.float32], frequency: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
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


def _magnitude(real: NDArray[np.float32], imaginary: NDArray[np.float32]) -> tuple[float, float]:
    """Mean and population variance of the magnitude."""
    mean, deviation = cv2.meanStdDev(cv2.magnitude(real, imaginary))
    return float(mean[0, 0]), float(deviation[0, 0]) ** 2


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
