"""What a person watching a log or a terminal sees."""

import io

import pytest

from vidray.progress import Meter, duration


def test_a_log_gets_lines_with_counts_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    log = io.StringIO()
    with Meter("extract", total=100, done=20, stream=log) as meter:
        now = 10.0
        meter.add(done=20, failed=1)  # too early for a line
        now = 20.0
        meter.add(done=20, failed=1)
        now = 40.0
        meter.add(done=40, failed=0)
    assert log.getvalue().splitlines() == [
        "extract: 20 of 100 were done already",
        "extract: 60/100, 2 failed, 2.0 videos/s, 20s left",
        "extract: 100/100, 2 failed, 2.0 videos/s, 0s left",
    ]


def test_the_rate_is_of_the_seconds_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    log = io.StringIO()
    with Meter("extract", total=100, stream=log) as meter:
        meter.add(done=100, failed=0, seconds=10.0)  # Workers took the rest to start.
    assert log.getvalue() == "extract: 100/100, 0 failed, 10.0 videos/s, 0s left\n"


def test_durations() -> None:
    seconds = (0.2, 59, 95, 3599, 3600, 90_061)
    assert [duration(s) for s in seconds] == ["0s", "59s", "1m 35s", "59m 59s", "1h 00m", "25h 01m"]
