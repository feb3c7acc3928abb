"""jobs/extract.py --embed to the label: on workers, on predictors, killed, and without the network
it was begun with.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import ray

from tests.command_lines import exit_code
from tests.labelling.test_embedding import SIZE, save_network
from tests.ray_cluster import Cluster, Job, wait_until
from tests.video_writer import write_video
from vidray.labelling import read_labels
from vidray.models.model_files import name_and_digest
from vidray.tables import runs

pytestmark = pytest.mark.timeout(1500)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four of two classes, each a recording, and a file that is none."""
    folder = tmp_path_factory.mktemp("videos")
    for k in range(24):
        (folder / "ab"[k % 2]).mkdir(exist_ok=True)
        write_video(
            folder / "ab"[k % 2] / f"{k:02}.avi", num_frames=60 + k, codec="mpeg4",
            first_number=40 * k,
        )  # fmt: skip
    (folder / "a" / "text.avi").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_network(tmp_path_factory.mktemp("network") / "resnet18")


@pytest.fixture(scope="module")
def extracted(
    videos: Path, network: str, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """By two workers that hold the network."""
    out = tmp_path_factory.mktemp("extracted") / "out"
    flags = ("--videos", videos, "--embed", network, "--split-fractions", 0.5, 0.25, 0.25)
    Job("jobs/extract.py", cluster).call(*flags, "--families", "color", "--out", out)
    return out


def _table_bytes(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "features").iterdir())}


@pytest.mark.slow
def test_the_table_does_not_depend_on_who_held_the_network(
    videos: Path, network: str, extracted: Path, cluster: Cluster, tmp_path: Path
) -> None:
    job = Job("jobs/extract.py", cluster)
    rows = runs.read_table(str(extracted)).to_pylist()
    assert len(rows) == 25
    for row in rows:
        assert (row["embedding"] is None) == (row["status"] != "ok")
        assert row["embedding"] is None or len(row["embedding"]) == 3 * SIZE
    assert sum(row["status"] == "ok" for row in rows) == 24
    report = json.loads((extracted / "run.json").read_text())
    assert report["config"]["embed"] == network
    assert report["config"]["extraction"]["embedding"] == {
        "model": "resnet18_avg", "digest": name_and_digest(network)[1], "size": SIZE, "clips": 4,
        "crops": 1, "precision": "float32",
    }  # fmt: skip
    assert report["seconds"]["in_workers"]["embed"] > 0
    assert {"torch", "av"} <= report["versions"].keys()
    common = ("--videos", videos, "--embed", network, "--split-fractions", 0.5, 0.25, 0.25)
    for name, flags in {
        "one": ("--workers", 1),
        "elsewhere": ("--predictors", 1, "--gpus-per-predictor", 0),
    }.items():
        job.call(*common, "--families", "color", "--out", tmp_path / name, *flags)
        assert _table_bytes(tmp_path / name) == _table_bytes(extracted), name
    # In a process that goes on, a predictor's CPU is free for the next job.
    wait_until(lambda: ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"])


@pytest.mark.slow
def test_killed_it_goes_on_with_the_same_network_only(
    videos: Path, network: str, extracted: Path, cluster: Cluster, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    where = Path(shutil.copytree(network, tmp_path / "network"))
    out = tmp_path / "out"
    flags = ("--videos", videos, "--embed", where, "--split-fractions", 0.5, 0.25, 0.25,
             "--families", "color", "--out", out)  # fmt: skip
    job = Job("jobs/extract.py", cluster)
    with job.start(*flags, "--workers", 1) as process:
        wait_until(lambda: len(list((out / "_staging").glob("part-*.parquet"))) >= 3)
        process.kill()
    assert not (out / "features").exists()
    save_network(where, seed=1)  # It is trained again.
    assert exit_code("jobs/extract.py", *flags) == 2
    told = capsys.readouterr().err
    assert "holds unfinished features of other settings" in told
    assert "extraction.embedding.digest: " in told
    shutil.rmtree(where)
    assert exit_code("jobs/extract.py", *flags) == 2
    assert "is not a model folder" in capsys.readouterr().err
    shutil.copytree(network, where)
    told = job.call(*flags)
    assert "were done already" in told
    assert _table_bytes(out) == _table_bytes(extracted)
    assert "nothing to do" in job.call(*flags)


@pytest.mark.slow
def test_from_videos_to_labels(
    videos: Path, network: str, cluster: Cluster, tmp_path: Path
) -> None:
    where = Path(shutil.copytree(network, tmp_path / "network"))
    features, model = tmp_path / "features", tmp_path / "model"
    Job("jobs/extract.py", cluster).call(
        "--videos", videos, "--embed", where, "--out", features,
        "--split-fractions", 0.5, 0.25, 0.25, "--embed-clips", 2,
    )  # fmt: skip
    train = ("--data", features, "--model", "logistic_regression", "--folds", 0)
    assert exit_code("jobs/train.py", *train, "--out", model, "--families", "embedding") == 0
    shutil.rmtree(where)
    assert exit_code("jobs/train.py", *train, "--out", tmp_path / "late") == 2
    judge = ("--model", model, "--data", features, "--timed-videos", 1)
    assert exit_code("jobs/evaluate.py", *judge, "--out", tmp_path / "judged") == 0
    cost = json.loads((tmp_path / "judged" / "metrics.json").read_text())["cost"]
    assert cost["parameters"] > 11e6

    job = Job("jobs/label.py", cluster)
    found = {}
    for name, flags in {
        "here": (), "elsewhere": ("--predictors", 1, "--gpus-per-predictor", 0)
    }.items():  # fmt: skip
        job.call("--model", model, "--videos", videos, "--out", tmp_path / name, *flags)
        table = read_labels(str(tmp_path / name), columns=["uri", "status", "probabilities"])
        found[name] = table.sort_by("uri").to_pylist()
    assert found["here"] == found["elsewhere"]
    assert sum(row["status"] == "ok" for row in found["here"]) == 24
    predicted = json.loads((tmp_path / "judged" / "metrics.json").read_text())
    assert predicted["num_videos"] > 0
