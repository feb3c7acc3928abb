"""Two ways to the frames of a video: seek to the ones wanted, or go through it in sequence.

Both number frames in the order that a sequential decode shows them. ``SeekingReader`` needs a
packet index and checks every frame against it; ``SequentialReader`` needs nothing and is always
right. ``choose_reader`` takes the cheaper one that is right.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from vidray.video.frames import Damage
from vidray.video.packet_index import PacketIndex
from vidray.video.stream import Pass, Stream

# Decoded frames of a video without an exact index are kept while they fit here (about 3,400 of
# 320x240 or 128 of 1080p), so that counting and reading cost one decode, not two.
_KEEP_BYTES = 384 << 20
# A video of no more pixels in all (327 frames of 320x240, 27 of 720p; a tenth of a second) is
# decoded sequentially though it has an index: 16 frames spread over it cost as much (measured), and
# whatever is wrong with it comes out.
_SHORT_PIXELS = 24 << 20
# A seek costs about as much as decoding this many frames on (320x240 H.264, local disk).
_SEEK_PAYS_FRAMES = 8


class IndexContradictedError(Exception):
    """Decoding showed other frames than the packets promised."""


class SeekingReader:
    """Decodes only the groups of frames that hold a wanted one.

    Attributes:
        stated_seconds: ``float64 (N,)``, when each frame is shown, by the container.
        has_exact_index: whether packets alone place every frame.
    """

    has_exact_index = True

    def __init__(self, stream: Stream, index: PacketIndex) -> None:
        self._stream = stream
        self._index = index
        self._found = 0  # Frames that were where the index has them.
        self.stated_seconds = stream.seconds(index.pts)

    @property
    def damage(self) -> Damage:
        """No damage: where the decoder marks a frame, the index is given up."""
        if not self._found:
            return Damage()
        return Damage(damaged_packets=0, corrupt_frames=0, corrupt_share=0.0)

    def frames(self, wanted: NDArray[np.int64]) -> Iterator[VideoFrame]:
        """The frames of these indices, which are below N and increase.

        Raises:
            IndexContradictedError: a frame is not where the index has it; frames given so far may
                be others, too.
        """
        numbered: Iterator[tuple[int, VideoFrame]] | None = None
        position = 0  # Index of the next frame to come out.
        for k in wanted.tolist():
            nearest = int(np.searchsorted(self._index.key_frames, k, side="right")) - 1
            key = int(self._index.key_frames[nearest])
            if numbered is None or key > position + _SEEK_PAYS_FRAMES:
                numbered = self._from_key_frame(key, int(self._index.key_seek_timestamps[nearest]))
            frame = next((frame for here, frame in numbered if here == k), None)
            if frame is None:
                raise IndexContradictedError
            yield frame
            position = k + 1

    def _from_key_frame(self, key: int, timestamp: int) -> Iterator[tuple[int, VideoFrame]]:
        """Frames from the key frame on, each with its index."""
        self._stream.seek(timestamp)
        expected = key
        for frame in self._stream.frames():
            here = self._place(frame)
            if expected == key and here < key:
                continue  # Before the key frame: a seek that fell short, or leading pictures.
            if here != expected or frame.is_corrupt or self._stream.so_far.damaged_packets:
                raise IndexContradictedError
            expected += 1
            self._found += 1
            yield here, frame

    def _place(self, frame: VideoFrame) -> int:
        """The index of a decoded frame."""
        pts = self._index.pts
        here = len(pts) if frame.pts is None else int(np.searchsorted(pts, frame.pts))
        if here == len(pts) or pts[here] != frame.pts:
            raise IndexContradictedError
        return here


class SequentialReader:
    """Decodes from the beginning: once to count the frames, and again unless they could be kept.

    Args:
        promised: when each frame is shown, by a packet index, to be confirmed.

    Attributes:
        stated_seconds: ``float64 (N,)``, when each frame is shown, by the container; NaN
            where nothing.
        has_exact_index: whether packets alone place every frame.

    Raises:
        VideoError: no frame decodes, or there are too many, or too many corrupt ones.
    """

    def __init__(self, stream: Stream, *, promised: NDArray[np.float64] | None = None) -> None:
        self._stream = stream
        self._kept: list[VideoFrame] | None = []
        self.stated_seconds = self._count()
        self._whole = stream.so_far
        self._refuse_what_is_too_corrupt()
        self.has_exact_index = (
            promised is not None
            and self._whole == Pass(frames=len(promised))
            and np.allclose(self.stated_seconds, promised)
        )

    def _count(self) -> NDArray[np.float64]:
        """Decode every frame, and keep them while they fit."""
        self._stream.rewind()
        stated: list[float] = []
        kept_bytes = 0
        for k, frame in enumerate(self._stream.frames()):
            if k >= self._stream.limits.max_frames:
                raise self._stream.limits.over("max_frames", f"over {k} frames")
            stated.append(math.nan if frame.time is None else frame.time)
            kept_bytes += sum(plane.buffer_size for plane in frame.planes)
            if self._kept is not None:
                self._kept.append(frame)
            if kept_bytes > _KEEP_BYTES:
                self._kept = None
        if not stated:
            raise self._stream.why_no_frame()
        return np.array(stated)

    def _refuse_what_is_too_corrupt(self) -> None:
        whole, limits = self._whole, self._stream.limits
        if whole.corrupt_frames > limits.max_corrupt_share * whole.frames:
            what = f"{whole.corrupt_frames} of {whole.frames} frames are corrupt"
            raise limits.over("max_corrupt_share", what)

    @property
    def damage(self) -> Damage:
        """The damage that the decoder met, of all frames."""
        return Damage(
            damaged_packets=self._whole.damaged_packets,
            corrupt_frames=self._whole.corrupt_frames,
            corrupt_share=self._whole.corrupt_frames / self._whole.frames,
        )

    def frames(self, wanted: NDArray[np.int64]) -> Iterator[VideoFrame]:
        """The frames of these indices, which are below N and increase."""
        if self._kept is not None:
            yield from (self._kept[k] for k in wanted.tolist())
            return
        remaining = iter(wanted.tolist())
        k = next(remaining, None)
        self._stream.rewind()
        for here, frame in enumerate(self._stream.frames()):
            if k is None:
                return
            if here == k:
                yield frame
                k = next(remaining, None)


def choose_reader(stream: Stream) -> SeekingReader | SequentialReader:
    """The cheaper way to a few frames of a video, of those that are right.

    Raises:
        VideoError: as ``SequentialReader``.
    """
    index = stream.index()
    if index is None:
        return SequentialReader(stream)
    if len(index.pts) * stream.header.width_px * stream.header.height_px > _SHORT_PIXELS:
        return SeekingReader(stream, index)
    return SequentialReader(stream, promised=stream.seconds(index.pts))
