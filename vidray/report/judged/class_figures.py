"""Figures of each class, with intervals over recordings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from vidray.evaluation.answers import class_indices
from vidray.evaluation.intervals import Floats, Integers, interval, resampled
from vidray.evaluation.metrics import RESAMPLES
from vidray.report.runs import JudgedModel


def class_frame(judged: JudgedModel, *, seed: int = 0) -> pd.DataFrame:
    """A row a class, the one with the lowest F1 first; missing is null."""
    truth = class_indices(judged.truth, judged.class_names)
    predicted = judged.probabilities.argmax(axis=1)
    group_of = _numbers(judged)
    ends = _intervals(truth, predicted, len(judged.class_names), group_of, seed)
    confusion = np.array(judged.metrics["confusion_matrix"])
    np.fill_diagonal(confusion, 0)
    rows = [
        {
            "class": name,
            "videos": figures["support"],
            "recordings": len(np.unique(group_of[truth == k])),
            **{key: figures[key] for key in ("recall", "precision", "f1")},
            **{key: figures[key] for key in ("auc", "average_precision")},
            **{key: values[k] for key, values in ends.items()},
            "mistaken_for": _mistaken(judged.class_names, confusion[k]),
        }
        for k, (name, figures) in enumerate(judged.metrics["per_class"].items())
    ]
    frame = pd.DataFrame(rows)
    frame["recall"] = frame["recall"].where(frame["videos"] > 0)
    return frame.sort_values("f1", na_position="last", kind="stable").reset_index(drop=True)


def _numbers(judged: JudgedModel) -> Integers:
    """int64 (N,): the number of each video's recording; a video without is one of its own."""
    units = [
        group or ("", video) for group, video in zip(judged.groups, judged.video_ids, strict=True)
    ]
    number_of = {unit: number for number, unit in enumerate(dict.fromkeys(units))}
    return np.array([number_of[unit] for unit in units], np.int64)


def _mistaken(names: tuple[str, ...], errors: Any) -> str | None:
    if not errors.any():
        return None
    most = int(errors.argmax())
    return f"{names[most]} ({errors[most]:,} of {errors.sum():,} errors)"


def _intervals(
    truth: Integers, predicted: Integers, num_classes: int, group_of: Integers, seed: int
) -> dict[str, list[float | None]]:
    """The ends of the intervals of each class's recall and precision.

    None where the class's videos, or those given it, are all of one recording: then nothing is
    known of others.
    """
    found: dict[str, list[float | None]] = {
        f"{name}_{end}": [] for name in ("recall", "precision") for end in ("low", "high")
    }
    draws = _draws(truth, predicted, num_classes, group_of, seed)
    for name, of_class in (("recall", truth), ("precision", predicted)):
        for k in range(num_classes):
            is_alone = len(np.unique(group_of[of_class == k])) < 2
            ends = None if is_alone else interval(draws[name][k])
            low, high = ends or (None, None)
            found[f"{name}_low"].append(low)
            found[f"{name}_high"].append(high)
    return found


def _draws(
    truth: Integers, predicted: Integers, num_classes: int, group_of: Integers, seed: int
) -> dict[str, Floats]:
    """Recall and precision, each (K, resamples); NaN where a resample has none."""
    classes = np.arange(num_classes)[:, None]
    is_true = (truth == classes).astype(np.float32)  # (K, N)
    is_given = (predicted == classes).astype(np.float32)
    is_hit = is_true * is_given
    blocks: dict[str, list[Floats]] = {"recall": [], "precision": []}
    for weights in resampled(group_of, RESAMPLES, seed):
        hits = (is_hit @ weights).astype(np.float64)
        for name, among in (("recall", is_true), ("precision", is_given)):
            total = (among @ weights).astype(np.float64)
            nothing = np.full_like(total, np.nan)
            blocks[name].append(np.divide(hits, total, out=nothing, where=total > 0))
    return {name: np.concatenate(found, axis=1) for name, found in blocks.items()}
