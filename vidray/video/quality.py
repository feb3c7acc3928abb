"""Quality numbers of a picture: sharp, noisy, blocky, dark, flat, frozen, black.

They become columns of the result table and decide which frames ``enhance=auto`` touches.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# What one frame has, and what only a run of frames has; together the columns of the table.
FRAME_COLUMNS = ("sharpness", "noise", "blockiness", "brightness", "contrast")
CLIP_COLUMNS = ("near_duplicate_share", "black_share")
COLUMNS = FRAME_COLUMNS + CLIP_COLUMNS

# JPEG and MPEG-1, -2 and -4 transform blocks of 8x8 pixels; H.264 blocks lie on the same grid.
BLOCK_PX = 8

# A frame is black where 98 % of its pixels are below 32 of 255: FFmpeg's blackframe defaults.
BLACK_LEVEL = 32
BLACK_PIXEL_SHARE = 0.98

# Two frames show the same picture where gray differs by less than half a level on average: what
# coding a repeat again changes by rounding. In 203 surveillance clips no pair a second apart
# came below 0.87, 29 % of adjacent pairs came below 0.5 (repeats, or nobody moves).
NEAR_DUPLICATE_LEVELS = 0.5

# Blurred by a Gaussian of sigma 2, every one of 233 surveillance frames (320x240) came below 35;
# 2 % of the untouched ones came below 100.
BLURRED_SHARPNESS = 100.0

# White noise puts 20 s^2 into the Laplacian and 0.92 s into what a 7x7 Gaussian takes away, so
# sharpness / noise^2 nears 24; edges of real things span more than a pixel and stay low. Of 117
# surveillance frames 5 % came above 10.5 untouched, 95 % with noise of sigma 20 per channel.
NOISY_RATIO = 11.0
# Below this the noise is too faint to see, and the ratio is one of rounding errors.
NOISY_LEVELS = 5.0


def measure(
    frames: NDArray[np.uint8], *, stored: NDArray[np.uint8] | None = None
) -> dict[str, float | None]:
    """The numbers of a clip: means over its frames, and the shares of poor ones.

    Args:
        frames: ``uint8 (T, H, W, 3)`` RGB, in order of time.
        stored: some frames in the size they were coded in, where ``frames`` are resized: a codec's
            blocks show only there, so blockiness is measured on these.

    Returns:
        one number for each of ``COLUMNS``: the means of what ``measure_frame`` gives;
        near_duplicate_share, the share of the T - 1 successive pairs whose gray differs by less
        than ``NEAR_DUPLICATE_LEVELS``; black_share, the share of the T frames that are black.
        None where there is nothing to measure: near_duplicate_share of one frame, all of none.
    """
    grays = [_to_gray(frame) for frame in frames]
    per_frame = [_measure_gray(gray) for gray in grays]
    repeats = [
        float(cv2.absdiff(before, after).mean()) < NEAR_DUPLICATE_LEVELS
        for before, after in itertools.pairwise(grays)
    ]
    numbers = {name: _mean([found[name] for found in per_frame]) for name in FRAME_COLUMNS}
    if stored is not None:
        numbers["blockiness"] = _mean([_blockiness(_to_gray(frame)) for frame in stored])
    numbers["near_duplicate_share"] = _mean(repeats)
    numbers["black_share"] = _mean([_is_black(gray) for gray in grays])
    return numbers


def measure_frame(frame: NDArray[np.uint8]) -> dict[str, float | None]:
    """The numbers of one frame.

    Args:
        frame: ``uint8 (H, W, 3)`` RGB. Sharpness, noise and blockiness depend on its size; the
            last sees a codec's blocks only where the frame has the size it was coded in.

    Returns:
        sharpness: variance of the Laplacian of gray (Pech-Pacheco et al. 2000), levels^2;
        noise: standard deviation of gray minus its 7x7 Gaussian blur, levels;
        blockiness: mean absolute step across the borders of 8x8 blocks over the mean step
        inside them: 1 without blocks; None where there is no border or no step inside;
        brightness, contrast: mean and standard deviation of gray, levels.
    """
    return _measure_gray(_to_gray(frame))


def calls_for_enhancement(numbers: Mapping[str, float | None]) -> bool:
    """Whether denoising and sharpening would help a frame: it is blurred, or it is noisy.

    Args:
        numbers: what ``measure_frame`` gives for the frame at the size features are computed at.
    """
    sharpness, noise = numbers["sharpness"], numbers["noise"]
    if sharpness is None or noise is None:
        return False
    blurred = sharpness < BLURRED_SHARPNESS
    noisy = noise > NOISY_LEVELS and sharpness > NOISY_RATIO * noise**2
    return blurred or noisy


def _to_gray(frame: NDArray[np.uint8]) -> NDArray[Any]:
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)  # (H, W), uint8


def _measure_gray(gray: NDArray[Any]) -> dict[str, float | None]:
    fine = gray.astype(np.float32)
    # Sigma 0 is OpenCV's own kernel of that size, (1, 3.5, 7, 9, 7, 3.5, 1) / 32, sigma about 1.4.
    residual = cv2.subtract(fine, cv2.GaussianBlur(fine, (7, 7), 0))
    brightness, contrast = _mean_and_std(gray)
    return {
        "sharpness": _mean_and_std(cv2.Laplacian(gray, cv2.CV_16S))[1] ** 2,
        "noise": _mean_and_std(residual)[1],
        "blockiness": _blockiness(gray),
        "brightness": brightness,
        "contrast": contrast,
    }


def _mean_and_std(image: NDArray[Any]) -> tuple[float, float]:
    mean, std = cv2.meanStdDev(image)  # float64, population
    return float(mean[0, 0]), float(std[0, 0])


def _blockiness(gray: NDArray[Any]) -> float | None:
    """Mean step across block borders over mean step inside blocks, both directions together."""
    border_sum = inside_sum = 0.0
    border_count = inside_count = 0
    for image in (gray, gray.T):
        steps = np.abs(np.diff(image.astype(np.int16), axis=1))  # (H, W - 1); step k: k to k + 1
        at_border = steps[:, BLOCK_PX - 1 :: BLOCK_PX]
        border_sum += float(at_border.sum())
        border_count += at_border.size
        inside_sum += float(steps.sum()) - float(at_border.sum())
        inside_count += steps.size - at_border.size
    if border_count == 0 or inside_sum == 0.0:
        return None
    return (border_sum / border_count) / (inside_sum / inside_count)


def _is_black(gray: NDArray[Any]) -> bool:
    return bool((gray < BLACK_LEVEL).mean() >= BLACK_PIXEL_SHARE)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
