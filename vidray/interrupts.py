"""Ctrl-C, SIGTERM and SIGHUP end a job the same way: unwound, in time, with one line.

``ray job stop`` kills three seconds after SIGTERM. So the signal is raised in the main thread as
``Interrupted``, and where that has not ended the process soon (it may be deep in C), a thread does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SECONDS_TO_UNWIND = 2.5
_SECONDS_TO_CLOSE = 7.5
_set_handler = signal.signal


class Interrupted(KeyboardInterrupt):
    """Raised when one of the signals has come."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = signal.Signals(number)


class _Watch:
    """The signals of one ``handled`` block."""

    def __init__(self, say: Callable[[signal.Signals], None]) -> None:
        self._say = say
        self._lock = threading.Lock()
        self._said = False
        self.came: signal.Signals | None = None
        # Ignored signals stay ignored: nohup, or a shell with a background job, wants that.
        self.numbers = [n for n in _SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]

    def interrupt(self, number: int, _: FrameType | None) -> None:
        """The handler: the first signal is raised; a later one finds that the job is ending."""
        if self.came is None:
            self.came = signal.Signals(number)
            raise Interrupted(number)

    def say(self, number: signal.Signals) -> bool:
        """Say once that the job has been interrupted; whether it was said now."""
        with self._lock:
            said, self._said = self._said, True
        if not said:
            self._say(number)
        return not said

    def end_in_time(self, signals: int) -> None:
        """Wait, in a thread, for a signal, give the main thread its time, and end the process."""
        while number := os.read(signals, 1):
            if number[0] not in self.numbers:
                continue
            time.sleep(_SECONDS_TO_UNWIND)
            if not self.say(signal.Signals(number[0])):
                time.sleep(_SECONDS_TO_CLOSE)  # It is at its end, and Ray's processes are ending.
            for pid in _descendants(os.getpid()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            os._exit(128 + number[0])


def _descendants(pid: int) -> list[int]:
    """All processes that this one has started, directly or indirectly (Linux)."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # "pid (any name) state parent ...": a name may hold ")" and spaces.
            parent = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found[1:]


_watches: list[_Watch] = []  # One at the most.


@contextlib.contextmanager
def handled(say: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Raise ``Interrupted`` at the first signal, then have ``say`` called once and exit.

    The exit status is 128 + the signal's number, as of a process that it killed. Other libraries
    get no signals inside the block, and nobody gets any after the first: the process is ending.
    """
    if _watches or threading.current_thread() is not threading.main_thread():
        yield
        return
    watch = _Watch(say)
    before = {number: signal.getsignal(number) for number in watch.numbers}
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    old_writing = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=_leave_to_parent)
    threading.Thread(target=watch.end_in_time, args=(reading,), daemon=True).start()
    _watches.append(watch)
    take()
    setattr(signal, "signal", _set_others)  # noqa: B010  mypy: its type is wider.
    try:
        yield
    except BaseException:
        # Whatever error arrives here: libraries replace the interruption by errors of their own.
        if watch.came is None:
            raise
        watch.say(watch.came)
        sys.exit(128 + watch.came)
    finally:
        if watch.came is None:
            _give_back()
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(old_writing)
            os.close(writing)


def take() -> None:
    """Take the signals (again): Ray's C++ takes SIGTERM when it connects, and dumps its stack."""
    for watch in _watches:
        for number in watch.numbers:
            _set_handler(number, watch.interrupt)


def _set_others(number: int, handler: Any) -> Any:
    """Replacement of ``signal.signal``: Ray, Ray Train and Ray Tune set handlers of their own."""
    if any(number in watch.numbers for watch in _watches):
        return signal.getsignal(number)
    return _set_handler(number, handler)


def _give_back() -> None:
    _watches.clear()
    setattr(signal, "signal", _set_handler)  # noqa: B010


def _leave_to_parent() -> None:
    """Reset the handlers in a forked child, whose signals are not the job's."""
    for watch in _watches:
        _give_back()
        signal.set_wakeup_fd(-1)
        for number in watch.numbers:
            signal.signal(number, signal.SIG_DFL)
