"""Frames of a video: exactly the ones asked for, straight to the wanted size.

Index k is the k-th frame that a sequential decode shows, in every container. Where the packet index
is exact, only the key frames' groups that hold a wanted frame are decoded; elsewhere, and whenever
the decoder contradicts the index, the video is decoded sequentially.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import av
import av.error
import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from vidray import demux
from vidray.demux import PacketIndex, Source
from vidray.errors import VideoError
from vidray.frames import Frames, Limits, Probe, Request, Resize

__all__ = ["Frames", "Limits", "Probe", "Request", "Video", "probe", "read_frames"]

# Decoded frames of a video without an exact index are kept while they fit here (about 3,400 of
# 320x240 or 128 of 1080p), so that counting and reading cost one decode, not two.
_KEEP_BYTES = 384 << 20
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
        self._source = source
        self._limits = limits or Limits()
        self._open()
        try:
            self._refuse_what_is_too_large()
        except VideoError:
            self.close()
            raise
        self._index: PacketIndex | None = None
        self._index_tried = False
        self._pts_seconds: NDArray[np.float64] | None = None
        self._kept: list[VideoFrame] | None = None
        self._rotation_degrees: int | None = None
        self.damaged_packets = 0

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
        self._size = (context.width, context.height)
        self._at_start = True  # No packet read since the container was opened.
        self._position: int | None = None  # Index of the next frame to come out, where it is known.
        self._damaged_in_pass = 0

    def _refuse_what_is_too_large(self) -> None:
        limits, context = self._limits, self._stream.codec_context
        size_bytes = self._container.size
        if size_bytes > limits.max_bytes:
            raise VideoError("too_large", f"{size_bytes} bytes, the cap is {limits.max_bytes}")
        self._refuse_large_frames(context.width, context.height)

    def _refuse_large_frames(self, width_px: int, height_px: int) -> None:
        cap = self._limits.max_pixels
        if width_px * height_px > cap:
            size = f"{width_px}x{height_px}"
            raise VideoError("too_large", f"frames of {size}, the cap is {cap} pixels")

    def close(self) -> None:
        """Let go of the file and of decoded frames."""
        self._kept = None
        self._container.close()

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def pts_seconds(self) -> NDArray[np.float64]:
        """``float64 (N,)``: when each frame is shown; N is the number of frames that decode.

        Costs a pass over the packets, or where those cannot tell, one sequential decode.
        """
        if self._pts_seconds is None:
            if self._packet_index() is not None:
                self._pts_seconds = self._packet_index_seconds()
            else:
                self._decode_all()
            assert self._pts_seconds is not None
            self._refuse_what_is_too_long(self._pts_seconds)
        return self._pts_seconds

    def _refuse_what_is_too_long(self, pts_seconds: NDArray[np.float64]) -> None:
        seconds = self._duration_seconds(pts_seconds, self._frames_per_second(pts_seconds)) or 0.0
        if seconds > self._limits.max_seconds:
            cap = self._limits.max_seconds
            raise VideoError("too_large", f"{seconds:.0f} seconds long, the cap is {cap:.0f}")

    @property
    def width_px(self) -> int:
        """Width of a frame as stored."""
        return int(self._stream.codec_context.width)

    @property
    def height_px(self) -> int:
        """Height of a frame as stored."""
        return int(self._stream.codec_context.height)

    @property
    def has_exact_index(self) -> bool:
        """Whether packets alone tell every frame, so that reading can seek."""
        return self._packet_index() is not None

    @property
    def frames_per_second(self) -> float | None:
        """The header's rate where the frames bear it out to 0.5 %, else the frames' mean rate."""
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
        context = self._stream.codec_context
        pts_seconds = self.pts_seconds if count_frames else None
        rate = self._frames_per_second(pts_seconds)
        return Probe(
            width_px=context.width,
            height_px=context.height,
            rotation_degrees=self._first_frame_rotation(),
            sample_aspect_ratio=self._sample_aspect_ratio(),
            duration_seconds=self._duration_seconds(pts_seconds, rate),
            frames_per_second=rate,
            num_frames=None if pts_seconds is None else len(pts_seconds),
            codec=context.codec.canonical_name,
            container=self._container.format.name.split(",")[0],
            has_sound=bool(self._container.streams.audio),
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
        for k, (frame, _) in zip(wanted.tolist(), self._frames_at(wanted), strict=False):
            yield k, self._to_rgb(frame, request.size, request.resize)

    def _read(self, requests: Sequence[Request]) -> list[Frames]:
        indices = [np.asarray(request.frame_indices, dtype=np.int64) for request in requests]
        wanted = np.unique(np.concatenate([np.zeros(0, np.int64), *indices]))  # (U,)
        seconds_of: dict[int, float] = {}
        pixels_of: list[dict[int, NDArray[np.uint8]]] = [{} for _ in requests]
        for k, (frame, seconds) in zip(wanted.tolist(), self._frames_at(wanted), strict=False):
            seconds_of[k] = seconds
            for request, mine, pixels in zip(requests, indices, pixels_of, strict=True):
                if k in mine:
                    pixels[k] = self._to_rgb(frame, request.size, request.resize)
        if len(seconds_of) < len(wanted):
            last = self.num_frames - 1
            raise IndexError(
                f"frame {wanted[-1]} asked for, the video has {last + 1} (0 to {last})"
            )
        return [
            _gather(mine, pixels, seconds_of)
            for mine, pixels in zip(indices, pixels_of, strict=True)
        ]

    # How frames are found.

    def _frames_at(self, wanted: NDArray[np.int64]) -> Iterator[tuple[VideoFrame, float]]:
        """Yield (frame, pts_seconds) for increasing indices; stops early where the video ends."""
        if self._kept is not None:
            for k in wanted[wanted < len(self._kept)]:
                yield self._kept[k], float(self.pts_seconds[k])
            return
        index = self._packet_index()
        if index is None:
            yield from self._sequential_frames(wanted)
            return
        found = 0
        for frame, seconds in self._seek_frames(index, wanted):
            yield frame, seconds
            found += 1
        if found < len(wanted) and wanted[found] < len(index.pts):
            self._distrust_index()
            raise IndexContradictedError

    def _distrust_index(self) -> None:
        """The decoder contradicted the packets: from now on this video is decoded sequentially."""
        self._index, self._pts_seconds = None, None

    def _rewind(self) -> None:
        if not self._at_start:
            self._container.close()
            self._open()

    def _packet_index(self) -> PacketIndex | None:
        if not self._index_tried:
            self._index_tried = True
            self._index = demux.index_packets(
                self._container, self._stream, max_frames=self._limits.max_frames
            )
            self._at_start = False
        return self._index

    def _packet_index_seconds(self) -> NDArray[np.float64]:
        assert self._index is not None
        assert self._stream.time_base is not None
        return self._index.pts.astype(np.float64) * float(self._stream.time_base)

    def _seek_frames(
        self, index: PacketIndex, wanted: NDArray[np.int64]
    ) -> Iterator[tuple[VideoFrame, float]]:
        """Sparse reading. Ends without an error when a frame is not where the index has it."""
        assert self._stream.time_base is not None
        time_base = float(self._stream.time_base)
        decoded: Iterator[VideoFrame] | None = None
        for k in wanted[wanted < len(index.pts)]:
            nearest = int(np.searchsorted(index.key_frames, k, side="right")) - 1
            key = int(index.key_frames[nearest])
            behind = self._position is None or k < self._position
            if decoded is None or behind or key > (self._position or 0) + _SEEK_PAYS_FRAMES:
                decoded = self._start_at(index, nearest)
            frame = self._advance(index, decoded, int(k), key)
            if frame is None:
                return
            yield frame, int(index.pts[k]) * time_base

    def _start_at(self, index: PacketIndex, nearest: int) -> Iterator[VideoFrame]:
        timestamp = int(index.key_seek_timestamps[nearest])
        try:
            self._container.seek(timestamp, stream=self._stream, backward=True)
        except (av.error.FFmpegError, OSError):
            self._rewind()  # Some fragmented MP4s cannot seek: decode from the start.
        self._position = None
        return self._decoded_frames()

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
            if here != expected or self._damaged_in_pass:
                return None
            self._position = here + 1
            if here == k:
                return frame
        return None

    def _sequential_frames(self, wanted: NDArray[np.int64]) -> Iterator[tuple[VideoFrame, float]]:
        self._rewind()
        remaining = iter(wanted.tolist())
        k = next(remaining, None)
        for here, frame in enumerate(self._decoded_frames()):
            if k is None:
                return
            if here == k:
                yield frame, self._seconds_of(frame, here)
                k = next(remaining, None)

    def _decode_all(self) -> None:
        """One sequential pass that counts and times every frame, keeping them while they fit."""
        self._rewind()
        kept: list[VideoFrame] | None = []
        seconds: list[float] = []
        kept_bytes = 0
        for k, frame in enumerate(self._decoded_frames()):
            if k >= self._limits.max_frames:
                raise VideoError(
                    "too_large", f"over {self._limits.max_frames} frames, the cap on frames"
                )
            seconds.append(self._seconds_of(frame, k))
            kept_bytes += sum(plane.buffer_size for plane in frame.planes)
            if kept is not None:
                kept.append(frame)
            if kept_bytes > _KEEP_BYTES:
                kept = None
        self.damaged_packets = self._damaged_in_pass
        if not seconds:
            raise self._why_no_frame()
        self._kept, self._pts_seconds = kept, np.array(seconds)

    def _decoded_frames(self) -> Iterator[VideoFrame]:
        """Frames in the order they are shown; packets the decoder refuses are counted."""
        self._at_start = False
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except MemoryError:
                raise
            except (av.error.FFmpegError, OSError):
                self._damaged_in_pass += 1
                return  # The container is cut off here: what decoded so far is all there is.
            if packet.has_sidedata("encryption_info"):
                raise _encrypted()
            try:
                frames = packet.decode()
            except (av.error.InvalidDataError, av.error.PatchWelcomeError, av.error.UnknownError):
                self._damaged_in_pass += 1
                continue
            for frame in frames:
                self._refuse_large_frames(frame.width, frame.height)
                if self._rotation_degrees is None:
                    self._rotation_degrees = _upright(frame.rotation)
                yield frame

    def _seconds_of(self, frame: VideoFrame, k: int) -> float:
        if frame.pts is not None and frame.time_base:
            return float(frame.pts * frame.time_base)
        rate = self._stream.average_rate
        return k / float(rate) if rate else float("nan")

    def _why_no_frame(self) -> VideoError:
        if demux.declares_encryption(self._container, self._stream, self._source):
            return _encrypted()
        if self._damaged_in_pass:
            message = f"no frame decodes: the decoder refuses all {self._damaged_in_pass} packets"
        else:
            message = f"holds no frame, though its header declares {self._stream.frames}"
        return VideoError("unreadable", message)

    # What frames look like.

    def _first_frame_rotation(self) -> int:
        if self._rotation_degrees is None:
            self._rewind()
            if next(self._decoded_frames(), None) is None:
                raise self._why_no_frame()
            self._position = None
        return self._rotation_degrees or 0

    def _sample_aspect_ratio(self) -> float:
        aspect = self._stream.sample_aspect_ratio or self._stream.codec_context.sample_aspect_ratio
        return float(aspect) if aspect and 1 / 16 <= aspect <= 16 else 1.0

    def _to_rgb(
        self, frame: VideoFrame, size: tuple[int, int] | None, resize: Resize
    ) -> NDArray[np.uint8]:
        rotation = _upright(frame.rotation)
        if resize == "as_stored" and (frame.width, frame.height) == self._size:
            return frame.to_ndarray(format="rgb24", threads=1).astype(np.uint8, copy=False)
        if resize == "as_stored":
            size, rotation = self._size, 0  # A stream that changes its size: as it began.
        if size is None:
            size = self._square_pixel_size()
        elif rotation % 180:
            size = size[::-1]
        if resize == "opencv_area" and size != (frame.width, frame.height):
            full = frame.to_ndarray(format="rgb24", threads=1)
            pixels = cv2.resize(full, size, interpolation=cv2.INTER_AREA)
        else:
            shrinks = size[0] <= frame.width and size[1] <= frame.height
            scaler = Interpolation.AREA if shrinks else Interpolation.BICUBIC
            if size == (frame.width, frame.height):
                scaler = Interpolation.BILINEAR  # PyAV's own default: nothing is scaled but chroma.
            pixels = frame.to_ndarray(
                format="rgb24", width=size[0], height=size[1], interpolation=scaler, threads=1
            )
        upright = np.rot90(pixels, k=rotation // 90) if rotation else pixels
        return np.ascontiguousarray(upright, dtype=np.uint8)

    def _square_pixel_size(self) -> tuple[int, int]:
        width_px, height_px = self._size
        return max(1, round(width_px * self._sample_aspect_ratio())), height_px

    def _frames_per_second(self, pts_seconds: NDArray[np.float64] | None) -> float | None:
        header = float(self._stream.average_rate) if self._stream.average_rate else None
        if pts_seconds is None or len(pts_seconds) < 2:
            return header
        steps = np.diff(pts_seconds)
        if (steps > 0).all():
            measured = float(len(steps) / steps.sum())
        elif (steps > 0).any():
            measured = float(1 / np.median(steps[steps > 0]))  # The clock starts again somewhere.
        else:
            return header
        if header is not None and abs(header - measured) <= 0.005 * measured:
            return header
        return round(measured, 6)

    def _duration_seconds(
        self, pts_seconds: NDArray[np.float64] | None, rate: float | None
    ) -> float | None:
        """First frame shown to last frame gone: the last frame lasts one frame of the rate, or
        where that is not what the last ones took, as long as they.
        """
        if pts_seconds is not None:
            steps = np.diff(pts_seconds)
            if not rate or not np.isfinite(steps).all():
                return None
            if (steps > 0).all():
                last = 1 / rate
                lately = float(np.median(steps[-3:])) if len(steps) else last
                last = last if abs(lately - last) < 0.2 * last else lately
                return float(steps.sum()) + last
            return len(pts_seconds) / rate
        if self._stream.duration and self._stream.time_base:
            return float(self._stream.duration * self._stream.time_base)
        return None


class IndexContradictedError(Exception):
    """Decoding showed other frames than the packets promised."""


def _encrypted() -> VideoError:
    return VideoError("encrypted", "the video stream is encrypted and there is no key for it")


def _gather(
    indices: NDArray[np.int64], pixels: dict[int, NDArray[np.uint8]], seconds: dict[int, float]
) -> Frames:
    wanted = indices.tolist()
    if not wanted:
        return Frames(np.zeros((0, 0, 0, 3), np.uint8), np.zeros(0), indices)
    return Frames(
        np.stack([pixels[k] for k in wanted]), np.array([seconds[k] for k in wanted]), indices
    )


def _upright(rotation: float) -> int:
    """Counter-clockwise degrees in 0, 90, 180, 270; what is no quarter turn is left alone."""
    return int(rotation) % 360 if int(rotation) % 90 == 0 else 0


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
