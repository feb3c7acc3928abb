"""What an error, a help text or a message advises exists: flags are those of the real parsers."""

import ast
from collections.abc import Iterator

import pytest

from tests.command_lines import FLAG, flags_of, scripts
from tests.ray_cluster import ROOT

_MODULES = sorted(
    str(path.relative_to(ROOT))
    for folder in ("vidray", "jobs", "tune")
    for path in (ROOT / folder).rglob("*.py")
)


@pytest.fixture(scope="module")
def flags() -> dict[str, set[str]]:
    return {script: flags_of(script) for script in scripts()}


def _texts(source: str) -> Iterator[tuple[int, str]]:
    """Line and words of each string, docstrings among them; what is filled in is left out."""
    inside = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            inside |= {id(value) for value in node.values}
            parts = (v.value if isinstance(v, ast.Constant) else "…" for v in node.values)
            yield node.lineno, "".join(map(str, parts))
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in inside
        ):
            yield node.lineno, node.value


def unknown_flags(source: str, module: str, flags: dict[str, set[str]]) -> list[tuple[int, str]]:
    """Line and flag of each that no command line it could be meant for takes.

    A job's text is of its own flags and of those of the jobs that it names; a library's is read by
    the users of several, and must be of one.
    """
    every = set[str]().union(*flags.values())
    found = []
    for line, text in _texts(source):
        # A module that has a command line of its own says so.
        if f"python -m {module.removesuffix('.py').replace('/', '.')}" in text:
            continue
        named = [flags[script] for script in flags if script in text]
        known = flags[module].union(*named) if module in flags else every
        found += [(line, flag) for flag in FLAG.findall(text) if flag not in known]
    return found


def test_every_job_has_its_command_line() -> None:
    assert {"jobs/train.py", "jobs/extract.py", "jobs/label.py", "tune/search.py"} <= set(scripts())
    assert {"--data", "--split-fractions", "--no-calibrated", "--without-classes"} <= flags_of(
        "jobs/train.py"
    )
    assert "--calibrate" not in flags_of("jobs/train.py")


def test_a_flag_that_is_not_there_is_found(flags: dict[str, set[str]]) -> None:
    """The check itself: in plain strings, in f-strings around values, in docstrings."""
    source = '''
"""Give --nothing."""
def f(x: int) -> str:
    """Give --split-fractions or --no-thing-{x}."""
    raise ValueError(f"{x}: give --fewer-folds {x} or --folds {x}" "; or --no-calibrate")
'''
    found = [flag for _, flag in unknown_flags(source, "vidray/x.py", flags)]
    assert sorted(found) == ["--fewer-folds", "--no-calibrate", "--no-thing-", "--nothing"]
    extract = 'print("give --folds 0")'
    assert unknown_flags(extract, "jobs/extract.py", flags) == [(1, "--folds")]
    assert unknown_flags('print("jobs/train.py --folds 0")', "jobs/extract.py", flags) == []


@pytest.mark.parametrize("module", _MODULES)
def test_texts_name_flags_that_exist(module: str, flags: dict[str, set[str]]) -> None:
    assert unknown_flags((ROOT / module).read_text(), module, flags) == []
