"""Whatever goes wrong in a job is one line for a person and an exit code; no Ray here."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pytest
import tyro
from botocore import exceptions as boto

from tests.ray_cluster import ROOT
from vidray import (
    cli,
    endings,
    sources,
    storage,
)
from vidray.distributed import capacity, ray_address
from vidray.distributed.resources import Resources
from vidray.errors import JobError, UserError, VideoError
from vidray.storage import buckets, json_file, parquet
from vidray.tables import (
    rows,
    run_folder,
    schema,
    summary,
)


@dataclass(frozen=True, kw_only=True)
class Inner:
    """More flags."""

    rate: float = 1.0
    """A rate."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """A job's flags."""

    videos: str = "x"
    """Address."""
    data: tuple[str, ...] = ()
    """Addresses."""
    seconds: float | None = None
    """A number."""
    shares: tuple[float, float] = (0.5, 0.5)
    """Two of them."""
    number: int = 1
    """A whole one."""
    inner: Annotated[Inner, tyro.conf.arg(name="")] = field(default_factory=Inner)


def job(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    main: Callable[[Config], None],
    *flags: str,
) -> tuple[int, str]:
    """Exit code and what is on stderr, of a job whose main is ``main``."""
    monkeypatch.setattr(sys, "argv", ["job.py", *flags])
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        cli.run(Config, main)
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, capsys.readouterr().err


def raising(error: BaseException) -> Callable[[Config], None]:
    def main(_: Config) -> None:
        raise error

    return main


def of_storage(error: Exception) -> OSError:
    """As ``buckets.call`` tells what a storage's library raises."""

    def fails() -> None:
        raise error

    with pytest.raises(OSError) as told:  # noqa: PT011  Any of them.
        buckets.call(fails)
    return told.value


