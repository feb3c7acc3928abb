"""Flow: known motion of known pictures, and each histogram against plain loops."""

import itertools
import math

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vidray.features import flow
from vidray.features.family import Family
from vidray.features.flow import FAMILY


def part_slices(family: Family) -> dict[str, slice]:
    """The place of each named part in the family's numbers."""
    ends = list(itertools.accumulate(length for _, length in family.parts))
    return {
        name: slice(end - length, end)
        for (name, length), end in zip(family.parts, ends, strict=True)
    }


SLICES = part_slices(FAMILY)
PARTS = dict(FAMILY.parts)
FIELD = (flow.FIELD_HEIGHT, flow.FIELD_WIDTH)


def texture(height: int, width: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth random texture, ``uint8 (H, W, 3)``: something to follow everywhere."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 6 + 1, width // 6 + 1), dtype=np.uint8)
    gray = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.repeat(gray[..., None], 3, axis=2)


def pan(dx: int, dy: int, *, frames: int = 7) -> NDArray[np.uint8]:
    """A camera over a large picture: all moves by (dx, dy) a frame, (1, L, 240, 320, 3)."""
    large = texture(400, 500)
    views = [
        large[80 - dy * k : 320 - dy * k, 90 - dx * k : 410 - dx * k] for k in range(frames)
    ]  # fmt: skip
    return np.stack(views)[None]


def mover(path: list[tuple[int, int]], *, size: int = 80) -> NDArray[np.uint8]:
    """A textured square on a still textured ground, its corner at each (x, y) of the path."""
    ground, square = texture(240, 320, seed=1), texture(size, size, seed=2)
    burst = np.repeat(ground[None], len(path), axis=0)
    for frame, (x, y) in zip(burst, path, strict=True):
        frame[y : y + size, x : x + size] = square
    return burst[None]


def field(seed: int, pairs: int = 4) -> NDArray[np.float32]:
    """Random velocities, ``float32 (P, 60, 80, 2)``: slow and fast, in all directions."""
    rng = np.random.default_rng(seed)
    return (
        rng.standard_normal((pairs, *FIELD, 2)) * rng.uniform(0, 40, (pairs, *FIELD, 1))
    ).astype(np.float32)


def part(vector: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    return vector[SLICES[name]]


def mean_of(vector: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """The first third of a part: the means over pairs or bursts."""
    return part(vector, name)[: PARTS[name] // 3]


# --- known motion --------------------------------------------------------------------------------


@pytest.mark.parametrize(("dx", "dy"), [(2, 0), (-3, 1), (0, -2)])
def test_dense_flow_finds_a_pan(dx: int, dy: int) -> None:
    found = flow.dense_flow(pan(dx, dy)[0])
    assert found.shape == (6, 60, 80, 2)
    np.testing.assert_allclose(np.median(found, axis=(0, 1, 2)), [dx, dy], atol=0.2)


def test_flow_is_in_pixels_of_a_320_wide_picture() -> None:
    small = np.stack(
        [cv2.resize(f, (160, 120), interpolation=cv2.INTER_AREA) for f in pan(4, 2)[0]]
    )
    large = np.stack(
        [cv2.resize(f, (640, 360), interpolation=cv2.INTER_AREA) for f in pan(4, 2)[0]]
    )
    for burst in (small, large):
        found = flow.dense_flow(burst)
        np.testing.assert_allclose(np.median(found, axis=(0, 1, 2)), [4, 2], atol=0.25)


def test_a_pan_is_the_camera_and_nothing_else() -> None:
    found = FAMILY(pan(3, 0))
    assert mean_of(found, "camera_speed")[0] == pytest.approx(math.log1p(3 * 25), abs=0.05)
    assert mean_of(found, "hof")[-1] > 0.9  # all but the borders stands still
    still = FAMILY(pan(0, 0))
    assert mean_of(still, "camera_speed")[0] == pytest.approx(0.0, abs=1e-3)
    assert mean_of(still, "hof")[-1] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("step", "direction"), [((4, 0), 0), ((0, 4), 4), ((-4, 0), 8), ((0, -4), 12), ((3, 3), 2)]
)
def test_something_that_moves_fills_the_bin_of_its_direction(
    step: tuple[int, int], direction: int
) -> None:
    path = [(120 + step[0] * k, 80 + step[1] * k) for k in range(7)]
    found = FAMILY(mover(path))
    for name in ("hof", "hof_active"):
        assert np.argmax(mean_of(found, name)[:-1]) == direction
    # The window sits on the square, so more of it moves than of the frame.
    assert mean_of(found, "hof_active")[-1] < mean_of(found, "hof")[-1]


def test_what_goes_straight_and_what_goes_back_and_forth_differ() -> None:
    straight = FAMILY(mover([(100 + 4 * k, 80) for k in range(7)]))
    shaking = FAMILY(mover([(120 + 4 * (k % 2), 80) for k in range(7)]))
    assert mean_of(straight, "straightness")[-1] > 0.8
    assert mean_of(shaking, "straightness")[-1] < 0.3
    assert np.argmax(mean_of(straight, "turn_1")) == 0
    assert np.argmax(mean_of(shaking, "turn_1")) == flow.TURN_BINS - 1
    # Two steps later the shaking square goes the same way again.
    assert np.argmax(mean_of(shaking, "turn_2")) == 0
    # Constant motion has little acceleration.
    assert mean_of(straight, "acceleration")[6] < mean_of(shaking, "acceleration")[6]


def test_time_stamps_make_speeds_per_second() -> None:
    burst = pan(2, 0)
    expected = {}
    for seconds in (1 / 25, 1 / 10, 1 / 50):
        pts = 3.0 + seconds * np.arange(7)[None, :]
        expected[seconds] = flow.describe(burst, pts)
        speed = mean_of(expected[seconds], "camera_speed")[0]
        assert speed == pytest.approx(math.log1p(2 / seconds), abs=0.06)
    np.testing.assert_allclose(FAMILY(burst), expected[1 / 25], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "times", [[0.0, 0.0, -1.0, -1.0, -2.0, -2.0, -3.0], [0.0005 * k for k in range(7)]]
)
def test_time_stamps_of_no_camera_count_as_a_usual_step(times: list[float]) -> None:
    """They stand still, go back, or come half a millisecond after each other."""
    burst = pan(2, 0)
    np.testing.assert_array_equal(flow.describe(burst, np.array([times])), FAMILY(burst))


def test_a_step_of_two_milliseconds_is_one() -> None:
    found = flow.describe(pan(2, 0), 0.002 * np.arange(7)[None, :])
    assert mean_of(found, "camera_speed")[0] == pytest.approx(math.log1p(2 / 0.002), abs=0.06)


# --- each histogram against loops ----------------------------------------------------------------


def angle_bin(x: float, y: float, bins: int) -> int:
    return round(math.degrees(math.atan2(y, x)) % 360 / (360 / bins)) % bins


def direction_oracle(vectors: NDArray[np.float32], bins: int, still: float) -> list[float]:
    sums = [0.0] * (bins + 1)
    for x, y in vectors.reshape(-1, 2).tolist():
        length = math.hypot(x, y)
        if length > still:
            sums[angle_bin(x, y, bins)] += length
        else:
            sums[bins] += still
    return [value / sum(sums) for value in sums]


@pytest.mark.parametrize("bins", [8, 16])
def test_direction_histogram_matches_loops(bins: int) -> None:
    vectors = field(0, pairs=2)
    found = flow.direction_histogram(vectors, bins=bins, still=10.0)
    expected = [direction_oracle(pair, bins, 10.0) for pair in vectors]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-5)


def test_a_flow_of_zeros_stands_still() -> None:
    found = flow.direction_histogram(np.zeros((1, *FIELD, 2), np.float32), bins=8, still=10.0)
    np.testing.assert_array_equal(found, [[0.0] * 8 + [1.0]])


@pytest.mark.parametrize("lag", [1, 2])
def test_turn_histogram_matches_loops(lag: int) -> None:
    own = field(1, pairs=3)[:, :20, :20]
    speed = np.hypot(own[..., 0], own[..., 1])
    found = flow.turn_histogram(own, speed, lag=lag)
    assert found.shape == (3 - lag, 8)
    for pair in range(3 - lag):
        sums = [0.0] * 8
        now, later = own[pair].reshape(-1, 2).tolist(), own[pair + lag].reshape(-1, 2).tolist()
        for (x0, y0), (x1, y1) in zip(now, later, strict=True):
            weight = math.sqrt(math.hypot(x0, y0) * math.hypot(x1, y1))
            turn = abs(math.remainder(math.atan2(y1, x1) - math.atan2(y0, x0), 2 * math.pi))
            if weight > 10.0:
                sums[min(int(turn / math.pi * 8), 7)] += weight
        np.testing.assert_allclose(found[pair], np.array(sums) / sum(sums), atol=2e-3)


def test_no_motion_has_no_turn() -> None:
    own = np.zeros((3, *FIELD, 2), np.float32)
    found = flow.turn_histogram(own, own[..., 0], lag=1)
    np.testing.assert_array_equal(found, np.zeros((2, 8)))
    assert flow.turn_histogram(own, own[..., 0], lag=4).shape == (0, 8)


def test_straightness_matches_loops() -> None:
    own = field(2, pairs=5)[:, :15, :15]
    speed = np.hypot(own[..., 0], own[..., 1])
    sums, covered_sum = [0.0] * 8, 0.0
    for row in range(15):
        for column in range(15):
            steps = own[:, row, column].tolist()
            covered = math.hypot(sum(x for x, _ in steps) / 5, sum(y for _, y in steps) / 5)
            path = sum(math.hypot(x, y) for x, y in steps) / 5
            if path > 5.0:
                sums[min(int(covered / path * 8), 7)] += path
                covered_sum += covered
    expected = [value / sum(sums) for value in sums] + [covered_sum / sum(sums)]
    np.testing.assert_allclose(flow.straightness(own, speed)[0], expected, atol=1e-4)


def test_velocity_parts_match_loops() -> None:
    velocity = field(3, pairs=3)
    found = flow.describe_velocity(velocity)
    flat = velocity.reshape(3, -1, 2)
    camera = np.array([[np.median(pair[:, 0]), np.median(pair[:, 1])] for pair in flat])
    own = velocity - camera[:, None, None, :]
    speed = np.sqrt(own[..., 0] ** 2 + own[..., 1] ** 2)
    np.testing.assert_allclose(
        found["camera_speed"][:, 0], np.log1p(np.linalg.norm(camera, axis=1)), rtol=1e-4
    )
    for pair in range(3):
        numbers = [np.percentile(speed[pair], q) for q in (50, 75, 90, 95, 99, 100)]
        numbers += [speed[pair].mean(), speed[pair].std()]
        np.testing.assert_allclose(found["speed"][pair], np.log1p(numbers), rtol=1e-4)
        cells = [
            speed[pair, top : top + 20, left : left + 20].mean()
            for top in (0, 20, 40)
            for left in (0, 20, 40, 60)
        ]
        np.testing.assert_allclose(found["grid_speed"][pair], np.log1p(cells), rtol=1e-4)


def test_active_window_matches_a_search_of_all_windows() -> None:
    own = field(4, pairs=3)
    own *= np.exp(-(((np.arange(80) - 61) / 15) ** 2))[None, None, :, None].astype(np.float32)
    own -= np.median(own.reshape(3, -1, 2), axis=1)[:, None, None, :]
    moving = np.hypot(own[..., 0], own[..., 1])
    moving = np.where(moving > 10.0, moving, 0.0).sum(axis=0)
    best = max(
        ((top, left) for top in range(41) for left in range(61)),
        key=lambda at: moving[at[0] : at[0] + 20, at[1] : at[1] + 20].sum(),
    )
    window = own[:, best[0] : best[0] + 20, best[1] : best[1] + 20]
    found = flow.describe_velocity(own)
    expected = [direction_oracle(pair, 16, 10.0) for pair in window]
    np.testing.assert_allclose(found["hof_active"], expected, atol=1e-4)
    for pair in range(3):
        both = []
        for component in (0, 1):
            values = window[pair, :, :, component]
            gradient = np.stack([np.gradient(values, axis=1), np.gradient(values, axis=0)], axis=-1)
            both += direction_oracle(gradient, 8, 2.0)
        np.testing.assert_allclose(found["mbh_active"][pair], both, atol=1e-4)


def test_flicker_matches_loops() -> None:
    velocity = field(5, pairs=4)
    own = velocity - np.median(velocity.reshape(4, -1, 2), axis=1)[:, None, None, :]
    speed = np.hypot(own[..., 0], own[..., 1])
    counts = np.zeros(20)
    change = [np.abs(after - before) for before, after in itertools.pairwise(speed)]
    for row in range(60):
        for column in range(80):
            often = sum(one[row, column] > one.mean() for one in change) / 3
            counts[min(int(often * 20), 19)] += 1
    found = flow.describe_velocity(velocity)["flicker"]
    np.testing.assert_allclose(found[0], counts / counts.sum(), atol=1e-6)


def test_a_steady_camera_motion_changes_the_camera_speed_only() -> None:
    velocity = field(6)
    moved = velocity + np.array([64.0, -32.0], np.float32)
    before, after = flow.describe_velocity(velocity), flow.describe_velocity(moved)
    for name in before:
        if name != "camera_speed":
            np.testing.assert_allclose(after[name], before[name], atol=2e-3)


# --- the vector ----------------------------------------------------------------------------------


def test_the_vector_is_the_statistics_of_the_parts() -> None:
    bursts = np.concatenate([pan(1, 1), mover([(60 + 5 * k, 50) for k in range(7)])])
    found = FAMILY(bursts)
    rows = [flow.describe_velocity(flow.dense_flow(burst) * np.float32(25)) for burst in bursts]
    for name, _ in FAMILY.parts:
        both = np.concatenate([of_burst[name] for of_burst in rows])
        expected = both.mean(0)
        if name != "flicker":
            expected = np.concatenate([both.mean(0), both.std(0), both.max(0)])
        np.testing.assert_allclose(part(found, name), expected, rtol=1e-3, atol=1e-4)
    assert np.isfinite(found).all()


def test_what_is_too_short_is_missing_and_not_zero() -> None:
    burst = mover([(100 + 4 * k, 80) for k in range(7)])
    for nothing in (burst[:0], burst[:, :1], burst[:, :0]):
        assert np.isnan(FAMILY(nothing)).all()
    two = FAMILY(burst[:, :2])
    missing = {name for name in PARTS if np.isnan(part(two, name)).any()}
    assert missing == {
        "acceleration", "turn_1", "turn_2", "turn_4", "straightness", "flicker"
    }  # fmt: skip
    three = FAMILY(burst[:, :3])
    assert {name for name in PARTS if np.isnan(part(three, name)).any()} == {"turn_2", "turn_4"}


def test_the_same_bursts_give_the_same_bytes() -> None:
    bursts = np.concatenate([pan(2, -1), mover([(60, 50 + 5 * k) for k in range(7)])])
    assert FAMILY(bursts).tobytes() == FAMILY(bursts.copy()).tobytes()


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(M, L, H, W, 3\)"):
        FAMILY(np.zeros((7, 240, 320, 3), np.uint8))
    with pytest.raises(ValueError, match="pts_seconds"):
        flow.describe(np.zeros((1, 7, 24, 32, 3), np.uint8), np.zeros((1, 6)))
