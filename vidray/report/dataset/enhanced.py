"""Before and after of enhancement: poor frames as extract sees them, and what it makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from vidray import storage
from vidray.distributed.sandbox import Sandbox
from vidray.errors import JobError, UserError, VideoError
from vidray.features.material import HEIGHT_PX, WIDTH_PX, frames_a_second_apart
from vidray.masking import without_secrets
from vidray.report.blocks import Card, Gallery, Part, Prose, Thumbnail
from vidray.report.dataset.video_sets import VideoSet
from vidray.report.frames.decoding import check_address
from vidray.report.frames.thumbnails import jpeg
from vidray.report.settings import ReportSettings
from vidray.video import quality
from vidray.video.clock import Clock, Stretch
from vidray.video.decode import Video
from vidray.video.enhance import enhance
from vidray.video.frames import Limits, Request
from vidray.video.steady_opencv import steady_opencv

_SHOWN_EACH = 3
# Of a video, so many of the frames that extract samples are measured to find a poor one.
_MOST_FRAMES = 6
_MEMORY_BYTES, _MOST_SECONDS = 2 << 30, 30.0
_LIMITS = Limits(max_bytes=16 << 30)


def blocks(videos: VideoSet, settings: ReportSettings) -> list[Part]:
    """What enhancement did or would do, and a few poor frames before and after."""
    frame = poor(videos.frame)
    did = videos.enhance in ("auto", "always")
    if not did and not (frame["is_blurred"] | frame["is_noisy"]).any():
        return []
    parts: list[Part] = [Prose(paragraphs=[said(frame, videos.enhance)])]
    chosen = choose(frame)
    if settings.frames and len(chosen):
        parts.append(_gallery(chosen, settings))
    return parts


def poor(frame: pd.DataFrame) -> pd.DataFrame:
    """The videos whose quality is known, with ``is_blurred`` and ``is_noisy``: what ``auto`` says
    of their mean sharpness and noise.
    """
    numbers = frame.assign(
        sharpness=pd.to_numeric(frame["sharpness"], errors="coerce"),
        noise=pd.to_numeric(frame["noise"], errors="coerce"),
        enhanced_share=pd.to_numeric(frame["enhanced_share"], errors="coerce"),
    )
    known = numbers[numbers["sharpness"].notna() & numbers["noise"].notna()]
    asked = [
        quality.calls_for_enhancement({"sharpness": sharpness, "noise": noise})
        for sharpness, noise in zip(known["sharpness"], known["noise"], strict=True)
    ]
    blurred = known["sharpness"] < quality.BLURRED_SHARPNESS
    return known.assign(is_blurred=blurred, is_noisy=np.array(asked, np.bool_) & ~blurred)


def said(frame: pd.DataFrame, mode: str | None) -> str:
    """How many videos enhancement touches, in words."""
    blurred, noisy = int(frame["is_blurred"].sum()), int(frame["is_noisy"].sum())
    text = (
        f"By their mean sharpness and noise {blurred:,} of {len(frame):,} videos are blurred and "
        f"{noisy:,} are noisy; --enhance auto denoises and sharpens such frames."
    )
    if mode in ("auto", "always"):
        share = frame["enhanced_share"].mean()
        touched = int((frame["enhanced_share"] > 0).sum())
        return (
            f"{text} This run was made with --enhance {mode}: {share:.1%} of the sampled frames "
            f"were enhanced, in {touched:,} videos."
        )
    return f"{text} This run was made without."


def choose(frame: pd.DataFrame) -> pd.DataFrame:
    """The noisiest and the most blurred videos, a few of each; of an enhanced run those of which
    most was enhanced, where none is poor by its means.
    """
    noisy = frame[frame["is_noisy"]].sort_values("noise", ascending=False, kind="stable")
    blurred = frame[frame["is_blurred"]].sort_values("sharpness", kind="stable")
    found = pd.concat([noisy.head(_SHOWN_EACH), blurred.head(_SHOWN_EACH)])
    if len(found):
        return found
    touched = frame[frame["enhanced_share"] > 0]
    return touched.sort_values("enhanced_share", ascending=False, kind="stable").head(_SHOWN_EACH)


def _gallery(chosen: pd.DataFrame, settings: ReportSettings) -> Part:
    names = ["uri", "begin_seconds", "end_seconds"]
    rows = chosen[names].astype(object).where(chosen[names].notna(), None).to_dict("records")
    sandbox = Sandbox(
        "vidray.report.dataset.enhanced:worker",
        {"hosts": [host.lower() for host in settings.frames_from]},
        memory_bytes=_MEMORY_BYTES,
        timeout_seconds=_MOST_SECONDS,
    )
    try:
        cards = [_card({str(key): value for key, value in row.items()}, sandbox) for row in rows]
    finally:
        sandbox.close()
    return Gallery(
        title="Poor frames before and after enhancement",
        cards=cards,
        note=f"At {WIDTH_PX}x{HEIGHT_PX}, the size at which extract looks at every frame.",
    )


def _card(video: dict[str, Any], sandbox: Sandbox) -> Card:
    name = storage.name_of(str(video["uri"]))
    try:
        batch = sandbox.run(video)
    except (VideoError, JobError, UserError) as error:
        return Card(title=name, facts={}, why_none=str(error))
    if not len(batch):
        why = (batch.schema.metadata or {}).get(b"why", b"").decode(errors="replace")
        return Card(title=name, facts={}, why_none=f"no frames: {why}")
    rows = batch.to_pylist()
    size = (HEIGHT_PX, WIDTH_PX, 3)
    return Card(
        title=name,
        facts={
            "sharpness": f"{rows[0]['sharpness']:,.0f} \u2192 {rows[1]['sharpness']:,.0f}",
            "noise": f"{rows[0]['noise']:.1f} \u2192 {rows[1]['noise']:.1f}",
        },
        pictures=[
            Thumbnail(
                jpeg=jpeg(np.frombuffer(row["pixels"], np.uint8).reshape(size)),
                alt=f"frame at {row['at_seconds']:.2f} s, {when} enhancement",
                caption=when,
            )
            for row, when in zip(rows, ("before", "after"), strict=True)
        ],
    )


def worker(config: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], pa.RecordBatch]:
    """The work of the child process: a video -> two rows, a frame before and after; or none and
    the reason.

    Args:
        config: ``hosts`` that web addresses may name.
    """
    steady_opencv()
    hosts = frozenset(config["hosts"])
    return lambda video: _answer(video, hosts)


def _answer(video: Mapping[str, Any], hosts: frozenset[str]) -> pa.RecordBatch:
    try:
        check_address(video["uri"], hosts)
        at, before = _poor_frame(video)
    except MemoryError:
        raise
    except VideoError as error:
        return _batch([], [], error.message)
    except Exception as error:  # noqa: BLE001  One bad video costs its own frames.
        return _batch([], [], f"{type(error).__name__}: {error}")
    return _batch([at, at], [before, enhance(before)])


def _poor_frame(video: Mapping[str, Any]) -> tuple[float, NDArray[np.uint8]]:
    """The first of the sampled frames that ``auto`` would enhance, else the first: its time, and
    its pixels as extract has them.
    """
    with (
        storage.opened(video["uri"]) as source,
        Video(source, limits=_LIMITS) as opened,
    ):
        clock = Clock.of_video(opened, Stretch.of_row(video))
        sampled = frames_a_second_apart(clock, most=_MOST_FRAMES)
        found = opened.read(Request(sampled, WIDTH_PX, HEIGHT_PX, "opencv_area"))[0]
        since_first = found.pts_seconds - opened.pts_seconds[0]
    asks = [quality.calls_for_enhancement(quality.measure_frame(one)) for one in found.pixels]
    place = int(np.argmax(asks))
    return float(since_first[place]), found.pixels[place]


def _batch(
    times: Sequence[float], frames: Sequence[NDArray[np.uint8]], why: str = ""
) -> pa.RecordBatch:
    numbers = [quality.measure_frame(one) for one in frames]
    batch = pa.record_batch(
        {
            "at_seconds": pa.array(times, pa.float64()),
            "pixels": pa.array([one.tobytes() for one in frames], pa.binary()),
            **{
                name: pa.array([one[name] for one in numbers], pa.float64())
                for name in ("sharpness", "noise")
            },
        }
    )
    said = " ".join(without_secrets(why).split())[:300]
    return batch.replace_schema_metadata({"why": said}) if why else batch
