"""Parts of ``bench/gpu.py``: training steps, batches, and logits in each precision."""

from __future__ import annotations

import gc
import os
import statistics
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from bench.gpu_plan import Bench, size_of
from bench.gpu_results import Figures
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

# Those whose other ways of training are measured, too: one of each kind.
_CHECKPOINTED = ("r3d_18", "slowfast_r50", "mvit_v2_s", "timesformer_divided")
# The part ``train``: one network of convolutions, one transformer.
_TRAINED = ("r3d_18", "timesformer_divided")
_ON_CPU = ("resnet18_avg", "s3d")
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
Rows = Iterator[tuple[str, Figures]]


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
    Way("float32, channels last, checkpointing", channels_last=True, checkpointing=True),
    Way("bfloat16, checkpointing", "bfloat16", checkpointing=True),
    Way("bfloat16, channels last, checkpointing", "bfloat16", channels_last=True,
        checkpointing=True),
)  # fmt: skip
_CPU_WAYS = (Way("CPU, float32", device="cpu"), Way("CPU, bfloat16", "bfloat16", device="cpu"))


def attempt(measure: Callable[[], Figures]) -> Figures:
    """A row; one that says why, if it cannot be had: the others are measured all the same."""
    try:
        return measure()
    except Exception as error:  # noqa: BLE001  Out of memory, a kernel that is not there.
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    finally:
        tidy()


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


def train(bench: Bench, _: Path, known: set[str]) -> Rows:
    """Training steps of the two networks that stand for the others."""
    names = [name for name in bench.networks if name in _TRAINED or bench.tiny]
    yield from _speed(bench, names, known)


def networks(bench: Bench, _: Path, known: set[str]) -> Rows:
    """Training steps of the other networks."""
    names = [name for name in bench.networks if name not in _TRAINED]
    yield from _speed(bench, names, known)


def _speed(bench: Bench, names: list[str], known: set[str]) -> Rows:
    """Training steps in each way, network by network."""
    for name in names:
        frames, size_px, batch = size_of(bench, name)
        more = _MORE_WAYS if name in _CHECKPOINTED or bench.tiny else ()
        more = _MORE_WAYS if name in _CHECKPOINTED or bench.tiny else ()
        ways = [way for way in (*WAYS, *more) if _can(way)]
        sized = [(way, batch) for way in ways]
        if name in _ON_CPU and not bench.tiny:
            sized += [(way, min(batch, 8)) for way in _CPU_WAYS]
        trial = Trial(model=name, frames=frames, size_px=size_px)
        made: dict[int, list[Batch]] = {}
        for way, clips in sized:
            key = f"{name}, {way.name}"
            if key not in known:
                yield key, attempt(partial(_train, bench, trial, way, clips, made))


def _can(way: Way) -> bool:
    """Whether the device is there; without a GPU the ways of one are tried on the CPU."""
    return torch.cuda.is_available() or way.precision != "float16"


def _train(
    bench: Bench, trial: Trial, way: Way, batch: int, made: dict[int, list[Batch]]
) -> Figures:
    """One warming epoch, then ``runs`` that count."""
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
    rows = fit(trial, loader, device)
    peak = max(row.peak_memory_bytes for row in rows) if device.type == "cuda" else None
    row: Figures = {
        **head,
        "clips_per_second": statistics.median(row.clips_per_second for row in rows[1:]),
        "spread": _spread([row.clips_per_second for row in rows[1:]]),
        "peak_gpu_bytes": peak,
    }
    shown = "" if peak is None else f"{peak / 2**30:7.2f} GiB"
    print("  {network:20s} {way:40s}{batch:4d} clips {clips_per_second:9.1f} clips/s {0}  "
          "(spread {spread:.1%})".format(shown, **row), flush=True)  # fmt: skip
    return row


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


