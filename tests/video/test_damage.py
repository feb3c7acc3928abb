"""Damage is told, costs what is damaged and no more, and is never taken for something else."""

import dataclasses
import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pytest

from bench import damage
from tests.video_writer import count_corrupt, moving_scene, packet_places, write_concealed
from tests.videos import KINDS, sequential_frames, write_video
from vidray.errors import UserError, VideoError
from vidray.features.extraction import Settings, describe_video
from vidray.tables import runs, summary
from vidray.video.clips import ClipSettings, cut_video
from vidray.video.decode import (
    Damage,
    Limits,
    Request,
    Video,
    probe,
    read_frames,
)
from vidray.video.pixels import to_rgb

_LONG = (
    "vidray.video.readers._SHORT_PIXELS",
    0,
)  # Every video is read by its index, as a long one is.
_X264 = {"x264-params": "keyint=10:bframes=2:scenecut=0:b-adapt=0"}


def _video(path: Path) -> dict[str, Any]:
    return {
        "video_id": "v", "uri": str(path), "size_bytes": path.stat().st_size, "fingerprint": "f",
        "label": "a", "split": None, "group": None,
    }  # fmt: skip


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_corrupt_frames_are_counted(suffix: str, tmp_path: Path) -> None:
    path = write_concealed(tmp_path / f"a{suffix}")
    corrupt, frames = count_corrupt(path)
    assert 1 <= corrupt < frames
    row = describe_video(_video(path), Settings(families=("color",))).to_pylist()[0]
    assert (row["status"], row["num_frames"]) == ("ok", frames)
    assert (row["corrupt_frames"], row["corrupt_share"]) == (corrupt, corrupt / frames)
    clip = cut_video(_video(path), ClipSettings(size_px=32, frames_per_clip=4)).to_pylist()[0]
    assert (clip["corrupt_frames"], clip["corrupt_share"]) == (corrupt, corrupt / frames)


def test_an_index_is_not_believed_where_the_decoder_marks_a_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(*_LONG)
    path = write_concealed(tmp_path / "a.mp4")
    corrupt, frames = count_corrupt(path)
    pixels, _ = sequential_frames(path, skip_errors=True)
    with Video(path) as video:
        assert video.has_exact_index
        assert video.damage == Damage()  # Nothing was looked at yet.
        video.read(Request([0, 5]))
        assert video.damage == Damage(damaged_packets=0, corrupt_frames=0, corrupt_share=0.0)
        read = video.read(Request([2, 28, 55]))[0]
        assert not video.has_exact_index
        assert video.num_frames == frames
        assert video.damage.corrupt_frames == corrupt
    # How a frame is concealed depends on the number of decoding threads.
    assert np.array_equal(read.pixels[[0, 2]], pixels[[2, 55]])


