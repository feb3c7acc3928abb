"""What VideoMAE's pre-training is worth: fine-tuning from it and from noise, on clips made here.

    python bench/pretraining.py

A small VideoMAE is pre-trained on clips without labels, in which a light shape moves in one of four
directions over a dark, smooth ground. Then it learns the directions of a few labelled clips, from
that and from noise, with the defaults of each and in the same number of epochs; other clips judge
it after the last. Prints a row for each seed. About five minutes on an idle core (estimated).

The loss has a mark: the error of who knows each clip's mean colour and nothing of its shapes. A
pre-training that is worth something falls below it.

Seen so far: no gain, and no loss below the mark. Settings, each of width 96, 8 frames, 1,024
clips, a decoder of one block (2 heads in A to D, 4 in E and F), seed 0, on one shared core. Only A
was trained to its end and fine-tuned; B to F of 25, 25, 40, 40 and 50 epochs were stopped where the
loss stood still, or for want of time:

| | clips | px, patch | batch | rate | weights' deviation | epochs | loss, first to last | mark |
|---|---|---|---|---|---|---|---|---|
| A | 2 shapes, all of any colour | 48, 8 | 16 | 2e-3 | 0.02 | 25 | 0.1434 to 0.0139 | 0.0129 |
| B | as A | 48, 8 | 16 | 2e-3 | 0.1 | 4 | 0.4059 to 0.0225 | 0.0129 |
| C | 2 strong ones on grey | 48, 8 | 16 | 2e-3 | 0.1 | 12 | 0.3927 to 0.0201 | 0.0179 |
| D | 2 larger light ones on dark | 64, 16 | 32 | 2e-3 | 0.1 | 18 | 0.5348 to 0.0535 | 0.0492 |
| E | 1 still larger, as here | 32, 8 | 32 | 2e-3 | 0.05 | 24 | 0.2060 to 0.0432 | 0.0420 |
| F | as E, with the defaults here | 32, 8 | 16 | 1e-3 | 0.05 | 16 | 0.2014 to 0.0436 | 0.0420 |

From A, 64 labelled clips in 14 epochs gave 29 right of 96 others, and from noise 29 of 96 (chance
is 24). On E's clips five short loops of plain PyTorch were looked at, too: AdamW with betas of 0.9
and 0.95, as VideoMAE's authors have, a rate of 1e-3 and no weight decay. In 400 steps of 32 clips
the loss came to 0.0420, and from weights of deviation 0.02 to 0.0445. In 300 steps it came to
0.0448 with random positions; to 0.0437 with 16 clips, from deviation 0.1; to 0.0438 with 16 at a
rate of 5e-4.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import tyro
from numpy.typing import NDArray

from vidray.evaluation import pretraining as pretraining_folder
from vidray.learning import checkpoints, deep_job, defaults, loop
from vidray.learning.deep_job import DeepJob
from vidray.learning.epochs import EpochRow, Validation
from vidray.learning.hyperparameters import Augmentation, Training
from vidray.learning.loader import TrainingLoader
from vidray.learning.losses import Reconstruction
from vidray.learning.optimizer import rate_shares
from vidray.models.preprocess import KINETICS, Preprocessing
from vidray.models.transformers_config import VideoMAE

DIRECTIONS = (0, 90, 180, 270)
Clips = tuple[NDArray[np.uint8], NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Pre-train, then fine-tune from that and from noise."""

    frames: int = 8
    """Frames of a clip."""
    size_px: int = 32
    """Width and height of a clip."""
    unlabelled: int = 1024
    """Clips that are pre-trained on."""
    labelled: int = 64
    """Clips that are fine-tuned on."""
    judged: int = 128
    """Clips that judge it."""
    mask_ratio: float = 0.75
    """Share of a clip that pre-training hides."""
    pretraining_epochs: int = 50
    """Epochs of the pre-training."""
    learning_rate: float = 1e-3
    """Of the pre-training."""
    epochs: int = 30
    """Epochs of the fine-tuning."""
    seeds: int = 1
    """Repeats, each with other clips."""


def main(bench: Bench) -> None:
    """Print a row for each seed."""
    print("| seed | loss of pre-training | of a clip's mean colour | accuracy from noise", end=" ")
    print("| from pre-training | minutes |\n|---|---|---|---|---|---|")
    for seed in range(bench.seeds):
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            losses, known = _pretrain(bench, seed, Path(folder))
            found = [_fine_tune(bench, seed, weights) for weights in ("none", f"hf:{folder}/made")]
        noise, tuned = (rows[-1].val_accuracy or 0.0 for rows in found)
        minutes = (time.monotonic() - began) / 60
        fell = f"{losses[0].train_loss:.4f} to {losses[-1].train_loss:.4f}"
        print(
            f"| {seed} | {fell} | {known:.4f} | {noise:.3f} | {tuned:.3f} | {minutes:.1f} |",
            flush=True,
        )


def _pretrain(bench: Bench, seed: int, folder: Path) -> tuple[list[EpochRow], float]:
    """Pre-train, and write ``made`` into the folder, as jobs/train.py --pretrain does.

    Also gives the error of who knows each clip's mean colour and no more.
    """
    clips, _ = moving_shapes(
        bench.unlabelled, frames=bench.frames, size_px=bench.size_px, seed=seed
    )
    training = Training(
        epochs=bench.pretraining_epochs, seed=seed, keep="loss", stop_on="loss",
        learning_rate=bench.learning_rate, batch_size=16, warmup_epochs=2,
    )  # fmt: skip
    facts = defaults.Facts(name="hf:small", is_transformer=True)
    job = _job(bench, defaults.resolved(training, facts), "none", mask_ratio=bench.mask_ratio)
    rows = _fit(job, clips, np.zeros(len(clips), np.int64), None, folder / "last")
    state = safetensors.torch.load_file(checkpoints.judged_weights(folder / "last"))
    (folder / "made").mkdir()
    pretraining_folder.save(str(folder / "made"), job, state)
    return rows, float(np.mean([(clip / 255).var(axis=(0, 1, 2)).mean() for clip in clips]))


