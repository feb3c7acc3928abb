"""The command ``vidray``: ``vidray label ...`` is the same as ``python jobs/label.py ...``.

In a clone that is not installed, ``python -m vidray label ...``.
"""

from __future__ import annotations

import importlib.util
import sys
import typing
from importlib import import_module
from pathlib import Path

import vidray
from vidray.errors import unknown_name

# In the order in which they are used. vidray/jobs and vidray/tune are links to the folders of the
# repository, and in a wheel copies of them.
COMMANDS = {
    "extract": "vidray.jobs.extract",
    "clips": "vidray.jobs.clips",
    "train": "vidray.jobs.train",
    "adopt": "vidray.jobs.adopt",
    "evaluate": "vidray.jobs.evaluate",
    "export": "vidray.jobs.export",
    "study": "vidray.jobs.study",
    "search": "vidray.tune.search",
    "label": "vidray.jobs.label",
    "report": "vidray.jobs.report",
    "plan": "vidray.jobs.plan",
}


def main() -> None:
    """Run the command that ``sys.argv`` names; a wrong one is one line on stderr and exit 2."""
    name, *flags = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(_help())
    elif name == "--version":
        print(f"vidray {vidray.__version__}")
    elif name in COMMANDS:
        _run(name, flags)
    else:
        print(f"error: {unknown_name('command', name, COMMANDS)}", file=sys.stderr)
        sys.exit(2)


def _run(name: str, flags: list[str]) -> None:
    from vidray import cli  # First: a Ctrl-C while a job is imported is no traceback then.

    job = import_module(COMMANDS[name])
    sys.argv = [f"vidray {name}", *flags]
    cli.run(typing.get_type_hints(job.main)["config"], job.main)


def _help() -> str:
    lines = ["usage: vidray COMMAND [OPTIONS]", ""]
    lines += [f"  {name:<10}{_summary(module)}" for name, module in COMMANDS.items()]
    return "\n".join([*lines, "", "vidray COMMAND --help lists the options of a command."])


def _summary(module: str) -> str:
    """The first line of its file, which is not imported: that would take seconds."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    with Path(spec.origin).open(encoding="utf-8") as file:
        return file.readline().strip().strip('"')


if __name__ == "__main__":
    main()
