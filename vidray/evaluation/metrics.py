"""How good a model is, how sure that is, and what it costs: numbers that fit into ``metrics.json``.

A row is one video: ``average_views`` makes one row of several clips. What cannot be told, such as
the AUC of a class without an example, is null, never 0 or NaN.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn import metrics as sk

from vidray.errors import UserError

if TYPE_CHECKING:
    pass

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
# Counts: float32 holds them exactly up to 16 million, in half the time of float64.
Weights = NDArray[np.float32]

LEVEL = 0.95  # of the intervals
RESAMPLES = 2000  # an end of an interval then moves by about 2 % of its width with the seed
CALIBRATION_BINS = 15  # Guo et al. 2017
CURVE_POINTS = 200
TOP_K = 5
# Probabilities of a network in bfloat16 add up to 1 within this.
SUM_TOLERANCE = 0.01
# A true class of probability 0 would cost an infinite loss; scikit-learn cuts here too.
LEAST_PROBABILITY = float(np.finfo(np.float64).eps)
# Resamples at a time: the weights of 10,000 videos then have 4 MB.
_BLOCK = 100

PREDICTIONS = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("true_label", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),  # predicted
        pa.field("probability", pa.float32(), nullable=False),  # of the predicted label
        pa.field("probabilities", pa.list_(pa.float32()), nullable=False),  # in the model's order
        pa.field("correct", pa.bool_(), nullable=False),
        pa.field("loss", pa.float32(), nullable=False),  # -log of the true label's probability
    ]
)


def compute_metrics(
    y_true: ArrayLike,
    probabilities: ArrayLike,
    class_names: Sequence[str],
    *,
    groups: Sequence[str | None] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """All figures of one model on one set of videos, as JSON can hold them.

    The predicted class is the most probable one, the first of several. Macro figures are means over
    the classes that occur, in truth or in predictions (scikit-learn's rule); ``macro_auc`` and
    ``macro_average_precision`` over those with positives and negatives. ``top5`` is null below six
    classes. ``ece`` is of the predicted class in 15 bins; ``brier`` adds up all classes, so it is
    between 0 and 2.

    ``intervals`` are 95 % percentile bootstrap intervals over videos, or over ``groups``: clips of
    one recording fail together, and counting them as independent makes an interval too narrow.
    10,000 videos of 100 classes take some seconds.

    Args:
        y_true: (N,) class names, or indices into ``class_names``.
        probabilities: float (N, K), rows adding up to 1.
        class_names: K different names, in the order of the columns.
        groups: (N,) source recording of each video; null stands for a recording of its own.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        UserError: there are no videos, or a label that the model does not know.
        ValueError: shapes do not fit or ``probabilities`` are none.
    """
    truth, scores = _checked(y_true, probabilities, class_names)
    predicted = scores.argmax(axis=1)
    per_class = _per_class(truth, scores, class_names)
    per_video = _per_video(truth, scores)
    group_of = _group_numbers(groups, len(truth))
    figures = {
        "accuracy": float(per_video["accuracy"].mean()),
        "macro_precision": _mean_known(per_class, "precision"),
        "macro_recall": _mean_known(per_class, "recall"),
        "macro_f1": _mean_known(per_class, "f1"),
        "macro_auc": _mean_known(per_class, "auc"),
        "macro_average_precision": _mean_known(per_class, "average_precision"),
        "top5": float(per_video["top5"].mean()) if "top5" in per_video else None,
        "log_loss": float(per_video["log_loss"].mean()),
        "ece": _expected_calibration_error(_calibration(truth, scores)),
        "brier": float(per_video["brier"].mean()),
    }
    confusion = sk.confusion_matrix(truth, predicted, labels=np.arange(len(class_names)))
    return {
        "num_videos": len(truth),
        "num_groups": int(group_of.max()) + 1,
        **figures,
        "intervals": _intervals(truth, scores, per_video, group_of, resamples, seed),
        "per_class": per_class,
        "confusion_matrix": confusion.tolist(),
    }


def curves(
    y_true: ArrayLike, probabilities: ArrayLike, class_names: Sequence[str]
) -> dict[str, Any]:
    """The points of the ROC, precision-recall and calibration pictures, as JSON can hold them.

    At most 200 points a curve, spread evenly along its length, so that no corner of a rare class is
    lost. Classes without positives or without negatives have no curve.

    Returns:
        ``roc``: class -> ``false_positive_rate``, ``true_positive_rate``, ``auc``;
        ``precision_recall``: class -> ``recall``, ``precision``, ``average_precision``, ``share``
        (of the class among the videos, the precision of guessing);
        ``calibration``: one dict for each bin that has videos: ``low``, ``high``, ``confidence``,
        ``accuracy``, ``num_videos``.

    Raises:
        UserError, ValueError: see ``compute_metrics``.
    """
    truth, scores = _checked(y_true, probabilities, class_names)
    roc, precision_recall = {}, {}
    for k, name in enumerate(class_names):
        positive = truth == k
        if positive.all() or not positive.any():
            continue
        false_rate, true_rate, _ = sk.roc_curve(positive, scores[:, k])
        precision, recall, _ = sk.precision_recall_curve(positive, scores[:, k])
        roc[name] = {
            **_thinned(false_positive_rate=false_rate, true_positive_rate=true_rate),
            "auc": float(sk.roc_auc_score(positive, scores[:, k])),
        }
        precision_recall[name] = {
            **_thinned(recall=recall, precision=precision),
            "average_precision": float(sk.average_precision_score(positive, scores[:, k])),
            "share": float(positive.mean()),
        }
    calibration = _calibration(truth, scores)
    return {"roc": roc, "precision_recall": precision_recall, "calibration": calibration}


def baselines(
    y_true: ArrayLike,
    class_names: Sequence[str],
    *,
    train_labels: ArrayLike | None = None,
    groups: Sequence[str | None] | None = None,
) -> dict[str, Any]:
    """What needs no model: always answering the class with the most training videos.

    Args:
        y_true: (N,) class names or indices.
        class_names: the model's.
        train_labels: labels of the training split; without it the largest class of ``y_true`` is
            taken, which nobody could know before.
        groups: see ``compute_metrics``.

    Returns:
        ``majority``: ``label``, ``accuracy``, ``interval``.

    Raises:
        UserError: see ``compute_metrics``.
    """
    truth = _class_indices(y_true, class_names)
    known = truth if train_labels is None else _class_indices(train_labels, class_names)
    majority = int(np.bincount(known, minlength=len(class_names)).argmax())
    hits = (truth == majority).astype(np.float64)
    group_of = _group_numbers(groups, len(truth))
    drawn = [hits @ weights / weights.sum(axis=0) for weights in _resampled(group_of, RESAMPLES, 0)]
    return {
        "majority": {
            "label": class_names[majority],
            "accuracy": float(hits.mean()),
            "interval": _interval(np.concatenate(drawn)) if group_of.max() > 0 else None,
        }
    }


def average_views(video_ids: Sequence[str], probabilities: ArrayLike) -> tuple[list[str], Floats]:
    """One row per video of several clips: the mean of their probabilities.

    Args:
        video_ids: (N,) the video of each clip.
        probabilities: float (N, K).

    Returns:
        The M different ids in the order they are first seen, and float64 (M, K).

    Raises:
        ValueError: not one row of probabilities for each id.
    """
    scores = np.asarray(probabilities, dtype=np.float64)
    if scores.ndim != 2 or len(scores) != len(video_ids):
        raise ValueError(
            f"{len(video_ids)} video_ids and probabilities of shape {scores.shape}; "
            "pass one row for each id"
        )
    number_of = {video_id: k for k, video_id in enumerate(dict.fromkeys(video_ids))}
    numbers = np.array([number_of[video_id] for video_id in video_ids], dtype=np.int64)
    sums = np.zeros((len(number_of), scores.shape[1]))
    np.add.at(sums, numbers, scores)
    return list(number_of), sums / np.bincount(numbers, minlength=len(number_of))[:, None]


def prediction_rows(
    *,
    video_ids: Sequence[str],
    uris: Sequence[str],
    y_true: ArrayLike,
    probabilities: ArrayLike,
    class_names: Sequence[str],
) -> pa.Table:
    """PREDICTIONS, worst first: the surest errors, then the least sure of the correct.

    Args:
        video_ids: (N,).
        uris: (N,).
        y_true: (N,) class names or indices.
        probabilities: float (N, K).
        class_names: K names.

    Raises:
        UserError, ValueError: see ``compute_metrics``.
    """
    truth, scores = _checked(y_true, probabilities, class_names)
    names = pa.array(class_names, pa.string())
    predicted = scores.argmax(axis=1)
    probability = scores.max(axis=1)
    correct = predicted == truth
    # A correct row's probability is that of its true class; stable, so ties keep their order.
    order = np.lexsort((np.where(correct, probability, -probability), correct))
    table = pa.table(
        [
            pa.array(video_ids, pa.string()),
            pa.array(uris, pa.string()),
            names.take(pa.array(truth)),
            names.take(pa.array(predicted)),
            pa.array(probability, pa.float32()),
            pa.array(list(scores.astype(np.float32)), pa.list_(pa.float32())),
            pa.array(correct),
            pa.array(_losses(truth, scores), pa.float32()),
        ],
        schema=PREDICTIONS,
    )
    return table.take(pa.array(order))


# Cost


# Arguments


def _checked(
    y_true: ArrayLike, probabilities: ArrayLike, class_names: Sequence[str]
) -> tuple[Integers, Floats]:
    """Class indices (N,) and probabilities (N, K), known to fit each other."""
    truth = _class_indices(y_true, class_names)
    scores = np.asarray(probabilities, dtype=np.float64)
    if scores.shape != (len(truth), len(class_names)):
        raise ValueError(
            f"probabilities have shape {scores.shape}; {len(truth)} labels of "
            f"{len(class_names)} classes need ({len(truth)}, {len(class_names)})"
        )
    sums = scores.sum(axis=1)
    # Written so that NaN is wrong too.
    wrong = ~((scores >= 0).all(axis=1) & (np.abs(sums - 1) <= SUM_TOLERANCE))
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"row {row} of probabilities is {scores[row][:5].tolist()}, sum {sums[row]:g}; "
            "probabilities are not negative and add up to 1: pass logits through a softmax first"
        )
    return truth, scores


def _class_indices(labels: ArrayLike, class_names: Sequence[str]) -> Integers:
    """int64 (N,) from names or indices."""
    number_of = {name: k for k, name in enumerate(class_names)}
    if len(number_of) < len(class_names):
        raise ValueError(f"class names {list(class_names)} are not all different")
    values = np.asarray(labels)
    if values.ndim != 1:
        raise ValueError(f"labels have shape {values.shape}; pass one for each video")
    if len(values) == 0:
        raise UserError("there are no videos to judge; choose a split that has some")
    if values.dtype.kind in "iu":
        outside = values[(values < 0) | (values >= len(class_names))]
        if len(outside):
            raise ValueError(
                f"label {outside[0]} is no index of {len(class_names)} classes; "
                f"pass 0 to {len(class_names) - 1}"
            )
        return values.astype(np.int64)
    return np.array([_number(label, number_of) for label in values.tolist()], dtype=np.int64)


def _number(label: object, number_of: Mapping[str, int]) -> int:
    if isinstance(label, str) and label in number_of:
        return number_of[label]
    close = difflib.get_close_matches(str(label), list(number_of), n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"it knows {', '.join(list(number_of)[:10])}"
    raise UserError(f"the model does not know the label {label!r}: {hint}")


def _group_numbers(groups: Sequence[str | None] | None, num_videos: int) -> Integers:
    """int64 (N,): which resampling unit each video belongs to, 0 to G - 1."""
    if groups is None:
        return np.arange(num_videos)
    if len(groups) != num_videos:
        raise ValueError(f"{len(groups)} groups for {num_videos} videos; pass one for each")
    numbers: dict[str | int, int] = {}
    units = [k if group is None else group for k, group in enumerate(groups)]
    return np.array([numbers.setdefault(unit, len(numbers)) for unit in units], dtype=np.int64)


# Figures


def _per_video(truth: Integers, scores: Floats) -> dict[str, Floats]:
    """Figures that are means over videos: name -> (N,)."""
    true_score = scores[np.arange(len(truth)), truth]
    one_hot = np.eye(scores.shape[1])[truth]
    figures = {
        "accuracy": (scores.argmax(axis=1) == truth).astype(np.float64),
        "log_loss": _losses(truth, scores),
        "brier": ((scores - one_hot) ** 2).sum(axis=1),
    }
    if scores.shape[1] > TOP_K:
        # Of equal probabilities the first class is ahead, as it is for accuracy.
        is_first = np.arange(scores.shape[1]) < truth[:, None]
        equal = (scores == true_score[:, None]) & is_first
        ahead = ((scores > true_score[:, None]) | equal).sum(axis=1)
        figures["top5"] = (ahead < TOP_K).astype(np.float64)
    return figures


def _losses(truth: Integers, scores: Floats) -> Floats:
    """float64 (N,): minus the logarithm of the true class's probability, in nats."""
    true_score = scores[np.arange(len(truth)), truth]
    losses: Floats = -np.log(np.clip(true_score, LEAST_PROBABILITY, 1))
    return losses + 0.0  # no -0.0 in a report


def _per_class(
    truth: Integers, scores: Floats, class_names: Sequence[str]
) -> dict[str, dict[str, float | int | None]]:
    predicted = scores.argmax(axis=1)
    every_class = np.arange(len(class_names))
    table = np.column_stack(
        sk.precision_recall_fscore_support(truth, predicted, labels=every_class, zero_division=0)
    )  # (K, 4)
    rows = {}
    for k, name in enumerate(class_names):
        positive = truth == k
        occurs = bool(positive.any() or (predicted == k).any())
        precision, recall, f1, support = table[k].tolist()
        has_both = bool(positive.any() and not positive.all())
        rows[name] = {
            "precision": precision if occurs else None,
            "recall": recall if occurs else None,
            "f1": f1 if occurs else None,
            "support": int(support),
            "auc": float(sk.roc_auc_score(positive, scores[:, k])) if has_both else None,
            "average_precision": (
                float(sk.average_precision_score(positive, scores[:, k])) if has_both else None
            ),
        }
    return rows


def _mean_known(per_class: Mapping[str, Mapping[str, float | None]], key: str) -> float | None:
    known = [value for row in per_class.values() if (value := row[key]) is not None]
    return float(np.mean(known)) if known else None


def _calibration(truth: Integers, scores: Floats) -> list[dict[str, float | int]]:
    """Confidence and accuracy of the predicted class in bins (low, high] of equal width."""
    confidence = scores.max(axis=1)
    correct = scores.argmax(axis=1) == truth
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    bin_of = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, CALIBRATION_BINS - 1)
    return [
        {
            "low": float(edges[k]),
            "high": float(edges[k + 1]),
            "confidence": float(confidence[bin_of == k].mean()),
            "accuracy": float(correct[bin_of == k].mean()),
            "num_videos": int((bin_of == k).sum()),
        }
        for k in np.unique(bin_of)
    ]


