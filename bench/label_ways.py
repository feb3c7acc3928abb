"""Work of a label job in a bare pool of processes: all of it, decoding alone, the network alone."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidray import storage
from vidray.labelling.labeller import label_video, loaded
from vidray.labelling.options import LabelOptions
from vidray.labelling.predictor import open_predictor
from vidray.labelling.settings import LabelSettings, name_and_digest
from vidray.models.model_files import read_info
from vidray.video import clips
from vidray.video.clips import ClipSettings
from vidray.video.decode import Video

Videos = list[dict[str, Any]]
_in_worker: dict[str, Any] = {}


def settings_of(model: str, options: LabelOptions) -> LabelSettings:
    """The settings of a label job."""
    return LabelSettings(model=model, model_digest=name_and_digest(model)[1], options=options)


def label_all(
    model: str, options: LabelOptions, videos: Videos, workers: int
) -> tuple[float, list[str]]:
    """Seconds and labels of a label job's work, without Ray."""
    config = dataclasses.asdict(settings_of(model, options))
    return _pool(_start_label, (config,), _label, videos, workers)


def decode_all(model: str, videos: Videos, workers: int) -> tuple[float, list[str]]:
    """Seconds of reading the clips that a model takes."""
    return _pool(_start_decode, (model,), _decode, videos, workers)


def run_network(
    model: str, options: LabelOptions, videos: Videos, workers: int
) -> tuple[float, list[str]]:
    """Seconds of a model's network, on made clips, as many as there are videos."""
    config = dataclasses.asdict(settings_of(model, options))
    return _pool(_start_network, (config,), _network, videos, workers)


def _start_label(config: dict[str, Any]) -> None:
    settings = LabelSettings.from_json(config)
    model, views = loaded(settings, None)
    _in_worker["label"] = lambda row: label_video(row, model, settings, views)


def _label(video: dict[str, Any]) -> str:
    row = {**video, "label": None, "true_label": None, "attempts": 1}
    label: str = _in_worker["label"](row)["label"][0].as_py()
    return label


def _start_decode(folder: str) -> None:
    _in_worker["clip"] = ClipSettings.from_json(read_info(folder)["clip"])


def _decode(video: dict[str, Any]) -> str:
    with storage.opened(video["uri"]) as source, Video(source) as opened:
        clips.read_clips(opened, source, _in_worker["clip"])
    return ""


def _start_network(config: dict[str, Any]) -> None:
    predict = open_predictor(LabelSettings.from_json(config), may_use_gpu=False)
    clip = predict.clip
    shape = (1, clip.frames_per_clip, clip.size_px, clip.size_px, 3)
    pixels: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    _in_worker["network"] = lambda: predict(pixels)


def _network(_: dict[str, Any]) -> str:
    _in_worker["network"]()
    return ""


def _start(start: Callable[..., None], given: tuple[Any, ...], all_ready: Barrier) -> None:
    start(*given)
    all_ready.wait()  # Or the first to be ready answers what was to warm them all up.


def _pool(
    start: Callable[..., None],
    given: tuple[Any, ...],
    work: Callable[[dict[str, Any]], str],
    videos: Videos,
    workers: int,
) -> tuple[float, list[str]]:
    # Not forked: PyTorch's threads, started by the plain way, are not there in the child, which
    # waits for them for ever.
    context = get_context("spawn")
    all_ready = context.Barrier(workers)
    first = (start, given, all_ready)
    with ProcessPoolExecutor(workers, context, initializer=_start, initargs=first) as pool:
        list(pool.map(work, videos[: 2 * workers]))  # Start-up apart.
        began = time.perf_counter()
        labels = list(pool.map(work, videos))
        return time.perf_counter() - began, labels
