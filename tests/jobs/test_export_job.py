"""jobs/export.py from the command line: what cannot be is one line, before anything is imported."""

import subprocess
import sys

import pytest

from tests.command_lines import ROOT


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--to", "torch", "--precision", "int8"), "PyTorch has no 3D convolutions of it"),
        (("--to", "onnx", "--ranges", "dynamic"), "--ranges has no effect on float32"),
        (("--to", "coreml"), "--to"),
    ],
)
def test_a_wrong_flag_is_one_line(flags: tuple[str, ...], said: str) -> None:
    command = [sys.executable, "jobs/export.py", "--model", "m", "--out", "o", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_folder_that_is_no_model_is_one_line() -> None:
    command = [sys.executable, "jobs/export.py", "--model", "tests", "--out", "o", "--to", "onnx"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "tests is not a model folder" in done.stderr
    assert done.stderr.count("\n") == 1
