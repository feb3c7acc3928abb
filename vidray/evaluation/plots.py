"""Plots of a model's figures: titles that say what to look for, units on the axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator
from numpy.typing import ArrayLike, NDArray

from vidray.evaluation.drawing import COLOURS, DASHES, GREY, MARKERS, Rows, open_frame, shown

# More classes than this and the worst have colours and names, the others are grey.
_MOST_NAMED_CLASSES = 8
# Numbers of 3 digits in a cell, and class names below each other, need this many inches each.
_MOST_NUMBERED_CLASSES = 20
_CELL_INCHES = 0.45
_NAME_INCHES = 0.125
_MOST_INCHES = 16.0
_LETTER_INCHES_PER_POINT = 0.0085  # of the default font, with some air


def training_curve(history: Rows) -> Figure:
    """Loss, accuracy and learning rate of every epoch, the best epoch of each marked.

    Args:
        history: a dict for each epoch: ``epoch, train_loss, val_loss, train_accuracy,
            val_accuracy, learning_rate``; null where there is no validation.
    """
    figure = Figure(figsize=(7, 8), layout="constrained")
    loss, accuracy, rate = figure.subplots(3, 1, sharex=True, height_ratios=[3, 3, 1.5])
    epochs = _column(history, "epoch")
    classifies = np.isfinite(_column(history, "train_accuracy")).any()
    of_loss = "loss (nats)" if classifies else "loss (squared error)"
    for axes, kind, unit in ((loss, "loss", of_loss), (accuracy, "accuracy", "accuracy")):
        for part, colour, dash in (("train", COLOURS[0], "--"), ("val", COLOURS[1], "-")):
            values = _column(history, f"{part}_{kind}")
            if np.isfinite(values).any():
                name = "training" if part == "train" else "validation"
                axes.plot(epochs, values, dash, color=colour, marker=".", label=name)
        _mark_best(axes, epochs, _column(history, f"val_{kind}"), lowest=kind == "loss")
        axes.set_ylabel(unit)
        if axes.lines:
            axes.legend(loc="best" if kind == "loss" else "lower right", fontsize=9)
    accuracy.set_ylim(-0.02, 1.02)
    rate.plot(epochs, _column(history, "learning_rate"), color=COLOURS[2], marker=".")
    rate.set_ylabel("learning rate")
    rate.set_ylim(bottom=0)
    rate.ticklabel_format(axis="y", scilimits=(-2, 3))
    rate.set_xlabel("epoch")
    rate.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.suptitle(
        "Training: validation that gets worse while training gets better is overfitting"
    )
    for axes in (loss, accuracy, rate):
        open_frame(axes)
    return figure


def confusion(matrix: ArrayLike, class_names: Sequence[str]) -> Figure:
    """The confusion matrix: a row for each true class, a share of it in each cell.

    Up to 20 classes the cells hold numbers of videos; beyond, the title names the most frequent
    confusion.

    Args:
        matrix: int (K, K), rows true, columns predicted.
        class_names: K names.
    """
    counts = np.asarray(matrix)
    num_classes = len(counts)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    has_numbers = num_classes <= _MOST_NUMBERED_CLASSES
    cell = _CELL_INCHES if has_numbers else _NAME_INCHES
    side = float(np.clip(cell * num_classes, 3.2, _MOST_INCHES))
    size = 10.0 if has_numbers else 6.5
    margin = max(len(shown(name)) for name in class_names) * size * _LETTER_INCHES_PER_POINT
    figure = Figure(figsize=(side + margin + 1.6, side + margin + 1.2), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    bar = figure.colorbar(image, ax=axes, fraction=0.03, aspect=30)
    bar.set_label("share of the true class's videos")
    _name_classes(axes, class_names, side_inches=side, size=size)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title(_confusion_title(counts, class_names))
    if has_numbers:
        for row, column in np.ndindex(*counts.shape):
            colour = "white" if shares[row, column] > 0.55 else "black"
            number = f"{counts[row, column]}"
            size = 10 if len(number) <= 3 else 7
            axes.text(column, row, number, ha="center", va="center", color=colour, fontsize=size)
    return figure


def roc(curves: Mapping[str, Mapping[str, Any]]) -> Figure:
    """One-vs-rest ROC curve of each class; of more than eight, the worst have colours and names.

    Args:
        curves: ``evaluation.curves(...)["roc"]``.
    """
    figure, axes = _square()
    axes.plot([0, 1], [0, 1], ":", color=GREY, label="AUC 0.50  guessing")
    keys = ("false_positive_rate", "true_positive_rate", "auc")
    _class_curves(axes, curves, keys, score_name="AUC", is_step=False)
    axes.set_xlabel("false positive rate: share of the other classes' videos")
    axes.set_ylabel("true positive rate: share of the class's videos")
    axes.set_title(_curves_title("ROC, each class against the rest", "AUC", curves, "auc"))
    axes.legend(loc="lower right", fontsize=8)
    return figure


def precision_recall(curves: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Precision-recall curve of each class; of more than eight, the worst have colours and names.

    Args:
        curves: ``evaluation.curves(...)["precision_recall"]``.
    """
    figure, axes = _square()
    keys = ("recall", "precision", "average_precision")
    _class_curves(axes, curves, keys, score_name="AP", is_step=True)
    axes.set_xlabel("recall: share of the class's videos that are found")
    axes.set_ylabel("precision: share of those found that are right")
    shares = [curve["share"] for curve in curves.values()]
    if shares:
        axes.axhline(float(np.mean(shares)), ls=":", color=GREY, label="guessing (mean)")
        # Beside the axes: these curves have no corner that is always free.
        figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    axes.set_title(
        _curves_title("Precision and recall, each class", "AP", curves, "average_precision")
    )
    return figure


