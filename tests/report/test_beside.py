"""The files beside the page."""

import io

import pandas as pd
import pytest

from vidray.report import beside
from vidray.report.blocks import Fold, Prose, Section


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


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t"])
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
