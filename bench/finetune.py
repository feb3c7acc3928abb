"""Steps until clips are known: by heart, and of other scenes from noise and from weights.

    python bench/finetune.py --device cuda
    python bench/finetune.py --no-by-heart --models r3d_18 --seeds 1            # on a core

The classes are directions of drift (``vidray.video.synthetic``). By heart: a model learns 8 clips
of the four diagonals; after each epoch the same clips are judged as labelling would, without
dropout and by running statistics. Held out: it learns the diagonals from clips of 64 scenes and
their mirror images, until it knows 0.9 of 32 clips of 8 other scenes; from noise, and from weights
that learnt the four axes from noise until they knew as much of their own. timesformer_space, to
which frames have no order, cannot learn that. Settings are the defaults of ``jobs/train.py``,
augmentation off; an epoch is 4 steps, so warm-up from weights is, too. "Before" are the settings of
a vidray that had one rate for all: 0.001, one epoch of warm-up, no clipping, batch-norm statistics
that begin as 0 and 1.
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
# Scenes of the clips from which motion is learnt: with their mirror images 1,024 clips. 64 clips of
# 16 scenes are known by heart after 60 steps of s3d, and 0.28 of those held out.
SCENES, EPOCHS = 64, 40
STEPS = 4  # After which 32 clips are judged.
KNOWN = 0.9
ORDERLESS = ("timesformer_space",)  # Its frames know of no other: direction cannot be learnt.
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
    by_heart: bool = True
    """Count the steps until 8 clips are known by heart."""
    transfer: bool = True
    """Count the steps until held-out clips are known, from noise and from weights."""
    frames: int = 16
    """Frames of a clip to know by heart: 16 are a second."""
    size_px: int = 48
    """Width and height of a clip to know by heart."""
    seeds: int = 2
    """Trainings of each kind, from other seeds and of other clips."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to train."""


