"""Plots of a search: every trial's score, and the importance of hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vidray.evaluation.drawing import COLOURS, GREY, MARKERS, open_frame
from vidray.search.proposals import Trial
from vidray.search.settings import Metric, is_loss


def search_curve(trials: Sequence[Trial], *, metric: Metric) -> Figure:
    """Every trial's score in the order of trying, and where the best was at each time.

    Deep trials have a second picture: the score after each epoch, early stopped ones grey.

    Args:
        trials: of any kind, failed ones among them.
        metric: what the score is.
    """
    lowest = is_loss(metric)
    kinds = list(dict.fromkeys(trial.kind for trial in trials))
    curves = [trial for trial in trials if trial.history]
    panels = len(kinds) + bool(curves)
    figure = Figure(figsize=(7, 3.2 * panels), layout="constrained")
    every = list(np.atleast_1d(np.asarray(figure.subplots(panels, 1))))
    for axes, kind in zip(every, kinds, strict=False):
        own = [trial for trial in trials if trial.kind == kind]
        _search_trials(axes, own, lowest=lowest)
        is_any_stopped = any(trial.state == "stopped" for trial in own)
        axes.set_xlabel(f"{kind} trial{'; hollow: stopped early' if is_any_stopped else ''}")
        axes.set_ylabel(metric.replace("_", " "))
    if curves:
        _search_epochs(every[-1], curves)
        every[-1].set_ylabel(metric.replace("_", " "))
        _leave_out_far_ones(every[-1], [row["score"] for t in curves for row in t.history])
    better = "lower" if lowest else "higher"
    figure.suptitle(f"Search: {better} is better; a line that still moves wants more trials")
    for axes in every:
        open_frame(axes)
    return figure


def _search_trials(axes: Axes, trials: Sequence[Trial], *, lowest: bool) -> None:
    models = list(dict.fromkeys(str(trial.params["model"]) for trial in trials))
    for index, model in enumerate(models):
        own = [t for t in trials if t.params["model"] == model and t.score is not None]
        for state, filled in (("ok", True), ("stopped", False)):
            some = [trial for trial in own if trial.state == state]
            colour = COLOURS[index % len(COLOURS)]
            axes.plot(
                [trial.number for trial in some],
                np.array([trial.score for trial in some], np.float64),
                MARKERS[index % len(MARKERS)],
                color=colour,
                markerfacecolor=colour if filled else "none",
                label=model if filled else None,
            )
    done = sorted((t for t in trials if t.state == "ok"), key=lambda t: t.number)
    if done:
        best = (np.minimum if lowest else np.maximum).accumulate(
            np.array([t.score for t in done], np.float64)
        )
        numbers = [trial.number for trial in done]
        axes.step(numbers, best, where="post", color=GREY, zorder=0, label="best so far")
    _leave_out_far_ones(axes, [t.score for t in trials if t.score is not None])
    failed = [trial.number for trial in trials if trial.score is None]
    if failed:
        low = axes.get_ylim()[0]
        axes.plot(failed, [low] * len(failed), "kx", clip_on=False, label="failed")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)


def _leave_out_far_ones(axes: Axes, scores: Sequence[float]) -> None:
    """Cut the axis: a log loss of 300 would press all other scores into one line."""
    if scores and max(scores) > 3 * np.median(scores):
        low = min(scores)
        axes.set_ylim(low - 0.05 * (3 * np.median(scores) - low), 3 * np.median(scores))


def _search_epochs(axes: Axes, trials: Sequence[Trial]) -> None:
    models = list(dict.fromkeys(str(trial.params["model"]) for trial in trials))
    for trial in trials:
        is_whole = trial.state == "ok"
        own = models.index(str(trial.params["model"]))
        colour = COLOURS[own % len(COLOURS)] if is_whole else GREY
        epochs = [row["epoch"] for row in trial.history]
        scores = [row["score"] for row in trial.history]
        axes.plot(
            epochs, scores, "-", color=colour, marker=".", alpha=1.0 if is_whole else 0.5,
            zorder=2 if is_whole else 1,
        )  # fmt: skip
    axes.set_xlabel("epoch of a deep trial; grey: stopped early")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def importance_bars(shares: Mapping[str, Mapping[str, float]]) -> Figure:
    """The importance of hyperparameters: a bar for each, a panel for each model.

    Args:
        shares: model -> parameter -> share of the variance of its scores.
    """
    bars = sum(len(own) for own in shares.values())
    height = 0.32 * bars + 0.9 * len(shares) + 0.6
    figure = Figure(figsize=(7, max(height, 2.5)), layout="constrained")
    heights = [len(own) + 1.5 for own in shares.values()]
    panels = np.atleast_1d(np.asarray(figure.subplots(len(shares), 1, height_ratios=heights)))
    for axes, (model, own) in zip(panels, shares.items(), strict=True):
        names = [name.removeprefix(f"{model}.") for name in own]
        axes.barh(names, list(own.values()), color=COLOURS[0])
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.set_title(model, loc="left", fontsize=10)
        open_frame(axes)
    panels[-1].set_xlabel("share of the variance of scores")
    figure.suptitle("What mattered: the rest may stay as it is")
    return figure
