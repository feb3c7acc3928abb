"""The open video stream of a file: frames one after another, and what is wrong with them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import av
import av.error
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vidray.errors import VideoError
from vidray.video import demux
from vidray.video.demux import Source
from vidray.video.frames import Limits
from vidray.video.header import read_header
from vidray.video.packet_index import PacketIndex, index_packets
from vidray.video.pixels import quarter_turns


@dataclass
class Pass:
    """Counts of what came out since the decoder began to read on from one place."""

    frames: int = 0
    corrupt_frames: int = 0
    """Frames that the decoder marked: it made up what it could not read."""
    damaged_packets: int = 0
    """Packets that it refused."""


class Stream:
    """The video stream of one file, decoded from its beginning or from where ``seek`` leads.

    Raises:
        VideoError: the file does not open, or is over a cap.
    """

    def __init__(self, source: Source, limits: Limits) -> None:
        self.limits = limits
        self._source = source
        self._first_rotation: int | None = None  # None until a frame is decoded.
        self._open()
        self.header = read_header(self._container, self._stream)
        try:
            self._refuse_what_is_too_large()
        except VideoError:
            self.close()
            raise

    def _open(self) -> None:
        if not isinstance(self._source, str | os.PathLike):
            self._source.seek(0)
        self._container = demux.open_container(self._source)
        try:
            self._stream = demux.choose_video_stream(self._container, self._source)
        except VideoError:
            self._container.close()
            raise
        context = self._stream.codec_context
        # One thread per process and as many processes as cores beat threads (measured on 2 cores).
        context.thread_count = 1
        context.thread_type = "SLICE"
        self._at_start = True  # No packet read since the container was opened.
        self.so_far = Pass()

    def _refuse_what_is_too_large(self) -> None:
        size_bytes = self._container.size
        if size_bytes > self.limits.max_bytes:
            raise self.limits.over("max_bytes", f"{size_bytes} bytes")
        self._refuse_large_frames(*self.header.size)

    def _refuse_large_frames(self, width_px: int, height_px: int) -> None:
        if width_px * height_px > self.limits.max_pixels:
            raise self.limits.over("max_pixels", f"frames of {width_px}x{height_px} pixels")

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def index(self) -> PacketIndex | None:
        """Every frame's place, from a pass over all packets; None where they are not enough."""
        self._at_start = False
        return index_packets(self._container, self._stream, limits=self.limits)

    def seconds(self, pts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Times in the stream's own unit as seconds, ``float64`` of the same shape."""
        assert self._stream.time_base is not None
        return pts.astype(np.float64) * float(self._stream.time_base)

    def rewind(self) -> None:
        """Go back to the beginning, with a fresh decoder."""
        if not self._at_start:
            self._container.close()
            self._open()

    def seek(self, timestamp: int) -> None:
        """Go to the key frame at or before ``timestamp``, or where that fails to the beginning."""
        try:
            self._container.seek(timestamp, stream=self._stream, backward=True)
        except av.error.FFmpegError:
            self.rewind()  # Some fragmented MP4s cannot seek.
        except OSError as error:
            raise demux.storage_failed(error) from error

    def frames(self) -> Iterator[VideoFrame]:
        """Frames from here on, in the order they are shown; ``so_far`` counts what is wrong.

        Raises:
            VideoError: the stream is encrypted, a frame is over the cap, the storage failed.
        """
        self._at_start = False
        self.so_far = Pass()
        for packet in self._packets():
            if packet.has_sidedata("encryption_info"):
                raise _encrypted()
            if self.header.times == "decoded" and packet.dts is not None:
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
                if self._first_rotation is None:
                    self._first_rotation = quarter_turns(frame.rotation)
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
                    yield from self._container.demux(self._stream)
                    return
        except MemoryError:
            raise
        except av.error.FFmpegError:
            # The container is cut off here: what decoded so far is all there is.
            self.so_far.damaged_packets += 1
            drain = cast("av.Packet[VideoStream]", av.Packet())
            drain.stream = self._stream
            yield drain
        except OSError as error:
            raise demux.storage_failed(error) from error

    def first_frame_rotation(self) -> int:
        """Counter-clockwise degrees that turn the first frame upright: 0, 90, 180 or 270.

        Goes back to the beginning and decodes that frame, unless one was decoded before.
        """
        if self._first_rotation is None:
            self.rewind()
            if next(self.frames(), None) is None:
                raise self.why_no_frame()
        return self._first_rotation or 0

    def why_no_frame(self) -> VideoError:
        """The reason, where ``frames`` gave none."""
        if demux.declares_encryption(self._container, self._stream, self._source):
            return _encrypted()
        if self.so_far.damaged_packets:
            refused = self.so_far.damaged_packets
            message = f"no frame decodes: the decoder refuses all {refused} packets"
        else:
            message = f"holds no frame, though its header declares {self._stream.frames}"
        return VideoError("unreadable", message)


def _encrypted() -> VideoError:
    return VideoError("encrypted", "the video stream is encrypted and there is no key for it")
