"""Binary patterns must be scikit-image's at every pixel, where rounding decides too."""

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.feature import local_binary_pattern

from tests import features_reference as reference
from vidray.features import shape, texture


def check_codes(gray: NDArray[np.uint8]) -> None:
    codes = texture.uniform_codes()[texture.lbp_patterns(gray)]
    expected = local_binary_pattern(gray, 8, 1, "uniform")
    assert np.array_equal(codes, expected), f"{(codes != expected).sum()} codes differ"


def test_integer_comparison_is_right_but_for_the_close_cases() -> None:
    sides = np.arange(-510, 511)[:, None]
    corner = np.arange(-255, 256)
    ours = 29 * sides + 70 * corner
    exact = 29_289 * sides + 70_711 * corner
    told = np.abs(ours) > 2
    assert np.array_equal(np.sign(ours)[told], np.sign(exact)[told])


@pytest.mark.parametrize("value", [0, 1, 77, 128, 254, 255])
def test_codes_of_flat_areas(value: int) -> None:
    check_codes(np.full((240, 320), value, np.uint8))


@pytest.mark.parametrize("steps", [(0, 70, 99), (0, 29, 140), (0, 99, 239), (120, 121), (0, 255)])
def test_codes_where_integers_cannot_tell(steps: tuple[int, ...]) -> None:
    rng = np.random.default_rng(sum(steps))
    check_codes(rng.choice(np.array(steps, np.uint8), (240, 320)))


def test_codes_of_close_cases_met_one_by_one() -> None:
    # Every (centre's neighbours) pattern whose integer value is from -2 to 2, at many positions.
    sides, corner = np.meshgrid(np.arange(-510, 511), np.arange(-255, 256), indexing="ij")
    close = np.abs(29 * sides + 70 * corner) <= 2
    gray = np.full((240, 320), 128, np.uint8)
    rng = np.random.default_rng(5)
    cases = [
        (side, far) for side, far in zip(sides[close], corner[close], strict=True)
        if abs(side) <= 255 and abs(far) <= 127
    ]  # fmt: skip
    for side, far in cases:
        row, column = 4 * rng.integers(0, 59) + 1, 4 * rng.integers(0, 79) + 1
        down, right = rng.choice([-1, 1], 2)
        half = side // 2
        gray[row + down, column] = 128 + half
        gray[row, column + right] = np.clip(128 + side - half, 0, 255)
        gray[row + down, column + right] = 128 + far
    check_codes(gray)


@pytest.mark.parametrize(("height", "width"), [(3, 3), (7, 5), (65, 33), (480, 642)])
def test_codes_at_other_sizes(height: int, width: int) -> None:
    rng = np.random.default_rng(height)
    check_codes(rng.integers(0, 3, (height, width), dtype=np.uint8))


def test_texture_at_another_size() -> None:
    rng = np.random.default_rng(2)
    gray = rng.integers(0, 256, (97, 131), dtype=np.uint8)
    for ours, theirs in (
        (texture.glcm, reference.glcm),
        (texture.lbp, reference.lbp),
        (texture.gabor, reference.gabor_energy),
        (shape.hog, reference.hog_vector),
    ):
        assert reference.worst_error(ours(gray), theirs(gray)) <= 1e-4
