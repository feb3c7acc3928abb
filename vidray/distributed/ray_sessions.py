"""Removal of the folders of logs and sockets that Ray leaves behind, for dead jobs of ours.

A job notes its process in the folder of the cluster that it has started. Only folders with such a
note are removed, once the process is gone, and a day later: until then the logs show why.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path

from vidray import storage

_NOTE = "vidray.json"
_KEPT_SECONDS = 24 * 3600.0


def note(session: str) -> None:
    """Note in the folder of a Ray session that it is this process's."""
    pid = os.getpid()
    with contextlib.suppress(OSError):  # Others report a full disk.
        contents = {"pid": pid, "started": _started(pid), "where": _where()}
        Path(session, _NOTE).write_text(json.dumps(contents))


def remove_dead(sessions: str) -> None:
    """Remove the folders in ``sessions`` that processes of this user noted, which are gone."""
    with contextlib.suppress(OSError), os.scandir(sessions) as entries:
        for entry in entries:
            if entry.name.startswith("session_") and entry.is_dir(follow_symlinks=False):
                # OSError: another job removes it, or a process of the session still writes to it.
                with contextlib.suppress(OSError):
                    if _is_dead(Path(entry.path)):
                        storage.remove_tree(entry.path, inside=sessions)


def _is_dead(session: Path) -> bool:
    noted = session / _NOTE
    found = noted.lstat()
    if found.st_uid != os.getuid() or time.time() - found.st_mtime < _KEPT_SECONDS:
        return False
    try:
        values = json.loads(noted.read_bytes())
        pid, started, where = int(values["pid"]), str(values["started"]), str(values["where"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    return pid > 0 and where == _where() and _started(pid) != started


def _where() -> str:
    """The place where this process's number is valid: machines may share the folder."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {os.readlink('/proc/self/ns/pid')}"


def _started(pid: int) -> str:
    """The start of a process, in ticks since the machine's start; "" if the process is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # After the name of the command, which may hold anything: state is field 3, the start field 22.
    return stat.rpartition(")")[2].split()[19]
