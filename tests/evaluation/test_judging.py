"""What a model is judged on and timed on."""

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from tests.command_lines import exit_code
from tests.made_runs import clips_run, features_run, videos
from tests.models.exported.tiny_graphs import write
from tests.videos import write_video
from vidray.evaluation.judge_settings import JudgeSettings
from vidray.evaluation.judging import evaluate, label_here, listed_videos
from vidray.storage import parquet
from vidray.video.clips import ClipSettings


def test_what_clips_of_a_stretch_are_timed_on(tmp_path: Path) -> None:
    """Evaluating times the whole way from the file: of the row's stretch, not of a clip's."""
    listed = [
        {"video_id": "a", "begin_seconds": 5.0, "end_seconds": 9.0, "size_bytes": 3},
        {"video_id": "b", "begin_seconds": None, "end_seconds": None, "size_bytes": 3},
        {"video_id": "c", "begin_seconds": 1.0, "end_seconds": 2.0, "size_bytes": 3},
    ]
    clip = {"begin_seconds": 6.0, "end_seconds": 7.0, "label": "up"}
    for columns in (
        ["video_id", "size_bytes", "begin_seconds", "end_seconds"],
        ["video_id", "size_bytes"],
    ):
        table = pa.Table.from_pylist(listed).select(columns)
        (tmp_path / "videos.parquet").write_bytes(parquet.parquet_bytes(table))
        found = listed_videos(str(tmp_path), {name: {"video_id": name, **clip} for name in "ab"})
        spans = [(video["begin_seconds"], video["end_seconds"]) for video in found]
        assert spans == ([(5.0, 9.0), (None, None)] if len(columns) == 4 else [(None, None)] * 2)
        assert [video["size_bytes"] for video in found] == [3, 3]
        assert [video["label"] for video in found] == ["up", "up"]


def test_a_video_that_is_gone_is_not_timed(tmp_path: Path) -> None:
    """It came to 53 ms from file to label, 1,061 ms of it the model: rows had no size of a file,
    which draws the frames.
    """
    size_bytes = write_video(tmp_path / "there.mp4", num_frames=8).stat().st_size
    model: Any = SimpleNamespace(
        clip=ClipSettings(frames_per_clip=4, size_px=16), predict=lambda clips: clips
    )

    def video(name: str) -> dict[str, Any]:
        uri = str(tmp_path / name)
        return {"uri": uri, "video_id": name, "label": "up", "size_bytes": size_bytes}

    assert label_here(model, [video("there.mp4")])
    assert not label_here(model, [video("there.mp4"), video("gone.mp4")])


@pytest.mark.slow
def test_the_classes_of_the_data_may_have_other_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = videos(64)
    data = features_run(tmp_path / "features", rows=rows)
    other = [{**row, "label": {"jump": "Jumping", "run": "run"}[row["label"]]} for row in rows]
    other[0]["label"] = "unclear"
    renamed = features_run(tmp_path / "renamed", rows=other)
    model = tmp_path / "model"
    flags = ("--data", data, "--model", "logistic_regression", "--out", model, "--folds", "0")
    assert exit_code("jobs/train.py", *flags) == 0
    asked = ("--model", model, "--data", renamed, "--split", "all", "--timed-videos", "0")
    capsys.readouterr()
    assert exit_code("jobs/evaluate.py", *asked, "--out", tmp_path / "none") == 2
    assert "does not know 2 of the 3 classes: 'Jumping'" in capsys.readouterr().err
    labels = tmp_path / "labels.csv"
    labels.write_text("class,label\nJumping,jump\nunclear,\n")
    out = tmp_path / "judged"
    assert exit_code("jobs/evaluate.py", *asked, "--out", out, "--labels", labels) == 0
    found = json.loads((out / "metrics.json").read_text())
    assert found["num_videos"] == 63  # The unclear one is left out.
    of_class = Counter(row["label"] for row in rows[1:])
    assert {name: own["support"] for name, own in found["per_class"].items()} == of_class


def test_an_export_is_judged_like_its_network_and_costs_what_that_has(tmp_path: Path) -> None:
    """Its parameters and FLOPs nobody can count any more: model.json says them."""
    folder = write(tmp_path / "m", "openvino")
    info = json.loads((folder / "model.json").read_text())
    info["exported"] |= {"parameters": 123, "flops_per_clip": 4567}
    (folder / "model.json").write_text(json.dumps(info))
    run = clips_run(tmp_path / "clips", 32, frames=2, size_px=16)
    found = evaluate(str(folder), str(run), str(tmp_path / "out"), JudgeSettings(timed_videos=2))
    cost = found.metrics["cost"]
    assert (cost["parameters"], cost["flops_per_clip"]) == (123, 4567)
    assert cost["seconds_per_video"] > 0
    assert found.metrics["num_videos"] == 8
    versions = json.loads((tmp_path / "out" / "run.json").read_text())["versions"]
    assert "openvino" in versions
    assert "torch" not in versions
