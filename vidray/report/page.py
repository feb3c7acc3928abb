"""Runs -> sections -> one self-contained page, with the data of every figure beside it as CSV.

report.html            the page: style, script and pictures are in it
report_data/NAME.csv   the data of the table or chart of that name
"""

from __future__ import annotations

import base64
import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources

import pandas as pd

import vidray
from vidray import storage
from vidray.errors import UserError, unknown_name
from vidray.report import (
    compare,
    data,
    each_model,
    maps,
    mistakes,
    nights,
    overview,
    reasons,
    robustness,
    strengths,
    templates,
    tradeoffs,
)
from vidray.report.blocks import Chart, DataTable, Fold, Part, Section
from vidray.report.reading import read
from vidray.report.runs import Problem, Runs
from vidray.report.settings import ReportSettings
from vidray.report.thumbnails import Thumbnails
from vidray.report.tools import Tools

MakeSection = Callable[[Runs, Tools], Section | None]
# In the order of the page; the first screen comes before, and is made of their findings.
SECTIONS: tuple[MakeSection, ...] = (
    compare.section,
    tradeoffs.section,
    strengths.section,
    each_model.section,
    mistakes.section,
    reasons.section,
    maps.section,
    robustness.section,
    data.section,
    nights.section,
)


@dataclass(frozen=True, kw_only=True)
class Page:
    """The result of ``write``.

    Attributes:
        uri: of the page.
        data: of the folder with the CSV files.
        size_bytes: of the page.
        runs: what it is of.
        sections: of the page, the first screen first.
        problems: folders and chapters that are not on it.
    """

    uri: str
    data: str
    size_bytes: int
    runs: Runs
    sections: Sequence[Section]
    problems: Sequence[Problem]


def write(folders: Sequence[str], out: str, settings: ReportSettings) -> Page:
    """Read the runs, make the page, and write it with its data.

    Args:
        folders: of runs, or with folders of runs in them; local or in a bucket.
        out: the HTML file, local or in a bucket.

    Raises:
        UserError: no run is there, or ``out`` is no HTML file.
    """
    where = storage.canonical(out)
    if not where.endswith(".html"):
        raise UserError(f"--out is {out}: the name of the page must end in .html")
    runs = read(folders)
    problems = list(runs.problems)
    with Thumbnails(is_on=settings.frames, hosts=settings.frames_from) as thumbnails:
        tools = Tools(settings=settings, thumbnails=thumbnails)
        made = list(_sections(runs, tools, problems))
    sections = [overview.section(runs, made, problems), *made]
    html = render(runs, sections, problems, settings).encode()
    beside = f"{where.removesuffix('.html')}_data"
    for section in sections:
        for name, content in section.files.items():
            storage.write_bytes(storage.join(beside, name), content)
    for block in parts(block for section in sections for block in section.blocks):
        if isinstance(block, DataTable | Chart):
            storage.write_bytes(storage.join(beside, f"{block.name}.csv"), csv(block.frame))
    storage.write_bytes(where, html)
    return Page(
        uri=where,
        data=beside,
        size_bytes=len(html),
        runs=runs,
        sections=sections,
        problems=problems,
    )


def _sections(runs: Runs, tools: Tools, problems: list[Problem]) -> Iterator[Section]:
    for number, make in enumerate(SECTIONS, start=1):
        name = make.__module__.rpartition(".")[2]
        print(f"{number}/{len(SECTIONS)} {name} ...", file=sys.stderr, flush=True)
        try:
            section = make(runs, tools)
        except Exception as error:  # noqa: BLE001  One chapter less, and the page says so.
            why = f"chapter not made: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            problems.append(Problem(folder=name, why=why))
            continue
        if section is not None:
            yield section


def chapter(name: str, runs: Runs, settings: ReportSettings | None = None) -> Section | None:
    """One chapter of the page, such as ``compare``, for a notebook; None if nothing is in it.

    Raises:
        UserError: there is no chapter of this name.
    """
    made = {make.__module__.rpartition(".")[2]: make for make in SECTIONS}
    if name not in made:
        raise unknown_name("chapter", name, made)
    settings = settings or ReportSettings()
    with Thumbnails(is_on=settings.frames, hosts=settings.frames_from) as thumbnails:
        return made[name](runs, Tools(settings=settings, thumbnails=thumbnails))


def render(
    runs: Runs, sections: Sequence[Section], problems: Sequence[Problem], settings: ReportSettings
) -> str:
    """The HTML of the page."""
    style, script = (_asset(name) for name in ("style.css", "script.js"))
    return templates.page(
        title=settings.title or "vidray report",
        runs=runs,
        sections=sections,
        problems=problems,
        style=style,
        script=script,
        policy=_policy(style, script),
        version=vidray.__version__,
        made_at=datetime.now(UTC),
    )


def _asset(name: str) -> str:
    return (resources.files("vidray.report") / "templates" / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """A content-security policy that lets nothing run or load but what is in the page."""
    digests = [
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in (style, script)
    ]
    return (
        f"default-src 'none'; img-src data:; style-src {digests[0]}; script-src {digests[1]}; "
        "base-uri 'none'; form-action 'none'"
    )


def parts(blocks: Iterable[Part]) -> Iterator[Part]:
    """Blocks, and those inside of folds."""
    for block in blocks:
        yield block
        if isinstance(block, Fold):
            yield from parts(block.blocks)


# What a spreadsheet takes for a formula (OWASP, CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv(frame: pd.DataFrame) -> bytes:
    """A frame as CSV; a text that a spreadsheet would compute begins with an apostrophe."""

    def safe(value: object) -> object:
        return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value

    plain = frame.drop(columns=[name for name in ("said", "link") if name in frame])
    found: bytes = plain.map(safe).to_csv(index=False).encode("utf-8", "backslashreplace")
    return found
