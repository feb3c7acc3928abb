"""docs/flags.md, made from the command lines: every flag, what it means, its default by command.

python -m tests.flag_table > docs/flags.md
"""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import tyro

from tests.command_lines import config_of, scripts
from vidray.__main__ import COMMANDS

_HEAD = """# Flags

This page holds every flag: what it takes, what it means, and its default in each command that has \
it. A flag means the same in all of them. `tests/jobs/test_flag_table.py` checks that, and that \
this page is as the code is. To make it anew:

```bash
python -m tests.flag_table > docs/flags.md
```

`vidray COMMAND --help` says more about the flags of one command.

| flag | takes | meaning | default |
|---|---|---|---|
"""
_DEFAULTS = {"None": "not given", "": "none", "True": "on", "False": "off"}


@dataclass(frozen=True, kw_only=True)
class Flag:
    """A flag as one command takes it.

    Attributes:
        takes: such as ``INT`` or ``{cpu,cuda}``; nothing for a flag that is on or off.
        meaning: the first sentence of its help: the same words in every command.
        more: what the help says beside that.
    """

    name: str
    takes: str
    default: str
    meaning: str
    more: str


def flags_of_command(script: str) -> Iterator[Flag]:
    with warnings.catch_warnings():
        # "Deprecated" for who wants to change it; it tells what the parser takes.
        warnings.simplefilter("ignore")
        parser = tyro.extras.get_parser(config_of(script))
    for action in parser._actions:
        if "--help" in action.option_strings:
            continue
        text = re.sub(r"\s+", " ", str(action.help))
        said, _, end = text.rpartition(" (")
        default = end.rstrip(")").removeprefix("default: ").strip()
        takes = str(action.metavar or "").removeprefix("{None}|").strip("{}")
        meaning, *more = re.split(r"(?<!\.)\. (?=[A-Z0-9])", said, maxsplit=1)
        yield Flag(
            name="`, `".join(action.option_strings),
            takes=takes,
            default=_DEFAULTS.get(default, default),
            meaning=meaning.rstrip("."),
            more=" ".join(more),
        )


def by_flag() -> dict[str, dict[str, Flag]]:
    """Flag -> command -> how it takes it."""
    found: dict[str, dict[str, Flag]] = defaultdict(dict)
    for script in scripts():
        for flag in flags_of_command(script):
            found[flag.name][script] = flag
    return found


def page() -> str:
    rows = [
        f"| `{name}` | {_takes(own)} | {_meaning(own)} | {_defaults(own)} |"
        for name, own in sorted(by_flag().items())
    ]
    return _HEAD + "\n".join(rows) + "\n"


def _takes(own: Mapping[str, Flag]) -> str:
    kinds = dict.fromkeys(flag.takes for flag in own.values())
    return " or ".join(f"`{kind}`" for kind in kinds if kind)


def _meaning(own: Mapping[str, Flag]) -> str:
    meanings = dict.fromkeys(flag.meaning for flag in own.values())
    return "; or: ".join(meanings).replace("|", "\\|")


def _defaults(own: Mapping[str, Flag]) -> str:
    """Commands by default, in the order in which they are used."""
    commands: dict[str, list[str]] = defaultdict(list)
    for command in COMMANDS:
        for script, flag in own.items():
            if Path(script).stem == command:
                commands[flag.default].append(command)
    return "; ".join(f"{', '.join(names)}: {default}" for default, names in commands.items())


if __name__ == "__main__":
    print(page(), end="")
