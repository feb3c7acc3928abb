"""Copies of videos that are blurred, noisy, dark, or lack frames; made in a child process.

A copy has the pixels, the size, the times and the sound of the file; only its damage is made. It
is stored without loss, in NUT, which keeps any time, and in the format of the file's own pixels: so
an undamaged copy gives every model the very pixels that the file does. Other formats than 8-bit
planes (10 bits, RGB) are converted first, and a turned picture is turned upright.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import av
import cv2
import numpy as np
import pyarrow as pa
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vidray import storage
from vidray.errors import VideoError
from vidray.masking import without_secrets
from vidray.report.frames.decoding import check_address
from vidray.video.decode import Video
from vidray.video.demux import Source, open_container
from vidray.video.frames import Limits
from vidray.video.sound import SAMPLE_RATE, read_sound
from vidray.video.steady_opencv import steady_opencv
from vidray.video.stream import Stream

DamageKind = Literal["none", "blur", "noise", "darkness", "dropped frames"]
Plane = NDArray[np.uint8]

# Of all frames of a video together: 20 s of 1080p, or four minutes of 640x480. A copy then takes
# about 1 GB at the most.
_MOST_PIXELS = 2_000_000_000
_TICKS = 90_000  # a second: whole numbers of 24, 25, 30, 50, 60 and 29.97 frames
# Formats that are damaged as they are: 8 bits, one plane for brightness and two for colour.
_PLANAR = {"yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p", "yuvj444p", "gray"}
_TURNABLE = {"yuv420p", "yuv444p", "yuvj420p", "yuvj444p", "gray"}  # as many rows as columns
_FULL_RANGE = 2  # of FFmpeg: levels 0 to 255, and not 16 to 235
_RGB, _UNSPECIFIED = 0, 2  # ISO/IEC 23091-2, matrix coefficients


@dataclass(frozen=True, kw_only=True)
class MadeDamage:
    """One way to damage a video.

    Attributes:
        amount: of ``blur``, the standard deviation of the Gaussian, of the picture's height; of
            ``noise``, its standard deviation in grey levels of 255; of ``darkness``, the share of
            the brightness that is left; of ``dropped frames``, the share that is gone.
        title: in words with the number.
    """

    kind: DamageKind
    amount: float
    title: str


UNDAMAGED = MadeDamage(kind="none", amount=0.0, title="undamaged copy")
DAMAGES = (
    MadeDamage(kind="blur", amount=0.01, title="blur of 1 % of the height"),
    MadeDamage(kind="blur", amount=0.03, title="blur of 3 % of the height"),
    MadeDamage(kind="noise", amount=15, title="noise of 15 grey levels"),
    MadeDamage(kind="noise", amount=40, title="noise of 40 grey levels"),
    MadeDamage(kind="darkness", amount=0.4, title="40 % of the light"),
    MadeDamage(kind="darkness", amount=0.15, title="15 % of the light"),
    MadeDamage(kind="dropped frames", amount=0.5, title="half of the frames dropped"),
    MadeDamage(kind="dropped frames", amount=0.9, title="9 of 10 frames dropped"),
)


def worker(config: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], pa.RecordBatch]:
    """The work of the child process: ``uri, size_bytes, out, kind, amount, seed`` -> a file, and
    how many frames it has, or the reason why there is none.

    Args:
        config: ``hosts`` that web addresses may name.
    """
    steady_opencv()
    hosts = frozenset(config["hosts"])
    return lambda request: _answer(request, hosts)


def _answer(request: Mapping[str, Any], hosts: frozenset[str]) -> pa.RecordBatch:
    damage = MadeDamage(kind=request["kind"], amount=request["amount"], title="")
    number, kind, why = 0, "", ""
    try:
        check_address(request["uri"], hosts)
        with storage.opened(request["uri"], request["size_bytes"]) as source:
            number = write_copy(source, request["out"], damage, seed=request["seed"])
    except MemoryError:
        raise
    except VideoError as error:
        kind, why = error.kind, error.message
    except Exception as unexpected:  # noqa: BLE001  One bad video costs its own copies.
        kind, why = "crashed", f"unexpected {type(unexpected).__name__}: {unexpected}"
    said = " ".join(without_secrets(why).split())[:300]
    return pa.record_batch({"num_frames": [number], "kind": [kind], "why": [said]})


def write_copy(source: Source, out: str, damage: MadeDamage, *, seed: int = 0) -> int:
    """Write a damaged copy of a video, a NUT file, and give its number of frames.

    Raises:
        VideoError: the video cannot be decoded, or is too long to be copied without loss.
    """
    with Video(source) as video:
        header, times, rate = video.header, video.pts_seconds, video.frames_per_second
        rotation = video.probe(count_frames=False).rotation_degrees
    pixels = header.width_px * header.height_px * len(times)
    if pixels > _MOST_PIXELS:
        said = f"{len(times)} frames of {header.width_px}x{header.height_px}"
        raise VideoError("too_large", f"{said}: too many for copies without loss")
    rng = np.random.default_rng(seed)
    kept = _kept(len(times), damage, rng)
    sound, heard = _sound(source)
    # Whichever comes first, picture or sound, begins at 0.
    lead = max(0.0, -heard)
    ticks = np.round((times - times[0] + lead) * _TICKS).astype(np.int64)
    stream = Stream(source, Limits())
    with contextlib.closing(stream), av.open(out, "w", format="nut") as copy:
        writer = _Writer(copy, rate or 25.0, header.sample_aspect_ratio, rotation)
        track = None if sound is None else _add_track(copy)
        for frame, at, wanted in zip(stream.frames(), ticks.tolist(), kept.tolist(), strict=False):
            if wanted:
                writer.write(frame, at, damage, rng)
        writer.close()
        if track is not None and sound is not None:
            _write_sound(copy, track, sound, round((heard + lead) * SAMPLE_RATE))
    return int(kept.sum())


def _kept(count: int, damage: MadeDamage, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which frames stay: the first and the last do, so that the video is as long as before."""
    kept = np.ones(count, np.bool_)
    if damage.kind == "dropped frames":
        kept = rng.random(count) >= damage.amount
        kept[[0, -1]] = True
    return kept


