"""How a job deals its parts out in blocks, one Ray task each: arithmetic only. No Ray here, so that
a plan (``vidray.planning``) deals as the job does.
"""

from __future__ import annotations

import math

# Ray Data looks for finished tasks every 100 ms and leaves a worker idle for 160 ms after each, so
# tasks of some seconds; the last ones are shorter, or workers would wait for one another.
_VIDEOS_PER_BLOCK = 64
_LAST_BLOCKS_PER_WORKER = 4
SECONDS_PER_BLOCK = 0.01  # Of the driver, which does one after another.
_MOST_BLOCKS = 4000


def cuts(parts: int, videos_per_part: int, workers: int) -> list[int]:
    """The part with which each block begins, and at the end the number of parts.

    Blocks are of so many parts that they hold 64 videos, then of ever fewer, as work runs out.

    Args:
        parts: at least 1.
        videos_per_part: in a full one.
        workers: that take blocks at once.
    """
    most = max(1, _VIDEOS_PER_BLOCK // videos_per_part, math.ceil(parts / _MOST_BLOCKS))
    found = [0]
    while found[-1] < parts:
        left = parts - found[-1]
        found.append(found[-1] + min(most, max(1, left // (_LAST_BLOCKS_PER_WORKER * workers))))
    return found
