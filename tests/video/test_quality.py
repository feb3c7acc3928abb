"""Quality numbers: against written-out NumPy, and against distortions that must show."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.data import astronaut

from vidray.video import quality

# The 7 x 7 kernel of cv2.GaussianBlur(image, (7, 7), 0).
ROW = np.array([1, 3.5, 7, 9, 7, 3.5, 1]) / 32
GAUSSIAN = np.outer(ROW, ROW)


@pytest.fixture(scope="module")
def photo() -> NDArray[np.uint8]:
    """A real photograph, ``uint8 (240, 320, 3)``."""
    return cv2.resize(astronaut(), (320, 240), interpolation=cv2.INTER_AREA)


def number(frame: NDArray[np.uint8], name: str) -> float:
    found = quality.measure_frame(frame)[name]
    assert found is not None
    return found


def gray_frame(gray: NDArray[np.generic]) -> NDArray[np.uint8]:
    return np.repeat(gray.astype(np.uint8)[..., None], 3, axis=2)


def gray_of(frame: NDArray[np.uint8]) -> NDArray[np.float64]:
    """ITU-R BT.601 luma, rounded as 8-bit pictures are."""
    return np.round(frame.astype(np.float64) @ [0.299, 0.587, 0.114])


def mirror_filter(gray: NDArray[np.float64], kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correlation with the border mirrored about the edge pixel, one shift at a time."""
    radius = kernel.shape[0] // 2
    padded = np.pad(gray, radius, mode="reflect")
    height, width = gray.shape
    out = np.zeros_like(gray)
    for row in range(kernel.shape[0]):
        for column in range(kernel.shape[1]):
            shifted = padded[row : row + height, column : column + width]
            out += kernel[row, column] * shifted
    return out


def test_frame_numbers_match_plain_numpy(photo: NDArray[np.uint8]) -> None:
    gray = gray_of(photo)
    laplacian = mirror_filter(gray, np.array([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]))
    blurred = mirror_filter(gray, GAUSSIAN)
    found = quality.measure_frame(photo)
    # One level of rounding in the gray conversion of a few pixels is the only difference.
    assert found["sharpness"] == pytest.approx(laplacian.var(), rel=1e-3)
    assert found["noise"] == pytest.approx((gray - blurred).std(), rel=1e-3)
    assert found["brightness"] == pytest.approx(gray.mean(), rel=1e-4)
    assert found["contrast"] == pytest.approx(gray.std(), rel=1e-4)


def test_blockiness_matches_loops(photo: NDArray[np.uint8]) -> None:
    frame = photo[:37, :45]
    gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(int)
    border, inside = [], []
    for row in range(37):
        for column in range(1, 45):
            step = abs(gray[row, column] - gray[row, column - 1])
            (border if column % 8 == 0 else inside).append(step)
    for row in range(1, 37):
        for column in range(45):
            step = abs(gray[row, column] - gray[row - 1, column])
            (border if row % 8 == 0 else inside).append(step)
    assert number(frame, "blockiness") == pytest.approx(np.mean(border) / np.mean(inside))


def test_blockiness_of_a_hand_made_picture() -> None:
    # Columns rise by 1 a pixel and by 5 at each border; rows do not change. Borders: 3 columns
    # of 5 and as many rows of 0; inside: steps of 1 and of 0.
    columns = np.cumsum([5 if k % 8 == 0 and k > 0 else 1 for k in range(32)])
    frame = gray_frame(np.tile(columns, (32, 1)))
    border = (3 * 32 * 5) / (2 * 3 * 32)
    inside = (28 * 32 * 1) / (2 * 28 * 32)
    assert number(frame, "blockiness") == pytest.approx(border / inside)


