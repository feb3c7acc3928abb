"""The same pictures in every container: the same times, the same frames, the same features."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext

from tests.video_writer import moving_scene
from tests.videos import sequential_frames, write_video
from vidray.features.extraction import Settings, describe_video
from vidray.video.decode import Video, probe, read_frames

_FRAMES, _FPS = 60, 25
# What AVI and transport streams need of packets from an MP4: headers in the stream.
_FILTERS = {("h264", ".avi"): "h264_mp4toannexb", ("mpeg4", ".ts"): "dump_extra"}
_CONTAINERS = (".avi", ".mp4", ".mkv", ".mov", ".ts")


def _encode(path: Path, codec: str, options: dict[str, str]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=_FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.thread_count = 1
        for rgb in moving_scene(_FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode())
    return path


def _copy(
    source: Path,
    path: Path,
    *,
    times: Callable[[int, int], tuple[int, int]] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """The very packets of ``source`` in another container: the decoded pixels are the same.

    Args:
        times: (number of the packet, pts in frames) -> (pts, dts), in frames.
    """
    with (
        av.open(str(source)) as reader,
        av.open(str(path), "w", container_options=options or {}) as writer,
    ):
        stream = writer.add_stream_from_template(reader.streams.video[0])
        packets = [packet for packet in reader.demux(video=0) if packet.size]
        codec = reader.streams.video[0].codec_context.name
        for wanted, name in _FILTERS.items():
            if wanted == (codec, path.suffix):
                bare = BitStreamFilterContext(name, reader.streams.video[0])
                packets = [changed for packet in packets for changed in bare.filter(packet)]
        for number, packet in enumerate(packets):
            if times is not None:
                assert packet.pts is not None
                shown = round(packet.pts * packet.time_base * _FPS)
                packet.pts, packet.dts = times(number, shown)
                packet.time_base = Fraction(1, _FPS)
            packet.stream = stream
            writer.mux(packet)
    return path


_STREAMS = {
    "h264": ("libx264", {"g": "24", "bf": "3", "x264-params": "b-pyramid=normal:scenecut=0"}),
    "xvid": ("mpeg4", {"g": "24", "bf": "2", "qmin": "2", "qmax": "4"}),
}


@pytest.fixture(scope="module", params=_STREAMS)
def same_pictures(request: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    source = _encode(folder / "source.mp4", *_STREAMS[request.param])
    return {suffix: _copy(source, folder / f"copy{suffix}") for suffix in _CONTAINERS}


@pytest.mark.parametrize("suffix", _CONTAINERS)
def test_the_same_pictures_have_the_same_times(suffix: str, same_pictures: dict[str, Path]) -> None:
    found = probe(same_pictures[suffix])
    with Video(same_pictures[suffix]) as video:
        times = video.pts_seconds
    assert times - times[0] == pytest.approx(np.arange(_FRAMES) / _FPS, abs=1e-3)
    assert times[0] == pytest.approx(0, abs=1e-6)
    assert found.frames_per_second == _FPS
    assert found.duration_seconds == pytest.approx(_FRAMES / _FPS, abs=1e-3)


@pytest.mark.slow
def test_the_same_pictures_have_the_same_features(same_pictures: dict[str, Path]) -> None:
    settings = Settings(families=("flow", "color"))
    rows = {}
    for suffix, path in same_pictures.items():
        video = {"video_id": "v", "uri": str(path), "size_bytes": 1, "fingerprint": "f"}
        rows[suffix] = describe_video(video, settings).to_pylist()[0]
    for suffix in _CONTAINERS:
        for family in settings.families:
            numbers, expected = rows[suffix][family], rows[".mp4"][family]
            assert numbers == pytest.approx(expected, rel=0.01, abs=1e-5, nan_ok=True), suffix


def test_the_same_pictures_are_the_same_frames(same_pictures: dict[str, Path]) -> None:
    expected, _ = sequential_frames(same_pictures[".mp4"])
    for path in same_pictures.values():
        assert np.array_equal(read_frames(path, frame_indices=range(_FRAMES)).pixels, expected)


def test_chunks_that_an_encoder_leaves_empty_behind_the_first_frame_are_no_gap(
    tmp_path: Path,
) -> None:
    """XviD holds frames back: chunk 0 is a frame, chunks 1 and 2 are empty (UCF-101's files)."""
    source = _encode(tmp_path / "a.mp4", *_STREAMS["xvid"])
    late = _copy(
        source, tmp_path / "b.avi", times=lambda number, _: (number + 2 * (number > 0),) * 2
    )
    with Video(late) as video:
        assert video.pts_seconds == pytest.approx(np.arange(_FRAMES) / _FPS)
        assert video.frames_per_second == _FPS


def test_frames_dropped_while_recording_leave_a_gap(tmp_path: Path) -> None:
    """Empty chunks of an AVI without B-frames repeat the frame before them."""
    pts = [*range(20), *range(30, 50)]
    path = write_video(
        tmp_path / "a.avi", num_frames=40, codec="mjpeg", pix_fmt="yuvj420p", pts=pts
    )
    with Video(path) as video:
        assert video.pts_seconds == pytest.approx(np.array(pts) / 25)
        assert video.probe().duration_seconds == pytest.approx(2.0)


def test_an_avi_whose_every_other_chunk_is_empty_has_half_its_headers_rate(tmp_path: Path) -> None:
    """So FFmpeg writes 25 frames a second of H.264 with a clock of fiftieths."""
    source = _encode(tmp_path / "a.mp4", *_STREAMS["h264"])
    with av.open(str(source)) as reader, av.open(str(tmp_path / "b.avi"), "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        stream.time_base = Fraction(1, 50)
        bare = BitStreamFilterContext("h264_mp4toannexb", reader.streams.video[0])
        packets = [
            p for packet in reader.demux(video=0) if packet.size for p in bare.filter(packet)
        ]
        for number, packet in enumerate(packets):
            packet.pts = packet.dts = 2 * number
            packet.time_base, packet.stream = Fraction(1, 50), stream
            writer.mux(packet)
    with Video(tmp_path / "b.avi") as video:
        assert video.pts_seconds == pytest.approx(np.arange(_FRAMES) / _FPS)
        assert video.frames_per_second == pytest.approx(25)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_where_times_contradict_the_decoder_its_order_is_right(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last frame of a group and the key frame behind it have each other's times."""
    monkeypatch.setattr("vidray.video.readers._SHORT_PIXELS", 0)  # As if it were long.
    source = write_video(
        tmp_path / "a.mp4", num_frames=40, options={"x264-params": "keyint=10:bframes=0:scenecut=0"}
    )
    swapped = {19: 20, 20: 19}
    path = _copy(
        source,
        tmp_path / f"b{suffix}",
        times=lambda number, _: (swapped.get(number, number) + 5, number),
    )
    pixels, stated = sequential_frames(path)
    assert stated[19] > stated[20]
    for k in (18, 19, 20, 21, 35):
        assert np.array_equal(read_frames(path, frame_indices=[k]).pixels[0], pixels[k])
    with Video(path) as video:
        assert np.diff(video.pts_seconds) == pytest.approx(np.full(39, 0.04), abs=2e-3)


@pytest.mark.slow
def test_frames_shown_before_they_are_decoded_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An MP4 with composition offsets below zero, as QuickTime writes them."""
    monkeypatch.setattr("vidray.video.readers._SHORT_PIXELS", 0)
    source = _encode(tmp_path / "a.mp4", *_STREAMS["h264"])
    path = _copy(
        source,
        tmp_path / "b.mp4",
        times=lambda number, pts: (pts + 5, number),
        options={"use_editlist": "0"},
    )
    data = path.read_bytes()
    # ctts: every offset of a frame's time from its decoding time, five frames less.
    place = data.index(b"ctts") + 8
    entries = int.from_bytes(data[place : place + 4], "big")
    table = bytearray(data)
    table[place - 4] = 1  # Version 1: offsets are signed.
    with av.open(str(path)) as container:
        scale = container.streams.video[0].time_base
    assert scale is not None
    shift = round(5 / _FPS / scale)
    for entry in range(entries):
        at = place + 4 + 8 * entry + 4
        offset = int.from_bytes(data[at : at + 4], "big") - shift
        table[at : at + 4] = offset.to_bytes(4, "big", signed=True)
    path.write_bytes(table)
    pixels, _ = sequential_frames(path)
    for k in (0, 3, 23, 24, 25, 59):
        assert np.array_equal(read_frames(path, frame_indices=[k]).pixels[0], pixels[k])
    with Video(path) as video:
        assert video.has_exact_index
        assert np.diff(video.pts_seconds) == pytest.approx(np.full(_FRAMES - 1, 0.04))
