"""Pruning: what a network of half or a quarter of the operations costs, and what it still knows.

    python bench/prune.py                                  # s3d, half and three quarters gone
    python bench/prune.py --model r3d_18 --shares 0.5 --no-scratch

The classes are four directions of drift (``vidray.video.synthetic``), half a second in 32 px: one
frame says nothing. A network learns them from 1,024 clips, mirror images included; it is pruned and
tuned as ``jobs/train.py --prune`` does, and judged on clips of other scenes. "Not yet tuned"
is the pruned network before its training; "from noise" has the shapes of the pruned one, fresh
weights, and the epochs of both trainings together. Milliseconds are of one clip and one thread,
the networks in turn, medians. Some twenty minutes on a core.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from bench.finetune import AXES, mirrored
from bench.made_clips import write_rows
from vidray import models
from vidray.evaluation import cost, judging, lesson_changes, teaching
from vidray.evaluation.intervals import interval, resampled
from vidray.learning.epoch_lines import EpochLines
from vidray.learning.examples import Examples, read_clips
from vidray.learning.hyperparameters import Augmentation, Training
from vidray.learning.pruning import start
from vidray.learning.pruning.settings import PruneSettings
from vidray.learning.train_config import DeepSettings, FoldSettings, LearningSettings, Workers
from vidray.models.folder import DeepModel
from vidray.tables.run_folder import WEIGHTS
from vidray.video.clips import ClipSettings
from vidray.video.synthetic import drifting_clips

FRAMES, SIZE_PX = 8, 32


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Prune a network to several shares and compare."""

    model: str = "s3d"
    """Network to prune."""
    shares: tuple[float, ...] = (0.5, 0.75)
    """Shares of its operations that go."""
    scenes: int = 64
    """Scenes to learn from: 16 clips each."""
    epochs: int = 5
    """Epochs of the whole network."""
    tuning_epochs: int = 2
    """Epochs of fine-tuning."""
    scratch: bool = True
    """Also train a fresh network of the pruned one's shapes."""
    folder: str | None = None
    """Folder to keep clips and models in; what is there is not made again."""


@dataclass(frozen=True, kw_only=True)
class Learner:
    """Trains models from one run of clips into folders."""

    model: str
    examples: Examples
    folder: Path

    def learn(
        self, name: str, epochs: int, *, weights: str = "none", prune: float | None = None,
        like: str | None = None,
    ) -> str:  # fmt: skip
        """The model folder of a training; ``like`` is another whose layers a fresh one has."""
        out = str(self.folder / name)
        settings = LearningSettings(
            deep=DeepSettings(weights=weights),
            training=Training(epochs=epochs),
            augmentation=Augmentation.none(),
            workers=Workers(in_process=True),
        )
        settings = PruneSettings(prune=prune).tuning(settings)
        lesson = teaching.lesson_of(
            self.model, self.examples, settings, folds=FoldSettings(), on_rows=EpochLines(epochs)
        )
        if prune is not None:
            lesson = lesson_changes.with_pruning(lesson, prune)
        assert isinstance(lesson, teaching.DeepLesson)
        if like is not None:
            channels = models.load_network(like).info["network"]["channels"]
            network = {**lesson.job.network, "channels": channels}
            lesson = dataclasses.replace(
                lesson, job=dataclasses.replace(lesson.job, network=network)
            )
        run = teaching.model_run(lesson, data=self.examples.source or "", out=out)
        if run.claim() != "finished":
            run.finish(**lesson.teach(run).report)
        return out

    def cut(self, name: str, weights: str, share: float) -> str:
        """The model folder of a network that is pruned and not yet trained."""
        lesson = teaching.lesson_of(
            self.model, self.examples, LearningSettings(deep=DeepSettings(weights=weights)),
            folds=FoldSettings(), on_rows=EpochLines(1),
        )  # fmt: skip
        job = lesson_changes.with_pruning(lesson, share).job
        return start.begun(job, self.examples, str(self.folder / name))[0].weights


