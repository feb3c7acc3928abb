"""Pooled oriented gradients: against loops, and what must and must not change them."""

import math

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.data import astronaut

from vidray.features import shape_pooled
from vidray.features.shape_pooled import FAMILY


@pytest.fixture(scope="module")
def photo() -> NDArray[np.uint8]:
    """A real photograph, ``uint8 (240, 320, 3)``."""
    return cv2.resize(astronaut(), (320, 240), interpolation=cv2.INTER_AREA)


def oracle(rgb: NDArray[np.uint8]) -> list[float]:
    """The 432 numbers of a frame, pixel by pixel and cell by cell."""
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(gray, (160, 120), interpolation=cv2.INTER_AREA).astype(float)
    cells = np.zeros((6, 8, 9))
    for y in range(120):
        for x in range(160):
            right = (small[y, x + 1] - small[y, x - 1]) / 2 if 0 < x < 159 else 0.0
            down = (small[y + 1, x] - small[y - 1, x]) / 2 if 0 < y < 119 else 0.0
            degrees = math.degrees(math.atan2(down, right)) % 180
            cells[y // 20, x // 20, int(degrees // 20) % 9] += math.hypot(right, down) / 400
    found = []
    for row in range(6):
        for column in range(8):
            around = []
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    near = cells[min(max(row + dy, 0), 5), min(max(column + dx, 0), 7)]
                    around.append((near**2).sum())
            clipped = np.minimum(cells[row, column] / math.sqrt(np.mean(around) + 1.0), 0.2)
            found += (clipped / math.sqrt((clipped**2).sum() + 0.04)).tolist()
    return found


def test_a_frame_matches_loops(photo: NDArray[np.uint8]) -> None:
    found = shape_pooled.describe_frame(photo)
    # Gradients that lie exactly on the border of two bins may go either way in float32.
    np.testing.assert_allclose(found, oracle(photo), atol=2e-2)
    assert np.mean(np.abs(found - oracle(photo))) < 2e-4


@pytest.mark.parametrize("degrees", [10, 50, 90, 130, 170])
def test_stripes_fall_into_their_orientation(degrees: int) -> None:
    y, x = np.mgrid[0:240, 0:320]
    angle = math.radians(degrees)
    waves = np.sin((x * math.cos(angle) + y * math.sin(angle)) * 2 * math.pi / 24)
    frame = np.repeat(np.round(127 + 100 * waves)[..., None], 3, axis=2).astype(np.uint8)
    cells = shape_pooled.describe_frame(frame).reshape(6, 8, 9)
    assert (cells[1:-1, 1:-1].argmax(axis=2) == degrees // 20).all()


def test_an_edge_shows_in_its_cell_only() -> None:
    frame = np.zeros((120, 160, 3), np.uint8)
    frame[:, 70:] = 200  # gradients at columns 69 and 70: the fourth column of cells
    cells = shape_pooled.describe_frame(frame).reshape(6, 8, 9)
    assert (cells[:, 3, 0] > 0).all()
    cells[:, 3, 0] = 0
    assert not cells.any()


def test_light_and_dark_may_be_swapped_and_contrast_halved(photo: NDArray[np.uint8]) -> None:
    plain = shape_pooled.describe_frame(photo)
    # Not to the bit: gradients on the border of two bins change sides with their sign.
    assert np.abs(shape_pooled.describe_frame(255 - photo) - plain).mean() < 0.01
    faint = (photo // 2 + 60).astype(np.uint8)
    assert np.abs(shape_pooled.describe_frame(faint) - plain).mean() < 0.02


def test_a_flat_frame_has_no_shape() -> None:
    assert not FAMILY(np.full((2, 50, 70, 3), 90, np.uint8)).any()


def test_the_size_of_the_frame_hardly_matters() -> None:
    whole = astronaut()
    sizes = [(320, 240), (640, 480), (427, 241), (1280, 720)]
    found = [
        shape_pooled.describe_frame(cv2.resize(whole, size, interpolation=cv2.INTER_AREA))
        for size in sizes
    ]
    for other in found[1:]:
        assert np.corrcoef(found[0], other)[0, 1] > 0.98


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (17, 9)])
def test_tiny_frames_have_numbers(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    assert np.isfinite(FAMILY(rng.integers(0, 256, (1, *size, 3), dtype=np.uint8))).all()


def test_the_vector_is_mean_and_deviation_over_frames(photo: NDArray[np.uint8]) -> None:
    frames = np.stack([photo, photo[:, ::-1], photo[::-1]])
    each = np.array([shape_pooled.describe_frame(frame) for frame in frames], np.float64)
    expected = np.concatenate([each.mean(axis=0), each.std(axis=0)])
    np.testing.assert_allclose(FAMILY(frames), expected, rtol=1e-5, atol=1e-7)
    assert not FAMILY(frames[:1])[432:].any()


def test_no_frames_and_other_shapes_are_refused(photo: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="T >= 1"):
        FAMILY(np.empty((0, 240, 320, 3), np.uint8))
    with pytest.raises(ValueError, match=r"\(240, 320, 3\)"):
        FAMILY(photo)
