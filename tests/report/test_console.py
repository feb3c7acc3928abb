"""The end of a report: the summary, what is not on the page, and the browser."""

import webbrowser

import pytest

from vidray.report import console
from vidray.report.blocks import Finding, Section
from vidray.report.page import Page
from vidray.report.runs import Problem, Runs


def _page(uri: str) -> Page:
    findings = [Finding(level="alarm", text="the nights drift", section="nights")]
    first = Section(name="overview", title="", lead="", blocks=[], findings=findings)
    problems = [Problem(folder="/runs/a", why="is damaged")]
    return Page(
        uri=uri,
        data=uri.replace(".html", "_data"),
        size_bytes=1_234_000,
        runs=Runs(folders=("x",)),
        sections=[first],
        problems=problems,
    )


def test_the_summary_says_what_is_where(capsys: pytest.CaptureFixture[str]) -> None:
    console.show(_page("/tmp/r.html"), is_opened=False)
    told = capsys.readouterr()
    assert told.err == "not on the page: /runs/a is damaged\n"
    assert told.out == (
        "alarm: the nights drift\n"
        "0 runs, 1 chapters, 1.23 MB: /tmp/r.html; the data of its figures: /tmp/r_data\n"
    )


def test_the_page_is_opened(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    found = [True, False]
    monkeypatch.setattr(webbrowser, "open", lambda uri: bool(opened.append(uri)) or found.pop(0))
    console.show(_page("/tmp/a #1.html"), is_opened=True)
    assert opened == ["file:///tmp/a%20%231.html"]
    assert "browser" not in capsys.readouterr().err
    console.show(_page("/tmp/a.html"), is_opened=True)
    assert "no browser was found: open /tmp/a.html yourself" in capsys.readouterr().err
    console.show(_page("s3://bucket/a.html"), is_opened=True)
    assert "a page in a bucket is not opened" in capsys.readouterr().err
    assert len(opened) == 2
