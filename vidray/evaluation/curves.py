"""ROC, precision-recall and calibration curves, from probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn import metrics as sk

from vidray.evaluation.answers import checked
from vidray.evaluation.intervals import Floats, Integers

CALIBRATION_BINS = 15  # Guo et al. 2017
CURVE_POINTS = 200


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
    truth, scores = checked(y_true, probabilities, class_names)
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
    found = calibration(truth, scores)
    return {"roc": roc, "precision_recall": precision_recall, "calibration": found}


def calibration(truth: Integers, scores: Floats) -> list[dict[str, float | int]]:
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


def expected_calibration_error(bins: list[dict[str, float | int]]) -> float:
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
