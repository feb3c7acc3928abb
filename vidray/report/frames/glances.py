"""Glances at many videos, to compare them: small gray frames, decoded in child processes."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vidray import storage
from vidray.distributed.sandbox import Sandbox
from vidray.errors import JobError, UserError, VideoError
from vidray.masking import without_secrets
from vidray.report.frames.decoding import check_address
from vidray.video.clock import Stretch
from vidray.video.decode import Video
from vidray.video.frames import Limits, Request
from vidray.video.steady_opencv import steady_opencv

SIDE_PX = 32
# Eight frames a second let a copy that begins elsewhere be laid over its original to a sixteenth of
# a second; 64 of them are eight seconds, and further apart in a longer video.
_SPACING_SECONDS, _MOST_FRAMES, _FEWEST_FRAMES = 0.125, 64, 8
# To decode all of a video of more pixels (seven seconds of 720p) takes over half a second: of such
# a one a dozen frames are sought out.
_DENSE_PIXELS, _SPARSE_FRAMES = 200_000_000, 12
_MEMORY_BYTES, _MOST_SECONDS = 2 << 30, 20.0
_MOST_PIXELS = 36_000_000
_PROCESSES = 2
# Videos that are gone are gone together: after so many failures and no success nobody goes on.
_HOPELESS = 40


@dataclass(frozen=True)
class Glance:
    """Small frames of a video.

    Args:
        gray: ``uint8 (T, 32, 32)``, in order of time; the shape of the picture is lost.
        seconds: ``float64 (T,)``, when each is shown, from the first.
    """

    gray: NDArray[np.uint8]
    seconds: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.gray.shape != (len(self.seconds), SIDE_PX, SIDE_PX) or not len(self.seconds):
            raise ValueError(f"gray is {self.gray.shape} of {len(self.seconds)} times")

    def __repr__(self) -> str:
        return f"Glance({len(self.seconds)} frames, {self.seconds[-1]:.2f} s)"


@dataclass
class Glances:
    """What ``glance_at`` found.

    Attributes:
        of: video_id -> its glance.
        failed: video_id -> why there is none.
        not_reached: videos that were not opened: time was up, or no video is there.
    """

    of: dict[str, Glance] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    not_reached: int = 0


def glance_at(
    videos: Sequence[Mapping[str, Any]], *, hosts: Sequence[str] = (), most_seconds: float
) -> Glances:
    """Small frames of each video; what is done is told on stderr.

    Args:
        videos: each video_id, uri, begin_seconds, end_seconds (None where it is the whole file).
        hosts: that web addresses of videos may name.
        most_seconds: then what is left is not looked at.
    """
    found = Glances()
    todo: queue.SimpleQueue[Mapping[str, Any]] = queue.SimpleQueue()
    for video in videos:
        todo.put(video)
    deadline = time.monotonic() + most_seconds
    threads = [
        threading.Thread(target=_work, args=(todo, found, hosts, deadline), daemon=True)
        for _ in range(min(_PROCESSES, len(videos)))
    ]
    for thread in threads:
        thread.start()
    told = time.monotonic()
    while any(thread.is_alive() for thread in threads):
        threads[0].join(0.2)
        threads[-1].join(0.2)
        if time.monotonic() - told > 5:
            told = time.monotonic()
            done = len(found.of) + len(found.failed)
            print(f"  {done:,}/{len(videos):,} videos compared", file=sys.stderr, flush=True)
    found.not_reached = len(videos) - len(found.of) - len(found.failed)
    return found


def _work(
    todo: queue.SimpleQueue[Mapping[str, Any]],
    found: Glances,
    hosts: Sequence[str],
    deadline: float,
) -> None:
    """Glance at one video after another, in a child process that dies with this thread."""
    sandbox = Sandbox(
        "vidray.report.frames.glances:worker",
        {"hosts": [host.lower() for host in hosts]},
        memory_bytes=_MEMORY_BYTES,
        timeout_seconds=_MOST_SECONDS,
    )
    try:
        while time.monotonic() < deadline and not (len(found.failed) >= _HOPELESS and not found.of):
            try:
                video = todo.get_nowait()
            except queue.Empty:
                return
            try:
                batch = sandbox.run(dict(video))
                if not len(batch):
                    found.failed[video["video_id"]] = batch.schema.metadata[b"why"].decode()
                    continue
                gray = np.frombuffer(batch.column(0)[0].as_py(), np.uint8)
                seconds = np.array(batch.column(1)[0].as_py(), np.float64)
                glance = Glance(gray.reshape(-1, SIDE_PX, SIDE_PX), seconds)
            except (VideoError, UserError, JobError, ValueError) as error:
                found.failed[video["video_id"]] = str(error)
            else:
                found.of[video["video_id"]] = glance
    finally:
        sandbox.close()


def worker(config: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], pa.RecordBatch]:
    """The work of the child process: a video of ``glance_at`` -> ``gray``, ``seconds``, one row, or
    none and the reason.

    Args:
        config: ``hosts`` that web addresses may name.
    """
    steady_opencv()
    hosts = frozenset(config["hosts"])
    return lambda video: _answer(video, hosts)


def _answer(video: Mapping[str, Any], hosts: frozenset[str]) -> pa.RecordBatch:
    """As ``rows.made_by``, a video that has no frames gives the reason: no exception comes back."""
    try:
        check_address(video["uri"], hosts)
        return _glance(video)
    except MemoryError:
        raise
    except VideoError as error:
        why = error.message
    except Exception as error:  # noqa: BLE001  One bad video costs its own comparison.
        why = f"{type(error).__name__}: {error}"
    nothing = {"gray": pa.array([], pa.binary()), "seconds": pa.array([], pa.list_(pa.float64()))}
    said = " ".join(without_secrets(why).split())[:300]
    return pa.record_batch(nothing).replace_schema_metadata({"why": said})


def _glance(video: Mapping[str, Any]) -> pa.RecordBatch:
    with (
        storage.opened(video["uri"]) as source,
        Video(source, limits=Limits(max_pixels=_MOST_PIXELS)) as opened,
    ):
        times = opened.pts_seconds - opened.pts_seconds[0]
        inside = Stretch.of_row(video).frames(times)
        frames = np.arange(inside.start, inside.stop)
        count = number_of_frames(
            seconds=float(times[inside.stop - 1] - times[inside.start]),
            pixels=len(times) * opened.header.width_px * opened.header.height_px,
        )
        count = min(count, len(frames))
        # The middle of each of ``count`` equal parts.
        chosen = frames[((np.arange(count) + 0.5) * len(frames) / count).astype(np.int64)]
        pixels = opened.read(Request(chosen, SIDE_PX, SIDE_PX))[0].pixels
    gray = np.stack([cv2.cvtColor(one, cv2.COLOR_RGB2GRAY) for one in pixels]).astype(np.uint8)
    shown = times[chosen] - times[chosen[0]]
    return pa.record_batch(
        {
            "gray": pa.array([gray.tobytes()], pa.binary()),
            "seconds": pa.array([shown], pa.list_(pa.float64())),
        }
    )


def number_of_frames(*, seconds: float, pixels: int) -> int:
    """How many frames of a stretch are looked at; ``pixels`` are those of the whole file."""
    if pixels > _DENSE_PIXELS:
        return _SPARSE_FRAMES
    wanted = int(np.ceil(seconds / _SPACING_SECONDS))
    return min(_MOST_FRAMES, max(_FEWEST_FRAMES, wanted))
