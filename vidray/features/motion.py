"""Motion between sampled frames, as in the notebooks: 72 numbers per video.

Sampled frames are about a second apart, so this is change rather than motion; motion between
adjacent frames is the ``flow`` family.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

PARTS = (("frame_difference", 24), ("lucas_kanade", 10), ("horn_schunck", 38))
LENGTH = 72

DIFFERENCE_FRAMES = 10  # the frame difference looks at this many first sampled frames
# Weight of smoothness, in gray levels per pixel: where the gradient is below it, flow follows its
# neighbours. 10 is above the noise of gray levels (1 to 5) and below edges (50 and more).
HORN_SCHUNCK_ALPHA = 10.0
# The most the paper shows. On texture shifted by half a pixel the mean flow is within 10 % by then.
HORN_SCHUNCK_ITERATIONS = 64
# Bins of half a pixel; larger magnitudes fall into the last.
MAGNITUDE_RANGE_PX = (0.0, 8.0)
# Flow is linear in the change over time. Scaled by a power of two, which costs no precision, what
# spreads thinly into still areas (12 ** -64 of a pixel) stays above float32's smallest number: its
# angle is kept, and denormal numbers, a hundred times slower, do not come up.
_SCALE = 2.0**100


def describe(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Motion numbers of a video.

    Args:
        frames: ``uint8 (T, H, W, 3)`` RGB, in order of time.

    Returns:
        ``float32 (72,)``: frame difference (24), Lucas-Kanade (10), Horn-Schunck (38). All NaN for
        fewer than two frames: there is nothing to compare.
    """
    return from_gray(
        [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames[:DIFFERENCE_FRAMES]]
    )


