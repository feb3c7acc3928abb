"""The chapter on the data: what is counted, drawn, and said of it."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from tests.made_runs import clips_run, features_run, videos
from tests.report.made import ERROR, SCRIPT, VIDEO
from tests.video_writer import write_video
from vidray.report.beside import parts
from vidray.report.blocks import Chart, DataTable, Finding, Fold, Part, Prose
from vidray.report.dataset import balance, data, distributions, enhanced, failed_videos
from vidray.report.dataset.video_sets import VideoSet, of_runs, splits_of
from vidray.report.frames.thumbnails import Thumbnails
from vidray.report.reading import read
from vidray.report.runs import Runs
from vidray.report.settings import ReportSettings
from vidray.report.tools import Tools
from vidray.video.decode import Request, Video
from vidray.video.enhance import enhance

FAILED = {"status": "failed", "error_kind": "unreadable", "error_message": ERROR}


def _rows() -> list[dict[str, Any]]:
    """64 videos with properties: those of a run are of two sizes, h264 in mov."""
    rows = videos(64)
    for number, row in enumerate(rows):
        row |= {
            "width_px": 640 if number % 4 else 320,
            "height_px": 360,
            "rotation_degrees": 90 if number == 1 else 0,
            "sample_aspect_ratio": 1.0,
            "duration_seconds": 2.0 + number % 7,
            "frames_per_second": 25.0,
            "codec": "h264",
            "container": "mov",
            "has_sound": number % 3 == 0,
            "sharpness": 20.0 if number < 8 else 300.0,
            "noise": 8.0 if number >= 60 else 4.0,
            "corrupt_frames": 3 if number == 5 else 0,
            "corrupt_share": 0.3 if number == 5 else 0.0,
            "damaged_packets": 0,
            "enhanced_share": 0.0,
        }
    rows[60]["sharpness"] = 2000.0  # noisy: over 11 times 8^2
    rows[0] |= FAILED | {"uri": f"/videos/{VIDEO}", "label": SCRIPT}
    rows[1] |= {**FAILED, "error_kind": "timeout", "error_message": "not finished"}
    return rows


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("runs")
    rows = _rows()
    features_run(folder / "features", rows=rows)
    features_run(folder / "more", rows=rows)
    clips_run(folder / "clips", rows=[{**row, "status": "ok"} for row in rows])
    features_run(folder / "other", rows=rows[:20])
    return read([str(folder)])


@pytest.fixture(scope="module")
def videos_set(runs: Runs) -> VideoSet:
    return of_runs(runs)[0]


@pytest.fixture
def tools() -> Iterator[Tools]:
    with Thumbnails(is_on=False) as thumbnails:
        yield Tools(settings=ReportSettings(frames=False), thumbnails=thumbnails)


def _texts(blocks: list[Part]) -> str:
    return " ".join(
        text for part in parts(blocks) if isinstance(part, Prose) for text in part.paragraphs
    )


def test_runs_over_the_same_videos_are_one_set(runs: Runs) -> None:
    first, second = of_runs(runs)
    assert sorted(first.name.split(", ")) == ["clips", "features", "more"]
    assert (len(first.frame), len(second.frame)) == (64, 20)
    # What one job could read is readable; each run's own failures are kept.
    assert (first.frame["status"] == "ok").all()
    assert (first.states["status"] == "failed").sum() == 4
    assert first.frame["begin_seconds"].isna().all()


def test_what_follows_from_the_columns(videos_set: VideoSet) -> None:
    frame = videos_set.frame.set_index("video_id")
    assert frame.loc["v002", "aspect"] == pytest.approx(640 / 360)
    assert frame.loc["v001", "aspect"] == pytest.approx(360 / 640)  # turned
    assert frame.loc["v004", "resolution"] == "320x360"
    assert frame.loc["v003", "bytes_per_second"] == pytest.approx(1 / 5)  # of 1 byte, 5 s


def test_splits_that_contradict_one_another_are_two_sets(tmp_path: Path) -> None:
    rows = videos(16)
    features_run(tmp_path / "a", rows=rows)
    features_run(tmp_path / "b", rows=[{**row, "split": None} for row in rows])
    features_run(tmp_path / "c", rows=[{**row, "split": "test"} for row in rows])
    names = [one.name for one in of_runs(read([str(tmp_path)]))]
    assert sorted(names) == ["a, b", "c"]


def test_videos_and_recordings_are_counted_by_class_and_split() -> None:
    frame = pd.DataFrame(
        {
            "video_id": [f"v{k}" for k in range(7)],
            "label": ["a", "a", "a", "b", "b", None, "b"],
            "split": ["train", "train", "test", "train", "test", "test", None],
            "group": ["g1", "g1", "g2", "g3", None, None, "g3"],
        }
    )
    frame["recording"] = frame["group"].fillna("video " + frame["video_id"])
    counts = balance.count(frame).set_index("label")
    assert balance.count(frame).attrs["splits"] == ["train", "test", "(no split)"]
    assert counts.loc["a", ["videos_0", "recordings_0", "videos_1"]].tolist() == [2, 1, 1]
    assert counts.loc["b", ["videos", "recordings", "videos_2"]].tolist() == [3, 2, 1]
    assert counts.loc["(no label)", "videos_1"] == 1
    assert counts["share_1"].sum() == pytest.approx(1)


def test_a_recording_in_two_splits_is_an_alarm(runs: Runs) -> None:
    videos_set = of_runs(runs)[0]
    assert not len(balance.leaking_recordings(videos_set.frame))
    frame = videos_set.frame.copy()
    frame.loc[frame["group"] == "g3", "split"] = ["train", "test"]
    broken = VideoSet(name="x", frame=frame, states=videos_set.states, enhance=None)
    found = balance.findings(broken, "data")
    assert found[0] == Finding(
        level="alarm", text="1 recording of x is in more than one split: g3.", section="data"
    )
    assert "1 recording is in two splits (g3)" in _texts(balance.blocks(broken, "1"))


def test_classes_of_few_recordings_are_said() -> None:
    rows = [("a", "train", k) for k in range(6)] + [("a", "test", k + 10) for k in range(5)]
    rows += [("b", "train", 20), ("b", "train", 20), ("b", "test", 30)]
    frame = pd.DataFrame(rows, columns=["label", "split", "recording"])
    assert balance.small_classes(frame) == {"b": "1 recording in train, 1 recording in test"}
    assert balance.small_classes(frame.assign(split=None)) == {"b": "2 recordings"}


def test_a_split_a_video_makes_no_column_a_video(tmp_path: Path) -> None:
    rows = [dict(row, split=f"split {k}") for k, row in enumerate(videos(40))]
    rows[0]["split"], rows[1]["split"] = "test", None
    (found,) = of_runs(read([str(features_run(tmp_path / "features", rows=rows))]))
    assert len(splits_of(found.frame)) <= 8
    assert found.frame["split"].isna().sum() == 1
    assert {"test", "(other splits)"} < set(splits_of(found.frame))


def test_many_classes_take_no_time_for_each() -> None:
    number = 30_000
    names = [f"c{k}" for k in range(number)]
    frame = pd.DataFrame({"label": names, "split": "train", "recording": names})
    began = time.monotonic()
    assert len(balance.small_classes(frame)) == number
    assert time.monotonic() - began < 10  # A minute, where each looks at all.


def test_bins_hold_every_known_value() -> None:
    rng = np.random.default_rng(0)
    values = np.append(rng.lognormal(3, 2, 500), np.nan)
    half = np.arange(501) % 2 == 0
    counted, is_log = distributions.count(values, {"even": half, "odd": ~half})
    assert is_log
    assert counted.groupby("group")["videos"].sum().to_dict() == {"even": 250, "odd": 250}
    assert counted.groupby("group")["share"].sum().tolist() == pytest.approx([1, 1])
    first = counted[(counted["group"] == "odd")].iloc[0]
    inside = (values >= first["low"]) & (values < first["high"]) & ~half
    assert first["videos"] == inside.sum()
    assert not distributions.count(np.array([25.0, 30.0]), {"all": np.ones(2, bool)})[1]
    assert not distributions.edges(np.array([0.0, 1e6]))[1]  # 0 has no logarithm


def test_properties_are_drawn_by_split_and_by_class(videos_set: VideoSet) -> None:
    found = distributions.blocks(videos_set, "1")
    charts = {part.name: part for part in parts(found) if isinstance(part, Chart)}
    assert {"duration-seconds-by-split-1", "resolution-by-class-1", "sharpness-by-split-1"} <= set(
        charts
    )
    assert "codec-by-split-1" not in charts  # All are h264: nothing to see.
    resolution = charts["resolution-by-split-1"].frame.set_index(["group", "value"])["videos"]
    assert resolution[("train", "320x360")] + resolution[("train", "640x360")] == 32
    assert "train, duration 2 to 2.38 s: " in charts["duration-seconds-by-split-1"].svg


def test_failures_say_what_they_mean(videos_set: VideoSet) -> None:
    blocks = failed_videos.blocks(videos_set, "1")
    tables = {part.name: part.frame for part in parts(blocks) if isinstance(part, DataTable)}
    kinds = tables["failures-1"].set_index("kind")
    assert kinds.loc["unreadable", "videos"] == 1
    assert (
        kinds.loc["unreadable", "meaning"] == "not a video file, or damaged beyond its first frame"
    )
    assert kinds.loc["timeout", "again"] == "may pass"
    assert kinds.loc["unreadable", "example"] == VIDEO
    assert kinds.loc["unreadable", "message"].endswith("(10,004 characters)")
    assert len(kinds.loc["unreadable", "message"]) < 300
    statuses = tables["statuses-1"].set_index("run")
    assert statuses.loc["features", ["ok", "failed", "skipped"]].tolist() == [62, 2, 0]
    assert statuses.loc["clips", "failed"] == 0
    assert tables["corrupt-1"]["video"].tolist() == ["v005.mp4"]
    (finding,) = failed_videos.findings(videos_set, "data")
    assert "2 of 64 videos of" in finding.text
    assert "1 unreadable, 1 timeout" in finding.text


def test_what_enhancement_would_touch_is_counted(videos_set: VideoSet) -> None:
    frame = enhanced.poor(videos_set.frame)
    assert (frame["is_blurred"].sum(), frame["is_noisy"].sum()) == (8, 1)
    assert "8 of 64 videos are blurred and 1 are noisy" in enhanced.said(frame, "off")
    assert "were enhanced, in 0 videos" in enhanced.said(frame, "auto")
    chosen = enhanced.choose(frame)
    assert chosen["video_id"].tolist()[0] == "v060"
    assert len(chosen) == 4
    assert enhanced.blocks(videos_set, ReportSettings(frames=False))
    fine = videos_set.frame.assign(sharpness=300.0, noise=1.0)
    one = VideoSet(name="x", frame=fine, states=videos_set.states, enhance="off")
    assert enhanced.blocks(one, ReportSettings()) == []


def test_no_run_of_videos_has_no_chapter(tools: Tools) -> None:
    assert data.section(Runs(folders=()), tools) is None


@pytest.mark.slow
def test_the_chapter_is_whole_and_its_names_are_unlike(runs: Runs, tools: Tools) -> None:
    section = data.section(runs, tools)
    assert section is not None
    folds = [block.title for block in section.blocks if isinstance(block, Fold)]
    assert folds[0].endswith(": 64 videos")
    names = [part.name for part in parts(section.blocks) if isinstance(part, DataTable | Chart)]
    assert len(names) == len(set(names))
    assert all(name == name.lower() and " " not in name for name in names)
    assert 0 < len(section.findings) <= 6


def _frame(path: Path, index: int) -> NDArray[np.uint8]:
    with Video(path) as video:
        pixels: NDArray[np.uint8] = video.read(Request([index], 320, 240, "opencv_area"))[0].pixels
    return pixels[0]


@pytest.mark.slow
def test_a_poor_frame_is_shown_before_and_after(tmp_path: Path) -> None:
    path = write_video(tmp_path / "numbers.mp4", num_frames=30, width_px=320, height_px=240)
    batch = enhanced._answer(
        {"uri": str(path), "begin_seconds": None, "end_seconds": None}, frozenset()
    )
    before, after = batch.to_pylist()
    assert len(before["pixels"]) == 240 * 320 * 3
    frames = [
        np.frombuffer(row["pixels"], np.uint8).reshape(240, 320, 3) for row in (before, after)
    ]
    shown = [k for k in range(30) if np.array_equal(frames[0], _frame(path, k))]
    assert len(shown) == 1
    np.testing.assert_array_equal(frames[1], enhance(frames[0]))
    gone = enhanced._answer(
        {"uri": "/gone.mp4", "begin_seconds": None, "end_seconds": None}, frozenset()
    )
    assert len(gone) == 0
    assert b"why" in gone.schema.metadata
