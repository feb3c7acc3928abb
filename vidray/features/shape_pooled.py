"""Shape in a few hundred numbers: oriented gradients in pooled cells, for frames of any size.

HOG (Dalal and Triggs 2005) with 8-pixel cells is 40,716 numbers for one 320x240 frame, more than
there are videos to learn from. Here a frame has 6 x 8 cells, each measured against the cells
around it instead of being repeated in every block it belongs to (as Felzenszwalb et al. 2010
reduce HOG): 432 numbers, and their mean and standard deviation over the frames.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from vidray.features.family import Family

ROWS, COLUMNS, ORIENTATIONS = 6, 8, 9
# Frames are averaged down to this first: cells of 20x20 pixels, and edges that compression or
# noise drew are gone. Any size and shape of frame ends on the same grid.
WIDTH_PX, HEIGHT_PX = 160, 120
# Gradients are in gray levels per pixel; a neighbourhood that has less than one per pixel is
# flat, and is not blown up to look like a shape.
FLAT_GRADIENT = 1.0
# Dalal and Triggs: no one orientation counts for more than this before the second normalisation.
CLIP = 0.2

FRAME_LENGTH = ROWS * COLUMNS * ORIENTATIONS  # 432
PARTS = (("hog_mean", FRAME_LENGTH), ("hog_std", FRAME_LENGTH))


def describe(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean and standard deviation (population) of ``describe_frame`` over the frames.

    Args:
        frames: ``uint8 (T, H, W, 3)`` RGB, any size.

    Returns:
        ``float32 (864,)``.

    Raises:
        ValueError: another shape than that, or no frame.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or len(frames) == 0:
        raise ValueError(f"frames have shape {frames.shape}, should be (T, H, W, 3) with T >= 1")
    vectors = np.stack([describe_frame(frame) for frame in frames]).astype(np.float64)  # (T, 432)
    return np.concatenate([vectors.mean(axis=0), vectors.std(axis=0)]).astype(np.float32)


def describe_frame(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Oriented gradients of one frame in 6 x 8 cells.

    Args:
        rgb: ``uint8 (H, W, 3)`` RGB, any size.

    Returns:
        ``float32 (432,)``: for each cell, by rows, nine shares from 0 to 1: bin b holds gradients
        of ``20 b`` to ``20 (b + 1)`` degrees, light to dark and dark to light alike.
    """
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(gray, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_AREA)
    return _normalise(cell_histograms(small.astype(np.float32))).ravel()


def cell_histograms(gray: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean gradient by cell and orientation, levels per pixel: (120, 160) -> ``(6, 8, 9)``."""
    right = np.zeros_like(gray)
    down = np.zeros_like(gray)
    right[:, 1:-1] = (gray[:, 2:] - gray[:, :-2]) / 2
    down[1:-1] = (gray[2:] - gray[:-2]) / 2
    half_turns = np.arctan2(down, right) / np.pi  # -1 to 1; opposite directions are 1 apart
    orientation = np.floor(half_turns * ORIENTATIONS).astype(np.intp) % ORIENTATIONS
    cell_height, cell_width = HEIGHT_PX // ROWS, WIDTH_PX // COLUMNS
    row = np.arange(HEIGHT_PX)[:, None] // cell_height
    column = np.arange(WIDTH_PX)[None, :] // cell_width
    index = (row * COLUMNS + column) * ORIENTATIONS + orientation  # (120, 160)
    sums = np.bincount(index.ravel(), np.hypot(right, down).ravel(), minlength=FRAME_LENGTH)
    means = sums.reshape(ROWS, COLUMNS, ORIENTATIONS) / (cell_height * cell_width)
    return means.astype(np.float32)


def _normalise(cells: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each cell over the strength of the 3 x 3 cells around it, clipped, over its own strength."""
    energy = (cells**2).sum(axis=2)  # (6, 8)
    around = cv2.blur(energy, (3, 3), borderType=cv2.BORDER_REPLICATE)
    shares = cells / np.sqrt(around + FLAT_GRADIENT**2)[..., None]
    clipped = np.minimum(shares, CLIP)
    strength = np.sqrt((clipped**2).sum(axis=2, keepdims=True) + CLIP**2)
    normalised: NDArray[np.float32] = (clipped / strength).astype(np.float32)
    return normalised


FAMILY = Family(looks_at="frames", describe=describe, parts=PARTS)
