"""The header: a file's own account of its video, before a frame is decoded. Some of it is wrong."""

from __future__ import annotations

from dataclasses import dataclass

from av.container import InputContainer
from av.video.stream import VideoStream

from vidray.video import timestamps

# Frames per second; a header's rate above it is a clock's.
_HIGHEST_RATE = 300


@dataclass(frozen=True, kw_only=True)
class Header:
    """The container's and the stream's own account of themselves.

    Args:
        width_px, height_px: a frame as stored, when the file was opened: a stream may change later.
        sample_aspect_ratio: width of a pixel over its height; 1 where the header's is absurd.
        rates: frames per second, those that somebody may film at.
        duration_seconds: None where it states none.
        times: what the times in its packets are.
        num_video_streams: cover pictures are among them.
    """

    width_px: int
    height_px: int
    sample_aspect_ratio: float
    rates: tuple[float, ...]
    duration_seconds: float | None
    codec: str
    container: str
    times: timestamps.TimeKind
    num_video_streams: int
    has_sound: bool

    @property
    def rate(self) -> float | None:
        """The first of ``rates``."""
        return next(iter(self.rates), None)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of a frame as stored."""
        return self.width_px, self.height_px

    @property
    def square_pixel_size(self) -> tuple[int, int]:
        """(width, height) of a frame that is not turned yet, when its pixels are square."""
        return max(1, round(self.width_px * self.sample_aspect_ratio)), self.height_px


def read_header(container: InputContainer, stream: VideoStream) -> Header:
    """The header of an open container and of the stream that was chosen."""
    context = stream.codec_context
    return Header(
        width_px=context.width,
        height_px=context.height,
        sample_aspect_ratio=_sample_aspect_ratio(stream),
        rates=_rates(stream),
        duration_seconds=_duration_seconds(stream),
        codec=context.codec.canonical_name,
        container=container.format.name.split(",")[0],
        times=timestamps.kind_of_times(container.format.name),
        num_video_streams=len(container.streams.video),
        has_sound=bool(container.streams.audio),
    )


def _duration_seconds(stream: VideoStream) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return None


def _rates(stream: VideoStream) -> tuple[float, ...]:
    stated = (stream.average_rate, stream.guessed_rate)
    return tuple(float(rate) for rate in stated if rate and 0 < rate <= _HIGHEST_RATE)


def _sample_aspect_ratio(stream: VideoStream) -> float:
    aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    return float(aspect) if aspect and 1 / 16 <= aspect <= 16 else 1.0
