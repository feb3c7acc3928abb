"""jobs/clips.py --model: clips are cut as the weights were trained, and run.json says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command_lines import exit_code
from tests.ray_cluster import Cluster, Job
from tests.video_writer import write_video
from vidray.learning import as_trained
from vidray.learning.examples import read_clips
from vidray.learning.train_config import DeepSettings

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    for label in ("up", "down"):
        (tmp_path / "videos" / label).mkdir(parents=True)
        write_video(tmp_path / "videos" / label / "a.mp4", num_frames=80, width_px=210)
    return tmp_path / "videos"


@pytest.mark.slow
def test_clips_are_cut_as_the_weights_were_trained(
    videos: Path, cluster: Cluster, tmp_path: Path
) -> None:
    job, out, other = Job("jobs/clips.py", cluster), tmp_path / "out", tmp_path / "other"
    told = job.call("--videos", videos, "--out", out, "--model", "r3d_18")
    trained = "16 frames at 15 a second, 128 171 px cut to 112 (torchvision)"
    assert f"note: r3d_18 was trained on {trained}\n" in told
    config = json.loads((out / "run.json").read_text())["config"]
    assert (config["model"], config["weights"]) == ("r3d_18", "default")
    assert (config["fit"], config["resize_px"], config["size_px"]) == (
        "resize_crop",
        [128, 171],
        112,
    )
    assert config["recipe"]["resizer"] == config["clip"]["resizer"] == "torchvision"
    examples = read_clips(str(out))
    assert as_trained.notes("r3d_18", DeepSettings(weights="default"), examples) == []
    flags = ("--model", "r3d_18", "--frames-per-clip", "16", "--size-px", "128", "--fit", "crop")
    told = job.call("--videos", videos, "--out", other, *flags)
    assert f"{trained}; asked for otherwise: --size-px 128, --fit crop\n" in told
    config = json.loads((other / "run.json").read_text())["config"]
    assert (config["clip"]["fit"], config["clip"]["resize_px"]) == ("crop", [])
    (said,) = as_trained.notes("r3d_18", DeepSettings(weights="default"), read_clips(str(other)))
    assert "these clips have size_px 128, fit crop; to cut them so: python jobs/clips.py" in said


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--model", "r3d"), "deep model 'r3d' is unknown"),
        (("--model", "c3d"), "c3d has no published weights that vidray knows"),
        (("--model", "r3d_18", "--weights", "none"), "a fresh r3d_18 was trained on nothing"),
        (("--weights", "none"), "--weights has no effect without --model"),
        (("--fit", "resize_crop"), "resize_px is not given"),
        (("--resizer", "pillow"), "no effect without --fit resize_crop"),
        (
            ("--model", "r3d_18", "--size-px", "200"),
            "resize_px is 128 171: it must be from size_px",
        ),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: Captured, flags: tuple[str, ...], told: str
) -> None:
    code = exit_code("jobs/clips.py", "--videos", tmp_path, "--out", tmp_path / "out", *flags)
    shown = capsys.readouterr()
    assert code == 2
    assert shown.err.count("\n") == 1
    assert told in shown.err
    assert not (tmp_path / "out").exists()
