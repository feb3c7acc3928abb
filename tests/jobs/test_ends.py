"""jobs/label.py stopped, on a full disk, without its storage: a line, a code, and then the table.

What needs no Ray is in ``test_endings.py`` and ``test_interrupts.py``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
import s3fs

from tests.command_lines import ROOT
from tests.models.test_folder import fitted
from tests.ray_cluster import PATIENCE_SECONDS, Cluster, Job, Process, sandboxes, wait_until
from tests.s3 import serving
from tests.video_writer import write_video
from vidray.errors import UserError
from vidray.labelling.commits import read_labels
from vidray.models.folder import save_classical

pytestmark = pytest.mark.timeout(1500)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("model") / "knn")
    made = fitted("knn")
    save_classical(folder, made.info, made.pipeline)
    return folder


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for number in range(30):
        path = folder / f"clip{number:02d}.avi"
        write_video(
            path, num_frames=200 + number, codec="mpeg4", width_px=320, height_px=240,
            first_number=number,
        )  # fmt: skip
    (folder / "text.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def undisturbed(
    model: str, many: Path, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> pa.Table:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    Job("jobs/label.py", cluster).call("--model", model, "--videos", many, "--out", out)
    return table(out)


def table(out: object) -> pa.Table:
    """All that does not tell when it was committed."""
    return read_labels(str(out)).drop_columns(["labelled_at", "commit"])


def parts(out: Path) -> int:
    return len(list(out.glob("_runs/*/*/_staging/part-*.parquet")))


def start_here(*flags: object, **environment: str) -> Process:
    """The job with a Ray of its own."""
    inherited = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return Process(
        [sys.executable, str(ROOT / "jobs" / "label.py"), *map(str, flags)],
        env={**inherited, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def one_error(told: str) -> str:
    """The only line but those of progress; no traceback, no stack of C++."""
    lines = told.splitlines()
    (error,) = [line for line in lines if line.startswith("error: ")]
    assert lines[-1] == error, told
    known = (
        "error: ", "label: ", "31 new", "going on with", "starting Ray", "joining Ray",
        "2 workers start",
    )  # fmt: skip
    assert all(line.startswith(known) for line in lines), told
    return error


def test_sigterm_to_a_job_with_a_ray_of_its_own(
    cluster: Cluster, model: str, many: Path, undisturbed: pa.Table, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    flags = ("--model", model, "--videos", many, "--out", out)
    with start_here(*flags) as process:
        wait_until(lambda: parts(out) >= 3)
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        told, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert time.monotonic() - began < 60
    assert process.returncode == 143, told
    assert one_error(told) == ("error: stopped by SIGTERM; run the same command again to go on")
    assert len(started) > 3
    _, alive = psutil.wait_procs(started, timeout=60)
    assert not alive
    wait_until(lambda: not sandboxes_of(many))
    Job("jobs/label.py", cluster).call(*flags)
    assert table(out).equals(undisturbed)
    assert not list(out.rglob("*.draft"))


def test_ctrl_c_twice_on_a_cluster(
    cluster: Cluster, model: str, many: Path, undisturbed: pa.Table, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    job, flags = Job("jobs/label.py", cluster), ("--model", model, "--videos", many, "--out", out)
    with job.start(*flags) as process:
        wait_until(lambda: parts(out) >= 3)
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)
        told, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130, told
    assert one_error(told) == "error: interrupted; run the same command again to go on"
    wait_until(lambda: not sandboxes_of(many))
    job.call(*flags)
    assert table(out).equals(undisturbed)


def sandboxes_of(folder: Path) -> list[psutil.Process]:
    """Decoding processes that have a video of the folder open."""
    found = []
    for process in sandboxes():
        with contextlib.suppress(psutil.Error):
            if any(file.path.startswith(str(folder)) for file in process.open_files()):
                found.append(process)
    return found


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk in memory, of so many bytes, or skip the test: only root may mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if (
        sys.platform != "linux"
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("a small disk cannot be mounted here: it needs Linux and root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_fills_up_in_mid_run(
    cluster: Cluster, model: str, many: Path, undisturbed: pa.Table, tmp_path: Path
) -> None:
    job = Job("jobs/label.py", cluster)
    with small_disk(tmp_path / "disk", "120k") as disk:
        flags = ("--model", model, "--videos", many, "--out", disk / "out")
        with job.start(*flags) as process:
            told, _ = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 1, told
        assert one_error(told).startswith("error: the disk is full: free some space, then run the")
        assert 0 < parts(disk / "out") < 31
        with pytest.raises(UserError, match="holds no labels yet"):
            read_labels(str(disk / "out"))
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        job.call(*flags)
        assert table(disk / "out").equals(undisturbed)
        assert not list(disk.rglob("*.draft"))


def test_a_storage_that_is_lost_in_mid_run(
    model: str, many: Path, undisturbed: pa.Table, s3_bucket: str
) -> None:
    out = f"{s3_bucket}/out"
    flags = ("--model", model, "--videos", many, "--out", out)
    with contextlib.ExitStack() as lost:
        server = lost.enter_context(serving())
        address = server.address
        with start_here(*flags, AWS_ENDPOINT_URL=address, AWS_MAX_ATTEMPTS="2") as process:
            fs = s3fs.S3FileSystem(use_listings_cache=False)
            wait_until(lambda: len(fs.glob(f"{out}/_runs/*/*/_staging/part-*.parquet")) >= 3)
            lost.close()
            told, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1, told
    assert one_error(told).startswith("error: the storage does not answer (")
    with serving() as found, start_here(*flags, AWS_ENDPOINT_URL=found.address) as process:
        told, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, told
    assert "going on with a run that was not finished" in told
    assert table(out).equals(undisturbed)
