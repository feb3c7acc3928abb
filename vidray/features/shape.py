"""Shape in a frame: edge profile, contours, histogram of oriented gradients (40,738 numbers)."""

import functools
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

PARTS = (("edge_profile", 16), ("contours", 6), ("hog", 40_716))
LENGTH = 40_738

_CELL_PX = 8
_BINS = 9
_EPSILON = 1e-5


def describe_frame(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Shape numbers of one frame.

    Args:
        rgb: ``uint8 (240, 320, 3)`` RGB.

    Returns:
        ``float32 (40738,)``: edge profile (16), contours (6), HOG (40,716).

    Raises:
        ValueError: another frame size; the number of HOG cells depends on it.
    """
    return numbers(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)).astype(np.float32)


def numbers(gray: NDArray[Any]) -> NDArray[np.float64]:
    """The 40,738 numbers of one gray frame ``uint8 (240, 320)``, in float64."""
    if gray.shape != (240, 320):
        raise ValueError(
            f"got a frame of {gray.shape[1]}x{gray.shape[0]} pixels, shape needs 320x240 (its HOG "
            "length depends on it): resize with cv2.INTER_AREA first"
        )
    edges = cv2.Canny(gray, 80, 160)
    return np.concatenate([edge_profile(edges), contours(edges), hog(gray)])


def edge_profile(edges: NDArray[Any]) -> NDArray[np.float64]:
    """Density histogram (16 bins between the smallest and largest) of the column sums of edges."""
    columns = cv2.reduce(edges, 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S)[0]
    density, _ = np.histogram(columns, bins=16, density=True)
    return density.astype(np.float64)


def contours(edges: NDArray[Any]) -> NDArray[np.float64]:
    """Outer contours of the edges: count, mean and variance of area and of perimeter, total area.

    Contours are closed, areas in square pixels (a one-pixel line has none). Without contours all
    six are 0, as the count says.
    """
    found, _ = cv2.findContours(edges, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not found:
        return np.zeros(6)
    areas = np.array([cv2.contourArea(contour) for contour in found])
    perimeters = np.array([cv2.arcLength(contour, True) for contour in found])
    return np.array(
        [
            len(found),
            areas.mean(),
            areas.var(),
            perimeters.mean(),
            perimeters.var(),
            areas.sum(),
        ]
    )


def hog(gray: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Histogram of oriented gradients (Dalal and Triggs 2005): 9 bins, 8x8 cells, 2x2 blocks.

    As ``skimage.feature.hog``: each pixel votes into one bin with its gradient's magnitude, blocks
    are normalised by L2-Hys. Returns ``float64 ((H // 8 - 1) * (W // 8 - 1) * 36,)``.
    """
    return _normalise_blocks(cell_histograms(gray)).ravel()


def cell_histograms(gray: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean gradient magnitude per 8x8 cell and orientation: ``float64 (H // 8, W // 8, 9)``."""
    height, width = gray.shape
    rows, columns = height // _CELL_PX, width // _CELL_PX
    # Differences of two 8-bit values are whole numbers from -255 to 255: magnitude and orientation
    # are looked up among 511 x 511 pairs instead of computed (hypot and arctan2 of 76,800 pixels).
    pair = np.full((height, width), _PAIR_OF_ZERO, np.int32)
    wide = gray.astype(np.int32)
    pair[1:-1] += (wide[2:] - wide[:-2]) * _PAIR_STRIDE
    pair[:, 1:-1] += wide[:, 2:] - wide[:, :-2]
    magnitude, orientation = _gradient_tables()
    inside = pair[: rows * _CELL_PX, : columns * _CELL_PX]
    bins = np.add(orientation.take(inside), _cell_bases(rows, columns), dtype=np.intp)
    votes = np.bincount(
        bins.ravel(), magnitude.take(inside).ravel(), minlength=rows * columns * _BINS
    )
    return votes.reshape(rows, columns, _BINS) / _CELL_PX**2


_PAIR_STRIDE = 511
_PAIR_OF_ZERO = 255 * _PAIR_STRIDE + 255


@functools.cache
def _gradient_tables() -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Magnitude and orientation bin of each (vertical, horizontal) difference: ``(511 * 511,)``."""
    step = np.arange(-255.0, 256.0)
    vertical, horizontal = np.meshgrid(step, step, indexing="ij")
    magnitude = np.hypot(horizontal, vertical)
    degrees = np.rad2deg(np.arctan2(vertical, horizontal)) % 180
    # Bin k holds [20 k, 20 (k + 1)) degrees.
    orientation = np.searchsorted(20.0 * np.arange(1, _BINS), degrees, side="right")
    return magnitude.ravel().astype(np.float32), orientation.ravel().astype(np.uint8)


@functools.lru_cache(maxsize=8)
def _cell_bases(rows: int, columns: int) -> NDArray[np.intp]:
    """The place where the histogram of each pixel's cell begins: ``(rows * 8, columns * 8)``."""
    cell = np.arange(rows)[:, None] * columns + np.arange(columns)[None, :]
    return np.kron(cell * _BINS, np.ones((_CELL_PX, _CELL_PX), np.intp))


def _normalise_blocks(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """(rows, columns, 9) cells -> (rows - 1, columns - 1, 2, 2, 9) blocks, L2-Hys normalised."""
    rows, columns, _ = cells.shape
    squared = np.einsum("rcb,rcb->rc", cells, cells)
    energy = squared[:-1, :-1] + squared[:-1, 1:] + squared[1:, :-1] + squared[1:, 1:]
    blocks = np.empty((rows - 1, columns - 1, 2, 2, _BINS))
    for down in range(2):
        for right in range(2):
            blocks[:, :, down, right] = cells[down : rows - 1 + down, right : columns - 1 + right]
    flat = blocks.reshape(rows - 1, columns - 1, 4 * _BINS)
    flat /= np.sqrt(energy + _EPSILON**2)[:, :, None]
    np.minimum(flat, 0.2, out=flat)
    clipped_energy = np.einsum("rck,rck->rc", flat, flat)
    flat /= np.sqrt(clipped_energy + _EPSILON**2)[:, :, None]
    return blocks
