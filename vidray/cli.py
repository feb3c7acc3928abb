"""Command lines from config dataclasses; a wrong argument is one line on stderr and exit 2."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Any, NoReturn, TypeVar

import tyro

from vidray import endings, interrupts, masking
from vidray.errors import UserError, closest_name

Config = TypeVar("Config")
_LARGEST = 1e15  # Largest number that a flag takes: whole ones are exact as floats, too.


def run(config: type[Config], main: Callable[[Config], None]) -> None:
    """Parse ``sys.argv``, call ``main``, exit with 0, 1 (failed) or 2 (bad argument).

    Stopped by a signal: 130 for Ctrl-C, 143 for SIGTERM.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A file name that is no text, or a terminal that speaks ASCII only.
            # And each line at once, through a pipe too: Ray takes seconds to start.
            stream.reconfigure(errors="backslashreplace", line_buffering=True)
    try:
        with interrupts.handled(_say_interrupted):
            given = _parse(config)
            _check_values(given)
            main(given)
            sys.stdout.flush()
    except KeyboardInterrupt:  # Raised without a signal of ours.
        _say_interrupted(signal.SIGINT)
        sys.exit(128 + signal.SIGINT)
    except Exception as error:  # noqa: BLE001  Whatever it is ends in one line.
        _fail(*endings.line_and_code(error))


def _say_interrupted(number: signal.Signals) -> None:
    what = "interrupted" if number == signal.SIGINT else f"stopped by {number.name}"
    print(f"error: {what}; run the same command again to go on", file=sys.stderr, flush=True)


def shown(config: Any, *, without: Collection[str] = ()) -> dict[str, Any]:
    """A config dataclass as run.json shows it: all fields but ``without``, no secrets."""
    values = dataclasses.asdict(config)
    return {n: masking.throughout(v) for n, v in values.items() if n not in without}


def shown_flat(config: Any, *, without: Collection[str] = ()) -> dict[str, Any]:
    """``shown`` with the names of its flags: fields of held dataclasses stand beside its own."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        held = getattr(config, field.name)
        if field.name in without:
            continue
        if dataclasses.is_dataclass(held):
            values |= shown_flat(held, without=without)
        else:
            values[field.name] = masking.throughout(held)
    return values


def _hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        _say_interrupted(signal.SIGINT)
    else:
        _hook_before(kind, error, trace)


# A job imports for seconds before it runs, and Ctrl-C then is no traceback either.
_hook_before, sys.excepthook = sys.excepthook, _hook


def _check_values(config: Any) -> None:
    """Raise UserError for values that no flag takes: infinite numbers, addresses with passwords."""
    for field in dataclasses.fields(config):
        given = getattr(config, field.name)
        if dataclasses.is_dataclass(given):
            _check_values(given)
            continue
        flag = "--" + field.name.replace("_", "-")
        for value in given if isinstance(given, tuple) else (given,):
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"{flag} is {value}: it must be a number, and not infinite")
            if isinstance(value, int | float) and abs(value) > _LARGEST:
                raise UserError(f"{flag} is {value:g}: it must be {_LARGEST:g} at the most")
            if isinstance(value, str) and masking.has_password(value):
                raise UserError(
                    f"{flag} {value} holds a user name or a password: leave it out and give it "
                    "in the environment (AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
                    "AWS_SECRET_ACCESS_KEY)"
                )


def _parse(config: type[Config]) -> Config:
    screen = io.StringIO()
    try:
        with contextlib.redirect_stderr(screen):
            return tyro.cli(config)
    except SystemExit as stop:
        if stop.code:
            _fail(_one_line(screen.getvalue()), 2)
        raise


def _one_line(screen: str) -> str:
    """Tyro's framed message as one sentence: the flag, the value, the rule."""
    # A title, a rule, the message, a rule, the help text: framed where the terminal speaks UTF-8.
    lines = [line.strip("│╭╮╰╯─ ") for line in screen.strip("\n").splitlines()]
    inside = " ".join(line for line in lines[1:] if line.strip("-"))
    text = re.split(r"For full helptext|Argument helptext", inside)[0].strip()
    if own := re.match(r"Error parsing (?!--)[\w.]+: (.+)", text):  # Of a config's own check.
        return own[1]
    return f"{_wrong_option(screen, text)} (--help lists the options)"


def _wrong_option(screen: str, text: str) -> str:
    if text.startswith("Missing from"):
        # Four spaces within the frame before a flag, eight before its help, which may name others.
        missing = re.split("Unrecognized options", screen)[0]
        flags = re.findall(r"^[│ ] {5}(--[a-z][a-z-]*)", missing, re.MULTILINE)
        return f"required but not given: {', '.join(flags)}"
    if number := re.match(r"Error parsing (\S+): invalid literal for int.*: (.+)", text):
        return f"{number[1]} takes INT, not {number[2]}"
    if number := re.match(r"Error parsing (\S+): could not convert string to float: (.+)", text):
        return f"{number[1]} takes FLOAT, not {number[2]}"
    value = re.match(
        r"Error parsing (\S+): no type matching (.+?) could be .*?from \[(.*?)\]", text
    )
    if value:
        kind = value[2].replace("{None}|", "").strip("{}")
        return f"{value[1]} takes {kind}, not {value[3]}"
    unknown, _, guesses = text.partition(" Perhaps you meant: ")
    meant = _meant(unknown, re.match(r"--[\w-]+(?:, --[\w-]+)*", guesses))
    return f"{unknown}; did you mean {meant}?" if meant else unknown


def _meant(unknown: str, guesses: re.Match[str] | None) -> str | None:
    """The flag, of tyro's guesses, that is like the unknown one; never its opposite."""
    flag = re.search(r"--[\w-]+", unknown)
    if flag is None or guesses is None:
        return None
    flags = guesses[0].split(", ")
    if flag[0].startswith("no-", 2):
        flags = [name for name in flags if name.startswith("no-", 2)]
    return closest_name(flag[0], flags)


def _fail(message: str, code: int) -> NoReturn:
    print(f"error: {endings.one_line(message)}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:  # Its reader has gone or its disk is full, and Python would say so once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
