"""What a GPU does for vidray: training, memory, labelling, agreement, waiting, and the jobs.

    bench/gpu.sh                                          # this file, and the tests that need a GPU
    python bench/gpu.py --parts speed --networks r3d_18   # one part of one network
    python bench/gpu.py --tiny                            # a try-out in a minute, on a CPU too

speed     training steps: precisions and layouts, gradient checkpointing, peak memory, and the CPU
label     clips a second of the label job's predictor: precisions and sizes of a batch
agree     largest difference of a logit, GPU against CPU, and labels that change with the precision
wait      training from clip shards on disk, against the same batches held in memory
jobs      extract, clips, train, evaluate and label from end to end, on Ray

All that is compared is measured in one run, in turn; printed are medians. Figures go to
``OUT/gpu.json`` after each part, so that a run that is ended early leaves those it has.
"""

from __future__ import annotations

import gc
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.training import Trial, _loader, _network
from vidray import loop, models
from vidray.clips import ClipSettings
from vidray.labelling import LabelSettings
from vidray.loader import Batch, Read, TrainingLoader
from vidray.loop import EpochRow, Precision, Training
from vidray.models import DeepModel
from vidray.predictor import Batches, Predictor
from vidray.preprocess import KINETICS, Preprocessing

Part = Literal["speed", "label", "agree", "wait", "jobs"]
Figures = dict[str, Any]

ROOT = Path(__file__).resolve().parents[1]
PARTS: tuple[Part, ...] = ("speed", "label", "agree", "wait", "jobs")

