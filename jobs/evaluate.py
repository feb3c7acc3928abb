"""A model folder and a split of labelled videos -> how good it is, and what it costs.

    python jobs/evaluate.py --model models/r3d --data runs/clips --split test --out runs/r3d_test

Needs the features or clips the model learns from, of a finished run. Takes seconds for a classical
model and about the time of one training epoch without its backward passes for a deep one. Leaves
metrics.json, predictions.parquet (worst first), curves.json and their pictures.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from rich.console import Console

from vidray import cli, models, storage
from vidray.errors import UserError
from vidray.evaluation import cost, judging, plots
from vidray.evaluation.answers import (
    prediction_rows,
)
from vidray.evaluation.curves import (
    curves,
)
from vidray.evaluation.drawing import save_figure
from vidray.evaluation.judging import Judged
from vidray.evaluation.metrics import (
    baselines,
)
from vidray.features import extraction
from vidray.features.extraction import Settings
from vidray.learning.examples import (
    Examples,
    Selection,
    apply,
    read_clips,
    read_features,
)
from vidray.models import ClassicalModel, Model
from vidray.storage import parquet
from vidray.storage.json_file import write_json
from vidray.tables import out_folder, summary, versions
from vidray.tables.summary import Table
from vidray.video import clips
from vidray.video.clips import ClipSettings

_OURS = (
    "_SUCCESS", "metrics.json", "predictions.parquet", "curves.json", "confusion.png", "roc.png",
    "precision_recall.png", "calibration.png", "run.json",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Judge a model on one split."""

    model: str
    """Model folder, local or in a bucket."""
    data: str
    """Finished run of jobs/extract.py for a classical model, of jobs/clips.py for a deep one."""
    out: str
    """Folder to write, local or in a bucket."""
    split: Literal["train", "val", "test", "all"] = "test"
    """Which videos: of a split as in the model's training, derived again by recording where they
    were derived then; or all of them, of data that the model has never seen."""
    without_classes: tuple[str, ...] = ()
    """Classes to leave out beside those that training left out: ones that it has not seen."""
    timed_videos: int = 8
    """Videos whose way from file to label is timed; 0 leaves the cost out."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where a deep model predicts; a GPU where there is one."""
    overwrite: bool = False
    """Remove an earlier evaluation from the folder first."""

    def __post_init__(self) -> None:
        if self.timed_videos < 0:
            raise UserError(f"timed_videos is {self.timed_videos}: 0 (not timed) or more")


def main(config: EvaluateConfig) -> None:
    """Judge a model, and show what came of it."""
    _say(config, judge(config))


def judge(config: EvaluateConfig) -> dict[str, Any]:
    """Predict, judge, measure, draw, and write it all down; returns what is in metrics.json."""
    out = storage.canonical(config.out)
    _take_folder(out, config.overwrite)
    model = models.load(config.model, device=_device(config.device))
    selection = Selection.from_info(model.info)
    left_out = dict.fromkeys((*selection.without_classes, *config.without_classes))
    selection = dataclasses.replace(selection, without_classes=tuple(left_out))
    given = _examples(model, config.data)
    examples = apply(given, selection)
    chosen = examples if config.split == "all" else examples.of_split(config.split)
    if not len(chosen.table):
        raise UserError(_nothing_to_judge(config, examples))
    _refuse_unknown_classes(chosen, model)
    if selection != Selection():
        _say_selection(config, selection, instead=given.gives_splits)
    libraries = versions.CLASSICAL if isinstance(model, ClassicalModel) else versions.DEEP
    header = {"kind": "evaluation", "config": cli.shown(config), "versions": versions.of(libraries)}
    write_json(storage.join(out, "run.json"), {**header, "state": "running"})
    judged = judging.judge(chosen.table, judging.predict(model, chosen))
    metrics = {
        **judged.metrics(model.class_names),
        "baselines": _baselines(judged, examples, model),
        "cost": _cost(model, chosen, config),
    }
    write_json(storage.join(out, "metrics.json"), metrics)
    _write_predictions(out, judged, model.class_names)
    _draw(out, judged, metrics, model.class_names)
    write_json(
        storage.join(out, "run.json"),
        {**header, "state": "finished", "counts": {"videos": len(judged.video_ids)}},
    )
    storage.write_bytes(storage.join(out, "_SUCCESS"), b"")
    return metrics


