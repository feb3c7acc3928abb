"""What an error, a help text, a message or a document names exists: flags are those of the real
parsers.
"""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.command_lines import FLAG, ROOT, flags_of, scripts

_MODULES = sorted(
    str(path.relative_to(ROOT))
    for folder in ("vidray", "jobs", "tune")
    for path in (ROOT / folder).rglob("*.py")
)
_DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for path in (
        ROOT / "README.md",
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / ".github").rglob("*.md"),
    )
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
    # A module that has a command line of its own says so.
    name = module.removesuffix(".py").removesuffix("/__main__").replace("/", ".")
    if re.search(rf"python -m {name}(?![\w.])", source):
        return []
    for line, text in _texts(source):
        named = [flags[script] for script in flags if script in text]
        known = flags[module].union(*named) if module in flags else every
        own = re.sub(r"var\(--[\w-]+", "", text)  # A variable of a style sheet is no flag.
        found += [(line, flag) for flag in FLAG.findall(own) if flag not in known]
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


def unknown_flags_of_document(text: str, flags: dict[str, set[str]]) -> list[str]:
    """Those of a command that its script does not take; those of tables and sentences, of any.

    A benchmark has flags of its own: its text has them, or the fields that they are made from.
    """
    text = text.replace("\\\n", " ")
    found = []
    for script, words in re.findall(r"python ((?:jobs|tune|bench)/\w+\.py)([^`\n]*)", text):
        known = flags[script] if script in flags else _flags_of_bench((ROOT / script).read_text())
        found += [f"{script} {flag}" for flag in FLAG.findall(words) if flag not in known]
    every = set[str]().union(*flags.values())
    spans = re.findall(r"`(--[^`\n]+)`", text)
    found += [flag for span in spans for flag in FLAG.findall(span) if flag not in every]
    return found


def _flags_of_bench(source: str) -> set[str]:
    fields = re.findall(r"^    (\w+): ", source, flags=re.MULTILINE)
    return {*FLAG.findall(source), *("--" + name.replace("_", "-") for name in fields)}


def test_an_unknown_flag_of_a_document_is_found(flags: dict[str, set[str]]) -> None:
    """The check itself: in commands, on two lines too, and in words."""
    text = """
`python jobs/label.py --model M --folds 5` and `--trials 3 --tries`, not `ray job --address X`
    python jobs/train.py \\\n    --data D --videos V
    python bench/damage.py --damages 10000 --harm
"""
    assert unknown_flags_of_document(text, flags) == [
        "jobs/label.py --folds", "jobs/train.py --videos", "bench/damage.py --harm", "--tries",
    ]  # fmt: skip


@pytest.mark.parametrize("document", _DOCUMENTS)
def test_documents_name_flags_that_exist(document: str, flags: dict[str, set[str]]) -> None:
    assert unknown_flags_of_document((ROOT / document).read_text(), flags) == []