@dataclass(kw_only=True)
class PartLoader(TrainingLoader):
    """A loader whose epochs are parts of a pass over the clips, so that they are judged often."""

    parts: int = 1
    """Epochs of a pass; they divide its batches evenly."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches of a part."""
        return super().steps_per_epoch // self.parts

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """Those of the part."""
        whole, count = super().batches(epoch // self.parts), self.steps_per_epoch
        begin = epoch % self.parts * count
        return whole[begin : begin + count]


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """Clips, and the settings to learn them with."""

    model: str
    clips: NDArray[np.uint8]
    labels: NDArray[np.int64]
    training: Training
    weights: str = "none"
    held_out: tuple[NDArray[np.uint8], NDArray[np.int64]] | None = None
    """Clips to judge by, and their classes; None: those that are learnt."""
    until: float = 1.0
    """Accuracy of the judged clips that ends the training."""
    parts: int = 1
    """Epochs in which the clips are seen once; clips are judged after each."""
    is_fresh: bool = True
    """False: batch norms begin as they did before."""
    device: str = "cpu"
    stops: bool = True
    """End the training once ``until`` is reached."""

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
        loader = PartLoader(
            read=lambda rows: self.clips[rows], labels=self.labels,
            num_classes=network["num_classes"], preprocessing=preprocessing,
            augmentation=job.augmentation, batch_size=training.batch_size, seed=training.seed,
            threads=1, parts=self.parts,
        )  # fmt: skip

        def on_epoch(rows: list[EpochRow], save: loop.Save) -> bool:
            ends = self.stops and reaches(rows[-1], self.until)
            if folder is not None and (ends or len(rows) == training.epochs):
                save(folder)
            return not ends

        built = deep_job.make_network(job, fresh=True)
        judged, classes = self.held_out or (self.clips, self.labels)
        return loop.fit(
            built.network, loader, training=training, device=torch.device(self.device),
            on_epoch=on_epoch,  # type: ignore[arg-type]
            validation=Validation(read=lambda rows: judged[rows], labels=classes),
            shares=rate_shares(built, training), is_fresh=job.is_fresh and self.is_fresh,
        )  # fmt: skip


def reaches(row: EpochRow, accuracy: float) -> bool:
    """Whether the judged clips were known as well as that, or better."""
    assert row.val_accuracy is not None
    return row.val_accuracy >= accuracy


def steps(rows: list[EpochRow], accuracy: float = 1.0) -> int | None:
    """Steps after which the judged clips were first known as well as that; None: never."""
    for row in rows:
        if reaches(row, accuracy):
            return row.epoch * row.steps
    return None


def pretrained(lesson: Lesson, folder: Path) -> tuple[str | None, int | None]:
    """A weights file of the model of ``lesson`` and the steps it took; None twice: never known.

    The training ends once the judged clips are known. The file's head is another one's.
    """
    found = steps(lesson.learn(folder), lesson.until)
    if found is None:
        return None, None
    state = safetensors.torch.load_file(checkpoints.judged_weights(folder))
    path = folder / "pretrained.safetensors"
    safetensors.torch.save_file(state, path)
    return str(path), found


def mirrored(
    clips: NDArray[np.uint8], labels: NDArray[np.int64], degrees: tuple[int, ...]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The clips, then left for right, upside down, and both, of the direction that each then shows.

    ``degrees`` holds the mirror images of its own directions.
    """
    sideways = np.array([degrees.index((180 - one) % 360) for one in degrees])
    upended = np.array([degrees.index(-one % 360) for one in degrees])
    clips = np.concatenate([clips, clips[:, :, :, ::-1]])
    labels = np.concatenate([labels, sideways[labels]])
    return np.concatenate([clips, clips[:, :, ::-1]]), np.concatenate([labels, upended[labels]])


def transfer_lesson(
    model: str, degrees: tuple[int, ...], *, of: int, seed: int, device: str = "cpu"
) -> Lesson:
    """Clips of directions to learn, and 32 of other scenes to judge by; ``of`` numbers the scenes.

    Half a second in 32 px: a step of 16 clips takes r3d_18 1.5 s on a core.
    """

    def drawn(scenes: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        return drifting_clips(degrees, clips_each=scenes, frames=8, size_px=32, seed=seed)

    clips, labels = mirrored(*drawn(SCENES, of), degrees)
    return Lesson(
        model=model, clips=clips, labels=labels, held_out=drawn(8, of + 1000), until=KNOWN,
        training=Training(epochs=EPOCHS, seed=seed), parts=len(clips) // 16 // STEPS,
        device=device,
    )  # fmt: skip


def transfer(model: str, seed: int, device: str = "cpu") -> list[int | None]:
    """Steps until held-out diagonals are known: from noise, for the axes, and from those weights.

    A list of three; None: never.
    """
    diagonals = transfer_lesson(model, DIAGONALS, of=seed, seed=seed, device=device)
    axes = transfer_lesson(model, AXES, of=100 + seed, seed=seed, device=device)
    from_noise = steps(diagonals.learn(), KNOWN)
    with tempfile.TemporaryDirectory() as folder:
        weights, before = pretrained(axes, Path(folder))
        if weights is None:
            return [from_noise, None, None]
        return [from_noise, before, steps(replace(diagonals, weights=weights).learn(), KNOWN)]


def main(bench: Bench) -> None:
    """Print a row of the table for each model."""
    print("| model | 8 clips, before | 8 clips | held out, noise | axes | held out, weights |")
    print("|---|---|---|---|---|---|")
    for model in bench.models:
        columns = zip(*(_columns(model, bench, seed) for seed in range(bench.seeds)), strict=True)
        cells = [", ".join(column) for column in columns]
        print(f"| {model} | {' | '.join(cells)} |", flush=True)


def _columns(model: str, bench: Bench, seed: int) -> list[str]:
    by_heart, moved = ["-", "-"], ["-", "-", "-"]
    if bench.by_heart:
        by_heart = [f"{one or 'never'}" for one in _by_heart(model, bench, seed)]
    if bench.transfer and model not in ORDERLESS:
        moved = [f"{one or 'never'}" for one in transfer(model, seed, bench.device)]
    return by_heart + moved


def _by_heart(model: str, bench: Bench, seed: int) -> list[int | None]:
    clips, labels = drifting_clips(
        DIAGONALS, clips_each=2, frames=bench.frames, size_px=bench.size_px, seed=seed
    )
    training = Training(epochs=100, seed=seed)
    now = Lesson(model=model, clips=clips, labels=labels, training=training, device=bench.device)
    before = replace(now, training=replace(BEFORE, epochs=100, seed=seed), is_fresh=False)
    return [steps(before.learn()), steps(now.learn())]


if __name__ == "__main__":
    main(tyro.cli(Bench))
