"""The end of a report on the terminal: what is on the page, what is not, and where it is."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Mapping
from pathlib import Path

from vidray import storage
from vidray.endings import one_line
from vidray.report import formats
from vidray.report.page import Page

# Places of videos that are named.
_MOST = 4


def show(page: Page, *, is_opened: bool) -> None:
    """Print the summary; and open the page, if asked for."""
    for problem in page.problems:
        print(one_line(f"not on the page: {problem.folder} {problem.why}"), file=sys.stderr)
    for finding in page.sections[0].findings:
        print(one_line(f"{finding.level}: {finding.text}"))
    if page.frames_from:
        print(one_line(_frames_from(page.frames_from)))
    runs, chapters = sum(1 for _ in page.runs.finished), len(page.sections)
    listed = f"{formats.plural(runs, 'run')}, {formats.plural(chapters, 'chapter')}"
    print(f"the data of its figures: {storage.without_secrets(page.data)}")
    print(
        f"the page, {listed}, {formats.size(page.size_bytes)}: {storage.without_secrets(page.uri)}"
    )
    if is_opened:
        _open(page.uri)


def _frames_from(places: Mapping[str, int]) -> str:
    """Where the frames are from: who sends the page sends them, too."""
    named = ", ".join(f"{place or '/'} ({count})" for place, count in list(places.items())[:_MOST])
    more = f" and {len(places) - _MOST} more places" if len(places) > _MOST else ""
    return f"frames of {sum(places.values())} videos are on it, from {named}{more}"


def _open(uri: str) -> None:
    """Open the page in a browser, or say why there is none."""
    if storage.is_bucket(uri):
        print("a page in a bucket is not opened: copy it here first", file=sys.stderr)
    elif not webbrowser.open(Path(uri).as_uri()):
        print(f"no browser was found: open {uri} yourself", file=sys.stderr)
