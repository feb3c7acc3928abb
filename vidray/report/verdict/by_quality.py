"""A model's accuracy by thirds of the videos: the darkest, the noisiest, the longest, ...

Videos of one recording look alike and fail together, so the test whether thirds differ turns
recordings, not videos: twenty dark clips of one camera are one dark camera.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from vidray.evaluation.intervals import Floats, Integers
from vidray.evaluation.pairs import SIGNIFICANT, holm, least_p
from vidray.report.judged import paired
from vidray.report.judged.paired import Ends
from vidray.report.runs import ExtractRun, JudgedModel
from vidray.video import quality


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A column that videos are ordered by.

    Attributes:
        name: the column of FEATURES, or ``pixels``.
        title: in words.
        least, most: its lowest and its highest third, in words that follow "the ... third".
        unit: after its numbers.
    """

    name: str
    title: str
    least: str
    most: str
    unit: str = ""


MEASURES = (
    Measure(name="sharpness", title="Sharpness", least="least sharp", most="sharpest"),
    Measure(name="noise", title="Noise", least="least noisy", most="noisiest"),
    Measure(name="blockiness", title="Blocks of the codec", least="least blocky", most="blockiest"),
    Measure(name="brightness", title="Brightness", least="darkest", most="brightest"),
    Measure(
        name="contrast", title="Contrast", least="lowest in contrast", most="highest in contrast"
    ),
    Measure(
        name="black_share",
        title="Share of black frames",
        least="fewest black frames",
        most="most black frames",
    ),
    Measure(
        name="near_duplicate_share",
        title="Share of frames like the one before",
        least="most moving",
        most="stillest",
    ),
    Measure(name="duration_seconds", title="Duration", least="shortest", most="longest", unit=" s"),
    Measure(name="pixels", title="Pixels of a frame", least="smallest", most="largest"),
    Measure(
        name="frames_per_second",
        title="Frame rate",
        least="lowest in frame rate",
        most="highest in frame rate",
        unit=" a second",
    ),
    Measure(
        name="corrupt_share",
        title="Share of corrupt frames",
        least="least damaged",
        most="most damaged",
    ),
)
assert set(quality.COLUMNS) <= {measure.name for measure in MEASURES}
_THIRDS = 3
# Of a third: with fewer videos one more right moves its accuracy by over 0.2.
_FEWEST_VIDEOS = 5
_FEWEST_RECORDINGS = 2
PERMUTATIONS = 4999
_MANY = 3000  # recordings; dealing more takes seconds for each column and model
_BLOCK = 250  # permutations at a time: of 10,000 recordings 20 MB


@dataclass(frozen=True, kw_only=True)
class Third:
    """The videos of one third.

    Attributes:
        low, high: of the column, of its videos.
        ends: 95 % interval of the accuracy over recordings.
    """

    low: float
    high: float
    num_videos: int
    num_recordings: int
    accuracy: float
    ends: Ends


@dataclass(frozen=True, kw_only=True)
class ByQuality:
    """A model's accuracy by thirds of one column.

    Attributes:
        thirds: from the lowest values to the highest; none where the videos have no thirds.
        why_none: the reason.
        p_value: of the test that the thirds differ, and ``corrected`` for the number of columns.
    """

    measure: Measure
    thirds: Sequence[Third] = ()
    why_none: str = ""
    p_value: float = 1.0
    corrected: float = 1.0

    @property
    def is_real(self) -> bool:
        """Whether chance alone is no likely reason for the difference."""
        return bool(self.thirds) and self.corrected <= SIGNIFICANT

    @property
    def worst(self) -> tuple[str, Third]:
        """The third of lowest accuracy, and its name."""
        at = min(range(_THIRDS), key=lambda k: self.thirds[k].accuracy)
        return self.name_of(at), self.thirds[at]

    def name_of(self, at: int) -> str:
        """The name of a third, in words that follow "the ... third"."""
        return (self.measure.least, "middle", self.measure.most)[at]


def values_of(runs: Sequence[ExtractRun]) -> Mapping[str, Mapping[str, float]]:
    """Column -> video -> its value, of the first run that has it; missing ones are left out."""
    found: dict[str, dict[str, float]] = {measure.name: {} for measure in MEASURES}
    for run in reversed(runs):
        table = run.rows
        area = pc.multiply(table["width_px"].cast("double"), table["height_px"].cast("double"))
        ids = table["video_id"].to_pylist()
        for name, into in found.items():
            values = (area if name == "pixels" else table[name]).to_pylist()
            into |= {
                video: float(value)
                for video, value in zip(ids, values, strict=True)
                if value is not None and np.isfinite(value)
            }
    return found


def measured(
    judged: JudgedModel, values: Mapping[str, Mapping[str, float]], *, seed: int
) -> list[ByQuality]:
    """The model's accuracy by thirds of every column that any of its videos has."""
    right, group_of = paired.hits(judged), paired.recordings(judged.groups)
    placed: dict[str, tuple[Floats, Integers]] = {}
    found: dict[str, ByQuality] = {}
    for measure in MEASURES:
        column = values[measure.name]
        numbers = np.array([column.get(video, np.nan) for video in judged.video_ids])
        known = np.isfinite(numbers)
        if not known.any():
            continue
        third_of = np.full(len(numbers), -1)  # of a video without a value
        third_of[known] = thirds_of(numbers[known])
        why = _why_none(numbers[known], third_of[known], group_of[known])
        found[measure.name] = ByQuality(measure=measure, why_none=why)
        if not why:
            placed[measure.name] = numbers, third_of
    ends = _intervals(right, [third_of for _, third_of in placed.values()], group_of, seed)
    p_values = [
        difference_test(right[third_of >= 0], _numbered(group_of[third_of >= 0]),
                        third_of[third_of >= 0], seed=seed)
        for _, third_of in placed.values()
    ]  # fmt: skip
    tested = zip(placed.items(), ends, p_values, holm(p_values), strict=True)
    for (name, (numbers, third_of)), its_ends, p_value, corrected in tested:
        thirds = _thirds(right, numbers, third_of, group_of, its_ends)
        found[name] = dataclasses.replace(
            found[name], thirds=thirds, p_value=p_value, corrected=corrected
        )
    return list(found.values())


