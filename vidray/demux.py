"""Opening a video file without decoding it: which stream, is it encrypted, where is every frame.

The packet index costs about 1 ms for 200 packets and is exact where every packet is one shown frame
with its own presentation time; everywhere else ``index_packets`` returns None and the caller
decodes sequentially, which is always right.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vidray.errors import Cap, VideoError

Source = str | os.PathLike[str] | BinaryIO

# Only formats that hold their media themselves. Playlists (hls, dash, concat, image2) are left
# out: one text file in a bucket would make FFmpeg open other files and addresses.
_VIDEO_FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,asf,flv,live_flv,gif,ogg,rm,mxf,nut,dv,h263,h264,hevc,vvc,"
    "obu,av1,ivf,m4v,wtv,swf,vc1,yuv4mpegpipe,xmv,nsv,film_cpk,smk,bink,roq,ea,amv,gxf,lxf,mtv,pva,apng"
)
_SOUND_AND_TEXT_FORMATS = (
    "mp3,wav,flac,aac,ac3,eac3,ac4,amr,aiff,au,caf,w64,dts,dtshd,truehd,mlp,loas,tta,wv,ape,"
    "srt,ass,webvtt"
)
_PICTURE_FORMATS = (
    "png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe,gif_pipe,jpegxl_pipe,svg_pipe,psd_pipe,ico,"
    "ppm_pipe,pgm_pipe,pbm_pipe,pam_pipe,j2k_pipe,exr_pipe,jpegls_pipe,sgi_pipe,qoi_pipe,dds_pipe"
)
_FORMAT_WHITELIST = f"{_VIDEO_FORMATS},{_SOUND_AND_TEXT_FORMATS},{_PICTURE_FORMATS}"
_PICTURE_NAMES = frozenset(_PICTURE_FORMATS.split(","))
_PICTURE_BRANDS = frozenset({"heic", "heix", "mif1", "avif", "miaf"})

# One packet is one shown frame in these, checked against sequential decoding in the tests, and a
# damaged packet, or one that shows nothing, can be told by its bytes; not so in others.
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


def open_container(source: Source) -> InputContainer:
    """Open ``source`` for reading; formats that point to other files are refused.

    Raises:
        VideoError: missing, denied, no_video or unreadable.
    """
    # "file:" keeps FFmpeg from taking a name such as "concat:a|b" for a protocol.
    file: Any = f"file:{os.fspath(source)}" if isinstance(source, str | os.PathLike) else source
    options = {"format_whitelist": _FORMAT_WHITELIST, "protocol_whitelist": "file"}
    try:
        opened: InputContainer = av.open(
            file,
            mode="r",
            container_options=options,
            metadata_errors="replace",
            buffer_size=1 << 18,
        )
        return opened
    except FileNotFoundError:
        raise VideoError("missing", "the file is gone") from None
    except PermissionError:
        raise VideoError("denied", "no permission to read the file") from None
    except MemoryError:
        raise
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise _why_it_does_not_open(source, error) from error


def _why_it_does_not_open(source: Source, error: Exception) -> VideoError:
    head = read_head(source)
    if not head:
        return VideoError("unreadable", "the file is empty (0 bytes)")
    if head[4:8] in (b"moof", b"styp") and b"moov" not in head:
        message = "a fragment of an MP4 without its header (moov): it declares no video stream"
        return VideoError("no_video", message)
    return VideoError("unreadable", f"no video file that FFmpeg can open ({reason(error)})")


def reason(error: Exception) -> str:
    """FFmpeg's own words for an error, without the path."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).lower()


def read_head(source: Source, size_bytes: int = 1 << 16) -> bytes:
    """The first bytes of a source, at most ``size_bytes``; empty when it cannot be read."""
    try:
        if isinstance(source, str | os.PathLike):
            with open(source, "rb") as file:
                return file.read(size_bytes)
        source.seek(0)
        return source.read(size_bytes)
    except OSError:
        return b""


def choose_video_stream(container: InputContainer, source: Source) -> VideoStream:
    """The first video stream that is not a cover picture, as FFmpeg's ``v:0`` takes it.

    Raises:
        VideoError: no_video; unsupported when no decoder is known for its codec; unreadable when an
            MP4's header is cut off before it names one.
    """
    if container.format.name in _PICTURE_NAMES:
        raise VideoError("no_video", "a still picture, not a video")
    if container.metadata.get("major_brand", "").strip() in _PICTURE_BRANDS:
        raise VideoError("no_video", "a still picture (HEIF), not a video")
    not_moving = Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails
    streams = [s for s in container.streams.video if not s.disposition & not_moving]
    if not streams:
        kinds = sorted({stream.type for stream in container.streams})
        raise VideoError(
            "no_video", f"holds no video stream, only: {', '.join(kinds) or 'nothing'}"
        )
    stream = streams[0]
    context: VideoCodecContext | None = stream.codec_context  # PyAV's stub denies the None.
    if context is None:
        if container.format.name.startswith("mov") and _moov(source)[1]:
            raise VideoError("unreadable", "the file is cut off within its header (moov)")
        raise VideoError("unsupported", "FFmpeg has no decoder for its video codec")
    return stream


