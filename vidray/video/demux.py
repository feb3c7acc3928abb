"""Opening a video file without decoding it: its video stream, encryption, or why there is none."""

from __future__ import annotations

import os
import struct
from typing import Any, BinaryIO

import av
import av.error
from av.container import InputContainer
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from vidray.errors import VideoError

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
    except MemoryError:
        raise
    except (av.error.FFmpegError, ValueError) as error:
        raise _why_it_does_not_open(source, error) from error
    except OSError as error:
        raise storage_failed(error) from error


def storage_failed(error: OSError) -> VideoError:
    """The VideoError for an error that a file object raised while FFmpeg read from it."""
    return VideoError("unavailable", f"the storage fails to hand it over: {reason(error)}")


def _why_it_does_not_open(source: Source, error: Exception) -> VideoError:
    # Not by FFmpeg's error: its demuxers say "not permitted" of damaged files, too.
    try:
        head = _read_head(source)
    except FileNotFoundError:
        return VideoError("missing", "the file is gone")
    except PermissionError:
        return VideoError("denied", "no permission to read the file")
    except IsADirectoryError:
        return VideoError("unreadable", "it is a folder, not a file")
    except OSError as failure:
        return storage_failed(failure)
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


def _read_head(source: Source, size_bytes: int = 1 << 16) -> bytes:
    if isinstance(source, str | os.PathLike):
        with open(source, "rb") as file:
            return file.read(size_bytes)
    source.seek(0)
    return source.read(size_bytes)


def choose_video_stream(container: InputContainer, source: Source) -> VideoStream:
    """The stream a player shows: the first marked as default, else the largest; no cover picture.

    Where the very first one alone is marked, that says nothing: FFmpeg marks it by itself where
    nobody chose one.

    Raises:
        VideoError: no_video; unsupported when no decoder is known for its codec; unreadable when an
            MP4's header is cut off before it names one.
    """
    _refuse_still_pictures(container, source)
    not_moving = Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails
    streams = [s for s in container.streams.video if not s.disposition & not_moving]
    if not streams:
        kinds = sorted({stream.type for stream in container.streams})
        raise VideoError(
            "no_video", f"holds no video stream, only: {', '.join(kinds) or 'nothing'}"
        )
    readable = [s for s in streams if _context_of(s) is not None]
    if not readable:
        if container.format.name.startswith("mov") and _moov(source)[1]:
            raise VideoError("unreadable", "the file is cut off within its header (moov)")
        raise VideoError("unsupported", "FFmpeg has no decoder for its video codec")
    # The title picture of an AVIF or HEIF sequence is a stream of one frame beside the moving one.
    readable = [s for s in readable if s.frames != 1] or readable
    default = [s for s in readable if s.disposition & Disposition.default]
    if default and default != readable[:1]:
        return default[0]
    return max(readable, key=lambda s: s.codec_context.width * s.codec_context.height)


def _context_of(stream: VideoStream) -> VideoCodecContext | None:
    return stream.codec_context  # PyAV's stub denies the None.


def _refuse_still_pictures(container: InputContainer, source: Source) -> None:
    if container.format.name == "webp_pipe" and _is_animated_webp(_read_head(source, 21)):
        raise VideoError("unsupported", "an animated WebP, which FFmpeg cannot decode")
    if container.format.name in _PICTURE_NAMES:
        raise VideoError("no_video", "a still picture, not a video")
    is_still = all(stream.frames <= 1 for stream in container.streams.video)
    if is_still and container.metadata.get("major_brand", "").strip() in _PICTURE_BRANDS:
        raise VideoError("no_video", "a still picture (HEIF), not a video")


def _is_animated_webp(head: bytes) -> bool:
    """Whether the first chunk says so: ``VP8X`` with flag 2 (WebP container specification)."""
    return head[8:16] == b"WEBPVP8X" and len(head) > 20 and bool(head[20] & 0b10)


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
