"""Whatever a video does to the decoding process, the caller gets a row's worth of reason."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest

from vidray.distributed.sandbox import Sandbox
from vidray.errors import UserError, VideoError


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    made = Sandbox(
        "tests.poison:misbehave", {"marks": str(tmp_path)}, memory_bytes=1 << 30, timeout_seconds=10
    )
    yield made
    made.close()


def _said(sandbox: Sandbox, what: str) -> tuple[str, int]:
    row = sandbox.run({"do": what}).to_pylist()[0]
    return row["said"], row["pid"]


@pytest.mark.slow
def test_one_child_serves_many_requests(sandbox: Sandbox) -> None:
    first, second = _said(sandbox, "one"), _said(sandbox, "two")
    assert (first[0], second[0]) == ("one", "two")
    assert first[1] == second[1] != os.getpid()


@pytest.mark.slow
@pytest.mark.parametrize(("what", "signal_name"), [("segfault", "SIGSEGV"), ("abort", "SIGABRT")])
def test_a_crash_is_tried_twice_and_told(
    sandbox: Sandbox, tmp_path: Path, what: str, signal_name: str
) -> None:
    with pytest.raises(VideoError, match=f"died 2 times .{signal_name}.") as caught:
        sandbox.run({"do": what})
    assert caught.value.kind == "crashed"
    assert (tmp_path / what).read_text() == ".."
    assert _said(sandbox, "next")[0] == "next"


@pytest.mark.slow
def test_a_hang_is_a_timeout_and_not_tried_again(sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="not finished after 10 seconds") as caught:
        sandbox.run({"do": "hang"})
    assert caught.value.kind == "timeout"
    assert (tmp_path / "hang").read_text() == "."
    assert _said(sandbox, "next")[0] == "next"


@pytest.mark.slow
def test_a_child_killed_from_outside_is_replaced(sandbox: Sandbox, tmp_path: Path) -> None:
    assert _said(sandbox, "die_once")[0] == "die_once"
    assert (tmp_path / "die_once").read_text() == ".."
    _, pid = _said(sandbox, "next")
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    assert _said(sandbox, "another")[0] == "another"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="the kernel does not say")
def test_a_child_whose_cpu_others_hold_says_how_long_it_waited(sandbox: Sandbox) -> None:
    assert sandbox.cpu_wait_seconds() == 0
    _, pid = _said(sandbox, "one")
    cpu = min(os.sched_getaffinity(0))
    before = sandbox.cpu_wait_seconds()
    code = f"import os; os.sched_setaffinity(0, {{{cpu}}})\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", code]) as other:
        os.sched_setaffinity(pid, {cpu})
        began = time.monotonic()
        while sandbox.cpu_wait_seconds() < before + 0.01 and time.monotonic() < began + 30:
            _said(sandbox, "two")
        waited = sandbox.cpu_wait_seconds() - before
        assert 0.01 <= waited <= time.monotonic() - began
        other.kill()
    sandbox.close()
    assert sandbox.cpu_wait_seconds() == 0


@pytest.mark.slow
@pytest.mark.parametrize("eat", ["eat", "eat_with_opencv", "eat_with_pytorch"])
def test_memory_is_capped(sandbox: Sandbox, tmp_path: Path, eat: str) -> None:
    with pytest.raises(
        VideoError, match="more memory than the 1 GiB one worker is allowed"
    ) as caught:
        sandbox.run({"do": eat})  # 4 GiB
    assert (caught.value.kind, caught.value.cap) == ("out_of_memory", ("memory_bytes", 1 << 30))
    assert (tmp_path / eat).read_text() == "."
    assert _said(sandbox, "next")[0] == "next"


@pytest.mark.slow
def test_settings_that_do_not_start_are_the_jobs_error(tmp_path: Path) -> None:
    refused = Sandbox(
        "tests.poison:misbehave",
        {"marks": str(tmp_path), "refuse": True},
        memory_bytes=1 << 30,
        timeout_seconds=3,
    )
    with pytest.raises(RuntimeError, match="ValueError: no such setting"):
        refused.run({"do": "anything"})
    refused.close()


@pytest.mark.slow
def test_what_a_person_can_mend_is_told_as_it_was_said(tmp_path: Path) -> None:
    refused = Sandbox(
        "tests.poison:misbehave",
        {"marks": str(tmp_path), "advise": "do this"},
        memory_bytes=1 << 30,
        timeout_seconds=3,
    )
    with pytest.raises(UserError, match=r"^do this$"):
        refused.run({"do": "anything"})
    refused.close()


@pytest.mark.slow
def test_a_fault_of_the_model_is_told_as_it_was_said_and_is_no_row(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    _, pid = _said(sandbox, "one")
    with pytest.raises(UserError, match=r"^the model is at fault .*ud800$") as caught:
        sandbox.run({"do": "fault"})
    assert "\n" not in str(caught.value)
    assert (tmp_path / "fault").read_text() == "."  # Not tried again: it would end the same way.
    assert _said(sandbox, "next") == ("next", pid)


@pytest.mark.slow
@pytest.mark.parametrize("how", [{"load": 4 << 30}, {"fill": 1000 << 20}])
def test_what_needs_more_memory_than_it_is_allowed_to_start_says_so(
    tmp_path: Path, how: dict[str, int]
) -> None:
    refused = Sandbox(
        "tests.poison:misbehave",
        {"marks": str(tmp_path), **how},
        memory_bytes=1 << 30,
        timeout_seconds=60,
    )
    told = r"^a worker needs more memory to start, .* than the 1 GiB it is allowed: raise --memory-"
    with pytest.raises(UserError, match=told):
        refused.run({"do": "anything"})
    refused.close()
    enough = Sandbox(
        "tests.poison:misbehave",
        {"marks": str(tmp_path), "load": 500 << 20},
        memory_bytes=1 << 30,
        timeout_seconds=60,
    )
    assert _said(enough, "one")[0] == "one"
    enough.close()


@pytest.mark.slow
def test_a_child_killed_while_it_starts_is_started_again(tmp_path: Path) -> None:
    limits: dict[str, Any] = {"memory_bytes": 1 << 30, "timeout_seconds": 10}
    once = Sandbox("tests.poison:die_at_start", {"marks": str(tmp_path), "times": 1}, **limits)
    assert once.run({})["said"].to_pylist() == ["here"]
    once.close()
    ever = Sandbox("tests.poison:die_at_start", {"marks": str(tmp_path), "times": 9}, **limits)
    with pytest.raises(RuntimeError, match="does not start: SIGKILL"):
        ever.start()


@pytest.mark.slow
def test_a_hung_child_dies_with_its_parent(tmp_path: Path) -> None:
    script = (
        "from vidray.distributed.sandbox import Sandbox\n"
        f"box = Sandbox('tests.poison:misbehave', {{'marks': {str(tmp_path)!r}}},"
        " memory_bytes=1 << 30, timeout_seconds=60)\n"
        "print(box.run({'do': 'pid'}).to_pylist()[0]['pid'], flush=True)\n"
        "box.run({'do': 'hang'})\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    child.wait(timeout=10)
    assert not child.is_running()


@pytest.fixture
def asking() -> Iterator[Sandbox]:
    made = Sandbox(
        "tests.poison:doubled", {"questions": 3}, memory_bytes=1 << 30, timeout_seconds=3, asks=True
    )
    yield made
    made.close()


def _double(question: pa.RecordBatch) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"number": [2 * question["number"][0].as_py()]})


@pytest.mark.slow
def test_a_child_asks_on_its_way(asking: Sandbox) -> None:
    for number in (1, 5):
        assert asking.run({"number": number}, _double)["number"].to_pylist() == [8 * number]
    with pytest.raises(RuntimeError, match="asks, and nobody answers"):
        asking.run({"number": 1})


@pytest.mark.slow
def test_who_cannot_answer_tells_and_the_next_request_is_not_taken_for_an_answer(
    asking: Sandbox,
) -> None:
    def confused(_: pa.RecordBatch) -> pa.RecordBatch:
        raise ValueError("no idea")

    with pytest.raises(ValueError, match="no idea"):
        asking.run({"number": 1}, confused)
    assert asking.run({"number": 1}, _double)["number"].to_pylist() == [8]


@pytest.mark.slow
def test_time_spent_on_answers_is_not_the_videos(asking: Sandbox) -> None:
    def slow(question: pa.RecordBatch) -> pa.RecordBatch:
        time.sleep(1.2)
        return _double(question)

    assert asking.run({"number": 1}, slow)["number"].to_pylist() == [8]  # 3.6 s of 3
    with pytest.raises(VideoError, match="not finished after 3 seconds"):
        asking.run({"number": 1, "sleep": 60}, _double)
