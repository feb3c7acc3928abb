"""Time and memory of a training: waiting for data, checkpointing, number formats.

    python bench/training.py --parts wait --model r3d_18        # share of a step waiting for data
    python bench/training.py --parts memory                     # gradient checkpointing, two models
    python bench/training.py --parts speed                      # float32, channels_last, bfloat16
    python bench/training.py --parts wait --clips 512 --batch-size 32 --size-px 112  # on a GPU

Networks start fresh: their speed and memory do not depend on their weights. Each of ``memory`` and
``speed``'s trainings is in a process of its own, ``--runs`` times in turn, and printed are medians.
Memory is PyTorch's on a GPU and the process's (Linux's VmHWM, PyTorch itself included) on a CPU.
Takes some minutes a part on two cores; a GPU is used where there is one.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from torch import nn

from vidray import memory, models
from vidray.errors import UserError
from vidray.learning import loop
from vidray.learning.epochs import (
    EpochRow,
)
from vidray.learning.hyperparameters import Augmentation, Training
from vidray.learning.loader import TrainingLoader
from vidray.models.inference import Read
from vidray.models.names import FLOW_MODELS
from vidray.models.networks.checkpointing import checkpoint_blocks
from vidray.models.preprocess import KINETICS, Preprocessing

Part = Literal["wait", "memory", "speed"]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measure trainings."""

    parts: tuple[Part, ...] = ("wait", "memory", "speed")
    """Measurements to make."""
    runs: int = 3
    """Epochs of ``wait``, processes of each training of the others; medians are printed."""
    steps: int = 2
    """Steps of a run of ``memory`` and ``speed``, after as many that do not count."""
    model: str = "r3d_18"
    """Network of ``wait`` and ``speed``."""
    frames: int = 16
    """Frames that the network takes."""
    size_px: int = 112
    """Width and height that the network takes."""
    batch_size: int = 4
    """Clips of a training step."""
    clips: int = 16
    """Number of videos that ``wait`` makes and learns from."""
    videos: str = ""
    """A source of videos for ``wait`` to use instead."""
    stored_px: int = 128
    """Width and height of ``wait``'s stored clips: random crops are taken of them."""
    memory_models: tuple[str, ...] = ("r3d_18", "timesformer_divided")
    """Networks of ``memory``, those of ``_SIZES``."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One network, its input and its training."""

    model: str
    frames: int
    size_px: int
    training: Training = field(default_factory=Training)


@dataclass(frozen=True)
class Measured:
    """Measurements of one training."""

    seconds_per_step: float
    bytes_before: int
    """Bytes in use before the first step: the weights, on a CPU also all imports."""
    peak_bytes: int
    state_bytes: int
    """Bytes of the gradients and of the optimizer's two numbers for each of them."""

    @property
    def activations_bytes(self) -> int:
        """The rest of the rise: a lower bound of the activations."""
        # Without checkpointing the peak may come before there is any gradient.
        return self.peak_bytes - self.bytes_before - self.state_bytes


# Frames, width and clips of a step: small enough for two cores and 8 GiB.
_SIZES: dict[str, tuple[int, int, int]] = {
    "r3d_18": (16, 112, 4),
    "timesformer_divided": (8, 224, 2),
    "mvit_v2_s": (16, 224, 2),
}
_CLASSES = 2


def main(bench: Bench) -> None:
    """Measure the parts asked for, one after the other."""
    on = f"{torch.get_num_threads()} CPU threads"
    if torch.cuda.is_available():
        on = torch.cuda.get_device_name()
    print(f"PyTorch {torch.__version__} on {on}")
    parts = {"wait": _wait, "memory": _memory, "speed": _speed}
    for part in bench.parts:
        print(f"\n{part}", flush=True)
        parts[part](bench)


