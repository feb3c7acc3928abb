"""Two models judged as one: the cheap one's answer where it is sure enough, else the dear one's.

Split val chooses the threshold (``models.deferral``) and split test judges it. ``evaluate`` writes
the folder of an evaluation, whose answers are those of both together, and:

    OUT/two_stages.json   both models' answers to split val, which jobs/label.py --then takes
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from rich.console import Console

from vidray import masking, models, storage
from vidray.errors import UserError
from vidray.evaluation import cost, judged_files, judging, two_stages_cost
from vidray.evaluation.judge_settings import JudgeSettings
from vidray.evaluation.judged import Judged, judge
from vidray.evaluation.two_stages_cost import StageSeconds
from vidray.learning.examples import Examples, apply, relabelled
from vidray.models import deferral
from vidray.models.class_map import read_class_map
from vidray.models.deferral import Threshold
from vidray.models.folder import Model
from vidray.models.model_files import digest_of_both, name_and_digest
from vidray.models.two_stages import ValAnswers
from vidray.storage.json_file import write_json
from vidray.tables import run_folder
from vidray.tables.run_folder import RunFolder
from vidray.tables.summary import WIDTH, Table


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One model of two, and the run of what it learns from."""

    model_dir: str
    data: str


@dataclass(frozen=True, kw_only=True)
class _Side:
    """One model, its digest, its data, and its answers to the videos of splits val and test."""

    name: str
    digest: str
    model: Model
    examples: Examples
    val: Judged
    test: Judged

    @classmethod
    def of(cls, asked: Asked, settings: JudgeSettings) -> _Side:
        model = models.load(asked.model_dir, device=judging.device_of(settings.device))
        given = judging.examples_of(model, asked.data)
        if settings.labels is not None:
            given = relabelled(given, read_class_map(settings.labels))
        examples = apply(given, judging.selection_of(model, settings))
        name, digest = name_and_digest(asked.model_dir)
        found = {}
        for split in ("val", "test"):
            chosen = examples.of_split(split)
            if not len(chosen.table):
                raise UserError(judging.nothing_to_judge(asked.data, split, examples))
            judging.refuse_unknown_classes(chosen, model)
            found[split] = judge(chosen.table, judging.predict(model, chosen))
        return cls(name=name, digest=digest, model=model, examples=examples, **found)


