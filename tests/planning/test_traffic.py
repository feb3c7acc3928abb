"""Traffic and its price, by hand."""

import pytest

from tests.planning.timed import rates
from vidray.planning.settings import PlanSettings
from vidray.planning.traffic import traffic_of

PRICES = {"egress": 0.01, "read": 0.5, "write": 2.0, "storage": 3.0}


def test_small_videos_come_whole() -> None:
    """Ten thousand videos of 1 MB, rows of 100 bytes, parts of 64."""
    found = traffic_of(rates(), PlanSettings(videos_per_day=10_000), PRICES)
    assert found.read_bytes == 10e9
    assert found.reads == 20_000 + 157 * 5
    assert found.writes == 157 + 3 + 10
    assert found.table_bytes == 1e6
    assert found.year_table_bytes == 365e6
    assert found.money["egress"] == pytest.approx(0.1)
    assert found.money["read"] == pytest.approx(0.5 * 20.785)
    assert found.money["write"] == pytest.approx(2.0 * 0.170)
    assert found.money["storage"] == pytest.approx(0.003)


def test_large_ones_come_in_blocks() -> None:
    """40 MB are ten blocks of 4 MiB, and their length is asked for."""
    of = rates(of_timing={"video_bytes": 40 * 40_000_000})
    found = traffic_of(of, PlanSettings(videos_per_day=64), {})
    assert found.reads == 64 * (1 + 10 + 1) + 64 * 5
    assert found.money == {}


def test_days_that_are_kept_are_listed_each_night() -> None:
    one, ten = (
        traffic_of(rates(), PlanSettings(videos_per_day=10_000, days_kept=days), {}).writes
        for days in (1, 10)
    )
    assert ten - one == 90
