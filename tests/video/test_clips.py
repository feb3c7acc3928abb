"""Clips of one video: the right frames, in the right shape, or the reason why not."""

import dataclasses
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.videos import read_numbers, write_video
from vidray import storage
from vidray.errors import UserError
from vidray.tables import runs, schema
from vidray.tables.shards import Clips
from vidray.video.clips import (
    ClipSettings,
    clip_frames,
    cut_video,
    cut_videos,
)
from vidray.video.decode import probe, read_frames


def _video(path: Path, label: str | None = "up") -> dict[str, Any]:
    info = {"video_id": path.stem, "uri": str(path), "size_bytes": 1, "fingerprint": "f"}
    return {**info, "label": label, "split": "train", "group": None}


def _pixels(batch: pa.RecordBatch, settings: ClipSettings) -> np.ndarray:
    shape = (-1, settings.frames_per_clip, settings.size_px, settings.size_px, 3)
    data = b"".join(batch["pixels"].to_pylist())
    return np.frombuffer(data, np.uint8).reshape(shape)


@given(
    num_frames=st.integers(1, 2000),
    clips=st.integers(1, 20),
    length=st.integers(1, 64),
    seconds=st.none() | st.floats(0.01, 100),
)
def test_clip_frames_stay_in_their_stretch(
    num_frames: int, clips: int, length: int, seconds: float | None
) -> None:
    settings = ClipSettings(frames_per_clip=length, clips_per_video=clips, clip_seconds=seconds)
    frames = clip_frames(num_frames, 25.0, settings)
    assert frames.shape == (clips, length)
    assert frames.min() >= 0
    assert frames.max() < num_frames
    assert (np.diff(frames.reshape(-1)) >= 0).all()
    for number, clip in enumerate(frames):
        begin, end = number * num_frames // clips, (number + 1) * num_frames // clips
        if end > begin:
            assert begin <= clip.min()
            assert clip.max() < end
        if seconds is not None:
            assert clip.max() - clip.min() <= max(1, round(seconds * 25))


def test_clip_frames_by_hand() -> None:
    two = ClipSettings(frames_per_clip=4, clips_per_video=2)
    assert clip_frames(80, 10.0, two).tolist() == [[5, 15, 25, 35], [45, 55, 65, 75]]
    second = ClipSettings(frames_per_clip=5, clip_seconds=1.0)  # 10 of 80 frames, in the middle
    assert clip_frames(80, 10.0, second).tolist() == [[36, 38, 40, 42, 44]]


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".ts", ".webm"])
def test_clip_has_the_frames_it_names(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"a{suffix}", num_frames=60, **_CODECS[suffix])
    settings = ClipSettings(frames_per_clip=6, clips_per_video=2, size_px=64)
    batch = cut_video(_video(path), settings)
    assert batch["status"].to_pylist() == ["ok", "ok"]
    assert batch["clip_index"].to_pylist() == [0, 1]
    wanted = clip_frames(60, 25.0, settings)
    expected = read_frames(path, frame_indices=wanted.reshape(-1), width_px=64, height_px=64)
    assert np.array_equal(_pixels(batch, settings).reshape(expected.pixels.shape), expected.pixels)
    # Each clip spans half of 2.4 s, counted from the first frame: a TS's clock begins at 1.4 s.
    assert batch["begin_seconds"].to_pylist() == pytest.approx([0, 1.2], abs=1e-6)
    assert batch["end_seconds"].to_pylist() == pytest.approx([1.2, 2.4], abs=1e-6)


_CODECS: dict[str, dict[str, Any]] = {
    ".mp4": {}, ".avi": {"codec": "mpeg4"}, ".ts": {}, ".webm": {"codec": "libvpx-vp9"},
}  # fmt: skip


