"""Frame k is frame k: against videos whose frame k shows k, and against sequential decoding."""

import csv
import io
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition

from tests.shared_data import CORPUS
from tests.videos import (
    BROKEN,
    KINDS,
    PARTIAL,
    draw_number,
    read_numbers,
    sequential_frames,
    write_video,
)
from vidray.errors import VideoError
from vidray.video import decoders
from vidray.video.decode import (
    Limits,
    Request,
    Video,
    probe,
    read_frames,
)
from vidray.video.packet_index import PacketIndex
from vidray.video.stream import Stream

_ASKED = (59, 0, 1, 5, 11, 12, 13, 40, 41, 30, 30, 58)


@pytest.fixture(params=["short", "long"], autouse=True)
def _length(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test twice: read as short videos are, decoded whole, and as long ones, by the index."""
    if request.param == "long":
        monkeypatch.setattr("vidray.video.readers._SHORT_PIXELS", 0)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("zoo")
    return {name: make(folder) for name, make in {**KINDS, **PARTIAL, **BROKEN}.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*KINDS, *PARTIAL])
def test_every_kind_gives_the_frames_of_a_sequential_decode(
    name: str, zoo: dict[str, Path]
) -> None:
    pixels, _ = sequential_frames(zoo[name], skip_errors=name in PARTIAL)
    indices = [k for k in _ASKED if k < len(pixels)]
    with Video(zoo[name]) as video:
        assert video.num_frames == len(pixels)
        frames = video.read(Request(indices, pixels.shape[2], pixels.shape[1]))[0]
    assert frames.frame_indices.tolist() == indices
    if probe(zoo[name]).rotation_degrees == 0:
        assert np.array_equal(frames.pixels, pixels[indices])


@pytest.mark.parametrize("name", [name for name in KINDS if name != "gif"])
def test_random_access_shows_the_numbers_asked_for(name: str, zoo: dict[str, Path]) -> None:
    pixels, _ = sequential_frames(zoo[name])
    numbers = read_numbers(pixels)
    indices = [k for k in _ASKED if k < len(pixels)]
    frames = read_frames(zoo[name], frame_indices=indices)
    as_stored = np.rot90(frames.pixels, -probe(zoo[name]).rotation_degrees // 90, axes=(1, 2))
    assert read_numbers(as_stored) == [numbers[k] for k in indices]


@pytest.mark.parametrize("name", KINDS)
def test_a_single_late_frame_is_the_same_as_in_a_full_read(name: str, zoo: dict[str, Path]) -> None:
    with Video(zoo[name]) as video:
        last = video.num_frames - 1
    alone = read_frames(zoo[name], frame_indices=[last])
    everything = read_frames(zoo[name], frame_indices=range(last + 1))
    assert np.array_equal(alone.pixels[0], everything.pixels[last])
    assert alone.pts_seconds[0] == everything.pts_seconds[last]


def test_sparse_reading_seeks_and_sequential_reading_does_not(zoo: dict[str, Path]) -> None:
    sparse = {name for name, path in zoo.items() if name in KINDS and _has_exact_index(path)}
    assert {"h264_mp4", "h264_mkv", "hevc_mp4", "vfr_mp4", "open_gop_mp4", "vp9_webm"} <= sparse
    assert not sparse & {
        "xvid_avi",
        "packed_avi",
        "h264_ts",
        "mpeg2_ts",
        "wmv2_wmv",
        "joined_ts",
        "trimmed_mp4",
    }


def _index(path: Path) -> PacketIndex:
    stream = Stream(path, Limits())
    index = stream.index()
    stream.close()
    assert index is not None
    return index


def _has_exact_index(path: Path) -> bool:
    with Video(path) as video:
        return video.has_exact_index


def test_variable_rate_times_are_the_ones_written(zoo: dict[str, Path]) -> None:
    with Video(zoo["vfr_mp4"]) as video:
        gaps = np.diff(video.pts_seconds)
        assert np.array_equal(video.pts_seconds, video.read(Request(range(60)))[0].pts_seconds)
    _, pts_seconds = sequential_frames(zoo["vfr_mp4"])
    assert gaps.max() > 1.5 * gaps.min()
    assert np.allclose(gaps, np.diff(pts_seconds))


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotated_frames_stand_upright(degrees: int, zoo: dict[str, Path]) -> None:
    found = probe(zoo[f"rotated_{degrees}_mp4"])
    frames = read_frames(zoo[f"rotated_{degrees}_mp4"], frame_indices=[0, 7, 41])
    stored, _ = sequential_frames(zoo[f"rotated_{degrees}_mp4"])
    assert found.rotation_degrees == degrees
    assert frames.pixels.shape[1:3] == (found.display_height_px, found.display_width_px)
    capture = cv2.VideoCapture(str(zoo[f"rotated_{degrees}_mp4"]))  # turns frames upright by itself
    assert np.abs(capture.read()[1][:, :, ::-1] - frames.pixels[0].astype(int)).max() <= 4
    capture.release()
    # By hand: counter-clockwise by 90 degrees, the top right corner becomes the top left one.
    corner = {90: stored[0, :, -1], 180: stored[0, -1, ::-1], 270: stored[0, ::-1, 0]}[degrees]
    assert np.array_equal(frames.pixels[0, 0], corner)


@pytest.mark.parametrize("resize", ["swscale", "opencv_area"])
def test_a_turned_video_is_upright_at_a_given_size(resize: Any, zoo: dict[str, Path]) -> None:
    """Its pixels are those of the same video that is not turned, scaled and turned by hand."""
    with Video(zoo["h264_mp4"]) as video:
        (wide,) = video.read(Request([7, 41], 100, 66, resize))
    for degrees in (90, 180, 270):
        upright = np.rot90(wide.pixels, degrees // 90, axes=(1, 2))
        with Video(zoo[f"rotated_{degrees}_mp4"]) as video:
            (frames,) = video.read(Request([7, 41], *upright.shape[2:0:-1], resize))
            (stored,) = video.read(Request([7, 41], resize="as_stored"))
        assert np.array_equal(frames.pixels, upright)
        assert read_numbers(stored.pixels) == [7, 41]


def test_non_square_pixels_become_square(zoo: dict[str, Path]) -> None:
    found = probe(zoo["sample_aspect_mp4"])
    frames = read_frames(zoo["sample_aspect_mp4"], frame_indices=[3])
    assert frames.pixels.shape[1:3] == (found.height_px, round(found.width_px * 4 / 3))
    assert read_numbers(frames.pixels) == [3]


def test_odd_sizes_are_kept(zoo: dict[str, Path]) -> None:
    for name in ("odd_444_mp4", "odd_xvid_avi", "odd_vp9_webm", "odd_ffv1_mkv"):
        assert read_frames(zoo[name], frame_indices=[0]).pixels.shape == (1, 33, 65, 3)


@pytest.mark.parametrize(
    ("name", "kind"),
    {
        "encrypted_mp4": "encrypted",
        "no_index_mp4": "unreadable",
        "no_frame_mp4": "no_video",
        "no_frame_mkv": "unreadable",
        "no_frame_avi": "unreadable",
        "sound_only_mp4": "no_video",
        "sound_only_webm": "no_video",
        "sound_only_wav": "no_video",
        "empty_mp4": "unreadable",
        "text_mp4": "unreadable",
        "random_avi": "unreadable",
    }.items(),
)
def test_what_has_no_frames_says_why(name: str, kind: str, zoo: dict[str, Path]) -> None:
    with pytest.raises(VideoError) as caught:
        probe(zoo[name])
    assert caught.value.kind == kind
    assert str(zoo[name].parent) not in caught.value.message


def test_a_header_cut_short_is_not_an_unknown_codec(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", num_frames=40)
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(VideoError, match="cut off within its header") as caught:
        probe(path)
    assert caught.value.kind == "unreadable"


def test_missing_file() -> None:
    with pytest.raises(VideoError, match="gone") as caught:
        probe("/no/such/video.mp4")
    assert caught.value.kind == "missing"


def test_a_frame_beyond_the_last_is_an_index_error(zoo: dict[str, Path]) -> None:
    for name in ("h264_mp4", "xvid_avi"):
        with pytest.raises(IndexError, match=r"frame 60 asked for, the video has 60 \(0 to 59\)"):
            read_frames(zoo[name], frame_indices=[2, 60])
    with pytest.raises(IndexError, match="indices start at 0"):
        read_frames(zoo["h264_mp4"], frame_indices=[-1])


def test_no_frames_asked_for(zoo: dict[str, Path]) -> None:
    assert read_frames(zoo["h264_mp4"], frame_indices=[]).pixels.shape[0] == 0


def test_caps_refuse_instead_of_trying(zoo: dict[str, Path]) -> None:
    for limits in (
        Limits(max_pixels=1000),
        Limits(max_bytes=1000),
        Limits(max_frames=30),
        Limits(max_seconds=1),
    ):
        for name in ("h264_mp4", "xvid_avi"):
            with pytest.raises(VideoError) as caught:
                probe(zoo[name], limits=limits)
            assert caught.value.kind == "too_large", limits
    with pytest.raises(ValueError, match="max_frames is 0"):
        Limits(max_frames=0)


def test_a_playlist_cannot_make_the_decoder_open_another_file(
    tmp_path: Path, zoo: dict[str, Path]
) -> None:
    target = zoo["h264_ts"]
    for name, text in {
        "hls.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:2,\n"
        f"file:{target}\n#EXT-X-ENDLIST\n",
        "concat.mp4": f"ffconcat version 1.0\nfile '{target}'\n",
    }.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(VideoError) as caught:
            probe(tmp_path / name)
        assert caught.value.kind == "unreadable"
    with pytest.raises(VideoError):
        probe(f"concat:{target}|{target}")


def test_a_file_object_reads_like_a_path(zoo: dict[str, Path]) -> None:
    for name in ("h264_mp4", "xvid_avi", "h264_ts", "vp9_webm"):
        from_path = read_frames(zoo[name], frame_indices=[50, 2])
        from_object = read_frames(io.BytesIO(zoo[name].read_bytes()), frame_indices=[50, 2])
        assert np.array_equal(from_path.pixels, from_object.pixels)


def test_two_sizes_in_one_pass(zoo: dict[str, Path]) -> None:
    with Video(zoo["xvid_avi"]) as video:
        small, large = video.read(
            Request([5, 9], 64, 48), Request([9, 30], 200, 150, "opencv_area")
        )
    assert (small.pixels.shape, large.pixels.shape) == ((2, 48, 64, 3), (2, 150, 200, 3))
    assert read_numbers(small.pixels) + read_numbers(large.pixels) == [5, 9, 9, 30]


def test_more_frames_than_are_kept_are_read_in_a_second_pass(
    zoo: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidray.video.readers._KEEP_BYTES", 1000)
    with Video(zoo["xvid_avi"]) as video:
        assert video.num_frames == 60
        assert read_numbers(video.read(Request([40, 3]))[0].pixels) == [40, 3]


def test_index_that_the_decoder_contradicts_is_not_used(tmp_path: Path) -> None:
    """A packet of well-formed NAL units that decodes to nothing: one frame fewer than packets."""
    path = write_video(
        tmp_path / "clip.mp4", num_frames=60, options={"x264-params": "keyint=20:bframes=0"}
    )
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][30]
        position, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    payload = (
        (size - 4).to_bytes(4, "big") + b"\x1c" + bytes(size - 5)
    )  # one NAL unit of unused type 28
    data[position : position + size] = payload
    path.write_bytes(data)
    pixels, _ = sequential_frames(path, skip_errors=True)
    assert len(_index(path).pts) == 60
    with Video(path) as video:
        frames = video.read(Request([29, 32, 45]))[0]
        assert video.num_frames == len(pixels) < 60
        assert not video.has_exact_index
    assert np.array_equal(frames.pixels, pixels[[29, 32, 45]])


def test_the_same_frame_whatever_else_is_asked_for(tmp_path: Path) -> None:
    """A Motion JPEG packet of zeros: 59 frames, and frame 50 is the same alone and among others."""
    path = write_video(tmp_path / "clip.mov", num_frames=60, codec="mjpeg", pix_fmt="yuvj420p")
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][10]
        position, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    data[position : position + size] = bytes(size)
    path.write_bytes(data)
    pixels, _ = sequential_frames(path, skip_errors=True)
    assert probe(path).num_frames == len(pixels)
    for asked in ([50], [5, 50], [5, 10, 50]):
        frames = read_frames(path, frame_indices=asked)
        assert np.array_equal(frames.pixels, pixels[asked])


def test_a_stream_that_changes_its_size_keeps_the_first(tmp_path: Path) -> None:
    small = write_video(
        tmp_path / "a.ts", num_frames=30, codec="mpeg2video", width_px=64, height_px=48
    )
    large = write_video(
        tmp_path / "b.ts", num_frames=30, codec="mpeg2video", width_px=96, height_px=64
    )
    both = tmp_path / "both.ts"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    with Video(both) as video:
        upright, stored = video.read(Request([0, 55]), Request([0, 55], resize="as_stored"))
        found = video.probe()
    assert upright.pixels.shape == stored.pixels.shape == (2, 48, 64, 3)
    assert (found.width_px, found.height_px) == (64, 48)
    with pytest.raises(VideoError, match="96x64"):
        read_frames(both, frame_indices=[55], limits=Limits(max_pixels=64 * 48))


def _two_streams(path: Path, sizes: list[tuple[int, int]], default: list[bool] | None) -> Path:
    """A video stream of each size and 5, 6, 7 frames; with or without marks as default."""
    with av.open(str(path), "w") as container:
        streams = []
        for width_px, height_px in sizes:
            stream = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = width_px, height_px, "yuv420p"
            streams.append(stream)
        if default is not None:
            for stream, is_default in zip(streams, default, strict=True):
                stream.disposition = Disposition.default if is_default else Disposition(0)
        for number, stream in enumerate(streams):
            for k in range(5 + number):
                rgb = draw_number(k, width_px=stream.width, height_px=stream.height)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
            container.mux(stream.encode())
    return path


_SMALL, _LARGE, _MIDDLE = (64, 48), (320, 240), (160, 120)


@pytest.mark.parametrize(
    ("sizes", "default", "shown"),
    [
        # FFmpeg marks the first by itself where nobody chose: the largest is shown.
        ([_SMALL, _LARGE], None, 1),
        ([_SMALL, _LARGE], [True, False], 1),
        ([_LARGE, _SMALL], [True, False], 0),
        # Somebody chose.
        ([_LARGE, _SMALL, _MIDDLE], [False, True, False], 1),
        ([_LARGE, _SMALL], [False, True], 1),
        ([_SMALL, _LARGE], [True, True], 0),
        ([_LARGE, _SMALL, _MIDDLE], [False, True, True], 1),
    ],
)
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_of_several_streams_the_one_a_player_shows(
    sizes: list[tuple[int, int]],
    default: list[bool] | None,
    shown: int,
    suffix: str,
    tmp_path: Path,
) -> None:
    found = probe(_two_streams(tmp_path / f"a{suffix}", sizes, default))
    assert (found.width_px, found.height_px) == sizes[shown]
    assert found.num_frames == 5 + shown


def test_another_decoder_does_not_choose_among_streams(tmp_path: Path) -> None:
    path = _two_streams(tmp_path / "a.mp4", [_SMALL, _LARGE], None)
    with Video(path) as video:
        (frames,), used = decoders.read(video, path, [Request([3])], decoder="opencv")
    assert used == "pyav"
    assert frames.pixels.shape == (1, 240, 320, 3)


def test_pictures_that_move_are_videos_or_say_why_not(tmp_path: Path) -> None:
    picture: dict[str, Any] = {"num_frames": 6, "width_px": 64, "height_px": 48}
    gif = write_video(tmp_path / "a.gif", codec="gif", pix_fmt="rgb8", **picture)
    png = write_video(
        tmp_path / "a.png", codec="apng", pix_fmt="rgb24", container_format="apng", **picture
    )
    avif = write_video(tmp_path / "a.avif", codec="libsvtav1", **picture)
    for path in (gif, png, avif):
        assert probe(path).num_frames == 6
    webp = write_video(tmp_path / "a.webp", codec="libwebp_anim", **picture)
    with pytest.raises(VideoError, match="an animated WebP, which FFmpeg cannot decode") as caught:
        probe(webp)
    assert caught.value.kind == "unsupported"
    with pytest.raises(VideoError, match="an animated WebP"):
        probe(io.BytesIO(webp.read_bytes()))
    still = write_video(tmp_path / "b.webp", codec="libwebp", **{**picture, "num_frames": 1})
    with pytest.raises(VideoError, match="a still picture") as caught:
        probe(still)
    assert caught.value.kind == "no_video"


def test_hidden_frames_of_vp9_are_not_counted(tmp_path: Path) -> None:
    """Key frames are hidden, and shown by a frame of one byte in the same packet (a superframe)."""
    plain = write_video(tmp_path / "a.webm", codec="libvpx-vp9")
    path = tmp_path / "b.webm"
    with av.open(str(plain)) as reader, av.open(str(path), "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        for packet in [packet for packet in reader.demux(video=0) if packet.size]:
            data = bytes(packet)
            if packet.is_keyframe:
                parts = [bytes([data[0] & ~0b10]) + data[1:], b"\x88"]  # Not shown; show frame 0.
                sizes = b"".join(len(part).to_bytes(4, "little") for part in parts)
                data = b"".join(parts) + b"\xd9" + sizes + b"\xd9"  # VP9 specification, annex B
            copy = av.Packet(data)
            copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
            copy.is_keyframe, copy.stream = packet.is_keyframe, stream
            writer.mux(copy)
    pixels, _ = sequential_frames(path)
    assert read_numbers(pixels) == list(range(60))
    with Video(path) as video:
        assert video.has_exact_index
        assert video.num_frames == 60
    for k in (0, 11, 12, 13, 35, 59):
        assert np.array_equal(read_frames(path, frame_indices=[k]).pixels[0], pixels[k])


def test_a_clock_that_starts_again_does_not_spoil_rate_and_duration(zoo: dict[str, Path]) -> None:
    found = probe(zoo["joined_ts"])
    assert found.frames_per_second == pytest.approx(25.0, rel=0.01)
    assert found.num_frames is not None
    assert found.duration_seconds == pytest.approx(found.num_frames / 25, rel=0.02)


@pytest.mark.shared
def test_corpus_counts_are_ffmpegs() -> None:
    text = (CORPUS / "expected.csv").read_text()
    for row in csv.DictReader(text.splitlines()):
        path = CORPUS / row["path"]
        if int(row["ffmpeg_error_lines"]) == 0:
            found = probe(path)
            assert found.num_frames == int(row["frames_ffmpeg_decodes"]), row
            assert (found.width_px, found.height_px) == (
                int(row["width_px"]),
                int(row["height_px"]),
            ), row
        elif not row["codec"]:
            with pytest.raises(VideoError) as caught:
                probe(path)
            assert caught.value.kind == "no_video", row
