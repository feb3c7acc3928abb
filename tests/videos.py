"""The zoo of test videos: one maker for each kind of file a folder of videos may hold.

``KINDS`` (name -> maker) decode in full, ``PARTIAL`` in part, ``BROKEN`` not at all. Each maker is
called as ``maker(folder, num_frames=60) -> Path`` and writes ``folder/NAME.SUFFIX``. What writes
and reads them is in ``tests/video_writer.py``; its names are offered here too.
"""

import re
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.video_writer import (
    DEFAULT_FRAMES,
    draw_number,
    read_number,
    read_numbers,
    sequential_frames,
    truncate,
    uneven_pts,
    write_audio,
    write_video,
)

__all__ = [
    "BROKEN",
    "DEFAULT_FRAMES",
    "KINDS",
    "PARTIAL",
    "draw_number",
    "read_number",
    "read_numbers",
    "sequential_frames",
    "truncate",
    "uneven_pts",
    "write_audio",
    "write_video",
]

Maker = Callable[..., Path]

# Every kind shows 0, 1, ... num_frames - 1 in presentation order, in a full sequential decode.
# name -> (suffix, settings of write_video; a function among them is called with num_frames).
_MS = Fraction(1, 1000)
_X264 = "b-adapt=0:scenecut=0:mbtree=0"
_MJPEG = {"codec": "mjpeg", "pix_fmt": "yuvj420p"}
_ODD = {"width_px": 65, "height_px": 33}
_SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "h264_mp4": (".mp4", {}),
    "h264_mkv": (".mkv", {}),
    "h264_mov": (".mov", {}),
    "h264_ts": (".ts", {}),
    "h264_flv": (".flv", {}),
    "h264_avi": (".avi", {}),  # B-frames, and AVI stores no pts
    "h264_raw": (".h264", {}),  # a bare stream: no times at all
    "hevc_mp4": (".mp4", {"codec": "libx265"}),
    "vp9_webm": (".webm", {"codec": "libvpx-vp9"}),
    "vp8_webm": (".webm", {"codec": "libvpx"}),
    "av1_mp4": (".mp4", {"codec": "libsvtav1"}),
    "av1_webm": (".webm", {"codec": "libsvtav1"}),
    # As FFmpeg writes it: B-frames in packets of their own, tagged XVID; UCF-101's kind.
    "xvid_avi": (".avi", {"codec": "mpeg4", "codec_tag": "XVID"}),
    "mpeg4_avi": (".avi", {"codec": "mpeg4", "options": {"bf": "0"}}),
    "mpeg4_mp4": (".mp4", {"codec": "mpeg4"}),
    "msmpeg4_avi": (".avi", {"codec": "msmpeg4"}),
    "flv1_flv": (".flv", {"codec": "flv"}),
    "mjpeg_avi": (".avi", _MJPEG),
    "mjpeg_mov": (".mov", _MJPEG),
    "mpeg1_mpg": (".mpg", {"codec": "mpeg1video"}),
    "mpeg2_ts": (".ts", {"codec": "mpeg2video"}),
    "wmv2_asf": (".asf", {"codec": "wmv2"}),
    "wmv2_wmv": (".wmv", {"codec": "wmv2"}),
    "ffv1_mkv": (".mkv", {"codec": "ffv1"}),
    "prores_mov": (".mov", {"codec": "prores_ks", "pix_fmt": "yuv422p10le"}),
    "gif": (".gif", {"codec": "gif", "pix_fmt": "rgb8"}),
    "vfr_mp4": (".mp4", {"pts": uneven_pts, "time_base": _MS}),
    "vfr_mkv": (".mkv", {"pts": uneven_pts, "time_base": _MS}),
    # The B-frames after a key frame are shown before it and refer to the group before.
    "open_gop_mp4": (".mp4", {"options": {"x264-params": f"{_X264}:open-gop=1"}}),
    "h264_10bit_mp4": (".mp4", {"pix_fmt": "yuv420p10le"}),
    "hevc_10bit_mp4": (".mp4", {"codec": "libx265", "pix_fmt": "yuv420p10le"}),
    "h264_444_mp4": (".mp4", {"pix_fmt": "yuv444p"}),
    "odd_444_mp4": (".mp4", {"pix_fmt": "yuv444p", **_ODD}),
    "odd_xvid_avi": (".avi", {"codec": "mpeg4", "codec_tag": "XVID", **_ODD}),
    "odd_vp9_webm": (".webm", {"codec": "libvpx-vp9", **_ODD}),
    "odd_ffv1_mkv": (".mkv", {"codec": "ffv1", **_ODD}),
    "rotated_90_mp4": (".mp4", {"rotation_degrees": 90}),
    "rotated_180_mp4": (".mp4", {"rotation_degrees": 180}),
    "rotated_270_mp4": (".mp4", {"rotation_degrees": 270}),
    "sample_aspect_mp4": (".mp4", {"sample_aspect_ratio": Fraction(4, 3)}),
    "ntsc_mp4": (".mp4", {"fps": Fraction(30000, 1001)}),
    # An empty edit: the first frame is shown at one second.
    "delayed_mp4": (".mp4", {"pts": lambda n: range(25, 25 + n)}),
    "delayed_mkv": (".mkv", {"pts": lambda n: range(25, 25 + n)}),
    # No edit list, so the B-frame delay shows as a first pts of two frames, not 0.
    "no_edit_list_mp4": (".mp4", {"container_options": {"use_editlist": "0"}}),
    "fragmented_mp4": (
        ".mp4",
        {"container_options": {"movflags": "frag_keyframe+empty_moov+default_base_moof"}},
    ),
    "sound_mp4": (".mp4", {"audio_codec": "aac"}),
    "sound_mkv": (".mkv", {"audio_codec": "flac"}),
    "sound_ts": (".ts", {"audio_codec": "mp2"}),
    "sound_webm": (".webm", {"codec": "libvpx", "audio_codec": "libopus"}),
}