def _wait(bench: Bench) -> None:
    """Epochs of clips that were cut before; the first one, which starts everything, is shown apart.

    The loader alone shows how much faster a network could be before it waits.
    """
    # Not at the top: with it comes Ray, which would count as memory of the other parts' processes.
    from bench.clips import cut_all
    from bench.xvid_clips import make_clips
    from vidray.tables.shards import Clips
    from vidray.video.clips import ClipSettings

    with tempfile.TemporaryDirectory() as folder:
        source = bench.videos or str(make_clips(Path(folder) / "videos", bench.clips))
        settings = ClipSettings(frames_per_clip=bench.frames, size_px=bench.stored_px)
        print(f"cut in {cut_all(source, Path(folder) / 'clips', settings):.1f} s", flush=True)
        clips = Clips(str(Path(folder) / "clips"))
        training = Training(epochs=bench.runs + 1, batch_size=bench.batch_size)
        trial = _trial(bench, training)
        loader = _loader(trial, clips.read, len(clips))
        alone = _loader_alone(loader, bench.runs)
        rows = _fit(trial, loader)
    print(f"{bench.model}, {len(clips)} clips, {bench.batch_size} a step")
    for row in rows:
        share = row.seconds_waiting_for_data / row.seconds
        waited = f"{1000 * row.seconds_waiting_for_data / row.steps:.2f}"
        print(
            f"  epoch {row.epoch}: {row.seconds / row.steps:.3f} s a step, {waited} ms of it "
            f"({share:.2%}) waiting for data, {row.clips_per_second:.1f} clips/s"
        )
    counted = rows[1:]
    share = statistics.median(row.seconds_waiting_for_data / row.seconds for row in counted)
    speed = statistics.median(row.clips_per_second for row in counted)
    print(f"waiting for data: {share:.2%} of the time, median of epochs 2 to {len(rows)}")
    print(f"the loader alone gives {alone:.1f} clips/s, {alone / speed:.1f} times what is trained")


def _memory(bench: Bench) -> None:
    """Compare training without and with gradient checkpointing."""
    for model in bench.memory_models:
        frames, size_px, batch_size = _SIZES[model]
        plain = Training(epochs=2, batch_size=batch_size)
        trial = Trial(model=model, frames=frames, size_px=size_px, training=plain)
        checkpointed = replace(trial, training=replace(plain, checkpointing=True))
        _compare({model: trial, f"{model}, checkpointing": checkpointed}, bench)


def _speed(bench: Bench) -> None:
    """Compare number formats and memory layouts."""
    plain = Training(epochs=2, batch_size=bench.batch_size)
    ways = {
        "float32": plain,
        "float32, channels_last": replace(plain, channels_last=True),
        "bfloat16": replace(plain, precision="bfloat16"),
        "bfloat16, channels_last": replace(plain, precision="bfloat16", channels_last=True),
    }
    _compare({name: _trial(bench, training) for name, training in ways.items()}, bench)


_COLUMNS = ("s a step", "steps/s", "times", "peak, MiB", "activations", "of first")
_HEAD = " " * 28 + "".join(f"{column:>12}" for column in _COLUMNS)


def _compare(trials: dict[str, Trial], bench: Bench) -> None:
    """A line per trial; ratios are to the first one's: of steps/s, and of activations."""
    found: dict[str, list[Measured]] = {name: [] for name in trials}
    for number in range(bench.runs):
        for name, trial in trials.items():
            try:
                found[name].append(_in_fresh_process(trial, bench.steps))
                outcome = f"{found[name][-1].seconds_per_step:.3f} s a step"
            except UserError as error:  # No number any more: a result too, and no time to report.
                outcome = f"FAILED: {error}"
            print(f"  run {number + 1}, {name}: {outcome}", flush=True)
    print(_HEAD)
    first = next(iter(found.values()))
    for name, runs in found.items():
        if len(runs) < bench.runs:
            print(f"{name:28s}{bench.runs - len(runs)} of {bench.runs} runs failed")
            continue
        seconds = statistics.median(run.seconds_per_step for run in runs)
        times = statistics.median(
            a.seconds_per_step / b.seconds_per_step for a, b in zip(first, runs, strict=True)
        )
        peak = statistics.median(run.peak_bytes for run in runs) / 2**20
        activations, of_first = (
            statistics.median(run.activations_bytes for run in measured)
            for measured in (runs, first)
        )
        print(
            f"{name:28s}{seconds:12.3f}{1 / seconds:12.2f}{times:12.2f}{peak:12.0f}"
            f"{activations / 2**20:12.0f}{activations / of_first:12.2f}",
            flush=True,
        )


