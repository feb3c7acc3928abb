"""jobs/label.py with an exported network: in workers, in a predictor, from a bucket."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

pytest.importorskip("openvino")
pytest.importorskip("onnx")

from tests.models.exported import tiny_graphs
from tests.ray_cluster import Cluster, Job
from tests.video_writer import write_video
from vidray import storage
from vidray.labelling.commits import read_labels
from vidray.tables import run_folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_graphs.write(tmp_path_factory.mktemp("models") / "m", "openvino")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for number in range(6):
        write_video(folder / f"clip{number}.mp4", num_frames=20 + number)
    return folder


@pytest.fixture
def job(cluster: Cluster) -> Job:
    return Job("jobs/label.py", cluster)


def table(out: object) -> pa.Table:
    """All that does not tell when it was committed."""
    return read_labels(str(out)).drop_columns(["labelled_at", "commit"])


@pytest.mark.slow
def test_labels_are_the_same_wherever_the_network_is(
    job: Job, model: Path, videos: Path, tmp_path: Path, s3_bucket: str
) -> None:
    in_bucket = storage.join(s3_bucket, "m")
    for path in model.iterdir():
        storage.write_bytes(storage.join(in_bucket, path.name), path.read_bytes())
    ways = {
        "workers": ("--model", model),
        "predictor": ("--model", model, "--predictors", 1),
        "bucket": ("--model", in_bucket, "--workers", 1),
    }
    for name, flags in ways.items():
        job.call(*flags, "--videos", videos, "--out", tmp_path / name)
    expected = table(tmp_path / "workers")
    assert expected["status"].to_pylist() == ["ok"] * 6
    for name in ("predictor", "bucket"):
        assert table(tmp_path / name).equals(expected)
    report = run_folder.read_json(str(tmp_path / "workers"))
    assert report["versions"]["openvino"]
    assert "torch" not in report["versions"]
    assert report["config"]["memory_gib"] == 2.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--precision", "bfloat16"), "--precision has no effect on resnet18_avg, which was"),
        (("--compile",), "--compile has no effect on resnet18_avg, which was exported to openvino"),
        (("--gpus-per-predictor", 1), "which OpenVINO runs on CPUs"),
    ],
)
def test_what_has_no_effect_is_told_at_once(
    job: Job, model: Path, videos: Path, tmp_path: Path, flags: tuple[object, ...], told: str
) -> None:
    given = ("--model", model, "--videos", videos, "--out", tmp_path / "out", *flags)
    assert told in job.call(*given, code=2).splitlines()[-1]
