"""What a teacher is worth: x3d_s alone, and taught by r3d_18, with and without unlabelled clips.

    python bench/distil.py --folder DIR                      # goes on where it stopped
    python bench/distil.py --folder DIR --only teacher       # one of its models now

The classes differ in motion only (see ``vidray.video.synthetic``). The teacher learns from few
labelled scenes. The student learns from the same in as many steps: alone; taught; and taught on
scenes without labels, too. All are judged on the videos of other scenes, with intervals over
scenes, and the students against the teacher video by video. Seconds a clip are CPU time of all
models in turn, one thread, one clip a pass; printed are medians. A killed training goes on from its
last epoch. Some 100 minutes on an idle core, by the seconds of a step.
"""

from __future__ import annotations

import contextlib
import csv
import math
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import tyro
from numpy.typing import NDArray

from bench.clips import cut_all
from vidray import models
from vidray.distributed import training
from vidray.evaluation import judging, lesson_changes, teaching
from vidray.evaluation.judged import Judged, judge
from vidray.evaluation.pairs import differences
from vidray.learning.deep_job import DeepJob, model_info
from vidray.learning.distillation import DistillSettings
from vidray.learning.epoch_lines import EpochLines
from vidray.learning.epochs import EpochRow, OnRows
from vidray.learning.examples import Examples, read_clips
from vidray.learning.hyperparameters import Augmentation, Training
from vidray.learning.train_config import DeepSettings, FoldSettings, LearningSettings
from vidray.models.folder import DeepModel, save_deep
from vidray.video import synthetic
from vidray.video.clips import ClipSettings

_TIMED_ROUNDS = 30


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """Scenes of each part; each scene is a video of each of the four classes."""

    train: int = 100
    """Labelled scenes that are learnt from."""
    val: int = 10
    """Scenes that choose the epoch to keep."""
    test: int = 80
    """Scenes that judge."""
    unlabelled: int = 40
    """Scenes without labels."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Train the teacher and the students, and compare them."""

    folder: str = ""
    """Folder that keeps clips and models; a temporary one if not given."""
    teacher: str = "r3d_18"
    """Model that teaches."""
    student: str = "x3d_s"
    """Model that is taught."""
    scenes: Scenes = field(default_factory=Scenes)
    cut: ClipSettings = field(
        default_factory=lambda: ClipSettings(
            frames_per_clip=12, size_px=32, clips_per_video=2, clip_seconds=1.0
        )
    )
    """Clips that are cut of each video."""
    deep: DeepSettings = field(default_factory=lambda: DeepSettings(frames=8, crop_px=24))
    """What the student takes of a clip; the teacher takes all of it."""
    teacher_training: Training = field(
        default_factory=lambda: Training(
            epochs=22, batch_size=16, learning_rate=2e-3, label_smoothing=0.0
        )
    )
    """Training of the teacher."""
    training: Training = field(
        default_factory=lambda: Training(
            epochs=24, batch_size=16, label_smoothing=0.0, channels_last=True
        )
    )
    """Training of the students; with more clips fewer epochs, so that the steps are as many."""
    distilling: DistillSettings = field(default_factory=DistillSettings)
    """Temperature and share of the loss."""
    only: tuple[str, ...] = ()
    """Models to train, of teacher, alone, taught and taught_unlabelled, without figures of them;
    all, and the figures, if none is named."""


def main(bench: Bench) -> None:
    """Make, cut, train, judge, time."""
    torch.set_num_threads(1)
    with _folder(bench) as folder:
        _cut(bench, folder)
        examples = read_clips(str(folder / "labelled"))
        for name in bench.only or ("teacher", "alone", "taught", "taught_unlabelled"):
            _learn(bench, folder, examples, name)
        if not bench.only:
            _report(folder, examples.of_split("test"))


@contextlib.contextmanager
def _folder(bench: Bench) -> Iterator[Path]:
    if bench.folder:
        yield Path(bench.folder)
        return
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def _cut(bench: Bench, folder: Path) -> None:
    """Make the videos, and cut the labelled ones and the others into two runs of clips."""
    runs = {
        "labelled": bench.cut,
        "unlabelled": replace(bench.cut, unlabelled="keep"),
    }
    missing = [name for name in runs if not (folder / name / "_SUCCESS").exists()]
    if not missing:
        return
    parts = bench.scenes
    scenes = parts.train + parts.val + parts.test + parts.unlabelled
    if len(list((folder / "videos").glob("*/v_*"))) < scenes * len(synthetic.MOTIONS):
        synthetic.make_clips(folder / "videos", clips_per_class=scenes)
    for name in missing:
        cut_all(str(_list(folder, parts, name)), folder / name, runs[name])


def _list(folder: Path, scenes: Scenes, name: str) -> Path:
    """A manifest of the labelled or the unlabelled videos."""
    ends = np.cumsum([scenes.train, scenes.val, scenes.test, scenes.unlabelled])
    path, labelled = folder / f"{name}.csv", name == "labelled"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "group", *(["label", "split"] if labelled else [])])
        for video in sorted((folder / "videos").glob("*/v_*")):
            scene = video.stem.split("_")[2]  # g01
            part = int(np.searchsorted(ends, int(scene[1:]) - 1, "right"))
            if labelled and part < 3:
                rows.writerow([video, scene, video.parent.name, ("train", "val", "test")[part]])
            elif not labelled and part == 3:
                rows.writerow([video, scene])
    return path