def _write_kind(name: str, folder: Path, num_frames: int = DEFAULT_FRAMES) -> Path:
    suffix, settings = _SETTINGS[name]
    values = {
        key: value(num_frames) if callable(value) else value for key, value in settings.items()
    }
    return write_video(folder / (name + suffix), num_frames=num_frames, **values)


def write_one_frame(folder: Path, num_frames: int = 1) -> Path:
    """One frame, whatever number is asked for."""
    return write_video(folder / "one_frame_mp4.mp4", num_frames=1)


def write_trimmed(folder: Path, num_frames: int = DEFAULT_FRAMES) -> Path:
    """An edit list that hides the first five frames (they show 4091 to 4095), in mid-group."""
    return write_video(
        folder / "trimmed_mp4.mp4",
        num_frames=num_frames + 5,
        first_number=-5,
        pts=range(-5, num_frames),
    )


def write_joined(folder: Path, num_frames: int = DEFAULT_FRAMES) -> Path:
    """Two transport streams end to end, as cameras leave them: the clock starts again half way."""
    half = num_frames // 2
    path = folder / "joined_ts.ts"
    first = write_video(path, num_frames=half).read_bytes()
    second = write_video(path, num_frames=num_frames - half, first_number=half).read_bytes()
    path.write_bytes(first + second)
    return path


def write_packed(folder: Path, num_frames: int = DEFAULT_FRAMES) -> Path:
    """XviD AVI with packed B-frames: each P-frame's chunk also holds the B-frame shown before it,
    and the next chunk is a place-holder ("N-VOP") the decoder passes over. Needs an odd number of
    frames to end on a pair, so an even one ends with an unpacked P-frame.
    """
    source = write_video(
        folder / "packed_avi_source.avi",
        num_frames=num_frames,
        codec="mpeg4",
        options={"bf": "1", "b_strategy": "0"},
    )
    path = folder / "packed_avi.avi"
    with av.open(str(source)) as reader, av.open(str(path), "w") as writer:
        template = reader.streams.video[0]
        extradata = _mark_packed(template.codec_context.extradata or b"")
        stream = writer.add_stream_from_template(template)
        stream.codec_context.codec_tag, stream.codec_context.extradata = "XVID", extradata
        packets = [packet for packet in reader.demux(template) if packet.size]
        chunks = _pack([_mark_packed(bytes(packet)) for packet in packets])
        for index, (packet, chunk) in enumerate(zip(packets, chunks, strict=True)):
            packed = av.Packet(chunk)
            packed.pts = packed.dts = index
            packed.time_base, packed.is_keyframe = packet.time_base, packet.is_keyframe
            packed.stream = stream
            writer.mux(packed)
    source.unlink()
    return path


def _mark_packed(data: bytes) -> bytes:
    """Replace FFmpeg's signature in the user data by a DivX one whose "p" declares packing."""
    return re.sub(rb"(?<=\x00\x00\x01\xb2)Lavc[0-9.]+", b"DivX503b1393p", data)


