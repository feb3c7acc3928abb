"""Colour of a frame: RGB and HSV histograms, colour moments, mean colour (108 numbers).

One exact 256-bin histogram per channel answers everything: the 16 bins are sums of 16 neighbours,
and mean, variance and skewness are sums over 256 values instead of 76,800 pixels.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

PARTS = (
    ("rgb_histograms", 48),
    ("hsv_histograms", 48),
    ("color_moments", 9),
    ("mean_color", 3),
)
LENGTH = 108

_LEVELS = np.arange(256, dtype=np.float64)


def describe_frame(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Colour numbers of one frame.

    Args:
        rgb: ``uint8 (H, W, 3)`` RGB.

    Returns:
        ``float32 (108,)``: RGB then HSV histograms (16 bins a channel on [0, 256), each divided by
        its sum + 1e-9; OpenCV's hue runs from 0 to 179); mean, population variance and skewness
        per RGB channel; mean colour. The skewness of a channel of one value is NaN, as in
        ``scipy.stats.skew``: it has none.
    """
    return numbers(rgb).astype(np.float32)


def numbers(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """``describe_frame`` before rounding: ``float64 (108,)``, what statistics over frames need."""
    rgb_counts = _counts(rgb)  # (3, 256)
    hsv_counts = _counts(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV))
    moments = _moments(rgb_counts)  # (3, 3)
    return np.concatenate(
        [
            _sixteen_bins(rgb_counts),
            _sixteen_bins(hsv_counts),
            moments.ravel(),
            moments[:, 0],
        ]
    )


def _counts(image: Any) -> NDArray[np.float64]:
    """Counts of each of the 256 values in each channel: ``(3, 256)``."""
    return np.stack(
        [
            cv2.calcHist([image], [channel], None, [256], [0, 256]).ravel().astype(np.float64)
            for channel in range(3)
        ]
    )


def _sixteen_bins(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 256) counts -> (48,) shares per bin of 16 values."""
    bins = counts.reshape(3, 16, 16).sum(axis=2)
    shares: NDArray[np.float64] = bins / (bins.sum(axis=1, keepdims=True) + 1e-9)
    return shares.ravel()


def _moments(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 256) counts -> (3, 3): mean, variance, skewness of each channel, exact in float64."""
    pixels = counts.sum(axis=1)
    mean = counts @ _LEVELS / pixels
    centred = _LEVELS - mean[:, None]  # (3, 256)
    variance = (counts * centred**2).sum(axis=1) / pixels
    third = (counts * centred**3).sum(axis=1) / pixels
    # A mean that is not exact leaves a constant channel a variance of 1e-28, and 0/0 a number:
    # the number of distinct values decides instead.
    constant = (counts > 0).sum(axis=1) < 2
    variance[constant] = 0.0
    skewness = np.full(3, np.nan)
    np.divide(third, variance**1.5, out=skewness, where=~constant)
    return np.stack([mean, variance, skewness], axis=1)
