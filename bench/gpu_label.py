"""Parts of ``bench/gpu.py``: labelling, way by way, and how busy the GPU is meanwhile."""

from __future__ import annotations

import dataclasses
import importlib
import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from bench.gpu_busy import BusyWatch, watching
from bench.gpu_decode import decode_one
from bench.gpu_parts import Rows, attempt, device_here
from bench.gpu_plain import warmed_loader
from bench.gpu_plan import Bench, size_of
from bench.gpu_results import Figures
from bench.label import Bench as LabelBench
from bench.label import save_model
from bench.xvid_clips import make_clips
from vidray import models
from vidray.distributed.sandbox import Ask, Sandbox
from vidray.labelling import wire
from vidray.labelling.options import LabelOptions
from vidray.labelling.settings import LabelSettings, name_and_digest
from vidray.models.preprocess import KINETICS
from vidray.sources import list_videos
from vidray.video.steady_opencv import steady_opencv

_ROOT = Path(__file__).resolve().parents[1]
_ROUNDS = (2, 3)  # After the first: medians of three.


@dataclass(frozen=True)
class Given:
    """What all ways label: rows of VIDEOS, and the model folder."""

    bench: Bench
    folder: Path
    videos: list[dict[str, Any]]
    model: str


@dataclass(frozen=True)
class Timed:
    """One pass over the videos, from the first to the last."""

    seconds: float
    labels: list[str]
    busy: float | None
    peak_gpu_bytes: int | None
    start_seconds: float
    """Before that: processes start, the network is loaded and tried, or compiled."""
    left_early: float | None = None
    """Share of the videos whose clip left the network at its first exit."""


def given(bench: Bench, work: Path) -> Given:
    """The videos and the model; they are made once for all parts."""
    videos, model = work / "videos", work / bench.network
    if not videos.exists():
        clips_here, frames_here = (12, 24) if bench.tiny else (bench.clips, 200)
        draft = make_clips(work / "videos.draft", clips_here, num_frames=frames_here)
        draft.rename(videos)
    if not (model / "model.json").exists():
        frames, size_px, _ = size_of(bench, bench.network)
        save_model(LabelBench(model=bench.network, frames=frames, size_px=size_px), str(model))
    rows = list_videos(str(videos)).to_pylist()
    return Given(bench, work, rows, str(model))


def label(bench: Bench, work: Path, known: set[str]) -> Rows:
    """Every way once."""
    yield from in_turn(given(bench, work), _ways(), [1], known)


def again(bench: Bench, work: Path, known: set[str]) -> Rows:
    """Every way twice more, in turn."""
    yield from in_turn(given(bench, work), _ways(), _ROUNDS, known)


def compiled(bench: Bench, work: Path, known: set[str]) -> Rows:
    """The network compiled, beside the same one as it is."""
    options = LabelOptions(precision="bfloat16", compile=True)
    ways: dict[str, Callable[[Given], Timed]] = {
        "predictor, bfloat16": partial(predict_with, LabelOptions(precision="bfloat16")),
        "predictor, bfloat16, compiled": partial(predict_with, options),
    }
    yield from in_turn(given(bench, work), ways, [4], known)


def _ways() -> dict[str, Callable[[Given], Timed]]:
    return {
        "decoding alone": _decode,
        "decoders, answered at once": _answered,
        "plain loop, float32": _plain,
        "predictor, float32": partial(predict_with, LabelOptions()),
        "predictor, bfloat16": partial(predict_with, LabelOptions(precision="bfloat16")),
    }


def in_turn(
    what: Given,
    ways: dict[str, Callable[[Given], Timed]],
    rounds: tuple[int, ...] | list[int],
    known: set[str],
) -> Rows:
    """A row per way and round, those of a round one after the other."""
    for number in rounds:
        for name, way in ways.items():
            key = f"{name} #{number}"
            if key not in known:
                yield key, attempt(partial(_measured, what, name, way))


def _measured(what: Given, name: str, way: Callable[[Given], Timed]) -> Figures:
    """Figures of a pass; its labels are compared with those of the first pass in float32."""
    found = way(what)
    speed = len(what.videos) / found.seconds
    row: Figures = {"way": name, "videos": len(what.videos), "videos_per_second": speed,
                    "busy": found.busy, "peak_gpu_bytes": found.peak_gpu_bytes,
                    "start_seconds": found.start_seconds,
                    "left_early": found.left_early}  # fmt: skip
    reference = what.folder / "labels-float32.json"
    if name == "predictor, float32" and not reference.exists():
        reference.write_text(json.dumps(found.labels))
    if any(found.labels) and reference.exists():
        pairs = zip(json.loads(reference.read_text()), found.labels, strict=True)
        row["same_labels"] = float(np.mean([a == b for a, b in pairs]))
    if any(found.labels):
        row["different_labels"] = len(set(found.labels))
    busy = "-" if found.busy is None else f"{found.busy:.0%}"
    print(f"  {name:34s} {speed:8.1f} videos/s, GPU busy {busy}, "
          f"{found.start_seconds:.1f} s to start", flush=True)  # fmt: skip
    return row


