"""What strangers' tables and JSON say, on its way to the page."""

import time

import pyarrow as pa

from vidray.report.cleaning import MOST_OF_NAME, cleaned_json, cleaned_table, cut

LONG = "x" * 1_000_000


def test_long_names_are_cut_and_still_told_apart() -> None:
    names = [cut(f"{LONG}{end}") for end in "ab"]
    assert names[0] != names[1]
    assert max(map(len, names)) < MOST_OF_NAME + 50
    assert "1,000,001 characters" in names[0]
    assert cut("x" * MOST_OF_NAME) == "x" * MOST_OF_NAME
    assert len(cut("\ud800" * 1000)) < 600


def test_json_of_any_size_is_cleaned_quickly() -> None:
    began = time.monotonic()
    found = cleaned_json({"a": [{"b": 20 * LONG}, "s3://KEY:PW@bucket/x", 1.5, None], LONG: True})
    assert time.monotonic() - began < 2
    assert found["a"][1:] == ["s3://bucket/x", 1.5, None]
    assert len(str(found)) < 6000


def test_texts_of_a_table_are_cut_and_its_numbers_are_not_touched() -> None:
    table = pa.table(
        {
            "label": ["a", LONG, None],
            "error_message": ["of 10,000" * 1000, 20 * LONG, "at s3://KEY:PW@bucket/x"],
            "uri": ["https://h/a?x=SECRET", "/a?x=1", "s3://bucket/@b"],
            "number": [1.5, None, 2.0],
            "none": pa.nulls(3),
        }
    )
    found = cleaned_table(pa.concat_tables([table.slice(0, 1), table.slice(1)]))
    assert found["label"].to_pylist() == ["a", cut(LONG), None]
    messages = found["error_message"].to_pylist()
    assert messages[0] == "of 10,000" * 1000
    assert len(messages[1]) < 20_100
    assert messages[2] == "at s3://bucket/x"
    assert found["uri"].to_pylist() == ["https://h/a", "/a?x=1", "s3://bucket/@b"]
    assert found.select(["number", "none"]).equals(table.select(["number", "none"]))
    assert len(cleaned_table(table.slice(0, 0))) == 0
