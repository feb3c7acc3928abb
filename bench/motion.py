"""A test that motion is learnt: a 3D network against frame pooling with shuffled frames.

    python bench/motion.py            # generated classes that differ in motion only
    python bench/motion.py --models r3d_18 resnet18_lstm --epochs 30

Every class shows the same scenes: one frame says nothing (see ``vidray.video.synthetic``). Clips
of a second are cut, scenes are kept whole by the split, both networks start fresh and are trained
alike; what is printed is the accuracy over the test split's videos. Some minutes on two cores.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from bench.clips import cut_all
from vidray import models
from vidray.evaluation.judged import judge
from vidray.learning import loop
from vidray.learning.epochs import (
    EpochRow,
    Validation,
)
from vidray.learning.examples import Examples, read_clips
from vidray.learning.hyperparameters import Augmentation, Training
from vidray.learning.loader import TrainingLoader
from vidray.learning.loop import (
    Save,
)
from vidray.models import inference
from vidray.models.inference import Read
from vidray.models.preprocess import KINETICS, Preprocessing
from vidray.video import synthetic
from vidray.video.clips import ClipSettings


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Train both and compare."""

    clips_per_class: int = 120
    """Videos made of each of the four classes."""
    models: tuple[str, ...] = ("s3d",)
    """Models trained on frames in order."""
    shuffled: tuple[str, ...] = ("resnet18_avg",)
    """Models trained and judged on frames in an order drawn for each clip."""
    clips_per_video: int = 2
    """Clips cut of each video."""
    frames: int = 12
    """Frames of a clip of a second."""
    size_px: int = 32
    """Width and height of a clip."""
    training: Training = field(
        default_factory=lambda: Training(
            epochs=30,
            batch_size=32,
            learning_rate=2e-3,
            weight_decay=0.01,
            label_smoothing=0.0,
            channels_last=True,
        )
    )
    """Training of both models."""


def main(bench: Bench) -> None:
    """Make, cut, train, judge."""
    with tempfile.TemporaryDirectory() as folder:
        videos, data = f"{folder}/videos", Path(folder) / "clips"
        synthetic.make_clips(videos, clips_per_class=bench.clips_per_class)
        settings = ClipSettings(
            frames_per_clip=bench.frames,
            size_px=bench.size_px,
            clips_per_video=bench.clips_per_video,
            clip_seconds=1.0,
        )
        cut_all(videos, data, settings, splits=(0.75, 0.1, 0.15))
        examples = read_clips(str(data))
        for is_shuffled, names in enumerate((bench.models, bench.shuffled)):
            for name in names:
                began = time.monotonic()
                accuracy = _accuracy(name, examples, bench, shuffled=bool(is_shuffled))
                order = "shuffled frames" if is_shuffled else "frames in order"
                seconds = time.monotonic() - began
                print(f"{name}, {order}: accuracy {accuracy:.3f} in {seconds:.0f} s", flush=True)


def _accuracy(name: str, examples: Examples, bench: Bench, *, shuffled: bool) -> float:
    """Accuracy on the videos of split test, clips of a video averaged."""
    names = examples.class_names
    mean, std = KINETICS
    preprocessing = Preprocessing(
        num_frames=bench.frames, size_px=bench.size_px, mean=mean, std=std
    )
    torch.manual_seed(bench.training.seed)
    network = models.build_model(
        name, num_classes=len(names), frames=bench.frames, size_px=bench.size_px
    )
    train, val, test = (examples.of_split(split) for split in ("train", "val", "test"))
    loader = TrainingLoader(
        read=_reader(train, shuffled=shuffled),
        labels=train.targets(names),
        num_classes=len(names),
        preprocessing=preprocessing,
        augmentation=Augmentation(temporal_jitter=0.0),
        batch_size=bench.training.batch_size,
        seed=bench.training.seed,
        threads=torch.get_num_threads(),
    )
    loop.fit(
        network,
        loader,
        training=bench.training,
        device=torch.device("cpu"),
        on_epoch=_say,
        validation=Validation(read=_reader(val, shuffled=shuffled), labels=val.targets(names)),
    )
    read, rows = _reader(test, shuffled=shuffled), np.arange(len(test.table))
    logits = inference.predict_logits(
        network,
        [read(rows[k : k + 16]) for k in range(0, len(rows), 16)],
        preprocessing=preprocessing,
        device=torch.device("cpu"),
    )
    probabilities = torch.from_numpy(logits).softmax(dim=1).double().numpy()
    accuracy = judge(test.table, probabilities).metrics(names)["accuracy"]
    return float(accuracy)


def _reader(examples: Examples, *, shuffled: bool) -> Read:
    assert examples.clips is not None
    clips, rows = examples.clips, examples.table["row"].to_numpy()

    def read(wanted: NDArray[np.int64]) -> NDArray[np.uint8]:
        pixels = clips.read(rows[wanted])
        if not shuffled:
            return pixels
        # A clip's frames come in the same wrong order every time.
        orders = [np.random.default_rng(row).permutation(pixels.shape[1]) for row in wanted]
        return np.stack([clip[order] for clip, order in zip(pixels, orders, strict=True)])

    return read


def _say(rows: Sequence[EpochRow], _save: Save) -> None:
    row = rows[-1]
    print(
        f"  epoch {row.epoch}: loss {row.train_loss:.3f} accuracy {row.train_accuracy:.2f}, "
        f"val {row.val_loss:.3f} {row.val_accuracy:.2f}, {row.clips_per_second:.1f} clips/s",
        flush=True,
    )


if __name__ == "__main__":
    main(tyro.cli(Bench))
