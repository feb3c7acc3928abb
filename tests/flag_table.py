"""docs/flags.md, made from the command lines: every flag, what it means, its default by command.

python -m tests.flag_table > docs/flags.md
"""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import tyro

from tests.command_lines import config_of, scripts

_ABSENT = ""
_HEAD = """# Flags

This page lists every flag of every command, with its default in each; where nothing stands, the \
command has no such flag. A flag means the same in every command that takes it: \
`tests/jobs/test_flag_table.py` checks that, and that this page is as the code is. To make it anew:

```bash
python -m tests.flag_table > docs/flags.md
```
"""


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
        name = action.option_strings[0]
        if name in ("-h", "--help"):
            continue
        text = re.sub(r"\s+", " ", str(action.help))
        said, _, end = text.rpartition(" (")
        default = end.rstrip(")").removeprefix("default: ").strip()
        takes = str(action.metavar or "").removeprefix("{None}|").strip("{}")
        meaning, *more = re.split(r"(?<!\.)\. (?=[A-Z])", said, maxsplit=1)
        yield Flag(
            name=name,
            takes=takes,
            default={"None": "not given", "": "none"}.get(default, default),
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
    commands = {script: re.sub(r".*/|\.py", "", script) for script in scripts()}
    rows = [
        f"| flag | takes | meaning | {' | '.join(commands.values())} |",
        f"|---|---|---|{'---|' * len(commands)}",
    ]
    for name, own in sorted(by_flag().items()):
        defaults = [own[script].default if script in own else _ABSENT for script in commands]
        rows.append(f"| `{name}` | {_takes(own)} | {_meaning(own)} | {' | '.join(defaults)} |")
    return f"{_HEAD}\n" + "\n".join(rows) + "\n"


def _takes(own: Mapping[str, Flag]) -> str:
    kinds = dict.fromkeys(flag.takes for flag in own.values())
    return " or ".join(f"`{kind}`" if kind else "" for kind in kinds).replace("|", "\\|")


def _meaning(own: Mapping[str, Flag]) -> str:
    meanings = dict.fromkeys(flag.meaning for flag in own.values())
    return "; or: ".join(meanings).replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
