"""What more data and more training bring: curves of studies, and of each network's epochs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from vidray.models.names import MAJORITY
from vidray.report import charts
from vidray.report.blocks import Chart, Fold, Part, Prose
from vidray.report.formats import listing
from vidray.report.judged.study_units import kind
from vidray.report.runs import Runs, StudyResult, TrainedModel, number_in

# The page has eight colours; the CSV has every model.
_MOST_LINES = 8
# A log loss beyond three times that of guessing would flatten all other lines.
_MOST_LOSS = 3.0
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
    # The best first, as the legend names them.
    order = {model: place for place, model in enumerate(last.index)}
    frame = frame.assign(
        place=frame["model"].map(order), kind=[kind(model) for model in frame["model"]]
    ).sort_values(["place", "train_videos"], kind="stable")
    firsts = frame.drop_duplicates("kind")["model"]
    parts: list[Part] = [
        Prose(paragraphs=[_gains(frame)]),
        _curve(frame[frame["place"] < _MOST_LINES], "accuracy", f"accuracy-{number}"),
        _banded(frame[frame["model"].isin(firsts)], f"best-{number}"),
    ]
    limit = _MOST_LOSS * _loss_of_guessing(study)
    highest = frame.groupby("model", sort=False)["log_loss"].max()
    known = frame[frame["model"].map(highest) <= limit]
    if not known.empty:
        left_out = [f"{model} ({value:.3g})" for model, value in highest.items() if value > limit]
        parts.append(
            _curve(known[known["place"] < _MOST_LINES], "log_loss", f"log-loss-{number}", left_out)
        )
    return [Fold(title=f"What more data bring: study ({study.name})", blocks=parts)]


def _loss_of_guessing(study: StudyResult) -> float:
    """The log loss of the study's majority baseline; infinity where it has none."""
    found = [
        row["log_loss"]
        for row in study.rows.to_pylist()
        if row["model"] == MAJORITY and row["purpose"] == "test"
    ]
    return float(found[0]) if found and found[0] is not None else math.inf


_SAME = "All models learnt from the same subsets and were judged on the same test videos."


def _curve(frame: pd.DataFrame, figure: str, name: str, left_out: Sequence[str] = ()) -> Chart:
    words = figure.replace("_", " ")
    rest = f" Not drawn, with a loss far beyond guessing: {listing(left_out)}." if left_out else ""
    return charts.lines(
        _with_said(frame, figure, words),
        x="train_videos",
        y=figure,
        x_title="videos learnt from",
        y_title=words,
        name=f"learning-{name}",
        title=f"{words.capitalize()} by the amount of data",
        note=_SAME + rest,
        color="model",
    )


def _banded(frame: pd.DataFrame, name: str) -> Chart:
    """The best model of each kind with its interval: bands of more models hide each other."""
    return charts.lines(
        _with_said(frame, "accuracy", "accuracy"),
        x="train_videos",
        y="accuracy",
        x_title="videos learnt from",
        y_title="accuracy",
        name=f"learning-{name}",
        title="The best model of each kind",
        note="With 95 % intervals over recordings of the test videos.",
        color="model",
        band=("accuracy_low", "accuracy_high") if frame["accuracy_low"].notna().all() else None,
    )


def _with_said(frame: pd.DataFrame, figure: str, words: str) -> pd.DataFrame:
    said = [
        f"{row['model']} ({row['kind']}) after {row['train_videos']:,} videos: {words} "
        f"{row[figure]:.3f}"
        for row in frame.to_dict("records")
    ]
    return frame.drop(columns="place").assign(said=said)


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
