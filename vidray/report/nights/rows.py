"""The rows of one set of labels as arrays, and what each night came to.

A night is a commit. Of nights whose files were compacted only the newest row of each video is
left, so their rows may be fewer than the videos that came in; the report that a night left says how
many these were.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from vidray.errors import PASSING_KINDS
from vidray.evaluation.drift import Masks
from vidray.evaluation.intervals import Floats, Integers
from vidray.report.runs import LabelHistory, number_in
from vidray.report.settings import ReportSettings

# Of jobs/label.py, where run.json does not say.
_MOST_ATTEMPTS = 3


@dataclass(frozen=True)
class Words:
    """A word of each of N rows, such as its label.

    Attributes:
        codes: ``int64 (N,)``: which of ``names``; -1 where there is none.
    """

    codes: Integers
    names: tuple[str, ...]

    def per_night(self, night: Integers, nights: int) -> Integers:
        """``int64 (nights, K)``: how many rows have each."""
        known = self.codes >= 0
        at = night[known] * len(self.names) + self.codes[known]
        counts = np.bincount(at, minlength=nights * len(self.names))
        return counts.reshape(nights, len(self.names))


def words(column: pa.ChunkedArray | pa.Array) -> Words:
    """A column of text as words; the names are sorted."""
    names = pc.unique(column).drop_null()
    names = names.take(pc.sort_indices(names))
    codes = pc.fill_null(pc.index_in(column, names), -1).to_numpy(zero_copy_only=False)
    return Words(codes.astype(np.int64), tuple(names.to_pylist()))


def floats(column: pa.ChunkedArray) -> Floats:
    """A column of numbers; NaN where there is none."""
    return np.asarray(column.cast(pa.float64()).to_numpy(), np.float64)


def recordings(table: pa.Table) -> pa.ChunkedArray:
    """The recording of each row; a file whose recording is unknown is one of its own."""
    return pc.coalesce(table["group"], table["uri"])


@dataclass(frozen=True, kw_only=True)
class NightRows:
    """The rows of a history, N of them, and which of its nights each is of.

    Attributes:
        numbers: of the nights' commits, the oldest first.
        night: ``int64 (N,)``: the place in ``numbers``.
        rows: those of the history.
    """

    history: LabelHistory
    numbers: Integers
    night: Integers

    @property
    def rows(self) -> pa.Table:
        """LABELS, as the history has them."""
        return self.history.rows

    @property
    def count(self) -> int:
        """How many nights there are."""
        return len(self.numbers)

    @cached_property
    def video(self) -> Integers:
        """``int64 (N,)``: a number for each video."""
        codes = self.rows["video_id"].combine_chunks().dictionary_encode().indices
        return np.asarray(codes.to_numpy(), np.int64)

    def has_status(self, status: str) -> Masks:
        """Whether a row is ``ok``, ``failed`` or ``skipped``."""
        same = pc.fill_null(pc.equal(self.rows["status"], status), False)
        return np.asarray(same.to_numpy(), np.bool_)

    @cached_property
    def attempts(self) -> Integers:
        """``int64 (N,)``: which attempt at this content it was, from 1."""
        return np.asarray(pc.fill_null(self.rows["attempts"], 1).to_numpy(), np.int64)

    @cached_property
    def is_new(self) -> Masks:
        """Whether it is the first row of its video, also where earlier ones were compacted."""
        is_first = np.zeros(len(self.video), np.bool_)
        is_first[np.unique(self.video, return_index=True)[1]] = True
        found: Masks = is_first & (self.attempts <= 1)
        return found

    @cached_property
    def next_night(self) -> Integers:
        """``int64 (N,)``: the night in which its video has its next row; ``count`` for none."""
        order = np.lexsort((self.night, self.video))
        after = np.full(len(order), self.count)
        is_same = self.video[order][1:] == self.video[order][:-1]
        after[:-1][is_same] = self.night[order][1:][is_same]
        found = np.empty_like(after)
        found[order] = after
        return found

    @property
    def is_newest(self) -> Masks:
        """Whether it is the row of its video that counts."""
        return np.asarray(self.next_night == self.count)

    @cached_property
    def kinds(self) -> Words:
        """Why a row failed."""
        failed = pa.array(self.has_status("failed"))
        kind = pc.fill_null(self.rows["error_kind"], "unknown")
        return words(pc.if_else(failed, kind, None))

    @cached_property
    def labels(self) -> Words:
        """The label that the model gave."""
        return words(pc.if_else(pa.array(self.has_status("ok")), self.rows["label"], None))

    @cached_property
    def recording(self) -> pa.ChunkedArray:
        """The recording of each row."""
        return recordings(self.rows)

    def report(self, night: int) -> Any:
        """run.json of a night; empty where it was not kept."""
        return self.history.nights.get(int(self.numbers[night]), {})

    def reported(self, *path: str) -> Floats:
        """``float64 (nights,)``: a number of the nights' reports; NaN where it is not kept."""
        found = [number_in(self.report(k), *path) for k in range(self.count)]
        return np.array([np.nan if value is None else value for value in found], np.float64)

    @cached_property
    def is_whole(self) -> Masks:
        """``bool (nights,)``: whether no row of the night is known to be gone."""
        came_in = self.reported("counts", "videos")
        return ~(came_in > np.bincount(self.night, minlength=self.count))

    @cached_property
    def dates(self) -> list[pd.Timestamp | None]:
        """When each night was committed."""
        at = self.rows["labelled_at"].to_pandas().groupby(self.night).max()
        return [None if pd.isna(value) else value for value in at.reindex(range(self.count))]

    def name(self, night: int) -> str:
        """A night in words: ``night 30 (2026-11-25)``."""
        date = self.dates[night]
        day = "" if date is None else f" ({date:%Y-%m-%d})"
        return f"night {self.numbers[night]}{day}"