# Frames, width, clips of a training step: the size each network's authors give it, as many clips
# as a GPU of 16 GB holds in float32.
_SIZES: dict[str, tuple[int, int, int]] = {
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
_CLASSES = 4


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measure a GPU."""

    out: Path = Path("runs/gpu")
    """Where gpu.json goes."""
    parts: tuple[Part, ...] = PARTS
    """What to measure, in this order."""
    networks: tuple[str, ...] = tuple(_SIZES)
    """Networks of ``speed``, ``label`` and ``agree``."""
    steps: int = 6
    """Training steps of one measurement."""
    runs: int = 3
    """Measurements of each; medians are printed."""
    tiny: bool = False
    """Small clips, few of them, one network: to see that it runs."""


@dataclass(frozen=True)
class Way:
    """One way to train."""

    name: str
    precision: Precision = "float32"
    channels_last: bool = False
    checkpointing: bool = False
    device: str = "cuda"


_WAYS = (
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


def main(bench: Bench) -> None:
    """Measure the parts asked for, one after the other."""
    if bench.tiny:
        bench = replace(bench, networks=bench.networks[:1], steps=2, runs=1)
    bench.out.mkdir(parents=True, exist_ok=True)
    file = bench.out / "gpu.json"
    figures: Figures = json.loads(file.read_text()) if file.exists() else {}
    figures["machine"] = _machine()
    print("  ".join(f"{name}: {value}" for name, value in figures["machine"].items()), flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in bench.parts:
            began = time.monotonic()
            print(f"\n{part}", flush=True)
            try:
                figures[part] = _MEASURES[part](bench, folder)
            except Exception:  # noqa: BLE001  The other parts are measured all the same.
                traceback.print_exc()
                figures[part] = None
            figures[part + "_seconds"] = round(time.monotonic() - began, 1)
            print(f"({part} took {figures[part + '_seconds']} s)", flush=True)
            file.write_text(json.dumps(figures, indent=1) + "\n")
    print()
    _summary(figures)


def _machine() -> Figures:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "GPU": gpu,
        "CPU threads": torch.get_num_threads(),
        "Python": sys.version.split()[0],
        "PyTorch": torch.__version__,
        "cuDNN": torch.backends.cudnn.version(),
        "driver": _driver(),
    }


def _driver() -> str:
    if not shutil.which("nvidia-smi"):
        return "none"
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()


def _size(bench: Bench, name: str) -> tuple[int, int, int]:
    frames, size_px, batch = _SIZES[name]
    return (4, 32, 2) if bench.tiny else (frames, size_px, batch)


# --- speed ---------------------------------------------------------------------------------------


class _Ready(TrainingLoader):
    """Batches made once, and given again in every epoch: what is timed is the network alone."""

    made: list[Batch] | None = None

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The same batches whatever the epoch."""
        if self.made is None:
            self.made = list(super().epoch(epoch))
        self.seconds_waiting = 0.0
        return iter(self.made)


class _Pinned(_Ready):
    """The same in memory that the GPU reads by itself."""

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The same batches whatever the epoch."""
        if self.made is None and torch.cuda.is_available():
            self.made = [
                batch._replace(clips=batch.clips.pin_memory())
                for batch in TrainingLoader.epoch(self, epoch)
            ]
        return super().epoch(epoch)


def _speed(bench: Bench, _: Path) -> list[Figures]:
    rows = []
    for name in bench.networks:
        frames, size_px, batch = _size(bench, name)
        ways = [*_WAYS, *(_MORE_WAYS if name in _CHECKPOINTED else ())]
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
    return rows


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
    loader = _loader_of(trial, lambda which: stored[which % 2], clips, _Ready)
    if clips not in made:
        made[clips] = list(TrainingLoader.epoch(loader, 0))
    loader.made = made[clips]
    try:
        rows = _fit(trial, loader, device)
    except Exception as error:  # noqa: BLE001  The other ways are measured all the same.
        return {**head, "error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    finally:
        _tidy()
    peak = max(row.peak_memory_bytes for row in rows) if device.type == "cuda" else None
    return {
        **head,
        "clips_per_second": statistics.median(row.clips_per_second for row in rows[1:]),
        "spread": _spread([row.clips_per_second for row in rows[1:]]),
        "peak_bytes": peak,
    }


L = TypeVar("L", bound=TrainingLoader)


def _loader_of(trial: Trial, read: Read, clips: int, kind: type[L]) -> L:
    plain = _loader(trial, read, clips)
    return kind(**{f.name: getattr(plain, f.name) for f in fields(plain) if f.init})


def _fit(trial: Trial, loader: TrainingLoader, device: torch.device) -> list[EpochRow]:
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


def _tidy() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _print_speed(row: Figures) -> None:
    told = f"  {row['network']:20s} {row['way']:26s}"
    if "error" in row:
        print(f"{told} {row['error']}", flush=True)
        return
    peak = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**30:7.2f} GiB"
    print(
        f"{told}{row['batch']:4d} clips {row['clips_per_second']:9.1f} clips/s "
        f"{row['times_float32']:6.2f} x {peak}  (spread {row['spread']:.1%})",
        flush=True,
    )


# --- label ---------------------------------------------------------------------------------------


def _model(bench: Bench, name: str, device: str) -> DeepModel:
    """Fresh, with a head that gives no zeros and ones."""
    frames, size_px, _ = _size(bench, name)
    torch.manual_seed(0)
    built = models.build(name, num_classes=_CLASSES, frames=frames, size_px=size_px)
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


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _noise(bench: Bench, name: str, clips: int) -> NDArray[np.uint8]:
    frames, size_px, _ = _size(bench, name)
    rng = np.random.default_rng(1)
    few = rng.integers(0, 256, (min(clips, 16), frames, size_px, size_px, 3), np.uint8)
    return np.concatenate([few] * -(-clips // len(few)))[:clips]


def _label(bench: Bench, _: Path) -> list[Figures]:
    """The predictor as a label job runs it, asked by as many threads as there are decoders."""
    rows = []
    for name in [name for name in _LABELLING if name in bench.networks]:
        for precision in _LABEL_PRECISIONS:
            settings = LabelSettings(model="m", model_digest="d", precision=precision)
            predictor = Predictor(_model(bench, name, _device()), settings)
            for size in (1, 4) if bench.tiny else (1, 4, 16, 64):
                row = {"network": name, "precision": precision, "batch": size}
                row |= _asked(bench, predictor, _noise(bench, name, max(32, 4 * size)), size)
                rows.append(row)
                print(
                    "  {network:20s} {precision:9s} {batch:3d} clips a batch: "
                    "{clips_per_second:9.1f} clips/s, {asked_per_second:9.1f} asked by threads, "
                    "{peak_gib:6.2f} GiB".format(**row),
                    flush=True,
                )
        rows += _compiled(bench, name)
    return rows


def _asked(bench: Bench, predictor: Predictor, pixels: NDArray[np.uint8], size: int) -> Figures:
    """Batches of ``size``: given by one caller, and gathered from many."""
    predictor.batch_size = size
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    alone = _median_speed(bench, len(pixels), lambda: predictor(pixels))
    asked = Batches(predictor, threads=2 if torch.cuda.is_available() else 1)
    parts = np.array_split(pixels, len(pixels))
    with ThreadPoolExecutor(max(os.cpu_count() or 1, 2 * size)) as pool:
        shared = _median_speed(bench, len(pixels), lambda: list(pool.map(asked, parts)))
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return {"clips_per_second": alone, "asked_per_second": shared, "peak_gib": peak / 2**30}


def _compiled(bench: Bench, name: str) -> list[Figures]:
    """``--compile`` of the label job, of one network: it takes a minute."""
    if name != "r3d_18" or bench.tiny:
        return []
    settings = LabelSettings(model="m", model_digest="d", precision="bfloat16", compile=True)
    began = time.monotonic()
    try:
        predictor = Predictor(_model(bench, name, _device()), settings)
    except Exception as error:  # noqa: BLE001  A result: the others are measured all the same.
        print(f"  {name} cannot be compiled: {error}", flush=True)
        return [{"network": name, "compile": True, "error": " ".join(str(error).split())[:300]}]
    seconds = time.monotonic() - began
    pixels = _noise(bench, name, 4 * predictor.batch_size)
    speed = _median_speed(bench, len(pixels), lambda: predictor(pixels))
    print(f"  {name:20s} bfloat16, compiled in {seconds:.0f} s: {speed:.1f} clips/s", flush=True)
    return [{"network": name, "compile": True, "clips_per_second": speed, "seconds": seconds}]


def _median_speed(bench: Bench, clips: int, call: Callable[[], object]) -> float:
    call()
    speeds = []
    for _ in range(bench.runs):
        began = time.perf_counter()
        call()  # Its answer is in this machine's memory: the GPU has finished.
        speeds.append(clips / (time.perf_counter() - began))
    return statistics.median(speeds)


# --- agree ---------------------------------------------------------------------------------------


def _agree(bench: Bench, _: Path) -> list[Figures]:
    """Fresh networks of random weights, on clips of noise: the arithmetic, not the task."""
    rows = []
    for name in bench.networks:
        pixels = _noise(bench, name, 4 if bench.tiny else 8)
        model = _model(bench, name, "cpu")
        reference = _logits(model, pixels, "float32")
        model.network.to(_device())
        row: Figures = {"network": name}
        for told, precision, tf32 in (
            ("float32, no TF32", "float32", False), ("float32", "float32", True),
            ("bfloat16", "bfloat16", True), ("float16", "float16", True),
        ):  # fmt: skip
            if precision == "float16" and not torch.cuda.is_available():
                continue
            torch.backends.cudnn.allow_tf32 = tf32
            found = _logits(model, pixels, precision)  # type: ignore[arg-type]
            torch.backends.cudnn.allow_tf32 = True
            row[told] = float(np.abs(found - reference).max() / np.abs(reference).max())
        rows.append(row)
        told = ", ".join(f"{key} {value:.1e}" for key, value in row.items() if key != "network")
        print(f"  {name:20s} of the largest logit: {told}", flush=True)
        _tidy()
    return rows


def _logits(model: DeepModel, pixels: NDArray[np.uint8], precision: Precision) -> NDArray[Any]:
    device = next(model.network.parameters()).device
    return loop.predict_logits(
        model.network, [pixels], preprocessing=model.preprocessing, device=device,
        precision=precision,
    )  # fmt: skip


# --- wait ----------------------------------------------------------------------------------------


def _videos(folder: Path, *, copies: int) -> Path:
    """Synthetic videos: 24 of each copy, every copy of other recordings."""
    videos = folder / "videos"
    if videos.exists():
        return videos
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        list(pool.map(_make_copy, [(str(folder / "made"), number) for number in range(copies)]))
    for number in range(copies):
        for file in sorted((folder / "made" / str(number)).rglob("*.*")):
            # v_spin_g03_c01.avi of copy 2 is of recording 15.
            name = re.sub(r"_g(\d+)_", lambda g: f"_g{int(g[1]) + 6 * number:03d}_", file.name)
            target = videos / file.parent.name / name
            target.parent.mkdir(parents=True, exist_ok=True)
            file.rename(target)
    return videos


def _make_copy(given: tuple[str, int]) -> None:
    from vidray import synthetic

    folder, number = given
    synthetic.make_clips(Path(folder) / str(number), seed=number)


def _cut(videos: Path, out: Path, settings: ClipSettings) -> None:
    """What jobs/clips.py does, in a pool of processes instead of on Ray."""
    import pyarrow as pa

    from vidray import sources
    from vidray.runs import Run

    listed = sources.list_videos(str(videos), splits=(0.6, 0.2, 0.2))
    run = Run(out=str(out), table="clips", videos=str(videos), digest=settings.digest)
    config = {"clip": asdict(settings)}
    run.videos_to_do(config, lambda: listed)
    rows = listed.to_pylist()
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        batches = list(pool.map(_cut_one, rows, [settings] * len(rows), chunksize=4))
    parts: dict[int, list[Any]] = {}
    for part, batch in zip(run.part_numbers(listed).to_pylist(), batches, strict=True):
        parts.setdefault(part, []).append(batch)
    for part, some in parts.items():
        run.write_part(part, pa.Table.from_batches(some))
    run.publish(config, {"counts": run.check(listed)})


def _cut_one(video: dict[str, Any], settings: ClipSettings) -> Any:
    from vidray.clips import cut_video

    return cut_video(video, settings)


def _wait(bench: Bench, folder: Path) -> Figures:
    from vidray.shards import Clips
    from vidray.training import labelled_rows

    began = time.monotonic()
    videos = _videos(folder, copies=1 if bench.tiny else 16)
    made = time.monotonic()
    _cut(videos, folder / "clips", ClipSettings(frames_per_clip=16, size_px=128))
    clips = Clips(str(folder / "clips"))
    print(f"  {clips!r}: made in {made - began:.0f} s, cut in {time.monotonic() - made:.0f} s")
    names = tuple(sorted(set(clips.table["label"].to_pylist())))
    train, _ = labelled_rows(clips, "train", names)
    figures: Figures = {"clips": len(clips), "loader": [], "training": []}
    for threads in sorted({1, 4, torch.get_num_threads()}):
        row = _loader_alone(bench, clips, train, threads)
        figures["loader"].append(row)
    for name, ways in {
        "resnet18_avg": _WAYS[2:3], "r3d_18": (_WAYS[0], _WAYS[3]), "two_stream_late": _WAYS[2:3],
    }.items():  # fmt: skip
        for way in ways:
            figures["training"].append(_waiting(bench, clips, train, name, way))
    figures["learned"] = _learned(bench, clips, names)
    return figures


def _trial_of_clips(bench: Bench, name: str, way: Way, epochs: int) -> Trial:
    training = Training(
        epochs=epochs, batch_size=4 if bench.tiny else 32, precision=way.precision,
        channels_last=way.channels_last, learning_rate=1e-3,
    )  # fmt: skip
    frames, size_px = (4, 32) if bench.tiny else (16, 112)
    return Trial(model=name, frames=frames, size_px=size_px, training=training)


def _repeated(clips: Any, rows: NDArray[np.int64]) -> Read:
    return lambda wanted: clips.read(rows[wanted % len(rows)])  # type: ignore[no-any-return]


def _loader_alone(bench: Bench, clips: Any, rows: NDArray[np.int64], threads: int) -> Figures:
    loader = _loader(_trial_of_clips(bench, "r3d_18", _WAYS[0], 1), _repeated(clips, rows),
                     16 if bench.tiny else 512)  # fmt: skip
    loader.threads = threads
    speed = _median_speed(bench, len(loader.labels), lambda: sum(1 for _ in loader.epoch(0)))
    print(f"  the loader alone, {threads} threads: {speed:.0f} clips/s", flush=True)
    return {"threads": threads, "clips_per_second": speed}


def _waiting(bench: Bench, clips: Any, rows: NDArray[np.int64], name: str, way: Way) -> Figures:
    """The real loader against batches that lie ready: what more it takes, the GPU has waited."""
    trial = _trial_of_clips(bench, name, way, bench.runs + 1)
    device = torch.device(_device())
    number = 8 if bench.tiny else 32 * 12
    found = {}
    for told, kind in (("pinned", _Pinned), ("ready", _Ready), ("loader", TrainingLoader)):
        loader = _loader_of(trial, _repeated(clips, rows), number, kind)
        epochs = _fit(trial, loader, device)[1:]
        found[told] = statistics.median(row.seconds for row in epochs)
        waited = statistics.median(row.seconds_waiting_for_data / row.seconds for row in epochs)
        _tidy()
    row = {
        "network": name, "way": way.name, "batch": trial.training.batch_size,
        "clips_per_second": number / found["loader"],
        "clips_per_second_ready": number / found["ready"],
        "clips_per_second_pinned": number / found["pinned"],
        "share_waited": max(0.0, 1 - found["ready"] / found["loader"]), "share_reported": waited,
    }  # fmt: skip
    print("  {network:20s} {way:26s} {clips_per_second:8.1f} clips/s, from memory "
          "{clips_per_second_ready:8.1f} ({clips_per_second_pinned:.1f} pinned): "
          "{share_waited:.1%} waited "
          "(history.json says {share_reported:.1%})".format(**row), flush=True)  # fmt: skip
    return row


def _learned(bench: Bench, clips: Any, names: tuple[str, ...]) -> Figures:
    """A network that has learned something, trained and judged in each precision."""
    from vidray.training import labelled_rows

    train, labels = labelled_rows(clips, "train", names)
    test, truth = labelled_rows(clips, "test", names)
    trial = _trial_of_clips(bench, "r3d_18", _WAYS[0], 1 if bench.tiny else 12)
    plain = _loader(trial, _repeated(clips, train), len(train))
    loader = replace(plain, labels=labels, num_classes=_CLASSES)
    torch.manual_seed(0)
    network = models.build_model("r3d_18", num_classes=_CLASSES)
    loop.fit(network, loader, training=trial.training, device=torch.device(_device()),
             on_epoch=lambda _rows, _save: None)  # fmt: skip
    model = replace(_model(bench, "r3d_18", "cpu"), network=network.eval(),
                    preprocessing=loader.preprocessing)  # fmt: skip
    pixels = clips.read(test)
    logits = {"float32": _logits(model, pixels, "float32")}
    logits["bfloat16"] = _logits(model, pixels, "bfloat16")
    if torch.cuda.is_available():
        logits["float16"] = _logits(model, pixels, "float16")
    model.network.to("cpu")
    reference = _logits(model, pixels, "float32")
    figures: Figures = {"clips": len(test)}
    for told, found in {**logits, "CPU": reference}.items():
        figures[told] = {
            "accuracy": float((found.argmax(1) == truth).mean()),
            "same_labels": float((found.argmax(1) == reference.argmax(1)).mean()),
            "largest_difference": float(np.abs(found - reference).max()),
            "largest_logit": float(np.abs(reference).max()),
        }
        print("  trained r3d_18 in {0}: accuracy {accuracy:.3f}, {same_labels:.1%} of {1} labels "
              "as the CPU's, logits differ by {largest_difference:.1e} of {largest_logit:.1f}"
              .format(told, len(test), **figures[told]), flush=True)  # fmt: skip
    return figures


# --- jobs ----------------------------------------------------------------------------------------


def _jobs(bench: Bench, folder: Path) -> Figures:
    """From videos to labels by the commands, each in a process of its own."""
    try:
        import ray
    except ImportError:
        print("  Ray is not installed: left out")
        return {}
    del ray
    videos = _videos(folder, copies=1 if bench.tiny else 16)
    runs = folder / "jobs"
    size = ("--frames-per-clip", "4", "--size-px", "32") if bench.tiny else ("--size-px", "128")
    shape: tuple[str, ...] = ("--epochs", "1", "--batch-size", "4")
    if not bench.tiny:
        shape = ("--epochs", "10", "--batch-size", "32", "--crop-px", "112",
                 "--precision", "bfloat16")  # fmt: skip
    split = ("--split-fractions", "0.6", "0.2", "0.2")
    commands: dict[str, tuple[object, ...]] = {
        "extract": ("jobs/extract.py", "--videos", videos, "--out", runs / "features"),
        "clips": ("jobs/clips.py", "--videos", videos, "--out", runs / "clips", *size, *split),
        "train": ("jobs/train.py", "--data", runs / "clips", "--model", "r3d_18", "--weights",
                  "none", "--out", runs / "model", *shape),
        "evaluate": ("jobs/evaluate.py", "--model", runs / "model", "--data", runs / "clips",
                     "--out", runs / "judged"),
        "label": ("jobs/label.py", "--model", runs / "model", "--videos", videos,
                  "--out", runs / "labels"),
        "label, bfloat16": ("jobs/label.py", "--model", runs / "model", "--videos", videos,
                            "--out", runs / "labels16", "--precision", "bfloat16"),
        "label, CPU": ("jobs/label.py", "--model", runs / "model", "--videos", videos,
                       "--out", runs / "labels-cpu", "--predictors", "0"),
    }  # fmt: skip
    figures = {}
    for told, command in commands.items():
        figures[told] = _command(command)
        print(f"  {told}: exit {figures[told]['exit']} after {figures[told]['seconds']:.1f} s")
        print("\n".join(f"    {line}" for line in figures[told]["last"]), flush=True)
    figures["reports"] = _reports(runs)
    figures["labels"] = _same_labels(runs)
    return figures


def _command(command: tuple[object, ...]) -> Figures:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        timeout=240,
    )  # fmt: skip
    lines = [line.rstrip() for line in done.stdout.splitlines() if line.strip()]
    return {"exit": done.returncode, "seconds": time.monotonic() - began, "last": lines[-6:]}


def _reports(runs: Path) -> Figures:
    """What the jobs themselves say they took."""
    figures = {}
    for name in ("features", "clips", "labels", "labels16", "labels-cpu"):
        file = runs / name / "run.json"
        report = json.loads(file.read_text()) if file.exists() else {}
        wanted = ("counts", "videos_per_second", "cost_per_thousand_videos", "seconds")
        figures[name] = {key: report[key] for key in wanted if key in report}
        print(f"  {name}: {report.get('videos_per_second')} videos/s, "
              f"{report.get('cost_per_thousand_videos')}")  # fmt: skip
    return figures


def _same_labels(runs: Path) -> Figures:
    """Labels of the GPU's predictor against those of workers with the network in them."""
    from vidray.labelling import read_labels

    found = {}
    for name in ("labels", "labels16", "labels-cpu"):
        if (runs / name / "run.json").exists():
            rows = read_labels(str(runs / name)).to_pylist()
            found[name] = {row["uri"]: row for row in rows if row["status"] == "ok"}
    if "labels-cpu" not in found:
        return {}
    reference = found.pop("labels-cpu")
    figures = {}
    for name, rows in found.items():
        pairs = [(row, reference[uri]) for uri, row in rows.items() if uri in reference]
        figures[name] = {
            "videos": len(pairs),
            "same": sum(a["label"] == b["label"] for a, b in pairs),
            "largest_difference": max(
                float(np.abs(np.subtract(a["probabilities"], b["probabilities"])).max())
                for a, b in pairs
            ),
        }
        print(f"  {name} against the CPU's: {figures[name]}")
    return figures


def _summary(figures: Figures) -> None:
    """The table that a reader of a log sees last."""
    print(f"{'training, clips/s':24s}" + "".join(f"{way.name[:24]:>25s}" for way in _WAYS))
    rows = [row for row in (figures.get("speed") or []) if "clips_per_second" in row]
    for name in dict.fromkeys(row["network"] for row in rows):
        of_way = {row["way"]: row["clips_per_second"] for row in rows if row["network"] == name}
        told = "".join(f"{of_way.get(way.name, float('nan')):25.1f}" for way in _WAYS)
        print(f"{name:24s}{told}")
    failed = [row for row in (figures.get("speed") or []) if "error" in row]
    for row in failed:
        print(f"FAILED {row['network']} {row['way']}: {row['error']}")


_MEASURES: dict[Part, Callable[[Bench, Path], Any]] = {
    "speed": _speed,
    "label": _label,
    "agree": _agree,
    "wait": _wait,
    "jobs": _jobs,
}


if __name__ == "__main__":
    main(tyro.cli(Bench))
