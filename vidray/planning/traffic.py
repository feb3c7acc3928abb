"""What a night reads, writes and asks of the storage, and what that costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from vidray.planning.rates import Rates
from vidray.planning.settings import PlanSettings
from vidray.storage import WHOLE_FILE_BYTES
from vidray.storage.buckets import BLOCK_BYTES
from vidray.tables.runs import videos_per_part

# Requests of one part beside its videos: a worker looks whether it, or the run, is gone (3), and
# the driver reads it to check and, of labels, once more to commit.
_READS_PER_PART, _NAMES_PER_LIST = 5, 1000


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Of one night, all of it in a bucket.

    Attributes:
        read_bytes: of videos; at most, since of large ones only the blocks that are needed come.
        reads: GET and HEAD requests.
        writes: PUT and LIST requests.
        table_bytes: that the table grows by.
        year_table_bytes: that a year of nights leaves.
        money: of reads, writes, egress and a month of what the night writes; those that the price
            file knows.
    """

    read_bytes: float
    reads: float
    writes: float
    table_bytes: float
    year_table_bytes: float
    money: Mapping[str, float]


def traffic_of(rates: Rates, settings: PlanSettings, prices: Mapping[str, float]) -> Traffic:
    """The traffic of a night of ``videos_per_day``."""
    videos = settings.videos_per_day
    size = rates.bytes_per_video
    parts = math.ceil(videos / videos_per_part(videos))
    # A file comes whole in one GET up to a size; then its length is asked for, and its blocks. When
    # it has been labelled, its fingerprint is asked for.
    gets = 1.0 if size < WHOLE_FILE_BYTES else 1 + math.ceil(size / BLOCK_BYTES)
    reads = videos * (gets + 1) + parts * _READS_PER_PART
    writes = parts + 3 + math.ceil(videos * settings.days_kept / _NAMES_PER_LIST)
    read_bytes, table_bytes = videos * size, videos * rates.table_bytes
    amounts = {
        "egress": read_bytes / 1e9,
        "read": reads / 1000,
        "write": writes / 1000,
        "storage": table_bytes / 1e9,
    }
    return Traffic(
        read_bytes=read_bytes,
        reads=reads,
        writes=writes,
        table_bytes=table_bytes,
        year_table_bytes=365 * table_bytes,
        money={name: amounts[name] * price for name, price in prices.items()},
    )
