"""jobs/report.py: the page and its files, what it says at its end, and wrong arguments."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from tests.command_lines import exit_code
from tests.report import folders
from vidray import storage

JOB = "jobs/report.py"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.all_kinds(tmp_path_factory.mktemp("runs"))


@pytest.mark.slow
def test_the_page_its_data_and_the_summary(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "shown" / "report.html"
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "run.json").write_text('{"kind": "model", "state": "running"}')
    given = ("--runs", runs, tmp_path / "unfinished", "--out", out, "--title", "Monday <b>")
    assert exit_code(JOB, *given) == 0
    told = capsys.readouterr()
    page = out.read_text()
    assert "chapter not made" not in told.err
    assert "<title>Monday &lt;b&gt;</title>" in page
    assert re.search(rf"the page, 6 runs, \d+ chapters, [\d.]+ [kM]B: {out}$", told.out)
    assert "not on the page: " in told.err
    assert "unfinished is not finished (no _SUCCESS)" in told.err
    assert "is not finished (no _SUCCESS)" in page
    for name in ("overview", "compare", "mistakes", "data", "nights"):
        assert f'id="{name}"' in page, name
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    data = tmp_path / "shown" / "report_data"
    assert (pd.read_csv(data / "runs.csv")["run"] == "knn").any()
    summary = json.loads((data / "report.json").read_text())
    assert len(summary["runs"]) == 6
    assert summary["problems"][0]["folder"] == str(tmp_path / "unfinished")
    assert {path.name for path in data.iterdir()} == {"report.json", *summary["files"]}
    for path in data.glob("*.csv"):
        pd.read_csv(path)
    (data / "mine.csv").write_text("notes")
    assert exit_code(JOB, "--runs", runs / "features", "--out", out, "--no-frames") == 0
    fewer = json.loads((data / "report.json").read_text())["files"]
    assert len(fewer) < len(summary["files"])
    assert {path.name for path in data.iterdir()} == {"mine.csv", "report.json", *fewer}


@pytest.mark.slow
def test_the_same_runs_give_the_same_page(runs: Path, tmp_path: Path) -> None:
    pages = []
    for name in ("a", "b"):
        assert exit_code(JOB, "--runs", runs, "--out", tmp_path / f"{name}.html") == 0
        text = (tmp_path / f"{name}.html").read_text()
        pages.append(re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "TIME", text).replace("b_data", "a_data"))
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (
            ("--runs", "/nowhere", "--out", "r.html"),
            "--runs gives no run of vidray: /nowhere is not",
        ),
        (
            ("--runs", "{runs}", "--out", "r.txt"),
            "--out is r.txt: the name of the page must end in",
        ),
        (("--runs", "--out", "r.html"), "--runs"),
        (("--runs", "{runs}", "--out", "{runs}/knn/r.html"), "inside of the run "),
        (("--runs", "{runs}/knn/model.json", "--out", "r.html"), "model.json is a file: give the"),
        (
            ("--runs", "{runs}", "--out", "r.html", "--no-frames", "--frames-from", "a.org"),
            "--no-frames opens no video and --frames-from does: give one of them",
        ),
        (
            ("--runs", "{runs}", "--out", "r.html", "--no-frames", "--robustness-videos", "4"),
            "--no-frames opens no video and --robustness-videos does",
        ),
        (
            ("--runs", "{runs}", "--out", "r.html", "--frames-from", "http://a.org/"),
            "frames_from is http://a.org/: a host, such as",
        ),
        (
            ("--runs", "{runs}", "--out", "r.html", "--shown-videos", "0"),
            "shown_videos is 0: it must",
        ),
        (("--runs", "{runs}", "--out", "r.html", "--cpu-hour-price", "-1"), "cpu_hour_price is -1"),
    ],
)
def test_wrong_arguments_are_one_line(
    flags: tuple[str, ...],
    told: str,
    runs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert exit_code(JOB, *(flag.format(runs=runs) for flag in flags)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert told in line
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_runs_in_a_bucket_become_a_page_in_a_bucket(
    runs: Path, s3_bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in runs.rglob("*"):
        if path.is_file():
            storage.write_bytes(f"{s3_bucket}/runs/{path.relative_to(runs)}", path.read_bytes())
    out = f"{s3_bucket}/shown/report.html"
    assert exit_code(JOB, "--runs", f"{s3_bucket}/runs", "--out", out, "--no-frames") == 0
    told = capsys.readouterr()
    assert "not on the page" not in told.err
    assert "6 runs, " in told.out
    assert out in told.out
    here = runs.parent / "here.html"
    assert exit_code(JOB, "--runs", runs, "--out", here, "--no-frames") == 0
    names = {storage.name_of(i.uri) for i in storage.list_files(f"{s3_bucket}/shown/report_data")}
    assert names == {path.name for path in (runs.parent / "here_data").iterdir()}
    assert len(storage.read_bytes(out)) == pytest.approx(here.stat().st_size, rel=0.05)