def _nothing_to_judge(config: EvaluateConfig, examples: Examples) -> str:
    """Why a split is empty, and what can be judged instead."""
    where = storage.without_secrets(config.data)
    empty = f"{where} has no labelled video in split {config.split}"
    splits = Counter(examples.table["split"].to_pylist())
    told = ", ".join(f"{number} in {split}" for split, number in splits.items() if split)
    if told:
        other = "choose another --split, or other --split-fractions for jobs/train.py"
        return f"{empty} ({told}): {other}"
    return (
        f"{empty}, nor in any: the model was trained on given splits, and these data give none; "
        "--split all judges on all of them, if the model has seen none in its training"
    )


def _refuse_unknown_classes(chosen: Examples, model: Model) -> None:
    """Nothing it could answer would be right: whoever leaves such videos out should know."""
    labels = Counter(chosen.table["label"].to_pylist())
    if unknown := sorted(labels.keys() - set(model.class_names)):
        told = ", ".join(f"{name!r} ({labels[name]} rows)" for name in unknown[:3])
        raise UserError(
            f"the model does not know {len(unknown)} of the {len(labels)} classes: {told}; leave "
            f"them out with --without-classes {' '.join(map(shlex.quote, unknown))}"
        )


def _take_folder(out: str, overwrite: bool) -> None:
    if out_folder.check(out, "evaluation") is None:
        return
    if storage.exists(storage.join(out, "_SUCCESS")) and not overwrite:
        raise UserError(f"{out} holds an evaluation: choose another --out, or give --overwrite")
    for name in _OURS:
        storage.remove_tree(storage.join(out, name), inside=out)


def _device(wanted: str) -> str:
    has_gpu = torch.cuda.is_available()
    if wanted == "cuda" and not has_gpu:
        raise UserError("--device is cuda and PyTorch finds no GPU: give cpu or auto")
    return "cuda" if has_gpu and wanted != "cpu" else "cpu"


def _examples(model: Model, data: str) -> Examples:
    """What the model was trained to take; UserError where it was made otherwise."""
    if isinstance(model, ClassicalModel):
        examples = read_features(data, model.families)
        # Families are columns: others may lie beside the model's own.
        found: Settings | ClipSettings = dataclasses.replace(
            Settings.from_json(examples.settings), families=model.features.families
        )
        wanted: Settings | ClipSettings = model.features
    else:
        examples = read_clips(data)
        found, wanted = ClipSettings.from_json(examples.settings), model.clip
    if found != wanted:
        pairs = [
            (field.name, getattr(found, field.name), getattr(wanted, field.name))
            for field in dataclasses.fields(wanted)
        ]
        changed = [f"{name} is {a}, the model's {b}" for name, a, b in pairs if a != b]
        raise UserError(f"{data} was made with other settings: {'; '.join(changed)}")
    return examples


def _baselines(judged: Judged, examples: Examples, model: Model) -> dict[str, Any]:
    train = examples.of_split("train").table["label"].to_pylist()
    known = [label for label in train if label in model.class_names]
    return baselines(
        judged.labels, model.class_names, train_labels=known or None, groups=judged.groups
    )


def _cost(model: Model, chosen: Examples, config: EvaluateConfig) -> dict[str, Any] | None:
    """End to end (file to label) and the model alone, on a few videos of the split."""
    if not config.timed_videos:
        return None
    ids = list(dict.fromkeys(chosen.table["video_id"].to_pylist()))[: config.timed_videos]
    rows = chosen.table.filter(pa.compute.is_in(chosen.table["video_id"], pa.array(ids)))
    few = dataclasses.replace(chosen, table=rows)
    first = {row["video_id"]: row for row in rows.to_pylist()}
    videos = _videos(config.data, first)
    shape: Sequence[int] = ()
    frames = 0
    if not isinstance(model, ClassicalModel):
        pre = model.preprocessing
        shape = (pre.num_channels, pre.num_frames, pre.size_px, pre.size_px)
        frames = pre.num_frames * model.clip.clips_per_video
    alone = cost.measure_cost(
        lambda: judging.predict(model, few),
        num_videos=len(videos),
        frames_per_video=frames,
        model_dir=storage.canonical(config.model),
        network=None if isinstance(model, ClassicalModel) else model.network,
        clip_shape=shape,
        runs=3,
    )
    whole = cost.median_seconds(lambda: _label(model, videos), runs=1) / len(videos)
    return {**alone, "end_to_end_seconds_per_video": whole, "timed_videos": len(videos)}


