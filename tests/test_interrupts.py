"""Signals to a process that runs as a job does, without Ray: one line, one code, in time."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[1]

_JOB = """
import hashlib, os, signal, subprocess, sys, threading, time
from dataclasses import dataclass
from vidray import cli, interrupts

@dataclass(frozen=True, kw_only=True)
class Config:
    seconds: float = 60.0

def work(config):
    {work}

def ready():
    print("ready", flush=True)

cli.run(Config, work)
"""
_WAITS = """
    try:
        ready()
        time.sleep(config.seconds)
    finally:
        print("unwound", flush=True)
"""
_WAITS_ENDING = """
    try:
        ready()
        time.sleep(config.seconds)
    finally:
        print("unwinding", flush=True)
        time.sleep(1)
        print("unwound", flush=True)
"""
_SWALLOWS = """
    ready()
    while True:
        try:
            time.sleep(config.seconds)
        except BaseException:
            pass
"""
# A library that puts its own handlers, as Ray, Ray Train and Ray Tune do.
_OTHERS = """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))
    signal.signal(signal.SIGINT, lambda *_: print("mine"))
    ready()
    time.sleep(config.seconds)
"""
_ANSWERS_WITH_ITS_OWN = """
    ready()
    try:
        time.sleep(config.seconds)
    except KeyboardInterrupt:
        raise RuntimeError("the task was cancelled")
"""
# One call into C that does not come back: no handler of Python's runs.
_DEEP_IN_C = """
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print(child.pid, flush=True)
    ready()
    hashlib.pbkdf2_hmac("sha256", b"word", b"salt", 2_000_000_000)
"""
# A forked child that is ended is no end of the job.
_FORKS = """
    child = os.fork()
    if not child:
        time.sleep(60)
    time.sleep(0.5)
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGTERM
    time.sleep(4)
    print("done", flush=True)
"""


class _Started:
    def __init__(self, work: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _JOB.format(work=work.strip())],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def until(self, word: str) -> list[str]:
        assert self.process.stdout is not None
        lines = []
        while (line := self.process.stdout.readline()) and line.strip() != word:
            lines.append(line.strip())
        return lines

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


_TERM = "error: stopped by SIGTERM; run the same command again to go on\n"
_INT = "error: interrupted; run the same command again to go on\n"


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGTERM, 143, _TERM),
        (signal.SIGINT, 130, _INT),
        (signal.SIGHUP, 129, _TERM.replace("TERM", "HUP")),
    ],
)
def test_one_signal(number: signal.Signals, code: int, said: str) -> None:
    job = _Started(_WAITS)
    job.until("ready")
    job.process.send_signal(number)
    assert job.end() == (code, "unwound\n", said)


@pytest.mark.slow
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_while_it_ends(second: signal.Signals) -> None:
    job = _Started(_WAITS_ENDING)
    job.until("ready")
    job.process.send_signal(signal.SIGINT)
    job.until("unwinding")
    job.process.send_signal(second)
    assert job.end() == (130, "unwound\n", _INT)


@pytest.mark.parametrize("work", [_OTHERS, _ANSWERS_WITH_ITS_OWN, _SWALLOWS])
@pytest.mark.parametrize(("number", "code", "said"), [(15, 143, _TERM), (2, 130, _INT)])
def test_whatever_libraries_make_of_it(work: str, number: int, code: int, said: str) -> None:
    job = _Started(work)
    job.until("ready")
    job.process.send_signal(number)
    assert job.end() == (code, "", said)


@pytest.mark.slow
def test_deep_in_c_it_ends_in_time_with_all_that_it_has_started() -> None:
    job = _Started(_DEEP_IN_C)
    (child,) = job.until("ready")
    time.sleep(0.5)
    job.process.send_signal(signal.SIGTERM)
    assert job.end() == (143, "", _TERM)
    deadline = time.monotonic() + 20
    while psutil.pid_exists(int(child)):  # Killed already, and not yet gone on a busy machine.
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_a_forked_childs_signals_are_its_own() -> None:
    assert _Started(_FORKS).end() == (0, "done\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_output_to_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", _JOB.format(work="print('done')")],
            stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False,
        )  # fmt: skip
    assert done.stderr.startswith("error: the disk is full: ")
    assert done.stderr.count("\n") == 1
    assert done.returncode == 1


@pytest.mark.slow
def test_output_that_nobody_reads_any_more_is_one_line() -> None:
    job = _Started("""
    ready()
    time.sleep(1)
    print("x" * 1_000_000)
    """)
    job.until("ready")
    assert job.process.stdout is not None
    job.process.stdout.close()
    assert job.process.stderr is not None
    with job.process.stderr as err:
        assert err.read() == "error: who read this output has gone: send it to a file instead\n"
    assert job.process.wait(60) == 1


@pytest.mark.slow
def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """As under nohup."""
    work = _WAITS.replace("config.seconds", "1").strip()
    ignoring = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", ignoring + _JOB.format(work=work)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=60) == ("unwound\n", "")
    assert process.returncode == 0


def test_ctrl_c_while_a_job_still_imports() -> None:
    code = "import vidray.cli, time; print('ready', flush=True); time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == _INT
    assert process.returncode == -signal.SIGINT  # Which a shell calls 130.