def main(bench: Bench) -> None:
    """Learn, prune, tune, judge, and print the table."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(bench.folder or scratch)
        data = folder / "clips"
        if not (data / "_SUCCESS").exists():
            write_clips(data, scenes=bench.scenes)
        learner = Learner(model=bench.model, examples=read_clips(str(data)), folder=folder)
        whole = learner.learn("whole", bench.epochs)
        folders = {"whole": whole}
        for share in bench.shares:
            gone = f"{share:.0%} gone"
            folders[f"{gone}, not yet tuned"] = learner.cut(f"cut-{share}", whole, share)
            tuned = learner.learn(
                f"pruned-{share}", bench.tuning_epochs, weights=whole, prune=share
            )
            folders[f"{gone}, tuned"] = tuned
            if bench.scratch:
                epochs = bench.epochs + bench.tuning_epochs
                folders[f"{gone}, from noise"] = learner.learn(f"noise-{share}", epochs, like=tuned)
        _print_table(folders, learner.examples.of_split("test"))


def write_clips(out: Path, *, scenes: int) -> None:
    """A finished run of clips: ``scenes`` with mirror images in train, others in val and test."""
    clip = ClipSettings(frames_per_clip=FRAMES, size_px=SIZE_PX, clip_seconds=FRAMES / 16)
    rows = []
    for split, count, seed in (("train", scenes, 0), ("val", 16, 1000), ("test", 64, 2000)):
        clips, labels = drifting_clips(
            AXES, clips_each=count, frames=FRAMES, size_px=SIZE_PX, seed=seed
        )
        scene = np.arange(len(clips)) // len(AXES)
        if split == "train":
            clips, labels = mirrored(clips, labels, AXES)
            scene = np.tile(scene, len(clips) // len(scene))
        for k, (pixels, label) in enumerate(zip(clips, labels.tolist(), strict=True)):
            rows.append(
                {
                    "video_id": f"{split}{k:05}", "uri": f"/made/{split}{k:05}.mp4",
                    "fingerprint": f"{seed}-{k}", "label": f"{AXES[label]:03}", "split": split,
                    "group": f"{split}{scene[k]:03}", "status": "ok", "clip_index": 0,
                    "pixels": pixels.tobytes(), "config_digest": clip.digest,
                }
            )  # fmt: skip
    write_rows(out, clip, rows)


def _print_table(folders: dict[str, str], test: Examples) -> None:
    networks = {}
    for name, folder in folders.items():
        model = models.load(folder)
        assert isinstance(model, DeepModel)
        networks[name] = model
    milliseconds = _milliseconds(networks)
    print("| network | parameters | GFLOP a clip | file | ms a clip | accuracy (95 % interval) |")
    print("|---|---|---|---|---|---|")
    for name, model in networks.items():
        shape = (3, FRAMES, SIZE_PX, SIZE_PX)
        size = (Path(folders[name]) / WEIGHTS).stat().st_size
        accuracy, (low, high) = _accuracy(model, test)
        print(
            f"| {name} | {cost.num_parameters(model.network):,} "
            f"| {cost.flops_per_clip(model.network, shape) / 1e9:.2f} | {size / 1e6:.1f} MB "
            f"| {milliseconds[name]:.1f} | {accuracy:.3f} ({low:.3f} to {high:.3f}) |",
            flush=True,
        )


def _accuracy(model: DeepModel, test: Examples) -> tuple[float, list[float]]:
    """Accuracy, and its interval over resampled scenes."""
    found = judging.predict(model, test)
    right = (found.argmax(axis=1) == test.targets(model.class_names)).astype(np.float64)
    _, group_of = np.unique(np.array(test.groups), return_inverse=True)
    blocks = [right @ w / w.sum(axis=0) for w in resampled(group_of, 1000, seed=0)]
    spread = interval(np.concatenate(blocks))
    assert spread is not None
    return float(right.mean()), spread


def _milliseconds(networks: dict[str, DeepModel], rounds: int = 31) -> dict[str, float]:
    """Median milliseconds of one clip by each network, all in turn."""
    clip = torch.rand(1, 3, FRAMES, SIZE_PX, SIZE_PX)
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    with torch.no_grad():
        for _ in range(rounds):
            for name, model in networks.items():
                began = time.perf_counter()
                model.network(clip)
                seconds[name].append(time.perf_counter() - began)
    return {name: 1000 * statistics.median(times[1:]) for name, times in seconds.items()}


if __name__ == "__main__":
    main(tyro.cli(Bench))
