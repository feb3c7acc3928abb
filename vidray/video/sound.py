"""The sound of a video: its first track as mono samples at 16 kHz, and what is wrong with it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

from vidray.errors import VideoError
from vidray.video import demux
from vidray.video.demux import Source

SAMPLE_RATE = 16_000

# Ten minutes say what a video sounds like, and are 38 MB.
MAX_SECONDS = 600.0
# To what begins later than this one seeks: reading that far costs about a tenth of a second. What a
# decoder and a filter need before their first right sample is far shorter than the lead.
_SEEK_PAYS_SECONDS, _LEAD_SECONDS = 30.0, 2.0
# The clock of these may be set anew at any moment, in a file that was joined of two, so that a time
# may come twice. It was if it goes back, or leaps.
_BROADCAST_FORMATS = ("mpegts", "mpeg")
_CLOCK_TREMBLES_SECONDS, _LONGEST_GAP_SECONDS = 0.5, 10.0
# A damaged track can refuse packet after packet; after this many the rest is given up.
_MAX_DAMAGED_PACKETS = 100


@dataclass(frozen=True, kw_only=True)
class Sound:
    """The sound of a video, as far as it could be read.

    Args:
        samples: mono ``float32 (n,)`` at 16 kHz, n >= 1; None where there is no sound.
        problem: one sentence on what is missing or damaged; None where all was read.
    """

    samples: NDArray[np.float32] | None
    problem: str | None

    def __post_init__(self) -> None:
        if self.samples is None and self.problem is None:
            raise ValueError("a Sound without samples says why: give its problem")
        if self.samples is not None and (self.samples.ndim != 1 or not self.samples.size):
            raise ValueError(f"samples have shape {self.samples.shape}, should be (n,) with n >= 1")


def read_sound(
    source: Source,
    *,
    max_seconds: float = MAX_SECONDS,
    begin_seconds: float = -math.inf,
    end_seconds: float = math.inf,
) -> NDArray[np.float32] | None:
    """The first sound track, mean of its channels, ``float32 (n,)`` at 16 kHz; None without one.

    ``load_sound`` says why there is none, and what else is wrong.
    """
    return load_sound(
        source, max_seconds=max_seconds, begin_seconds=begin_seconds, end_seconds=end_seconds
    ).samples


def load_sound(
    source: Source,
    *,
    max_seconds: float = MAX_SECONDS,
    begin_seconds: float = -math.inf,
    end_seconds: float = math.inf,
) -> Sound:
    """The first sound track and what is wrong with it. Damage costs the damaged part only.

    Args:
        source: path, or a binary file that can seek; it is read from its beginning.
        max_seconds: the rest of a longer track is left unread, which bounds memory and time.
        begin_seconds, end_seconds: only what is heard then, counted from when the container shows
            the first frame of its video (from its zero, if it has none).

    Raises:
        ValueError: ``max_seconds`` is not above 0.
    """
    if not max_seconds > 0:
        raise ValueError(f"max_seconds is {max_seconds}, should be above 0")
    for seek in (True, False) if begin_seconds > _SEEK_PAYS_SECONDS else (False,):
        reader = _Reader(max_seconds=max_seconds, begin=begin_seconds, end=end_seconds)
        try:
            if not isinstance(source, str | PathLike):
                source.seek(0)
            with demux.open_container(source) as container:
                reader.read(container, seek=seek)
        except _SeekFailedError:
            continue
        except (av.FFmpegError, OSError, ValueError, VideoError) as error:
            # What was decoded before a container broke off is still worth hearing.
            reader.problem = f"the sound cannot be read on: {_why(error)}"
        break
    return reader.result()


class _SeekFailedError(Exception):
    """The track must be read from its beginning."""


class _Reader:
    """Collects samples up to a limit and remembers what went wrong."""

    def __init__(self, *, max_seconds: float, begin: float, end: float) -> None:
        self.problem: str | None = None
        self._pieces: list[NDArray[np.float32]] = []
        self._begin, self._end = begin, end
        self._room = round(max_seconds * SAMPLE_RATE)
        self._early = 0  # samples still to come before ``begin``

    def read(self, container: Any, *, seek: bool) -> None:
        if not container.streams.audio:
            self.problem = "no sound track"
            return
        track = container.streams.audio[0]
        zero = _first_frame_seconds(container)
        self._begin, self._end = zero + self._begin, zero + self._end
        if seek:
            _seek(container, track, self._begin - _LEAD_SECONDS)
        # Channels stay apart here: FFmpeg's own mono is 3 dB louder than their mean. They stay
        # interleaved: PyAV 18.1 crashes on eight planes (it counts nine), as in 7.1 sound.
        resampler = av.AudioResampler(format="flt", rate=SAMPLE_RATE)
        for decoded in self._within(self._decode(container, track), is_sought=seek):
            self._keep(resampler.resample(decoded))
            if self._room == 0:
                return
        self._keep(resampler.resample(None))  # what the resampling filter still holds

    def _within(self, frames: Iterator[AudioFrame], *, is_sought: bool) -> Iterator[AudioFrame]:
        """The frames, one after the other, that are heard between begin and end."""
        is_new, is_first = is_sought, True
        for comes, frame in _timed(frames, untold=math.inf if is_sought else 0.0):
            if is_new and comes > self._begin:
                raise _SeekFailedError
            is_new = False
            if comes >= self._end:
                return
            if comes + frame.samples / frame.sample_rate <= self._begin:
                continue
            if is_first and math.isfinite(self._begin):
                self._early = max(0, round((self._begin - comes) * SAMPLE_RATE))
            if is_first and math.isfinite(self._end):
                heard = round((self._end - max(comes, self._begin)) * SAMPLE_RATE)
                self._room = min(self._room, heard)
            is_first = False
            yield frame

    def _decode(self, container: Any, track: Any) -> Iterator[AudioFrame]:
        damaged = 0
        for packet in container.demux(track):
            try:
                yield from packet.decode()
            except (av.FFmpegError, ValueError) as error:
                damaged += 1
                self.problem = f"{damaged} damaged sound packets, the last: {_why(error)}"
                if damaged == _MAX_DAMAGED_PACKETS:
                    return

    def _keep(self, resampled: list[AudioFrame]) -> None:
        for frame in resampled:
            if frame.format.name != "flt" or frame.sample_rate != SAMPLE_RATE:
                raise ValueError("the sound changes its format midway")
            channels = frame.to_ndarray().reshape(-1, frame.layout.nb_channels)  # (n, channels)
            late = channels[self._early :]
            self._early -= len(channels) - len(late)
            piece = late.mean(axis=1, dtype=np.float32)[: self._room]  # (n,)
            self._pieces.append(piece)
            self._room -= piece.size

    def result(self) -> Sound:
        samples = np.concatenate(self._pieces) if self._pieces else np.empty(0, np.float32)
        if samples.size == 0:
            return Sound(samples=None, problem=self.problem or "the sound track is empty")
        if not np.isfinite(samples).all():
            # Float tracks can hold NaN; silence there leaves the rest to be heard.
            samples = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
            self.problem = self.problem or "the sound holds values that are not finite"
        return Sound(samples=samples, problem=self.problem)


def _timed(frames: Iterator[AudioFrame], *, untold: float) -> Iterator[tuple[float, AudioFrame]]:
    """Each frame with its time, by a clock that goes on where the container's is reset.

    Args:
        untold: when the first one comes, if it does not say.
    """
    gone: float | None = None  # when the frame before ended
    shift = 0.0
    for frame in frames:
        comes = (untold if gone is None else gone) if frame.time is None else frame.time + shift
        gap = 0.0 if gone is None else comes - gone
        if not -_CLOCK_TREMBLES_SECONDS < gap < _LONGEST_GAP_SECONDS:
            shift, comes = shift - gap, comes - gap
        gone = comes + frame.samples / frame.sample_rate
        yield comes, frame


def _first_frame_seconds(container: Any) -> float:
    video = container.streams.best("video")
    return 0.0 if video is None else float((video.start_time or 0) * video.time_base)


def _seek(container: Any, track: Any, seconds: float) -> None:
    if container.format.name in _BROADCAST_FORMATS:
        raise _SeekFailedError
    try:
        container.seek(int(seconds / track.time_base), stream=track, backward=True)
    except (av.FFmpegError, OSError):
        raise _SeekFailedError from None


def _why(error: Exception) -> str:
    """The words of an error, without the path that FFmpeg's and the system's append."""
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(said).splitlines()[0]
