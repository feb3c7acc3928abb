"""Motion between adjacent frames: 362 numbers from dense optical flow.

Flow is DIS (Kroeger et al. 2016). The camera's motion, the median flow of each pair, is subtracted
first. What is left is described by how fast it is, which way it goes (HOF, Laptev et al. 2008),
which way its borders go (MBH, Dalal et al. 2006; Wang and Schmid 2013), how it speeds up, how its
speed flickers (ViF, Hassner et al. 2012), and how straight it is: what walks or drives keeps its
direction for a fifth of a second, what struggles turns and comes back. On fight clips straightness
and turns, 99 of the numbers, say more than any other part.

Directions are also looked at in the most active window alone, a quarter of the frame wide and a
third high: people in a camera's view fill a small part of it, and the rest is noise.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vidray.features.family import Family
from vidray.features.material import Bursts
from vidray.video.timestamps import UNKNOWN_RATE

# Chosen on 203 clips of 1 to 5 seconds by the folds of bench/presets.py. Extra trees, AUC: 4 bursts
# of 7 frames 0.81, 6 of 7 0.82, 6 of 9 0.83, 8 of 7 0.83. At 160x120 the slower MEDIUM preset of
# DIS is needed for the same. Seven frames are six flows, 0.2 seconds at 30 frames a second.
BURSTS = Bursts(count=8, frames_each=7, width_px=320, height_px=240)

# What a step lasts where nobody says: speeds are then per frame, times 25. On the fight clips (10
# to 30 frames a second) extra trees reach 0.79 accuracy and 0.85 AUC with that, 0.76 and 0.83
# with true times, probably since what trembles while standing still does so by the frame.
DEFAULT_STEP_SECONDS = 1 / UNKNOWN_RATE
# Flow is found at 320x240 and averaged down: DIS fits patches on a grid of four pixels anyway.
FIELD_WIDTH, FIELD_HEIGHT = 80, 60
WINDOW_WIDTH, WINDOW_HEIGHT = 20, 20

# Speeds are pixels per second in a picture of this size, whatever size the bursts have.
PICTURE_WIDTH, PICTURE_HEIGHT = 320, 240
# Slower than 10 is the trembling of compressed pictures; 40 to 300 is a person who moves.
STILL_SPEED = 10.0
# A path's mean speed over a burst: half of that, since the mean is less noisy.
STILL_PATH_SPEED = 5.0
# Differences of speed between neighbours on the field (4 pixels apart).
STILL_BOUNDARY = 2.0

SPEED_PERCENTILES = (50, 75, 90, 95, 99, 100)
DIRECTIONS = 16
BOUNDARY_DIRECTIONS = 8
TURN_BINS = 8
TURN_LAGS = (1, 2, 4)  # flows apart
STRAIGHTNESS_BINS = 8
FLICKER_BINS = 20
GRID_ROWS, GRID_COLUMNS = 3, 4

STATISTICS = ("mean", "std", "max")
_SPEEDS = len(SPEED_PERCENTILES) + 2
# Numbers per pair of frames or per burst, before statistics over them.
_RAW_PARTS = (
    ("speed", _SPEEDS),
    ("camera_speed", 1),
    ("grid_speed", GRID_ROWS * GRID_COLUMNS),
    ("hof", DIRECTIONS + 1),
    ("hof_active", DIRECTIONS + 1),
    ("mbh_active", 2 * (BOUNDARY_DIRECTIONS + 1)),
    ("acceleration", _SPEEDS),
    *((f"turn_{lag}", TURN_BINS) for lag in TURN_LAGS),
    ("straightness", STRAIGHTNESS_BINS + 1),
)
PARTS = (
    *((name, len(STATISTICS) * length) for name, length in _RAW_PARTS),
    ("flicker", FLICKER_BINS),
)

Array = NDArray[np.float32]


def describe(
    bursts: NDArray[np.uint8], pts_seconds: NDArray[np.float64] | None = None
) -> NDArray[np.float32]:
    """Motion numbers of a video.

    Args:
        bursts: ``uint8 (M, L, H, W, 3)`` RGB, M moments of L adjacent frames.
        pts_seconds: ``float64 (M, L)``, when each frame is shown; steps of 1/25 s where None, so
            that speeds are per frame. Steps of no more than a millisecond count as 1/25 s, too.

    Returns:
        ``float32 (362,)``: the parts of ``PARTS``, each as mean, standard deviation
        (population) and maximum over all pairs of frames (straightness: over the bursts), and the
        mean flicker histogram. NaN where bursts have too few frames for a part: two are needed
        for directions, three for turns and acceleration. All NaN without a burst.

    Raises:
        ValueError: another shape than that.
    """
    if bursts.ndim != 5 or bursts.shape[-1] != 3:
        raise ValueError(f"bursts have shape {bursts.shape}, should be (M, L, H, W, 3)")
    if pts_seconds is not None and pts_seconds.shape != bursts.shape[:2]:
        raise ValueError(f"pts_seconds have shape {pts_seconds.shape}, not {bursts.shape[:2]}")
    collected: dict[str, list[Array]] = {name: [] for name, _ in PARTS}
    # Single frames show no motion: their parts are left without a row.
    for index, burst in enumerate(bursts if bursts.shape[1] > 1 else ()):
        steps = _steps(None if pts_seconds is None else pts_seconds[index], len(burst))
        for name, rows in describe_velocity(dense_flow(burst) / steps[:, None, None, None]).items():
            collected[name].append(rows)
    return np.concatenate(
        [
            *(_over_rows(collected[name], length) for name, length in _RAW_PARTS),
            _over_rows(collected["flicker"], FLICKER_BINS)[:FLICKER_BINS],
        ]
    )


def dense_flow(burst: NDArray[np.uint8]) -> Array:
    """Flow between adjacent frames: (L, H, W, 3) RGB -> ``float32 (L - 1, 60, 80, 2)``.

    Element [t, y, x] is how far the picture there moves from frame t to t + 1, (right, down), in
    pixels of a picture 320 wide and 240 high.
    """
    grays: list[NDArray[Any]] = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in burst]
    fields = np.empty((len(grays) - 1, FIELD_HEIGHT, FIELD_WIDTH, 2), np.float32)
    # 2.8 ms for 320x240; the MEDIUM preset costs 13 and Farneback 24, and neither is more accurate.
    method: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    for index in range(len(fields)):
        full = method.calc(grays[index], grays[index + 1], None)  # (H, W, 2)
        fields[index] = cv2.resize(full, (FIELD_WIDTH, FIELD_HEIGHT), interpolation=cv2.INTER_AREA)
    height_px, width_px = burst.shape[1:3]
    fields *= np.array([PICTURE_WIDTH / width_px, PICTURE_HEIGHT / height_px], np.float32)
    return fields


def describe_velocity(velocity: Array) -> dict[str, Array]:
    """The numbers of one burst: part -> one row per pair of frames (or per burst).

    Args:
        velocity: ``float32 (P, 60, 80, 2)``, P = L - 1 successive flows in pixels per second.
    """
    camera = np.median(velocity.reshape(len(velocity), -1, 2), axis=1)  # (P, 2)
    own = velocity - camera[:, None, None, :]
    speed = np.hypot(own[..., 0], own[..., 1])  # (P, 60, 80)
    active = _most_active_window(speed)
    change = np.diff(own, axis=0)
    parts = {
        "speed": _speed_statistics(speed),
        "camera_speed": np.log1p(np.hypot(camera[:, :1], camera[:, 1:])),
        "grid_speed": np.log1p(_grid_means(speed)),
        "hof": direction_histogram(own, bins=DIRECTIONS, still=STILL_SPEED),
        "hof_active": direction_histogram(own[active], bins=DIRECTIONS, still=STILL_SPEED),
        "mbh_active": _boundary_histograms(own[active]),
        "acceleration": _speed_statistics(np.hypot(change[..., 0], change[..., 1])),
        "straightness": straightness(own, speed),
        "flicker": _flicker(speed),
    }
    for lag in TURN_LAGS:
        parts[f"turn_{lag}"] = turn_histogram(own, speed, lag=lag)
    return parts


def direction_histogram(vectors: Array, *, bins: int, still: float) -> Array:
    """Directions weighted by length, and what stands still: (P, H, W, 2) -> (P, bins + 1), sum 1.

    Bin b is centred on ``b * 360 / bins`` degrees, clockwise from right as pictures are; the last
    holds the vectors not longer than ``still``, each with the weight ``still``.
    """
    length = np.hypot(vectors[..., 0], vectors[..., 1])
    turns = np.arctan2(vectors[..., 1], vectors[..., 0]) / (2 * np.pi)  # -0.5 to 0.5
    bin_of = np.rint(turns * bins).astype(np.intp) % bins
    moves = length > still
    return _histogram(
        np.where(moves, bin_of, bins), np.where(moves, length, np.float32(still)), bins + 1
    )


def turn_histogram(own: Array, speed: Array, *, lag: int) -> Array:
    """Turns of motion in ``lag`` steps: (P, H, W, 2) -> (P - lag, 8), sum 1 or all 0.

    The angle between the motion at one place now and ``lag`` flows later, in eight bins from
    straight on to straight back, weighted by the geometric mean of both speeds, where that moves.
    """
    if len(own) <= lag:
        return np.empty((0, TURN_BINS), np.float32)
    dot = (own[:-lag] * own[lag:]).sum(axis=-1)
    product = speed[:-lag] * speed[lag:]
    both = np.sqrt(product)
    angle = np.arccos(np.clip(dot / np.maximum(product, 1e-6), -1.0, 1.0))
    bin_of = np.minimum((angle * (TURN_BINS / np.pi)).astype(np.intp), TURN_BINS - 1)
    return _histogram(bin_of, np.where(both > STILL_SPEED, both, np.float32(0)), TURN_BINS)


def straightness(own: Array, speed: Array) -> Array:
    """Straightness of the motion of a burst: (P, H, W, 2) -> (1, 9); (0, 9) for fewer than two.

    At each place, the distance covered over the length of the path: 1 straight on, 0 back and
    forth. Eight bins from 0 to 1, weighted by the path, of places that move; then the same ratio
    of their sums.
    """
    if len(own) < 2:
        return np.empty((0, STRAIGHTNESS_BINS + 1), np.float32)
    mean = own.mean(axis=0)
    covered, path = np.hypot(mean[..., 0], mean[..., 1]), speed.mean(axis=0)  # (60, 80)
    weight = np.where(path > STILL_PATH_SPEED, path, np.float32(0))
    ratio = covered / np.maximum(path, 1e-6)
    bin_of = np.minimum((ratio * STRAIGHTNESS_BINS).astype(np.intp), STRAIGHTNESS_BINS - 1)
    histogram = _histogram(bin_of[None], weight[None], STRAIGHTNESS_BINS)
    overall = (covered * (weight > 0)).sum() / max(float(weight.sum()), 1e-6)
    return np.append(histogram, [[np.float32(overall)]], axis=1)


def _most_active_window(speed: Array) -> tuple[slice, slice, slice]:
    """The window where a burst moves most: all pairs, and 20 rows and 20 columns of the field."""
    moving = np.where(speed > STILL_SPEED, speed, np.float32(0)).sum(axis=0, dtype=np.float64)
    sums = cv2.integral(moving)  # (61, 81)
    windows = (
        sums[WINDOW_HEIGHT:, WINDOW_WIDTH:]
        - sums[:-WINDOW_HEIGHT, WINDOW_WIDTH:]
        - sums[WINDOW_HEIGHT:, :-WINDOW_WIDTH]
        + sums[:-WINDOW_HEIGHT, :-WINDOW_WIDTH]
    )
    row, column = np.unravel_index(int(windows.argmax()), windows.shape)
    return (
        slice(None),
        slice(int(row), int(row) + WINDOW_HEIGHT),
        slice(int(column), int(column) + WINDOW_WIDTH),
    )


def _boundary_histograms(own: Array) -> Array:
    """MBH: which way each component of the motion changes most: (P, H, W, 2) -> (P, 18)."""
    histograms = []
    for component in (own[..., 0], own[..., 1]):
        right, down = np.gradient(component, axis=2), np.gradient(component, axis=1)
        gradient = np.stack([right, down], axis=-1)  # (P, H, W, 2)
        histograms.append(
            direction_histogram(gradient, bins=BOUNDARY_DIRECTIONS, still=STILL_BOUNDARY)
        )
    return np.concatenate(histograms, axis=1)


def _flicker(speed: Array) -> Array:
    """ViF: how often each place changes speed more than average: (P, H, W) -> (1, 20), sum 1."""
    if len(speed) < 2:
        return np.empty((0, FLICKER_BINS), np.float32)
    change = np.abs(np.diff(speed, axis=0))  # (P - 1, H, W)
    often = (change > change.mean(axis=(1, 2), keepdims=True)).mean(axis=0)  # 0 to 1
    bin_of = np.minimum((often * FLICKER_BINS).astype(np.intp), FLICKER_BINS - 1)
    return _histogram(bin_of[None], np.ones((1, *bin_of.shape), np.float32), FLICKER_BINS)


def _speed_statistics(speed: Array) -> Array:
    """log(1 + v) of percentiles, mean and std of the speeds of each pair: (P, H, W) -> (P, 8)."""
    if not len(speed):
        return np.empty((0, _SPEEDS), np.float32)
    flat = speed.reshape(len(speed), -1)
    percentiles = np.percentile(flat, SPEED_PERCENTILES, axis=1).T
    mean_and_std = np.stack([flat.mean(axis=1), flat.std(axis=1)], axis=1)
    rows: Array = np.log1p(np.concatenate([percentiles, mean_and_std], axis=1)).astype(np.float32)
    return rows


def _grid_means(speed: Array) -> Array:
    """Mean speed in 3 x 4 cells: (P, 60, 80) -> (P, 12)."""
    cells = speed.reshape(
        len(speed),
        GRID_ROWS,
        FIELD_HEIGHT // GRID_ROWS,
        GRID_COLUMNS,
        FIELD_WIDTH // GRID_COLUMNS,
    )
    means: Array = cells.mean(axis=(2, 4)).reshape(len(speed), GRID_ROWS * GRID_COLUMNS)
    return means


def _histogram(bin_of: NDArray[np.intp], weight: Array, bins: int) -> Array:
    """One histogram per first index, (P, H, W) -> (P, bins): sums to 1, or all 0 without weight."""
    count = len(bin_of)
    offsets = np.arange(count)[:, None, None] * bins
    sums = np.bincount((bin_of + offsets).ravel(), weight.ravel(), minlength=count * bins)
    histogram = sums.reshape(count, bins)
    total = histogram.sum(axis=1, keepdims=True)
    shares: Array = (histogram / np.maximum(total, 1e-6)).astype(np.float32)
    return shares


def _over_rows(rows: list[Array], length: int) -> NDArray[np.float32]:
    """Mean, std and max over all rows, (n, length) -> (3 * length,); NaN without a row."""
    stacked = np.concatenate(rows) if rows else np.empty((0, length), np.float32)
    if not len(stacked):
        return np.full(len(STATISTICS) * length, np.nan, np.float32)
    statistics = [stacked.mean(axis=0), stacked.std(axis=0), stacked.max(axis=0)]
    return np.concatenate(statistics).astype(np.float32)


def _steps(pts_seconds: NDArray[np.float64] | None, frames: int) -> NDArray[Any]:
    """Seconds from each frame to the next, ``float32 (frames - 1,)``, all above 0."""
    if pts_seconds is None:
        return np.full(frames - 1, DEFAULT_STEP_SECONDS, np.float32)
    steps = np.diff(pts_seconds)
    # Shorter than a millisecond is a fault of the time stamps, not a thousand frames a second.
    return np.where(steps > 1e-3, steps, DEFAULT_STEP_SECONDS).astype(np.float32)


FAMILY = Family(looks_at=BURSTS, describe=describe, parts=PARTS)
