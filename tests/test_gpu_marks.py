"""What is marked gpu fails where it must run and cannot, and is left out elsewhere."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.gpu_marks import ROOT, marked_files

_LEAVES_ITSELF_OUT = """
import pytest

@pytest.mark.gpu
def test_package():
    pytest.importorskip("there_is_no_such_package")

@pytest.mark.gpu
@pytest.mark.skipif(True, reason="some condition")
def test_condition():
    pass

@pytest.fixture
def gone():
    pytest.skip("no data")

@pytest.mark.gpu
def test_fixture(gone):
    pass

@pytest.mark.gpu
def test_that_runs():
    pass

def test_without_mark():
    pytest.skip("not a matter of a GPU")
"""
_WHOLE_FILE = """
import pytest

pytest.importorskip("there_is_no_such_package")

@pytest.mark.gpu
def test_anything():
    pass
"""


def outcomes(
    files: list[str], folder: Path, *, required: bool, has_gpu: bool, flags: tuple[str, ...] = ()
) -> dict[str, str]:
    """Test -> outcome, of pytest in a process of its own."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    smi = programs / "nvidia-smi"
    smi.unlink(missing_ok=True)
    if has_gpu:
        smi.write_text("#!/bin/sh\n")
        smi.chmod(0o755)
    report = folder / "report.xml"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.gpu_marks",
         "--continue-on-collection-errors", f"--junitxml={report}", *flags, *files],
        cwd=ROOT, stdout=subprocess.DEVNULL, check=False, timeout=280,
        env={**os.environ, "PATH": str(programs), "PYTHONPATH": str(ROOT),
             "VIDRAY_REQUIRE_GPU": "1" if required else "0"},
    )  # fmt: skip
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        (*_, tag) = ["passed", *(child.tag for child in case if child.tag != "properties")]
        found[f"{case.get('classname')}.{case.get('name')}".rpartition(".")[2]] = tag
    return found


@pytest.mark.slow
def test_what_is_required_and_left_out_fails(tmp_path: Path) -> None:
    file = tmp_path / "test_some.py"
    file.write_text(_LEAVES_ITSELF_OUT)
    whole = tmp_path / "test_whole.py"
    whole.write_text(_WHOLE_FILE)
    flags = ("-c", "/dev/null", "--rootdir", str(tmp_path), "-W", "ignore")
    given = ([str(file), str(whole)], tmp_path)
    must = outcomes(*given, required=True, has_gpu=True, flags=flags)
    assert must == {
        "test_package": "failure", "test_condition": "error", "test_fixture": "error",
        "test_that_runs": "passed", "test_without_mark": "skipped", "test_whole": "error",
    }  # fmt: skip
    may = outcomes(*given, required=False, has_gpu=True, flags=flags)
    assert may == {
        "test_package": "skipped", "test_condition": "skipped", "test_fixture": "skipped",
        "test_that_runs": "passed", "test_without_mark": "skipped", "test_whole": "skipped",
    }  # fmt: skip


@pytest.mark.slow
def test_without_a_gpu_every_marked_test_fails_where_it_must_run(tmp_path: Path) -> None:
    files = marked_files()
    assert "tests/labelling/test_labeller.py" in files
    flags = ("-m", "gpu")
    must = outcomes(files, tmp_path, required=True, has_gpu=False, flags=flags)
    assert len(must) >= len(files)
    assert set(must.values()) <= {"failure", "error"}