def _learn(bench: Bench, folder: Path, examples: Examples, name: str) -> None:
    """Train a model, if it has not been trained yet."""
    distilling = replace(bench.distilling, teacher=str(folder / "teacher"))
    if name == "taught_unlabelled":
        distilling = replace(distilling, unlabelled_data=str(folder / "unlabelled"))
    is_teacher, data = name == "teacher", str(folder / "labelled")
    asked = bench.teacher_training if is_teacher else bench.training
    if name == "taught_unlabelled":
        own = len(examples.of_split("train").table)
        every = own + len(read_clips(str(folder / "unlabelled"), labelled=False).table)
        asked = replace(asked, epochs=math.ceil(asked.epochs * own / every))
    settings = LearningSettings(
        deep=DeepSettings() if is_teacher else bench.deep,
        training=asked,
        augmentation=Augmentation(temporal_jitter=0.0),
    )
    model = bench.teacher if is_teacher else bench.student
    print(f"{name}: {model}, {asked.epochs} epochs", flush=True)
    lesson: teaching.Lesson = teaching.lesson_of(
        model, examples, settings, folds=FoldSettings(), on_rows=EpochLines(asked.epochs)
    )
    if name.startswith("taught"):
        lesson = lesson_changes.with_teacher(lesson, distilling, out=str(folder / name))
    assert isinstance(lesson, teaching.DeepLesson)
    run = teaching.model_run(lesson, data=data, out=str(folder / name))
    if run.claim() == "finished":
        return
    _train(lesson.job, folder / f"{name}.work", EpochLines(asked.epochs))
    state = safetensors.torch.load_file(folder / f"{name}.work" / "best.safetensors")
    save_deep(run.out, model_info(lesson.job, examples), state)
    run.finish()


def _train(job: DeepJob, work: Path, on_rows: OnRows) -> None:
    """Train in this process; a checkpoint of each epoch lets a killed training go on."""

    def keep(_: EpochRow, checkpoint: Path | None) -> None:
        assert checkpoint is not None
        shutil.rmtree(new, ignore_errors=True)
        shutil.copytree(checkpoint, new)
        shutil.rmtree(work, ignore_errors=True)
        new.rename(work)

    new = work.with_suffix(".new")
    if not work.exists() and (new / "best.safetensors").exists():
        new.rename(work)  # Killed between the last two lines of ``keep``.
    with tempfile.TemporaryDirectory() as name:
        start = work / "last" if work.exists() else None
        if start is not None:
            shutil.copyfile(work / "best.safetensors", Path(name) / "best.safetensors")
        worker = training._Worker(0, 1, torch.device("cpu"), keep=keep)
        training._fit(
            job, worker, lambda said: on_rows(said["rows"]) is not False, Path(name), start
        )


def _report(folder: Path, test: Examples) -> None:
    """Print each model's accuracy, its distance from the teacher's, and its seconds."""
    names = ("teacher", "alone", "taught", "taught_unlabelled")
    loaded: dict[str, DeepModel] = {}
    for name in names:
        model = models.load(str(folder / name))
        assert isinstance(model, DeepModel)
        loaded[name] = model
    judged = {
        name: judge(test.table, judging.predict(model, test)) for name, model in loaded.items()
    }
    seconds = _seconds(loaded, test)
    scene_of = np.unique([str(group) for group in judged["teacher"].groups], return_inverse=True)[1]
    right = [_right(judged[name], loaded[name]) for name in names]
    apart = differences(right, [(k, 0) for k in range(1, len(names))], scene_of)
    print("| | model | accuracy | 95 % | minus the teacher's | ms a clip | times as fast |")
    print("|---|---|---|---|---|---|---|")
    for k, name in enumerate(names):
        found = judged[name].metrics(loaded[name].class_names)
        low, high = found["intervals"]["accuracy"]
        gap = "-"
        if k and (between := apart[k - 1].interval) is not None:
            gap = f"{apart[k - 1].value:+.3f} [{between[0]:+.3f}, {between[1]:+.3f}]"
        print(
            f"| {name} | {loaded[name].name} | {found['accuracy']:.3f} | [{low:.3f}, {high:.3f}] "
            f"| {gap} | {1000 * seconds[name]:.1f} | {seconds['teacher'] / seconds[name]:.1f} |"
        )
    print(f"{len(scene_of)} test videos of {scene_of.max() + 1} scenes")


def _right(judged: Judged, model: DeepModel) -> NDArray[np.bool_]:
    """Whether each video is labelled right."""
    answers = np.array(model.class_names)[judged.probabilities.argmax(axis=1)]
    right: NDArray[np.bool_] = answers == np.array(judged.labels)
    return right


def _seconds(loaded: Mapping[str, DeepModel], test: Examples) -> dict[str, float]:
    """CPU seconds of each model for a clip, preprocessing included: the median of rounds."""
    assert test.clips is not None
    clip = test.clips.read(test.table["row"].to_numpy()[:1])
    took: dict[str, list[float]] = {name: [] for name in loaded}
    for number in range(_TIMED_ROUNDS + 3):  # The first ones load caches.
        for name, model in loaded.items():
            began = time.process_time()
            model.predict(clip, batch_size=1)
            if number >= 3:
                took[name].append(time.process_time() - began)
    return {name: statistics.median(values) for name, values in took.items()}


if __name__ == "__main__":
    main(tyro.cli(Bench))
