"""Parts of ``bench/gpu.py``: the tests marked gpu, which here must run and not be left out."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

from bench.gpu_plan import Bench
from bench.gpu_results import Figures
from tests.gpu_marks import marked_files

_ROOT = Path(__file__).resolve().parents[1]
_TRANSFER = "tests/learning/test_finetune.py"  # The longest one: a part of its own.
Rows = Iterator[tuple[str, Figures]]


def tests(bench: Bench, work: Path, known: set[str]) -> Rows:
    """Those that need no Ray."""
    files = [f for f in marked_files() if not f.startswith("tests/jobs/") and f != _TRANSFER]
    yield from _run(bench, files, work, known)


def job_tests(bench: Bench, work: Path, known: set[str]) -> Rows:
    """Those of the jobs, each on a Ray cluster with the GPU."""
    files = [f for f in marked_files() if f.startswith("tests/jobs/")]
    yield from _run(bench, files, work, known)


def transfer(bench: Bench, work: Path, known: set[str]) -> Rows:
    """The one that trains three times."""
    yield from _run(bench, [_TRANSFER], work, known)


def _run(bench: Bench, files: list[str], work: Path, known: set[str]) -> Rows:
    """A row per test, file by file, so that those of before are kept if one hangs."""
    for file in files:
        if file in known:
            continue
        report = work / "tests.xml"
        report.unlink(missing_ok=True)
        required = {"VIDRAY_REQUIRE_GPU": "1"} if bench.device == "cuda" else {}
        flags = ["-q", "-m", "gpu", "-p", "no:cacheprovider", f"--junitxml={report}"]
        if importlib.util.find_spec("tensorrt") is None:
            # With VIDRAY_REQUIRE_GPU a test that is left out fails, whatever it lacks.
            flags += ["-k", "not tensorrt"]
        subprocess.run(
            [sys.executable, "-m", "pytest", *flags, file],
            cwd=_ROOT, env={**os.environ, **required}, check=False,
        )  # fmt: skip
        if not report.exists():
            raise RuntimeError(f"pytest ended without a report of {file}")
        rows = dict(read_report(report, file))
        yield from rows.items()
        # Last, and only this says that a file is done: one that failed runs whole again.
        failed = [name for name, row in rows.items() if "error" in row]
        yield file, {"tests": len(rows), **({"error": f"{len(failed)} failed"} if failed else {})}


def read_report(report: Path, file: str) -> Rows:
    """A row per test of pytest's XML: seconds and, where it failed, why."""
    # Written by pytest a moment ago, and by nobody else.
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314
        row: Figures = {"outcome": "passed", "seconds": float(case.get("time", 0))}
        for found in case:
            if found.tag in ("failure", "error"):
                row["outcome"] = "failed"
                row["error"] = " ".join(str(found.get("message", "")).split())[:300] or found.tag
            elif found.tag == "skipped":
                row["outcome"] = "left out"
                row["why"] = " ".join(str(found.get("message", "")).split())[:300]
        yield f"{file}::{case.get('name')}", row
