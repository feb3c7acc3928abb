"""Folders of Ray's clusters: those of dead jobs of ours go, all others stay."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vidray.distributed import ray_sessions


def _session(folder: Path, name: str, noted: Any, *, days: float = 2.0) -> Path:
    session = folder / f"session_{name}"
    (session / "logs").mkdir(parents=True)
    (session / "logs" / "raylet.out").write_text("log")
    if noted is not None:
        (session / "vidray.json").write_text(noted if isinstance(noted, str) else json.dumps(noted))
        then = (session / "vidray.json").stat().st_mtime - days * 86400
        os.utime(session / "vidray.json", (then, then))
    return session


def test_only_sessions_that_dead_processes_noted_are_removed(tmp_path: Path) -> None:
    code = (
        "import sys; from vidray.distributed import ray_sessions; from pathlib import Path\n"
        "Path(sys.argv[1]).mkdir(parents=True); ray_sessions.note(sys.argv[1])"
    )
    dead = tmp_path / "session_dead"
    subprocess.run([sys.executable, "-c", code, str(dead)], check=True)
    ray_sessions.remove_dead(str(tmp_path))
    assert dead.exists()  # Its logs may still be wanted.
    noted = json.loads((dead / "vidray.json").read_text())
    for session in (dead, _session(tmp_path, "again", noted)):
        os.utime(session / "vidray.json", (0, 0))

    alive = _session(tmp_path, "alive", None)
    ray_sessions.note(str(alive))
    os.utime(alive / "vidray.json", (0, 0))
    kept = [
        alive,
        _session(tmp_path, "of_others", None),
        _session(tmp_path, "fresh", noted, days=0.5),
        _session(tmp_path, "of_another_machine", {**noted, "where": "elsewhere"}),
        *(
            _session(tmp_path, f"odd{k}", odd)
            for k, odd in enumerate(["", "{", [], {"pid": "x"}, {"pid": -1, "started": "5"}, 5])
        ),
    ]
    (tmp_path / "session_latest").symlink_to(_session(tmp_path / "elsewhere", "x", noted))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "vidray.json").write_text(json.dumps(noted))
    ray_sessions.remove_dead(str(tmp_path))
    assert not dead.exists()
    assert not (tmp_path / "session_again").exists()
    assert all(session.exists() for session in kept)
    assert (tmp_path / "elsewhere" / "session_x" / "logs" / "raylet.out").exists()
    assert (tmp_path / "notes").exists()


def test_a_number_that_another_process_has_now_is_not_the_job(tmp_path: Path) -> None:
    """The note tells when the process began, too."""
    session = _session(
        tmp_path, "a", {"pid": os.getpid(), "started": "1", "where": ray_sessions._where()}
    )
    ray_sessions.remove_dead(str(tmp_path))
    assert not session.exists()


def test_what_is_not_there_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray_sessions.remove_dead(str(tmp_path / "nothing"))
    ray_sessions.note(str(tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()
