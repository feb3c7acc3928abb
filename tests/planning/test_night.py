"""The simulated night, against nights worked out by hand and against queueing arithmetic."""

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vidray.distributed import dealing
from vidray.planning import bounds
from vidray.planning.night import Cluster, NightWork, Worked, asked_seconds, simulate


def work(videos: int, *seconds: float, **more: Any) -> NightWork:
    """Videos that each take one of these seconds, all as often."""
    shares = np.full(len(seconds), 1 / len(seconds))
    return NightWork(videos=videos, seconds=np.array(seconds), shares=shares, **more)


def night(of: NightWork, nodes: int, workers: int, seed: int = 0, **more: Any) -> Worked:
    cluster = Cluster(nodes=nodes, workers_per_node=workers, **more)
    return simulate(of, cluster, np.random.default_rng(seed))


def test_one_worker_takes_the_sum() -> None:
    found = night(work(10, 2.0, part_seconds=0.5, gap_seconds=0.25), 1, 1)
    blocks = len(dealing.cuts(10, 1, 1)) - 1
    assert found.blocks == blocks
    each = 0.25 + dealing.SECONDS_PER_BLOCK
    assert found.seconds == pytest.approx(10 * 2.5 + blocks * each)
    assert found.busy_seconds == pytest.approx(25.0)


def test_two_workers_by_hand() -> None:
    """Three videos of 4 seconds are three blocks: one worker does two of them."""
    assert work(3, 4.0).block_parts(2).tolist() == [1, 1, 1]
    found = night(work(3, 4.0), 1, 2)
    # The driver hands out at 0 and 0.01; the first is free again at 4.01.
    assert found.seconds == pytest.approx(8.02)


def test_the_second_worker_may_begin_later() -> None:
    """Two blocks of 4 seconds: the second is begun at once, or 3 seconds later, as it is drawn."""
    ends = {round(night(work(2, 4.0), 1, 2, s, worker_starts=(0.0, 3.0)).seconds) for s in range(9)}
    assert ends == {4, 7}


def test_the_driver_hands_out_one_block_after_another() -> None:
    """64 blocks of ten videos of no length, on 640 workers: a hundredth of a second each."""
    assert night(work(640, 0.0), 64, 10).seconds == pytest.approx(0.64)


def test_a_slow_node_takes_as_many_times_as_long() -> None:
    slow = night(work(6, 2.0), 1, 1, slow_share=1.0, slow_times=3.0)
    assert slow.seconds == pytest.approx(6 * 6.0 + slow.blocks * dealing.SECONDS_PER_BLOCK)


def test_work_is_conserved() -> None:
    """Who is never lost does every video once: busy seconds are those of the videos."""
    for seed, (nodes, workers) in itertools.product(range(3), [(1, 1), (2, 2), (5, 3)]):
        of = work(300, 1.0, 2.0, 6.0)
        found = night(of, nodes, workers, seed)
        seconds = of.block_seconds(of.block_parts(nodes * workers), np.random.default_rng(seed))
        assert found.busy_seconds == pytest.approx(sum(seconds))
        assert found.seconds * nodes * workers >= found.busy_seconds
        assert (found.lost_seconds, found.lost_nodes) == (0.0, 0)


@pytest.mark.parametrize(("nodes", "workers"), [(1, 1), (1, 2), (3, 4), (20, 8)])
def test_a_night_lies_between_its_bounds(nodes: int, workers: int) -> None:
    of = work(2000, 0.5, 1.0, 1.5, gap_seconds=0.2, part_seconds=0.1)
    cluster = Cluster(nodes=nodes, workers_per_node=workers, worker_starts=(0.0, 1.0))
    draws = np.random.default_rng(1)
    mean = np.mean([simulate(of, cluster, draws).seconds for _ in range(20)])
    assert bounds.least_seconds(of, cluster) <= mean * 1.01
    handing = len(of.block_parts(cluster.workers)) * dealing.SECONDS_PER_BLOCK
    assert mean <= bounds.most_seconds(of, cluster) + handing


