"""Figures of a model and their intervals, as ``metrics.json`` holds them.

A row is one video: ``average_views`` makes one row of several clips. What cannot be computed, such
as the AUC of a class without an example, is null, not 0 or NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn import metrics as sk

from vidray.evaluation.answers import checked, class_indices, losses
from vidray.evaluation.curves import calibration, expected_calibration_error
from vidray.evaluation.intervals import Floats, Integers, interval, intervals, resampled

RESAMPLES = 2000  # an end of an interval then moves by about 2 % of its width with the seed
TOP_K = 5


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
    truth, scores = checked(y_true, probabilities, class_names)
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
        "ece": expected_calibration_error(calibration(truth, scores)),
        "brier": float(per_video["brier"].mean()),
    }
    # Scikit-learn's own warns of a single class.
    classes = len(class_names)
    cells = np.bincount(truth * classes + predicted, minlength=classes**2)
    confusion = cells.reshape(classes, classes)
    return {
        "num_videos": len(truth),
        "num_groups": int(group_of.max()) + 1,
        **figures,
        "intervals": intervals(truth, scores, per_video, group_of, resamples, seed),
        "per_class": per_class,
        "confusion_matrix": confusion.tolist(),
    }


def baselines(
    y_true: ArrayLike,
    class_names: Sequence[str],
    *,
    train_labels: ArrayLike | None = None,
    groups: Sequence[str | None] | None = None,
) -> dict[str, Any]:
    """The baseline that needs no model: always answer the class with the most training videos.

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
    truth = class_indices(y_true, class_names)
    known = truth if train_labels is None else class_indices(train_labels, class_names)
    majority = int(np.bincount(known, minlength=len(class_names)).argmax())
    hits = (truth == majority).astype(np.float64)
    group_of = _group_numbers(groups, len(truth))
    drawn = [hits @ weights / weights.sum(axis=0) for weights in resampled(group_of, RESAMPLES, 0)]
    return {
        "majority": {
            "label": class_names[majority],
            "accuracy": float(hits.mean()),
            "interval": interval(np.concatenate(drawn)) if group_of.max() > 0 else None,
        }
    }


# Cost


# Arguments


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
        "log_loss": losses(truth, scores),
        "brier": ((scores - one_hot) ** 2).sum(axis=1),
    }
    if scores.shape[1] > TOP_K:
        # Of equal probabilities the first class is ahead, as it is for accuracy.
        is_first = np.arange(scores.shape[1]) < truth[:, None]
        equal = (scores == true_score[:, None]) & is_first
        ahead = ((scores > true_score[:, None]) | equal).sum(axis=1)
        figures["top5"] = (ahead < TOP_K).astype(np.float64)
    return figures


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


# Intervals