def evaluate(
    cheap: Asked,
    dear: Asked,
    out: str,
    settings: JudgeSettings,
    *,
    allow: float,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Choose the threshold, judge both models as one, measure, and write; what metrics.json holds.

    Args:
        cheap, dear: the models, and the runs that hold what each learns from.
        allow: accuracy that may be lost against the dear model alone.

    Raises:
        UserError: the models or their data do not fit each other, or the folder is taken.
    """
    where = storage.canonical(out)
    before = run_folder.check(where, "evaluation")
    if before and before.get("state") == "finished" and not overwrite:
        raise UserError(f"{where} holds an evaluation: choose another --out, or give --overwrite")
    if settings.split != "test":
        raise UserError(
            f"--split is {settings.split}, and with --then split val chooses the threshold and "
            "split test judges it: leave --split out"
        )
    first, second = _Side.of(cheap, settings), _Side.of(dear, settings)
    if first.model.class_names != second.model.class_names:
        raise UserError(
            f"{first.name} and {second.name} do not have the same classes in the same order: train "
            "both on the same classes"
        )
    val = _in_common(first.val, second.val, "val")
    answers = _answers(first.digest, second.digest, *val, first.model.class_names)
    folder = _folder(where, cheap, dear, settings, allow, first, second)
    folder.claim(overwrite=True)  # What was not finished has no part that could be kept.
    threshold = answers.threshold(allow)
    both, judged = _judged(*_in_common(first.test, second.test, "test"), threshold, first, second)
    timed = _timed(first, second, cheap.data, both, settings.timed_videos, threshold)
    metrics = {
        **judged.metrics(first.model.class_names),
        "baselines": judging.baselines_of(judged, first.examples, first.model),
        "cost": _cost(cheap, dear, timed),
        "two_stages": {**both.figures, "seconds_per_video": timed and timed.seconds_per_video},
    }
    answers.write(where)
    write_json(folder.path("metrics.json"), metrics)
    judged_files.write_predictions(folder, judged, first.model.class_names)
    judged_files.draw(folder, judged, metrics, first.model.class_names)
    folder.finish(counts={"videos": len(judged.video_ids)})
    return metrics


def _folder(
    where: str,
    cheap: Asked,
    dear: Asked,
    settings: JudgeSettings,
    allow: float,
    first: _Side,
    second: _Side,
) -> RunFolder:
    asked = {"model": cheap.model_dir, "data": cheap.data, "out": where, "allow": allow}
    asked |= {"then": dear.model_dir, "then_data": dear.data}
    libraries = [name for side in (first, second) for name in judging.libraries_of(side.model)]
    return RunFolder(
        out=where,
        kind="evaluation",
        shown={
            "config": masking.throughout(asked | dataclasses.asdict(settings)),
            "model_digest": digest_of_both(first.digest, second.digest),
        },
        libraries=tuple(dict.fromkeys(libraries)),
    )


def _in_common(cheap: Judged, dear: Judged, split: str) -> tuple[Judged, Judged]:
    """Both models' answers to the videos that are in the split for both, in one order.

    Raises:
        UserError: there are none, or a video has another label in the other model's data.
    """
    there = {video: row for row, video in enumerate(dear.video_ids)}
    rows = [row for row, video in enumerate(cheap.video_ids) if video in there]
    if not rows:
        raise UserError(
            f"no video is in split {split} of both models' data: both must be of the same videos, "
            "and the models trained on the same splits"
        )
    ours, theirs = _rows(cheap, rows), _rows(dear, [there[cheap.video_ids[row]] for row in rows])
    for uri, label, other in zip(ours.uris, ours.labels, theirs.labels, strict=True):
        if label != other:
            raise UserError(
                f"{storage.without_secrets(uri)} is {label!r} in one model's data and {other!r} in "
                "the other's: make both from the same list of videos"
            )
    return ours, theirs


def _rows(judged: Judged, rows: Sequence[int]) -> Judged:
    return Judged(
        video_ids=[judged.video_ids[row] for row in rows],
        uris=[judged.uris[row] for row in rows],
        labels=[judged.labels[row] for row in rows],
        groups=[judged.groups[row] for row in rows],
        probabilities=judged.probabilities[np.array(rows)],
    )


def _right(judged: Judged, class_names: Sequence[str]) -> NDArray[np.bool_]:
    labels = np.array(class_names)[judged.probabilities.argmax(axis=1)]
    return np.asarray(labels == np.array(judged.labels))


def _answers(
    cheap_digest: str, dear_digest: str, cheap: Judged, dear: Judged, names: Sequence[str]
) -> ValAnswers:
    return ValAnswers(
        cheap=cheap_digest,
        dear=dear_digest,
        confidence=tuple(np.minimum(cheap.probabilities.max(axis=1), 1.0).tolist()),
        cheap_right=tuple(_right(cheap, names).tolist()),
        dear_right=tuple(_right(dear, names).tolist()),
        groups=tuple(cheap.groups),
    )


@dataclass(frozen=True, kw_only=True)
class _Both:
    """Which videos of split test keep the cheap answer, and the figures of that."""

    video_ids: list[str]
    stays: NDArray[np.bool_]
    figures: dict[str, Any]


def _judged(
    cheap: Judged, dear: Judged, threshold: Threshold, first: _Side, second: _Side
) -> tuple[_Both, Judged]:
    """What is lost and kept on split test, and the answers of both models as of one."""
    names = first.model.class_names
    value = np.inf if threshold.value is None else threshold.value
    stays = cheap.probabilities.max(axis=1) >= value
    cheap_right, dear_right = _right(cheap, names), _right(dear, names)
    lost = np.where(stays, dear_right.astype(np.int64) - cheap_right, 0)
    figures = {
        "models": [{"name": side.name, "digest": side.digest} for side in (first, second)],
        "threshold": threshold.to_json(),
        "videos_by_stage": [int(stays.sum()), int((~stays).sum())],
        "accuracy": {
            "first": float(cheap_right.mean()),
            "second": float(dear_right.mean()),
            "both": float(np.where(stays, cheap_right, dear_right).mean()),
        },
        "lost": float(lost.mean()),
        # Where no cheap answer is kept, nothing can be lost.
        "lost_interval": list(deferral.interval_of_lost(lost, cheap.groups))
        if stays.any()
        else [0.0, 0.0],
    }
    probabilities = np.where(stays[:, None], cheap.probabilities, dear.probabilities)
    judged = dataclasses.replace(cheap, probabilities=probabilities)
    return _Both(video_ids=cheap.video_ids, stays=stays, figures=figures), judged


def _timed(
    first: _Side,
    second: _Side,
    data: str,
    both: _Both,
    number: int,
    threshold: Threshold,
) -> StageSeconds | None:
    """What labelling costs, measured on videos of either stage, half of them if there are as many;
    None if not asked for.
    """
    if not number:
        return None
    ids, table = np.array(both.video_ids), first.examples.table
    stages = [stage for stage in (both.stays, ~both.stays) if stage.any()]
    chosen = [ids[stage][: max(1, number // len(stages))].tolist() for stage in stages]
    timed = pa.array(itertools.chain(*chosen), pa.string())
    rows = table.filter(pa.compute.is_in(table["video_id"], timed))
    listed = judging.listed_videos(data, {row["video_id"]: row for row in rows.to_pylist()})
    videos = {video["video_id"]: video for video in listed}
    return two_stages_cost.measure(
        first.model,
        second.model,
        threshold,
        [(float(stage.mean()), [videos[video] for video in some])
         for stage, some in zip(stages, chosen, strict=True)],
    )  # fmt: skip


def _cost(cheap: Asked, dear: Asked, timed: StageSeconds | None) -> dict[str, Any] | None:
    """The cost of both as of one model: what is not known of two is null."""
    if timed is None:
        return None
    return {
        "parameters": None,
        "flops_per_clip": None,
        "size_bytes": sum(
            cost.size_bytes(storage.canonical(one.model_dir)) for one in (cheap, dear)
        ),
        "seconds_per_video": None,
        "frames_per_second": None,
        "peak_ram_bytes": None,
        "peak_gpu_bytes": None,
        "end_to_end_seconds_per_video": timed.both,
        "timed_videos": timed.timed_videos,
    }


def print_figures(out: str, metrics: Mapping[str, Any]) -> None:
    """Print what is lost and saved, and the command that labels with both."""
    found = metrics["two_stages"]
    threshold = Threshold.from_json(found["threshold"])
    cheap, dear = (model["name"] for model in found["models"])
    table = Table("answers of", "accuracy", "ms a video", box=None)
    seconds = found["seconds_per_video"] or {}
    for name, shown in (("first", cheap), ("second", dear), ("both", f"{cheap}, then {dear}")):
        each = seconds.get(name)
        accuracy = f"{found['accuracy'][name]:.3f}"
        table.add_row(shown, accuracy, "-" if each is None else f"{1000 * each:.1f}")
    Console(width=WIDTH).print(table)
    first, second = found["videos_by_stage"]
    low, high = found["lost_interval"]
    print(
        f"{first} of {first + second} videos of split test keep the label of {cheap}; lost "
        f"{found['lost']:.3f} ({low:.3f} to {high:.3f}) against {dear} alone"
    )
    counted = f"{threshold.num_videos} videos of {threshold.num_groups} recordings of split val"
    if threshold.value is None:
        print(f"note: {counted} do not show that at most {threshold.allow:g} is lost anywhere")
    else:
        print(
            f"threshold {threshold.value:.4f}: with a probability of {threshold.sureness:.0%} at "
            f"most {threshold.allow:g} is lost on videos such as the {counted}"
        )
    print(f"to label with both: --then, and --judged {storage.without_secrets(out)}")