# 4 s at 30 frames a second, then 56 s at one: milliseconds.
_SLOWING = [*(round(k * 1000 / 30) for k in range(120)), *range(4000, 60_000, 1000)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_clips_of_a_variable_rate_are_of_seconds(tmp_path: Path, suffix: str) -> None:
    path = write_video(
        tmp_path / f"a{suffix}", num_frames=176, pts=_SLOWING, time_base=Fraction(1, 1000)
    )
    settings = ClipSettings(frames_per_clip=8, size_px=64, clip_seconds=2.0)
    batch = cut_video(_video(path), settings)
    (begin,), (end,) = (batch[name].to_pylist() for name in ("begin_seconds", "end_seconds"))
    assert (begin, end) == pytest.approx((29, 31))
    # Frame 120 comes at 4 s, frame 145 at 29 s: told by the pictures themselves.
    assert read_numbers(_pixels(batch, settings)[0]) == [145] * 4 + [146] * 4
    whole = dataclasses.replace(settings, clip_seconds=None)
    batch = cut_video(_video(path), whole)
    seconds = [3.75 + 7.5 * k for k in range(8)]
    assert read_numbers(_pixels(batch, whole)[0]) == [_shown_at(1000 * t) for t in seconds]
    thirds = dataclasses.replace(settings, clip_seconds=None, clips_per_video=3)
    batch = cut_video(_video(path), thirds)
    assert batch["begin_seconds"].to_pylist() == pytest.approx([0, 20, 40])
    assert batch["end_seconds"].to_pylist() == pytest.approx([20, 40, 60])


def _shown_at(milliseconds: float) -> int:
    return max(k for k, time in enumerate(_SLOWING) if time <= milliseconds)


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".ts", ".webm"])
def test_a_stretch_is_cut_as_a_video_of_its_own(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"a{suffix}", num_frames=100, **_CODECS[suffix])
    settings = ClipSettings(frames_per_clip=4, clips_per_video=2, size_px=64)
    video = {**_video(path), "begin_seconds": 1.0, "end_seconds": 2.6}
    batch = cut_video(video, settings)
    found = [read_numbers(clip) for clip in _pixels(batch, settings)]
    assert found == (25 + clip_frames(40, 25.0, settings)).tolist()
    assert batch["begin_seconds"].to_pylist() == pytest.approx([1.0, 1.8], abs=1e-6)
    assert batch["end_seconds"].to_pylist() == pytest.approx([1.8, 2.6], abs=1e-6)
    batch = cut_video({**video, "begin_seconds": 3.6, "end_seconds": 99.0}, settings)
    assert read_numbers(_pixels(batch, settings)[1]) == [95, 96, 98, 99]
    assert batch["end_seconds"].to_pylist()[1] == pytest.approx(4.0, abs=1e-6)


