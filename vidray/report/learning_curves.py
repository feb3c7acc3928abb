"""What more data and more training bring: curves of studies, and of each network's epochs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from vidray.report import charts
from vidray.report.blocks import Chart, Fold, Part, Prose
from vidray.report.compare_pairs import listing
from vidray.report.runs import Runs, StudyResult, TrainedModel, number_in
from vidray.report.studies import kind

# The page has eight colours; the CSV has every model.
_MOST_LINES = 8
# More networks than this are folded.
_MOST_OPEN = 4


def blocks(runs: Runs) -> list[Part]:
    """The learning curves of each study, then the training curves of each network."""
    parts: list[Part] = []
    for number, study in enumerate(runs.studies, start=1):
        parts += _of_data(study, number)
    curves = [part for n, model in enumerate(runs.models, start=1) for part in _of_epochs(model, n)]
    if curves:
        title = "Training curves: loss and accuracy, epoch by epoch"
        parts.append(Fold(title=title, blocks=curves, is_open=len(curves) <= 2 * _MOST_OPEN))
    return parts


# Over the amount of data


def _of_data(study: StudyResult, number: int) -> list[Part]:
    rows = [row for row in study.rows.to_pylist() if row["purpose"] == "learning-curve"]
    frame = pd.DataFrame(rows, columns=study.rows.column_names)
    if frame["train_videos"].nunique() < 2:
        return []
    frame = frame.sort_values(["model", "train_videos"], kind="stable")
    last = frame.groupby("model")["accuracy"].last().sort_values(ascending=False, kind="stable")
    shown = frame[frame["model"].isin(last.index[:_MOST_LINES])]
    shown = shown.assign(
        model=pd.Categorical(shown["model"], last.index[:_MOST_LINES], ordered=True)
    ).sort_values(["model", "train_videos"], kind="stable")
    shown = shown.assign(model=shown["model"].astype(str), kind=[kind(m) for m in shown["model"]])
    drawn = [_curve(shown, figure, number) for figure in ("accuracy", "log_loss")]
    title = f"What more data bring: study {study.name}"
    return [Fold(title=title, blocks=[Prose(paragraphs=[_gains(frame)]), *drawn])]


def _curve(frame: pd.DataFrame, figure: str, number: int) -> Chart:
    has_band = figure == "accuracy" and frame["accuracy_low"].notna().all()
    words = figure.replace("_", " ")
    said = [
        f"{row['model']} ({row['kind']}) after {row['train_videos']:,} videos: {words} "
        f"{row[figure]:.3f}"
        for row in frame.to_dict("records")
    ]
    return charts.lines(
        frame.assign(said=said),
        x="train_videos",
        y=figure,
        x_title="videos learnt from",
        y_title=words,
        name=f"learning-{figure.replace('_', '-')}-{number}",
        title=f"{words.capitalize()} by the amount of data",
        note="All models learnt from the same subsets and were judged on the same test videos."
        + (" Bands are 95 % intervals over recordings." if has_band else ""),
        color="model",
        band=("accuracy_low", "accuracy_high") if has_band else None,
    )


def _gains(frame: pd.DataFrame) -> str:
    """What the last step of data brought each model, in a sentence."""
    parts = []
    for model, rows in frame.groupby("model", sort=False):
        if len(rows) > 1:
            before, after = rows.iloc[-2], rows.iloc[-1]
            gain = after["accuracy"] - before["accuracy"]
            parts.append(
                (gain, str(model), int(before["train_videos"]), int(after["train_videos"]))
            )
    parts.sort(key=lambda part: (-part[0], part[1]))
    steps = sorted({(before, after) for _, _, before, after in parts})
    if len(steps) == 1:
        before, after = steps[0]
        named = [f"{model} {gain:+.3f}" for gain, model, _, _ in parts]
        return f"From {before:,} to {after:,} videos accuracy changed by {listing(named)}."
    named = [f"{model} {gain:+.3f} ({a:,} to {b:,} videos)" for gain, model, a, b in parts]
    return f"In the last step accuracy changed by {listing(named)}."


# Over epochs


def _of_epochs(model: TrainedModel, number: int) -> Iterator[Part]:
    rows = list(_epochs(model.history))
    if len({row["epoch"] for row in rows}) < 2:
        return
    frame = pd.DataFrame(rows)
    name = str(model.info["name"])
    for figure in ("loss", "accuracy"):
        some = frame[frame["figure"] == figure]
        if some["epoch"].nunique() < 2:
            continue
        yield charts.lines(
            some,
            x="epoch",
            y="value",
            x_title="epoch",
            y_title="loss (nats)" if figure == "loss" else "accuracy",
            name=f"training-{figure}-{number}",
            title=f"{name}, {figure}" if name == model.name else f"{name} ({model.name}), {figure}",
            note=_course(some, figure),
            color="videos",
            points=some["epoch"].nunique() <= 40,
        )


def _epochs(history: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """A row an epoch, figure and part; numbers that are missing or none are left out."""
    for row in history:
        epoch = number_in(row, "epoch")
        for figure in ("loss", "accuracy"):
            for part, words in (("train", "training"), ("val", "validation")):
                value = number_in(row, f"{part}_{figure}")
                if epoch is not None and value is not None:
                    yield {
                        "epoch": int(epoch),
                        "figure": figure,
                        "videos": words,
                        "value": value,
                        "said": f"{words} {figure} after epoch {epoch:.0f}: {value:.4g}",
                    }


def _course(frame: pd.DataFrame, figure: str) -> str:
    """Where validation was best, and what happened after."""
    rows = frame[frame["videos"] == "validation"].sort_values("epoch", kind="stable")
    if rows.empty:
        return "There were no validation videos."
    values = rows["value"].to_list()
    best = min(values) if figure == "loss" else max(values)
    at, last = rows["epoch"].to_list()[values.index(best)], rows["epoch"].to_list()[-1]
    where = f"Validation was best in epoch {at} of {last} ({best:.3f})"
    if at == last:
        return f"{where}, the last one: more epochs may bring more."
    return f"{where}; in the last it was {values[-1]:.3f}."
