"""The test videos themselves: every kind must read back, number for number, in a full decode."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests import videos


@pytest.mark.parametrize("number", [0, 1, 2, 1365, 2730, 4094, 4095])
@pytest.mark.parametrize(("width_px", "height_px"), [(160, 120), (65, 33), (33, 65), (16, 12)])
def test_drawn_number_reads_back(number: int, width_px: int, height_px: int) -> None:
    rgb = videos.draw_number(number, width_px=width_px, height_px=height_px)
    assert rgb.shape == (height_px, width_px, 3)
    assert videos.read_number(rgb) == number


def test_a_blend_of_two_frames_is_refused() -> None:
    first = videos.draw_number(0, width_px=160, height_px=120)
    second = videos.draw_number(4095, width_px=160, height_px=120)
    blend = ((first.astype(int) + second) // 2).astype(np.uint8)
    with pytest.raises(ValueError, match="neither light nor dark"):
        videos.read_number(blend)


def test_a_number_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="4096"):
        videos.draw_number(4096, width_px=160, height_px=120)


@pytest.mark.parametrize("name", videos.KINDS)
def test_frame_k_shows_k(name: str, tmp_path: Path) -> None:
    # 31 frames: an odd number, three groups, the last one short.
    path = videos.KINDS[name](tmp_path, 31)
    pixels, pts_seconds = videos.sequential_frames(path)
    expected = [0] if name == "one_frame_mp4" else list(range(31))
    assert videos.read_numbers(pixels) == expected
    assert pts_seconds.shape == (len(expected),)
    # Red above blue in every frame, as drawn: channels are in order, tones not lost.
    red, _, blue = pixels.reshape(len(pixels), -1, 3).mean(axis=1).T
    assert (red > blue + 15).all()


@pytest.mark.parametrize("name", videos.PARTIAL)
def test_partial_videos_begin_right_and_lose_frames(name: str, tmp_path: Path) -> None:
    path = videos.PARTIAL[name](tmp_path)
    pixels, _ = videos.sequential_frames(path, skip_errors=True)
    assert 10 <= len(pixels) < videos.DEFAULT_FRAMES
    assert videos.read_numbers(pixels[:9]) == list(range(9))


@pytest.mark.parametrize("name", videos.BROKEN)
def test_broken_videos_yield_no_frame(name: str, tmp_path: Path) -> None:
    path = videos.BROKEN[name](tmp_path)
    # FFmpegError: refused; IndexError: no video stream; ValueError: opened, nothing to stack.
    with pytest.raises((av.error.FFmpegError, IndexError, ValueError)):
        videos.sequential_frames(path)


def test_uneven_pts_are_kept(tmp_path: Path) -> None:
    path = videos.KINDS["vfr_mp4"](tmp_path, 20)
    _, pts_seconds = videos.sequential_frames(path)
    np.testing.assert_allclose(pts_seconds, np.array(videos.uneven_pts(20)) / 1000, atol=1e-9)
    assert len(set(np.diff(videos.uneven_pts(20)))) > 2


def test_kinds_are_what_they_say(tmp_path: Path) -> None:
    with av.open(str(videos.KINDS["rotated_90_mp4"](tmp_path, 3))) as container:
        assert next(container.decode(video=0)).rotation in (90, -90)
    with av.open(str(videos.KINDS["sample_aspect_mp4"](tmp_path, 3))) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
    with av.open(str(videos.KINDS["odd_xvid_avi"](tmp_path, 3))) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (65, 33)
        assert stream.codec_context.codec_tag == "XVID"
    with av.open(str(videos.KINDS["h264_10bit_mp4"](tmp_path, 3))) as container:
        assert container.streams.video[0].pix_fmt == "yuv420p10le"
    with av.open(str(videos.KINDS["sound_mp4"](tmp_path, 50))) as container:
        assert len(container.streams.audio) == 1


def test_open_gop_has_frames_shown_before_the_key_frame_they_follow(tmp_path: Path) -> None:
    with av.open(str(videos.KINDS["open_gop_mp4"](tmp_path, 60))) as container:
        packets = [(p.pts, p.is_keyframe) for p in container.demux(video=0) if p.pts is not None]
    key_pts, leading = -1, 0
    for pts, is_key in packets:
        key_pts = pts if is_key else key_pts
        leading += pts < key_pts
    assert leading >= 4


def test_one_pts_for_each_frame(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 pts for 3 frames"):
        videos.write_video(tmp_path / "clip.mp4", num_frames=3, pts=[0, 1])