def declares_encryption(container: InputContainer, stream: VideoStream, source: Source) -> bool:
    """Whether the container says that the video stream is encrypted (CENC in MP4, WebM encryption).

    Called only when nothing decodes: an encrypted stream with readable frames is readable.
    """
    if "enc_key_id" in stream.metadata:
        return True
    return container.format.name.startswith("mov") and b"encv" in _moov(source)[0]


def _moov(source: Source, most_bytes: int = 64 << 20) -> tuple[bytes, bool]:
    """An MP4's ``moov`` box, and whether the file ends within it. ISO/IEC 14496-12, section 4.2."""
    if isinstance(source, str | os.PathLike):
        with open(source, "rb") as file:
            return _moov(file, most_bytes)
    offset = 0
    while True:
        source.seek(offset)
        header = source.read(16)
        if len(header) < 8:
            return b"", False
        size, kind = struct.unpack(">I4s", header[:8])
        if size == 1 and len(header) == 16:
            size = struct.unpack(">Q", header[8:])[0]
        if kind == b"moov":
            source.seek(offset)
            wanted = min(size or most_bytes, most_bytes)
            box = source.read(wanted)
            return box, len(box) < wanted
        if size < 8:
            return b"", False
        offset += size


def too_many_frames(cap: int) -> VideoError:
    """The error of a video of more frames than ``cap``."""
    message = f"over {cap} frames, the cap on frames"
    return VideoError("too_large", message, cap=Cap("max_frames", cap))


def index_packets(
    container: InputContainer, stream: VideoStream, *, max_frames: int
) -> PacketIndex | None:
    """Read every packet of ``stream`` without decoding; None where packets cannot tell the frames.

    The container stands at its end afterwards. Raises VideoError: too_large above ``max_frames``.
    """
    codec = stream.codec_context.codec.canonical_name
    if container.format.name not in _INDEXABLE_FORMATS or codec not in _INDEXABLE_CODECS:
        return None
    shows_one_frame = _packet_check(codec, stream.codec_context.extradata or b"")
    if shows_one_frame is None:
        return None
    rows: list[tuple[int, int, bool]] = []
    try:
        for packet in container.demux(stream):
            if packet.size == 0:
                continue
            if packet.pts is None or packet.is_discard or not _is_whole(packet, shows_one_frame):
                return None
            seek = packet.dts if packet.dts is not None else packet.pts
            rows.append((packet.pts, min(seek, packet.pts), packet.is_keyframe))
            if len(rows) > max_frames:
                raise too_many_frames(max_frames)
    except MemoryError:
        raise
    except (av.error.FFmpegError, OSError):
        return None  # A damaged tail: decoding finds how far it goes.
    return _sorted_index(rows)


def _sorted_index(rows: list[tuple[int, int, bool]]) -> PacketIndex | None:
    if not rows or not rows[0][2]:
        return None
    table = np.array(rows, dtype=np.int64)  # (N, 3): pts, seek timestamp, is key
    table = table[np.argsort(table[:, 0], kind="stable")]
    pts, seeks, is_key = table[:, 0], table[:, 1], table[:, 2].astype(bool)
    if not is_key[0] or (np.diff(pts) <= 0).any():
        return None
    keys = np.flatnonzero(is_key)
    return PacketIndex(np.ascontiguousarray(pts), keys, seeks[keys])


def _is_whole(
    packet: av.Packet[VideoStream], shows_one_frame: Callable[[memoryview], bool]
) -> bool:
    return not packet.is_corrupt and shows_one_frame(memoryview(packet))


def _packet_check(codec: str, extradata: bytes) -> Callable[[memoryview], bool] | None:
    """A cheap look at a packet's bytes that tells damage and hidden frames before decoding."""
    if codec == "vp9":
        return _vp9_shows_a_frame
    if codec == "h264" and len(extradata) > 4 and extradata[0] == 1:
        return partial(_is_whole_access_unit, nal_length_bytes=(extradata[4] & 3) + 1)
    if codec == "hevc" and len(extradata) > 21 and extradata[0] == 1:
        return partial(_is_whole_access_unit, nal_length_bytes=(extradata[21] & 3) + 1)
    return None  # H.264 without length prefixes (Annex B).


def _is_whole_access_unit(data: memoryview, *, nal_length_bytes: int) -> bool:
    """Whether length-prefixed NAL units fill the packet exactly (ISO/IEC 14496-15, section 5.3)."""
    offset, end = 0, len(data)
    while offset + nal_length_bytes < end:
        length = int.from_bytes(data[offset : offset + nal_length_bytes], "big")
        if length == 0:
            return False
        offset += nal_length_bytes + length
    return offset == end


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
