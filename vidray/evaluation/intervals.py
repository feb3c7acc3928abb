"""Bootstrap over recordings: intervals of figures, and models compared in pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
# Counts: float32 holds them exactly up to 16 million, in half the time of float64.
Weights = NDArray[np.float32]
LEVEL = 0.95  # Share of the resamples that an interval covers.
# Resamples at a time: the weights of 10,000 videos then have 4 MB.
_BLOCK = 100


def intervals(
    truth: Integers,
    scores: Floats,
    per_video: Mapping[str, Floats],
    group_of: Integers,
    resamples: int,
    seed: int,
) -> dict[str, list[float] | None]:
    """Figure -> the 2.5th and the 97.5th percentile of its values on resampled videos.

    There is none for the ECE: chance differences within bins only ever add to it, and resampling
    adds them twice, so that its interval would lie above it.
    """
    names = ["accuracy", "macro_precision", "macro_recall", "macro_f1", "macro_auc"]
    names += ["log_loss", "brier", "top5"]
    found: dict[str, list[float] | None] = dict.fromkeys(names)
    if group_of.max() == 0:
        return found  # One recording resampled is that recording: no spread to be seen.
    comparisons = _comparisons(truth, scores)
    blocks = []
    for weights in resampled(group_of, resamples, seed):
        means = {name: values @ weights / weights.sum(axis=0) for name, values in per_video.items()}
        macro = _resampled_macro(truth, scores.argmax(axis=1), scores.shape[1], weights)
        blocks.append({**means, **macro, "macro_auc": _resampled_auc(comparisons, weights)})
    for name in blocks[0]:
        found[name] = interval(np.concatenate([block[name] for block in blocks]))
    return found


def interval(values: Floats) -> list[float] | None:
    """The 2.5th and 97.5th percentile over the resamples in which the figure exists."""
    known = values[np.isfinite(values)]
    tail = 100 * (1 - LEVEL) / 2
    return np.percentile(known, [tail, 100 - tail]).tolist() if len(known) else None


def resampled(group_of: Integers, resamples: int, seed: int) -> Iterator[Weights]:
    """Blocks of resamples: how often each video is in each, float32 (N, B).

    As many groups are drawn as there are, with replacement, each with all its videos.
    """
    rng = np.random.default_rng(seed)
    num_groups = int(group_of.max()) + 1
    for begin in range(0, resamples, _BLOCK):
        size = min(_BLOCK, resamples - begin)
        drawn = [rng.integers(num_groups, size=num_groups) for _ in range(size)]
        counts = np.stack([np.bincount(one, minlength=num_groups) for one in drawn], axis=1)
        yield counts.astype(np.float32)[group_of]


def _resampled_macro(
    truth: Integers, predicted: Integers, num_classes: int, weights: Weights
) -> dict[str, Floats]:
    """Macro precision, recall and F1, each (B,), over the classes that occur in the resample."""
    of_truth, of_answer = _adder(truth, num_classes), _adder(predicted, num_classes)
    support = (of_truth @ weights).astype(np.float64)  # (K, B)
    answers = (of_answer @ weights).astype(np.float64)
    hits = (of_truth @ (weights * (truth == predicted)[:, None])).astype(np.float64)
    occurring = np.maximum((support + answers > 0).sum(axis=0), 1)

    def macro(share_of: Floats) -> Floats:
        shares = np.divide(hits, share_of, out=np.zeros_like(hits), where=share_of > 0)
        mean: Floats = shares.sum(axis=0) / occurring
        return mean

    return {
        "macro_precision": macro(answers),
        "macro_recall": macro(support),
        "macro_f1": macro((support + answers) / 2),
    }


def _comparisons(truth: Integers, scores: Floats) -> list[tuple[Any, Any]]:
    """Matrices that add up weights for ``_resampled_auc``, for each class with both labels.

    The m different scores of the positives cut all scores into 2 m + 1 slots: slot 2 k + 1 is the
    k-th score itself, slot 2 k lies below it. Sorted once; each resample only changes weights.

    Returns:
        Sparse (2 m + 1, N) that adds negatives per slot, and (m, N) that adds positives per score.
    """
    pairs = []
    for k in range(scores.shape[1]):
        positive = truth == k
        if positive.all() or not positive.any():
            continue
        levels, level_of = np.unique(scores[positive, k], return_inverse=True)
        others = scores[~positive, k]
        slots = np.searchsorted(levels, others, "left") + np.searchsorted(levels, others, "right")
        pairs.append(
            (
                _adder(slots, 2 * len(levels) + 1, np.flatnonzero(~positive), len(truth)),
                _adder(level_of, len(levels), np.flatnonzero(positive), len(truth)),
            )
        )
    return pairs


def _resampled_auc(comparisons: list[tuple[Any, Any]], weights: Weights) -> Floats:
    """Macro AUC (B,): the share of (positive, negative) pairs in order, ties counting half.

    Over the classes that have both in the resample; NaN where none has.
    """
    total, num_defined = np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
    for add_negatives, add_positives in comparisons:
        negatives = add_negatives @ weights  # (2 m + 1, B)
        positives = add_positives @ weights  # (m, B)
        below = np.cumsum(negatives, axis=0)[0:-1:2]  # below each score, (m, B)
        ordered = (positives * (below + negatives[1::2] / 2)).sum(axis=0, dtype=np.float64)
        pairs = positives.sum(axis=0, dtype=np.float64) * negatives.sum(axis=0)
        total += np.divide(ordered, pairs, out=np.zeros_like(ordered), where=pairs > 0)
        num_defined += pairs > 0
    nothing = np.full_like(total, np.nan)
    return np.divide(total, num_defined, out=nothing, where=num_defined > 0)


def _adder(
    row_of: Integers, num_rows: int, columns: Integers | None = None, num_columns: int | None = None
) -> Any:
    """Sparse 0/1 matrix that, times (N, B), adds the rows that share a number."""
    where = np.arange(len(row_of)) if columns is None else columns
    shape = (num_rows, len(row_of) if num_columns is None else num_columns)
    return sparse.csr_array((np.ones(len(row_of), np.float32), (row_of, where)), shape=shape)