class RayTaskError(Exception):
    """As Ray's: the traceback of the worker as text, and what was raised there."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"ray::task()\n  File x\n{type(cause).__name__}: {cause}")
        self.cause = cause


_UNREACHED = boto.EndpointConnectionError(endpoint_url="http://u:hunter2222@h:9000")


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (UserError("wrong"), 2, "wrong"),
        (JobError("failed"), 1, "failed"),
        (OSError(errno.ENOSPC, "No space left", "/out"), 1, "the disk is full: free some space"),
        (OSError(errno.EDQUOT, "Quota"), 1, "the disk quota is used up"),
        (
            OSError(errno.EROFS, "Read-only", "/out"),
            2,
            "the disk is read-only: .*Read-only: /o",
        ),
        (OSError(errno.ENAMETOOLONG, "Too long", "n"), 2, "the name is too long"),
        (OSError(errno.ELOOP, "Loop", "n"), 2, "a link leads back to itself"),
        (OSError(errno.EFBIG, "Too large", "n"), 1, "larger than allowed"),
        (
            PermissionError(errno.EACCES, "Denied", "/o"),
            2,
            r"access denied \(Denied: /o\): check",
        ),
        (PermissionError("Forbidden"), 2, r"access denied \(Forbidden\): .*AWS_PROFILE"),
        (FileNotFoundError("The specified bucket does not exist"), 2, "bucket does not exist"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1, "who read this output has gone"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), 1, "the storage does not answer"),
        (of_storage(_UNREACHED), 1, "the storage does not answer .*http://h:9000"),
        (of_storage(boto.ProfileNotFound(profile="p")), 2, "settings of the storage are wrong"),
        (of_storage(boto.NoCredentialsError()), 2, "no credentials"),
        (boto.ProfileNotFound(profile="p"), 2, "settings of the storage are wrong"),
        (MemoryError(), 1, "out of memory"),
        (RayTaskError(OSError(errno.ENOSPC, "No space left")), 1, "the disk is full"),
        (RayTaskError(UserError("wrong")), 2, "wrong"),
        (KeyError("shape"), 1, "unexpected KeyError: 'shape'"),
    ],
)
def test_every_error_is_one_line_and_a_code(
    error: Exception,
    code: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found, said = job(monkeypatch, capsys, raising(error))
    assert found == code
    assert re.match(rf"error: .*{told}", said), said
    assert said.count("\n") == 1
    assert "hunter2222" not in said


def test_a_bug_is_told_with_its_traceback_in_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("SOME_TOKEN", "hunter2222")
    _, said = job(monkeypatch, capsys, raising(ZeroDivisionError("of hunter2222")))
    (log,) = tmp_path.iterdir()
    assert said == (
        f"error: unexpected ZeroDivisionError: of *** (please report it with {log}, which shows "
        "where it happened)\n"
    )
    assert "in main" in log.read_text()
    assert "hunter2222" not in log.read_text()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    _, said = job(monkeypatch, capsys, raising(ZeroDivisionError("x")))
    assert said == "error: unexpected ZeroDivisionError: x (please report it)\n"


def test_nothing_from_outside_moves_the_cursor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, said = job(monkeypatch, capsys, raising(UserError("a\x1b[2Jb\nc\rd\udce9 é")))
    assert said == "error: a\\x1b[2Jb c d\\udce9 é\n"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--seconds", "nan"), "--seconds is nan: it must be a number, and not infinite"),
        (("--seconds", "-inf"), "--seconds is -inf: it must be a number, and not infinite"),
        (("--rate", "inf"), "--rate is inf: it must be a number, and not infinite"),
        (("--shares", "0.5", "nan"), "--shares is nan: it must be a number, and not infinite"),
        (("--number", str(10**30)), "--number is 1e+30: it must be 1e+15 at the most"),
        (("--number", "nan"), "--number takes INT, not 'nan'"),
        (("--rate", "x"), "--rate takes FLOAT, not 'x'"),
        (("--videos", "https://u:p@SECRET@h/x?k=1"), "--videos https://h/x holds a user name or a"),
        (("--data", "a", "s3://KEY:SEC/RET@b"), "--data s3://b holds a user name or a password"),
    ],
)
def test_flags_that_no_job_takes(
    flags: tuple[str, ...],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, said = job(monkeypatch, capsys, raising(AssertionError("it ran")), *flags)
    assert (code, said[: len(told) + 7]) == (2, f"error: {told}")
    assert "SECRET@" not in said
    assert "SEC/RET" not in said
    assert said.count("\n") == 1


_CHATTY = '''
from dataclasses import dataclass
from vidray import cli

@dataclass(frozen=True)
class Config:
    out: str
    """Folder to write, as the job that has a flag
    --in reads it."""
    source: str
    """What is read (see
    --sources)."""
    number: int = 1

cli.run(Config, print)
'''


@pytest.mark.slow
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_flags_that_are_missing_are_named_and_no_others(locale: str, tmp_path: Path) -> None:
    """The help of a flag may name another one, at the beginning of a line, too."""
    script = tmp_path / "job.py"
    script.write_text(_CHATTY)
    done = subprocess.run(
        [sys.executable, str(script), "--number", "2", "--nonsense"],
        env={**os.environ, "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    wanted = "error: required but not given: --out, --source (--help lists the options)\n"
    assert (done.returncode, done.stderr) == (2, wanted)


_NEXT_STEP = " (--help lists the options)"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        # There is no flag that turns --resume off: its opposite is no help.
        (("--no-resume",), f"Unrecognized options: --no-resume{_NEXT_STEP}"),
        (("--resum",), f"Unrecognized options: --resum; did you mean --resume?{_NEXT_STEP}"),
        (
            ("--no-overwrit",),
            f"Unrecognized options: --no-overwrit; did you mean --no-overwrite?{_NEXT_STEP}",
        ),
        (
            ("--overwrit",),
            f"Unrecognized options: --overwrit; did you mean --overwrite?{_NEXT_STEP}",
        ),
        (("--no-such",), f"Unrecognized options: --no-such{_NEXT_STEP}"),
        (("--epochs", "x"), f"--epochs takes INT, not 'x'{_NEXT_STEP}"),
        # Values that parse and are wrong say their rule: no option is missing from the line.
        (("--dropout", "2"), "dropout is 2.0: it must be 0 or more, and below 1"),
        (("--dropout", "inf"), "dropout is inf: it must be 0 or more, and below 1"),
    ],
)
def test_wrong_flags_are_said_and_the_opposite_is_never_suggested(
    flags: tuple[str, ...],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from jobs.train import TrainConfig

    given = ("--data", "a", "--model", "c3d", "--out", "b")
    monkeypatch.setattr(sys, "argv", ["train.py", *given, *flags])
    with pytest.raises(SystemExit) as stop:
        cli.run(TrainConfig, print)
    assert (stop.value.code, capsys.readouterr().err) == (2, f"error: {said}\n")


def test_numbers_of_resources() -> None:
    for given in (
        {"timeout_seconds": float("nan")},
        {"timeout_seconds": 1e9},
        {"workers": 0},
        {"num_blocks": -1},
    ):
        with pytest.raises(UserError, match=f"{next(iter(given))} is "):
            Resources(**given)


# RAY_ADDRESS


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("127.0.0.1", "give the head node as HOST:PORT"),
        ("ray://127.0.0.1:10001", "do not run through Ray Client"),
        ("http://127.0.0.1:8265", "which is a dashboard"),
        ("127.0.0.1:99999", "give the head node as HOST:PORT"),
        ("127.0.0.1:0", "give the head node as HOST:PORT"),
        ("user@host:6379", "give the head node as HOST:PORT"),
        ("no.such.host.invalid:6379", "nobody answers there"),
        (f"{'x' * 70}.com:6379", "nobody answers there"),
        ("a b", "give the head node as HOST:PORT"),
    ],
)
def test_an_address_of_no_cluster_is_told_at_once(
    address: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A test before this one may have joined a cluster in this process.
    monkeypatch.setattr(capacity.ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError, match=told):
        capacity.connect()


@pytest.fixture
def stranger() -> Iterator[int]:
    """The port of a server that answers as web servers do."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            while True:
                try:
                    with server.accept()[0] as one:
                        one.recv(64)
                        one.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                except OSError:
                    return

        threading.Thread(target=answer, daemon=True).start()
        yield server.getsockname()[1]