@pytest.mark.slow
@pytest.mark.parametrize("is_long", [False, True])
def test_a_whole_video_has_no_damage(
    is_long: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_long:
        monkeypatch.setattr(*_LONG)
    for name in ("h264_mp4", "open_gop_mp4", "hevc_mp4", "vp9_webm", "xvid_avi", "packed_avi"):
        with Video(KINDS[name](tmp_path)) as video:
            had_index = video.has_exact_index
            video.read(Request([0, 13, 40]))
            assert video.has_exact_index == had_index
            assert video.damage == Damage(damaged_packets=0, corrupt_frames=0, corrupt_share=0.0)


def test_a_share_of_corrupt_frames_may_be_refused(tmp_path: Path) -> None:
    path = write_concealed(tmp_path / "a.mp4")
    corrupt, frames = count_corrupt(path)
    for cap, status in (
        (corrupt / frames, "ok"),
        (corrupt / frames - 1e-6, "failed"),
        (0, "failed"),
    ):
        settings = Settings(families=("color",), limits=Limits(max_corrupt_share=cap))
        row = describe_video(_video(path), settings).to_pylist()[0]
        assert row["status"] == status
        if status == "failed":
            assert row["error_kind"] == "damaged"
            assert row["error_message"].startswith(f"{corrupt} of {frames} frames are corrupt")
    whole = write_video(tmp_path / "b.mp4", num_frames=5)
    assert probe(whole, limits=Limits(max_corrupt_share=0)).num_frames == 5
    with pytest.raises(UserError, match=r"max_corrupt_share is 1\.5: it must be 0 to 1"):
        Limits(max_corrupt_share=1.5)


def test_who_refuses_corrupt_frames_gets_the_decoder_that_tells_them(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", num_frames=20)
    for cap, decoder in ((1.0, "opencv"), (0.5, "pyav")):
        limits = Limits(max_corrupt_share=cap)
        settings = Settings(families=("color",), decoder="opencv", limits=limits)
        assert describe_video(_video(path), settings).to_pylist()[0]["decoder"] == decoder


def test_a_packet_refused_with_an_unusual_error_costs_one_frame(tmp_path: Path) -> None:
    """ProRes: one byte of a frame's header, and the decoder says "operation not permitted"."""
    path = write_video(tmp_path / "a.mov", num_frames=20, codec="prores_ks", pix_fmt="yuv422p10le")
    place, _ = packet_places(path)[5]
    data = bytearray(path.read_bytes())
    data[place + 20] = 255
    path.write_bytes(data)
    with pytest.raises(PermissionError):
        sequential_frames(path, skip_errors=True)
    row = describe_video(_video(path), Settings(families=("color",))).to_pylist()[0]
    assert (row["status"], row["num_frames"], row["damaged_packets"]) == ("ok", 19, 1)
    # A frame fewer, and still the same rate and length.
    assert (row["frames_per_second"], row["duration_seconds"]) == (25.0, pytest.approx(0.8))


@pytest.mark.parametrize(
    "error", [av.error.ArgumentError, av.error.PermissionError, av.error.UndefinedError]
)
def test_any_error_of_the_decoder_costs_its_packet(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.avi", num_frames=20, codec="mjpeg", pix_fmt="yuvj420p")
    monkeypatch.setattr("vidray.video.stream.Stream._packets", _refusing(error, (3, 4)))
    with Video(path) as video:
        assert video.num_frames == 18
        assert video.damage.damaged_packets == 2
    monkeypatch.setattr("vidray.video.stream.Stream._packets", _refusing(error, range(100)))
    with pytest.raises(VideoError, match="the decoder refuses all 21 packets") as caught:
        probe(path)
    assert caught.value.kind == "unreadable"


def _refusing(error: type[Exception], refused: Any) -> Any:
    class Packet:
        pts = dts = None

        def has_sidedata(self, _: str) -> bool:
            return False

        def decode(self) -> list[Any]:
            raise error(1, "refused")

    def packets(stream: Any) -> Any:
        for number, packet in enumerate(stream._container.demux(stream._stream)):
            yield Packet() if number in refused else packet

    return packets


class _Failing(io.BytesIO):
    """A file in a bucket that is lost after ``after`` bytes."""

    def __init__(self, data: bytes, after: int, error: Exception) -> None:
        super().__init__(data)
        self.after, self.error = after, error

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= self.after:
            raise self.error
        return super().read(size)


@pytest.mark.parametrize("name", ["h264_mkv", "xvid_avi", "h264_ts", "ffv1_mkv"])
@pytest.mark.parametrize(
    "error", [OSError(5, "lost"), ConnectionError("lost"), VideoError("unavailable", "lost")]
)
def test_a_storage_that_fails_is_told_as_such(
    name: str, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = KINDS[name](tmp_path, 400).read_bytes()
    with pytest.raises(VideoError, match="lost") as caught:
        probe(_Failing(data, len(data) // 2, error))
    assert caught.value.kind == "unavailable"
    with pytest.raises(VideoError, match="lost") as caught:
        probe(_Failing(data, 0, error))
    assert caught.value.kind == "unavailable"


def test_a_file_that_ffmpeg_may_not_open_is_damaged_not_denied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A demuxer says "not permitted" of a damaged file, too (seen of an ASF)."""

    def refuse(*_: Any, **__: Any) -> None:
        raise av.error.PermissionError(1, "Operation not permitted")

    path = write_video(tmp_path / "a.mp4", num_frames=2)
    monkeypatch.setattr("av.open", refuse)
    with pytest.raises(VideoError) as caught:
        probe(path)
    assert caught.value.kind == "unreadable"


def test_a_decoder_that_must_see_the_first_packet_sees_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """x264 before build 151 coded 4:4:4 otherwise; the first packet alone names the build."""
    monkeypatch.setattr(*_LONG)
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "10", "crf": "30"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv444p"
        for rgb in moving_scene(40):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode())
    data = path.read_bytes()
    begin = data.index(b"x264 - core ") + len(b"x264 - core ")
    path.write_bytes(data[:begin] + b"142" + data[begin + 3 :])
    with av.open(str(path)) as container:
        container.streams.video[0].thread_count = 1  # What it takes for damage depends on that.
        pixels = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for k in (0, 15, 25, 28, 33):
        assert np.array_equal(read_frames(path, frame_indices=[k]).pixels[0], pixels[k])


def test_parameter_sets_that_change_midway_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two recordings in one stream: the second one's parameter sets come with its first packet."""
    monkeypatch.setattr(*_LONG)
    one = write_video(tmp_path / "a.mp4", num_frames=20, options=_X264)
    other = {"x264-params": "keyint=10:bframes=0:scenecut=0:cabac=0:ref=1"}
    two = write_video(tmp_path / "b.mp4", num_frames=40, first_number=20, options=other)
    path = tmp_path / "c.mp4"
    with av.open(str(one)) as first, av.open(str(two)) as second, av.open(str(path), "w") as writer:
        stream = writer.add_stream_from_template(first.streams.video[0])
        for reader, begin in ((first, 0), (second, 20)):
            sets = _parameter_sets(bytes(reader.streams.video[0].codec_context.extradata or b""))
            packets = [packet for packet in reader.demux(video=0) if packet.size]
            for number, packet in enumerate(packets):
                copy = av.Packet((sets if begin and not number else b"") + bytes(packet))
                assert packet.pts is not None
                assert packet.dts is not None
                shift = round(begin / 25 / packet.time_base)
                copy.pts, copy.dts = packet.pts + shift, packet.dts + shift
                copy.time_base, copy.is_keyframe = packet.time_base, packet.is_keyframe
                copy.stream = stream
                writer.mux(copy)
    pixels, _ = sequential_frames(path, skip_errors=True)
    assert len(pixels) == 60
    for k in (5, 25, 45, 59):
        assert np.array_equal(read_frames(path, frame_indices=[k]).pixels[0], pixels[k])


def _parameter_sets(avcc: bytes) -> bytes:
    """The parameter sets of an avcC box with four bytes of length each (ISO/IEC 14496-15)."""
    found, at = b"", 6
    for _ in range(2):  # One SPS, then a count of one PPS.
        size = int.from_bytes(avcc[at : at + 2], "big")
        found += size.to_bytes(4, "big") + avcc[at + 2 : at + 2 + size]
        at += 2 + size + 1
    return found


@pytest.mark.slow
def test_a_stream_that_begins_midway_is_passed_over(tmp_path: Path) -> None:
    """A transport stream with sound in its middle: FFmpeg looks at 5 MB first, and at the end."""
    silent = write_video(
        tmp_path / "a.ts", num_frames=60, codec="mpeg2video", width_px=720, height_px=576
    )
    sounding = write_video(
        tmp_path / "b.ts", num_frames=30, codec="mpeg2video", audio_codec="mp2", width_px=720,
        height_px=576,
    )  # fmt: skip
    path = tmp_path / "c.ts"
    times = 1 + (6 << 20) // silent.stat().st_size
    path.write_bytes(silent.read_bytes() * times + sounding.read_bytes() + silent.read_bytes() * 2)
    with av.open(str(path)) as container:
        assert not container.streams.audio
        with pytest.raises(IndexError):
            list(container.demux(video=0))
    with Video(path) as video:
        assert video.num_frames == (times + 2) * 60 + 30


@pytest.mark.parametrize("matrix", [3, 8, 14, 255])
def test_colours_that_ffmpeg_does_not_convert_are_taken_as_unstated(
    matrix: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reserved, YCgCo, ICtCp, and a number that a damaged ProRes frame states."""
    luma = np.tile(np.arange(16, 80, 4, dtype=np.uint8), (24, 1))
    frames = [av.VideoFrame.from_ndarray(luma, format="yuv420p") for _ in range(2)]
    frames[0].colorspace = matrix
    with pytest.raises(OSError, match="not supported"):
        frames[0].to_ndarray(format="rgb24")
    stated, unstated = (
        to_rgb(frame, size=(8, 8), resize="swscale", rotation_degrees=0) for frame in frames
    )
    assert np.array_equal(stated, unstated)


def test_a_run_counts_videos_with_damage_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [write_concealed(tmp_path / f"{k}.mp4") for k in range(2)]
    paths.append(write_video(tmp_path / "whole.mp4", num_frames=5))
    settings = ClipSettings(size_px=16, frames_per_clip=2, clips_per_video=3)
    clips = [cut_video(_video(path), settings) for path in paths]
    counts = runs.count(pa.Table.from_batches(clips))
    assert (counts["videos"], counts["with_corrupt_frames"]) == (3, 2)
    assert counts["with_damaged_packets"] == 0
    seconds = {"working": 1.0, "startup": 1.0}
    summary.print_counts({"counts": counts, "seconds": seconds, "videos_per_second": 1.0})
    assert "2 videos have corrupt frames" in capsys.readouterr().out


@pytest.mark.slow
def test_random_damages_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Few of those of ``bench/damage.py``, through the sandbox."""
    with pytest.raises(SystemExit) as ended:
        damage.main(damage.Bench(damages=60, workers=1, num_frames=12))
    assert ended.value.code == 0, capsys.readouterr().out


def test_damage_has_the_names_of_its_columns() -> None:
    row = describe_video(_video(Path("/dev/null")), Settings(families=("color",)))
    assert {field.name for field in dataclasses.fields(Damage)} <= set(row.schema.names)
