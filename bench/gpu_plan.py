"""What ``bench/gpu.py`` measures, part by part, the most important first. No PyTorch here."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

PartName = Literal[
    "label", "train", "tests", "compile", "tensorrt", "job-label", "exits", "again", "embed",
    "job-tests", "transfer", "agree", "batches", "wait", "jobs", "networks",
]  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One part of the measurements.

    Attributes:
        shows: what it measures, in a few words.
        seconds: how long it takes on an H100 with 16 CPUs, by estimate; with less than that left of
            the budget it is not begun.
        limit_seconds: after that it is ended. What it has measured by then is kept.
        needs: packages without which it is left out.
    """

    name: PartName
    shows: str
    seconds: float
    limit_seconds: float
    needs: tuple[str, ...] = ()


PARTS: tuple[Part, ...] = (
    Part("label", "decoding, a plain PyTorch loop, predictors in float32 and bfloat16", 130, 240),
    Part("train", "training steps: autocast, checkpointing, channels last", 90, 160),
    Part("tests", "the tests marked gpu that need no Ray", 50, 150),
    Part("compile", "predictors with --compile", 95, 170),
    Part("tensorrt", "predictors of models exported for TensorRT", 90, 200, ("tensorrt", "onnx")),
    Part("job-label", "jobs/label.py on Ray", 80, 170, ("ray",)),
    Part("exits", "predictors of a network with early exits", 50, 120),
    Part("again", "label's ways in two more rounds, for medians", 120, 300),
    Part("embed", "embeddings: bench/embed_gpu.py", 80, 200),
    Part("job-tests", "the tests marked gpu of the jobs, on Ray", 180, 400, ("ray",)),
    Part("transfer", "the test that weights of other directions help", 60, 300),
    Part("agree", "logits of each precision against the CPU's", 60, 240),
    Part("batches", "predictors by clips a batch", 90, 240),
    Part("wait", "training from clip shards, against batches held in memory", 120, 300),
    Part("jobs", "extract, clips, train, evaluate and label, on Ray", 200, 400, ("ray",)),
    Part("networks", "training steps of the other networks", 60, 400),
)

# Frames, width, clips of a training step: the size each network's authors give it, as many clips
# as a GPU of 16 GB holds in float32.
SIZES: dict[str, tuple[int, int, int]] = {
    "resnet18_avg": (16, 112, 32),
    "r3d_18": (16, 112, 32),
    "mc3_18": (16, 112, 32),
    "r2plus1d_18": (16, 112, 32),
    "s3d": (16, 224, 8),
    "c3d": (16, 112, 32),
    "i3d_r50": (16, 224, 8),
    "slowfast_r50": (32, 224, 8),
    "swin3d_t": (16, 224, 8),
    "mvit_v2_s": (16, 224, 8),
    "timesformer_divided": (8, 224, 8),
}


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measure a GPU."""

    out: Path = Path("runs/gpu")
    """Folder for gpu.json and gpu.md. Parts that are done there are not measured again."""
    parts: tuple[PartName, ...] = get_args(PartName)
    """What to measure; the order of importance is always the same."""
    budget_seconds: float = 480.0
    """Time for everything. Parts that do not fit are left out, the least important first."""
    began: float = 0.0
    """When the budget began, in seconds since 1970; if not given, now."""
    device: Literal["cuda", "cpu"] = "cuda"
    """Where networks compute; ``cpu`` is for trying this out."""
    clips: int = 1000
    """Videos to label, each of one clip."""
    decoders: int = len(os.sched_getaffinity(0))
    """Decoding processes, and workers of the plain loop."""
    network: str = "r3d_18"
    """Network that labels."""
    networks: tuple[str, ...] = tuple(SIZES)
    """Networks of ``train``, ``networks``, ``batches`` and ``agree``."""
    steps: int = 6
    """Training steps of one measurement."""
    runs: int = 3
    """Measurements of each training step and batch; medians are printed."""
    tiny: bool = False
    """Use a few small clips and one network, to see that it runs."""


# Settings that change no figure.
_FREE = ("out", "parts", "budget_seconds", "began")


def settings_of(bench: Bench) -> dict[str, object]:
    """The settings that decide what is measured, as JSON holds them."""
    values = {name: value for name, value in vars(bench).items() if name not in _FREE}
    return {n: list(v) if isinstance(v, tuple) else v for n, v in values.items()}


def size_of(bench: Bench, name: str) -> tuple[int, int, int]:
    """Frames, width in pixels, and clips of a training step."""
    frames, size_px, batch = SIZES[name]
    return (4, 32, 2) if bench.tiny else (frames, size_px, batch)


def chosen_parts(bench: Bench) -> Iterator[Part]:
    """Those asked for, the most important first; of a try-out they are short."""
    for part in PARTS:
        if part.name in bench.parts:
            yield Part(part.name, part.shows, 2, 200, part.needs) if bench.tiny else part


def lacking(part: Part, has: Callable[[str], bool]) -> str | None:
    """Why a part cannot run here; None if it can."""
    gone = [name for name in part.needs if not has(name)]
    return f"{' and '.join(gone)} cannot be imported" if gone else None


def is_installed(package: str) -> bool:
    """Whether a package can be found; it is not imported."""
    return importlib.util.find_spec(package) is not None


def that_fit(parts: list[Part], seconds: float) -> list[Part]:
    """The parts that fit into so many seconds: each one, unless the more important leave too
    little.
    """
    fitting = []
    for part in parts:
        if part.seconds <= seconds:
            fitting.append(part)
            seconds -= part.seconds
    return fitting
