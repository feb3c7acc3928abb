"""The files beside the page."""

import io
import json
from pathlib import Path

import pandas as pd
import pytest

from vidray.errors import UserError
from vidray.report import beside, page
from vidray.report.blocks import Fold, Prose, Section
from vidray.report.runs import Runs
from vidray.report.settings import ReportSettings


def test_parts_of_folds_are_found() -> None:
    deep = Prose(paragraphs=["deep"])
    section = Section(
        name="s",
        title="S",
        lead="",
        blocks=[Fold(title="a", blocks=[Fold(title="b", blocks=[deep])])],
    )
    assert deep in list(beside.parts(section.blocks))


def _read(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(beside.csv(frame)), keep_default_na=False)


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\n", "\uff1d", "\uff20"])
def test_a_spreadsheet_computes_nothing(begin: str) -> None:
    text = f"{begin}HYPERLINK(1)"
    frame = pd.DataFrame({text: [text, "a=b"], "number": [-1.5, 2]})
    found = _read(frame)
    assert list(found) == [f"'{text}", "number"]
    assert list(found.iloc[:, 0]) == [f"'{text}", "a=b"]
    assert list(found["number"]) == [-1.5, 2]  # A negative number is no text.


def test_a_name_begins_no_row_of_its_own() -> None:
    frame = pd.DataFrame({"name": ["a\r=1+1", "nul\x00"], "n": [1, 2]})
    assert beside.csv(frame) == b"name,n\na\\x0d=1+1,1\nnul\\x00,2\n"


def test_csv_holds_names_as_they_are_without_what_only_the_page_needs() -> None:
    frame = pd.DataFrame({"name": ["a,b", 'c"d', "e\nf", "مصارعة 🥊"], "said": "s", "link": "#l"})
    found = _read(frame)
    assert list(found) == ["name"]
    assert list(found["name"]) == list(frame["name"])


def test_only_files_of_an_earlier_page_are_removed(tmp_path: Path) -> None:
    data = tmp_path / "r_data"
    (data / "mine.csv").mkdir(parents=True)
    (data / "old.csv").touch()
    (data / "other.csv").touch()
    (tmp_path / "precious.csv").touch()
    listed = ["report.json", "../precious.csv", "mine.csv", "old.csv"]
    (data / "report.json").write_text(json.dumps({"files": listed}))
    section = Section(name="overview", title="", lead="", blocks=[], files={"new.json": b"{}"})
    beside.write(str(data), Runs(folders=()), [section], [])
    left = sorted(file.name for file in data.iterdir())
    assert left == ["mine.csv", "new.json", "other.csv", "report.json"]
    assert (tmp_path / "precious.csv").exists()


@pytest.mark.parametrize("place", ["folder", "link", "file", "below", "nameless"])
def test_a_page_that_cannot_be_written_is_refused_at_once(place: str, tmp_path: Path) -> None:
    """The runs are not read: those that are named are not there."""
    out = tmp_path / "r.html"
    if place == "folder":
        out.mkdir()
    elif place == "link":
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "r_data").symlink_to(tmp_path / "elsewhere")
    elif place == "file":
        (tmp_path / "r_data").touch()
    elif place == "nameless":
        out = tmp_path / ".html"
    else:
        (tmp_path / "file").touch()
        out = tmp_path / "file" / "r.html"
    with pytest.raises(
        UserError, match=r"--out is .*: give the name|a link: take|is a file|must end"
    ):
        page.write([str(tmp_path / "none")], str(out), ReportSettings())


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_no_library_takes_is_refused(seed: int) -> None:
    with pytest.raises(UserError, match="seed is"):
        ReportSettings(seed=seed)
