"""The end of a report: the summary, what is not on the page, and the browser."""

import dataclasses
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
        "the data of its figures: /tmp/r_data\n"
        "the page, 0 runs, 1 chapter, 1.23 MB: /tmp/r.html\n"
    )


def test_nothing_that_a_table_says_moves_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    page = _page("/tmp/r.html")
    finding = Finding(level="note", text="look at \x1b[2J\x1b]0;owned\x07.mp4", section="mistakes")
    first = dataclasses.replace(page.sections[0], findings=[finding])
    problems = [Problem(folder="/runs/\x1b[31m", why="is\rdamaged")]
    page = dataclasses.replace(page, sections=[first], problems=problems)
    console.show(dataclasses.replace(page, frames_from={"/a\x1b[1A": 2}), is_opened=False)
    told = capsys.readouterr()
    assert "\x1b" not in told.out + told.err
    assert "\r" not in told.err
    assert "look at \\x1b[2J" in told.out


def test_the_places_of_frames_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    places = {f"/videos/{name}": 9 - k for k, name in enumerate("abcdef")}
    page = dataclasses.replace(_page("/tmp/r.html"), frames_from=places)
    console.show(page, is_opened=False)
    assert capsys.readouterr().out.splitlines()[1] == (
        "frames of 39 videos are on it, from /videos/a (9), /videos/b (8), /videos/c (7), "
        "/videos/d (6) and 2 more places"
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