def _numbered(group_of: Integers) -> Integers:
    """The same recordings, 0 to G - 1."""
    return np.unique(group_of, return_inverse=True)[1].astype(np.int64)


def _intervals(
    right: paired.Bools, thirds: Sequence[Integers], group_of: Integers, seed: int
) -> list[list[Ends]]:
    """Of each column, the intervals of its thirds; all from the same resamples."""
    if not thirds:
        return []
    chosen = np.stack([third_of == k for third_of in thirds for k in range(_THIRDS)])
    ends = paired.share_intervals(right.astype(np.float64), chosen, group_of, seed=seed)
    return [ends[k : k + _THIRDS] for k in range(0, len(ends), _THIRDS)]


def _thirds(
    right: paired.Bools,
    numbers: Floats,
    third_of: Integers,
    group_of: Integers,
    ends: Sequence[Ends],
) -> list[Third]:
    found = []
    for k in range(_THIRDS):
        chosen = third_of == k
        found.append(
            Third(
                low=float(numbers[chosen].min()),
                high=float(numbers[chosen].max()),
                num_videos=int(chosen.sum()),
                num_recordings=len(np.unique(group_of[chosen])),
                accuracy=float(right[chosen].mean()),
                ends=ends[k],
            )
        )
    return found


def thirds_of(values: Floats) -> Integers:
    """0, 1 or 2: the third of each value; equal values are in one, so thirds may be uneven."""
    low, high = np.quantile(values, (1 / 3, 2 / 3), method="inverted_cdf")
    thirds: Integers = (values > low).astype(np.int64) + (values > high)
    return thirds


def _why_none(numbers: Floats, third_of: Integers, group_of: Integers) -> str:
    """Why there are no thirds to compare; nothing if there are."""
    different = len(np.unique(numbers))
    if different == 1:
        return f"all videos have the same value, {numbers[0]:.4g}"
    if len(np.unique(third_of)) < _THIRDS:
        return f"too many videos share one value ({different} different ones): no three thirds"
    if np.bincount(third_of).min() < _FEWEST_VIDEOS:
        return f"a third has fewer than {_FEWEST_VIDEOS} videos"
    if any(len(np.unique(group_of[third_of == k])) < _FEWEST_RECORDINGS for k in range(_THIRDS)):
        return f"a third has fewer than {_FEWEST_RECORDINGS} recordings"
    return ""


def difference_test(
    right: paired.Bools, group_of: Integers, third_of: Integers, *, seed: int
) -> float:
    """The p-value of "accuracy does not depend on the third".

    What counts is how far the accuracies of the thirds lie from the overall one, squared, by number
    of videos. Where every video is a recording, thirds are dealt anew to videos: an exact test.
    Else what each recording adds to that distance changes its sign at random, as it may where the
    thirds do not matter. In simulations 4 to 5 % of such tests came below 0.05, 8 % where single
    recordings held half of the videos.
    """
    apart = right - right.mean()  # (N,)
    count = np.bincount(third_of)
    inside = (np.eye(_THIRDS)[third_of] - count / len(right)) * apart[:, None]  # (N, 3)
    of_recording = np.zeros((group_of.max() + 1, _THIRDS))
    np.add.at(of_recording, group_of, inside)
    observed = float((of_recording.sum(axis=0) ** 2 / count).sum()) - 1e-9
    rng = np.random.default_rng(seed)
    is_exact = len(of_recording) == len(right)
    if len(of_recording) > _MANY:  # Sums of so many are as good as normal.
        spread = of_recording.T @ of_recording
        sums = rng.multivariate_normal(np.zeros(_THIRDS), spread, PERMUTATIONS, method="eigh")
        return float((((sums**2 / count).sum(axis=1) >= observed).sum() + 1) / (PERMUTATIONS + 1))
    as_far = 0
    for begin in range(0, PERMUTATIONS, _BLOCK):
        size = min(_BLOCK, PERMUTATIONS - begin)
        if is_exact:
            sums = _dealt(apart, count, size, rng)
        else:
            sums = rng.choice((-1.0, 1.0), (size, len(of_recording))) @ of_recording
        as_far += int(((sums**2 / count).sum(axis=1) >= observed).sum())
    return (as_far + 1) / (PERMUTATIONS + 1)


def _dealt(apart: Floats, count: Integers, size: int, rng: np.random.Generator) -> Floats:
    """(B, 3): the sum of ``apart`` in each third, thirds dealt anew to the videos."""
    dealt = rng.permuted(np.broadcast_to(apart, (size, len(apart))), axis=1)
    ends = np.cumsum(count) - 1
    sums: Floats = np.diff(np.cumsum(dealt, axis=1)[:, ends], prepend=0)
    return sums


def could_show(columns: Sequence[ByQuality], judged: JudgedModel) -> bool:
    """Whether the test could find any difference between thirds in so few recordings."""
    num_recordings = int(paired.recordings(judged.groups).max()) + 1
    is_exact = num_recordings == len(judged.video_ids)
    least = 1 / (PERMUTATIONS + 1) if is_exact else least_p(num_recordings)
    return least * sum(bool(one.thirds) for one in columns) <= SIGNIFICANT
