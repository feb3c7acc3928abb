"""Parts of ``bench/gpu.py``: training steps, labelling, and logits in each precision."""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from bench.training import Trial, _loader, _network
from vidray import models
from vidray.labelling.predictor import Batches
from vidray.labelling.settings import LabelOptions, LabelSettings
from vidray.labelling.torch_predictor import TorchPredictor
from vidray.learning import loop
from vidray.learning.epochs import EpochRow
from vidray.learning.hyperparameters import Training
from vidray.learning.loader import Batch, TrainingLoader
from vidray.models import DeepModel, inference
from vidray.models.inference import Read
from vidray.models.names import Precision
from vidray.models.preprocess import KINETICS, Preprocessing
from vidray.video.clips import ClipSettings

Part = Literal["speed", "label", "agree", "wait", "jobs"]
Figures = dict[str, Any]

PARTS: tuple[Part, ...] = ("speed", "label", "agree", "wait", "jobs")

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
# Those whose other ways of training are measured, too: one of each kind.
_CHECKPOINTED = ("r3d_18", "slowfast_r50", "mvit_v2_s", "timesformer_divided")
_ON_CPU = ("resnet18_avg", "r3d_18", "s3d")
_LABELLING = ("resnet18_avg", "r3d_18", "slowfast_r50", "timesformer_divided")
_LABEL_PRECISIONS: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
# Its name, the precision, and whether convolutions round to TF32, as PyTorch lets them.
_ARITHMETIC: tuple[tuple[str, Precision, bool], ...] = (
    ("float32, no TF32", "float32", False),
    ("float32", "float32", True),
    ("bfloat16", "bfloat16", True),
    ("float16", "float16", True),
)
CLASSES = 4


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measure a GPU."""

    out: Path = Path("runs/gpu")
    """Folder for gpu.json."""
    parts: tuple[Part, ...] = PARTS
    """What to measure, in this order."""
    networks: tuple[str, ...] = tuple(SIZES)
    """Networks of ``speed``, ``label`` and ``agree``."""
    steps: int = 6
    """Training steps of one measurement."""
    runs: int = 3
    """Measurements of each; medians are printed."""
    tiny: bool = False
    """Use a few small clips and one network, to see that it runs."""


@dataclass(frozen=True)
class Way:
    """One way to train."""

    name: str
    precision: Precision = "float32"
    channels_last: bool = False
    checkpointing: bool = False
    device: str = "cuda"


WAYS = (
    Way("float32"),
    Way("float32, channels last", channels_last=True),
    Way("bfloat16", "bfloat16"),
    Way("bfloat16, channels last", "bfloat16", channels_last=True),
    Way("float16", "float16"),
)
_MORE_WAYS = (
    Way("float32, checkpointing", checkpointing=True),
    Way("bfloat16, checkpointing", "bfloat16", checkpointing=True),
)
_CPU_WAYS = (Way("CPU, float32", device="cpu"), Way("CPU, bfloat16", "bfloat16", device="cpu"))


def _size(bench: Bench, name: str) -> tuple[int, int, int]:
    frames, size_px, batch = SIZES[name]
    return (4, 32, 2) if bench.tiny else (frames, size_px, batch)


class Ready(TrainingLoader):
    """Batches made once, and given again in every epoch: the network alone is timed."""

    made: list[Batch] | None = None

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The same batches whatever the epoch."""
        if self.made is None:
            self.made = list(super().epoch(epoch))
        self.seconds_waiting = 0.0
        return iter(self.made)


