"""Seconds a video of two models, each alone and both as one, from file to label in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vidray import storage
from vidray.errors import VideoError
from vidray.evaluation import judging
from vidray.features.extraction import describe_video
from vidray.models.deferral import Threshold
from vidray.models.folder import ClassicalModel, Model
from vidray.video import clips
from vidray.video.aside import Aside
from vidray.video.clock import Stretch
from vidray.video.decode import Video

_RUNS = 3  # Timed passes over each video, of which the median counts.
Videos = Sequence[Mapping[str, Any]]
_Label = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True, kw_only=True)
class StageSeconds:
    """Seconds a video; None where a file is not there any more."""

    first: float | None
    second: float | None
    both: float | None
    timed_videos: int

    @property
    def seconds_per_video(self) -> dict[str, float | None]:
        """As metrics.json holds them."""
        return {"first": self.first, "second": self.second, "both": self.both}


def measure(
    cheap: Model, dear: Model, threshold: Threshold, stages: Sequence[tuple[float, Videos]]
) -> StageSeconds:
    """Label the videos by each model and by both, in turn.

    Args:
        stages: of all videos the share that each stage labels, and some of these videos.
    """
    ways: dict[str, _Label] = {
        "first": lambda video: judging.label_here(cheap, [dict(video)]),
        "second": lambda video: judging.label_here(dear, [dict(video)]),
        "both": lambda video: label_by_both(video, cheap, dear, threshold),
    }
    means = [(share, _mean_seconds(ways, videos)) for share, videos in stages]
    found: dict[str, float | None] = {}
    for name in ways:
        known = [share * mean[name] for share, mean in means if mean is not None]
        found[name] = sum(known) if len(known) == len(means) else None
    return StageSeconds(timed_videos=sum(len(videos) for _, videos in stages), **found)


def _mean_seconds(ways: Mapping[str, _Label], videos: Videos) -> dict[str, float] | None:
    """For each way the mean over videos of its medians; None where a video cannot be read.

    The ways take turns: the machine may be busier at one time than at another.
    """
    medians: dict[str, list[float]] = {name: [] for name in ways}
    for video in videos:
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(_RUNS + 1):  # The first warms up.
            for name, label in ways.items():
                began = time.perf_counter()
                if not label(video):
                    return None
                seconds[name].append(time.perf_counter() - began)
        for name, passes in seconds.items():
            medians[name].append(statistics.median(passes[1:]))
    return {name: statistics.fmean(found) for name, found in medians.items()}


def label_by_both(
    video: Mapping[str, Any], cheap: Model, dear: Model, threshold: Threshold
) -> bool:
    """Label a video by two models, as the label job does; whether the file could be read."""
    aside = None if isinstance(dear, ClassicalModel) else Aside(dear.clip)
    try:
        found = _asked_first(video, cheap, aside)
    except VideoError:
        return False
    if threshold.keeps(float(found.mean(axis=0).max())):
        return True
    if isinstance(dear, ClassicalModel):
        return judging.label_here(dear, [dict(video)])
    pixels = aside.clips() if aside is not None else None
    assert pixels is not None
    dear.predict(pixels)
    return True


def _asked_first(
    video: Mapping[str, Any], model: Model, aside: Aside | None
) -> NDArray[np.float64]:
    """Probabilities ``float64 (N, K)``, a row a clip; the frames for ``aside`` are read, too."""
    if isinstance(model, ClassicalModel):
        row = describe_video(video, model.features, model.views, aside)
        if row["status"][0].as_py() != "ok":
            raise VideoError(row["error_kind"][0].as_py(), row["error_message"][0].as_py())
        return model.predict(pa.Table.from_batches([row]))
    with (
        storage.opened(video["uri"], video["size_bytes"]) as source,
        Video(source, limits=model.clip.limits) as opened,
    ):
        stretch, draw = Stretch.of_row(video), video["size_bytes"]
        if aside is None:
            pixels, _, _ = clips.read_clips(opened, source, model.clip, stretch=stretch, draw=draw)
        else:
            pixels, _ = aside.read_beside(opened, source, model.clip, stretch=stretch, draw=draw)
    return model.predict(pixels)
