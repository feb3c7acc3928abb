"""jobs/extract.py as a user runs it: on a live cluster, killed in every way, in buckets too."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
import s3fs

from tests.command_lines import exit_code
from tests.ray_cluster import Cluster, Job, ray_workers, sandboxes, send_signal, wait_until
from tests.shared_data import FIGHT
from tests.videos import write_video
from vidray import storage
from vidray.distributed.timing import Timing
from vidray.storage import checked_json, parquet
from vidray.tables import runs

pytestmark = pytest.mark.timeout(1500)

_CHEAP = ("--families", "color")
_STEADY = (
    "--families",
    "texture",
)  # about 0.15 s a clip of six seconds: a kill falls in the middle
_PER_SOURCE = {"video_id", "uri", "fingerprint"}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve good clips of two classes in several containers, and four that cannot be read."""
    folder = tmp_path_factory.mktemp("clips")
    for number in range(12):
        label = ("up", "down")[number % 2]
        (folder / label).mkdir(exist_ok=True)
        suffix = (".mp4", ".mkv", ".avi", ".ts")[number % 4]
        codec = "mpeg4" if suffix == ".avi" else "libx264"
        path = folder / label / f"clip{number:02d}{suffix}"
        write_video(path, num_frames=40 + number, codec=codec, options={"bf": "2"})
    (folder / "up" / "empty.mp4").write_bytes(b"")
    (folder / "up" / "text.avi").write_text("no video\n" * 100)
    write_video(folder / "down" / "cut.mp4", num_frames=40)
    cut = folder / "down" / "cut.mp4"
    cut.write_bytes(cut.read_bytes()[:-900])  # without its index
    return folder


@pytest.fixture(scope="module")
def extracted(clips: Path, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run folder of ``clips``, with what the job printed beside it."""
    out = tmp_path_factory.mktemp("extracted") / "out"
    told = Job("jobs/extract.py", cluster).call(
        "--videos", clips, "--out", out, "--show", 20, *_CHEAP
    )
    (out.parent / "told.txt").write_text(told)
    return out


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty longer clips: enough work that a kill falls in its middle."""
    folder = tmp_path_factory.mktemp("many") / "class"
    folder.mkdir()
    first = write_video(
        folder / "clip00.avi", num_frames=150, codec="mpeg4", width_px=320, height_px=240
    )
    for number in range(1, 40):
        shutil.copyfile(first, folder / f"clip{number:02d}.avi")
    return folder.parent


@pytest.fixture(scope="module")
def undisturbed(many: Path, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    Job("jobs/extract.py", cluster).call("--videos", many, "--out", out, *_STEADY)
    return out


@pytest.fixture
def job(cluster: Cluster) -> Job:
    return Job("jobs/extract.py", cluster)


def _table_bytes(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "features").iterdir())}


def _staged(out: Path) -> dict[str, int]:
    """Finished parts of a running job: name -> time of writing in ns."""
    folder = out / "_staging"
    return (
        {p.name: p.stat().st_mtime_ns for p in folder.glob("part-*.parquet")}
        if folder.exists()
        else {}
    )


def test_every_input_has_one_row_and_run_json_adds_up(extracted: Path) -> None:
    told = (extracted.parent / "told.txt").read_text()
    table = runs.read_table(str(extracted))
    rows = {Path(row["uri"]).name: row for row in table.to_pylist()}
    assert len(rows) == len(table) == 15
    assert {name for name, row in rows.items() if row["status"] == "failed"} == {
        "empty.mp4",
        "text.avi",
        "cut.mp4",
    }
    for number in range(12):
        row = next(row for name, row in rows.items() if name.startswith(f"clip{number:02d}"))
        assert (row["num_frames"], row["label"]) == (40 + number, ("up", "down")[number % 2])
        assert len(row["color"]) == 432
    failed = rows["empty.mp4"]
    assert (failed["error_kind"], failed["color"], failed["num_frames"]) == (
        "unreadable",
        None,
        None,
    )
    report = json.loads((extracted / "run.json").read_text())
    assert report["state"] == "finished"
    assert report["counts"] == {
        "videos": 15, "ok": 12, "failed": 3, "skipped": 0, "error_kinds": {"unreadable": 3},
        "with_corrupt_frames": 0, "with_damaged_packets": 0,
    }  # fmt: skip
    assert set(report["seconds"]["in_workers"]) >= {"decode", "quality", "describe"}
    # What plans are made of.
    listed = parquet.read_parquet(str(extracted / "videos.parquet"))
    timing = checked_json.build(Timing, report["timing"], "timing")
    assert timing.videos == report["listed"] == 15
    assert timing.parts == 15
    assert timing.video_bytes == sum(listed["size_bytes"].to_pylist())
    worked = timing.seconds_per_video * 15 + timing.part_seconds + timing.block_gap_seconds
    assert worked <= timing.workers * report["seconds"]["working"]
    assert report["seconds"]["checking"] >= 0
    assert "15 videos: 12 ok, 3 failed, 0 skipped" in told
    assert (extracted / "_SUCCESS").exists()
    assert not (extracted / "_staging").exists()