class Pinned(Ready):
    """The same in memory that the GPU reads by itself."""

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The same batches whatever the epoch."""
        if self.made is None and torch.cuda.is_available():
            self.made = [
                batch._replace(clips=batch.clips.pin_memory())
                for batch in TrainingLoader.epoch(self, epoch)
            ]
        return super().epoch(epoch)


def speed(bench: Bench, _: Path) -> Iterator[list[Figures]]:
    """Training steps in each way; the rows so far after each network."""
    rows = []
    for name in bench.networks:
        frames, size_px, batch = _size(bench, name)
        ways = [*WAYS, *(_MORE_WAYS if name in _CHECKPOINTED else ())]
        trial = Trial(model=name, frames=frames, size_px=size_px)
        made: dict[int, list[Batch]] = {}
        found = [_train(bench, trial, way, batch, made) for way in ways if _can(way)]
        if name in _ON_CPU:
            found += [_train(bench, trial, way, min(batch, 8), made) for way in _CPU_WAYS]
        for row in found:
            base = next(other for other in found if "clips_per_second" in other)
            if "clips_per_second" in row:
                row["times_float32"] = row["clips_per_second"] / base["clips_per_second"]
            rows.append(row)
            _print_speed(row)
        yield rows


def _can(way: Way) -> bool:
    """Whether the device is there; without a GPU the ways of one are tried on the CPU."""
    return torch.cuda.is_available() or way.precision != "float16"


def _train(
    bench: Bench, trial: Trial, way: Way, batch: int, made: dict[int, list[Batch]]
) -> Figures:
    """One warming epoch, then ``runs`` that count; a loss that is no number is a result, too."""
    device = torch.device(way.device if torch.cuda.is_available() else "cpu")
    training = Training(
        epochs=bench.runs + 1,
        batch_size=batch,
        precision=way.precision,
        channels_last=way.channels_last,
        checkpointing=way.checkpointing,
        learning_rate=1e-4,
    )
    trial = replace(trial, training=training)
    head = {"network": trial.model, "way": way.name, "frames": trial.frames,
            "size_px": trial.size_px, "batch": batch}  # fmt: skip
    # The CPU is slow enough for one step to be timed.
    clips = batch * (1 if device.type == "cpu" else bench.steps)
    stored = np.random.default_rng(0).integers(
        0, 256, (2, trial.frames, trial.size_px, trial.size_px, 3), np.uint8
    )
    loader = loader_of(trial, lambda which: stored[which % 2], clips, Ready)
    if clips not in made:
        made[clips] = list(TrainingLoader.epoch(loader, 0))
    loader.made = made[clips]
    try:
        rows = fit(trial, loader, device)
    except Exception as error:  # noqa: BLE001  The other ways are measured all the same.
        return {**head, "error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    finally:
        tidy()
    peak = max(row.peak_memory_bytes for row in rows) if device.type == "cuda" else None
    return {
        **head,
        "clips_per_second": statistics.median(row.clips_per_second for row in rows[1:]),
        "spread": _spread([row.clips_per_second for row in rows[1:]]),
        "peak_bytes": peak,
    }


L = TypeVar("L", bound=TrainingLoader)


def loader_of(trial: Trial, read: Read, clips: int, kind: type[L]) -> L:
    """As ``bench/training.py`` makes its own, of another class."""
    plain = _loader(trial, read, clips)
    return kind(**{f.name: getattr(plain, f.name) for f in fields(plain) if f.init})


def fit(trial: Trial, loader: TrainingLoader, device: torch.device) -> list[EpochRow]:
    """A row per epoch of a network that starts fresh."""
    return loop.fit(
        _network(trial),
        loader,
        training=trial.training,
        device=device,
        on_epoch=lambda _rows, _save: None,
    )


def _spread(values: list[float]) -> float:
    """Largest less smallest, of the median."""
    return (max(values) - min(values)) / statistics.median(values)


def tidy() -> None:
    """Give back the GPU memory that nothing uses, so that no peak is another one's."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _print_speed(row: Figures) -> None:
    line = f"  {row['network']:20s} {row['way']:26s}"
    if "error" in row:
        print(f"{line} {row['error']}", flush=True)
        return
    peak = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**30:7.2f} GiB"
    print(
        f"{line}{row['batch']:4d} clips {row['clips_per_second']:9.1f} clips/s "
        f"{row['times_float32']:6.2f} x {peak}  (spread {row['spread']:.1%})",
        flush=True,
    )


def fresh_model(bench: Bench, name: str, device: str) -> DeepModel:
    """A fresh model whose head gives no zeros and ones."""
    frames, size_px, _ = _size(bench, name)
    torch.manual_seed(0)
    built = models.build(name, num_classes=CLASSES, frames=frames, size_px=size_px)
    mean, std = KINETICS
    return DeepModel(
        name=name,
        class_names=tuple("abcd"),
        network=built.network.to(device).eval(),
        preprocessing=Preprocessing(num_frames=frames, size_px=size_px, mean=mean, std=std),
        clip=ClipSettings(frames_per_clip=frames, size_px=size_px),
        info={},
        head=built.head,
    )


