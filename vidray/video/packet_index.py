"""An index of every frame of a video, made from its packets alone.

Costs about 1 ms for 200 packets and is exact where every packet is one shown frame with its own
presentation time; everywhere else ``index_packets`` returns None and the caller decodes
sequentially, which is always right.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import av.error
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vidray.video.demux import storage_failed
from vidray.video.frames import Limits

# pts, where to seek for it, is a key frame.
_Row = tuple[int, int, bool]
# A check of a packet's bytes; its results: see ``_packet_look``.
_Look = Callable[[memoryview], bytes | None]

# One packet is one shown frame in these, checked against sequential decoding in the tests, and a
# damaged packet, or one that shows nothing, is known by its bytes; not so in others.
_INDEXABLE_FORMATS = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})
_INDEXABLE_CODECS = frozenset({"h264", "hevc", "vp9"})


@dataclass(frozen=True)
class PacketIndex:
    """Every frame in presentation order, from packets alone.

    Args:
        pts: ``int64 (N,)`` in stream time base, strictly increasing.
        key_frames: ``int64 (K,)`` indices of key frames, increasing; the first is 0.
        key_seek_timestamps: ``int64 (K,)`` where to seek for each key frame.
    """

    pts: NDArray[np.int64]
    key_frames: NDArray[np.int64]
    key_seek_timestamps: NDArray[np.int64]


def index_packets(
    container: InputContainer, stream: VideoStream, *, limits: Limits
) -> PacketIndex | None:
    """Read every packet of ``stream`` without decoding; None where packets do not fix the frames.

    The container stands at its end afterwards. Raises VideoError: too_large, over ``max_frames``.
    """
    codec = stream.codec_context.codec.canonical_name
    if container.format.name not in _INDEXABLE_FORMATS or codec not in _INDEXABLE_CODECS:
        return None
    look = _packet_look(codec, stream.codec_context.extradata or b"")
    if look is None:
        return None
    try:
        rows = _rows(container, stream, look, limits)
    except MemoryError:
        raise
    except av.error.FFmpegError:
        return None  # A damaged tail: decoding finds how far it goes.
    except OSError as error:
        raise storage_failed(error) from error
    return _sorted_index(rows) if rows else None


def _rows(
    container: InputContainer, stream: VideoStream, look: _Look, limits: Limits
) -> list[_Row] | None:
    """A row per packet, in the order of decoding; None where packets do not fix the frames."""
    rows: list[_Row] = []
    parameter_sets: set[bytes] = set()
    for packet in container.demux(stream):
        if packet.size == 0:
            continue
        if packet.pts is None or packet.is_discard or packet.is_corrupt:
            return None
        data = memoryview(packet)
        if not rows and _decides_all_others(stream, data):
            return None
        found = look(data)
        if found is None or (found and not packet.is_keyframe):
            return None
        if packet.is_keyframe:
            parameter_sets.add(found)
        seek = packet.dts if packet.dts is not None else packet.pts
        rows.append((packet.pts, min(seek, packet.pts), packet.is_keyframe))
        if len(rows) > limits.max_frames:
            raise limits.over("max_frames", f"over {limits.max_frames} frames")
    # Otherwise some key frame needs the parameter sets of an earlier one.
    is_independent = len(parameter_sets) < 2 or b"" not in parameter_sets
    return rows if is_independent else None


def _decides_all_others(stream: VideoStream, first: memoryview) -> bool:
    """Whether the first packet decides how all others are decoded.

    FFmpeg knows by the text that x264 leaves there how its builds before 151 coded 4:4:4, and
    before 34 direct prediction; it forgets it when it seeks.
    """
    if stream.codec_context.codec.canonical_name != "h264":
        return False
    build = re.search(rb"x264 - core (\d+)", bytes(first[:4096]))
    pixels = stream.codec_context.pix_fmt or ""
    return build is not None and int(build[1]) < (151 if "444" in pixels else 34)


def _sorted_index(rows: list[_Row]) -> PacketIndex | None:
    """The index of packets in the order of decoding.

    None where their times contradict what a decoder does: it shows a key frame after everything
    that was decoded before it.
    """
    if not rows[0][2]:
        return None
    table = np.array(rows, dtype=np.int64)  # (N, 3)
    before = np.maximum.accumulate(table[:-1, 0])
    if (before >= table[1:, 0])[table[1:, 2] == 1].any():
        return None
    table = table[np.argsort(table[:, 0], kind="stable")]
    pts, seeks, is_key = table[:, 0], table[:, 1], table[:, 2].astype(bool)
    if not is_key[0] or (np.diff(pts) <= 0).any():
        return None
    keys = np.flatnonzero(is_key)
    return PacketIndex(np.ascontiguousarray(pts), keys, seeks[keys])


def _packet_look(codec: str, extradata: bytes) -> _Look | None:
    """A cheap look at a packet's bytes that finds damage and hidden frames before decoding.

    What it gives: the parameter sets that the packet brings (mostly none: ``b""``), or None where
    the packet is not one whole shown frame.
    """
    if codec == "vp9":
        return lambda data: b"" if _vp9_shows_a_frame(data) else None
    if codec == "h264" and len(extradata) > 4 and extradata[0] == 1:
        return partial(
            _look_at_units, length_bytes=(extradata[4] & 3) + 1, is_parameter_set=_is_h264_set
        )
    if codec == "hevc" and len(extradata) > 21 and extradata[0] == 1:
        return partial(
            _look_at_units, length_bytes=(extradata[21] & 3) + 1, is_parameter_set=_is_hevc_set
        )
    return None  # H.264 without length prefixes (Annex B).


def _is_h264_set(header: int) -> bool:
    return header & 0x1F in (7, 8)


def _is_hevc_set(header: int) -> bool:
    return (header >> 1) & 0x3F in (32, 33, 34)


def _look_at_units(
    data: memoryview, *, length_bytes: int, is_parameter_set: Callable[[int], bool]
) -> bytes | None:
    """Parameter sets, where NAL units fill the packet exactly (ISO/IEC 14496-15, section 5.3)."""
    offset, end = 0, len(data)
    found = b""
    while offset + length_bytes < end:
        length = int.from_bytes(data[offset : offset + length_bytes], "big")
        if length == 0:
            return None
        begin, offset = offset + length_bytes, offset + length_bytes + length
        if is_parameter_set(data[begin]):
            found += bytes(data[begin:offset])
    return found if offset == end else None


def _vp9_shows_a_frame(data: memoryview) -> bool:
    """False for a packet of one hidden frame (VP9 bitstream specification, section 6.2)."""
    first, last = data[0], data[-1]
    if first >> 6 != 0b10:
        return False  # Without the frame marker it is no VP9 frame at all.
    if last & 0b1110_0000 == 0b1100_0000:
        return True  # A superframe: hidden frames travel with a shown one.
    profile_three = first & 0b0011_0000 == 0b0011_0000
    bits = (first << 1 if profile_three else first) & 0xFF  # Profile 3 has one reserved bit more.
    show_existing, show_frame = bool(bits & 0b1000), bool(bits & 0b0010)
    return show_existing or show_frame