def test_other_tools_read_the_table(extracted: Path) -> None:
    files = f"{extracted}/features/*.parquet"
    query = f"select count(*), sum(num_frames) from '{files}' where status = 'ok'"
    assert duckdb.sql(query).fetchall() == [(12, sum(range(40, 52)))]


def test_one_block_and_forty_blocks_give_the_same_bytes(
    job: Job, many: Path, undisturbed: Path, tmp_path: Path
) -> None:
    job.call("--videos", many, "--out", tmp_path / "one", "--num-blocks", 1, *_STEADY)
    flags = ("--num-blocks", 40, *_STEADY)
    job.call("--videos", many, "--out", tmp_path / "forty", *flags)
    assert _table_bytes(tmp_path / "one") == _table_bytes(undisturbed)
    assert _table_bytes(tmp_path / "forty") == _table_bytes(undisturbed)


def test_a_bucket_gives_the_bytes_a_folder_gives(
    job: Job, clips: Path, extracted: Path, s3_bucket: str, tmp_path: Path
) -> None:
    s3fs.S3FileSystem().put(str(clips), f"{s3_bucket}/clips", recursive=True)
    job.call("--videos", clips, "--out", f"{s3_bucket}/out", *_CHEAP)
    for info in storage.list_files(f"{s3_bucket}/out/features"):
        mine = extracted / "features" / storage.name_of(info.uri)
        assert storage.read_bytes(info.uri) == mine.read_bytes()
    assert storage.exists(f"{s3_bucket}/out/_SUCCESS")
    assert not list(storage.list_files(f"{s3_bucket}/out/_staging", hidden=True))

    job.call("--videos", f"{s3_bucket}/clips", "--out", tmp_path / "from_bucket", *_CHEAP)
    names = [n for n in runs.read_table(str(extracted)).column_names if n not in _PER_SOURCE]
    from_folder = runs.read_table(str(extracted), columns=names)
    from_bucket = runs.read_table(str(tmp_path / "from_bucket"), columns=names)
    assert parquet.parquet_bytes(from_folder) == parquet.parquet_bytes(from_bucket)


def test_killed_workers_cost_nothing(
    job: Job, many: Path, undisturbed: Path, tmp_path: Path, cluster: Cluster
) -> None:
    with job.start("--videos", many, "--out", tmp_path / "out", *_STEADY) as process:
        for _ in range(3):
            before = len(_staged(tmp_path / "out"))
            wait_until(lambda n=before: len(_staged(tmp_path / "out")) > n + 3)
            # Between two tasks a worker is idle and has no task's name: look until one has.
            wait_until(lambda: any(send_signal(w, signal.SIGKILL) for w in ray_workers(cluster)))
        told, _ = process.communicate()
    assert process.returncode == 0, told
    assert _table_bytes(tmp_path / "out") == _table_bytes(undisturbed)


