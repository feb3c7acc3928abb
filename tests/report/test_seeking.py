"""Frames of long videos by their own times: the same as counted ones, without reading the file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.report.test_thumbnails import _ask, _pixels
from tests.videos import read_numbers, write_video
from vidray.report.frames import decoding, seeking
from vidray.report.frames.seeking import frames_by_seeking
from vidray.video.decode import Limits

LONG = 150


def _sought(path: Path, **more: Any) -> list[tuple[float, Any]] | None:
    plain = {"count": 4, "begin_seconds": None, "end_seconds": None, "at_seconds": None}
    return frames_by_seeking(str(path), {**plain, **more}, Limits(), lambda shape: shape)


def _numbers(found: list[tuple[float, Any]] | None) -> tuple[list[float], list[int]]:
    assert found is not None
    return [at for at, _ in found], read_numbers(np.stack([pixels for _, pixels in found]))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A frame a second, a key frame every twelve seconds."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return write_video(path, num_frames=LONG, fps=1)


def test_spread_frames_are_the_key_frames_before_their_places(film: Path) -> None:
    times, numbers = _numbers(_sought(film))
    # Before 18.75, 56.25, 93.75 and 131.25 s.
    assert numbers == [12, 48, 84, 120]
    assert times == pytest.approx(numbers)


def test_frames_at_times_are_those_that_are_shown_then(film: Path) -> None:
    wanted = [50.0, 50.999, 11.9995, 0.0, -5.0, 149.5, 999.0]
    times, numbers = _numbers(_sought(film, at_seconds=wanted))
    assert numbers == [50, 51, 12, 0, 0, 149, 149]
    assert times == pytest.approx(numbers)


def test_a_stretch_within_one_group_is_decoded(film: Path) -> None:
    found = _sought(film, begin_seconds=61.0, end_seconds=65.0)
    assert _numbers(found)[1] == [61, 62, 63, 64]
    assert _sought(film, begin_seconds=500.0) is None


def test_the_child_counts_no_frames_of_a_film(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = read_numbers(_pixels(_ask(film, at_seconds=[3.0, 77.0])))
    monkeypatch.setattr(decoding, "_counted", None)
    assert read_numbers(_pixels(_ask(film, at_seconds=[3.0, 77.0]))) == counted == [3, 77]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("short.mp4", {"num_frames": 40, "fps": 25}),
        ("film.avi", {"num_frames": LONG, "fps": 1, "codec": "mpeg4"}),
        ("film.ts", {"num_frames": LONG, "fps": 1}),
    ],
)
def test_short_videos_and_times_that_say_little_are_counted(
    tmp_path: Path, name: str, settings: dict[str, Any]
) -> None:
    path = write_video(tmp_path / name, **settings)
    assert _sought(path) is None
    assert len(_ask(path)) == 4


def test_one_key_frame_alone_is_decoded_on_from(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", num_frames=LONG, fps=1, options={"g": "1000"})
    assert _numbers(_sought(path))[1] == [18, 56, 93, 131]


def test_too_far_from_a_key_frame_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeking, "_MOST_DECODED", 20)
    path = write_video(tmp_path / "a.mp4", num_frames=LONG, fps=1, options={"g": "1000"})
    assert _sought(path) is None
    assert read_numbers(_pixels(_ask(path))) == [18, 56, 93, 131]


def test_times_count_from_the_first_frame_of_a_film(tmp_path: Path) -> None:
    path = write_video(tmp_path / "late.mp4", num_frames=LONG, fps=1, pts=range(7, LONG + 7))
    assert _numbers(_sought(path, at_seconds=[0.0, 30.0])) == ([0.0, 30.0], [0, 30])


def test_films_are_upright(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", num_frames=LONG, fps=1, rotation_degrees=90)
    found = _sought(path, count=1)
    assert found is not None
    assert found[0][1].shape == (160, 120, 3)
    assert _pixels(_ask(path, count=1)).shape == (1, 120, 90, 3)


def test_a_film_that_is_cut_off_is_counted(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "a.mp4", num_frames=LONG, fps=1, container_options={"movflags": "faststart"}
    )
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    # Its header still says 150 s.
    numbers = read_numbers(_pixels(_ask(path)))
    assert len(numbers) == 4
    assert max(numbers) < 90
