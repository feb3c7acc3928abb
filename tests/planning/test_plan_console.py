"""The tables of a plan: every number with its unit, and names that are no markup."""

import pytest

from tests.planning.timed import driver, rates
from vidray.planning import console, plan
from vidray.planning.prices import NodeKind, Prices
from vidray.planning.settings import PlanSettings

SETTINGS = PlanSettings(videos_per_day=2000, deadline_hours=1.0, nights=10, grow_to=20_000)


def told(capsys: pytest.CaptureFixture[str], made: plan.CapacityPlan) -> str:
    console.show(made)
    return capsys.readouterr().out


def test_what_a_person_reads(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, plan.make(rates(), driver(each=1e-5), None, SETTINGS))
    for words in (
        "40 by 2 workers", "1.5 s", "10%", "1 MB", "100 bytes", "8.0 s",
        "10 s for a million (10 to 10)", "2,000 videos in a night of at most 1 h", "2 GB",
        "20,000", "the plain sum",
    ):  # fmt: skip
        assert words in found, words
    assert "waited for a CPU" not in found


def test_a_shared_machine_and_a_run_gone_on_with_are_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    of = rates(of_timing={"cpu_wait_seconds": 30.0}, listing_seconds=None)
    found = told(capsys, plan.make(of, driver(), None, SETTINGS))
    assert "waited for a CPU 50% of their time" in found
    assert "--without-waiting" in found
    assert "gone on with" in found


def test_names_are_no_markup_and_refused_kinds_say_why(
    capsys: pytest.CaptureFixture[str],
) -> None:
    kinds = (
        NodeKind(name="[red]a[/red]", price=0.5, cpus=4, gpus=0, memory_gib=64.0),
        NodeKind(name="g", price=0.5, cpus=4, gpus=1, memory_gib=64.0),
    )
    of = rates(run="runs/[bold]x")
    prices = Prices(currency="EUR", nodes=kinds, shared={"read": 1.0})
    found = told(capsys, plan.make(of, driver(), prices, SETTINGS))
    assert "[red]a[/red]" in found
    assert "measured: runs/[bold]x" in found
    assert "it has GPUs and the" in found
    assert "EUR" in found


def test_no_kind_in_time_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    asked = PlanSettings(videos_per_day=2000, deadline_hours=0.01, nights=10, grow_to=2000)
    found = told(capsys, plan.make(rates(), driver(fixed=60.0), None, asked))
    assert "no kind of node meets the deadline as surely as asked" in found


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0 bytes"), (999, "999 bytes"), (1234, "1.23 kB"), (182e9, "182 GB"), (2.5e16, "25 PB")],
)
def test_sizes(number: float, shown: str) -> None:
    assert console.size(number) == shown
