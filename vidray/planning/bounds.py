"""What can be said of a night without simulating it: sums, and bounds that hold of any order."""

from __future__ import annotations

import numpy as np

from vidray.planning.night import Cluster, NightWork


def mean_seconds(work: NightWork) -> float:
    """Mean seconds of a worker for one video, its share of a part's and a block's own included.

    A block has at least one part, so of its wait this is the most.
    """
    beside = work.part_seconds / work.videos_per_part
    return float(work.seconds @ work.shares) + beside


def least_seconds(work: NightWork, cluster: Cluster) -> float:
    """Mean working seconds where all workers begin at once, end at once and none is lost.

    The work that there is, divided by all that can do it (conservation of work).
    """
    blocks = len(work.block_parts(cluster.workers))
    slowed = 1 / (1 - cluster.slow_share + cluster.slow_share / cluster.slow_times)
    whole = work.videos * mean_seconds(work) * slowed + blocks * work.gap_seconds
    return whole / cluster.workers


def most_seconds(work: NightWork, cluster: Cluster) -> float:
    """A bound on the mean working seconds without losses and slow nodes, whatever the order.

    Who hands out blocks as workers become free needs at most the work divided by the workers, and
    ``1 - 1/workers`` of the longest block (Graham, 1966). Of blocks drawn, the longest is taken as
    one of the most parts whose every video is the slowest.
    """
    parts = work.block_parts(cluster.workers)
    longest = parts.max() * (work.videos_per_part * work.seconds.max() + work.part_seconds)
    rest = (1 - 1 / cluster.workers) * (longest + work.gap_seconds)
    return least_seconds(work, cluster) + float(rest) + max(cluster.worker_starts)


def redone_share(work: NightWork, cluster: Cluster) -> float:
    """Share of the work that is done again, for few losses: half a part of each worker, each time.

    And the share of a node's time in which it is replaced.
    """
    per_second = cluster.losses_per_hour / 3600
    part = work.videos_per_part * float(work.seconds @ work.shares) + work.part_seconds
    return per_second * (part / 2 + cluster.start_seconds + float(np.mean(cluster.worker_starts)))


def workers_needed(work: NightWork, seconds: float, cluster: Cluster) -> int:
    """The workers of a cluster like this that could do the work in so many seconds, if all went
    well; the simulation needs as many at least.
    """
    one = least_seconds(
        work,
        Cluster(
            nodes=1,
            workers_per_node=1,
            slow_share=cluster.slow_share,
            slow_times=cluster.slow_times,
        ),
    )
    return max(1, int(np.ceil(one * (1 + redone_share(work, cluster)) / seconds)))
