"""Tables of studies: models that learnt from the same videos and were judged on the same others."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import pandas as pd

from vidray.report import charts
from vidray.report.blocks import Chart, Column, DataTable, Fold, Part
from vidray.report.judged import compare_pairs, tradeoffs
from vidray.report.judged.study_units import kind, study_group
from vidray.report.runs import Runs, StudyResult

_MEANS = ("accuracy", "macro_f1", "macro_auc", "log_loss")
_INTERVAL = ("accuracy_low", "accuracy_high")
_TEST = {
    "model": Column(title="Model"),
    "kind": Column(title="Kind"),
    "accuracy": Column(title="Accuracy", form="share", best="highest", interval=_INTERVAL),
    "macro_f1": Column(title="F1", form="share", best="highest"),
    "macro_auc": Column(title="AUC", form="share", best="highest"),
    "log_loss": Column(title="Log loss", form="share", best="lowest"),
    "train_videos": Column(title="Videos learnt from", form="count"),
    "training_seconds": Column(title="Training", form="seconds"),
    "seconds_per_video": Column(
        title="A video", form="seconds", best="lowest", hint="seconds from the file to the label"
    ),
    "front": Column(title="Not beaten in", hint="no model costs less and is as accurate"),
}
_FOLDS = {
    "model": Column(title="Model"),
    "kind": Column(title="Kind"),
    "accuracy": Column(title="Accuracy", form="share", best="highest", interval=_INTERVAL),
    "accuracy_std": Column(
        title="Its deviation", form="share", hint="standard deviation between the repeats"
    ),
    "macro_f1": Column(title="F1", form="share", best="highest"),
    "macro_auc": Column(title="AUC", form="share", best="highest"),
    "log_loss": Column(title="Log loss", form="share", best="lowest"),
    "repeats": Column(title="Repeats", form="count"),
    "training_seconds": Column(title="Training, all folds", form="seconds"),
}


def blocks(runs: Runs, seed: int) -> list[Part]:
    """A fold a study: its test, the paired tests of it, its cross-validation."""
    return [
        _of_study(study, runs, number, seed) for number, study in enumerate(runs.studies, start=1)
    ]


def _of_study(study: StudyResult, runs: Runs, number: int, seed: int) -> Fold:
    rows = study.rows.to_pylist()
    inside: list[Part] = []
    if test := [row for row in rows if row["purpose"] == "test"]:
        frame = _ordered(pd.DataFrame([{**row, **_ends(row), "kind": _kind(row)} for row in test]))
        frame["front"] = ["seconds a video" if on is True else None for on in frame["on_front"]]
        inside.append(
            DataTable(
                name=f"study-test-{number}",
                title=f"On the {_count(test)} test videos",
                frame=frame,
                columns={name: column for name, column in _TEST.items() if _known(frame, name)},
                note="All learnt from the same videos and were judged on the same others.",
            )
        )
        inside.append(_chart(frame, f"study-accuracy-{number}"))
        if frame["seconds_per_video"].notna().sum() > 1:
            inside.append(_tradeoff(frame, number))
        group = study_group(study, runs, number)
        if group is not None and len(group.members) > 1:
            inside += compare_pairs.blocks(group, compare_pairs.pairs_of(group, seed=seed))
    if folds := [row for row in rows if row["purpose"] == "cross-validation"]:
        inside.append(_cross_validation(folds, number))
    return Fold(title=f"Study ({study.name})", blocks=inside)


def _kind(row: dict[str, Any]) -> str:
    """The kind that the study says; an older one says none."""
    return row.get("kind") or kind(row["model"])


def _known(frame: pd.DataFrame, name: str) -> bool:
    return name not in ("seconds_per_video", "front") or bool(frame[name].notna().any())


def _tradeoff(frame: pd.DataFrame, number: int) -> Chart:
    """Accuracy against the seconds that a video takes."""
    axis = next(axis for axis in tradeoffs.AXES if axis.slug == "seconds")
    seconds = pd.to_numeric(frame["seconds_per_video"])
    own = {axis.column: seconds, f"front_{axis.column}": frame["on_front"] == True, "link": None}  # noqa: E712
    return tradeoffs.chart(frame.assign(**own), axis, f"study-{number}")


def _ends(row: dict[str, Any]) -> dict[str, float | None]:
    """The ends of a row's interval; none where they are one: that is less certain than it looks."""
    low, high = (row.get(name) for name in _INTERVAL)
    is_open = low is not None and high is not None and low < high
    return dict(zip(_INTERVAL, (low, high) if is_open else (None, None), strict=True))


def _count(rows: Sequence[dict[str, Any]]) -> str:
    counts = sorted({row["judged_videos"] for row in rows})
    return " to ".join(f"{number:,}" for number in dict.fromkeys((counts[0], counts[-1])))


def _ordered(frame: pd.DataFrame) -> pd.DataFrame:
    """The most accurate model first, baselines last."""
    is_baseline = frame["kind"] == "baseline"
    order = frame.assign(last=is_baseline).sort_values(
        ["last", "accuracy"], ascending=[True, False], kind="stable"
    )
    return order.drop(columns="last").reset_index(drop=True)


def _chart(frame: pd.DataFrame, name: str) -> Chart:
    return charts.dots(
        frame,
        label="model",
        value="accuracy",
        low="accuracy_low",
        high="accuracy_high",
        value_title="accuracy, 95 % interval",
        name=name,
        title="Accuracy of each model of the study",
        color="kind",
    )


def _cross_validation(rows: Sequence[dict[str, Any]], number: int) -> DataTable:
    """A row a model: means over repeats, in each of which every video is judged once."""
    of_model: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        of_model.setdefault(row["model"], []).append(row)
    made = []
    for model, repeats in of_model.items():
        accuracies = [row["accuracy"] for row in repeats]
        only = repeats[0] if len(repeats) == 1 else {}
        made.append(
            {
                "model": model,
                "kind": _kind(repeats[0]),
                **{name: _mean([row[name] for row in repeats]) for name in _MEANS},
                **_ends(only),
                "accuracy_std": statistics.stdev(accuracies) if len(repeats) > 1 else None,
                "repeats": len(repeats),
                "training_seconds": sum(row["training_seconds"] or 0 for row in repeats),
            }
        )
    frame = _ordered(pd.DataFrame(made))
    columns = {name: column for name, column in _FOLDS.items() if frame[name].notna().any()}
    return DataTable(
        name=f"study-folds-{number}",
        title=f"Cross-validated over {_count(rows)} videos",
        frame=frame,
        columns=columns,
        note="Each repeat judges every video once, by a model that has not seen its recording. The "
        "deviation is between repeats over the same videos: other videos would differ by more.",
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
