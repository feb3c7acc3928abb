"""Progress of a long job: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

_SECONDS_BETWEEN_LINES = 15.0


class Meter:
    """Counts videos done and failed, and shows the time left. A context manager.

    Args:
        what: the verb of the job, such as ``extract``.
        total: videos in all.
        done: videos an earlier run finished already.
        stream: where to write; a bar if it is a terminal.
    """

    def __init__(
        self, what: str, *, total: int, done: int = 0, stream: TextIO | None = None
    ) -> None:
        self._what = what
        self._total = total
        self._before = done
        self._done = done
        self._failed = 0
        self._began = time.monotonic()
        self._last_line = self._began
        self._stream = stream or sys.stderr
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=Console(file=self._stream),
            disable=not self._stream.isatty(),
        )
        self._task = self._bar.add_task(what, total=total, completed=done, note="")

    def __enter__(self) -> Meter:
        self._bar.start()
        if self._before:
            print(
                f"{self._what}: {self._before} of {self._total} were done already",
                file=self._stream,
            )
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def add(self, *, done: int, failed: int, seconds: float | None = None) -> None:
        """``done`` more videos have rows, ``failed`` of them without a result.

        Args:
            seconds: of work so far; since the meter was made if not given.
        """
        self._done += done
        self._failed += failed
        note = self._note(time.monotonic() - self._began if seconds is None else seconds)
        self._bar.update(self._task, completed=self._done, note=note)
        now = time.monotonic()
        is_due = now - self._last_line >= _SECONDS_BETWEEN_LINES or self._done == self._total
        if not self._stream.isatty() and is_due:
            self._last_line = now
            print(
                f"{self._what}: {self._done}/{self._total}, {note}",
                file=self._stream,
                flush=True,
            )

    def _note(self, seconds: float) -> str:
        rate = (self._done - self._before) / seconds if seconds > 0 else 0.0
        left = (self._total - self._done) / rate if rate else 0.0
        return f"{self._failed} failed, {rate:.1f} videos/s, {duration(left)} left"


def duration(seconds: float) -> str:
    """``95`` -> ``1m 35s``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