def _fine_tune(bench: Bench, seed: int, weights: str, **more: Any) -> list[EpochRow]:
    # Other clips than those that were pre-trained on, and others again to judge by.
    size = {"frames": bench.frames, "size_px": bench.size_px}
    clips, labels = moving_shapes(bench.labelled, seed=seed + 100, **size)
    others = moving_shapes(bench.judged, seed=seed + 200, **size)
    job = _job(bench, Training(epochs=bench.epochs, seed=seed, batch_size=8, **more), weights)
    facts = deep_job.facts(job.network, weights, "all")
    job = replace(job, training=defaults.resolved(job.training, facts))
    return _fit(job, clips, labels, others, None)


def moving_shapes(count: int, *, frames: int, size_px: int, seed: int) -> Clips:
    """Clips of a light shape that moves one way over a dark, smooth ground: a class for each way.

    A disc, square or triangle, a third to a half of the picture wide, moves by 1/24 to 1/12 of it
    in a frame, and comes back where it leaves it.

    Returns:
        ``uint8 (N, T, H, W, 3)`` and classes ``int64 (N,)``, one after the other.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(DIRECTIONS)
    return np.stack([_clip(rng, DIRECTIONS[k], frames, size_px) for k in labels]), labels


def _clip(rng: np.random.Generator, degrees: float, frames: int, size_px: int) -> NDArray[np.uint8]:
    x, y = np.meshgrid(np.arange(size_px) / size_px, np.arange(size_px) / size_px)
    slopes = rng.uniform(-20, 20, (2, 3))
    ground = rng.uniform(40, 90, 3) + np.stack([x - 0.5, y - 0.5], axis=-1) @ slopes  # (H, W, 3)
    colour, radius, kind = rng.uniform(190, 250, 3), rng.uniform(0.17, 0.25), int(rng.integers(3))
    angle = np.deg2rad(degrees)
    step = rng.uniform(1 / 24, 1 / 12) * np.array([np.cos(angle), np.sin(angle)])
    begin = rng.uniform(0, 1, 2)
    drawn = []
    for index in range(frames):
        at = begin + step * index
        distance = _distance(kind, (x - at[0] + 0.5) % 1 - 0.5, (y - at[1] + 0.5) % 1 - 0.5)
        cover = np.clip((radius - distance) * size_px + 0.5, 0, 1)[..., None]
        drawn.append(ground + cover * (colour - ground))
    return np.clip(np.rint(drawn), 0, 255).astype(np.uint8)


def _distance(
    kind: int, across: NDArray[np.float64], down: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The radius of the disc, square or triangle about the middle on which a pixel lies."""
    if kind == 0:
        return np.hypot(across, down)
    if kind == 1:
        return np.maximum(abs(across), abs(down)) * 1.1
    return np.maximum(down * 1.4, abs(across) * 1.2 - down * 0.7)


def _job(bench: Bench, training: Training, weights: str, **more: Any) -> DeepJob:
    config = VideoMAE(
        image_size=bench.size_px, num_frames=bench.frames, patch_size=8, hidden_size=96,
        num_hidden_layers=4, num_attention_heads=3, intermediate_size=384, decoder_hidden_size=64,
        decoder_num_attention_heads=4, decoder_num_hidden_layers=1, decoder_intermediate_size=256,
        # Most patches are background alone: normalised, they would count as much as the shapes.
        norm_pix_loss=False,
        # Theirs, 0.02, is for eight times the width: from it the loss fell slower.
        initializer_range=0.05,
    )  # fmt: skip
    network: dict[str, Any] = {"name": "hf:small", "frames": bench.frames, "size_px": bench.size_px}
    network["config"] = json.loads(json.dumps(config.as_json()))
    if "mask_ratio" not in more:
        network |= {"num_classes": len(DIRECTIONS)}
    mean, std = KINETICS
    return DeepJob(
        data="", class_names=(), network=network, weights=weights, trained="all",
        training=training, augmentation=Augmentation.none(),
        preprocessing=Preprocessing(
            num_frames=bench.frames, size_px=bench.size_px, mean=mean, std=std
        ), **more,
    )  # fmt: skip


def _fit(
    job: DeepJob,
    clips: NDArray[np.uint8],
    labels: NDArray[np.int64],
    others: Clips | None,
    folder: Path | None,
) -> list[EpochRow]:
    """Train; with a folder, save the checkpoint of the last epoch there."""
    training = job.training
    loader = TrainingLoader(
        read=lambda rows: clips[rows], labels=labels,
        num_classes=job.network.get("num_classes", 1), preprocessing=job.preprocessing,
        augmentation=job.augmentation, batch_size=training.batch_size, seed=training.seed,
        threads=1,
    )  # fmt: skip

    def on_epoch(rows: Any, save: loop.Save) -> None:
        if folder is not None and len(rows) == training.epochs:
            save(folder)

    validation = None
    if others is not None:
        validation = Validation(read=lambda rows: others[0][rows], labels=others[1])
    built = deep_job.make_network(job, fresh=True)
    return loop.fit(
        built.network, loader, training=training, device=torch.device("cpu"), on_epoch=on_epoch,
        validation=validation, shares=rate_shares(built, training),
        objective=None if job.mask_ratio is None else Reconstruction(),
    )  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(Bench))
