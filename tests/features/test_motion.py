"""Motion between sampled frames: against plain formulas, and on shifts of known size."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests import features_reference as reference
from vidray.features import motion


def waves(right: float, down: float) -> NDArray[np.uint8]:
    """A smooth texture moved by a fraction of a pixel, ``uint8 (240, 320)``: no resampling."""
    row, column = np.mgrid[:240, :320].astype(np.float64)
    rng = np.random.default_rng(4)
    total = np.zeros((240, 320))
    for _ in range(24):
        length, angle, phase = rng.uniform(12, 40), rng.uniform(0, np.pi), rng.uniform(0, 7)
        along = (column - right) * np.cos(angle) + (row - down) * np.sin(angle)
        total += np.sin(2 * np.pi * along / length + phase)
    return np.clip(np.rint(128 + 22 * total), 0, 255).astype(np.uint8)


def square_pair() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A square that moves and darkens before a flat ground: flow fades out over 64 pixels."""
    first = np.full((240, 320), 60, np.uint8)
    second = first.copy()
    first[100:130, 100:140] = 200
    second[102:132, 103:143] = 190
    return first, second


def frame_pairs() -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    made = {
        name: cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for name, f in reference.made_frames().items()
    }
    return [
        (waves(0, 0), waves(0.5, -0.25)),
        (made["gradient"], made["noise"]),
        (made["black"], made["white"]),
        (made["flat"], made["flat"]),
    ]


@pytest.mark.parametrize("pair", range(len(frame_pairs())))
def test_horn_schunck_is_the_papers(pair: int) -> None:
    check_horn_schunck(*frame_pairs()[pair])


@pytest.mark.shared
def test_horn_schunck_is_the_papers_on_real_frames() -> None:
    first, second = reference.real_frames()[:2]
    check_horn_schunck(
        cv2.cvtColor(first, cv2.COLOR_RGB2GRAY), cv2.cvtColor(second, cv2.COLOR_RGB2GRAY)
    )


def check_horn_schunck(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> None:
    found = motion.horn_schunck(first, second)
    expected = reference.horn_schunck(
        first,
        second,
        alpha=motion.HORN_SCHUNCK_ALPHA,
        iterations=motion.HORN_SCHUNCK_ITERATIONS,
    )
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5)
    statistics = motion.horn_schunck_statistics(*found)
    assert reference.worst_error(statistics, motion.horn_schunck_statistics(*expected)) <= 1e-4


def test_flow_that_fades_out_keeps_its_direction() -> None:
    first, second = square_pair()
    u, v = motion.horn_schunck(first, second)
    expected = reference.horn_schunck(
        first,
        second,
        alpha=motion.HORN_SCHUNCK_ALPHA,
        iterations=motion.HORN_SCHUNCK_ITERATIONS,
    )
    faint = np.hypot(u, v) < 1e-38  # denormal in float32
    assert (faint & (u != 0)).sum() > 1000
    np.testing.assert_allclose(np.arctan2(v, u), np.arctan2(*expected[::-1]), atol=1e-4)


@pytest.mark.parametrize(("right", "down"), [(0.5, 0.25), (-0.5, 0.5), (0.75, -0.4)])
def test_horn_schunck_finds_a_shift(right: float, down: float) -> None:
    u, v = motion.horn_schunck(waves(0, 0), waves(right, down))
    assert u.mean() == pytest.approx(right, abs=0.08)
    assert v.mean() == pytest.approx(down, abs=0.08)


def test_flow_statistics_are_what_they_say() -> None:
    rng = np.random.default_rng(6)
    u, v = rng.normal(1, 3, (2, 240, 320))
    u[:20], v[:20] = 0, 0
    found = motion.horn_schunck_statistics(u, v)
    magnitude = np.hypot(u, v)
    angle = np.arctan2(v, u)
    assert found.shape == (38,)
    summary = [magnitude.mean(), magnitude.std(), magnitude.min(), magnitude.max()]
    np.testing.assert_allclose(found[:4], summary, rtol=1e-5)
    inside = np.histogram(np.minimum(magnitude, 8), bins=16, range=(0, 8), density=True)[0]
    np.testing.assert_allclose(found[4:20], inside, atol=5e-5)
    turns = np.histogram(angle, bins=16, range=(-np.pi, np.pi), density=True)[0]
    np.testing.assert_allclose(found[20:36], turns, atol=5e-5)
    np.testing.assert_allclose(found[36:], [np.cos(angle).mean(), np.sin(angle).mean()], atol=1e-6)
    assert found[4:20].sum() * 0.5 == pytest.approx(1)
    assert found[20:36].sum() * np.pi / 8 == pytest.approx(1)


def test_flow_of_turning_back_counts_every_pixel() -> None:
    u, v = np.full((240, 320), -1.0), np.zeros((240, 320))
    angles = motion.horn_schunck_statistics(u, v)[20:36]
    assert angles.sum() * np.pi / 8 == pytest.approx(1)  # the angle is pi, the range's very end


def test_frame_difference_is_numpys() -> None:
    rng = np.random.default_rng(8)
    grays = list(rng.integers(0, 256, (13, 240, 320), dtype=np.uint8))
    grays[3] = grays[2]
    found = motion.frame_difference(grays)
    assert reference.worst_error(found, reference.frame_difference(grays)) <= 1e-4
    assert found[7] == 10


def test_lucas_kanade_finds_a_shift() -> None:
    first, second = waves(0, 0), waves(2, -1)
    found = motion.lucas_kanade(first, second)
    assert found.shape == (10,)
    assert found[7] == pytest.approx(np.hypot(2, 1), abs=0.1)
    assert found[8] >= found[7] >= found[9]
    assert found[4] == pytest.approx(2 / np.hypot(2, 1), abs=0.1)
    assert found[5] == pytest.approx(-1 / np.hypot(2, 1), abs=0.1)
    assert 10 < found[6] <= 200


def test_nothing_to_track_is_missing_and_counts_zero() -> None:
    flat = np.full((240, 320), 50, np.uint8)
    found = motion.lucas_kanade(flat, flat)
    assert found[6] == 0
    assert np.isnan(np.delete(found, 6)).all()


def test_motion_looks_at_ten_frames() -> None:
    rng = np.random.default_rng(9)
    frames = rng.integers(0, 256, (12, 240, 320, 3), dtype=np.uint8)
    assert np.array_equal(motion.describe(frames), motion.describe(frames[:10]))
    assert np.isnan(motion.describe(frames[:1])).all()