def test_a_lost_node_costs_its_unfinished_parts_and_its_return() -> None:
    """One node, lost about every 50 seconds of a night of 400: finished parts are kept."""
    of = work(200, 2.0)
    nights = [night(of, 1, 1, s, losses_per_hour=72.0, start_seconds=5.0) for s in range(40)]
    for found in nights:
        # What is done again comes on top of the work, and nothing else does.
        assert found.busy_seconds == pytest.approx(400 + found.lost_seconds)
        # A part is one video of 4: a loss costs less than one, and five seconds of waiting.
        assert found.lost_seconds <= 8.0 * found.lost_nodes
        assert found.seconds >= 400 + 5.0 * found.lost_nodes
    lost = np.mean([found.lost_nodes for found in nights])
    # Losses come while the node lives: 1/50 a second, in 400 s and what is done again.
    busy = np.mean([found.busy_seconds for found in nights])
    assert lost == pytest.approx(busy / 50, rel=0.2)


def test_no_block_is_forgotten_when_nodes_are_lost_all_the_time() -> None:
    of = work(64, 3.0)
    found = night(of, 4, 2, losses_per_hour=600.0, start_seconds=1.0)
    assert found.lost_nodes > 3
    assert found.busy_seconds == pytest.approx(64 * 3.0 + found.lost_seconds)


def test_nights_of_one_seed_are_the_same_and_of_others_differ() -> None:
    of = work(500, 1.0, 5.0, measured=100)
    more = {"losses_per_hour": 20.0, "slow_share": 0.2, "slow_times": 2.0, "start_seconds": 9.0}
    assert night(of, 3, 2, 5, **more) == night(of, 3, 2, 5, **more)
    assert night(of, 3, 2, 5, **more) != night(of, 3, 2, 6, **more)


def test_few_measured_videos_leave_a_night_less_certain() -> None:
    def spread(measured: int) -> float:
        of = work(20_000, 1.0, 3.0, measured=measured)
        return float(np.std([night(of, 4, 2, seed).seconds for seed in range(30)]))

    # Of n videos the mean is uncertain by 1/sqrt(n) of a deviation: 1 s of 2 here.
    seconds = 20_000 / 8
    assert spread(25) == pytest.approx(seconds / 5, rel=0.4)
    assert spread(2500) == pytest.approx(seconds / 50, rel=0.6)
    assert spread(0) < seconds / 50


# Predictors


def _exponential(mean: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A thousand equally likely values of an exponential distribution."""
    shares = np.full(1000, 1e-3)
    values = -np.log1p(-(np.arange(1000) + 0.5) / 1000)
    return mean * values / values.mean(), shares


def _always(seconds: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.array([seconds]), np.ones(1)


def test_who_asks_alone_waits_for_nobody() -> None:
    found = asked_seconds(_always(1.0), 0.25, 1, 1, np.random.default_rng(0))
    assert found == pytest.approx(0.25)


def test_a_predictor_that_cannot_follow_sets_the_pace() -> None:
    """Ten workers that decode for 1 s ask one predictor that takes 0.5: each round takes 5 s."""
    found = asked_seconds(_always(1.0), 0.5, 10, 1, np.random.default_rng(0))
    assert found == pytest.approx(10 * 0.5 - 1.0, rel=0.01)


@pytest.mark.slow
def test_many_workers_are_as_random_arrivals_at_one_server() -> None:
    """M/D/1: at 60 % of its time busy the mean wait is 0.6 / (2 * 0.4) services (Pollaczek)."""
    workers, service, busy = 300, 0.01, 0.6
    thinking = workers * service / busy  # by each, in the mean; the answer's time is little beside
    found = asked_seconds(
        _exponential(thinking), service, workers, 1, np.random.default_rng(2), videos=60_000
    )
    assert found == pytest.approx(service * (1 + busy / (2 * (1 - busy))), rel=0.06)


def test_two_predictors_share_what_one_could_not_do() -> None:
    one, two = (
        asked_seconds(_exponential(1.0), 0.3, 6, number, np.random.default_rng(0))
        for number in (1, 2)
    )
    assert 0.3 < two < 0.7 * one