def test_a_killed_driver_goes_on_where_it_stopped(
    job: Job, many: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with job.start("--videos", many, "--out", out, *_STEADY) as process:
        wait_until(lambda: len(_staged(out)) >= 10)
        process.kill()
    assert not (out / "features").exists()
    with pytest.raises(Exception, match="no finished run"):
        runs.read_table(str(out))
    # What is in flight on the cluster ends with its driver.
    wait_until(lambda: not ray_workers(job.cluster))
    finished = _staged(out)
    assert 10 <= len(finished) < 40
    told = job.call("--videos", many, "--out", out, *_STEADY)
    assert f"extract: {len(finished)} of 40 were done already" in told
    assert json.loads((out / "run.json").read_text())["videos_done_before"] == len(finished)
    written = {path.name: path.stat().st_mtime_ns for path in (out / "features").iterdir()}
    assert {name: written[name] for name in finished} == finished
    assert _table_bytes(out) == _table_bytes(undisturbed)


def test_a_killed_node_costs_nothing(
    job: Job, many: Path, undisturbed: Path, tmp_path: Path, cluster: Cluster
) -> None:
    second = cluster.add_node(cpus=2)
    with job.start("--videos", many, "--out", tmp_path / "out", *_STEADY) as process:
        wait_until(lambda: len(_staged(tmp_path / "out")) >= 10)
        cluster.kill(second)
        told, _ = process.communicate()
    assert process.returncode == 0, told
    assert _table_bytes(tmp_path / "out") == _table_bytes(undisturbed)


@pytest.fixture
def poison(many: Path, tmp_path: Path) -> Path:
    """A manifest of good clips, a pipe, one whose reader is stopped, one whose reader is killed."""
    os.mkfifo(tmp_path / "pipe.mp4")
    for name in ("hangs.avi", "kills.avi"):
        write_video(tmp_path / name, num_frames=3000, codec="mpeg4", width_px=320, height_px=240)
    lines = [f"{path}" for path in sorted((many / "class").iterdir())[:6]]
    manifest = tmp_path / "videos.csv"
    manifest.write_text(
        "\n".join(
            ["path", *lines[:3], "pipe.mp4", "hangs.avi", "kills.avi", "gone.mp4", *lines[3:]]
        )
    )
    return manifest


def test_poison_videos_cost_one_row_each(job: Job, poison: Path, tmp_path: Path) -> None:
    """A decoder that segfaults, one that hangs, one that wants more memory than there is."""
    write_video(tmp_path / "huge.mkv", num_frames=3, codec="ffv1", width_px=7680, height_px=4320)
    poison.write_text(poison.read_text() + "\nhuge.mkv")
    flags = ("--timeout-seconds", 8, "--memory-gib", 0.5, "--num-blocks", 1, *_CHEAP)
    with job.start("--videos", poison, "--out", tmp_path / "out", *flags) as process:
        while process.poll() is None:
            _signal_readers_of(tmp_path / "kills.avi", signal.SIGSEGV)
            _signal_readers_of(tmp_path / "hangs.avi", signal.SIGSTOP)
            time.sleep(0.02)
        told, _ = process.communicate()
    assert process.returncode == 0, told
    rows = runs.read_table(
        str(tmp_path / "out"), columns=["uri", "status", "error_kind", "error_message"]
    )
    failed = {
        Path(r["uri"]).name: (r["error_kind"], r["error_message"])
        for r in rows.to_pylist()
        if r["status"] != "ok"
    }
    assert failed == {
        "pipe.mp4": ("unreadable", "it is a folder or a device, not a file"),
        "hangs.avi": ("timeout", "not finished after 8 seconds"),
        "kills.avi": ("crashed", "the decoding process died 2 times (SIGSEGV)"),
        "gone.mp4": ("missing", "it was listed, but is not there any more"),
        "huge.mkv": ("out_of_memory", "needs more memory than the 0.5 GiB one worker is allowed"),
    }
    assert len(rows) == 11


def _signal_readers_of(path: Path, number: signal.Signals) -> None:
    for process in sandboxes():
        try:
            if any(file.path == str(path) for file in process.open_files()):
                process.send_signal(number)
        except OSError:
            continue


def test_two_runs_at_once_do_no_harm(
    job: Job, many: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    flags = ("--videos", many, "--out", out, *_STEADY)
    with job.start(*flags) as one, job.start(*flags) as two:
        told = [process.communicate()[0] for process in (one, two)]
    assert (one.returncode, two.returncode) == (0, 0), told
    assert _table_bytes(out) == _table_bytes(undisturbed)
    assert sorted(path.name for path in out.iterdir()) == [
        "_SUCCESS",
        "features",
        "run.json",
        "videos.parquet",
    ]


def test_videos_added_during_a_run_wait_for_the_next(job: Job, clips: Path, tmp_path: Path) -> None:
    source = tmp_path / "clips"
    shutil.copytree(clips, source)
    out = tmp_path / "out"
    with job.start("--videos", source, "--out", out, *_CHEAP) as process:
        wait_until((out / "videos.parquet").exists)
        process.kill()
    shutil.copyfile(source / "up" / "clip00.mp4", source / "up" / "later.mp4")
    job.call("--videos", source, "--out", out, *_CHEAP)
    assert len(runs.read_table(str(out))) == 15


def _fails(capsys: pytest.CaptureFixture[str], *flags: object) -> str:
    """Run in this process, as the command line does; returns the one line it must print."""
    code = exit_code("jobs/extract.py", *flags)
    screen = capsys.readouterr()
    assert code == 2
    assert screen.out == ""
    assert screen.err.startswith("error: ")
    assert screen.err.count("\n") == 1
    return screen.err


def test_wrong_arguments_are_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], clips: Path, tmp_path: Path
) -> None:
    given = ("--videos", clips, "--out", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.csv").write_text("film,label\na.mp4,x\n")
    (tmp_path / "clash.csv").write_text("path,label\na.mp4,x\na.mp4,y\n")
    (tmp_path / "leak.csv").write_text(
        "path,label,split,group\na.mp4,x,train,g1\nb.mp4,x,test,g1\n"
    )
    (tmp_path / "taken" / "features").mkdir(parents=True)
    (tmp_path / "taken" / "features" / "part.parquet").write_bytes(b"")
    wrong = {
        (): "--videos",
        ("--videos", clips): "--out",
        (*given, "--families", "colour"): "did you mean color?",
        (*given, "--families", "color", "color"): "once",
        (*given, "--preset", "notebok"): "'default', 'notebook'",
        (*given, "--enhance", "maybe"): "'off', 'auto', 'always'",
        (*given, "--decoder", "ffmpeg"): "'pyav', 'opencv', 'decord'",
        (*given, "--enhence", "off"): "did you mean --enhance?",
        (*given, "--workers", "two"): "--workers takes INT, not 'two'",
        (*given, "--workers", 0): "workers is 0: it must be 1 or more",
        (*given, "--timeout-seconds", 0): "timeout_seconds is 0",
        (*given, "--memory-gib", 0.1): "memory",
        (*given, "--num-blocks", 0): "num_blocks is 0",
        (*given, "--max-sampled-frames", 0): "max_sampled_frames is 0",
        (*given, "--max-pixels", 0): "max_pixels is 0",
        (*given, "--split-fractions", 0.5, 0.5): "--split-fractions",
        (*given, "--split-fractions", 0.5, 0.5, 0.5): "split",
        ("--videos", tmp_path / "nowhere", "--out", tmp_path / "out"): "nowhere",
        ("--videos", tmp_path / "empty", "--out", tmp_path / "out"): "empty",
        ("--videos", tmp_path / "bad.csv", "--out", tmp_path / "out"): "film",
        ("--videos", tmp_path / "clash.csv", "--out", tmp_path / "out"): "a.mp4",
        ("--videos", tmp_path / "leak.csv", "--out", tmp_path / "out"): "g1",
        ("--videos", "nosuch://bucket/x", "--out", tmp_path / "out"): "nosuch",
        ("--videos", clips, "--out", tmp_path / "taken"): "--out",
        ("--videos", clips, "--out", tmp_path / "bad.csv"): "--out",
    }
    for flags, hint in wrong.items():
        told = _fails(capsys, *flags)
        assert hint in told, (flags, told)
        assert not (tmp_path / "out").exists(), flags


def test_a_finished_folder_is_left_alone(
    job: Job, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "clips", tmp_path / "out"
    shutil.copytree(clips, source)
    given = ("--videos", source, "--out", out, *_CHEAP)
    job.call(*given)
    before = _table_bytes(out)
    assert "nothing to do" in job.call(*given)
    assert "other settings (families: " in _fails(capsys, *given[:-1], "texture")
    assert "other settings (videos: " in _fails(capsys, "--videos", source / "up", *given[2:])
    wrong = ("--videos", tmp_path / "typo", *given[2:], "--overwrite")
    assert "typo" in _fails(capsys, *wrong)
    (source / "up" / "empty.mp4").unlink()
    assert "has changed since: 0 rows new or changed, 1 gone" in _fails(capsys, *given)
    assert _table_bytes(out) == before
    job.call(*given, "--overwrite")
    assert len(runs.read_table(str(out))) == 14


@pytest.mark.shared
def test_real_clips_give_the_same_bytes_from_every_source(
    job: Job, s3_bucket: str, tmp_path: Path
) -> None:
    fight = FIGHT
    job.call("--videos", fight, "--out", tmp_path / "splits", *_CHEAP)
    columns = ["uri", "status", "label", "split"]
    rows = runs.read_table(str(tmp_path / "splits"), columns=columns).to_pylist()
    assert len(rows) == 233
    assert {row["status"] for row in rows} == {"ok"}
    assert all(Path(row["uri"]).parent.name == row["label"] for row in rows)
    splits = [row["split"] for row in rows]
    assert [splits.count(name) for name in ("train", "val", "test")] == [159, 17, 57]

    (tmp_path / "classes").mkdir()
    for label in ("fight", "no_fight"):
        (tmp_path / "classes" / label).symlink_to(fight / label)
    s3fs.S3FileSystem().put(str(fight), f"{s3_bucket}/fight", recursive=True)
    expected = _what_was_seen(tmp_path / "splits")
    for name, source in {
        "from_classes": tmp_path / "classes",
        "from_csv": fight / "videos.csv",
        "from_bucket": f"{s3_bucket}/fight",
    }.items():
        job.call("--videos", source, "--out", tmp_path / name, *_CHEAP)
        assert _what_was_seen(tmp_path / name) == expected, name


def _what_was_seen(out: Path) -> bytes:
    """The table by file name, without the columns that tell sources apart."""
    table = runs.read_table(str(out))
    names = [Path(uri).name for uri in table["uri"].to_pylist()]
    assert len(set(names)) == 233
    table = table.append_column("name", pa.array(names)).sort_by("name")
    return parquet.parquet_bytes(table.drop_columns([*_PER_SOURCE, "split", "group"]))
