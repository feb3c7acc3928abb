"""What the model said night by night: shares of the labels, and accuracy where truth is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from vidray.evaluation.drift import Masks
from vidray.evaluation.intervals import Integers, Weights, interval, resampled
from vidray.report import charts
from vidray.report.blocks import Chart, Column, DataTable, Part
from vidray.report.nights.charts_over_nights import MOST_NIGHTS, largest, over_nights, stacked
from vidray.report.nights.origin import LabelOrigin
from vidray.report.nights.rows import NightRows, Words, words

_RESAMPLES = 1000
_IN_SIGHT = 15


def blocks(
    found: NightRows, origin: LabelOrigin, is_learnt: Masks, slug: str, *, seed: int
) -> list[Part]:
    """Charts over the nights, and the last night's shares beside those expected.

    Args:
        is_learnt: ``bool (N,)``: rows of videos that the model learnt from.
    """
    if not (found.labels.codes >= 0).any():
        return []
    parts: list[Part] = []
    if found.count > 1:
        parts.append(_mix(found, slug))
    known = accuracy(found, is_learnt, seed=seed)
    if len(known):
        parts.append(_accuracy_chart(known, bool(is_learnt.any()), slug))
    shares = label_shares(found, origin)
    if len(shares.columns) > 2:
        parts.append(_shares_table(shares, slug))
    return parts


def _mix(found: NightRows, slug: str) -> Chart:
    counts = found.labels.per_night(found.night, found.count)
    frame = pd.DataFrame(counts, columns=list(found.labels.names))
    frame.insert(0, "night", found.numbers)
    shown = largest(frame.tail(MOST_NIGHTS))
    names = list(shown.columns[1:])
    total = shown[names].sum(axis=1)
    shown[names] = shown[names].div(total.where(total > 0), axis=0)
    return stacked(
        shown.dropna(),
        names,
        name=f"{slug}-labels",
        title="Labels of each night",
        of="share of the labels",
        is_share=True,
    )


def accuracy(found: NightRows, is_learnt: Masks, *, seed: int) -> pd.DataFrame:
    """Columns night, videos, accuracy, low, high: of the nights with true labels, without videos
    that the model learnt from; an interval of 95 % over recordings, where there are two.
    """
    truth = found.rows["true_label"]
    # What a source calls its videos need be no class of the model's: then no answer is right.
    is_class = pc.is_in(truth, pa.array(sorted(_classes(found)), pa.string())).to_numpy()
    is_known = (found.labels.codes >= 0) & is_class & ~is_learnt
    is_right = pc.fill_null(pc.equal(truth, found.rows["label"]), False).to_numpy()
    codes = found.recording.combine_chunks().dictionary_encode().indices.to_numpy()
    made = []
    for night in range(max(0, found.count - MOST_NIGHTS), found.count):
        at = np.flatnonzero(is_known & (found.night == night))
        if not len(at):
            continue
        hits = is_right[at].astype(np.float32)
        ends = _ends(hits, np.unique(codes[at], return_inverse=True)[1], seed)
        made.append((int(found.numbers[night]), len(at), float(hits.mean()), *ends))
    return pd.DataFrame(made, columns=["night", "videos", "accuracy", "low", "high"])


def _classes(found: NightRows) -> set[str]:
    """The classes of the model: as its rows name them, one row a night; else the labels seen."""
    listed = found.rows["class_names"]
    is_there = np.flatnonzero(listed.is_valid().to_numpy())
    firsts = is_there[np.unique(found.night[is_there], return_index=True)[1]]
    names = {name for row in listed.take(firsts).to_pylist() for name in row if name is not None}
    return names or set(found.labels.names)


def _ends(hits: Weights, group_of: Integers, seed: int) -> tuple[float, float]:
    if group_of.max() == 0:
        return np.nan, np.nan  # One recording: no spread to be seen.
    drawn = [
        hits @ weights / weights.sum(axis=0) for weights in resampled(group_of, _RESAMPLES, seed)
    ]
    low, high = interval(np.concatenate(drawn).astype(np.float64)) or (np.nan, np.nan)
    return low, high


def _accuracy_chart(known: pd.DataFrame, is_some_learnt: bool, slug: str) -> Chart:
    said = [
        f"night {row['night']:.0f}: {row['accuracy']:.3f} of {row['videos']:,.0f} videos"
        + ("" if pd.isna(row["low"]) else f" ({row['low']:.3f} to {row['high']:.3f})")
        for row in known.to_dict("records")
    ]
    up = charts.quantity("accuracy", "accuracy", scale={"domain": [0, 1]})
    band = {"y": charts.quantity("low", "accuracy"), "y2": {"field": "high"}}
    line = {"type": "line", "strokeWidth": 2, "aria": False}
    spec = {
        "encoding": {"x": over_nights()},
        "layer": [
            {"mark": {"type": "rule", "opacity": 0.6, "aria": False}, "encoding": band},
            {"mark": line, "encoding": {"y": up}},
            {
                "mark": {"type": "point", "filled": True, "size": 40},
                "encoding": {"y": up, "description": {"field": "said"}},
            },
        ],
    }
    note = "Of videos whose true label is a class of the model. Lines: 95 % over recordings."
    if is_some_learnt:
        note += " Videos that the model learnt from are left out."
    return charts.draw(
        spec,
        known.assign(said=said),
        name=f"{slug}-accuracy",
        title="Accuracy of each night",
        note=note,
    )


def label_shares(found: NightRows, origin: LabelOrigin) -> pd.DataFrame:
    """A row a label: its share last night and, where known, in the nights before, among the
    model's answers for its test videos, and among the true labels that it learnt from.
    """
    last = found.night == found.count - 1
    sides: dict[str, Words] = {"last_night": _where(found.labels, last)}
    if found.count > 1:
        sides["nights_before"] = _where(found.labels, ~last)
    if origin.judged is not None:
        sides["test_answers"] = words(pa.array(origin.judged.predicted, pa.string()))
    if origin.training is not None:
        sides["training_truth"] = words(origin.training["label"])
    names = sorted({name for one in sides.values() for name in one.names})
    frame = pd.DataFrame({"label": names})
    for side, one in sides.items():
        counts = np.bincount(one.codes[one.codes >= 0], minlength=len(one.names))
        of_name = pd.Series(counts, index=list(one.names)).reindex(names, fill_value=0)
        frame[side] = (of_name / of_name.sum()).to_numpy() if counts.sum() else np.nan
    return frame.sort_values("last_night", ascending=False, kind="stable", ignore_index=True)


def _where(labels: Words, rows: Masks) -> Words:
    return Words(np.where(rows, labels.codes, -1), labels.names)


def _shares_table(shares: pd.DataFrame, slug: str) -> DataTable:
    titles = {
        "last_night": "last night",
        "nights_before": "nights before",
        "test_answers": "answers for its test videos",
        "training_truth": "true labels it learnt from",
    }
    columns = {
        name: Column(title=title, form="percent")
        for name, title in titles.items()
        if name in shares.columns
    }
    return DataTable(
        name=f"{slug}-label-shares",
        title="Share of each label",
        frame=shares,
        columns={"label": Column(), **columns},
        most_rows=_IN_SIGHT,
    )
