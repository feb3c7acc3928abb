"""The driver's part, rehearsed: its lines by hand, and one small rehearsal in the end."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.planning.timed import driver as made
from tests.planning.timed import label_folder, line, rates
from vidray.planning import driver
from vidray.planning.driver import Line, rehearse
from vidray.planning.rates import read
from vidray.tables import schema


def test_a_line_is_what_any_night_takes_and_what_a_video_takes() -> None:
    assert Line(fixed=2.0, each=0.5, low=0.4, high=0.7).at(10) == 7.0
    assert made(each=0.5, fixed=1.0).before(100) == 2 * 51
    assert made(each=0.5, fixed=1.0).after(10) == 2 * 6
    assert made().bytes(10, 10) == 6000
    assert made().bytes(100, 10) == 50_000


def test_drawn_rates_are_within_their_range() -> None:
    wide = driver.Driver(
        listing=Line(fixed=1.0, each=2.0, low=1.0, high=3.0), comparing=line(5.0),
        checking=line(0.0), committing=line(0.0), commit_bytes=1.0, compare_bytes=1.0,
    )  # fmt: skip
    draws = np.random.default_rng(0)
    drawn = [wide.drawn(draws).before(1) - 1 - 5 for _ in range(200)]
    assert 1.0 <= min(drawn) < 1.1
    assert 2.9 < max(drawn) <= 3.0


@pytest.mark.slow
def test_a_rehearsal_of_a_night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "SIZES", (50, 2000))
    folder = label_folder(tmp_path / "labels")
    found = rehearse(read(folder), folder)
    for one in (found.listing, found.comparing, found.checking, found.committing):
        assert 0 <= one.low <= one.each <= one.high < 0.1
    assert found.committing.each > 0
    # A row of LABELS takes 0.3 kB, and is there more than once while it is sorted and written.
    assert 200 < found.commit_bytes < 5000
    assert 0 < found.compare_bytes < 5000
    # Of what the run took, the part that is the same for any number of videos.
    assert 0 <= found.committing.fixed <= 0.2


def test_a_table_without_labels_is_checked_and_not_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "SIZES", (5, 50))
    monkeypatch.setattr(driver, "ROUNDS", 1)
    found = rehearse(rates(kind="features"), str(tmp_path))
    assert found.committing.at(1000) == found.comparing.at(1000) == 0
    assert found.checking.each > 0


def test_rows_are_repeated_under_names_of_their_own() -> None:
    rows = pa.Table.from_pylist(
        [
            {"video_id": f"{k}", "uri": f"{k}", "fingerprint": "f", "status": "ok",
             "attempts": 1, "config_digest": "d", "label": f"l{k}"}
            for k in range(3)
        ],
        schema.LABELLED,
    )  # fmt: skip
    tiled = driver._tiled(rows, 8)
    assert len(set(tiled["video_id"].to_pylist())) == 8
    assert tiled["label"].to_pylist() == ["l0", "l1", "l2", "l0", "l1", "l2", "l0", "l1"]
    assert tiled.schema == schema.LABELLED