def test_a_stretch_past_the_end_is_too_short(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", num_frames=50)
    video = {**_video(path), "begin_seconds": 2.0, "end_seconds": 12.0}
    (row,) = cut_video(video, ClipSettings()).to_pylist()
    assert (row["status"], row["error_kind"], row["pixels"]) == ("failed", "too_short", None)
    told = "no frame from 2.000 s to 12.000 s: the video's last one is at 1.960 s"
    assert row["error_message"] == told
    assert (row["begin_seconds"], row["end_seconds"]) == (2.0, 12.0)


def test_crop_keeps_the_middle_of_a_wide_picture(tmp_path: Path) -> None:
    path = write_video(tmp_path / "wide.mkv", num_frames=5, width_px=160, height_px=80)
    settings = ClipSettings(frames_per_clip=5, size_px=80, fit="crop")
    whole = read_frames(path, frame_indices=range(5), width_px=160, height_px=80).pixels
    found = _pixels(cut_video(_video(path), settings), settings)[0]
    assert np.array_equal(found, whole[:, :, 40:120])


def test_what_gives_no_clip_says_why(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video" * 100)
    (row,) = cut_video(_video(text), ClipSettings()).to_pylist()
    assert (row["status"], row["error_kind"], row["pixels"]) == ("failed", "unreadable", None)
    good = write_video(tmp_path / "good.mp4", num_frames=3)
    (row,) = cut_video(_video(good, label=None), ClipSettings()).to_pylist()
    assert (row["status"], row["error_kind"], row["pixels"]) == ("skipped", None, None)
    assert row["error_message"] == "it has no label to learn"
    (row,) = cut_video(_video(good), ClipSettings(size_px=16)).to_pylist()  # 3 frames for 16
    assert (row["status"], len(row["pixels"])) == ("ok", 16 * 16 * 16 * 3)


def test_settings_cross_to_another_process() -> None:
    settings = ClipSettings(frames_per_clip=3, clip_seconds=0.5, fit="crop")
    values = json.loads(json.dumps(dataclasses.asdict(settings)))
    assert ClipSettings.from_json(values) == settings
    assert callable(cut_videos(values))
    assert settings.digest != ClipSettings(frames_per_clip=3, fit="crop").digest
    with pytest.raises(UserError, match="clips_per_video is 0: it must be 1 to 4096"):
        ClipSettings(clips_per_video=0)
    with pytest.raises(UserError, match="clip_seconds is -1"):
        ClipSettings(clip_seconds=-1)


@pytest.mark.slow
def test_pixels_are_read_back_in_any_order(place: str, tmp_path: Path) -> None:
    settings = ClipSettings(frames_per_clip=4, size_px=32, clips_per_video=2)
    videos = []
    for number in range(5):
        path = tmp_path / f"clip{number}.mkv"
        if number == 2:
            path.write_bytes(b"broken")
        else:
            write_video(path, num_frames=20 + number)
        videos.append(_video(path))
    run = runs.Run(
        out=storage.join(place, "out"), table="clips", videos="x", digest=settings.digest
    )
    table = pa.Table.from_pylist(videos, schema=schema.VIDEOS)
    run.videos_to_do({}, lambda: table)
    for part, video in enumerate(videos):
        run.write_part(part, pa.Table.from_batches([cut_video(video, settings)]))
    counts = run.check(table)
    assert (counts["videos"], counts["ok"], counts["failed"], counts["rows"]) == (5, 4, 1, 9)
    run.publish({}, {"counts": counts})

    clips = Clips(run.out, cache=str(tmp_path / "cache"))
    assert (len(clips), clips.num_frames, clips.size_px) == (8, 4, 32)
    assert clips.table["video_id"].to_pylist() == [f"clip{n}" for n in (0, 0, 1, 1, 3, 3, 4, 4)]
    chosen = np.array([7, 0, 3, 3])
    found = clips.read(chosen)
    for clip, row in zip(found, chosen.tolist(), strict=True):
        video = clips.table["uri"][row].as_py()
        wanted = clip_frames(probe(video).num_frames or 0, 25.0, settings)[row % 2]
        expected = read_frames(video, frame_indices=wanted, width_px=32, height_px=32).pixels
        assert np.array_equal(clip, expected)
    assert repr(clips).endswith("8 of uint8 (4, 32, 32, 3))")


def test_what_is_no_folder_of_clips_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run folder"):
        Clips(str(tmp_path))
    (tmp_path / "run.json").write_text(json.dumps({"table": "features"}))
    with pytest.raises(UserError, match="holds features, not clips"):
        Clips(str(tmp_path))
    (tmp_path / "run.json").write_text(json.dumps({"table": "clips"}))
    with pytest.raises(UserError, match="unfinished run"):
        Clips(str(tmp_path))


def test_a_video_without_a_label_is_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", num_frames=20)
    skip, keep = ClipSettings(size_px=32), ClipSettings(size_px=32, unlabelled="keep")
    assert cut_video(_video(path, None), skip)["status"].to_pylist() == ["skipped"]
    kept = cut_video(_video(path, None), keep)
    assert kept["status"].to_pylist() == ["ok"]
    assert kept["label"].to_pylist() == [None]
    assert kept["pixels"] == cut_video(_video(path), skip)["pixels"]
    # Another run: it has other rows. One of videos that have labels is as it was.
    assert keep.digest != skip.digest
    older = {k: v for k, v in dataclasses.asdict(skip).items() if k != "unlabelled"}
    assert ClipSettings.from_json(older).digest == skip.digest
