"""Tests marked ``gpu``: left out where there is none, unless VIDRAY_REQUIRE_GPU=1 is set.

Loaded as a plugin by ``conftest.py``. Required tests that are left out fail, whatever they lack: a
GPU, a package, a file. Otherwise a machine with a GPU could say "passed" of what never ran there.
"""

import os
import re
import shutil
from collections.abc import Generator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_MARK = re.compile(r"^(@pytest\.mark\.gpu\b|pytestmark\b[^\n]*\bmark\.gpu\b)", re.MULTILINE)


def marked_files(folder: Path = ROOT / "tests") -> list[str]:
    """Files with a test marked gpu, by their paths from the repository's root."""
    files = [file for file in folder.rglob("test_*.py") if _MARK.search(file.read_text())]
    return sorted(file.relative_to(folder.parent).as_posix() for file in files)


def is_required() -> bool:
    return os.environ.get("VIDRAY_REQUIRE_GPU") == "1"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if not item.get_closest_marker("gpu") or shutil.which("nvidia-smi"):
        return
    if is_required():
        pytest.fail("VIDRAY_REQUIRE_GPU=1, and this machine has no NVIDIA GPU")
    pytest.skip("needs an NVIDIA GPU")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport]:
    """A test that leaves itself out: by skipif, importorskip, or a skip in it or in a fixture."""
    report = yield
    if is_required() and report.skipped and item.get_closest_marker("gpu"):
        report.outcome = "failed"
        report.longrepr = f"VIDRAY_REQUIRE_GPU=1, and this was left out: {_reason(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport]:
    """A file that leaves itself out, with tests marked gpu in it."""
    report = yield
    is_left_out = isinstance(collector, pytest.Module) and report.skipped
    if is_required() and is_left_out and _MARK.search(collector.path.read_text()):
        report.outcome = "failed"
        report.longrepr = f"VIDRAY_REQUIRE_GPU=1, and this was left out: {_reason(report)}"
    return report


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    found = report.longrepr
    return str(found[2]) if isinstance(found, tuple) else str(found)