def calibration(bins: Rows, *, ece: float) -> Figure:
    """The calibration curve: is a probability of 0.8 right in 80 % of cases, and how often is it
    given?

    Args:
        bins: ``evaluation.curves(...)["calibration"]``.
        ece: expected calibration error, for the title.
    """
    figure = Figure(figsize=(6, 7), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    confidence, accuracy = _column(bins, "confidence"), _column(bins, "accuracy")
    counts = _column(bins, "num_videos")
    middles = (_column(bins, "low") + _column(bins, "high")) / 2
    widths = _column(bins, "high") - _column(bins, "low")
    upper.plot([0, 1], [0, 1], ":", color=GREY, label="perfectly calibrated")
    # A bin of 3 videos can hardly be on the line: two standard errors show what chance explains.
    spread = 2 * np.sqrt(confidence * (1 - confidence) / np.maximum(counts, 1))
    upper.fill_between(
        confidence,
        np.clip(confidence - spread, 0, 1),
        np.clip(confidence + spread, 0, 1),
        color=GREY,
        alpha=0.15,
        linewidth=0,
        label="what chance explains (2 standard errors)",
    )
    upper.plot(confidence, accuracy, "o-", color=COLOURS[0], label="the model, by bin")
    upper.set_ylabel("accuracy: share that is right")
    upper.set_ylim(-0.02, 1.02)
    upper.set_title(f"Calibration: below the dotted line is overconfident (ECE {ece:.3f})")
    upper.legend(loc="upper left", fontsize=8)
    lower.bar(middles, counts, widths * 0.9, color=COLOURS[5])
    lower.set_ylabel("videos")
    lower.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    lower.set_xlabel("confidence: probability of the predicted class")
    lower.set_xlim(-0.02, 1.02)
    for axes in (upper, lower):
        open_frame(axes)
    return figure


def learning_curve(rows: Rows) -> Figure:
    """Test accuracy against the number of training videos, with intervals, a line for each model.

    Args:
        rows: dicts of ``model, train_videos, accuracy, low, high``, in any order.
    """
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    models = list(dict.fromkeys(str(row["model"]) for row in rows))
    sizes = sorted({int(row["train_videos"]) for row in rows})
    for k, model in enumerate(models):
        own = sorted(
            (row for row in rows if str(row["model"]) == model),
            key=lambda row: int(row["train_videos"]),
        )
        accuracy = _column(own, "accuracy")
        # Side by side around the true number, or the intervals would hide each other.
        beside = 1 + min(0.025, 0.16 / len(models)) * (k - (len(models) - 1) / 2)
        axes.errorbar(
            _column(own, "train_videos") * beside,
            accuracy,
            yerr=_reach(own),
            color=COLOURS[k % len(COLOURS)],
            marker=MARKERS[k % len(MARKERS)],
            linestyle=DASHES[(k // len(COLOURS)) % len(DASHES)],
            elinewidth=0.9,
            capsize=2,
            markersize=5,
            label=shown(model),
        )
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks(_apart(sizes), [f"{size:,}" for size in _apart(sizes)])
    axes.set_xlabel("training videos (logarithmic)")
    axes.set_ylabel("accuracy on the test videos")
    axes.set_title("Learning curve, with 95 % intervals: does more data help?")
    open_frame(axes)
    figure.legend(loc="outside right upper", fontsize=8)
    return figure


def tradeoff(rows: Rows) -> Figure:
    """Test accuracy against the seconds that a video takes, a dashed line along the front.

    Args:
        rows: dicts of ``model, accuracy, low, high, seconds_per_video, on_front``, in any order.
    """
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    ordered = sorted(rows, key=lambda row: float(row["seconds_per_video"]))
    front = [row for row in ordered if row["on_front"]]
    # To the right end: nothing there is better for being slower.
    along = [*front, {**front[-1], "seconds_per_video": ordered[-1]["seconds_per_video"]}]
    axes.step(
        _column(along, "seconds_per_video"),
        _column(along, "accuracy"),
        where="post",
        color=GREY,
        linestyle="--",
        label="not beaten in both",
    )
    for k, row in enumerate(ordered):
        axes.errorbar(
            _column([row], "seconds_per_video"),
            _column([row], "accuracy"),
            yerr=_reach([row]),
            color=COLOURS[k % len(COLOURS)],
            marker=MARKERS[k % len(MARKERS)],
            linestyle="",
            elinewidth=0.9,
            capsize=2,
            label=shown(str(row["model"])),
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}" if len(ordered) > 1 and _is_narrow(ordered) else "")
    axes.set_xlabel("seconds a video, from the file to the label (logarithmic)")
    axes.set_ylabel("accuracy on the test videos")
    axes.set_title("What accuracy costs, with 95 % intervals")
    open_frame(axes)
    figure.legend(loc="outside right upper", fontsize=8)
    return figure


def _reach(rows: Rows) -> list[NDArray[np.float64]]:
    """How far intervals reach below and above the accuracies, as ``errorbar`` takes it."""
    accuracy = _column(rows, "accuracy")
    ends = (accuracy - _column(rows, "low"), _column(rows, "high") - accuracy)
    return [np.maximum(end, 0) for end in ends]


def _is_narrow(ordered: Rows) -> bool:
    """Whether the seconds are within a power of ten or so: then that axis needs its small ticks."""
    first, last = (float(row["seconds_per_video"]) for row in (ordered[0], ordered[-1]))
    return last < 20 * first


def _column(rows: Rows, name: str) -> NDArray[np.float64]:
    """float64 (N,), NaN for null: matplotlib leaves those points out."""
    return np.array([math.nan if row[name] is None else row[name] for row in rows], np.float64)


def _mark_best(
    axes: Axes, epochs: NDArray[np.float64], values: NDArray[np.float64], *, lowest: bool
) -> None:
    if not np.isfinite(values).any():
        return
    best = int(np.nanargmin(values) if lowest else np.nanargmax(values))
    label = f"best validation: {values[best]:.3g} in epoch {epochs[best]:g}"
    axes.plot(epochs[best], values[best], "o", ms=10, mfc="none", mec="black", label=label)


def _square() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.5, 7), layout="constrained")
    axes = figure.subplots()
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    open_frame(axes)
    return figure, axes


def _class_curves(
    axes: Axes,
    curves: Mapping[str, Mapping[str, Any]],
    keys: tuple[str, str, str],
    *,
    score_name: str,
    is_step: bool,
) -> None:
    """A line for each class; ``keys`` name its x, its y and its score."""
    x, y, score = keys
    worst_first = sorted(curves, key=lambda name: curves[name][score])
    named = worst_first[:_MOST_NAMED_CLASSES]
    grey = worst_first[_MOST_NAMED_CLASSES:]
    drawing: dict[str, Any] = {"drawstyle": "steps-post"} if is_step else {}
    for k, name in enumerate(grey):
        label = f"the {len(grey)} other classes" if k == 0 else None
        style: dict[str, Any] = {"color": GREY, "lw": 0.6, "alpha": 0.5, "label": label}
        axes.plot(curves[name][x], curves[name][y], **style, **drawing)
    for k, name in enumerate(named):
        # The number first: matplotlib leaves a label out that begins with "_".
        label = f"{score_name} {curves[name][score]:.2f}  {shown(name)}"
        style = {"color": COLOURS[k], "ls": DASHES[k % len(DASHES)], "lw": 1.6, "label": label}
        axes.plot(curves[name][x], curves[name][y], **style, **drawing)


def _curves_title(
    what: str, score_name: str, curves: Mapping[str, Mapping[str, Any]], score: str
) -> str:
    if not curves:
        return f"{what}: no class has examples and counterexamples"
    mean = np.mean([curve[score] for curve in curves.values()])
    few = len(curves) <= _MOST_NAMED_CLASSES
    which = "" if few else f"\nthe {_MOST_NAMED_CLASSES} worst of {len(curves)} classes in colour"
    return f"{what}: mean {score_name} {mean:.3f}{which}"


def _confusion_title(counts: NDArray[Any], class_names: Sequence[str]) -> str:
    right, total = int(np.trace(counts)), int(counts.sum())
    title = f"{right} of {total} videos right"
    errors = counts - np.diag(np.diag(counts))
    if not errors.any():
        return title
    true, predicted = np.unravel_index(errors.argmax(), errors.shape)
    names = f"{shown(class_names[int(true)])} taken for {shown(class_names[int(predicted)])}"
    return f"{title}; most often wrong:\n{names} ({errors.max()} times)"


def _name_classes(
    axes: Axes, class_names: Sequence[str], *, side_inches: float, size: float
) -> None:
    """Names of rows and columns, of every n-th class where there is no room for all."""
    every = math.ceil(len(class_names) * _NAME_INCHES / side_inches)
    named = range(0, len(class_names), every)
    names = [shown(class_names[k]) for k in named]
    longest = max(len(name) for name in names) * size * _LETTER_INCHES_PER_POINT
    has_room = longest < side_inches / len(class_names)
    axes.set_yticks(list(named), names, fontsize=size)
    axes.set_xticks(list(named), names, fontsize=size, rotation=0 if has_room else 90)


def _apart(sizes: Sequence[int]) -> list[int]:
    """The sizes whose labels have room on a logarithmic axis, from the largest down."""
    if not sizes:
        return []
    room = (sizes[-1] / sizes[0]) ** 0.08
    kept = [sizes[-1]]
    for size in reversed(sizes[:-1]):
        if size * room <= kept[-1]:
            kept.append(size)
    return kept[::-1]
