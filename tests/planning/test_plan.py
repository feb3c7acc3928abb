"""Plans: how many nodes, what they cost, what limits them, and how it grows."""

from typing import Any

import pytest

from tests.planning.timed import driver, rates
from vidray.errors import UserError
from vidray.planning import plan
from vidray.planning.prices import NodeKind, Prices
from vidray.planning.settings import PlanSettings

QUICK: dict[str, Any] = {
    "videos_per_day": 20_000,
    "deadline_hours": 1.0,
    "nights": 10,
    "grow_to": 1,
}


def node(name: str, **more: Any) -> NodeKind:
    return NodeKind(
        **{"name": name, "price": 1.0, "cpus": 4, "gpus": 0, "memory_gib": 64.0, **more}
    )


def prices(*nodes: NodeKind, **shared: float) -> Prices:
    return Prices(currency="EUR", nodes=nodes, shared=shared)


def asked(**more: Any) -> PlanSettings:
    return PlanSettings(**{**QUICK, **more})


def test_the_fewest_nodes_that_are_in_time() -> None:
    """20,000 videos of 1.5 s are 8.3 hours of a worker; so nine or ten do them in an hour."""
    found = plan.make(rates(), driver(), None, asked())
    (option,) = found.options
    assert found.best == option.kind == "as in the run"
    assert option.workers == 2 * option.nodes
    assert option.chance >= 0.9
    assert 10 <= option.workers <= 12
    fewer = plan.make(rates(), driver(), None, asked(nodes=option.nodes - 1)).options[0]
    assert fewer.chance < 0.9
    assert fewer.nodes == option.nodes - 1


def test_hours_hold_all_that_there_is() -> None:
    """8 s of start, four parts of the driver of 10 s each, a minute of the node's start."""
    kind = node("a", start_seconds=60.0)
    found = plan.make(rates(), driver(fixed=10.0), prices(kind), asked(nodes=3)).options[0]
    around = found.whole_seconds.median - found.working_seconds.median
    assert around == pytest.approx(8 + 40 + 60, abs=1.0)
    assert found.money == pytest.approx(3 * 1.0 * found.whole_seconds.median / 3600)
    assert found.workers == 12
    assert found.least_seconds == pytest.approx(20_000 * 1.5 / 12, rel=0.01)
    assert found.most_seconds is not None
    assert found.least_seconds < found.working_seconds.median < found.most_seconds


def test_the_cheapest_that_is_in_time_is_the_best() -> None:
    kinds = (node("dear", price=2.0), node("cheap"), node("cheap but lost", price=0.001,
             losses_per_hour=30.0, start_seconds=60.0))  # fmt: skip
    found = plan.make(rates(), driver(), prices(*kinds), asked(nodes=4))
    assert found.best == "cheap"
    assert [option.kind for option in found.options] == ["dear", "cheap", "cheap but lost"]
    lost = found.options[2]
    assert lost.lost_nodes > 4
    assert lost.redone_share > 0.1
    assert lost.most_seconds is None


def test_kinds_that_cannot_are_told_and_none_left_is_an_error() -> None:
    with_gpu = node("g", gpus=1)
    found = plan.make(rates(), driver(), prices(node("a"), with_gpu), asked())
    assert list(found.refused) == ["g"]
    assert [option.kind for option in found.options] == ["a"]
    with pytest.raises(UserError, match="no kind of node can do this; g: it has GPUs"):
        plan.make(rates(), driver(), prices(with_gpu), asked())


def test_one_driver_may_take_longer_than_the_night() -> None:
    """A tenth of a second for each video, four times: 20,000 videos take it more than two hours."""
    found = plan.make(rates(), driver(each=0.1), None, asked())
    assert found.best is None
    assert found.options[0].chance == 0
    assert "one driver" in found.options[0].limit
    assert found.growth[0].option is None
    assert found.growth[0].limit == "one driver: checking and committing"


def test_days_that_are_kept_are_listed_again() -> None:
    first, tenth = (
        plan.make(rates(), driver(each=0.001), None, asked(nodes=9, days_kept=days))
        for days in (1, 10)
    )
    assert tenth.growth[0].before_seconds == pytest.approx(10 * first.growth[0].before_seconds)
    assert tenth.growth[0].after_seconds == first.growth[0].after_seconds
    longer = tenth.options[0].whole_seconds.median - first.options[0].whole_seconds.median
    assert longer == pytest.approx(9 * 20_000 * 0.002)


def test_growth_goes_in_tens_and_nodes_with_it() -> None:
    found = plan.make(
        rates(), driver(each=1e-6), None, asked(videos_per_day=20_000, grow_to=200_000)
    )
    assert [step.videos_per_day for step in found.growth] == [20_000, 200_000]
    first, second = (step.option for step in found.growth)
    assert first is not None
    assert second is not None
    assert second.nodes == pytest.approx(10 * first.nodes, rel=0.15)
    assert found.growth[1].driver_bytes == pytest.approx(600 * 200e3)
    assert found.growth[1].year_driver_bytes == pytest.approx(365 * 600 * 200e3)


def test_the_plain_sum_leaves_all_else_out() -> None:
    """33 s of two workers for 40 videos, so 1.65 s each."""
    found = plan.make(rates(), driver(), None, asked(nodes=5))
    assert found.wrong_seconds == pytest.approx(20_000 * 1.65 / 10)


def test_more_workers_than_parts_are_not_asked_for() -> None:
    """A hundred videos are 50 parts: more workers would do nothing."""
    found = plan.make(rates(), driver(), None, asked(videos_per_day=100, deadline_hours=0.003))
    assert found.options[0].workers == 50
    assert found.best is None


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"videos_per_day": 0}, "videos_per_day is 0"),
        ({"videos_per_day": 10**10}, "it must be 1 to 1e"),
        ({"deadline_hours": 0.0}, "deadline_hours is 0"),
        ({"deadline_hours": float("nan")}, "deadline_hours is nan"),
        ({"sureness": 1.0}, "sureness is 1"),
        ({"nodes": 0}, "nodes is 0"),
        ({"nights": 1}, "nights is 1"),
        ({"slow_nodes": -0.1}, "slow_nodes is -0.1"),
        ({"slow_times": 3.0}, "--slow-times has no effect without --slow-nodes"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_absurd_flags_are_refused(flags: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        PlanSettings(**flags)


def test_nodes_that_are_lost_before_a_part_is_done_never_end() -> None:
    """A part of 64 videos takes 96 s, and a node lives for a minute."""
    kind = node("lost", losses_per_hour=60.0, start_seconds=600.0)
    found = plan.make(rates(), driver(), prices(kind), asked(nodes=4, deadline_hours=0.3))
    assert found.best is None
    assert found.options[0].limit == "losses: nodes are lost before a part is done"


def test_more_workers_than_can_be_simulated_are_refused() -> None:
    with pytest.raises(UserError, match="50000 nodes of 1000 workers are more than the 100000"):
        plan.make(rates(), driver(), None, asked(nodes=50_000, workers_per_node=1000))