class _Writer:
    """Writes frames as they come, in one format and size."""

    def __init__(
        self, copy: OutputContainer, rate: float, aspect_ratio: float, rotation: int
    ) -> None:
        self._copy = copy
        self._stream: VideoStream | None = None
        self._rate = Fraction(rate).limit_denominator(1001)
        aspect = Fraction(aspect_ratio).limit_denominator(1000)
        self._aspect = 1 / aspect if rotation % 180 else aspect
        self._turns = rotation // 90
        self._format = ""

    def write(
        self, frame: VideoFrame, at: int, damage: MadeDamage, rng: np.random.Generator
    ) -> None:
        """Damage a frame, and write it."""
        usable = _TURNABLE if self._turns else _PLANAR
        if not self._format:
            self._format = frame.format.name if frame.format.name in usable else "yuv444p"
            self._size = frame.width, frame.height
        space, span = int(frame.colorspace), int(frame.color_range)
        if (frame.width, frame.height, frame.format.name) != (*self._size, self._format):
            frame = frame.reformat(*self._size, format=self._format)
            space = _UNSPECIFIED if space == _RGB else space
        planes = [np.rot90(plane, self._turns) for plane in _planes(frame)]
        is_full = span == _FULL_RANGE or self._format.startswith("yuvj")
        made = _frame_of(_damaged(planes, damage, is_full, rng), self._format)
        made.colorspace, made.color_range = space, _FULL_RANGE if is_full else span
        if self._stream is None:
            self._begin(made)
        assert self._stream is not None
        made.pts, made.time_base = at, Fraction(1, _TICKS)
        self._copy.mux(self._stream.encode(made))

    def _begin(self, first: VideoFrame) -> None:
        codec, options = _encoder(first)
        stream = self._copy.add_stream(codec, rate=self._rate, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = first.width, first.height
        stream.pix_fmt = first.format.name
        stream.time_base = stream.codec_context.time_base = Fraction(1, _TICKS)
        stream.codec_context.colorspace = first.colorspace
        stream.codec_context.color_range = first.color_range
        stream.codec_context.sample_aspect_ratio = self._aspect
        stream.thread_count = 1
        self._stream = stream

    def close(self) -> None:
        """Write what the encoder still holds."""
        if self._stream is not None:
            self._copy.mux(self._stream.encode(None))


def _encoder(first: VideoFrame) -> tuple[str, dict[str, str]]:
    """A codec without loss: H.264, or FFV1 for odd sizes, which is ten times slower.

    FFV1 in NUT has no place for pixels that are not square: of odd sizes they become so.
    """
    if first.width % 2 or first.height % 2:
        return "ffv1", {"level": "3"}
    return "libx264", {"qp": "0", "preset": "ultrafast", "bf": "0", "g": "24"}


def _planes(frame: VideoFrame) -> Iterator[Plane]:
    """The planes of a frame, each ``uint8 (H, W)``."""
    for plane in frame.planes:
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        yield rows[: plane.height, : plane.width]


def _frame_of(planes: Sequence[Plane], pixel_format: str) -> VideoFrame:
    height, width = planes[0].shape
    # Full range is no format of its own any more: the frame's range says it.
    made = VideoFrame(width, height, pixel_format.replace("yuvj", "yuv"))
    for plane, pixels in zip(made.planes, planes, strict=True):
        rows = np.zeros((plane.height, plane.line_size), np.uint8)
        rows[:, : plane.width] = pixels
        plane.update(rows.tobytes())
    return made


def _damaged(
    planes: Sequence[Plane], damage: MadeDamage, is_full: bool, rng: np.random.Generator
) -> Sequence[Plane]:
    """The planes of a frame, damaged; the first is brightness, the others are colour."""
    height = planes[0].shape[0]
    if damage.kind == "blur":
        return [_blurred(plane, damage.amount * plane.shape[0]) for plane in planes]
    if damage.kind == "noise":
        # In limited range a grey level of 255 is 219 / 255 of a step.
        scale = damage.amount * (1 if is_full else 219 / 255)
        noise = scale * rng.standard_normal((height, planes[0].shape[1]), np.float32)
        return [_levels(planes[0] + noise), *planes[1:]]
    if damage.kind == "darkness":
        black = 0 if is_full else 16
        dark = _levels(black + damage.amount * (planes[0].astype(np.float32) - black))
        faded = [
            _levels(128 + damage.amount * (plane.astype(np.float32) - 128)) for plane in planes[1:]
        ]
        return [dark, *faded]
    return planes


def _blurred(plane: Plane, deviation: float) -> Plane:
    made = cv2.GaussianBlur(np.ascontiguousarray(plane), (0, 0), max(deviation, 0.1))
    return np.asarray(made, np.uint8)


def _levels(values: NDArray[np.float32]) -> Plane:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


# Sound


def _sound(source: Source) -> tuple[NDArray[np.float32] | None, float]:
    """The sound as models hear it, and when it begins, in seconds after the first frame."""
    with open_container(source) as container:
        if not container.streams.audio:
            return None, 0.0
        track, video = container.streams.audio[0], container.streams.best("video")
        begins = float((track.start_time or 0) * (track.time_base or 0))
        zero = 0.0 if video is None else float((video.start_time or 0) * (video.time_base or 0))
    return read_sound(source), begins - zero


def _add_track(copy: OutputContainer) -> AudioStream:
    track = copy.add_stream("pcm_f32le", rate=SAMPLE_RATE, layout="mono")
    assert isinstance(track, AudioStream)
    return track


def _write_sound(
    copy: OutputContainer, track: AudioStream, samples: NDArray[np.float32], at: int
) -> None:
    for begin in range(0, len(samples), SAMPLE_RATE):
        piece = np.ascontiguousarray(samples[None, begin : begin + SAMPLE_RATE])
        frame = av.AudioFrame.from_ndarray(piece, format="flt", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, at + begin
        frame.time_base = Fraction(1, SAMPLE_RATE)
        copy.mux(track.encode(frame))
    copy.mux(track.encode(None))
