"""jobs/label.py as a nightly job: incremental, killed, started twice, in a bucket."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import s3fs

from jobs import label
from tests.models.test_folder import fitted, save, trained
from tests.ray_cluster import (
    Cluster,
    Job,
    ray_workers,
    running,
    send_signal,
    wait_until,
)
from tests.s3 import serving
from tests.video_writer import write_video
from vidray import cli
from vidray.errors import UserError
from vidray.labelling.commits import read_labels
from vidray.models.folder import save_classical

pytestmark = pytest.mark.timeout(1500)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("model") / "resnet18")
    save(trained("resnet18_avg"), folder)
    return folder


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty clips that differ, and a file that is none."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(40):
        path = folder / f"clip{number:02d}.avi"
        write_video(
            path, num_frames=100 + number, codec="mpeg4", width_px=320, height_px=240,
            first_number=number,
        )  # fmt: skip
    (folder / "text.mp4").write_text("no video")
    return folder


@pytest.fixture
def job(cluster: Cluster) -> Job:
    return Job("jobs/label.py", cluster)


@pytest.fixture(scope="module")
def undisturbed(
    model: str, many: Path, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    Job("jobs/label.py", cluster).call("--model", model, "--videos", many, "--out", out)
    return out


def table(out: object) -> pa.Table:
    """All that does not tell when it was committed."""
    return read_labels(str(out)).drop_columns(["labelled_at", "commit"])


def parts(out: Path) -> int:
    return len(list(out.glob("_runs/*/*/_staging/part-*.parquet")))


def test_nights_of_a_folder_that_grows(
    job: Job, model: str, many: Path, undisturbed: Path, tmp_path: Path
) -> None:
    rows = read_labels(str(undisturbed)).to_pylist()
    assert len(rows) == 41
    assert [row["status"] for row in rows] == ["ok"] * 40 + ["failed"]
    assert {row["label"] for row in rows[:40]} <= {"clap", "jump", "run"}
    assert rows[40]["error_kind"] == "unreadable"
    report = json.loads((undisturbed / "run.json").read_text())
    assert report["counts"]["ok"] == sum(report["labels"].values()) == 40
    assert report["hours_of_video"] == pytest.approx(40 * 119.5 / 25 / 3600, abs=2e-3)
    speed = report["videos_per_second"]
    held = 2 * 41 / speed / 41 * 1000  # seconds of two CPUs
    assert report["cost_per_thousand_videos"]["cpu_seconds"] == pytest.approx(held, rel=0.01)
    assert report["cost_per_thousand_videos"]["gpu_seconds"] == 0
    assert report["hours_of_video_per_hour"] == pytest.approx(
        report["hours_of_video"] / 41 * speed * 3600, rel=0.1
    )

    videos, out = tmp_path / "videos", tmp_path / "out"
    shutil.copytree(many, videos)
    shutil.copytree(undisturbed, out)  # Of the same set, and of other videos.
    for path in sorted(videos.glob("clip*"))[3:]:
        path.unlink()
    flags = ("--model", model, "--videos", videos, "--out", out)
    told = job.call(*flags, "--dry-run")
    assert "4 new, 41 gone" in told
    assert len(read_labels(str(out))) == 41
    assert "4 new, 41 gone" in job.call(*flags)
    assert "3 unchanged, 1 quarantined, 41 gone" in (told := job.call(*flags))
    assert "nothing to label" in told

    shutil.copyfile(many / "clip30.avi", videos / "new.avi")
    shutil.copyfile(many / "clip31.avi", videos / "clip00.avi")
    (videos / "clip01.avi").unlink()
    assert "1 new, 1 changed, 1 unchanged, 1 quarantined, 42 gone" in job.call(*flags)
    rows = {row["uri"]: row for row in read_labels(str(out)).to_pylist()}
    assert len(rows) == 46
    by_name = {Path(row["uri"]).name: row for row in read_labels(str(undisturbed)).to_pylist()}
    for name, source in (("new", "clip30"), ("clip00", "clip31"), ("clip01", "clip01")):
        found = rows[str(videos / f"{name}.avi")]
        assert found["probabilities"] == by_name[f"{source}.avi"]["probabilities"]
    assert sorted(row["commit"] for row in rows.values()) == [1] * 41 + [2] * 3 + [3] * 2

    # Another way to label is another set, and the first one stays.
    told = job.call(*flags, "--clips-per-video", "2")
    assert "4 new" in told
    assert len(read_labels(str(out))) == 4


def test_a_killed_run_is_finished_and_committed_once(
    job: Job, model: str, many: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    flags = ("--model", model, "--videos", many, "--out", out)
    with job.start(*flags) as process:
        wait_until(lambda: parts(out) >= 5)
        process.kill()
    assert not (out / "labels").exists()
    # What is in flight on the cluster ends with its driver.
    wait_until(lambda: not ray_workers(job.cluster))
    finished = parts(out)
    assert 5 <= finished < 41
    told = job.call(*flags)
    assert "going on with a run that was not finished" in told
    assert f"label: {finished} of 41 were done already" in told
    assert "nothing to label" in told
    assert table(out).equals(table(undisturbed))
    assert not list(out.glob("_runs/*/*"))


def test_two_runs_at_once_share_the_work(
    job: Job, model: str, many: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    flags = ("--model", model, "--videos", many, "--out", out)
    with job.start(*flags) as one, job.start(*flags) as two:
        told = [process.communicate()[0] for process in (one, two)]
    assert (one.returncode, two.returncode) == (0, 0), told
    assert table(out).equals(table(undisturbed))
    assert len(list(out.glob("labels/*/*.parquet"))) == 1
    assert not list(out.glob("_runs/*/*"))


def test_a_network_of_its_own_process_that_dies(
    job: Job, model: str, many: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    flags = ("--model", model, "--videos", many, "--out", out, "--predictors", 1)
    with job.start(*flags) as process:
        wait_until(lambda: parts(out) >= 3)
        (predictor,) = ray_workers(job.cluster, "ray::Predict")
        predictor.kill()
        told, _ = process.communicate()
    assert process.returncode == 0, told
    assert table(out).equals(table(undisturbed))


@pytest.mark.parametrize("flags", [(), ("--predictors", 1)])
def test_a_model_replaced_in_mid_run_is_told_in_one_line(
    job: Job, model: str, many: Path, tmp_path: Path, flags: tuple[object, ...]
) -> None:
    replaced, out = tmp_path / "model", tmp_path / "out"
    shutil.copytree(model, replaced)
    given = ("--model", replaced, "--videos", many, "--out", out, *flags)
    with job.start(*given) as process:
        wait_until(lambda: parts(out) >= 2)
        (replaced / "model.json").write_text((replaced / "model.json").read_text() + " ")
        # Those that come after them look at the model again.
        name = "ray::Predict" if flags else r".*vidray\.distributed\.sandbox"
        for one in ray_workers(job.cluster, name):
            send_signal(one, signal.SIGKILL)
        said, _ = process.communicate()
    assert process.returncode == 2, said
    told = r"^error: .* has changed since the job began: start the job again$"
    assert re.search(told, said, re.MULTILINE), said
    assert flags or "Traceback" not in said  # Ray itself tells of an actor's.
    assert not (out / "labels").exists()


def test_what_is_no_folder_or_denied_is_told(
    model: str,
    many: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    config = label.LabelConfig(model=model, videos=str(many), out=str(tmp_path / "notes.txt"))
    with pytest.raises(UserError, match=r"notes.txt is a file: --out must name a folder"):
        label.main(config)

    def denied(_: label.LabelConfig) -> None:
        raise PermissionError("Forbidden")

    given = ["label.py", "--model", "m", "--videos", "v", "--out", "o"]
    monkeypatch.setattr(sys, "argv", given)
    with pytest.raises(SystemExit) as stopped:
        cli.run(label.LabelConfig, denied)
    assert stopped.value.code == 2
    assert "error: access denied (Forbidden)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--predictors", 2), "leave no CPU to decode on"),
        (
            ("--predictors", 1, "--gpus-per-predictor", 0.5),
            "1 predictors of 0.5 GPUs each do not fit",
        ),
        (("--gpus-per-predictor", 1), "gpus_per_predictor is 1 and the cluster has 0 GPUs"),
        (("--gpus-per-predictor", 1.5), "gpus_per_predictor is 1.5: a part of one, or whole ones"),
        (("--predictors", -1), "predictors is -1: it must be 0 or more"),
        (("--crops", 3), "has learnt from whole pictures"),
        (("--memory-gib", 4000), "a worker needs 4000.0 GiB and the largest node offers"),
    ],
)
def test_what_the_cluster_or_the_model_lacks_is_told_at_once(
    job: Job, model: str, many: Path, tmp_path: Path, flags: tuple[object, ...], told: str
) -> None:
    given = ("--model", model, "--videos", many, "--out", tmp_path / "out", *flags)
    assert told in job.call(*given, code=2).splitlines()[-1]


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="its GPU would be used")
def test_where_there_are_gpus_they_are_for_predictors(
    model: str, many: Path, tmp_path: Path
) -> None:
    """A node that says it has GPUs: Ray starts predictors on it, and these miss the GPU."""
    flags = ("--model", model, "--videos", many, "--out", tmp_path / "out")
    with running(1, "--num-gpus=2") as cluster:
        for more, told in (
            ((), "given a GPU that PyTorch cannot use"),
            (("--predictors", 5, "--gpus-per-predictor", 0.4), "5 predictors of 0.4 GPUs"),
            (("--predictors", 3), "3 predictors of 1 GPUs each do not fit on the 2 GPUs"),
        ):
            with Job("jobs/label.py", cluster).start(*flags, *more) as process:
                said, _ = process.communicate()
            assert process.returncode == 2, said
            (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
            assert told in error


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gpu_labels_as_workers_do(model: str, many: Path, tmp_path: Path, precision: str) -> None:
    """A predictor on the GPU, which workers ask, against the network in each worker."""
    found = []
    with running(4, "--num-gpus=1") as cluster:
        for more in ((), ("--predictors", 0)):
            out = tmp_path / str(len(found))
            given = ("--model", model, "--videos", many, "--out", out, "--precision", precision)
            told = Job("jobs/label.py", cluster).run(*given, *more)
            assert "41 videos: 40 ok, 1 failed, 0 skipped" in told
            found.append(read_labels(str(out)).filter(pc.field("status") == "ok").sort_by("uri"))
            cost = json.loads((out / "run.json").read_text())["cost_per_thousand_videos"]
            assert (cost["gpu_seconds"] > 0) == (not more)
    there, here = (np.array(rows["probabilities"].to_pylist()) for rows in found)
    # TF32 convolutions; bfloat16 has 8 bits.
    np.testing.assert_allclose(there, here, atol=5e-3 if precision == "float32" else 5e-2)


def test_a_bucket_that_fails_one_request_in_twenty(
    cluster: Cluster, model: str, many: Path, s3_bucket: str, tmp_path: Path
) -> None:
    fs = s3fs.S3FileSystem()
    for path in sorted(many.iterdir())[::3]:
        fs.put(str(path), f"{s3_bucket}/videos/{path.name}")
    fs.put(model, f"{s3_bucket}/model", recursive=True)
    flags = ("--model", f"{s3_bucket}/model", "--videos", f"{s3_bucket}/videos")
    Job("jobs/label.py", cluster).call(*flags, "--out", f"{s3_bucket}/calm")
    # Workers have the environment of their node.
    with (
        serving() as faulty,
        running(2, variables={"AWS_ENDPOINT_URL": faulty.address}) as shaky,
    ):
        faulty.share = 0.05
        Job("jobs/label.py", shaky).run(*flags, "--out", f"{s3_bucket}/out")
    assert faulty.failed > 5
    assert table(f"{s3_bucket}/out").equals(table(f"{s3_bucket}/calm"))


def test_a_bucket_and_a_classical_model(
    job: Job, many: Path, s3_bucket: str, tmp_path: Path
) -> None:
    made = fitted("knn")
    save_classical(f"{s3_bucket}/model", made.info, made.pipeline)
    for name in ("clip00.avi", "clip01.avi", "text.mp4"):
        s3fs.S3FileSystem().put(str(many / name), f"{s3_bucket}/videos/{name}")
    flags = ("--videos", f"{s3_bucket}/videos", "--out", f"{s3_bucket}/out")
    told = job.call("--model", f"{s3_bucket}/model", *flags)
    assert re.search(r"3 videos: 2 ok, 1 failed", told)
    rows = read_labels(f"{s3_bucket}/out").to_pylist()
    assert [row["status"] for row in rows] == ["ok", "ok", "failed"]
    assert all(sum(row["probabilities"]) == pytest.approx(1) for row in rows[:2])
    assert "2 unchanged, 1 quarantined" in job.call("--model", f"{s3_bucket}/model", *flags)
