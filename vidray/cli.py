"""From a config dataclass to a command line; every wrong argument is one line on stderr and exit 2."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Callable
from typing import TypeVar

import tyro

from vidray.errors import UserError

Config = TypeVar("Config")


def run(config: type[Config], main: Callable[[Config], None]) -> None:
    """Parse ``sys.argv`` into ``config``, call ``main``, exit with 0, 1 (failed) or 2 (bad argument)."""
    try:
        main(_parse(config))
    except UserError as error:
        _fail(str(error), 2)
    except KeyboardInterrupt:
        _fail("interrupted; run the same command again to go on", 1)


def _parse(config: type[Config]) -> Config:
    screen = io.StringIO()
    try:
        with contextlib.redirect_stderr(screen):
            return tyro.cli(config)
    except SystemExit as stop:
        if stop.code:
            _fail(f"{_one_line(screen.getvalue())} (--help lists the options)", 2)
        raise


def _one_line(screen: str) -> str:
    """What tyro's framed message says, without its frame and its pointers to the help text."""
    text = re.split(r"─{5,} *│?\n", screen.strip("\n"))
    told = [line.strip("╭╮╰╯│─ ") for block in text[:2] for line in block.splitlines()]
    return " ".join(line for line in told if line)


def _fail(message: str, code: int) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