def from_gray(grays: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """``describe`` for gray frames ``uint8 (H, W)``; those after the tenth are not looked at."""
    if len(grays) < 2:
        return np.full(LENGTH, np.nan, np.float32)
    return np.concatenate(
        [
            frame_difference(grays),
            lucas_kanade(grays[0], grays[1]),
            horn_schunck_statistics(*horn_schunck(grays[0], grays[1])),
        ]
    ).astype(np.float32)


def frame_difference(grays: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """Differences of consecutive frames: ``float64 (24,)``.

    Mean, std, min, max and the quartiles (25, 50, 75 %) over the pairs' mean absolute differences,
    the number of frames looked at (10 at most), and a density histogram of all differences in 16
    bins on [0, 255].
    """
    used = grays[:DIFFERENCE_FRAMES]
    counts = np.zeros(256)
    means = np.empty(len(used) - 1)
    levels = np.arange(256)
    for k in range(len(means)):
        difference = cv2.absdiff(used[k], used[k + 1])
        pair_counts = cv2.calcHist([difference], [0], None, [256], [0, 256]).ravel()
        means[k] = pair_counts.astype(np.float64) @ levels / difference.size
        counts += pair_counts
    density, _ = np.histogram(levels, bins=16, range=(0, 255), weights=counts, density=True)
    quartiles = np.percentile(means, [25, 50, 75])
    summary = [means.mean(), means.std(), means.min(), means.max(), *quartiles, len(used)]
    return np.concatenate([summary, density])


def lucas_kanade(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    """Sparse optical flow (Lucas and Kanade 1981; pyramids: Bouguet 2000): ``float64 (10,)``.

    Over the corners of the first frame found again in the second: magnitude mean, std, min, max,
    mean cosine and mean sine of the angle, count, magnitude median, 75th and 25th percentile.
    Without any, the count is 0 and the rest NaN.
    """
    corners = cv2.goodFeaturesToTrack(first, 200, 0.01, 7)
    moved = np.empty((0, 2))
    if corners is not None:
        found, status, _ = cv2.calcOpticalFlowPyrLK(first, second, corners, np.empty_like(corners))
        tracked = status.ravel() == 1
        moved = (found - corners).reshape(-1, 2)[tracked].astype(np.float64)
    if not len(moved):
        statistics = np.full(10, np.nan)
        statistics[6] = 0
        return statistics
    magnitude = np.hypot(moved[:, 0], moved[:, 1])
    angle = np.arctan2(moved[:, 1], moved[:, 0])
    median, upper, lower = np.percentile(magnitude, [50, 75, 25])
    return np.array(
        [
            magnitude.mean(),
            magnitude.std(),
            magnitude.min(),
            magnitude.max(),
            np.cos(angle).mean(),
            np.sin(angle).mean(),
            len(moved),
            median,
            upper,
            lower,
        ]
    )


def horn_schunck(
    first: NDArray[Any],
    second: NDArray[Any],
    *,
    alpha: float = HORN_SCHUNCK_ALPHA,
    iterations: int = HORN_SCHUNCK_ITERATIONS,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Dense optical flow of Horn and Schunck (1981), by Jacobi iterations from zero flow.

    Derivatives are averages over the 2x2x2 cube of pixels; the local mean weighs the four nearest
    pixels 1/6 and the diagonal ones 1/12; borders repeat the outermost pixel.

    Args:
        first, second: ``uint8 (H, W)`` gray.
        alpha: weight of smoothness, in gray levels per pixel.
        iterations: how many Jacobi iterations.

    Returns:
        Flow to the right and down, ``float64 (H, W)`` each (of float32 precision), in pixels per
        frame pair.
    """
    before, after = first.astype(np.float32), second.astype(np.float32)
    along = np.array([[-1, 1], [-1, 1]], np.float32) / 4
    slope_x = _cube_mean(before + after, along)
    slope_y = _cube_mean(before + after, along.T)
    slope_t = _cube_mean(after - before, np.full((2, 2), _SCALE / 4, np.float32))
    # One iteration is u = u_mean - x * s, v = v_mean - y * s, s = x * u_mean + y * v_mean + t
    # once x, y and t are divided by sqrt(alpha^2 + x^2 + y^2): four fused multiply-adds.
    scale = 1 / np.sqrt(np.float32(alpha**2) + slope_x**2 + slope_y**2)
    x, y, t = slope_x * scale, slope_y * scale, slope_t * scale
    minus_x, minus_y = -x, -y
    u, v = np.zeros_like(x), np.zeros_like(x)
    u_mean, v_mean, s = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    neighbours = np.array([[1, 2, 1], [2, 0, 2], [1, 2, 1]], np.float32) / 12
    for _ in range(iterations):
        cv2.filter2D(u, cv2.CV_32F, neighbours, dst=u_mean, borderType=cv2.BORDER_REPLICATE)
        cv2.filter2D(v, cv2.CV_32F, neighbours, dst=v_mean, borderType=cv2.BORDER_REPLICATE)
        np.copyto(s, t)
        cv2.accumulateProduct(x, u_mean, s)
        cv2.accumulateProduct(y, v_mean, s)
        cv2.accumulateProduct(minus_x, s, u_mean)
        cv2.accumulateProduct(minus_y, s, v_mean)
        u, u_mean = u_mean, u
        v, v_mean = v_mean, v
    return u.astype(np.float64) / _SCALE, v.astype(np.float64) / _SCALE


def _cube_mean(image: NDArray[Any], kernel: NDArray[Any]) -> NDArray[Any]:
    """Weighted sum over each pixel and its right, lower and lower right neighbours."""
    return cv2.filter2D(image, cv2.CV_32F, kernel, anchor=(0, 0), borderType=cv2.BORDER_REPLICATE)


def horn_schunck_statistics(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
    """A dense flow in 38 numbers, ``float64``.

    Magnitude mean, std, min, max; density histograms of 16 bins of the magnitude on [0, 8] pixels
    (larger ones count in the last bin) and of the angle on [-pi, pi]; mean cosine and sine of the
    angle. Where nothing moves, the angle is 0, as ``arctan2`` has it.
    """
    magnitude = cv2.magnitude(u, v)
    angle = np.arctan2(v, u)
    within = np.minimum(magnitude, MAGNITUDE_RANGE_PX[1])
    magnitudes, _ = np.histogram(within, bins=16, range=MAGNITUDE_RANGE_PX, density=True)
    angles, _ = np.histogram(angle, bins=16, range=(-np.pi, np.pi), density=True)
    mean, deviation = cv2.meanStdDev(magnitude)
    smallest, largest, _, _ = cv2.minMaxLoc(magnitude)
    return np.concatenate(
        [
            [mean[0, 0], deviation[0, 0], smallest, largest],
            magnitudes,
            angles,
            [np.cos(angle).mean(), np.sin(angle).mean()],
        ]
    )
