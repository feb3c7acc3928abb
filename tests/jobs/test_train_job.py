"""jobs/train.py and jobs/evaluate.py as a user runs them: both families, killed, on two workers."""

import json
import re
import shutil
import signal
import subprocess
from pathlib import Path

import duckdb
import numpy as np
import pytest
import s3fs
import safetensors.numpy
import torch

from tests.command_lines import exit_code
from tests.ray_cluster import PATIENCE_SECONDS, Cluster, Job, ray_workers, running, wait_until
from vidray import (
    models,
    sources,
    storage,
)
from vidray.video import synthetic

pytestmark = pytest.mark.timeout(1500)

Captured = pytest.CaptureFixture[str]

_SPLITS = ("--split-fractions", "0.5", "0.25", "0.25")
# Without dropout, so that the number of workers must not matter; and slow, since at a hundred times
# the learning rate the last digit of a sum (two threads for one) is 2 % of the loss after 3 epochs.
_DEEP = (
    "--model", "resnet18_avg", "--epochs", "4", "--frames", "4", "--batch-size", "8",
    "--optimizer", "sgd", "--learning-rate", "0.00005",
)  # fmt: skip


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two dozen clips in four classes of motion, and two files that cannot be read."""
    folder = tmp_path_factory.mktemp("videos")
    synthetic.make_clips(folder)
    return folder


@pytest.fixture(scope="module")
def features(videos: Path, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("features") / "run"
    Job("jobs/extract.py", cluster).call("--videos", videos, "--out", out, *_SPLITS)
    return out


@pytest.fixture(scope="module")
def clips(videos: Path, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clips") / "run"
    size = ("--frames-per-clip", "8", "--size-px", "32")
    told = Job("jobs/clips.py", cluster).call("--videos", videos, "--out", out, *size, *_SPLITS)
    assert "26 videos: 24 ok, 2 failed, 0 skipped" in told
    return out


@pytest.fixture(scope="module")
def undisturbed(clips: Path, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "model"
    told = Job("jobs/train.py", cluster).call("--data", clips, "--out", out, *_DEEP)
    assert len(re.findall(r"^epoch \d/4: loss", told, flags=re.MULTILINE)) == 4
    return out


@pytest.fixture
def job(cluster: Cluster) -> Job:
    return Job("jobs/train.py", cluster)


def _weights(out: Path) -> bytes:
    return (out / "weights.safetensors").read_bytes()


def _history(out: Path) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = json.loads((out / "history.json").read_text())
    return rows


def _wait_for_epoch(process: "subprocess.Popen[str]", epoch: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(f"epoch {epoch}/"):
            return
    raise AssertionError(f"it ended before epoch {epoch}")


def test_classical_model_from_features_to_figures(
    job: Job, features: Path, cluster: Cluster, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    flags = ("--data", features, "--model", "extra_trees", "--out", out, "--folds", "0")
    told = job.call(*flags)
    assert re.search(r"^ val +\d", told, flags=re.MULTILINE)
    assert {path.name for path in out.iterdir()} == {
        "model.json", "pipeline.skops", "metrics.json", "importance.json", "run.json", "_SUCCESS",
    }  # fmt: skip
    importance = json.loads((out / "importance.json").read_text())
    assert [row["name"] for row in importance["families"]] == ["flow"]
    assert all(row["name"].startswith("flow.") for row in importance["features"])
    assert "nothing to do" in job.call(*flags)

    judged = tmp_path / "judged"
    told = Job("jobs/evaluate.py", cluster).call(
        "--model", out, "--data", features, "--out", judged
    )
    metrics = json.loads((judged / "metrics.json").read_text())
    assert f"{metrics['accuracy']:.3f}" in told
    predictions = f"{judged}/predictions.parquet"
    query = f"select count(*), avg(correct::int), min(correct::int) from '{predictions}'"
    ((count, accuracy, _),) = duckdb.sql(query).fetchall()
    assert (count, accuracy) == (metrics["num_videos"], pytest.approx(metrics["accuracy"]))
    assert metrics["cost"]["end_to_end_seconds_per_video"] > metrics["cost"]["seconds_per_video"]
    for name in ("confusion", "roc", "precision_recall", "calibration"):
        assert (judged / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_deep_model_learns_saves_and_is_judged(
    undisturbed: Path, clips: Path, cluster: Cluster, tmp_path: Path
) -> None:
    assert {path.name for path in undisturbed.iterdir()} == {
        "model.json", "weights.safetensors", "metrics.json", "history.json", "curve.png",
        "run.json", "_SUCCESS",
    }  # fmt: skip
    history = _history(undisturbed)
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert all(0 <= r["seconds_waiting_for_data"] <= r["seconds"] for r in history)
    flags = ("--model", undisturbed, "--data", clips, "--out", tmp_path / "judged")
    Job("jobs/evaluate.py", cluster).call(*flags)
    metrics = json.loads((tmp_path / "judged" / "metrics.json").read_text())
    cost = metrics["cost"]
    assert cost["parameters"] == 11_178_564  # ResNet-18 with four classes
    assert cost["end_to_end_seconds_per_video"] > cost["seconds_per_video"]
    model = models.load(str(undisturbed))
    assert model.class_names == ("bounce", "drift", "flicker", "spin")


def test_clips_without_splits_are_split_by_training_and_judged_so(
    videos: Path, job: Job, cluster: Cluster, tmp_path: Path
) -> None:
    clips, model, judged = tmp_path / "clips", tmp_path / "model", tmp_path / "judged"
    size = ("--frames-per-clip", "4", "--size-px", "32")
    Job("jobs/clips.py", cluster).call("--videos", videos, "--out", clips, *size)
    flags = ("--model", "resnet18_avg", "--epochs", "1", "--batch-size", "8", *_SPLITS)
    told = job.call("--data", clips, "--out", model, *flags)
    assert "splits derived by recording" in told
    Job("jobs/evaluate.py", cluster).call("--model", model, "--data", clips, "--out", judged)
    found = duckdb.sql(f"select uri from '{judged}/predictions.parquet'").fetchall()
    listed = sources.list_videos(str(videos), splits=(0.5, 0.25, 0.25))
    rows = zip(*(listed[name].to_pylist() for name in ("uri", "split")), strict=True)
    bad = {"broken.mp4", "sound_only.mp4"}
    expected = {uri for uri, split in rows if split == "test" and Path(uri).name not in bad}
    assert {uri for (uri,) in found} == expected


def test_a_killed_driver_goes_on_to_the_same_weights(
    job: Job, clips: Path, undisturbed: Path, tmp_path: Path
) -> None:
    flags = ("--data", clips, "--out", tmp_path / "model", *_DEEP)
    with job.start(*flags) as process:
        _wait_for_epoch(process, 2)
        process.kill()
    assert not (tmp_path / "model" / "model.json").exists()
    # What runs on the cluster ends with its driver.
    wait_until(lambda: not ray_workers(job.cluster, ".*RayTrainWorker"))
    told = job.call(*flags)
    assert "epoch 1/4" not in told
    assert "epoch 4/4" in told
    assert _weights(tmp_path / "model") == _weights(undisturbed)
    assert [r["train_loss"] for r in _history(tmp_path / "model")] == [
        r["train_loss"] for r in _history(undisturbed)
    ]


def test_a_killed_worker_starts_again_to_the_same_weights(
    job: Job, clips: Path, undisturbed: Path, cluster: Cluster, tmp_path: Path
) -> None:
    with job.start("--data", clips, "--out", tmp_path / "model", *_DEEP) as process:
        _wait_for_epoch(process, 2)
        workers = ray_workers(cluster, ".*RayTrainWorker")
        assert workers
        for worker in workers:
            worker.send_signal(signal.SIGKILL)
        assert process.stdout is not None
        told = process.stdout.read()
    assert process.returncode == 0, told
    assert _weights(tmp_path / "model") == _weights(undisturbed)


def test_a_pruning_killed_goes_on_with_the_network_it_chose(
    job: Job, clips: Path, undisturbed: Path, cluster: Cluster, videos: Path, tmp_path: Path
) -> None:
    pruning = (*_DEEP, "--weights", undisturbed, "--prune", "0.5", "--data", clips)
    whole = job.call(*pruning, "--out", tmp_path / "whole")
    assert "pruned: " in whole
    with job.start(*pruning, "--out", tmp_path / "killed") as process:
        _wait_for_epoch(process, 2)
        process.kill()
    begun = tmp_path / "killed" / "_checkpoints" / "pruned"
    chosen = (begun / "weights.safetensors").read_bytes()
    wait_until(lambda: not ray_workers(job.cluster, ".*RayTrainWorker"))
    told = job.call(*pruning, "--out", tmp_path / "killed")
    assert "epoch 1/4" not in told
    assert "epoch 4/4" in told
    assert _weights(tmp_path / "killed") == _weights(tmp_path / "whole")
    assert len(_weights(tmp_path / "whole")) < 0.75 * len(_weights(undisturbed))
    assert len(chosen) < 0.75 * len(_weights(undisturbed))
    labels = tmp_path / "labels"
    flags = ("--model", tmp_path / "killed", "--videos", videos, "--out", labels)
    assert "24 ok" in Job("jobs/label.py", cluster).call(*flags)


def test_a_taught_model_killed_goes_on_to_the_same_weights_and_with_no_other_teacher(
    job: Job, clips: Path, undisturbed: Path, tmp_path: Path
) -> None:
    flags = ("--data", clips, *_DEEP, "--teacher", tmp_path / "teacher")
    shutil.copytree(undisturbed, tmp_path / "teacher")
    told = job.call(*flags, "--out", tmp_path / "straight")
    assert "taught by resnet18_avg" in told
    with job.start(*flags, "--out", tmp_path / "model") as process:
        _wait_for_epoch(process, 2)
        process.kill()
    wait_until(lambda: not ray_workers(job.cluster, ".*RayTrainWorker"))
    # Another teacher in its place: the training is another one.
    weights = _weights(tmp_path / "teacher")
    tensors = safetensors.numpy.load(weights)
    tensors["head.bias"] = tensors["head.bias"] + 1
    (tmp_path / "teacher" / "weights.safetensors").write_bytes(safetensors.numpy.save(tensors))
    told = job.call(*flags, "--out", tmp_path / "model", code=2)
    assert "distillation.digest" in told
    (tmp_path / "teacher" / "weights.safetensors").write_bytes(weights)
    told = job.call(*flags, "--out", tmp_path / "model")
    assert "epoch 1/4" not in told
    assert _weights(tmp_path / "model") == _weights(tmp_path / "straight")
    assert _weights(tmp_path / "model") != _weights(undisturbed)


def _assert_learnt_the_same(out: Path, undisturbed: Path) -> None:
    """Up to the order of sums."""
    one, other = _history(undisturbed), _history(out)
    for key in ("train_loss", "val_loss"):
        assert [r[key] for r in other] == pytest.approx([r[key] for r in one], rel=1e-3), key
    ours, theirs = (safetensors.numpy.load(_weights(p)) for p in (out, undisturbed))
    torch.manual_seed(0)
    start = models.build_model("resnet18_avg", num_classes=4).state_dict()
    learnt = apart = 0.0
    for name, tensor in start.items():
        if tensor.is_floating_point() and "running" not in name:
            learnt += float(np.square(theirs[name] - tensor.numpy()).sum())
            apart += float(np.square(theirs[name] - ours[name]).sum())
    assert apart < 0.05**2 * learnt  # Gradients of one worker alone would be half as long.


def test_two_workers_learn_what_one_learns(
    job: Job, clips: Path, undisturbed: Path, tmp_path: Path
) -> None:
    job.call("--data", clips, "--out", tmp_path / "model", "--workers", "2", *_DEEP)
    _assert_learnt_the_same(tmp_path / "model", undisturbed)


def test_a_node_lost_for_good_leaves_the_others_to_finish(
    clips: Path, undisturbed: Path, tmp_path: Path
) -> None:
    # Ray asks for as many workers as before, and for as many as are left after this wait.
    wait = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "8"}
    workers = ("--workers", "2", "--min-workers", "1")
    with running(cpus=1, variables=wait) as two:
        lost = two.add_node(cpus=1)
        flags = ("--data", clips, "--out", tmp_path / "model", *workers, *_DEEP)
        with Job("jobs/train.py", two).start(*flags) as process:
            _wait_for_epoch(process, 3)
            assert len(ray_workers(two, ".*RayTrainWorker")) == 2
            two.kill(lost)
            told, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, told
    assert "epoch 4/4" in told
    _assert_learnt_the_same(tmp_path / "model", undisturbed)


def test_model_folder_and_clips_in_a_bucket(
    job: Job, clips: Path, s3_bucket: str, tmp_path: Path
) -> None:
    s3fs.S3FileSystem().put(str(clips), f"{s3_bucket}/clips", recursive=True)
    out = f"{s3_bucket}/model"
    flags = ("--model", "resnet18_max", "--epochs", "1", "--frames", "2")
    job.call("--data", f"{s3_bucket}/clips", "--out", out, *flags)
    assert storage.exists(f"{out}/_SUCCESS")
    assert not list(storage.list_files(f"{out}/_checkpoints", hidden=True))
    probabilities = models.load(out).predict(np.zeros((2, 8, 32, 32, 3), np.uint8))
    assert probabilities.shape == (2, 4)
    assert probabilities.sum(axis=1) == pytest.approx(1)


def _fails(capsys: Captured, script: str, *flags: object) -> str:
    """Run in this process, as the command line does; returns the one line it must print."""
    code = exit_code(f"jobs/{script}.py", *flags)
    told = capsys.readouterr().err.strip().splitlines()
    assert (code, len(told)) == (2, 1), told
    return told[0]


def test_mistakes_are_one_line(
    clips: Path, features: Path, undisturbed: Path, tmp_path: Path, capsys: Captured
) -> None:
    def train(*flags: object) -> str:
        return _fails(capsys, "train", "--out", tmp_path / "x", *flags)

    assert "did you mean extra_trees?" in train("--data", features, "--model", "extra_tree")
    assert "holds clips" in train("--data", clips, "--model", "svm")
    assert "holds features" in train("--data", features, "--model", "r3d_18")
    assert "is not a run folder" in train("--data", tmp_path, "--model", "svm")
    assert "--epochs has no effect on svm" in train(
        "--data", features, "--model", "svm", "--epochs", "3"
    )
    assert "no published weights" in train(
        "--data", clips, "--model", "c3d", "--weights", "default"
    )
    assert "16 frames of 32 px are wanted" in train(
        "--data", clips, "--model", "r3d_18", "--frames", "16"
    )
    assert "epochs is 0" in train("--data", clips, "--model", "r3d_18", "--epochs", "0")
    told = _fails(capsys, "train", "--data", clips, "--out", undisturbed, *_DEEP[:-1], "0.02")
    assert "(training.learning_rate: 5e-05 -> 0.02)" in told
    assert "is not a model folder" in _fails(
        capsys, "evaluate", "--model", tmp_path, "--data", clips, "--out", tmp_path / "y"
    )
    flags = ("--model", undisturbed, "--data", features, "--out", tmp_path / "y")
    assert "holds features" in _fails(capsys, "evaluate", *flags)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_gpu_trains_and_judges(videos: Path, tmp_path: Path, precision: str) -> None:
    """One worker of Ray Train on the GPU (a CPU refuses float16); judged there and on the CPU
    alike.
    """
    clips, out = tmp_path / "clips", tmp_path / "model"
    size = ("--frames-per-clip", "8", "--size-px", "32")
    with running(4, "--num-gpus=1") as cluster:
        Job("jobs/clips.py", cluster).run("--videos", videos, "--out", clips, *size, *_SPLITS)
        flags = ("--data", clips, "--out", out, *_DEEP, "--precision", precision)
        told = Job("jobs/train.py", cluster).run(*flags)
        assert len(re.findall(r"^epoch \d/4: loss", told, flags=re.MULTILINE)) == 4
        judged = {}
        for device in ("cuda", "cpu"):
            where = ("--out", tmp_path / device, "--device", device)
            Job("jobs/evaluate.py", cluster).run("--model", out, "--data", clips, *where)
            judged[device] = json.loads((tmp_path / device / "metrics.json").read_text())
    assert judged["cuda"]["cost"]["peak_gpu_bytes"] > 0
    assert judged["cpu"]["cost"]["peak_gpu_bytes"] is None
    assert judged["cuda"]["log_loss"] == pytest.approx(judged["cpu"]["log_loss"], rel=1e-2)