def test_a_flat_frame_has_no_detail_and_no_blockiness() -> None:
    found = quality.measure_frame(np.full((48, 64, 3), 77, np.uint8))
    assert found["sharpness"] == found["contrast"] == 0.0
    assert found["noise"] == pytest.approx(0.0, abs=1e-4)  # float32 blur of 77
    assert found["brightness"] == 77.0
    assert found["blockiness"] is None


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5), (8, 8), (2, 300)])
def test_tiny_frames_are_measured(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    found = quality.measure_frame(rng.integers(0, 256, (*size, 3), dtype=np.uint8))
    assert all(value is None or np.isfinite(value) for value in found.values())
    assert (found["blockiness"] is None) == (max(size) <= 8)


def test_blur_lowers_sharpness_step_by_step(photo: NDArray[np.uint8]) -> None:
    blurred = [cv2.GaussianBlur(photo, (0, 0), sigma) for sigma in (0.7, 1.0, 2.0, 4.0)]
    sharpness = [number(frame, "sharpness") for frame in (photo, *blurred)]
    assert sharpness == sorted(sharpness, reverse=True)
    assert sharpness[-1] < 0.02 * sharpness[0]


def test_noise_grows_with_noise_and_is_its_known_share_on_a_flat_frame() -> None:
    rng = np.random.default_rng(0)
    # What is left of white noise of sigma s after taking away the 7x7 Gaussian:
    # s * sqrt(1 - 2 g00 + sum g^2) with the kernel's weights g.
    share = np.sqrt(1 - 2 * GAUSSIAN[3, 3] + (GAUSSIAN**2).sum())
    for sigma in (4.0, 8.0, 16.0):
        gray = np.clip(np.round(128 + rng.normal(0, sigma, (240, 320))), 0, 255)
        assert number(gray_frame(gray), "noise") == pytest.approx(share * sigma, rel=0.03)


def test_jpeg_raises_blockiness_with_its_strength(photo: NDArray[np.uint8]) -> None:
    found = [number(photo, "blockiness")]
    for level in (40, 20, 8):
        _, file = cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, level])
        decoded = cv2.imdecode(file, cv2.IMREAD_COLOR)
        found.append(number(decoded, "blockiness"))
    assert found == sorted(found)
    assert found[0] == pytest.approx(1.0, abs=0.1)
    assert found[-1] > 1.5


def test_shift_and_gain_move_brightness_and_contrast(photo: NDArray[np.uint8]) -> None:
    half = (photo // 2).astype(np.uint8)
    lifted = half + np.uint8(100)
    assert number(lifted, "brightness") == pytest.approx(number(half, "brightness") + 100, abs=0.1)
    assert number(lifted, "contrast") == pytest.approx(number(half, "contrast"), abs=0.1)
    assert number(half, "contrast") == pytest.approx(number(photo, "contrast") / 2, rel=0.02)


def test_shares_of_repeats_and_black_frames(photo: NDArray[np.uint8]) -> None:
    rng = np.random.default_rng(1)
    black = np.zeros_like(photo)
    nearly_black = black.copy()
    nearly_black[:2] = 200  # 2 of 240 rows bright: 99.2 % black
    grainy = (photo // 2 + 40).astype(np.uint8)
    repeat = grainy.copy()
    repeat[rng.random(photo.shape[:2]) < 0.3] += 1  # 0.3 levels on average
    changed = grainy + np.uint8(2)
    frames = np.stack([black, nearly_black, grainy, repeat, changed])
    found = quality.measure(frames)
    # Pairs: black and nearly black differ by 1.67 levels, then a cut, a repeat, 2 levels.
    assert found["near_duplicate_share"] == pytest.approx(1 / 4)
    assert found["black_share"] == pytest.approx(2 / 5)


def test_a_dark_scene_is_not_black(photo: NDArray[np.uint8]) -> None:
    dark = (photo // 4).astype(np.uint8)
    assert quality.measure(dark[None])["black_share"] == 0.0


def test_clip_numbers_are_means_over_frames(photo: NDArray[np.uint8]) -> None:
    frames = np.stack([photo, cv2.GaussianBlur(photo, (0, 0), 2.0)])
    found = quality.measure(frames)
    assert tuple(found) == quality.COLUMNS
    for name in quality.FRAME_COLUMNS:
        each = [number(frame, name) for frame in frames]
        assert found[name] == pytest.approx(sum(each) / 2)


def test_missing_is_none(photo: NDArray[np.uint8]) -> None:
    one = quality.measure(photo[None])
    assert one["near_duplicate_share"] is None
    assert one["black_share"] == 0.0
    none = quality.measure(np.empty((0, 240, 320, 3), np.uint8))
    assert set(none) == set(quality.COLUMNS)
    assert all(value is None for value in none.values())
    # Blockiness is averaged over the frames that have one.
    flat = np.full_like(photo, 9)
    mixed = quality.measure(np.stack([photo, flat]))
    assert mixed["blockiness"] == pytest.approx(number(photo, "blockiness"))


def test_enhancement_is_called_for_by_blur_and_by_noise_only(photo: NDArray[np.uint8]) -> None:
    rng = np.random.default_rng(2)
    blurred = cv2.GaussianBlur(photo, (0, 0), 3.0)
    noise = rng.normal(0, 30, photo.shape)
    noisy = np.clip(photo + noise, 0, 255).astype(np.uint8)
    assert not quality.calls_for_enhancement(quality.measure_frame(photo))
    assert quality.calls_for_enhancement(quality.measure_frame(blurred))
    assert quality.calls_for_enhancement(quality.measure_frame(noisy))
