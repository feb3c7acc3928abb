"""The figures of compared models as a frame: a row a model, columns for quality and cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd

from vidray.evaluation.cost import LEAST_RAM_BYTES
from vidray.report.blocks import Column
from vidray.report.judged.comparable import ComparedModels, kind_of
from vidray.report.runs import JudgedModel, Runs

# With an interval each, in the order of the table.
_QUALITY = ("accuracy", "top5", "macro_precision", "macro_recall", "macro_f1", "macro_auc")
_TAIL = 0.025  # of a 95 % interval, on each side


def _judged(
    name: str, title: str, hint: str, *, best: Literal["highest", "lowest"] = "highest"
) -> Column:
    """A figure of quality, with its interval below it."""
    ends = (f"{name}_low", f"{name}_high")
    return Column(title=title, form="share", best=best, interval=ends, hint=hint)


COLUMNS: dict[str, Column] = {
    "model": Column(title="Model"),
    "kind": Column(title="Kind", hint="classical: learnt from features; deep: a network"),
    "accuracy": _judged("accuracy", "Accuracy", ""),
    "top5": _judged(
        "top5", "Top 5", "share of videos whose true class is among the five most probable"
    ),
    "macro_precision": _judged(
        "macro_precision",
        "Precision",
        "of the videos given a class, the share that are of it; mean over classes",
    ),
    "macro_recall": _judged(
        "macro_recall",
        "Recall",
        "of the videos of a class, the share that are found; mean over classes",
    ),
    "macro_f1": _judged(
        "macro_f1", "F1", "harmonic mean of precision and recall; mean over classes"
    ),
    "macro_auc": _judged(
        "macro_auc",
        "AUC",
        "area under the ROC curve, mean over classes: 0.5 is guessing, 1 is perfect order",
    ),
    "ece": Column(
        title="Calibration error",
        form="share",
        best="lowest",
        hint="how far stated probabilities are from the shares that are right (ECE, 15 bins)",
    ),
    "log_loss": _judged(
        "log_loss",
        "Log loss",
        "of the true class's probability, in nats: being sure and wrong costs most",
        best="lowest",
    ),
    "parameters": Column(title="Parameters", form="count", best="lowest"),
    "size_bytes": Column(title="Size", form="bytes", best="lowest", hint="of the model folder"),
    "gflops": Column(
        title="GFLOPs a clip",
        form="number",
        best="lowest",
        hint="additions and multiplications for one clip, counted apart, in thousand millions",
    ),
    "training_seconds": Column(title="Training", form="seconds", best="lowest"),
    "end_to_end_seconds_per_video": Column(
        title="A video, file to label",
        form="seconds",
        best="lowest",
        hint="decoding, features or clips, and the model, in one process",
    ),
    "model_seconds": Column(title="A video, model alone", form="seconds", best="lowest"),
    "frames_per_second": Column(title="Frames a second", form="number", best="highest"),
    "peak_ram_bytes": Column(
        title="Peak RAM", form="bytes", best="lowest", hint="while predicting, beyond the idle"
    ),
    "peak_gpu_bytes": Column(title="Peak GPU memory", form="bytes", best="lowest"),
}


def figures(group: ComparedModels, runs: Runs) -> pd.DataFrame:
    """A row for each model of the group, the best first; missing is null.

    Columns are those of ``COLUMNS``, the ends of intervals (``accuracy_low`` ...), ``run``,
    ``videos``, and ``link``, where the page says more of the model.
    """
    place = {one.name: number for number, one in enumerate(runs.judged, start=1)}
    rows = [
        {
            "model": group.label(member),
            "run": member.name,
            "kind": kind_of(member),
            "videos": len(group.video_ids),
            **quality(member.metrics),
            **_cost(member),
            "link": f"#classes-{place[member.name]}",
        }
        for member in group.members
    ]
    return pd.DataFrame(rows)


def quality(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Figures of ``compute_metrics`` with the ends of their intervals, flat."""
    found: dict[str, float | None] = {}
    for name in (*_QUALITY, "ece", "log_loss"):
        found[name] = metrics[name]
        found[f"{name}_low"], found[f"{name}_high"] = interval_of(metrics, name) or (None, None)
    return found


def interval_of(metrics: Mapping[str, Any], name: str) -> tuple[float, float] | None:
    """The 95 % interval of a figure of ``compute_metrics``; None where it has none.

    Where every resample gives the same, as of a model that is always right, the bootstrap knows no
    doubt. Then the accuracy has the exact interval of that many recordings, all of them right or
    all wrong (Clopper and Pearson 1934), and other figures have none.
    """
    ends = metrics["intervals"].get(name)
    if ends is None or ends[0] < ends[1]:
        return None if ends is None else (ends[0], ends[1])
    if name != "accuracy" or metrics[name] not in (0.0, 1.0):
        return None
    bound = _TAIL ** (1 / metrics["num_groups"])
    return (bound, 1.0) if metrics[name] == 1.0 else (0.0, 1.0 - bound)


def _cost(member: JudgedModel) -> dict[str, float | None]:
    cost = member.cost
    flops, ram = cost.get("flops_per_clip"), cost.get("peak_ram_bytes")
    return {
        "parameters": cost.get("parameters"),
        "size_bytes": cost.get("size_bytes"),
        "gflops": None if flops is None else flops / 1e9,
        "training_seconds": training_seconds(member),
        "end_to_end_seconds_per_video": cost.get("end_to_end_seconds_per_video"),
        "model_seconds": cost.get("seconds_per_video"),
        # Older versions wrote 0 for models that see no frames, and noise for small memory.
        "frames_per_second": cost.get("frames_per_second") or None,
        "peak_ram_bytes": None if ram is None or ram < LEAST_RAM_BYTES else ram,
        "peak_gpu_bytes": cost.get("peak_gpu_bytes"),
    }


def training_seconds(member: JudgedModel) -> float | None:
    """Seconds of the model's training, if its folder is given."""
    return None if member.model is None else member.model.number("seconds", "training")


def filled(frame: pd.DataFrame, columns: Mapping[str, Column] = COLUMNS) -> dict[str, Column]:
    """The columns that have any value in the frame."""
    return {
        name: column
        for name, column in columns.items()
        if name in frame and frame[name].map(_is_there).any()
    }


def _is_there(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and np.isnan(value))
