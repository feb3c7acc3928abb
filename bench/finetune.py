"""Steps until clips are known by heart: from noise, and from weights of other motions.

    python bench/finetune.py --device cuda               # two minutes on an H100
    python bench/finetune.py --models s3d --frames 8 --size-px 32 --seeds 1     # on two cores

The classes are directions of drift (``vidray.video.synthetic``). A model learns 8 clips of the four
diagonals, then 32; and 32 again from weights that it has of 64 clips of the four axes. After each
epoch the same clips are judged as labelling would, without dropout and by running statistics.
Settings are the defaults of ``jobs/train.py``, augmentation off; "before" are those of a vidray
that had one rate for all: 0.001, one epoch of warm-up, no clipping, batch-norm statistics that
begin as 0 and 1.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import safetensors.torch
import torch
import tyro
from numpy.typing import NDArray

from vidray.learning import checkpoints, deep_job, defaults, loop
from vidray.learning.epochs import EpochRow, Validation
from vidray.learning.hyperparameters import Augmentation, Training
from vidray.learning.loader import TrainingLoader
from vidray.learning.optimizer import rate_shares
from vidray.models.preprocess import KINETICS, Preprocessing
from vidray.video.synthetic import drifting_clips

AXES, DIAGONALS = (0, 90, 180, 270), (45, 135, 225, 315)
BEFORE = Training(
    learning_rate=1e-3,
    warmup_steps=0,
    backbone_rate=1.0,
    layer_decay=1.0,
    clip_gradient_norm=0.0,
    drop_path=0.0,
    ema=0.0,
)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Learn clips by heart, from noise and from weights."""

    models: tuple[str, ...] = ("r3d_18", "s3d", "x3d_s", "timesformer_space", "videomae_small")
    """Models to train."""
    frames: int = 16
    """Frames of a clip: 16 are a second."""
    size_px: int = 48
    """Width and height of a clip."""
    seeds: int = 2
    """Trainings of each kind, from other seeds and of other clips."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to train."""


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """Clips, and the settings to learn them with."""

    model: str
    clips: NDArray[np.uint8]
    labels: NDArray[np.int64]
    training: Training
    weights: str = "none"
    is_fresh: bool = True
    """False: batch norms begin as they did before."""
    device: str = "cpu"
    stops: bool = True
    """End the training once all clips are known."""

    def learn(self, folder: Path | None = None) -> list[EpochRow]:
        """Train; with a folder, save the checkpoint of the last epoch there."""
        frames, size_px = self.clips.shape[1:3]
        network = {
            "name": self.model, "num_classes": int(self.labels.max()) + 1, "head": "linear",
            "frames": frames, "size_px": size_px,
        }  # fmt: skip
        mean, std = KINETICS
        preprocessing = Preprocessing(num_frames=frames, size_px=size_px, mean=mean, std=std)
        training = defaults.resolved(
            self.training, deep_job.facts(network, self.weights, trained="all")
        )
        job = deep_job.DeepJob(
            data="", class_names=(), network=network, weights=self.weights, trained="all",
            training=training, augmentation=Augmentation.none(), preprocessing=preprocessing,
        )  # fmt: skip
        loader = TrainingLoader(
            read=lambda rows: self.clips[rows], labels=self.labels,
            num_classes=network["num_classes"], preprocessing=preprocessing,
            augmentation=job.augmentation, batch_size=training.batch_size, seed=training.seed,
            threads=1,
        )  # fmt: skip

        def on_epoch(rows: list[EpochRow], save: loop.Save) -> bool:
            is_last = len(rows) == training.epochs
            if folder is not None and is_last:
                save(folder)
            return not (self.stops and rows[-1].val_accuracy == 1.0)

        built = deep_job.make_network(job, fresh=True)
        return loop.fit(
            built.network, loader, training=training, device=torch.device(self.device),
            on_epoch=on_epoch,  # type: ignore[arg-type]
            validation=Validation(read=lambda rows: self.clips[rows], labels=self.labels),
            shares=rate_shares(built, training), is_fresh=job.is_fresh and self.is_fresh,
        )  # fmt: skip


def steps(rows: list[EpochRow]) -> int | None:
    """Steps after which every clip was known for the first time; None: never."""
    for row in rows:
        if row.val_accuracy == 1.0:
            return row.epoch * row.steps
    return None


def pretrained(lesson: Lesson, folder: Path) -> str:
    """A weights file of the model of ``lesson``, trained to the end; its head is another one's."""
    replace(lesson, stops=False).learn(folder)
    state = safetensors.torch.load_file(checkpoints.judged_weights(folder))
    path = folder / "pretrained.safetensors"
    safetensors.torch.save_file(state, path)
    return str(path)


def main(bench: Bench) -> None:
    """Print a row of the table for each model."""
    print("| model | 8 clips, before | 8 clips | 32 clips, before | 32 clips | from weights |")
    print("|---|---|---|---|---|---|")
    for model in bench.models:
        columns = zip(*(_columns(model, bench, seed) for seed in range(bench.seeds)), strict=True)
        cells = [", ".join(f"{one or 'never'}" for one in column) for column in columns]
        print(f"| {model} | {' | '.join(cells)} |", flush=True)


def _columns(model: str, bench: Bench, seed: int) -> list[int | None]:
    def lesson(degrees: tuple[int, ...], scenes: int, epochs: int, of: int = 0) -> Lesson:
        clips, labels = drifting_clips(
            degrees, clips_each=scenes, frames=bench.frames, size_px=bench.size_px, seed=of + seed
        )
        training = Training(epochs=epochs, seed=seed)
        return Lesson(
            model=model, clips=clips, labels=labels, training=training, device=bench.device
        )

    def as_before(one: Lesson) -> Lesson:
        training = replace(BEFORE, epochs=one.training.epochs, seed=seed)
        return replace(one, training=training, is_fresh=False)

    eight, many = lesson(DIAGONALS, 2, epochs=100), lesson(DIAGONALS, 8, epochs=50)
    with tempfile.TemporaryDirectory() as folder:
        weights = pretrained(lesson(AXES, 16, epochs=50, of=100), Path(folder))
        lessons = [as_before(eight), eight, as_before(many), many, replace(many, weights=weights)]
        return [steps(one.learn()) for one in lessons]


if __name__ == "__main__":
    main(tyro.cli(Bench))
