"""Frames of a video: exactly the ones asked for, straight to the wanted size.

Index k is the k-th frame that a sequential decode shows, in every container. Where the packet index
is exact, only the key frames' groups that hold a wanted frame are decoded; elsewhere, in short
videos, and whenever the decoder contradicts the index, the video is decoded sequentially. An index
cannot show damage in a group, of a long video, that holds no wanted frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from vidray.video import timestamps
from vidray.video.demux import Source
from vidray.video.frames import Damage, Frames, Limits, Probe, Request
from vidray.video.header import Header
from vidray.video.pixels import render
from vidray.video.readers import (
    IndexContradictedError,
    SeekingReader,
    SequentialReader,
    choose_reader,
)
from vidray.video.stream import Stream

__all__ = [
    "Damage",
    "Frames",
    "IndexContradictedError",
    "Limits",
    "Probe",
    "Request",
    "Video",
    "probe",
    "read_frames",
]


class Video:
    """One open video file. A context manager; not for several threads at once.

    Nothing is decoded before it is needed: what costs a pass over the file says so.

    Args:
        source: a local path, or a seekable binary file object (a bucket's).
        limits: above them the video is ``too_large``.

    Raises:
        VideoError: with the kind and the reason why there are no frames.
    """

    def __init__(self, source: Source, *, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._stream = Stream(source, self.limits)
        self._reader: SeekingReader | SequentialReader | None = None
        self._pts_seconds: NDArray[np.float64] | None = None

    def close(self) -> None:
        """Close the file and drop decoded frames."""
        self._reader = None
        self._stream.close()

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def header(self) -> Header:
        """The file's own account of itself."""
        return self._stream.header

    @property
    def pts_seconds(self) -> NDArray[np.float64]:
        """``float64 (N,)``, strictly rising: when each of the N frames that decode is shown.

        Costs a pass over the packets, or where those are not enough, one sequential decode.
        """
        if self._pts_seconds is None:
            times = timestamps.presentation_seconds(
                self._chosen_reader().stated_seconds, rate=self.header.rate, kind=self.header.times
            )
            rate = timestamps.mean_rate(times, self.header.rates)
            seconds = timestamps.duration_seconds(times, rate) if rate else 0.0
            if seconds > self.limits.max_seconds:
                raise self.limits.over("max_seconds", f"{seconds:.0f} seconds long")
            self._pts_seconds = times
        return self._pts_seconds

    @property
    def num_frames(self) -> int:
        """Number of frames that decode."""
        return len(self.pts_seconds)

    @property
    def frames_per_second(self) -> float | None:
        """The header's rate where the frames bear it out, but for a few lost, else their mean."""
        return timestamps.mean_rate(self.pts_seconds, self.header.rates)

    @property
    def duration_seconds(self) -> float | None:
        """Seconds from the first frame shown to the last one gone."""
        rate = self.frames_per_second
        return timestamps.duration_seconds(self.pts_seconds, rate) if rate else None

    @property
    def has_exact_index(self) -> bool:
        """Whether packets alone place every frame; as far as known, once frames were read."""
        return self._chosen_reader().has_exact_index

    @property
    def damage(self) -> Damage:
        """The damage that the decoder has met so far."""
        return Damage() if self._reader is None else self._reader.damage

    def probe(self, *, count_frames: bool = True) -> Probe:
        """The video's properties; with ``count_frames`` the frames are counted."""
        header = self.header
        num_frames, rate, seconds = None, header.rate, header.duration_seconds
        if count_frames:
            num_frames, rate = self.num_frames, self.frames_per_second
            seconds = self.duration_seconds
        return Probe(
            width_px=header.width_px,
            height_px=header.height_px,
            rotation_degrees=self._stream.first_frame_rotation(),
            sample_aspect_ratio=header.sample_aspect_ratio,
            duration_seconds=seconds,
            frames_per_second=rate,
            num_frames=num_frames,
            codec=header.codec,
            container=header.container,
            has_sound=header.has_sound,
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

        For more frames than memory holds: one at a time. Stops early where the video ends.

        Raises:
            IndexContradictedError: the frames given so far may be others than they were said to be;
                what was made of them is to be made again, from ``num_frames`` on.
            VideoError: as ``read``.
        """
        wanted = np.unique(np.asarray(request.frame_indices, dtype=np.int64))
        for k, frame in zip(wanted.tolist(), self._frames_at(wanted), strict=False):
            yield k, render(frame, request, self.header)

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
                    pixels[k] = render(frame, request, self.header)
        return [self._gather(mine, pixels) for mine, pixels in zip(indices, pixels_of, strict=True)]

    def _gather(self, indices: NDArray[np.int64], pixels: dict[int, NDArray[np.uint8]]) -> Frames:
        if not len(indices):
            return Frames(np.zeros((0, 0, 0, 3), np.uint8), np.zeros(0), indices)
        stacked = np.stack([pixels[k] for k in indices.tolist()])
        return Frames(stacked, self.pts_seconds[indices], indices)

    def _frames_at(self, wanted: NDArray[np.int64]) -> Iterator[VideoFrame]:
        """Decoded frames of increasing indices; those beyond the last are left out."""
        wanted = wanted[wanted < self.num_frames]
        try:
            yield from self._chosen_reader().frames(wanted)
        except IndexContradictedError:
            # From now on this video is decoded sequentially.
            self._pts_seconds, self._reader = None, SequentialReader(self._stream)
            raise

    def _chosen_reader(self) -> SeekingReader | SequentialReader:
        if self._reader is None:
            self._reader = choose_reader(self._stream)
        return self._reader


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
