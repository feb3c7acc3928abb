"""What packets alone tell of frames: hidden ones of VP9, and times that lie behind each other."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.videos import sequential_frames, write_video
from vidray.video.decode import Limits, Request, Video, read_frames
from vidray.video.packet_index import PacketIndex, _vp9_shows_a_frame
from vidray.video.stream import Stream

# "show_existing_frame" of slot 0, where a key frame leaves its picture, as it does in every slot.
_SHOW_SLOT_0 = bytes([0b10_00_1_000])


@pytest.fixture(autouse=True)
def _as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Videos are read by their index, though they are short."""
    monkeypatch.setattr("vidray.video.readers._SHORT_PIXELS", 0)


def _index(path: Path) -> PacketIndex | None:
    stream = Stream(path, Limits())
    index = stream.index()
    stream.close()
    return index


# VP9: what is not shown


def _hidden(key_frame: bytes) -> bytes:
    """The same key frame with ``show_frame`` 0: it is decoded, and nothing is shown."""
    assert key_frame[0] == 0b10_00_0_0_1_0
    return bytes([0b10_00_0_0_0_0]) + key_frame[1:]


def _superframe(*frames: bytes) -> bytes:
    """Frames in one packet with an index of their sizes (VP9 bitstream specification, annex B)."""
    marker = bytes([0b110_01_000 | (len(frames) - 1)])  # sizes of two bytes each
    sizes = b"".join(len(frame).to_bytes(2, "little") for frame in frames)
    return b"".join(frames) + marker + sizes + marker


def _as_superframe(key_frame: bytes) -> list[bytes]:
    return [_superframe(_hidden(key_frame), _SHOW_SLOT_0)]


def _as_two_packets(key_frame: bytes) -> list[bytes]:
    return [_hidden(key_frame), _SHOW_SLOT_0]


def _write_vp9(path: Path, change: Callable[[bytes], list[bytes]]) -> Path:
    """A WebM of 60 frames, every twelfth a key frame that is changed; it shows the same pictures.

    "-autobsf": FFmpeg would join a hidden frame with the next one by itself.
    """
    plain = write_video(path.with_name(f"plain_{path.name}"), codec="libvpx-vp9")
    with (
        av.open(str(plain)) as reader,
        av.open(str(path), "w", container_options={"fflags": "-autobsf"}) as writer,
    ):
        source = reader.streams.video[0]
        stream = writer.add_stream_from_template(source)
        for packet in reader.demux(source):
            for made in _changed(packet, change) if packet.size else ():
                made.stream = stream
                writer.mux(made)
    return path


def _changed(packet: av.Packet, change: Callable[[bytes], list[bytes]]) -> Iterator[av.Packet]:
    datas = change(bytes(packet)) if packet.is_keyframe else [bytes(packet)]
    for number, data in enumerate(datas):
        made = av.Packet(data)
        made.pts = made.dts = packet.pts + number  # in milliseconds, as WebM counts
        made.time_base = packet.time_base
        made.is_keyframe = packet.is_keyframe and number == 0
        yield made


def test_a_hidden_frame_that_travels_with_a_shown_one_is_one_frame(tmp_path: Path) -> None:
    path = _write_vp9(tmp_path / "a.webm", _as_superframe)
    pixels, _ = sequential_frames(tmp_path / "plain_a.webm")
    index = _index(path)
    assert index is not None
    assert (len(index.pts), index.key_frames.tolist()) == (60, [0, 12, 24, 36, 48])
    asked = [59, 0, 13, 24, 47]
    with Video(path) as video:
        (frames,) = video.read(Request(asked))
        assert video.has_exact_index
    assert np.array_equal(frames.pixels, pixels[asked])


def test_packets_of_hidden_frames_are_no_index_of_what_is_shown(tmp_path: Path) -> None:
    path = _write_vp9(tmp_path / "a.webm", _as_two_packets)
    pixels, _ = sequential_frames(tmp_path / "plain_a.webm")
    with av.open(str(path)) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) == 65
    assert _index(path) is None
    asked = [59, 0, 13, 24, 47]
    with Video(path) as video:
        assert video.num_frames == 60
        assert np.array_equal(video.read(Request(asked))[0].pixels, pixels[asked])


@pytest.mark.parametrize(
    ("data", "is_shown"),
    [
        # Frame marker 10, profile, show_existing_frame, frame_type, show_frame, error resilience.
        ([0b10_00_0_0_1_0, 0], True),
        ([0b10_00_0_1_0_1, 0], False),
        ([0b10_00_1_000], True),
        ([0b10_10_0_0_1_0, 0], True),
        ([0b10_01_0_0_0_1, 0], False),
        # Profile 3 has one reserved bit before them.
        ([0b10_11_0_0_0_1, 0], True),
        ([0b10_11_0_0_1_0, 0], False),
        ([0b10_11_0_1_00, 0], True),
        # A superframe ends with its marker, whatever its first frame is.
        ([0b10_00_0_0_0_0, 0, 0b110_00_001], True),
        ([0b10_00_0_0_0_0, 0, 0b111_00_001], False),
        # Another marker: no VP9 frame at all.
        ([0b01_00_0_0_1_0, 0], False),
        ([0b11_00_0_0_1_0, 0b110_00_001], False),
    ],
)
def test_which_packets_of_vp9_show_a_frame(data: list[int], is_shown: bool) -> None:
    assert _vp9_shows_a_frame(memoryview(bytes(data))) == is_shown


# Times of decoding behind times of showing


def _write_decoded_late(path: Path) -> Path:
    """An MP4 of key frames only whose last one is shown 100 ticks before it is decoded.

    FFmpeg writes none such: it is told to show it 100 ticks later, and the offset ("ctts") is then
    negated in the file. A demuxer corrects for such offsets, but for those of the last two frames.
    """
    plain = write_video(path.with_name("plain.mp4"), num_frames=20, options={"g": "1", "bf": "0"})
    with av.open(str(plain)) as reader, av.open(str(path), "w") as writer:
        source = reader.streams.video[0]
        stream = writer.add_stream_from_template(source)
        packets = [packet for packet in reader.demux(source) if packet.size]
        for packet in packets:
            assert packet.pts == packet.dts
            packet.pts += 100 if packet is packets[-1] else 0
            packet.stream = stream
            writer.mux(packet)
    data = bytearray(path.read_bytes())
    box = data.index(b"ctts")
    end = box - 4 + int.from_bytes(data[box - 4 : box], "big")
    assert int.from_bytes(data[end - 4 : end], "big") == 100
    data[end - 4 : end] = (-100).to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    return path


def test_a_key_frame_is_sought_where_it_is_shown_if_that_is_before_it_is_decoded(
    tmp_path: Path,
) -> None:
    path = _write_decoded_late(tmp_path / "a.mp4")
    with av.open(str(path)) as container:
        last = [packet for packet in container.demux(video=0) if packet.size][-1]
        assert last.time_base == Fraction(1, 12_800)
        assert (last.pts, last.dts) == (19 * 512 - 100, 19 * 512)
    index = _index(path)
    assert index is not None
    assert index.pts[-1] == 19 * 512 - 100
    assert (index.key_seek_timestamps <= index.pts[index.key_frames]).all()
    pixels, _ = sequential_frames(path)
    with Video(path) as video:
        assert np.array_equal(video.read(Request([19]))[0].pixels, pixels[[19]])
        assert video.has_exact_index
    assert np.array_equal(read_frames(path, frame_indices=range(20)).pixels, pixels)
