"""The child process of ``thumbnails``: a request -> the pixels of a few small frames, or a reason.

A table of rows may come from a stranger, and names what is opened here. So it opens as little as it
can: regular files of this machine, outside of the system's own trees; buckets, whose addresses the
environment decides; and hosts only that the user has named. Behind each of them is nothing but the
decoder of ``vidray.video``, which knows no playlists, no scripts, and no pictures.

What goes back are pixels, never a file: a decoder that a hostile video has taken over cannot put
bytes of its own choice into the page.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vidray import storage
from vidray.errors import UserError, VideoError
from vidray.masking import without_secrets
from vidray.report.frames.seeking import COARSEST_CLOCK_SECONDS, Size, frames_by_seeking
from vidray.storage import addresses
from vidray.video.clock import Stretch
from vidray.video.decode import Limits, Request, Video
from vidray.video.demux import Source
from vidray.video.steady_opencv import steady_opencv

# A video four times as wide as high fills the width; a wider one is less high.
WIDEST = 4
_LIMITS = Limits(max_bytes=16 << 30)
# The address of the service behind these is that of the environment, whatever a table says.
_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "hf", "oss", "oci"})
# Their files are made by the kernel when they are read; some act on it.
_KERNEL = ("/proc/", "/sys/")


def worker(config: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], pa.RecordBatch]:
    """The work of the child process.

    Args:
        config: ``hosts`` that web addresses may name.
    """
    steady_opencv()
    hosts = frozenset(config["hosts"])
    return lambda request: _answer(request, hosts)


def _answer(request: Mapping[str, Any], hosts: frozenset[str]) -> pa.RecordBatch:
    try:
        return _batch(list(_frames(request, hosts)))
    except MemoryError:
        raise
    except VideoError as error:
        return _batch([], error.kind, error.message)
    except UserError as error:
        return _batch([], "unavailable", str(error))
    except Exception as unexpected:  # noqa: BLE001  One bad video costs its own frames.
        return _batch([], "crashed", f"unexpected {type(unexpected).__name__}: {unexpected}")


def _batch(
    frames: list[tuple[float, NDArray[np.uint8]]], kind: str | None = None, message: str = ""
) -> pa.RecordBatch:
    said = " ".join(without_secrets(message).split())[:300]
    columns = {
        "at_seconds": pa.array([at for at, _ in frames], pa.float64()),
        "height_px": pa.array([len(pixels) for _, pixels in frames], pa.int32()),
        "pixels": pa.array([pixels.tobytes() for _, pixels in frames], pa.binary()),
    }
    batch = pa.record_batch(columns)
    return batch if kind is None else batch.replace_schema_metadata({"kind": kind, "why": said})


def _frames(
    request: Mapping[str, Any], hosts: frozenset[str]
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Time and pixels ``uint8 (H, W, 3)`` of each frame asked for."""
    uri = request["uri"]
    check_address(uri, hosts)
    size_of = partial(_size, height_px=request["height_px"])
    with storage.opened(uri) as source:
        by_seeking = frames_by_seeking(source, request, _LIMITS, size_of)
        yield from _counted(source, request, size_of) if by_seeking is None else by_seeking


def _counted(
    source: Source, request: Mapping[str, Any], size_of: Callable[[Size], Size]
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """The same of any video, short or long, whose frames are counted."""
    with Video(source, limits=_LIMITS) as video:
        # As tables have them: from the first frame shown.
        since_first = video.pts_seconds - video.pts_seconds[0]
        chosen = _chosen(since_first, request)
        header = video.probe(count_frames=False)
        width, height = size_of((header.display_width_px, header.display_height_px))
        found = video.read(Request(chosen, width_px=width, height_px=height))[0]
    yield from zip(since_first[chosen].tolist(), found.pixels, strict=True)


def check_address(uri: str, hosts: frozenset[str]) -> None:
    """Refuse what no video of a table needs to be.

    Raises:
        VideoError: a web address whose host is not among ``hosts``, a file of the kernel.
        UserError: no address at all.
    """
    protocol = addresses.protocol_of(uri)
    if storage.is_bucket(uri):
        host = _host(uri)
        if protocol not in _STORES and host not in hosts:
            message = (
                f"is at {protocol}://{host[:80]}, and a page asks no host that is not named: "
                "see --frames-from"
            )
            raise VideoError("denied", message)
        return
    path = addresses.local_path(uri)
    if "\0" in path:
        raise VideoError("missing", "no name holds a NUL byte")
    path = os.path.realpath(path) + "/"
    if path.startswith(_KERNEL):
        raise VideoError("denied", "a file of the system, not a video")


def _host(uri: str) -> str:
    """The host of an address, in lower case; empty where there is none."""
    try:
        return (urlsplit(uri).hostname or "").lower()
    except ValueError:  # Brackets that do not close.
        return ""


def _chosen(times: NDArray[np.float64], request: Mapping[str, Any]) -> NDArray[np.int64]:
    """Indices of the frames to show of those at ``times`` ``float64 (N,)``, which rise."""
    if request["at_seconds"] is not None:
        wanted = np.asarray(request["at_seconds"], np.float64) + COARSEST_CLOCK_SECONDS
        shown = np.searchsorted(times, wanted, side="right") - 1
        return np.asarray(np.clip(shown, 0, len(times) - 1), np.int64)
    stretch = Stretch.of_row(request).frames(times)
    inside = np.arange(stretch.start, stretch.stop)
    count = min(request["count"], len(inside))
    # The middle of each of ``count`` equal parts.
    chosen = inside[((np.arange(count) + 0.5) * len(inside) / count).astype(np.int64)]
    return np.asarray(chosen, np.int64)


def _size(shape: Size, height_px: int) -> Size:
    """Width and height of a frame in a box of ``height_px`` and ``WIDEST`` times that."""
    ratio = shape[0] / shape[1]
    width, height = height_px * ratio, float(height_px)
    if ratio > WIDEST:
        width, height = WIDEST * height_px, WIDEST * height_px / ratio
    return max(1, round(width)), max(1, round(height))
