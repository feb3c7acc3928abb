"""Charts of one model's answers: what it confuses, ROC, precision-recall, reliability."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from vidray.evaluation.curves import curves
from vidray.report import charts
from vidray.report.blocks import Chart
from vidray.report.runs import JudgedModel

# Of more classes than fit a legend: the mean over classes, and the worst ones.
_MOST_CURVES = 7
_WORST = 5
# Marks with a name on each curve, for tooltips and screen readers; the line itself has all points.
_NAMED_POINTS = 24
_GREY = "var(--line)"
# In a matrix of more classes the cells without a video are not drawn.
_MOST_CELLS = 12


def confusion(judged: JudgedModel, number: int) -> Chart:
    """The confusion matrix: counts in the cells, which are the darker the larger the share."""
    counts = np.array(judged.metrics["confusion_matrix"])
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = judged.class_names
    every = np.ndindex(*counts.shape)
    # The diagonal first: it has every class, in order.
    cells = sorted(every, key=lambda cell: (cell[0] != cell[1], cell))
    rows: list[dict[str, Any]] = [
        {
            "true_class": names[true],
            "predicted": names[predicted],
            "videos": int(counts[true, predicted]),
            "share": float(counts[true, predicted] / totals[true, 0]),
            "shown": str(counts[true, predicted]),
        }
        for true, predicted in cells
        if len(names) <= _MOST_CELLS or true == predicted or counts[true, predicted]
    ]
    for row in rows:
        row["said"] = (
            f"{row['true_class']}, taken for {row['predicted']}: {row['videos']} videos, "
            f"{100 * row['share']:.0f} % of the class"
        )
    return charts.heatmap(
        pd.DataFrame(rows),
        x="predicted",
        y="true_class",
        value="share",
        x_title="predicted class",
        y_title="true class",
        shown="shown",
        name=f"confusion-{number}",
        title=f"What {judged.title} confuses",
        note=_most_confused(judged, counts),
    )


def _most_confused(judged: JudgedModel, counts: Any) -> str:
    errors = counts.copy()
    np.fill_diagonal(errors, 0)
    drawn = "The darker a cell, the larger its share of the true class's videos."
    if not errors.any():
        return f"{drawn} No video is in a wrong cell."
    true, predicted = np.unravel_index(errors.argmax(), errors.shape)
    return (
        f"{drawn} Most often {judged.class_names[true]} is taken for "
        f"{judged.class_names[predicted]}: {errors[true, predicted]:,} of "
        f"{counts[true].sum():,} videos."
    )


def curves_of(judged: JudgedModel, number: int) -> Iterator[Chart]:
    """The ROC and the precision-recall curves by class; of many, the mean and the worst five."""
    found = curves(judged.truth, judged.probabilities, judged.class_names)
    if found["roc"]:
        yield _chart(
            _points(found["roc"], "false_positive_rate", "true_positive_rate", "auc"),
            x_title="false positive rate",
            y_title="true positive rate",
            is_roc=True,
            name=f"roc-{number}",
            title=f"ROC of {judged.title}",
            note="Each class against the rest, with the area under its curve (AUC): 0.5, the "
            "dashed line, is guessing." + _which(found["roc"], "AUC"),
        )
    if found["precision_recall"]:
        yield _chart(
            _points(found["precision_recall"], "recall", "precision", "average_precision"),
            x_title="recall",
            y_title="precision",
            is_roc=False,
            name=f"precision-recall-{number}",
            title=f"Precision and recall of {judged.title}",
            note="With the average precision (AP) of each class; guessing has the class's share of "
            "the videos." + _which(found["precision_recall"], "AP"),
        )


def _which(found: Mapping[str, Any], score: str) -> str:
    if len(found) <= _MOST_CURVES:
        return ""
    return f" Of {len(found)} classes, the mean and the {_WORST} with the lowest {score}."


def _points(found: Mapping[str, Mapping[str, Any]], x: str, y: str, score: str) -> pd.DataFrame:
    """A row a point: ``curve`` (the score, and the class), ``x`` and ``y``, x rising."""
    chosen = sorted(found, key=lambda name: float(found[name][score]))
    drawn: list[tuple[str, Any, Any]] = []
    if len(found) > _MOST_CURVES:
        mean = _mean([_rising(found[name], x, y) for name in found], is_step=y == "precision")
        overall = np.mean([found[name][score] for name in found])
        drawn.append((f"{overall:.3f} mean of {len(found)} classes", *mean))
        chosen = chosen[:_WORST]
    drawn += [(f"{found[name][score]:.3f} {name}", *_rising(found[name], x, y)) for name in chosen]
    frames = []
    for curve, across, up in drawn:
        named = np.zeros(len(across), bool)
        named[np.linspace(0, len(across) - 1, min(len(across), _NAMED_POINTS)).astype(int)] = True
        frames.append(
            pd.DataFrame(
                {"curve": curve, "x": across, "y": up, "named": named, "order": range(len(up))}
            )
        )
    return pd.concat(frames, ignore_index=True)


def _rising(curve: Mapping[str, Any], x: str, y: str) -> tuple[Any, Any]:
    """The points of a curve from left to right."""
    across, up = np.array(curve[x], float), np.array(curve[y], float)
    return (across, up) if across[-1] >= across[0] else (across[::-1], up[::-1])


def _mean(curves_of_classes: Sequence[tuple[Any, Any]], *, is_step: bool) -> tuple[Any, Any]:
    """The mean of curves over 201 places on the x axis, so that its area is the mean of theirs.

    Args:
        curves_of_classes: x, rising, and y of each.
        is_step: a value holds from the place before it to its own, as of precision and recall;
            else values are joined by straight lines, as of ROC.
    """
    grid = np.linspace(0, 1, 201)
    found = []
    for across, up in curves_of_classes:
        if is_step:
            found.append(up[np.searchsorted(across, grid).clip(max=len(up) - 1)])
        else:  # Of several at one place NumPy takes the last: the curve has risen there.
            found.append(np.interp(grid, across, up))
    mean = np.mean(found, axis=0)
    return (grid, mean) if is_step else (np.append(0, grid), np.append(0, mean))


def _chart(
    frame: pd.DataFrame,
    *,
    x_title: str,
    y_title: str,
    is_roc: bool,
    name: str,
    title: str,
    note: str,
) -> Chart:
    said = [
        f"{row['curve']}: {y_title} {row['y']:.3f} at {x_title} {row['x']:.3f}"
        for row in frame.to_dict("records")
    ]
    unit = {"domain": [0, 1]}
    place = {
        "x": charts.quantity("x", x_title, scale=unit),
        "y": charts.quantity("y", y_title, scale=unit),
    }
    look = charts.looks(frame, "curve", "color", "strokeDash")
    # Between two measured points of precision and recall lies no straight line (Davis 2006).
    shape = "linear" if is_roc else "step-before"
    line = {"type": "line", "strokeWidth": 2, "interpolate": shape, "aria": False}
    order = {"order": {"field": "order"}}
    layers: list[dict[str, Any]] = [
        {"mark": line, "encoding": {**place, **look, **order}},
        {
            "transform": [{"filter": "datum.named"}],
            # Not seen: they have the values, for tooltips.
            "mark": {"type": "point", "filled": True, "size": 90, "opacity": 0},
            "encoding": {**place, "description": {"field": "said"}},
        },
    ]
    if is_roc:
        corners = {"values": [{"at": 0, "up": 0}, {"at": 1, "up": 1}]}
        ends = {"x": charts.quantity("at", x_title), "y": charts.quantity("up", y_title)}
        mark = {"type": "line", "color": _GREY, "strokeDash": [4, 4], "aria": False}
        layers.insert(0, {"data": corners, "mark": mark, "encoding": ends})
    spec = {"layer": layers}
    return charts.draw(spec, frame.assign(said=said), name=name, title=title, note=note)


def reliability(judged: JudgedModel, number: int) -> Chart:
    """Stated confidence and accuracy in bins, with the number of videos in each."""
    found = curves(judged.truth, judged.probabilities, judged.class_names)["calibration"]
    frame = pd.DataFrame(found)
    frame["said"] = [
        f"sure by {row['confidence']:.2f}, right {row['accuracy']:.2f} of the time: "
        f"{row['num_videos']:.0f} videos"
        for row in frame.to_dict("records")
    ]
    unit = {"domain": [0, 1]}
    place = {
        "x": charts.quantity("confidence", "stated probability", scale=unit),
        "y": charts.quantity("accuracy", "share that is right", scale=unit),
    }
    corners = {"values": [{"at": 0, "up": 0}, {"at": 1, "up": 1}]}
    ends = {"x": charts.quantity("at", ""), "y": charts.quantity("up", "")}
    mark = {"type": "line", "color": _GREY, "strokeDash": [4, 4], "aria": False}
    size = charts.quantity(
        "num_videos", "", scale={"domainMin": 0, "range": [16, 260]}, legend=None
    )
    spec = {
        "layer": [
            {"data": corners, "mark": mark, "encoding": ends},
            {
                "mark": {"type": "line", "strokeWidth": 1, "opacity": 0.6, "aria": False},
                "encoding": place,
            },
            {
                "mark": {"type": "point", "filled": True, "opacity": 0.9},
                "encoding": {**place, "size": size, "description": {"field": "said"}},
            },
            {
                "mark": {"type": "text", "dy": -14, "aria": False},
                "encoding": {**place, "text": {"field": "num_videos"}},
            },
        ],
    }
    return charts.draw(
        spec,
        frame,
        name=f"reliability-{number}",
        title=f"Can the probabilities of {judged.title} be believed?",
        note=_belief(judged, frame),
    )


def _belief(judged: JudgedModel, frame: pd.DataFrame) -> str:
    """In which direction stated probabilities are wrong, by how much."""
    sure = float(np.average(frame["confidence"], weights=frame["num_videos"]))
    right = judged.metrics["accuracy"]
    gap = sure - right
    if abs(gap) < 0.02:
        tendency = f"on the whole it is as sure ({sure:.2f}) as it is right ({right:.2f})"
    elif gap > 0:
        tendency = f"it is too sure: {sure:.2f} stated, {right:.2f} right"
    else:
        tendency = f"it is not sure enough: {sure:.2f} stated, {right:.2f} right"
    return (
        f"Numbers are videos. On the dashed line probabilities are as they should be; {tendency}. "
        f"Calibration error (ECE) {judged.metrics['ece']:.3f}."
    )