def _pack(packets: list[bytes]) -> list[bytes]:
    """Join each P-frame with the B-frame behind it, in decoding order, and leave a place-holder."""
    vop = b"\x00\x00\x01\xb6"
    types = ["IPBS"[packet[packet.index(vop) + 4] >> 6] for packet in packets]
    chunks: list[bytes] = []
    for index, packet in enumerate(packets):
        if types[index] == "B":
            chunks[-1] += packet
            chunks.append(vop + b"\x51\x9f")  # a P-frame header that says "not coded"
        else:
            chunks.append(packet)
    return chunks


KINDS: dict[str, Maker] = {
    **{name: partial(_write_kind, name) for name in _SETTINGS},
    "packed_avi": write_packed,
    "one_frame_mp4": write_one_frame,
    "trimmed_mp4": write_trimmed,
    "joined_ts": write_joined,
}


def _write_truncated(name: str, folder: Path, num_frames: int = DEFAULT_FRAMES) -> Path:
    suffix, settings = _PARTIAL_SETTINGS[name]
    path = write_video(folder / (name + suffix), num_frames=num_frames, **settings)
    return truncate(path, share=0.6)


def write_damaged(folder: Path, num_frames: int = DEFAULT_FRAMES) -> Path:
    """Zeros over a twentieth of the file, in its middle: some frames are grey or missing."""
    path = write_video(folder / "damaged_mpeg4_avi.avi", num_frames=num_frames, codec="mpeg4")
    data = bytearray(path.read_bytes())
    middle, length = len(data) // 2, len(data) // 20
    data[middle : middle + length] = bytes(length)
    path.write_bytes(data)
    return path


# Copies that broke off at 60 % of their bytes: the first frames decode, the rest is gone.
_PARTIAL_SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "truncated_xvid_avi": (".avi", {"codec": "mpeg4", "codec_tag": "XVID"}),
    "truncated_h264_mkv": (".mkv", {}),
    "truncated_h264_ts": (".ts", {}),
    "truncated_faststart_mp4": (".mp4", {"container_options": {"movflags": "faststart"}}),
}
PARTIAL: dict[str, Maker] = {
    **{name: partial(_write_truncated, name) for name in _PARTIAL_SETTINGS},
    "damaged_mpeg4_avi": write_damaged,
}


def write_encrypted(folder: Path, num_frames: int = DEFAULT_FRAMES) -> Path:
    """Common Encryption (cenc-aes-ctr): the container opens, its frames need a key."""
    key = {"encryption_key": "0123456789abcdef" * 2, "encryption_kid": "fedcba9876543210" * 2}
    return write_video(
        folder / "encrypted_mp4.mp4",
        num_frames=num_frames,
        container_options={"encryption_scheme": "cenc-aes-ctr", **key},
    )


def write_no_index(folder: Path, num_frames: int = DEFAULT_FRAMES) -> Path:
    """An mp4 cut off before its index ("moov"), which FFmpeg writes last."""
    path = write_video(folder / "no_index_mp4.mp4", num_frames=num_frames)
    return truncate(path, share=0.6)


def _write_no_frame(suffix: str, folder: Path, num_frames: int = 0) -> Path:
    codec = "mpeg4" if suffix == ".avi" else "libx264"
    return write_video(folder / f"no_frame_{suffix[1:]}{suffix}", num_frames=0, codec=codec)


def _write_sound_only(suffix: str, codec: str, folder: Path, num_frames: int = 50) -> Path:
    path = folder / f"sound_only_{suffix[1:]}{suffix}"
    return write_audio(path, duration_seconds=num_frames / 25, codec=codec)


def _write_bytes(name: str, data: bytes, folder: Path, num_frames: int = 0) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


# Not one frame decodes.
BROKEN: dict[str, Maker] = {
    "encrypted_mp4": write_encrypted,
    "no_index_mp4": write_no_index,
    "no_frame_mp4": partial(_write_no_frame, ".mp4"),
    "no_frame_mkv": partial(_write_no_frame, ".mkv"),
    "no_frame_avi": partial(_write_no_frame, ".avi"),
    "sound_only_mp4": partial(_write_sound_only, ".mp4", "aac"),
    "sound_only_webm": partial(_write_sound_only, ".webm", "libopus"),
    "sound_only_wav": partial(_write_sound_only, ".wav", "pcm_s16le"),
    "empty_mp4": partial(_write_bytes, "empty_mp4.mp4", b""),
    "text_mp4": partial(_write_bytes, "text_mp4.mp4", b"This is no video.\n" * 200),
    "random_avi": partial(_write_bytes, "random_avi.avi", np.random.default_rng(0).bytes(20_000)),
}
