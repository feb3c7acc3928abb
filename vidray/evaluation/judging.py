"""Judging: a model's probabilities for the videos of a split, held against their labels.

``evaluate`` writes a folder:

    OUT/
      metrics.json          figures with intervals, baselines, and what the model costs
      predictions.parquet   a row a video, worst first (PREDICTIONS)
      curves.json           ROC, precision-recall and calibration, and their pictures
      run.json, _SUCCESS
"""

from __future__ import annotations

import dataclasses
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import nn

from vidray import masking, models, storage
from vidray.errors import UserError
from vidray.evaluation import cost, exits, judged_files
from vidray.evaluation.judge_settings import Device, JudgeSettings
from vidray.evaluation.judged import Judged, judge
from vidray.evaluation.metrics import baselines
from vidray.features import extraction
from vidray.features.extraction import Settings
from vidray.learning.examples import (
    Examples,
    apply,
    read_clips,
    read_features,
    relabelled,
)
from vidray.learning.selection import Selection
from vidray.models.class_map import read_class_map
from vidray.models.exported.model import ExportedModel
from vidray.models.folder import ClassicalModel, DeepModel, Model
from vidray.models.model_files import name_and_digest
from vidray.storage import parquet
from vidray.storage.json_file import write_json
from vidray.tables import run_folder, versions
from vidray.tables.run_folder import RunFolder
from vidray.video import clips
from vidray.video.clips import ClipSettings


def predict(model: Model, examples: Examples) -> NDArray[np.float64]:
    """The probabilities of ``answer``."""
    return answer(model, examples)[0]


def answer(
    model: Model, examples: Examples
) -> tuple[NDArray[np.float64], NDArray[np.int32] | None]:
    """Probabilities ``float64 (N, K)`` of the rows of ``examples``, and of a network with early
    exits the stage where each clip left.

    Raises:
        UserError: a classical model and clips, or a deep one and features.
    """
    if isinstance(model, ClassicalModel):
        if examples.clips is not None:
            raise UserError(f"{model.name} learns from features, not clips: give jobs/extract.py's")
        return model.predict(examples.table), None
    if examples.clips is None:
        raise UserError(f"{model.name} learns from clips, not features: give jobs/clips.py's")
    read, rows = examples.clips.read, examples.table["row"].to_numpy()
    if isinstance(model, DeepModel):
        return model.answer_rows(read, rows)
    return model.predict_rows(read, rows), None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The result of ``evaluate``.

    Attributes:
        metrics: as metrics.json holds them.
        selection: the videos' selection, as in the model's training.
        gives_splits: whether the data give splits of their own.
        knows_recordings: whether any judged video's recording is known.
        is_as_trained: whether these are the videos, labels and splits of the model's training.
    """

    metrics: dict[str, Any]
    selection: Selection
    gives_splits: bool
    knows_recordings: bool
    is_as_trained: bool


def evaluate(
    model_dir: str,
    data: str,
    out: str,
    settings: JudgeSettings,
    *,
    overwrite: bool = False,
) -> Evaluation:
    """Predict, judge, measure, draw, and write all results.

    Args:
        model_dir: the model folder.
        data: a finished run of what the model learns from.
        out: the folder to write.
        settings: which videos are judged, and how.
        overwrite: remove an earlier evaluation from the folder first.

    Raises:
        UserError: the model does not take these data, or the folder holds something else.
    """
    where = storage.canonical(out)
    before = run_folder.check(where, "evaluation")
    if before and before.get("state") == "finished" and not overwrite:
        raise UserError(f"{where} holds an evaluation: choose another --out, or give --overwrite")
    model = models.load(model_dir, device=device_of(settings.device))
    given = examples_of(model, data)
    if settings.labels is not None:
        given = relabelled(given, read_class_map(settings.labels))
    examples = apply(given, selection_of(model, settings))
    chosen = examples if settings.split == "all" else examples.of_split(settings.split)
    if not len(chosen.table):
        raise UserError(nothing_to_judge(data, settings.split, examples))
    refuse_unknown_classes(chosen, model)
    asked = {"model": model_dir, "data": data, "out": out, "overwrite": overwrite}
    folder = RunFolder(
        out=where,
        kind="evaluation",
        shown={
            "config": masking.throughout(asked | dataclasses.asdict(settings)),
            "model_digest": name_and_digest(model_dir)[1],
        },
        libraries=libraries_of(model),
    )
    folder.claim(overwrite=True)  # What was not finished has no part that could be kept.
    probabilities, stages = answer(model, chosen)
    judged = judge(chosen.table, probabilities, stages)
    metrics = {
        **judged.metrics(model.class_names),
        "baselines": baselines_of(judged, examples, model),
        "cost": _cost(model, model_dir, chosen, data, settings.timed_videos),
    }
    if isinstance(model, DeepModel) and stages is not None:
        timed = settings.timed_videos
        metrics["exits"] = exits.figures(model, chosen, probabilities, stages, timed_videos=timed)
    write_json(folder.path("metrics.json"), metrics)
    judged_files.write_predictions(folder, judged, model.class_names)
    judged_files.draw(folder, judged, metrics, model.class_names)
    folder.finish(counts={"videos": len(judged.video_ids)})
    return Evaluation(
        metrics=metrics,
        selection=examples.selection,
        gives_splits=given.gives_splits,
        knows_recordings=any(judged.groups),
        is_as_trained=_is_as_trained(model, given),
    )


def libraries_of(model: Model) -> tuple[str, ...]:
    """The libraries that decide what a model says."""
    if isinstance(model, ClassicalModel):
        return versions.CLASSICAL
    return versions.running(model.export.to) if isinstance(model, ExportedModel) else versions.DEEP


def _is_as_trained(model: Model, given: Examples) -> bool:
    trained_on = apply(given, Selection.from_info(model.info)).digest
    return bool(model.info.get("data_digest", trained_on) == trained_on)


def device_of(wanted: Device) -> str:
    """``cuda`` or ``cpu``; UserError where a GPU is asked for and there is none."""
    has_gpu = torch.cuda.is_available()
    if wanted == "cuda" and not has_gpu:
        raise UserError("--device is cuda and PyTorch finds no GPU: give cpu or auto")
    return "cuda" if has_gpu and wanted != "cpu" else "cpu"


def selection_of(model: Model, settings: JudgeSettings) -> Selection:
    """The selection of the model's training, without the classes that it has not seen."""
    selection = Selection.from_info(model.info)
    left_out = dict.fromkeys((*selection.without_classes, *settings.without_classes))
    return dataclasses.replace(selection, without_classes=tuple(left_out))


