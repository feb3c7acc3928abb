"""Figures of a study, from the answers of all units, as JSON and as a table."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from vidray.evaluation.fronts import pareto
from vidray.evaluation.judged import judge
from vidray.evaluation.study_answers import UnitAnswer
from vidray.evaluation.study_plan import BASELINES, Purpose, Unit
from vidray.learning.examples import Examples
from vidray.tables import schema

# By what a model is given.
_KINDS = {None: "baseline", "features": "classical", "clips": "deep"}
_MEANS = ("accuracy", "macro_f1", "macro_auc", "log_loss")


def summarise(
    videos: Examples,
    units: Sequence[Unit],
    answers: Mapping[str, UnitAnswer],
    fractions: Sequence[float] = (),
    *,
    making: Mapping[str, float | None],
) -> dict[str, Any]:
    """All figures, as JSON can hold them.

    Args:
        videos, units, fractions: see ``plan``.
        answers: unit's name -> answer.
        making: CPU-seconds a video of the ``features`` and the ``clips`` that models are given.

    Returns:
        ``class_names``; ``test``: model -> figures; ``cross_validation``: model -> ``mean`` and
        ``std`` over repeats of accuracy, macro_f1, macro_auc, log_loss, and ``repeats``, the
        figures of each; ``learning_curve``: figures with ``model`` and ``fraction``. Figures are
        ``train_videos, training_seconds, best_epoch`` and ``metrics``, those of
        ``evaluation.compute_metrics``; those of ``test`` also have ``seconds_per_video``, from the
        file to the label, and ``on_front``.
    """

    def figures(*together: Unit) -> dict[str, Any]:
        return _figures(videos, together, [answers[unit.name] for unit in together])

    tests = {unit.model: unit for unit in units if unit.purpose == "test"}
    curve = [unit for unit in units if unit.purpose == "learning-curve"]
    if 1.0 in fractions:
        whole = (unit for model, unit in tests.items() if model not in BASELINES)
        curve += [dataclasses.replace(unit, fraction=1.0) for unit in whole]
    return {
        "class_names": videos.class_names,
        "test": _with_fronts(
            {model: figures(unit) for model, unit in tests.items()},
            {model: _seconds(unit, answers[unit.name], making) for model, unit in tests.items()},
        ),
        "cross_validation": _cross_validations(units, figures),
        "learning_curve": [
            {"model": unit.model, "fraction": unit.fraction, **figures(unit)} for unit in curve
        ],
    }


def _seconds(unit: Unit, answer: UnitAnswer, making: Mapping[str, float | None]) -> float | None:
    """Seconds a video, from the file to the label; None of a baseline, and where not known."""
    made = None if unit.takes is None else making[unit.takes]
    if made is None or answer.seconds_per_video is None:
        return None
    return made + answer.seconds_per_video


def _with_fronts(
    tests: Mapping[str, dict[str, Any]], seconds: Mapping[str, float | None]
) -> dict[str, dict[str, Any]]:
    accuracies = [one["metrics"]["accuracy"] for one in tests.values()]
    on_front = pareto([seconds[model] for model in tests], accuracies)
    return {
        model: {**one, "seconds_per_video": seconds[model], "on_front": is_on}
        for (model, one), is_on in zip(tests.items(), on_front, strict=True)
    }


def front_rows(table: pa.Table) -> list[dict[str, Any]]:
    """The tests of a STUDY table whose seconds are known, as ``plots.tradeoff`` takes them."""
    return [
        {
            **{key: row[key] for key in ("model", "accuracy", "seconds_per_video", "on_front")},
            "low": row["accuracy_low"],
            "high": row["accuracy_high"],
        }
        for row in table.to_pylist()
        if row["seconds_per_video"] is not None
    ]


def _figures(
    videos: Examples, units: Sequence[Unit], answers: Sequence[UnitAnswer]
) -> dict[str, Any]:
    """Figures of one unit, or of all folds of a repeat pooled: every video is judged once."""
    rows = np.concatenate([unit.judged for unit in units])
    probabilities = np.concatenate([answer.probabilities for answer in answers])
    metrics = judge(videos.table.take(rows), probabilities).metrics(videos.class_names)
    best = [answer.best_epoch for answer in answers]
    return {
        "kind": _KINDS[units[0].takes],
        "train_videos": round(statistics.fmean(len(unit.train) for unit in units)),
        "training_seconds": _sum([answer.training_seconds for answer in answers]),
        "best_epoch": best[0] if len(best) == 1 else None,
        "metrics": metrics,
    }


def _sum(seconds: Sequence[float | None]) -> float | None:
    known = [one for one in seconds if one is not None]
    return sum(known) if len(known) == len(seconds) else None


def _cross_validations(
    units: Sequence[Unit], figures: Callable[..., dict[str, Any]]
) -> dict[str, Any]:
    folds: dict[str, dict[int, list[Unit]]] = {}
    for unit in units:
        if unit.repeat is not None:
            folds.setdefault(unit.model, {}).setdefault(unit.repeat, []).append(unit)
    found = {}
    for model, of_repeat in folds.items():
        repeats = [figures(*of_repeat[repeat]) for repeat in sorted(of_repeat)]
        values = {key: [r["metrics"][key] for r in repeats] for key in _MEANS}
        found[model] = {
            "mean": {key: _over(statistics.fmean, value, 1) for key, value in values.items()},
            "std": {key: _over(statistics.stdev, value, 2) for key, value in values.items()},
            "repeats": repeats,
        }
    return found


def _over(
    function: Callable[[list[float]], float], values: Sequence[float | None], least: int
) -> float | None:
    known = [value for value in values if value is not None]
    return function(known) if len(known) >= least else None


def to_table(summary: Mapping[str, Any]) -> pa.Table:
    """STUDY: a row per model and purpose, and repeat or fraction."""
    rows = [_row(model, "test", found) for model, found in summary["test"].items()]
    for model, found in summary["cross_validation"].items():
        rows += [
            _row(model, "cross-validation", one, repeat=number)
            for number, one in enumerate(found["repeats"])
        ]
    rows += [
        _row(one["model"], "learning-curve", one, fraction=one["fraction"])
        for one in summary["learning_curve"]
    ]
    return pa.Table.from_pylist(rows, schema.STUDY)


def _row(
    model: str,
    purpose: Purpose,
    found: Mapping[str, Any],
    *,
    repeat: int | None = None,
    fraction: float | None = None,
) -> dict[str, Any]:
    metrics = found["metrics"]
    low, high = metrics["intervals"]["accuracy"] or (None, None)
    return {
        "model": model,
        "purpose": purpose,
        "repeat": repeat,
        "fraction": fraction,
        "train_videos": found["train_videos"],
        "judged_videos": metrics["num_videos"],
        "accuracy_low": low,
        "accuracy_high": high,
        **{key: metrics[key] for key in _MEANS},
        "training_seconds": found["training_seconds"],
        "seconds_per_video": found.get("seconds_per_video"),
        "on_front": found.get("on_front"),
        "kind": found["kind"],
    }


def curve_rows(table: pa.Table) -> list[dict[str, Any]]:
    """The learning curve of a STUDY table, as ``plots.learning_curve`` takes it."""
    return [
        {
            **{key: row[key] for key in ("model", "fraction", "train_videos", *_MEANS)},
            "low": row["accuracy_low"],
            "high": row["accuracy_high"],
        }
        for row in table.to_pylist()
        if row["purpose"] == "learning-curve"
    ]