def _in_fresh_process(trial: Trial, steps: int) -> Measured:
    # A process's peak never falls again, and what one training has freed another may get.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measure, trial, steps).result()


def _measure(trial: Trial, steps: int) -> Measured:
    """Measure in a separate process: two epochs of ``steps`` steps, of which the second counts."""
    stored = np.random.default_rng(0).integers(
        0, 256, (2, trial.frames, trial.size_px, trial.size_px, 3), np.uint8
    )
    clips = steps * trial.training.batch_size
    loader = _loader(trial, lambda rows: stored[rows % 2], clips)
    network = _network(trial).to(_device())
    before = _bytes_in_use()
    rows = _fit(trial, loader, network)
    state = 3 * sum(p.numel() * p.element_size() for p in network.parameters())
    return Measured(rows[-1].seconds / rows[-1].steps, before, _peak_bytes(rows), state)


def _bytes_in_use() -> int:
    on_gpu = torch.cuda.is_available()
    return torch.cuda.memory_allocated() if on_gpu else (memory.resident_bytes() or 0)


def _peak_bytes(rows: Sequence[EpochRow]) -> int:
    # Not a row's, on a CPU: Linux's ru_maxrss begins with that of the process that started this.
    on_gpu = torch.cuda.is_available()
    return max(row.peak_memory_bytes for row in rows) if on_gpu else (memory.peak_bytes() or 0)


def _trial(bench: Bench, training: Training) -> Trial:
    return Trial(model=bench.model, frames=bench.frames, size_px=bench.size_px, training=training)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _network(trial: Trial) -> nn.Module:
    torch.manual_seed(0)
    built = models.build(
        trial.model, num_classes=_CLASSES, frames=trial.frames, size_px=trial.size_px
    )
    if trial.training.checkpointing:
        checkpoint_blocks(built.network, built.blocks)
    return built.network


def _loader(trial: Trial, read: Read, clips: int) -> TrainingLoader:
    """The loader as jobs/train.py makes it, with its augmentation."""
    mean, std = KINETICS
    return TrainingLoader(
        read=read,
        labels=np.arange(clips, dtype=np.int64) % _CLASSES,
        num_classes=_CLASSES,
        preprocessing=Preprocessing(
            num_frames=trial.frames,
            size_px=trial.size_px,
            mean=mean,
            std=std,
            flow=trial.model in FLOW_MODELS,
        ),
        augmentation=Augmentation(),
        batch_size=trial.training.batch_size,
        seed=0,
        threads=torch.get_num_threads(),
    )


def _loader_alone(loader: TrainingLoader, epochs: int) -> float:
    """Clips per second of a consumer that does nothing else, without the first epoch."""
    speeds = []
    for epoch in range(epochs + 1):
        began = time.perf_counter()
        clips = sum(len(batch.labels) for batch in loader.epoch(epoch))
        speeds.append(clips / (time.perf_counter() - began))
    return statistics.median(speeds[1:])


def _fit(trial: Trial, loader: TrainingLoader, network: nn.Module | None = None) -> list[EpochRow]:
    return loop.fit(
        _network(trial) if network is None else network,
        loader,
        training=trial.training,
        device=_device(),
        on_epoch=lambda _rows, _save: None,
    )


if __name__ == "__main__":
    main(tyro.cli(Bench))
