"""From a config dataclass to a command line; a wrong argument is one line on stderr and exit 2."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import sys
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import tyro

from vidray import storage
from vidray.errors import UserError

Config = TypeVar("Config")


def run(config: type[Config], main: Callable[[Config], None]) -> None:
    """Parse ``sys.argv``, call ``main``, exit with 0, 1 (failed) or 2 (bad argument)."""
    try:
        main(_parse(config))
    except UserError as error:
        _fail(str(error), 2)
    except PermissionError as error:
        _fail(
            f"access denied ({error}): check the addresses, and AWS_PROFILE or AWS_ACCESS_KEY_ID", 2
        )
    except KeyboardInterrupt:
        _fail("interrupted; run the same command again to go on", 1)


def shown(config: Any, *, without: Collection[str] = ()) -> dict[str, Any]:
    """A config dataclass as run.json shows it: fields but ``without``, no secrets."""
    values = dataclasses.asdict(config)
    return {
        name: storage.without_secrets(value) if isinstance(value, str) else value
        for name, value in values.items()
        if name not in without
    }


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
    """What tyro's framed message says, in one sentence: the flag, the value, the rule."""
    # A title, a rule, the message, a rule, the help text: framed where the terminal speaks UTF-8.
    lines = [line.strip("│╭╮╰╯─ ") for line in screen.strip("\n").splitlines()]
    inside = " ".join(line for line in lines[1:] if line.strip("-"))
    text = re.split(r"For full helptext|Argument helptext", inside)[0].strip()
    if text.startswith("Missing from"):
        flags = re.findall(r"(?<!\S)--[a-z][a-z-]*", text)
        return f"required but not given: {', '.join(flags)}"
    value = re.match(
        r"Error parsing (\S+): no type matching (.+?) could be .*?from \[(.*?)\]", text
    )
    if value:
        kind = value[2].replace("{None}|", "").strip("{}")
        return f"{value[1]} takes {kind}, not {value[3]}"
    guess = re.search(r"Perhaps you meant: (--\S+)", inside)
    return f"{text.split(' Perhaps')[0]}{f'; did you mean {guess[1]}?' if guess else ''}"


def _fail(message: str, code: int) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
