"""The videos of a listing that are left to label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidray import errors

# Columns of LABELS that say whether a video is done.
STATE = ("video_id", "fingerprint", "status", "error_kind", "attempts", "cap", "cap_value")
# Rows of several stretches share the URI of their file.
ORDER = [("uri", "ascending"), ("video_id", "ascending")]


@dataclass(frozen=True)
class Todo:
    """The videos of a listing that are left to label, and counts of all."""

    plan: pa.Table
    """Rows to label: VIDEOS with ``true_label`` for ``label``, and ``attempts``, this one too."""
    counts: dict[str, int]
    """Videos that are new, changed, retried; unchanged, quarantined (failed for good), gone (no
    longer listed; their labels stay)."""
    last_commit: int
    """The newest commit it takes into account."""
    seconds: float = 0.0
    """Time that listing and comparing took, where it was measured."""

    @property
    def num_listed(self) -> int:
        """The number of videos that were listed."""
        return sum(number for kind, number in self.counts.items() if kind != "gone")


def left_to_do(
    videos: pa.Table,
    before: pa.Table,
    *,
    last_commit: int,
    max_attempts: int,
    caps: Mapping[str, float],
) -> Todo:
    """Compare a listing with what is committed.

    Args:
        videos: VIDEOS.
        before: ``STATE`` of the newest row of each video that is committed.
        last_commit: the newest one that ``before`` takes account of.
        max_attempts: a video that failed as often with the same content is left alone, unless
            it was over a cap that has risen since.
        caps: current values by name; rows name the cap they were over.
    """
    # Only what is compared is joined: a million videos with all their columns are 0.2 GB more.
    both = (
        videos.select(["video_id", "fingerprint"])
        .append_column("row", pa.array(np.arange(len(videos))))
        .join(before, "video_id", right_suffix="_before", join_type="left outer")
    )
    is_new = pc.is_null(both["fingerprint_before"])
    is_same = pc.fill_null(pc.equal(both["fingerprint"], both["fingerprint_before"]), False)
    has_failed = pc.and_(is_same, pc.fill_null(pc.equal(both["status"], "failed"), False))
    is_retried = pc.and_(has_failed, _may_succeed(both, max_attempts, caps))
    attempts = pc.if_else(is_retried, pc.add(both["attempts"], 1), 1).cast(pa.int32())
    wanted = pc.or_(pc.invert(is_same), is_retried)
    plan = videos.take(both["row"].filter(wanted)).rename_columns(
        ["true_label" if name == "label" else name for name in videos.column_names]
    )
    plan = plan.append_column("attempts", attempts.filter(wanted)).sort_by(ORDER)
    still_there = pc.is_in(before["video_id"], videos["video_id"].combine_chunks())
    counts = {
        "new": _true(is_new),
        "changed": len(videos) - _true(is_new) - _true(is_same),
        "retried": _true(is_retried),
        "unchanged": _true(is_same) - _true(has_failed),
        "quarantined": _true(has_failed) - _true(is_retried),
        "gone": len(before) - _true(still_there),
    }
    return Todo(plan, counts, last_commit)


def _may_succeed(rows: pa.Table, max_attempts: int, caps: Mapping[str, float]) -> pa.Array:
    """Whether a video that failed may not fail now: it has tries left, or is below a cap again."""
    may_pass = pc.is_in(rows["error_kind"], pa.array(errors.PASSING_KINDS))
    has_tries = pc.less(pc.fill_null(rows["attempts"], 0), max_attempts)
    return pc.or_(pc.and_(may_pass, has_tries), _is_below(rows, caps))


def _is_below(rows: pa.Table, caps: Mapping[str, float]) -> pa.Array:
    """Whether the cap that a video was over is higher now."""
    found = pa.array(np.zeros(len(rows), bool))
    for name, value in caps.items():
        has_risen = pc.and_(pc.equal(rows["cap"], name), pc.less(rows["cap_value"], float(value)))
        found = pc.or_(found, pc.fill_null(has_risen, False))
    return found


def _true(flags: Any) -> int:
    return int(pc.sum(flags.cast(pa.int64())).as_py() or 0)
