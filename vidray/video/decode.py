"""Frames of a video: exactly the ones asked for, straight to the wanted size.

Index k is the k-th frame that a sequential decode shows, in every container. Where the packet index
is exact, only the key frames' groups that hold a wanted frame are decoded; elsewhere, in short
videos, and whenever the decoder contradicts the index, the video is decoded sequentially. What an
index cannot tell: damage in a group of a long video that holds no wanted frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from vidray.video import timestamps
from vidray.video.demux import Source
from vidray.video.frames import (
    Damage,
    Frames,
    Limits,
    Probe,
    Request,
    Resize,
)
from vidray.video.packet_index import PacketIndex, index_packets
from vidray.video.pixels import quarter_turns, to_rgb
from vidray.video.reader import Pass, Reader

__all__ = ["Damage", "Frames", "Limits", "Probe", "Request", "Video", "probe", "read_frames"]

# Decoded frames of a video without an exact index are kept while they fit here (about 3,400 of
# 320x240 or 128 of 1080p), so that counting and reading cost one decode, not two.
_KEEP_BYTES = 384 << 20
# A video of no more pixels in all (327 frames of 320x240, 27 of 720p; a tenth of a second) is
# decoded sequentially though it has an index: 16 frames spread over it cost as much (measured), and
# whatever is wrong with it comes out.
_SHORT_PIXELS = 24 << 20
# A seek costs about as much as decoding this many frames on (320x240 H.264, local disk).
_SEEK_PAYS_FRAMES = 8


class Video:
    """One open video file. A context manager; not for several threads at once.

    Args:
        source: a local path, or a seekable binary file object (a bucket's).
        limits: above them the video is ``too_large``.

    Raises:
        VideoError: with the kind and the reason why there are no frames.
    """

    def __init__(self, source: Source, *, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._reader = Reader(source, self.limits)
        self._index: PacketIndex | None = None
        self._index_tried = False
        self._pts_seconds: NDArray[np.float64] | None = None
        self._kept: list[VideoFrame] | None = None
        self._position: int | None = None  # Index of the next frame to come out, where it is known.
        self._whole: Pass | None = None  # The pass that counted every frame.
        self._looked_at = 0  # Frames found where the index has them.

    def close(self) -> None:
        """Let go of the file and of decoded frames."""
        self._kept = None
        self._reader.close()

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def pts_seconds(self) -> NDArray[np.float64]:
        """``float64 (N,)``, strictly rising: when each of the N frames that decode is shown.

        Costs a pass over the packets, or where those cannot tell, one sequential decode.
        """
        if self._pts_seconds is None:
            self._pts_seconds = timestamps.presentation_seconds(
                self._stated_seconds(), rate=self._reader.header_rate, clock=self._reader.clock
            )
            self._refuse_what_is_too_long(self._pts_seconds)
        return self._pts_seconds

    def _stated_seconds(self) -> NDArray[np.float64]:
        """``float64 (N,)``: what the container states of each frame, NaN where nothing."""
        index = self._packet_index()
        if index is None:
            return self._decode_all()
        assert self._reader.stream.time_base is not None
        promised = index.pts.astype(np.float64) * float(self._reader.stream.time_base)
        if len(promised) * self.width_px * self.height_px > _SHORT_PIXELS:
            return promised
        decoded = self._decode_all()
        is_true = len(decoded) == len(promised) and np.allclose(decoded, promised)
        if not is_true or self._whole != Pass(frames=len(promised)):
            self._index = None
        return decoded

    def _refuse_what_is_too_long(self, pts_seconds: NDArray[np.float64]) -> None:
        seconds = self._duration_seconds(pts_seconds, self._frames_per_second(pts_seconds)) or 0.0
        if seconds > self.limits.max_seconds:
            raise self.limits.over("max_seconds", f"{seconds:.0f} seconds long")

    @property
    def damage(self) -> Damage:
        """What the decoder could not read right, of the frames it has looked at so far."""
        if self._whole is not None:
            return Damage(
                damaged_packets=self._whole.damaged_packets,
                corrupt_frames=self._whole.corrupt_frames,
                corrupt_share=self._whole.corrupt_frames / self._whole.frames,
            )
        if self._looked_at:
            return Damage(damaged_packets=0, corrupt_frames=0, corrupt_share=0.0)
        return Damage()

    @property
    def width_px(self) -> int:
        """Width of a frame as stored."""
        return int(self._reader.stream.codec_context.width)

    @property
    def height_px(self) -> int:
        """Height of a frame as stored."""
        return int(self._reader.stream.codec_context.height)

    @property
    def num_video_streams(self) -> int:
        """Video streams of the file, of which this is one; cover pictures are among them."""
        return len(self._reader.container.streams.video)

    @property
    def has_exact_index(self) -> bool:
        """Whether packets alone tell every frame, so that reading can seek."""
        return self._packet_index() is not None

    @property
    def frames_per_second(self) -> float | None:
        """The header's rate where the frames bear it out, but for a few lost, else their mean."""
        return self._frames_per_second(self.pts_seconds)

    @property
    def duration_seconds(self) -> float | None:
        """From the first frame shown to the last one gone."""
        return self._duration_seconds(self.pts_seconds, self.frames_per_second)

    @property
    def num_frames(self) -> int:
        """How many frames decode."""
        return len(self.pts_seconds)

    def probe(self, *, count_frames: bool = True) -> Probe:
        """The video's properties; with ``count_frames`` its frames are counted, not believed."""
        context = self._reader.stream.codec_context
        pts_seconds = self.pts_seconds if count_frames else None
        rate = self._frames_per_second(pts_seconds)
        return Probe(
            width_px=context.width,
            height_px=context.height,
            rotation_degrees=self._first_frame_rotation(),
            sample_aspect_ratio=self._reader.sample_aspect_ratio,
            duration_seconds=self._duration_seconds(pts_seconds, rate),
            frames_per_second=rate,
            num_frames=None if pts_seconds is None else len(pts_seconds),
            codec=context.codec.canonical_name,
            container=self._reader.container.format.name.split(",")[0],
            has_sound=bool(self._reader.container.streams.audio),
        )

    def read(self, *requests: Request) -> list[Frames]:
        """The frames of each request, decoded in one pass.

        Raises:
            IndexError: a frame beyond the last.
            VideoError: no frame decodes, or a cap is exceeded.
        """
        try:
            return self._read(requests)
        except IndexContradictedError:
            return self._read(requests)  # From the start: frames found so far may be others.

    def stream(self, request: Request) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """(index, pixels ``uint8 (H, W, 3)``) of each frame wanted, once and in increasing order.

        For more frames than memory holds: one at a time.

        Raises:
            IndexContradictedError: the frames given so far may be others than they were said to be;
                what was made of them is to be made again, from ``num_frames`` on.
            VideoError: as ``read``.
        """
        wanted = np.unique(np.asarray(request.frame_indices, dtype=np.int64))
        for k, frame in zip(wanted.tolist(), self._frames_at(wanted), strict=False):
            yield k, self._to_rgb(frame, request.size, request.resize)

    def _read(self, requests: Sequence[Request]) -> list[Frames]:
        indices = [np.asarray(request.frame_indices, dtype=np.int64) for request in requests]
        wanted = np.unique(np.concatenate([np.zeros(0, np.int64), *indices]))  # (U,)
        if len(wanted) and wanted[-1] >= self.num_frames:
            last = self.num_frames - 1
            raise IndexError(
                f"frame {wanted[-1]} asked for, the video has {last + 1} (0 to {last})"
            )
        pixels_of: list[dict[int, NDArray[np.uint8]]] = [{} for _ in requests]
        for k, frame in zip(wanted.tolist(), self._frames_at(wanted), strict=True):
            for request, mine, pixels in zip(requests, indices, pixels_of, strict=True):
                if k in mine:
                    pixels[k] = self._to_rgb(frame, request.size, request.resize)
        return [self._gather(mine, pixels) for mine, pixels in zip(indices, pixels_of, strict=True)]

    def _gather(self, indices: NDArray[np.int64], pixels: dict[int, NDArray[np.uint8]]) -> Frames:
        if not len(indices):
            return Frames(np.zeros((0, 0, 0, 3), np.uint8), np.zeros(0), indices)
        stacked = np.stack([pixels[k] for k in indices.tolist()])
        return Frames(stacked, self.pts_seconds[indices], indices)

    # How frames are found.

    def _frames_at(self, wanted: NDArray[np.int64]) -> Iterator[VideoFrame]:
        """Frames of increasing indices; stops early where the video ends."""
        wanted = wanted[wanted < self.num_frames]
        index = self._packet_index()
        if self._kept is not None:
            yield from (self._kept[k] for k in wanted)
        elif index is None:
            yield from self._sequential_frames(wanted)
        else:
            found = 0
            for frame in self._seek_frames(index, wanted):
                yield frame
                found += 1
            if found < len(wanted):
                self._distrust_index()
                raise IndexContradictedError

    def _distrust_index(self) -> None:
        """The decoder contradicted the packets: from now on this video is decoded sequentially."""
        self._index, self._pts_seconds = None, None

    def _packet_index(self) -> PacketIndex | None:
        if not self._index_tried:
            self._index_tried = True
            self._index = index_packets(
                self._reader.container, self._reader.stream, limits=self.limits
            )
            self._reader.at_start = False
        return self._index

    def _seek_frames(self, index: PacketIndex, wanted: NDArray[np.int64]) -> Iterator[VideoFrame]:
        """Sparse reading. Ends without an error when a frame is not where the index has it."""
        decoded: Iterator[VideoFrame] | None = None
        for k in wanted:
            nearest = int(np.searchsorted(index.key_frames, k, side="right")) - 1
            key = int(index.key_frames[nearest])
            behind = self._position is None or k < self._position
            if decoded is None or behind or key > (self._position or 0) + _SEEK_PAYS_FRAMES:
                self._reader.seek(int(index.key_seek_timestamps[nearest]))
                self._position = None
                decoded = self._reader.frames()
            frame = self._advance(index, decoded, int(k), key)
            if frame is None:
                return
            yield frame

    def _advance(
        self, index: PacketIndex, decoded: Iterator[VideoFrame], k: int, key: int
    ) -> VideoFrame | None:
        """Decode on to frame k; None when the decoder's frames are not the index's frames."""
        for frame in decoded:
            if frame.pts is None:
                return None
            here = int(np.searchsorted(index.pts, frame.pts))
            if here >= len(index.pts) or index.pts[here] != frame.pts:
                return None
            if self._position is None and here < key:
                continue  # Before the key frame: a seek that fell short, or leading pictures.
            expected = key if self._position is None else self._position
            if here != expected or frame.is_corrupt or self._reader.so_far.damaged_packets:
                return None
            self._position = here + 1
            self._looked_at += 1
            if here == k:
                return frame
        return None

    def _sequential_frames(self, wanted: NDArray[np.int64]) -> Iterator[VideoFrame]:
        self._reader.rewind()
        remaining = iter(wanted.tolist())
        k = next(remaining, None)
        for here, frame in enumerate(self._reader.frames()):
            if k is None:
                return
            if here == k:
                yield frame
                k = next(remaining, None)

    def _decode_all(self) -> NDArray[np.float64]:
        """One sequential pass that counts every frame, keeping them while they fit.

        Returns:
            ``float64 (N,)``: what the container states of when they are shown, NaN where nothing.
        """
        self._reader.rewind()
        kept: list[VideoFrame] | None = []
        stated: list[float] = []
        kept_bytes = 0
        for k, frame in enumerate(self._reader.frames()):
            if k >= self.limits.max_frames:
                raise self.limits.over("max_frames", f"over {k} frames")
            stated.append(math.nan if frame.time is None else frame.time)
            kept_bytes += sum(plane.buffer_size for plane in frame.planes)
            if kept is not None:
                kept.append(frame)
            if kept_bytes > _KEEP_BYTES:
                kept = None
        if not stated:
            raise self._reader.why_no_frame()
        self._whole, self._kept = self._reader.so_far, kept
        corrupt, frames = self._whole.corrupt_frames, self._whole.frames
        if corrupt > self.limits.max_corrupt_share * frames:
            raise self.limits.over("max_corrupt_share", f"{corrupt} of {frames} frames are corrupt")
        return np.array(stated)

    # What frames look like.

    def _first_frame_rotation(self) -> int:
        if self._reader.rotation_degrees is None:
            self._reader.rewind()
            if next(self._reader.frames(), None) is None:
                raise self._reader.why_no_frame()
            self._position = None
        return self._reader.rotation_degrees or 0

    def _to_rgb(
        self, frame: VideoFrame, size: tuple[int, int] | None, resize: Resize
    ) -> NDArray[np.uint8]:
        rotation = quarter_turns(frame.rotation)
        if resize == "as_stored":
            size, rotation = self._reader.size, 0  # A stream that changes its size: as it began.
        elif size is None:
            size = self._square_pixel_size()
        elif rotation % 180:
            size = size[::-1]
        return to_rgb(frame, size=size, resize=resize, rotation_degrees=rotation)

    def _square_pixel_size(self) -> tuple[int, int]:
        width_px, height_px = self._reader.size
        return max(1, round(width_px * self._reader.sample_aspect_ratio)), height_px

    def _frames_per_second(self, pts_seconds: NDArray[np.float64] | None) -> float | None:
        if pts_seconds is None:
            return self._reader.header_rate
        return timestamps.mean_rate(pts_seconds, self._reader.header_rates)

    def _duration_seconds(
        self, pts_seconds: NDArray[np.float64] | None, rate: float | None
    ) -> float | None:
        if pts_seconds is not None:
            return timestamps.duration_seconds(pts_seconds, rate) if rate else None
        if self._reader.stream.duration and self._reader.stream.time_base:
            return float(self._reader.stream.duration * self._reader.stream.time_base)
        return None


class IndexContradictedError(Exception):
    """Decoding showed other frames than the packets promised."""


def probe(source: Source, *, count_frames: bool = True, limits: Limits | None = None) -> Probe:
    """Properties of a video file. Raises VideoError."""
    with Video(source, limits=limits) as video:
        return video.probe(count_frames=count_frames)


def read_frames(
    source: Source,
    *,
    frame_indices: Sequence[int] | NDArray[np.int64],
    width_px: int | None = None,
    height_px: int | None = None,
    limits: Limits | None = None,
) -> Frames:
    """The frames of these indices, upright and with square pixels unless a size is given.

    Returns:
        Frames with ``uint8 (T, H, W, 3)`` pixels, in the order asked for.

    Raises:
        VideoError: the kind and the reason why there are no frames.
        IndexError: a frame beyond the last.
    """
    with Video(source, limits=limits) as video:
        return video.read(Request(frame_indices, width_px, height_px))[0]