def nothing_to_judge(data: str, split: str, examples: Examples) -> str:
    """The error of an empty split: the reason, and what can be judged instead."""
    where = storage.without_secrets(data)
    empty = f"{where} has no labelled video in split {split}"
    there = Counter(examples.table["split"].to_pylist())
    counts = ", ".join(f"{number} in {name}" for name, number in there.items() if name)
    if counts:
        other = "choose another --split, or other --split-fractions for jobs/train.py"
        return f"{empty} ({counts}): {other}"
    return (
        f"{empty}, nor in any: the model was trained on given splits, and these data give none; "
        "--split all judges on all of them, if the model has seen none in its training"
    )


def refuse_unknown_classes(chosen: Examples, model: Model) -> None:
    """Refuse classes that the model cannot answer; the user may leave them out on purpose."""
    labels = Counter(chosen.table["label"].to_pylist())
    if unknown := sorted(labels.keys() - set(model.class_names)):
        listed = ", ".join(f"{name!r} ({labels[name]} rows)" for name in unknown[:3])
        raise UserError(
            f"the model does not know {len(unknown)} of the {len(labels)} classes: {listed}; leave "
            f"them out with --without-classes {' '.join(map(shlex.quote, unknown))}"
        )


def examples_of(model: Model, data: str) -> Examples:
    """The rows the model takes; UserError where they were made with other settings."""
    if isinstance(model, ClassicalModel):
        return matching(model, read_features(data, model.families), data)
    return matching(model, read_clips(data), data)


def matching(model: Model, examples: Examples, data: str) -> Examples:
    """``examples`` again, where they were made as the model's were.

    Args:
        examples: features for a classical model, clips for a network.
        data: where they are from, for the error.

    Raises:
        UserError: they were made with other settings.
    """
    if isinstance(model, ClassicalModel):
        # Families are columns: others may lie beside the model's own.
        found: Settings | ClipSettings = Settings.from_json(examples.settings).only(
            model.features.families
        )
        wanted: Settings | ClipSettings = model.features
    else:
        found, wanted = ClipSettings.from_json(examples.settings), model.clip
    if found != wanted:
        pairs = [
            (field.name, getattr(found, field.name), getattr(wanted, field.name))
            for field in dataclasses.fields(wanted)
        ]
        changed = [f"{name} is {a}, the model's {b}" for name, a, b in pairs if a != b]
        raise UserError(f"{data} was made with other settings: {'; '.join(changed)}")
    return examples


