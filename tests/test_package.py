"""What pip installs: one command, no clone beside it, and little to wait for."""

from __future__ import annotations

import os
import re
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import vidray
from tests.command_lines import scripts
from tests.ray_cluster import ROOT
from tests.video_writer import write_video
from vidray.__main__ import COMMANDS
from vidray.tables.runs import read_table

_OURS = ("vidray", "jobs", "tune", "pyproject.toml", "README.md", "LICENSE")
_HEAVY = ("ray", "torch", "sklearn", "matplotlib", "optuna", "scipy.signal")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is needed of this repository, in a folder of its name."""
    folder = tmp_path_factory.mktemp("above") / "vidray"
    folder.mkdir()
    for name in _OURS:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def _environment(folder: Path) -> Path:
    """The Python of a new environment with all that vidray needs, and without vidray."""
    venv.create(folder, symlinks=True)
    (library,) = folder.glob("lib/python*/site-packages")
    (library / "needs.pth").write_text("\n".join(site.getsitepackages()))
    return folder / "bin" / "python"


def _run(*command: object, cwd: Path) -> str:
    """What a command prints, which finds nothing through this test's own paths."""
    environment = {n: v for n, v in os.environ.items() if n not in ("PYTHONPATH", "RAY_ADDRESS")}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _pip(python: Path, *words: object, cwd: Path) -> None:
    flags = ("--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    _run(sys.executable, "-m", "pip", "--python", python, "install", *flags, *words, cwd=cwd)


@pytest.fixture(scope="module")
def installed(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of a wheel that is installed where there is no clone."""
    folder = tmp_path_factory.mktemp("installed")
    python = _environment(folder / "environment")
    flags = ("--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    _run(sys.executable, "-m", "pip", "wheel", *flags, ".", cwd=clone)
    (wheel,) = folder.glob(f"vidray-{vidray.__version__}-*.whl")
    _pip(python, wheel, cwd=folder)
    return python.with_name("vidray")


@pytest.mark.slow
def test_a_wheel_extracts_where_there_is_no_clone(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "videos" / "run").mkdir(parents=True)
    write_video(tmp_path / "videos" / "run" / "a.mp4", num_frames=30)
    flags = ("--videos", "videos", "--out", "out", "--families", "color", "--workers", 1)
    assert "1 videos: 1 ok" in _run(installed, "extract", *flags, cwd=tmp_path)
    assert read_table(str(tmp_path / "out"))["status"].to_pylist() == ["ok"]


@pytest.mark.slow
def test_every_script_is_a_command_of_the_wheel(installed: Path, tmp_path: Path) -> None:
    told = _run(installed, "--help", cwd=tmp_path)
    listed = re.findall(r"^  (\w+) +(\S.*)$", told, re.MULTILINE)
    assert [name for name, _ in listed] == list(COMMANDS)
    assert {f"{name}.py" for name, _ in listed} == {Path(script).name for script in scripts()}
    for script in scripts():
        first = (ROOT / script).read_text().split("\n", 1)[0].strip('"')
        assert (Path(script).stem, first) in listed
    assert _run(installed, "--version", cwd=tmp_path) == f"vidray {vidray.__version__}\n"
    import_all = f"import {', '.join(COMMANDS.values())}"
    _run(installed.with_name("python"), "-c", import_all, cwd=tmp_path)


@pytest.mark.slow
def test_an_editable_install_is_found_from_the_folder_above_the_clone(
    clone: Path, tmp_path: Path
) -> None:
    """There the clone itself, a folder called vidray, could be taken for the package."""
    python = _environment(tmp_path / "environment")
    _pip(python, "--editable", clone, cwd=tmp_path)
    for code in ("from vidray import read_table", "from vidray.tables.runs import read_table"):
        _run(python, "-c", code, cwd=clone.parent)
    script = clone.parent / "vidray" / "jobs" / "clips.py"
    assert "--size-px" in _run(python, script, "--help", cwd=clone.parent)


def _imported(code: str) -> set[str]:
    """Of ``_HEAVY`` and numpy, what a program has imported at its end."""
    names = ("numpy", *_HEAVY)
    found = f"[name for name in {names} if name in sys.modules]"
    ask = f"import sys, atexit; atexit.register(lambda: print({found}))"
    told = _run(sys.executable, "-c", f"{ask}\nsys.path.insert(0, {str(ROOT)!r})\n{code}", cwd=ROOT)
    return set(re.findall(r"'([\w.]+)'", told.splitlines()[-1]))


def test_what_is_offered_is_imported_when_it_is_asked_for() -> None:
    assert _imported("import vidray; dir(vidray)") == set()
    assert _imported("from vidray.__main__ import main; sys.argv = ['vidray']; main()") == set()
    for name in vidray.__all__:
        assert callable(getattr(vidray, name))
    with pytest.raises(AttributeError, match="has no attribute 'read_tabel'"):
        vidray.read_tabel  # noqa: B018


def test_an_unknown_command_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vidray.__main__ import main

    monkeypatch.setattr(sys, "argv", ["vidray", "lable"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert "did you mean label?" in told.err
