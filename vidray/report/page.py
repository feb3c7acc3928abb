"""Runs -> sections -> one self-contained page, with the data of every figure beside it as CSV.

report.html            the page: style, script and pictures are in it
report_data/NAME.csv   the data of the table or chart of that name
"""

from __future__ import annotations

import base64
import hashlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import vidray
from vidray import storage
from vidray.errors import UserError, unknown_name
from vidray.progress import duration
from vidray.report import beside, nights, overview, templates
from vidray.report.blocks import Section
from vidray.report.dataset import data
from vidray.report.frames.thumbnails import Thumbnails
from vidray.report.inside import maps, mistakes, reasons
from vidray.report.judged import compare, each_model, tradeoffs
from vidray.report.reading import read
from vidray.report.runs import Problem, Runs
from vidray.report.settings import ReportSettings
from vidray.report.tools import Tools
from vidray.report.verdict import robustness, strengths
from vidray.storage import addresses

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
        frames_from: folders and buckets of the videos whose frames are on it, and how many.
    """

    uri: str
    data: str
    size_bytes: int
    runs: Runs
    sections: Sequence[Section]
    problems: Sequence[Problem]
    frames_from: Mapping[str, int] = field(default_factory=dict)


def write(folders: Sequence[str], out: str, settings: ReportSettings) -> Page:
    """Read the runs, make the page, and write it with its data.

    Args:
        folders: of runs, or with folders of runs in them; local or in a bucket.
        out: the HTML file, local or in a bucket.

    Raises:
        UserError: no run is there, ``out`` is no HTML file, or it cannot be written there.
    """
    where = storage.canonical(out)
    if not storage.name_of(where).removesuffix(".html") or not where.endswith(".html"):
        raise UserError(f"--out is {out}: the name of the page must end in .html")
    data_folder = f"{where.removesuffix('.html')}_data"
    beside.check(where, data_folder)
    runs = read(folders)
    for run in runs.finished:
        if addresses.below(run.out, where) is not None:
            raise UserError(
                f"--out is {out}, inside of the run {storage.without_secrets(run.out)}, which a "
                "report only reads: choose a place outside"
            )
    problems = list(runs.problems)
    with Thumbnails(is_on=settings.frames, hosts=settings.frames_from) as thumbnails:
        tools = Tools(settings=settings, thumbnails=thumbnails)
        made = list(_sections(runs, tools, problems))
    sections = [overview.section(runs, made, problems), *made]
    page = render(runs, sections, problems, settings, data_folder=storage.name_of(data_folder))
    html = page.encode()
    beside.write(data_folder, runs, sections, problems)
    storage.write_bytes(where, html)
    return Page(
        uri=where,
        data=data_folder,
        size_bytes=len(html),
        runs=runs,
        sections=sections,
        problems=problems,
        frames_from=thumbnails.places,
    )


def _sections(runs: Runs, tools: Tools, problems: list[Problem]) -> Iterator[Section]:
    began = time.monotonic()
    for number, make in enumerate(SECTIONS, start=1):
        name = make.__module__.rpartition(".")[2]
        print(
            f"chapter {number} of {len(SECTIONS)}: {name} "
            f"({duration(time.monotonic() - began)} so far)",
            file=sys.stderr,
            flush=True,
        )
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
    runs: Runs,
    sections: Sequence[Section],
    problems: Sequence[Problem],
    settings: ReportSettings,
    *,
    data_folder: str,
) -> str:
    """The HTML of the page.

    Args:
        data_folder: name of the folder beside the page with the data of its figures.
    """
    style = templates.asset("parts.css") + templates.asset("style.css")
    script = templates.asset("script.js")
    return templates.page(
        title=settings.title or "vidray report",
        num_runs=len(list(runs.finished)),
        sections=sections,
        titles={section.name: section.title for section in sections},
        problems=problems,
        data_folder=data_folder,
        style=style,
        script=script,
        policy=_policy(style, script),
        version=vidray.__version__,
        made_at=datetime.now(UTC),
    )


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