def baselines_of(judged: Judged, examples: Examples, model: Model) -> dict[str, Any]:
    """The figures of answers that look at no video, for the same videos."""
    train = examples.of_split("train").table["label"].to_pylist()
    known = [label for label in train if label in model.class_names]
    return baselines(
        judged.labels, model.class_names, train_labels=known or None, groups=judged.groups
    )


def _cost(
    model: Model, model_dir: str, chosen: Examples, data: str, timed_videos: int
) -> dict[str, Any] | None:
    """The cost end to end (file to label) and of the model alone, on a few videos of the split."""
    if not timed_videos:
        return None
    ids = list(dict.fromkeys(chosen.table["video_id"].to_pylist()))[:timed_videos]
    rows = chosen.table.filter(pa.compute.is_in(chosen.table["video_id"], pa.array(ids)))
    few = dataclasses.replace(chosen, table=rows)
    first = {row["video_id"]: row for row in rows.to_pylist()}
    videos = listed_videos(data, first)
    looks = _Looks.of(model)

    def answer() -> None:
        predict(model, few)
        for _ in videos:
            looks.embed()

    alone = cost.measure_cost(
        answer,
        num_videos=len(videos),
        frames_per_video=looks.frames_per_video,
        model_dir=storage.canonical(model_dir),
        network=looks.network,
        clip_shape=looks.clip_shape,
        runs=3,
    )
    were_read: list[bool] = []
    seconds = cost.median_seconds(lambda: were_read.append(label_here(model, videos)), runs=1)
    whole = seconds / len(videos) if all(were_read) else None
    if isinstance(model, ExportedModel):  # It cannot be looked into: what its network was.
        own = ("parameters", "flops_per_clip")
        alone |= {name: getattr(model.export, name) for name in own}
    return {**alone, "end_to_end_seconds_per_video": whole, "timed_videos": len(videos)}


@dataclass(frozen=True, kw_only=True)
class _Looks:
    """What a model's network looks at, for the cost: nothing where the model has none.

    Attributes:
        embed: looks at the views of a video, for a classical model that takes embeddings. They are
            black: what a network costs does not depend on what is in the picture.
    """

    network: nn.Module | None = None
    clip_shape: Sequence[int] = ()
    frames_per_video: int = 0
    embed: Callable[[], object] = lambda: None

    @classmethod
    def of(cls, model: Model) -> _Looks:
        """The looks of a model of either kind."""
        deep = model.network if isinstance(model, ClassicalModel) else model
        if deep is None:
            return cls()
        pre, views, embed = deep.preprocessing, deep.clip.clips_per_video, cls.embed
        if isinstance(model, ClassicalModel) and model.views and model.features.embedding:
            views = model.features.embedding.clips * model.features.embedding.crops
            shape = (views, deep.clip.frames_per_clip, deep.clip.size_px, deep.clip.size_px, 3)
            embed = partial(model.views.embed, np.zeros(shape, np.uint8))
        return cls(
            network=deep.network if isinstance(deep, DeepModel) else None,
            clip_shape=(pre.num_channels, pre.num_frames, pre.size_px, pre.size_px),
            frames_per_video=pre.num_frames * views,
            embed=embed,
        )


def listed_videos(data: str, first: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """VIDEOS rows of these rows' videos; a row of CLIPS has its own stretch and no size."""
    listed = parquet.read_parquet(storage.join(storage.canonical(data), "videos.parquet"))
    chosen = listed.filter(pa.compute.is_in(listed["video_id"], pa.array(list(first))))
    own = ("begin_seconds", "end_seconds", "size_bytes")
    found = {row["video_id"]: {name: row.get(name) for name in own} for row in chosen.to_pylist()}
    return [{**row, **found[video]} for video, row in first.items()]


def label_here(model: Model, videos: list[dict[str, Any]]) -> bool:
    """Label the videos in this process, from files; whether all files could still be read.

    One that cannot be read costs no time, and a figure of it would be too good.
    """
    if isinstance(model, ClassicalModel):
        made = [extraction.describe_video(video, model.features, model.views) for video in videos]
        model.predict(pa.Table.from_batches(made))
        return all(_is_ok(batch) for batch in made)
    shape = (-1, model.clip.frames_per_clip, model.clip.size_px, model.clip.size_px, 3)
    for video in videos:
        batch = clips.cut_video(video, model.clip)
        if not _is_ok(batch):
            return False
        pixels = b"".join(batch["pixels"].to_pylist())
        model.predict(np.frombuffer(pixels, np.uint8).reshape(shape))
    return True


def _is_ok(batch: pa.RecordBatch) -> bool:
    return set(batch["status"].to_pylist()) == {"ok"}