def device_here() -> str:
    """The GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _noise(bench: Bench, name: str, clips: int) -> NDArray[np.uint8]:
    frames, size_px, _ = _size(bench, name)
    rng = np.random.default_rng(1)
    few = rng.integers(0, 256, (min(clips, 16), frames, size_px, size_px, 3), np.uint8)
    return np.concatenate([few] * -(-clips // len(few)))[:clips]


def label(bench: Bench, _: Path) -> Iterator[list[Figures]]:
    """The predictor as a label job runs it, asked by as many threads as there are decoders."""
    rows = []
    for name in [name for name in _LABELLING if name in bench.networks]:
        for precision in _LABEL_PRECISIONS:
            settings = _settings(LabelOptions(precision=precision))
            predictor = TorchPredictor(fresh_model(bench, name, device_here()), settings)
            for size in (1, 4) if bench.tiny else (1, 4, 16, 64):
                row: Figures = {"network": name, "precision": precision, "batch": size}
                row |= _asked(bench, predictor, _noise(bench, name, max(32, 4 * size)), size)
                rows.append(row)
                print(
                    "  {network:20s} {precision:9s} {batch:3d} clips a batch: "
                    "{clips_per_second:9.1f} clips/s, {asked_per_second:9.1f} asked by threads, "
                    "{peak_gib:6.2f} GiB".format(**row),
                    flush=True,
                )
        rows += _compiled(bench, name)
        yield rows


def _settings(options: LabelOptions) -> LabelSettings:
    return LabelSettings(model="m", model_digest="d", options=options)


def _asked(
    bench: Bench, predictor: TorchPredictor, pixels: NDArray[np.uint8], size: int
) -> Figures:
    """Batches of ``size``: given by one caller, and gathered from many."""
    predictor.batch_size = size
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    alone = median_speed(bench, len(pixels), lambda: predictor(pixels))
    asked = Batches(predictor, threads=2 if torch.cuda.is_available() else 1)
    parts = np.array_split(pixels, len(pixels))
    with ThreadPoolExecutor(max(os.cpu_count() or 1, 2 * size)) as pool:
        shared = median_speed(bench, len(pixels), lambda: list(pool.map(asked, parts)))
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return {"clips_per_second": alone, "asked_per_second": shared, "peak_gib": peak / 2**30}


def _compiled(bench: Bench, name: str) -> list[Figures]:
    """``--compile`` of the label job, of one network: it takes a minute."""
    if name != "r3d_18" or bench.tiny:
        return []
    settings = _settings(LabelOptions(precision="bfloat16", compile=True))
    began = time.monotonic()
    try:
        predictor = TorchPredictor(fresh_model(bench, name, device_here()), settings)
    except Exception as error:  # noqa: BLE001  A result: the others are measured all the same.
        print(f"  {name} cannot be compiled: {error}", flush=True)
        return [{"network": name, "compile": True, "error": " ".join(str(error).split())[:300]}]
    seconds = time.monotonic() - began
    pixels = _noise(bench, name, 4 * predictor.batch_size)
    speed = median_speed(bench, len(pixels), lambda: predictor(pixels))
    print(f"  {name:20s} bfloat16, compiled in {seconds:.0f} s: {speed:.1f} clips/s", flush=True)
    return [{"network": name, "compile": True, "clips_per_second": speed, "seconds": seconds}]


def median_speed(bench: Bench, clips: int, call: Callable[[], object]) -> float:
    """Clips a second of a call that works on ``clips`` of them; its first one warms up."""
    call()
    speeds = []
    for _ in range(bench.runs):
        began = time.perf_counter()
        call()  # Its answer is in this machine's memory: the GPU has finished.
        speeds.append(clips / (time.perf_counter() - began))
    return statistics.median(speeds)


def agree(bench: Bench, _: Path) -> Iterator[list[Figures]]:
    """Fresh networks of random weights, on clips of noise: the arithmetic, not the task."""
    rows = []
    for name in bench.networks:
        pixels = _noise(bench, name, 4 if bench.tiny else 8)
        model = fresh_model(bench, name, "cpu")
        reference = logits_of(model, pixels, "float32")
        model.network.to(device_here())
        row: Figures = {"network": name}
        for precision_name, precision, tf32 in _ARITHMETIC:
            if precision == "float16" and not torch.cuda.is_available():
                continue
            torch.backends.cudnn.allow_tf32 = tf32
            found = logits_of(model, pixels, precision)
            torch.backends.cudnn.allow_tf32 = True
            row[precision_name] = float(np.abs(found - reference).max() / np.abs(reference).max())
        rows.append(row)
        listed = ", ".join(f"{key} {value:.1e}" for key, value in row.items() if key != "network")
        print(f"  {name:20s} of the largest logit: {listed}", flush=True)
        tidy()
        yield rows


def logits_of(model: DeepModel, pixels: NDArray[np.uint8], precision: Precision) -> NDArray[Any]:
    """Logits ``(N, K)`` where the model is."""
    device = next(model.network.parameters()).device
    return inference.predict_logits(
        model.network, [pixels], preprocessing=model.preprocessing, device=device,
        precision=precision,
    )  # fmt: skip
