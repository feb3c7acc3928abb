"""The library calls that define each part of the notebooks' families, and frames to compare on."""

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import scipy.ndimage
import scipy.stats
from numpy.typing import NDArray
from skimage.feature import graycomatrix, graycoprops, hog, local_binary_pattern
from skimage.filters import gabor

from tests.shared_data import FIGHT

Numbers = NDArray[np.float64]
Image = NDArray[Any]  # uint8, gray (H, W) or RGB (H, W, 3)


def color(rgb: Image) -> Numbers:
    """Histograms by cv2.calcHist, moments by numpy and scipy."""
    parts = []
    for image in (rgb, cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)):
        for channel in range(3):
            histogram = cv2.calcHist([image], [channel], None, [16], [0, 256]).ravel()
            parts.append(histogram / (histogram.sum() + 1e-9))
    channels = [rgb[..., channel].ravel().astype(np.float64) for channel in range(3)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy warns of the skewness of one value
        moments = [[c.mean(), c.var(), scipy.stats.skew(c)] for c in channels]
    return np.concatenate([*parts, *moments, [c.mean() for c in channels]])


def glcm(gray: Image) -> Numbers:
    """Co-occurrence by scikit-image."""
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    matrix = graycomatrix(gray // 16, [1, 2], angles, levels=16, symmetric=True, normed=True)
    names = ("contrast", "dissimilarity", "homogeneity", "energy", "correlation", "ASM")
    return np.concatenate([graycoprops(matrix, name).ravel() for name in names])


def lbp(gray: Image) -> Numbers:
    """Local binary patterns by scikit-image."""
    codes = local_binary_pattern(gray, 8, 1, "uniform")
    return np.histogram(codes, bins=32, range=(0, 32), density=True)[0]


def gabor_energy(gray: Image) -> Numbers:
    """Gabor magnitudes by scikit-image."""
    statistics = []
    for frequency in (0.2, 0.4):
        for angle in (0, np.pi / 4, np.pi / 2):
            real, imaginary = gabor(gray / 255.0, frequency, theta=angle)
            magnitude = np.hypot(real, imaginary)
            statistics += [magnitude.mean(), magnitude.var()]
    return np.array(statistics)


def edge_profile(gray: Image) -> Numbers:
    """Column sums of the edges, by numpy."""
    columns = cv2.Canny(gray, 80, 160).sum(axis=0)
    return np.histogram(columns, bins=16, density=True)[0]


def contours(gray: Image) -> Numbers:
    """External contours by OpenCV, one at a time."""
    found, _ = cv2.findContours(
        cv2.Canny(gray, 80, 160), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    if not found:
        return np.zeros(6)
    areas = np.array([cv2.contourArea(contour) for contour in found])
    lengths = np.array([cv2.arcLength(contour, True) for contour in found])
    return np.array(
        [len(found), areas.mean(), areas.var(), lengths.mean(), lengths.var(), areas.sum()]
    )


def hog_vector(gray: Image) -> Numbers:
    """Histogram of oriented gradients by scikit-image."""
    return hog(gray, 9, (8, 8), (2, 2), block_norm="L2-Hys")


def frame_vector(rgb: Image) -> Numbers:
    """All 40,938 numbers of a frame, by the library calls."""
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    parts: tuple[Callable[[Image], Numbers], ...] = (
        glcm, lbp, gabor_energy, edge_profile, contours, hog_vector,
    )  # fmt: skip
    return np.concatenate([color(rgb), *(part(gray) for part in parts)])


def frame_difference(grays: list[Image]) -> Numbers:
    """Differences of the first ten frames, by numpy."""
    used = [gray.astype(np.float64) for gray in grays[:10]]
    differences = np.abs(np.diff(np.stack(used), axis=0))
    means = differences.mean(axis=(1, 2))
    quartiles = np.percentile(means, [25, 50, 75])
    summary = [means.mean(), means.std(), means.min(), means.max(), *quartiles, len(used)]
    return np.concatenate(
        [summary, np.histogram(differences, bins=16, range=(0, 255), density=True)[0]]
    )


def horn_schunck(
    first: Image, second: Image, *, alpha: float, iterations: int
) -> tuple[Numbers, Numbers]:
    """Horn and Schunck's equations in float64, one derivative and one iteration as in the paper."""
    cube = np.stack([first, second]).astype(np.float64)  # (2, H, W)
    cube = np.pad(cube, ((0, 0), (0, 1), (0, 1)), mode="edge")
    corners = {
        (k, i, j): cube[k, i : i + first.shape[0], j : j + first.shape[1]]
        for k in range(2)
        for i in range(2)
        for j in range(2)
    }

    def slope(axis: int) -> Numbers:
        signed = [values if at[axis] else -values for at, values in corners.items()]
        return np.sum(signed, axis=0) / 4

    slope_t, slope_y, slope_x = slope(0), slope(1), slope(2)
    kernel = np.array([[1, 2, 1], [2, 0, 2], [1, 2, 1]]) / 12
    u, v = np.zeros(first.shape), np.zeros(first.shape)
    for _ in range(iterations):
        u_mean = scipy.ndimage.correlate(u, kernel, mode="nearest")
        v_mean = scipy.ndimage.correlate(v, kernel, mode="nearest")
        shared = (slope_x * u_mean + slope_y * v_mean + slope_t) / (
            alpha**2 + slope_x**2 + slope_y**2
        )
        u, v = u_mean - slope_x * shared, v_mean - slope_y * shared
    return u, v


def made_frames() -> dict[str, Image]:
    """Frames that a camera rarely gives: ``uint8 (240, 320, 3)`` each."""
    rng = np.random.default_rng(7)
    row, column = np.mgrid[:240, :320]
    nearly_flat = np.full((240, 320, 3), 100, np.uint8)
    nearly_flat[100:102, 50:60] = 101

    def gray(values: NDArray[np.generic]) -> Image:
        return np.repeat(values.astype(np.uint8)[..., None], 3, axis=2)

    return {
        "black": np.zeros((240, 320, 3), np.uint8),
        "white": np.full((240, 320, 3), 255, np.uint8),
        "flat": np.full((240, 320, 3), (13, 90, 201), np.uint8),
        "gradient": np.dstack([column * 255 // 320, row, (row + column) // 3]).astype(np.uint8),
        "noise": rng.integers(0, 256, (240, 320, 3), dtype=np.uint8),
        "saturated": ((rng.random((240, 320, 3)) > 0.5) * 255).astype(np.uint8),
        "stripes": gray(column // 4 % 2 * 200),
        "ramp": gray((2 * column + 3 * row) % 256),
        "nearly flat": nearly_flat,
        # Steps of 70, 29, 99 and 239 levels: what the integer comparison of patterns cannot tell.
        "steps": gray(rng.choice([0, 29, 70, 99, 140, 169, 239, 240], (240, 320))),
        "faint noise": gray(rng.choice([127, 128, 129], (240, 320))),
    }


@functools.cache
def real_frames() -> tuple[Image, ...]:
    """Six frames a second apart from two fight clips, 320x240: for tests marked ``shared``."""
    frames: list[Image] = []
    for folder in ("fight", "no_fight"):
        for path in sorted((FIGHT / folder).glob("*.mp4"))[3:4]:
            frames += sampled_frames(path)[:3]
    return tuple(frames)


def sampled_frames(path: Path) -> list[Image]:
    """One frame a second of a clip, 320x240 RGB."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stride = max(1, round(float(stream.average_rate or 1)))
        return [
            cv2.resize(frame.to_ndarray(format="rgb24"), (320, 240), interpolation=cv2.INTER_AREA)
            for index, frame in enumerate(container.decode(video=0))
            if index % stride == 0
        ]


def worst_error(found: NDArray[Any], reference: NDArray[Any]) -> float:
    """Largest error relative to the reference or to 0.01, whichever is larger.

    At most 1e-4 means: within 1e-4 relative, or within 1e-6. NaN must match NaN.
    """
    found, reference = found.astype(np.float64), reference.astype(np.float64)
    assert found.shape == reference.shape
    assert np.array_equal(np.isnan(found), np.isnan(reference))
    known = ~np.isnan(reference)
    size = np.maximum(np.abs(reference[known]), 1e-2)
    return float((np.abs(found[known] - reference[known]) / size).max(initial=0.0))
