"""Sums and bounds, by hand."""

import numpy as np
import pytest

from vidray.planning import bounds
from vidray.planning.night import Cluster, NightWork

# A thousand videos of 1 or 3 seconds, in 63 parts of 16, each of which takes 0.8 seconds more.
WORK = NightWork(
    videos=1000,
    seconds=np.array([1.0, 3.0]),
    shares=np.array([0.75, 0.25]),
    part_seconds=0.8,
    gap_seconds=0.5,
)


def test_a_video_takes_its_mean_and_its_share_of_a_part() -> None:
    assert WORK.videos_per_part == 16
    assert bounds.mean_seconds(WORK) == pytest.approx(1.5 + 0.8 / 16)


def test_the_least_is_all_work_by_all_workers() -> None:
    cluster = Cluster(nodes=2, workers_per_node=2)
    blocks = len(WORK.block_parts(4))
    assert bounds.least_seconds(WORK, cluster) == pytest.approx((1550 + blocks * 0.5) / 4)


def test_slow_nodes_do_less_in_the_same_time() -> None:
    """Half of the nodes at half speed do three quarters of the work of all at full speed."""
    plain, slow = (
        bounds.least_seconds(
            NightWork(videos=1000, seconds=WORK.seconds, shares=WORK.shares),
            Cluster(nodes=2, workers_per_node=1, slow_share=share, slow_times=2.0),
        )
        for share in (0.0, 0.5)
    )
    assert slow == pytest.approx(plain / 0.75)


def test_the_most_has_the_longest_block_at_the_end() -> None:
    cluster = Cluster(nodes=1, workers_per_node=2, worker_starts=(0.0, 1.5))
    longest = WORK.block_parts(2).max() * (16 * 3.0 + 0.8) + 0.5
    least = bounds.least_seconds(WORK, cluster)
    assert bounds.most_seconds(WORK, cluster) == pytest.approx(least + longest / 2 + 1.5)


def test_workers_that_are_needed() -> None:
    one = Cluster(nodes=1, workers_per_node=1)
    whole = bounds.least_seconds(WORK, one)
    assert bounds.workers_needed(WORK, whole, one) == 1
    assert bounds.workers_needed(WORK, whole / 7.5, one) == 8
    # Lost once an hour: half a part (12.4 s) and a minute of waiting each time.
    lost = Cluster(nodes=1, workers_per_node=1, losses_per_hour=1.0, start_seconds=60.0)
    assert bounds.redone_share(WORK, lost) == pytest.approx((24.8 / 2 + 60) / 3600)
    assert bounds.workers_needed(WORK, whole / 100, lost) == 103