def of_history(history: LabelHistory) -> NightRows | None:
    """The rows of a history by night; None where it has none."""
    if not len(history.rows):
        return None
    commits = np.asarray(pc.fill_null(history.rows["commit"], 0).to_numpy(), np.int64)
    numbers, night = np.unique(commits, return_inverse=True)
    return NightRows(history=history, numbers=numbers, night=night)


def per_night(found: NightRows, settings: ReportSettings) -> pd.DataFrame:
    """A row a night, the oldest first: what came in, what became of it, speed and cost."""
    counted = {
        name: _reported_or(found, ("counts", name), found.has_status(name))
        for name in ("ok", "failed", "skipped")
    }
    every = np.ones(len(found.rows), np.bool_)
    again = np.where(found.is_whole, _sums(found, ~found.is_new), np.nan)
    came_in = _reported_or(found, ("counts", "videos"), every)
    waiting, given_up = _left(found)
    hours = found.reported("hours_of_video")
    seconds = floats(found.rows["duration_seconds"])
    seconds = np.where(np.isfinite(seconds) & (seconds > 0), seconds, 0)
    of_rows = np.bincount(found.night, weights=seconds, minlength=found.count) / 3600
    hour_prices = {"cpu_seconds": settings.cpu_hour_price, "gpu_seconds": settings.gpu_hour_price}
    each = sum(
        found.reported("cost_per_thousand_videos", name) / 1000 * price / 3600
        for name, price in hour_prices.items()
    )
    return pd.DataFrame(
        {
            "night": found.numbers,
            "committed_at": pd.Series(found.dates, dtype="datetime64[us, UTC]"),
            "came_in": came_in,
            "new": came_in - again,
            "again": again,
            "labelled": counted["ok"],
            "failed": counted["failed"],
            "skipped": counted["skipped"],
            "failed_share": counted["failed"] / came_in,
            "waiting": waiting,
            "given_up": given_up,
            "hours_of_video": np.where(hours >= 0, hours, of_rows),
            "videos_per_second": found.reported("videos_per_second"),
            "working_seconds": found.reported("seconds", "working"),
            "cost": each * came_in,
        }
    )


def failures(found: NightRows) -> pd.DataFrame:
    """Columns ``night``, and one a kind of failure with how many videos failed so."""
    counts = found.kinds.per_night(found.night, found.count).astype(np.float64)
    frame = pd.DataFrame(counts, columns=list(found.kinds.names))
    for k in range(found.count):
        kinds = found.report(k).get("counts", {})
        kinds = kinds.get("error_kinds") if isinstance(kinds, dict) else None
        for kind in kinds if isinstance(kinds, dict) else ():
            # The rows of a compacted night are fewer than its failures.
            if (number := number_in(kinds, kind)) is not None and not found.is_whole[k]:
                frame.loc[k, kind] = number
    frame = frame.fillna(0)
    frame.insert(0, "night", found.numbers)
    return frame


def _reported_or(found: NightRows, path: tuple[str, str], rows: Masks) -> Floats:
    """The rows of a night that are still there, all of them; else what its report counts, which
    is never fewer.
    """
    there = _sums(found, rows)
    return np.where(found.is_whole, there, np.fmax(found.reported(*path), there))


def _sums(found: NightRows, rows: Masks) -> Floats:
    return np.bincount(found.night[rows], minlength=found.count).astype(np.float64)


def _left(found: NightRows) -> tuple[Integers, Integers]:
    """After each night: videos that wait for another attempt, and videos that were given up."""
    most = number_in(found.history.report, "config", "max_attempts") or _MOST_ATTEMPTS
    failed = found.has_status("failed")
    passes = pc.is_in(found.rows["error_kind"], pa.array(PASSING_KINDS)).to_numpy()
    waits = failed & passes & (found.attempts < most)

    def standing(rows: Masks) -> Integers:
        # A row stands from its night until the next row of its video.
        begun = np.bincount(found.night[rows], minlength=found.count + 1)
        ended = np.bincount(found.next_night[rows], minlength=found.count + 1)
        return np.cumsum(begun - ended)[: found.count]

    return standing(waits), standing(failed & ~waits)
