"""Summaries of trainings, evaluations and studies, printed at their end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from vidray import storage
from vidray.evaluation.judge_settings import JudgeSettings
from vidray.evaluation.judging import Evaluation
from vidray.evaluation.study import Study
from vidray.evaluation.teaching import Taught
from vidray.learning.selection import Selection
from vidray.learning.train_config import FoldSettings
from vidray.models import names
from vidray.progress import duration
from vidray.tables.summary import WIDTH, Table

Metrics = Mapping[str, Any]

# An accuracy whose interval is wider separates few models: 0.2 is that of 0.8 on 60 videos.
_WIDEST_INTERVAL = 0.2
_MOST_CLASSES = 5  # named in one line
_FEW_VIDEOS = 5  # of a class: one more right moves its recall by 0.2


def print_taught(model: str, out: str, taught: Taught, *, seconds: float) -> None:
    """Print the model's validation figures and how long the training took.

    Args:
        seconds: of the whole job.
    """
    table = Table("judged on", "videos", "accuracy", "95 %", "macro F1", "macro AUC", box=None)
    metrics = taught.metrics
    for name in ("val", "cross_validation"):
        if (found := metrics.get(name)) is None:
            continue
        source = found if "intervals" in found else found["repeats"][0]
        table.add_row(
            name.replace("_", "-"),
            str(source["num_videos"]),
            _shown(found["accuracy"]),
            _interval(source["intervals"]["accuracy"]),
            _shown(found["macro_f1"]),
            _shown(found["macro_auc"]),
        )
    if table.row_count:
        Console(width=WIDTH).print(table)
    training, every = duration(taught.training_seconds), duration(seconds)
    print(f"{model}: {training} of training, {every} in all; model folder {out}")


def print_pretrained(model: str, out: str, taught: Taught, *, seconds: float) -> None:
    """Print how far the error fell, how long it took, and what to do with the folder."""
    first, last = taught.rows[0].train_loss, taught.rows[-1].train_loss
    training, every = duration(taught.training_seconds), duration(seconds)
    print(f"{model}: loss {first:.3f} to {last:.3f}, {training} of training, {every} in all")
    print(f"to train a model from it: --weights {out}")


def print_evaluation(settings: JudgeSettings, out: str, found: Evaluation) -> None:
    """Print the figures, their caveats, and the model's cost."""
    _print_selection(settings, found.selection, instead=found.gives_splits)
    metrics = found.metrics
    table = Table("figure", "value", "95 %", box=None)
    for name in ("accuracy", "macro_f1", "macro_auc", "top5", "log_loss", "brier", "ece"):
        if metrics[name] is not None:
            interval = metrics["intervals"].get(name)
            shown = f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else ""
            table.add_row(name.replace("_", " "), f"{metrics[name]:.3f}", shown)
    majority = metrics["baselines"]["majority"]
    table.add_row(f"always {majority['label']}", f"{majority['accuracy']:.3f}", "")
    groups = metrics["num_groups"]
    print(f"{metrics['num_videos']} videos of split {settings.split}, {groups} recordings")
    Console(width=WIDTH).print(table)
    is_given = found.selection.split_fractions is None and settings.split != "all"
    if is_given and not found.is_as_trained:
        print(
            "note: these are not the videos, or not the splits, that the model was trained with: "
            f"what it has learnt from must not be in split {settings.split}"
        )
    if not found.knows_recordings:
        print(
            "note: no recordings known: each video counts as its own, and the intervals are too "
            "narrow if several were cut from one; a column group of the list of videos says which"
        )
    for sentence in caveats(metrics, majority["accuracy"]):
        print(f"note: {sentence}")
    if "exits" in metrics:
        print("\n".join(_exit_lines(metrics["exits"])))
        if settings.split in ("val", "all") and metrics["exits"]["threshold"] is not None:
            print(
                "note: split val has chosen when clips leave early: what that loses is told by "
                "videos that have not, such as those of --split test"
            )
    if metrics["cost"]:
        print(_cost_line(metrics["cost"]))
    print(f"predictions, worst first: {storage.join(out, 'predictions.parquet')}")


def _exit_lines(found: Metrics) -> list[str]:
    """What early exits save and lose: a line for each stage, and one for all."""
    lines = [
        f"stage {k}: {stage['share']:.1%} of the clips leave, {stage['flops_per_clip'] / 1e9:.2f} "
        f"GFLOP; accuracy {stage['accuracy']:.3f} if all did"
        for k, stage in enumerate(found["stages"], start=1)
    ]
    low, high = found["lost_interval"]
    saved = 1 - found["flops_per_clip"] / found["flops_without_exits"]
    seconds = ""
    if found["seconds_saved_per_video"] is not None:
        times = [1000 * found[k] for k in ("seconds_without_exits", "seconds_per_video")]
        seconds = f", {times[0]:.1f} to {times[1]:.1f} ms a video"
    lost = f"{found['lost']:.3f} of the accuracy lost ({low:.3f} to {high:.3f})"
    return [*lines, f"early exits: {saved:.0%} of the work saved{seconds}; {lost}"]


def _cost_line(cost: Metrics) -> str:
    alone = 1000 * cost["seconds_per_video"]
    on = f"measured on {cost['timed_videos']} videos"
    if cost["end_to_end_seconds_per_video"] is None:
        return (
            f"{alone:.1f} ms a video for the model alone ({on}; from file to label is not known: "
            "not all of these files are still where they were)"
        )
    end_to_end = 1000 * cost["end_to_end_seconds_per_video"]
    return f"{end_to_end:.0f} ms a video from file to label, {alone:.1f} ms of it the model ({on})"


