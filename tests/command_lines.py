"""The command lines as they are: every job's script and the flags that its parser takes."""

import importlib
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import tyro

from vidray import cli

ROOT = Path(__file__).resolve().parents[1]
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")


def scripts() -> list[str]:
    """Such as ``jobs/train.py``: what runs a config."""
    files = [*ROOT.glob("jobs/*.py"), *ROOT.glob("tune/*.py")]
    called = [path for path in files if "cli.run(" in path.read_text()]
    return sorted(str(path.relative_to(ROOT)) for path in called)


def config_of(script: str) -> Any:
    """The dataclass that the command line is made from."""
    name = re.search(r"cli\.run\((\w+), ", (ROOT / script).read_text())
    assert name, script
    module = importlib.import_module(".".join(Path(script).with_suffix("").parts))
    return getattr(module, name[1])


def exit_code(script: str, *flags: object) -> int:
    """Run a script's command line in this process: what a shell would see of its end."""
    config = config_of(script)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *map(str, flags)])
        try:
            cli.run(config, sys.modules[config.__module__].main)
        except SystemExit as stop:
            return int(stop.code or 0)
    return 0


def flags_of(script: str) -> set[str]:
    """All that the parser takes, ``--no-…`` among them."""
    with warnings.catch_warnings():
        # "Deprecated" for who wants to change it; it tells what the parser takes, and no help does.
        warnings.simplefilter("ignore")
        parser = tyro.extras.get_parser(config_of(script))
    return {option for action in parser._actions for option in action.option_strings}
