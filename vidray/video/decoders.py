"""The decoders a user may choose. PyAV is exact everywhere, the others in some cases.

decord 0.6 returned wrong frames for XviD AVI, MPEG-TS and WMV and crops odd sizes; OpenCV turns
rotated frames by itself and cannot read from a bucket. Where the chosen one is not known to be
exact, PyAV reads the video instead and the row's ``decoder`` column says so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vidray.video.decode import Frames, Request, Video
from vidray.video.decoder_names import Decoder, check_decoder
from vidray.video.demux import Source
from vidray.video.pixels import fitted, middle, rule_of

__all__ = ["Decoder", "check_decoder", "read", "read_planned"]

_DECORD_CONTAINERS = frozenset({"mov", "matroska"})
_DECORD_CODECS = frozenset({"h264", "hevc", "vp9", "mjpeg"})


def read(
    video: Video, source: Source, requests: Sequence[Request], *, decoder: str
) -> tuple[list[Frames], str]:
    """The frames of each request, and the decoder that read them.

    Raises:
        VideoError, IndexError: as ``Video.read``.
    """
    frames = None
    if decoder != "pyav" and _is_exact(video, source, decoder):
        frames = _read_with(video, str(source), requests, decoder)
    return (frames, decoder) if frames is not None else (video.read(*requests), "pyav")


def read_planned(
    video: Video, source: Source, plan: Callable[[Video], list[Request]], *, decoder: str
) -> tuple[list[Frames], str]:
    """``read`` of what ``plan`` asks for, planned again where fewer frames decode than promised.

    Raises:
        VideoError: as ``Video.read``.
    """
    while True:
        num_frames = video.num_frames
        requests = plan(video)
        try:
            frames = read(video, source, requests, decoder=decoder)
        except IndexError:
            if video.num_frames == num_frames:
                raise
            continue
        if video.num_frames == num_frames:
            return frames


def _is_exact(video: Video, source: Source, decoder: str) -> bool:
    probe = video.probe()
    if not isinstance(source, str | os.PathLike) or probe.rotation_degrees:
        return False
    if video.header.num_video_streams > 1 or video.limits.max_corrupt_share < 1:
        return False  # It chooses a stream by itself, and does not say which frames are corrupt.
    if decoder == "opencv":
        return True  # Sequential, and the number of frames is compared at the end.
    return (
        video.has_exact_index
        and probe.container in _DECORD_CONTAINERS
        and probe.codec in _DECORD_CODECS
        and probe.width_px % 2 == 0
        and probe.height_px % 2 == 0
    )


def _read_with(
    video: Video, path: str, requests: Sequence[Request], decoder: str
) -> list[Frames] | None:
    wanted = np.unique(np.concatenate([np.asarray(r.frame_indices, np.int64) for r in requests]))
    if decoder == "opencv":
        decoded = _opencv_frames(path, wanted, num_frames=video.num_frames)
    else:
        decoded = _decord_frames(path, wanted, num_frames=video.num_frames)
    found = dict(zip(wanted.tolist(), decoded, strict=False))
    if len(found) < len(wanted):
        return None  # It gives fewer frames than there are.
    return [_frames(request, found, video.pts_seconds) for request in requests]


def _frames(
    request: Request, found: dict[int, NDArray[np.uint8]], pts_seconds: NDArray[np.float64]
) -> Frames:
    indices = np.asarray(request.frame_indices, np.int64)
    pixels = [_resized(found[k], request) for k in indices.tolist()]
    return Frames(np.stack(pixels), pts_seconds[indices], indices)


def _resized(pixels: NDArray[np.uint8], request: Request) -> NDArray[np.uint8]:
    if rule := rule_of(request):
        return fitted(pixels, request, rule)
    if request.size is not None and request.size != pixels.shape[1::-1]:
        scaled: NDArray[Any] = cv2.resize(pixels, request.size, interpolation=cv2.INTER_AREA)
        pixels = scaled
    return middle(pixels, request.middle_px)


def _opencv_frames(
    path: str, wanted: NDArray[np.int64], *, num_frames: int
) -> Iterator[NDArray[np.uint8]]:
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
    try:
        chosen = set(wanted.tolist())
        frames = []
        for k in range(num_frames):
            is_read = capture.grab()
            bgr = None
            if is_read and k in chosen:
                is_read, bgr = capture.retrieve()
            if not is_read:
                return
            if bgr is not None:
                frames.append(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8))
        if not capture.grab():  # It found as many frames as there are.
            yield from frames
    finally:
        capture.release()


def _decord_frames(
    path: str, wanted: NDArray[np.int64], *, num_frames: int
) -> Iterator[NDArray[np.uint8]]:
    import decord  # An optional extra: imported only when it is chosen.

    reader = decord.VideoReader(path, num_threads=1)
    if len(reader) == num_frames:
        yield from reader.get_batch(wanted.tolist()).asnumpy()