def caveats(metrics: Metrics, majority: float) -> list[str]:
    """The caveats of the figures, a sentence each; none where there is no doubt.

    Args:
        metrics: of ``compute_metrics``.
        majority: accuracy of always answering the class with the most training videos.
    """
    sentences = []
    chance = max(majority, 1 / len(metrics["per_class"]))
    interval = metrics["intervals"]["accuracy"]
    if interval is None:
        sentences.append(
            "all videos are of one recording, so nobody knows how the model does on another one: "
            "add recordings"
        )
    elif interval[0] <= chance:
        sentences.append(
            f"hardly better than chance: guessing is right {chance:.2f} of the time, and the "
            f"accuracy of this model may be as low as {interval[0]:.2f}"
        )
    if interval is not None and interval[1] - interval[0] > _WIDEST_INTERVAL:
        half = (interval[1] - interval[0]) / 2
        sentences.append(
            f"{metrics['num_groups']} recordings are too few to compare models whose accuracy "
            f"differs by less than about {half:.2f}: add recordings to this split"
        )
    few = {k: v["support"] for k, v in metrics["per_class"].items() if v["support"] < _FEW_VIDEOS}
    if few:
        shown = ", ".join(f"{name} {number}" for name, number in [*few.items()][:_MOST_CLASSES])
        more = ", ..." if len(few) > _MOST_CLASSES else ""
        sentences.append(
            f"{len(few)} of {len(metrics['per_class'])} classes have fewer than {_FEW_VIDEOS} "
            f"videos here, too few to judge them one by one: {shown}{more}"
        )
    return sentences


def _print_selection(settings: JudgeSettings, selection: Selection, *, instead: bool) -> None:
    """Print which videos are judged, where the data alone do not show it."""
    if selection.split_fractions is not None and settings.split != "all":
        shares = " ".join(f"{share:g}" for share in selection.split_fractions)
        ignored = ", instead of those that the data give" if instead else ""
        print(f"split {settings.split} derived by recording as in training, {shares}{ignored}")
    if selection.without_classes:
        print(f"classes left out: {', '.join(selection.without_classes)}")


# A study


def print_study(out: str, folds: FoldSettings, study: Study) -> None:
    """Print a table each of the test, the cross-validation and the learning curve."""
    found, counts = study.figures, study.counts
    if counts["left_out"]:
        print(f"{counts['left_out']} videos are not in both runs, and were left out")
    console = Console(width=WIDTH)
    first = next(iter(found["test"].values()))
    print(
        f"\ntest: {first['train_videos']} videos to learn from, "
        f"{first['metrics']['num_videos']} to be judged on"
    )
    console.print(_test_table(found["test"]))
    majority = found["test"][names.MAJORITY]["metrics"]["accuracy"]
    best, metrics = max(
        ((model, one["metrics"]) for model, one in found["test"].items()),
        key=lambda pair: pair[1]["accuracy"],
    )
    for sentence in caveats(metrics, majority):
        print(f"note on {best}: {sentence}")
    if found["cross_validation"]:
        print(f"\ncross-validation: {folds.folds} folds of all {counts['all']} videos, mean and")
        print(f"standard deviation of {folds.repeats} repeats")
        console.print(_cross_validation_table(found["cross_validation"]))
    if found["learning_curve"]:
        print("\nlearning curve: accuracy on the test videos by number of training videos")
        console.print(_curve_table(found["learning_curve"]))
    print(f"\nstudy folder {out}")


def _test_table(tests: Mapping[str, Any]) -> Table:
    table = Table("model", "accuracy", "95 %", "macro F1", "macro AUC", "training", "a video", "",
                  box=None)  # fmt: skip
    for model, one in tests.items():
        metrics = one["metrics"]
        table.add_row(
            model,
            _shown(metrics["accuracy"]),
            _interval(metrics["intervals"]["accuracy"]),
            _shown(metrics["macro_f1"]),
            _shown(metrics["macro_auc"]),
            _seconds(one["training_seconds"], 1),
            _seconds(one["seconds_per_video"], 3),
            "not beaten" if one["on_front"] else "",
        )
    return table


def _seconds(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f} s"


def _cross_validation_table(found: Mapping[str, Any]) -> Table:
    table = Table("model", "accuracy", "95 % of repeat 1", "macro F1", "macro AUC", box=None)
    for model, one in found.items():
        cells = [
            f"{_shown(one['mean'][key])} ± {_shown(one['std'][key])}"
            for key in ("accuracy", "macro_f1", "macro_auc")
        ]
        interval = _interval(one["repeats"][0]["metrics"]["intervals"]["accuracy"])
        table.add_row(model, cells[0], interval, *cells[1:])
    return table


def _curve_table(curve: Sequence[Mapping[str, Any]]) -> Table:
    sizes = sorted({(one["fraction"], one["train_videos"]) for one in curve})
    accuracy = {(one["model"], one["fraction"]): one["metrics"]["accuracy"] for one in curve}
    table = Table("model", *(f"{number} ({part:g})" for part, number in sizes), box=None)
    for model in dict.fromkeys(one["model"] for one in curve):
        table.add_row(model, *(_shown(accuracy[model, part]) for part, _ in sizes))
    return table


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(ends: Sequence[float] | None) -> str:
    return "-" if ends is None else f"{ends[0]:.2f} to {ends[1]:.2f}"
