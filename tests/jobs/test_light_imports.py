"""Wrong arguments and ``--help`` are answered before anything is imported that takes seconds."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_lines import ROOT, scripts

_HEAVY = {"matplotlib", "optuna", "pandas", "ray", "sklearn", "torch"}


@pytest.mark.slow
@pytest.mark.parametrize("script", scripts())
def test_a_command_line_is_read_without_heavy_imports(script: str) -> None:
    module = ".".join(Path(script).with_suffix("").parts)
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert _HEAVY & set(done.stdout.split()) == set()
