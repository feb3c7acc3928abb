"""What VideoMAE's pre-training is worth: fine-tuning from it and from noise, on clips made here.

    python bench/pretraining.py

A small VideoMAE is pre-trained on clips without labels, in which two discs drift in one of four
directions. Then it learns the directions of a few labelled clips, from that and from noise, with
the defaults of each and in the same number of epochs; clips of other scenes judge it. Takes about
five minutes on one core. Prints a row for each seed.

Seen at these small sizes (seed 0): the loss falls from 0.33 to 0.022, and fine-tuning from it is no
better than from noise: both stay at chance on other scenes. By heart, eight clips are known after
121 epochs from it and 68 from noise, with the defaults of each.
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
from vidray.video.synthetic import drifting_clips

DIRECTIONS = (0, 90, 180, 270)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Pre-train, then fine-tune from that and from noise."""

    frames: int = 8
    """Frames of a clip: 16 are a second."""
    size_px: int = 32
    """Width and height of a clip."""
    unlabelled: int = 64
    """Scenes that are pre-trained on, in each direction."""
    labelled: int = 32
    """Scenes that are fine-tuned on, in each direction."""
    pretraining_epochs: int = 40
    """Epochs of the pre-training."""
    epochs: int = 30
    """Epochs of the fine-tuning."""
    learning_rate: float = 2e-3
    """Of the pre-training."""
    seeds: int = 2
    """Repeats, each with other clips."""


def main(bench: Bench) -> None:
    """Print a row for each seed."""
    print("| seed | loss of pre-training | accuracy from noise | from pre-training | minutes |")
    print("|---|---|---|---|---|")
    for seed in range(bench.seeds):
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            losses = _pretrain(bench, seed, Path(folder))
            found = [_fine_tune(bench, seed, weights) for weights in ("none", f"hf:{folder}/made")]
        noise, tuned = (max(row.val_accuracy or 0.0 for row in rows) for rows in found)
        minutes = (time.monotonic() - began) / 60
        fell = f"{losses[0].train_loss:.3f} to {losses[-1].train_loss:.3f}"
        print(f"| {seed} | {fell} | {noise:.3f} | {tuned:.3f} | {minutes:.1f} |", flush=True)


def _pretrain(bench: Bench, seed: int, folder: Path) -> list[EpochRow]:
    """Pre-train, and write ``made`` into the folder, as jobs/train.py --pretrain does."""
    clips, _ = _clips(bench, bench.unlabelled, seed)
    training = Training(
        epochs=bench.pretraining_epochs, seed=seed, keep="loss", stop_on="loss",
        learning_rate=bench.learning_rate, batch_size=32, warmup_epochs=5,
    )  # fmt: skip
    facts = defaults.Facts(name="hf:small", is_transformer=True)
    job = _job(bench, replace(defaults.resolved(training, facts)), "none", mask_ratio=0.75)
    rows = _fit(job, clips, np.zeros(len(clips), np.int64), None, folder / "last")
    state = safetensors.torch.load_file(checkpoints.judged_weights(folder / "last"))
    (folder / "made").mkdir()
    pretraining_folder.save(str(folder / "made"), job, state)
    return rows


def _fine_tune(bench: Bench, seed: int, weights: str) -> list[EpochRow]:
    # Other scenes than those that were pre-trained on, and others again to judge by.
    clips, labels = _clips(bench, bench.labelled, seed + 100)
    others = _clips(bench, 16, seed + 200)
    job = _job(bench, Training(epochs=bench.epochs, seed=seed, batch_size=8), weights)
    facts = deep_job.facts(job.network, weights, "all")
    job = replace(job, training=defaults.resolved(job.training, facts))
    return _fit(job, clips, labels, others, None)


def _clips(bench: Bench, scenes: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    size = {"frames": bench.frames, "size_px": bench.size_px}
    return drifting_clips(DIRECTIONS, clips_each=scenes, seed=seed, **size)


def _job(bench: Bench, training: Training, weights: str, **more: Any) -> DeepJob:
    config = VideoMAE(
        image_size=bench.size_px, num_frames=bench.frames, patch_size=8, hidden_size=96,
        num_hidden_layers=4, num_attention_heads=3, intermediate_size=384, decoder_hidden_size=48,
        decoder_num_attention_heads=3, decoder_num_hidden_layers=2, decoder_intermediate_size=192,
        # Backgrounds are noise at this size: normalised, they would count as much as the discs.
        norm_pix_loss=False,
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
    others: tuple[NDArray[np.uint8], NDArray[np.int64]] | None,
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
