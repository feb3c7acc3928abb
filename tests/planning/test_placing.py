"""What a node holds, and what limits it, by hand."""

from typing import Any

import numpy as np
import pytest

from tests.planning.timed import rates
from vidray.planning import placing
from vidray.planning.placing import Placed
from vidray.planning.prices import NodeKind
from vidray.planning.rates import Rates

GPU = {"predictors": 1, "gpus_each": 1.0, "gpus": 1.0, "predictor_seconds": 8.0, "workers": 4}


def node(**more: Any) -> NodeKind:
    return NodeKind(**{"name": "n", "price": 1.0, "cpus": 8, "gpus": 0, "memory_gib": 64.0, **more})


def place(kind: NodeKind, of: Rates, **more: Any) -> Placed:
    return placing.place(kind, of, 1000, np.random.default_rng(0), **more)


def mean(placed: Placed) -> float:
    return float(placed.work.seconds @ placed.work.shares)


def test_a_worker_on_each_cpu() -> None:
    found = place(node(), rates())
    assert (found.workers, found.predictors) == (8, 0)
    assert found.limit == "network in workers"
    assert mean(found) == pytest.approx(1.5)
    assert found.work.part_seconds == pytest.approx(2.0 / 40)
    assert found.work.gap_seconds == pytest.approx(0.1)


def test_memory_holds_fewer() -> None:
    """Of 16 GiB 0.7 are for tasks: 5 workers of 2 GiB."""
    found = place(node(memory_gib=16.0), rates())
    assert found.workers == 5
    assert found.limit == "network in workers; memory, for 5 of 8 CPUs"


def test_the_network_of_a_node_may_be_too_slow() -> None:
    """8 workers, each 1 MB every 1.5 s: 43 megabits a second; half of that takes twice as long."""
    wanted = 8 * 8e6 / 1.5 / 1e9
    assert mean(place(node(network_gbit=wanted * 1.01), rates())) == pytest.approx(1.5)
    found = place(node(network_gbit=wanted / 2), rates())
    assert mean(found) == pytest.approx(3.0)
    assert found.limit == "network of a node"


def test_faster_cpus_and_cpus_of_ones_own() -> None:
    assert mean(place(node(speed=2.0), rates())) == pytest.approx(0.75)
    assert mean(place(node(), rates(), without_waiting=True)) == pytest.approx(1.5 * 0.9)


def test_a_node_as_in_the_run_holds_what_it_held() -> None:
    for of_timing, held in (({}, (2, 0)), (GPU, (4, 1)), ({**GPU, "gpus_each": 0.0}, (4, 1))):
        of = rates(of_timing=of_timing, stages={"decode": 30.0, "predict": 30.0})
        kind = placing.kind_of_run(of)
        assert placing.why_not(kind, of) is None
        found = place(kind, of)
        assert (found.workers, found.predictors) == held
        # And a video takes there what it took.
        assert mean(found) == pytest.approx(1.5, rel=0.02)


def test_more_workers_wait_longer_for_the_same_predictor() -> None:
    """0.2 s of a GPU for each video that takes 0.75 s to decode: five workers keep it busy."""
    of = rates(of_timing=GPU, stages={"decode": 30.0, "predict": 30.0})
    few, many = (place(node(gpus=1, cpus=cpus, memory_gib=512.0), of) for cpus in (4, 40))
    assert many.predictors == 1
    assert many.limit == "predictors"
    # 40 workers get an answer each 0.2 s: each gets one in 8 s, whatever decoding takes. Beside it
    # stands what a question of the run took beside waiting.
    assert mean(many) == pytest.approx(8.0, rel=0.08)
    assert mean(few) == pytest.approx(1.5, rel=0.02)


def test_predictors_that_could_not_tell_are_as_they_were() -> None:
    of = rates(of_timing={**GPU, "predictor_seconds": None}, stages={"predict": 30.0})
    assert mean(place(node(gpus=1, cpus=40), of)) == pytest.approx(1.5)


def test_parts_of_gpus_and_several() -> None:
    for each, gpus, held in ((0.25, 2, 8), (2.0, 5, 2), (0.3, 1, 3)):
        of = rates(of_timing={**GPU, "gpus_each": each}, stages={"predict": 30.0})
        assert place(node(gpus=gpus), of).predictors == held


@pytest.mark.parametrize(
    ("kind", "of_timing", "told"),
    [
        (node(gpus=1), {}, "has GPUs and the run used none"),
        (node(), GPU, "the run's predictors took 1 GPUs each: it has 0"),
        (node(memory_gib=2.0), {}, "each needs a CPU and 2.9 GiB"),
        (node(cpus=1), {**GPU, "gpus_each": 0.0}, "no worker fits beside a predictor"),
    ],
)
def test_why_a_node_cannot(kind: NodeKind, of_timing: dict[str, Any], told: str) -> None:
    assert told in str(placing.why_not(kind, rates(of_timing=of_timing)))
