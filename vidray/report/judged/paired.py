"""Right and wrong answers by recording: the unit in which videos are drawn, and fail together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vidray.evaluation.intervals import Floats, Integers, interval, resampled
from vidray.evaluation.metrics import RESAMPLES
from vidray.report.runs import JudgedModel

Bools = NDArray[np.bool_]
Ends = tuple[float, float] | None  # of an interval


def hits(judged: JudgedModel) -> Bools:
    """Whether each answer is right, ``bool (N,)``; the answer is the most probable class."""
    best = judged.probabilities.argmax(axis=1)
    names = np.array(judged.class_names, object)
    found: Bools = names[best] == np.array(judged.truth, object)
    return found


def recordings(groups: Sequence[str | None]) -> Integers:
    """The number of each video's recording, 0 to G - 1; an unknown one is its own."""
    keys: list[str | int] = [k if group is None else group for k, group in enumerate(groups)]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], np.int64)


def share_interval(values: Floats, chosen: Bools, group_of: Integers, *, seed: int) -> Ends:
    """The 95 % interval of the mean of ``values`` over the chosen videos, by recording.

    None where they are of one recording: nothing shows how another one would do.
    """
    return share_intervals(values, chosen[None], group_of, seed=seed)[0]


def share_intervals(
    values: Floats, chosen: NDArray[np.bool_], group_of: Integers, *, seed: int
) -> list[Ends]:
    """``share_interval`` of each row of ``chosen``, bool (M, N), from the same resamples."""
    of_values, of_count = (values * chosen).astype(np.float32), chosen.astype(np.float32)
    blocks = []
    for weights in resampled(group_of, RESAMPLES, seed):
        sums = (of_values @ weights).astype(np.float64)  # (M, B)
        counts = (of_count @ weights).astype(np.float64)
        nothing = np.full_like(counts, np.nan)
        blocks.append(np.divide(sums, counts, out=nothing, where=counts > 0))
    found = []
    for row, means in zip(chosen, np.concatenate(blocks, axis=1), strict=True):
        ends = interval(means) if len(np.unique(group_of[row])) > 1 else None
        found.append(None if ends is None else (ends[0], ends[1]))
    return found