def _videos(data: str, first: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The videos these rows are of, by video_id; a row of CLIPS tells its own stretch only."""
    listed = parquet.read_parquet(storage.join(storage.canonical(data), "videos.parquet"))
    chosen = listed.filter(pa.compute.is_in(listed["video_id"], pa.array(list(first))))
    stretch_of = {
        row["video_id"]: {name: row.get(name) for name in ("begin_seconds", "end_seconds")}
        for row in chosen.to_pylist()
    }
    return [{**row, **stretch_of[video], "size_bytes": None} for video, row in first.items()]


def _label(model: Model, videos: list[dict[str, Any]]) -> None:
    """From files to probabilities, in this process."""
    if isinstance(model, ClassicalModel):
        made = [extraction.describe_video(video, model.features) for video in videos]
        model.predict(pa.Table.from_batches(made))
        return
    for video in videos:
        batch = clips.cut_video(video, model.clip)
        shape = (-1, model.clip.frames_per_clip, model.clip.size_px, model.clip.size_px, 3)
        pixels = b"".join(batch["pixels"].drop_null().to_pylist())
        model.predict(np.frombuffer(pixels, np.uint8).reshape(shape))


def _write_predictions(out: str, judged: Judged, names: Sequence[str]) -> None:
    table = prediction_rows(
        video_ids=judged.video_ids,
        uris=judged.uris,
        y_true=judged.labels,
        probabilities=judged.probabilities,
        class_names=names,
    )
    storage.write_bytes(storage.join(out, "predictions.parquet"), parquet.parquet_bytes(table))


def _draw(out: str, judged: Judged, metrics: dict[str, Any], names: Sequence[str]) -> None:
    found = curves(judged.labels, judged.probabilities, names)
    write_json(storage.join(out, "curves.json"), found)
    for name, figure in {
        "confusion": plots.confusion(metrics["confusion_matrix"], names),
        "roc": plots.roc(found["roc"]),
        "precision_recall": plots.precision_recall(found["precision_recall"]),
        "calibration": plots.calibration(found["calibration"], ece=metrics["ece"]),
    }.items():
        save_figure(figure, storage.join(out, f"{name}.png"))


def _say_selection(config: EvaluateConfig, selection: Selection, *, instead: bool) -> None:
    """Which videos are judged, where the data alone do not tell."""
    if selection.split_fractions is not None and config.split != "all":
        shares = " ".join(f"{share:g}" for share in selection.split_fractions)
        ignored = ", instead of those that the data give" if instead else ""
        print(f"split {config.split} derived by recording as in training, {shares}{ignored}")
    if selection.without_classes:
        print(f"classes left out: {', '.join(selection.without_classes)}")


def _say(config: EvaluateConfig, metrics: dict[str, Any]) -> None:
    table = Table("figure", "value", "95 %", box=None)
    for name in ("accuracy", "macro_f1", "macro_auc", "top5", "log_loss", "brier", "ece"):
        if metrics[name] is not None:
            interval = metrics["intervals"].get(name)
            shown = f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else ""
            table.add_row(name.replace("_", " "), f"{metrics[name]:.3f}", shown)
    majority = metrics["baselines"]["majority"]
    table.add_row(f"always {majority['label']}", f"{majority['accuracy']:.3f}", "")
    groups = metrics["num_groups"]
    print(f"{metrics['num_videos']} videos of split {config.split}, {groups} recordings")
    Console(width=summary.WIDTH).print(table)
    if cost := metrics["cost"]:
        end_to_end = 1000 * cost["end_to_end_seconds_per_video"]
        alone = 1000 * cost["seconds_per_video"]
        print(f"{end_to_end:.0f} ms a video from file to label, {alone:.1f} ms of it the model")
    print(f"predictions, worst first: {storage.join(config.out, 'predictions.parquet')}")


if __name__ == "__main__":
    cli.run(EvaluateConfig, main)
