"""An open container and its decoder: frames one after another, and what is wrong with them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import av
import av.error
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vidray.errors import VideoError
from vidray.video import demux, timestamps
from vidray.video.demux import Source
from vidray.video.frames import Limits
from vidray.video.pixels import quarter_turns

# Frames per second; a header's rate above it is a clock's.
_HIGHEST_RATE = 300


@dataclass
class Pass:
    """What came out since the decoder began to read on from one place."""

    frames: int = 0
    corrupt_frames: int = 0
    """Frames that the decoder marked: it made up what it could not read."""
    damaged_packets: int = 0
    """Packets that it refused."""


class Reader:
    """The video stream of one file, decoded from its beginning or from where ``seek`` leads.

    Raises:
        VideoError: the file does not open, or is over a cap.
    """

    def __init__(self, source: Source, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._open()
        try:
            self._refuse_what_is_too_large()
        except VideoError:
            self.close()
            raise
        self.rotation_degrees: int | None = None
        """Of the first frame; None until one is decoded."""

    def _open(self) -> None:
        if not isinstance(self._source, str | os.PathLike):
            self._source.seek(0)
        self.container = demux.open_container(self._source)
        try:
            self.stream = demux.choose_video_stream(self.container, self._source)
        except VideoError:
            self.container.close()
            raise
        context = self.stream.codec_context
        # One thread per process and as many processes as cores beat threads (measured on 2 cores).
        context.thread_count = 1
        context.thread_type = "SLICE"
        self.clock = timestamps.clock_of(self.container.format.name)
        self.size = (context.width, context.height)
        self.at_start = True  # No packet read since the container was opened.
        self.so_far = Pass()

    def _refuse_what_is_too_large(self) -> None:
        size_bytes = self.container.size
        if size_bytes > self._limits.max_bytes:
            raise self._limits.over("max_bytes", f"{size_bytes} bytes")
        self._refuse_large_frames(*self.size)

    def _refuse_large_frames(self, width_px: int, height_px: int) -> None:
        if width_px * height_px > self._limits.max_pixels:
            raise self._limits.over("max_pixels", f"frames of {width_px}x{height_px} pixels")

    @property
    def header_rates(self) -> list[float]:
        """Frames per second by the header, where those are rates somebody may film at."""
        rates = (self.stream.average_rate, self.stream.guessed_rate)
        return [float(rate) for rate in rates if rate and 0 < rate <= _HIGHEST_RATE]

    @property
    def header_rate(self) -> float | None:
        """The first of ``header_rates``."""
        return next(iter(self.header_rates), None)

    @property
    def sample_aspect_ratio(self) -> float:
        """Width of a pixel over its height; 1 where the header's is absurd."""
        aspect = self.stream.sample_aspect_ratio or self.stream.codec_context.sample_aspect_ratio
        return float(aspect) if aspect and 1 / 16 <= aspect <= 16 else 1.0

    def close(self) -> None:
        """Let go of the file."""
        self.container.close()

    def rewind(self) -> None:
        """Go back to the beginning, with a decoder that knows nothing of what it has seen."""
        if not self.at_start:
            self.container.close()
            self._open()

    def seek(self, timestamp: int) -> None:
        """Go to the key frame at or before ``timestamp``, or where that fails to the beginning."""
        try:
            self.container.seek(timestamp, stream=self.stream, backward=True)
        except av.error.FFmpegError:
            self.rewind()  # Some fragmented MP4s cannot seek.
        except OSError as error:
            raise demux.storage_failed(error) from error

    def frames(self) -> Iterator[VideoFrame]:
        """Frames from here on, in the order they are shown; ``so_far`` counts what is wrong.

        Raises:
            VideoError: the stream is encrypted, a frame is over the cap, the storage failed.
        """
        self.at_start = False
        self.so_far = Pass()
        for packet in self._packets():
            if packet.has_sidedata("encryption_info"):
                raise _encrypted()
            if self.clock == "decoded" and packet.dts is not None:
                packet.pts = packet.dts  # Instead of what FFmpeg takes for it.
            try:
                frames = packet.decode()
            except MemoryError:
                raise
            except av.error.FFmpegError:  # Whatever the decoder calls it.
                self.so_far.damaged_packets += 1
                continue
            for frame in frames:
                self._refuse_large_frames(frame.width, frame.height)
                if self.rotation_degrees is None:
                    self.rotation_degrees = quarter_turns(frame.rotation)
                self.so_far.frames += 1
                self.so_far.corrupt_frames += frame.is_corrupt
                yield frame

    def _packets(self) -> Iterator[av.Packet[VideoStream]]:
        """Packets from here on; the last one is empty and drains the decoder."""
        try:
            while True:
                # PyAV stumbles over a packet of a stream that began midway (in transport streams);
                # asked again, it goes on behind it.
                with contextlib.suppress(IndexError):
                    yield from self.container.demux(self.stream)
                    return
        except MemoryError:
            raise
        except av.error.FFmpegError:
            # The container is cut off here: what decoded so far is all there is.
            self.so_far.damaged_packets += 1
            drain = cast("av.Packet[VideoStream]", av.Packet())
            drain.stream = self.stream
            yield drain
        except OSError as error:
            raise demux.storage_failed(error) from error

    def why_no_frame(self) -> VideoError:
        """The reason, where ``frames`` gave none."""
        if demux.declares_encryption(self.container, self.stream, self._source):
            return _encrypted()
        if self.so_far.damaged_packets:
            refused = self.so_far.damaged_packets
            message = f"no frame decodes: the decoder refuses all {refused} packets"
        else:
            message = f"holds no frame, though its header declares {self.stream.frames}"
        return VideoError("unreadable", message)


def _encrypted() -> VideoError:
    return VideoError("encrypted", "the video stream is encrypted and there is no key for it")