def test_a_port_of_something_else_than_ray(stranger: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity.ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{stranger}")
    with pytest.raises(UserError, match="something else answers than Ray's head"):
        capacity.connect()


def test_a_port_where_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(UserError, match="nobody answers there"):
        ray_address.check(f"127.0.0.1:{port}")


def test_a_ray_that_starts_slowly_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ray itself looks for 30 seconds whether its node is there."""
    now, looks = 0.0, 0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += 10  # A busy machine.

    def look(*_: object) -> str:
        nonlocal looks
        looks += 1
        if looks < 10:
            raise RuntimeError("not there")
        return "node"

    services: Any = capacity.ray._private.services
    monkeypatch.setattr(services, "get_node", look)
    monkeypatch.setattr("time.sleep", sleep)
    monkeypatch.setattr("time.monotonic", lambda: now)

    def init(**_: object) -> None:
        assert "starting Ray on this machine" in capsys.readouterr().err
        assert services.get_node("address", "id") == "node"

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(capacity.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(capacity.ray, "init", init)
    monkeypatch.setattr(capacity, "_tidy_sessions", lambda: None)
    capacity.connect()
    assert now == 90
    assert services.get_node is look
    looks = -100
    with pytest.raises(JobError, match=r"Ray does not start \(not there\): other work may keep"):
        capacity.connect()


# Files and settings


@pytest.mark.parametrize("text", [b"{", b"", b"[]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_json_file_of_ours_is_named(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(text)
    for read in (
        lambda: run_folder.read_json(str(tmp_path)),
        lambda: json_file.read(f"{tmp_path}/run.json"),
    ):
        with pytest.raises(UserError, match=r"run.json is damaged .*: put back what was there"):
            read()


def test_a_pipe_in_place_of_a_parquet_file_is_no_endless_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "videos.parquet")
    for read in (parquet.read_parquet, parquet.read_schema):
        with pytest.raises(IsADirectoryError, match="a pipe"):
            read(f"{tmp_path}/videos.parquet")


@pytest.mark.parametrize("how", ["cut", "empty", "flipped", "text"])
def test_a_damaged_parquet_file_of_ours_is_named(how: str, place: str) -> None:
    data = parquet.parquet_bytes(pa.table({"a": list(range(1000))}))
    damaged = {
        "cut": data[:-20],
        "empty": b"",
        "flipped": data[: len(data) // 2] + bytes(len(data) - len(data) // 2 - 8) + data[-8:],
        "text": b"no table",
    }[how]
    uri = storage.join(place, "part-00000.parquet")
    storage.write_bytes(uri, damaged)
    for read in (
        lambda: parquet.read_parquet(uri),
        lambda: parquet.read_parquet(uri, ["a"]),
        lambda: parquet.read_schema(uri),
    ):
        with pytest.raises(UserError, match=r"part-00000.parquet is damaged"):
            read()
    with pytest.raises(FileNotFoundError):
        parquet.read_parquet(storage.join(place, "none.parquet"))


@pytest.mark.parametrize("name", ["a**b.mp4", "**b/*.mp4"])
def test_a_pattern_that_is_none(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no pattern"):
        sources.list_videos(str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("AWS_ENDPOINT_URL", "localhost:9000", "is 'localhost:9000': give it as http://HOST:PORT"),
        ("AWS_ENDPOINT_URL", "http://h:port", "give it as http://HOST:PORT"),
        ("AWS_ENDPOINT_URL_S3", "ftp://h", "AWS_ENDPOINT_URL_S3 is 'ftp://h'"),
        ("AWS_ENDPOINT_URL", "http://user:pass@h", "holds a user or a password"),
        ("AWS_MAX_ATTEMPTS", "many", "AWS_MAX_ATTEMPTS is 'many'"),
    ],
)
def test_settings_of_buckets_that_are_wrong(
    name: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=told) as error:
        storage.exists("s3://bucket/key")
    assert "pass@" not in str(error.value)


# What is shown and stored


def test_labels_and_names_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    table = summary.Table("label", "videos", box=None)
    for label in ("[/b]", "[red]run[/red]", ":smile:", "a\nb", "\x1b[31mred", "[link=http://x]"):
        table.add_row(label, "1")
    summary.Console(width=summary.WIDTH).print(table)
    shown = [line.split("1")[0].strip() for line in capsys.readouterr().out.splitlines()[1:]]
    assert shown[:4] == ["[/b]", "[red]run[/red]", ":smile:", "a b"]
    assert shown[5] == "[link=http://x]"


def test_error_messages_of_rows_hold_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "hunter2222")
    video = {"video_id": "v", "uri": "s3://b/v.mp4", "fingerprint": "f"}
    said = "GET https://u:p@h/v.mp4?X-Amz-Signature=abc with hunter2222 failed"

    def crash(_: object) -> list[Any]:
        raise ValueError("x" * 270 + said)

    made = [
        rows.failed(video, schema.LABELLED, "d", VideoError("unavailable", said)),
        rows.made_by(crash, video, schema.LABELLED, "d"),
    ]
    for batch in made:
        (message,) = batch["error_message"].to_pylist()
        for secret in ("u:p", "Signature", "hunter"):
            assert secret not in message


def test_run_json_holds_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", "hunter2222")
    config = Config(videos="https://h/x?sig=1", data=("s3://b/hunter2222", "y?sig=2"))
    shown = json.dumps(cli.shown(config, without=("number",)))
    assert "sig=1" not in shown
    assert "hunter" not in shown
    assert "number" not in shown


def test_a_workers_error_that_ray_data_tells_as_text() -> None:
    class UserCodeException(Exception):  # noqa: N818  As Ray Data calls it.
        pass

    error = RayTaskError(UserCodeException("UDF failed"))
    error.args = ("ray::map()\n  File x\nZeroDivisionError: division by zero",)
    line, code = endings.line_and_code(error)
    assert code == 1
    assert line.startswith("unexpected RayTaskError: ZeroDivisionError: division by zero")