# The ways


def _decode(what: Given) -> Timed:
    """Processes that decode and do nothing else, one for each decoder of the other ways."""
    clip = models.load(what.model)
    assert isinstance(clip, models.DeepModel)
    began = time.time()
    with ProcessPoolExecutor(
        what.bench.decoders, get_context("spawn"), initializer=steady_opencv
    ) as pool:
        work = partial(decode_one, clip.clip)
        uris = [row["uri"] for row in what.videos]
        list(pool.map(work, uris[: 2 * what.bench.decoders]))  # Start-up apart.
        ready = time.time()
        list(pool.map(work, uris))
        ended = time.time()
    return Timed(ended - ready, [], None, None, ready - began)


def _answered(what: Given) -> Timed:
    """The decoders of a label job, and an answer that costs nothing: the most a GPU could give."""

    def answer(asked: pa.RecordBatch) -> pa.RecordBatch:
        found = np.full((asked.num_rows, 4), 0.25)
        return wire.write_answer(wire.Answer(found))

    config = dataclasses.asdict(_settings(what.model, LabelOptions()))
    timed = _label_by(what, config, answer, time.time())
    return dataclasses.replace(timed, labels=[])


def _settings(model: str, options: LabelOptions) -> LabelSettings:
    return LabelSettings(model=model, model_digest=name_and_digest(model)[1], options=options)


def predict_with(options: LabelOptions, what: Given) -> Timed:
    """The network as it is, with these options."""
    return predict(what, what.model, options)


def predict(what: Given, model: str, options: LabelOptions) -> Timed:
    """The predictor of a label job, asked by its decoders."""
    began = time.time()
    before = 0
    if torch.cuda.is_available():
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    config = dataclasses.asdict(_settings(model, options))
    module, _, function = LabelSettings.PREDICTOR.partition(":")
    answer = getattr(importlib.import_module(module), function)(config)
    timed = _label_by(what, config, answer, began)
    peak = None
    if torch.cuda.is_available():
        # Less what the predictors of other ways hold, whose threads wait for ever.
        peak = torch.cuda.max_memory_allocated() - before
    return dataclasses.replace(timed, peak_gpu_bytes=peak)


def _label_by(what: Given, config: dict[str, Any], answer: Ask, began: float) -> Timed:
    """Videos through the sandboxes of a label job, each fed by a thread."""
    boxes = [
        Sandbox(LabelSettings.TARGET, config, memory_bytes=2 << 30, timeout_seconds=300, asks=True)
        for _ in range(what.bench.decoders)
    ]
    free: SimpleQueue[Sandbox] = SimpleQueue()

    stages: list[int | None] = []

    def work(video: dict[str, Any]) -> str:
        box = free.get()
        try:
            planned = {**video, "label": None, "true_label": None, "attempts": 1}
            (row,) = box.run(planned, answer).to_pylist()
        finally:
            free.put(box)
        assert row["status"] == "ok", row["error_message"]
        stages.append(row.get("exit_stage"))
        return str(row["label"])

    try:
        with ThreadPoolExecutor(len(boxes)) as pool, watching() as watch:
            list(pool.map(Sandbox.start, boxes))
            for box in boxes:
                free.put(box)
            list(pool.map(work, what.videos[: 2 * len(boxes)]))  # The first ones warm up.
            stages.clear()
            timed = _timed(lambda: list(pool.map(work, what.videos)), watch, began)
    finally:
        for box in boxes:
            box.close()
    if any(stage is not None for stage in stages):
        left = sum(stage == 1 for stage in stages) / len(stages)
        timed = dataclasses.replace(timed, left_early=left)
    return timed


def _timed(call: Callable[[], list[str]], watch: BusyWatch, began: float) -> Timed:
    ready = time.time()
    labels = call()
    ended = time.time()
    busy, peak = watch.between(ready, ended), watch.peak_bytes(ready, ended)
    return Timed(ended - ready, labels, busy, peak, ready - began)


def _plain(what: Given) -> Timed:
    """The plain PyTorch way: a DataLoader that decodes, batches of 16, float32."""
    began = time.time()
    device = torch.device(device_here())
    model = models.load(what.model, device=device.type)
    assert isinstance(model, models.DeepModel)
    mean, std = (torch.tensor(c, device=device).view(1, 3, 1, 1, 1) for c in KINETICS)
    names = model.class_names

    @torch.no_grad()
    def label_all(batches: Any) -> list[str]:
        found = []
        for pixels in batches:
            moved = pixels.to(device, non_blocking=True)
            inputs = (moved.permute(0, 4, 1, 2, 3).float() / 255 - mean) / std
            found.append(model.network(inputs).argmax(dim=1).cpu())
        return [names[k] for k in torch.cat(found).tolist()]

    loader = warmed_loader(
        [row["uri"] for row in what.videos], model.clip, workers=what.bench.decoders
    )
    label_all(loader)  # Its first epoch is short, and starts everything.
    with watching() as watch:
        return _timed(lambda: label_all(loader), watch, began)