def _expected_calibration_error(bins: list[dict[str, float | int]]) -> float:
    """Mean over videos of how far their bin's accuracy is from its confidence (Guo et al. 2017)."""
    gaps = [abs(row["accuracy"] - row["confidence"]) for row in bins]
    return float(np.average(gaps, weights=[row["num_videos"] for row in bins]))


def _thinned(**axes: Floats) -> dict[str, list[float]]:
    """At most ``CURVE_POINTS`` points of a curve, evenly along its length, the ends among them."""
    steps = np.sum([np.abs(np.diff(values)) for values in axes.values()], axis=0)
    length = np.concatenate([[0.0], np.cumsum(steps)])
    wanted = np.linspace(0, length[-1], CURVE_POINTS)
    chosen = np.unique(np.searchsorted(length, wanted).clip(max=len(length) - 1))
    if len(length) <= CURVE_POINTS:
        chosen = np.arange(len(length))
    chosen[-1] = len(length) - 1
    return {name: values[chosen].tolist() for name, values in axes.items()}


# Intervals


def _intervals(
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
    intervals: dict[str, list[float] | None] = dict.fromkeys(names)
    if group_of.max() == 0:
        return intervals  # One recording resampled is that recording: no spread to be seen.
    comparisons = _comparisons(truth, scores)
    blocks = []
    for weights in _resampled(group_of, resamples, seed):
        means = {name: values @ weights / weights.sum(axis=0) for name, values in per_video.items()}
        macro = _resampled_macro(truth, scores.argmax(axis=1), scores.shape[1], weights)
        blocks.append({**means, **macro, "macro_auc": _resampled_auc(comparisons, weights)})
    for name in blocks[0]:
        intervals[name] = _interval(np.concatenate([block[name] for block in blocks]))
    return intervals


def _interval(values: Floats) -> list[float] | None:
    """Of the resamples in which the figure exists."""
    known = values[np.isfinite(values)]
    tail = 100 * (1 - LEVEL) / 2
    return np.percentile(known, [tail, 100 - tail]).tolist() if len(known) else None


def _resampled(group_of: Integers, resamples: int, seed: int) -> Iterator[Weights]:
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
    """For each class with positives and negatives, what adds up weights for ``_resampled_auc``.

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