def fresh_model(bench: Bench, name: str, device: str) -> DeepModel:
    """A fresh model whose head gives no zeros and ones."""
    frames, size_px, _ = size_of(bench, name)
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
    frames, size_px, _ = size_of(bench, name)
    rng = np.random.default_rng(1)
    few = rng.integers(0, 256, (min(clips, 16), frames, size_px, size_px, 3), np.uint8)
    return np.concatenate([few] * -(-clips // len(few)))[:clips]


def batches(bench: Bench, _: Path, known: set[str]) -> Rows:
    """The predictor as a label job runs it, asked by as many threads as there are decoders."""
    names = [name for name in _LABELLING if name in bench.networks]
    for name in names:
        for precision in _LABEL_PRECISIONS:
            sizes = (1, 4) if bench.tiny else (1, 4, 16, 64)
            keys = {f"{name}, {precision}, {size}": size for size in sizes}
            if keys.keys() <= known:
                continue
            settings = _settings(LabelOptions(precision=precision))
            predictor = TorchPredictor(fresh_model(bench, name, device_here()), settings)
            for key, size in keys.items():
                if key not in known:
                    head: Figures = {"network": name, "precision": precision, "batch": size}
                    yield key, head | attempt(partial(_asked, bench, predictor, name, size))


def _settings(options: LabelOptions) -> LabelSettings:
    return LabelSettings(model="m", model_digest="d", options=options)


def _asked(bench: Bench, predictor: TorchPredictor, name: str, size: int) -> Figures:
    """Batches of ``size``: given by one caller, and gathered from many."""
    pixels = _noise(bench, name, max(32, 4 * size))
    predictor.batch_size = size
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    alone = median_speed(bench, len(pixels), lambda: predictor(pixels))
    asked = Batches(predictor, threads=2 if torch.cuda.is_available() else 1)
    parts = np.array_split(pixels, len(pixels))
    with ThreadPoolExecutor(max(os.cpu_count() or 1, 2 * size)) as pool:
        shared = median_speed(bench, len(pixels), lambda: list(pool.map(asked, parts)))
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    print(f"  {name:20s} {size:3d} clips a batch: {alone:9.1f} clips/s, {shared:9.1f} asked",
          flush=True)  # fmt: skip
    return {"clips_per_second": alone, "asked_per_second": shared, "peak_gpu_bytes": peak}


def median_speed(bench: Bench, clips: int, call: Callable[[], object]) -> float:
    """Clips a second of a call that works on ``clips`` of them; its first one warms up."""
    call()
    speeds = []
    for _ in range(bench.runs):
        began = time.perf_counter()
        call()  # Its answer is in this machine's memory: the GPU has finished.
        speeds.append(clips / (time.perf_counter() - began))
    return statistics.median(speeds)


def agree(bench: Bench, _: Path, known: set[str]) -> Rows:
    """Fresh networks of random weights, on clips of noise: the arithmetic, not the task."""
    for name in bench.networks:
        if name not in known:
            yield name, attempt(partial(_differences, bench, name))


def _differences(bench: Bench, name: str) -> Figures:
    """Largest difference of a logit from the CPU's, of the largest logit, in each arithmetic."""
    pixels = _noise(bench, name, 4 if bench.tiny else 8)
    model = fresh_model(bench, name, "cpu")
    reference = logits_of(model, pixels, "float32")
    model.network.to(device_here())
    row: Figures = {}
    for arithmetic, precision, tf32 in _ARITHMETIC:
        if precision == "float16" and not torch.cuda.is_available():
            continue
        torch.backends.cudnn.allow_tf32 = tf32
        try:
            found = logits_of(model, pixels, precision)
        finally:
            torch.backends.cudnn.allow_tf32 = True
        row[arithmetic] = float(np.abs(found - reference).max() / np.abs(reference).max())
    listed = ", ".join(f"{key} {value:.1e}" for key, value in row.items())
    print(f"  {name:20s} of the largest logit: {listed}", flush=True)
    return row


def logits_of(model: DeepModel, pixels: NDArray[np.uint8], precision: Precision) -> NDArray[Any]:
    """Logits ``(N, K)`` where the model is."""
    device = next(model.network.parameters()).device
    return inference.predict_logits(
        model.network, [pixels], preprocessing=model.preprocessing, device=device,
        precision=precision,
    )  # fmt: skip
