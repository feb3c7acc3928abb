"""Numbers and texts as the page shows them."""

import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidray.report import formats
from vidray.report.blocks import Column, DataTable


@pytest.mark.parametrize(
    ("value", "form", "shown"),
    [
        ("a", "text", "a"),
        (0.7549, "share", "0.755"),
        (0.7549, "percent", "75.5 %"),
        (1234567, "count", "1,234,567"),
        (0.0123456, "number", "0.0123"),
        (123456.7, "number", "123,457"),
        (0.0031, "seconds", "3.1 ms"),
        (2.5, "seconds", "2.5 s"),
        (245, "seconds", "4 min 5 s"),
        (10920, "seconds", "3 h 2 min"),
        (94_100_000, "bytes", "94.1 MB"),
        (0, "bytes", "0 B"),
        (datetime.datetime(2026, 11, 26, 6, 5, tzinfo=datetime.UTC), "date", "2026-11-26 06:05"),
        (None, "share", "\u2013"),
        (np.nan, "count", "\u2013"),
        (pd.NaT, "date", "\u2013"),
    ],
)
def test_cells(value: object, form: str, shown: str) -> None:
    assert formats.cell(value, form) == shown


def test_unseen_characters_are_spelled_out_and_others_stay() -> None:
    assert formats.legible("nul\x00 \x85") == "nul\\x00 \\x85"
    assert formats.legible("photo_\u202egpj.exe") == "photo_\\u202egpj.exe"
    assert formats.legible("\u2066a\u2069") == "\\u2066a\\u2069"
    assert formats.legible("\udce4.avi") == "\\udce4.avi"
    for text in ("مصارعة 🥊", "two\nlines\tand a tab", "👩\u200d👧", "é"):
        assert formats.legible(text) == text


@settings(max_examples=40)
@given(st.text(st.characters()))
def test_what_is_legible_can_be_written_and_does_not_change_again(text: str) -> None:
    legible = formats.legible(text)
    legible.encode("utf-8")
    assert formats.legible(legible) == legible


def _table(column: Column, **values: list[object]) -> DataTable:
    frame = pd.DataFrame({"name": list("abcdefgh")[: len(values["value"])], **values})
    return DataTable(
        name="t", title="T", frame=frame, columns={"name": Column(), "value": column}, link="link"
    )


def _cells(table: DataTable) -> list[dict[str, object]]:
    return [row["cells"][1] for row in formats.rows_of(table)]


@pytest.mark.parametrize(
    ("best", "values", "marked"),
    [
        ("highest", [1.0, 3.0, None, 3.0], [1, 3]),
        ("lowest", [1.0, 3.0, None, 3.0], [0]),
        ("lowest", [2.0, 2.0, None], []),  # All the same: none is better.
        ("highest", [2.0], []),
        ("highest", [None, None], []),
        (None, [1.0, 2.0], []),
    ],
)
def test_the_best_values_are_marked(best: str, values: list[object], marked: list[int]) -> None:
    column = Column(form="number", best=best)  # type: ignore[arg-type]
    cells = _cells(_table(column, value=values, link=[None] * len(values)))
    assert [number for number, cell in enumerate(cells) if cell["is_best"]] == marked


def test_missing_values_have_no_key_and_no_link() -> None:
    rows = list(
        formats.rows_of(_table(Column(form="number"), value=[0.5, None], link=["#a", None]))
    )
    assert [row["cells"][1]["key"] for row in rows] == ["0.5", ""]
    assert [row["link"] for row in rows] == ["#a", None]


def test_intervals_lie_on_the_range_of_their_column() -> None:
    column = Column(form="share", interval=("low", "high"))
    table = _table(
        column, value=[0.5, 0.9, 0.7], low=[0.2, 0.8, None], high=[0.6, 1.0, None], link=[None] * 3
    )
    first, second, third = (cell["interval"] for cell in _cells(table))
    assert first == {"low": 0.0, "width": 50.0, "mark": 36.25, "text": "0.200 to 0.600"}
    assert second == {"low": 75.0, "width": 25.0, "mark": 86.25, "text": "0.800 to 1.000"}
    assert third is None


def test_an_interval_of_no_length_is_no_interval() -> None:
    """All resamples alike: of 4 right answers of 4 that is no certainty."""
    column = Column(form="share", interval=("low", "high"))
    table = _table(column, value=[1.0], low=[1.0], high=[1.0], link=[None])
    assert _cells(table)[0]["interval"] is None
    table = _table(column, value=[0.5], low=[0.5], high=[0.5001], link=[None])
    drawn = _cells(table)[0]["interval"]
    assert isinstance(drawn, dict)
    assert 0 <= drawn["mark"] <= 97.5


def test_no_more_rows_than_are_shown() -> None:
    frame = pd.DataFrame({"name": range(500)})
    table = DataTable(name="t", title="T", frame=frame, columns={"name": Column()}, most_rows=7)
    assert len(list(formats.rows_of(table))) == 7
