"""What one process does for all: list, compare, check, commit. Rehearsed here, since a small run
says little of it: its seconds are mostly those that any run takes.

Rows like those of the run are listed, checked, committed and compared in a folder of this machine,
by the job's own functions, at two sizes: the difference is what a row takes. What is left of the
run's own seconds is what any night takes. In a bucket the waits for its answers are added.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from vidray import storage
from vidray.labelling import commit_files
from vidray.labelling.commits import LabelSet
from vidray.planning.rates import Rates, newest_commit
from vidray.sources import list_videos
from vidray.storage import join
from vidray.tables import run_folder, schema
from vidray.tables.runs import Run, videos_per_part

# Rows of a small and a large rehearsal; so often each. It takes some 10 seconds in all.
SIZES, ROUNDS = (500, 8_000), 3
_MOST_SAMPLED = 1_000
# Names in one answer of a bucket, and parts that the driver reads at once (``Run.check``).
_NAMES_PER_LIST, _AT_ONCE = 1_000, 16
_DIGEST = "plan"


@dataclass(frozen=True, kw_only=True)
class Line:
    """Seconds that grow with a number: ``fixed + each * number``; ``each`` with its range."""

    fixed: float
    each: float
    low: float
    high: float

    def at(self, number: float, each: float | None = None) -> float:
        """Seconds for a number."""
        return self.fixed + (self.each if each is None else each) * number


@dataclass(frozen=True, kw_only=True)
class Driver:
    """What one driver takes.

    Attributes:
        listing: seconds, by listed videos.
        comparing: seconds, by listed videos with as many labels.
        checking: seconds, by the videos of a night.
        committing: seconds, by the videos of a night.
        commit_bytes: memory while labels are committed, for each video of a night.
        compare_bytes: memory while a listing is compared, for each video of it.
    """

    listing: Line
    comparing: Line
    checking: Line
    committing: Line
    commit_bytes: float
    compare_bytes: float

    def before(self, listed: float) -> float:
        """Seconds until the night's videos are known."""
        return self.listing.at(listed) + self.comparing.at(listed)

    def after(self, videos: float) -> float:
        """Seconds from the last part to the labels that readers see."""
        return self.checking.at(videos) + self.committing.at(videos)

    def bytes(self, videos: float, listed: float) -> float:
        """The most memory it needs in a night."""
        return max(self.commit_bytes * videos, self.compare_bytes * listed)

    def drawn(self, draws: np.random.Generator) -> Driver:
        """The same with rates drawn from their ranges."""

        def draw(line: Line) -> Line:
            each = float(draws.uniform(line.low, line.high))
            return Line(fixed=line.fixed, each=each, low=line.low, high=line.high)

        lines = (self.listing, self.comparing, self.checking, self.committing)
        listing, comparing, checking, committing = map(draw, lines)
        return Driver(
            listing=listing, comparing=comparing, checking=checking, committing=committing,
            commit_bytes=self.commit_bytes, compare_bytes=self.compare_bytes,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Rehearsed:
    """Seconds of one rehearsal, and memory for each row."""

    listing: float
    comparing: float
    checking: float
    committing: float
    commit_bytes: float
    compare_bytes: float


def rehearse(rates: Rates, out: str) -> Driver:
    """The rates of one driver for runs like this one; ``out`` is its folder."""
    rows = _sample(rates, out)
    found = {size: [_once(rows, size) for _ in range(ROUNDS)] for size in reversed(SIZES)}
    answer = _answer_seconds(out) if storage.is_bucket(out) else 0.0
    per_part = answer / _AT_ONCE / videos_per_part(max(SIZES))
    checking = _line(found, "checking", per_part, rates.checking_seconds, rates.videos)
    listing = _line(
        found, "listing", answer / _NAMES_PER_LIST, rates.listing_seconds or 0.0, rates.listed
    )
    is_label = rates.kind == "label"
    largest = found[max(SIZES)]
    return Driver(
        listing=listing,
        comparing=_line(found, "comparing", 0.0, 0.0, 1) if is_label else _NOTHING,
        checking=checking,
        committing=(
            _line(found, "committing", per_part, rates.committing_seconds, rates.videos)
            if is_label
            else _NOTHING
        ),
        commit_bytes=max(one.commit_bytes for one in largest) if is_label else 0.0,
        compare_bytes=max(one.compare_bytes for one in largest),
    )


_NOTHING = Line(fixed=0.0, each=0.0, low=0.0, high=0.0)


def _line(
    found: dict[int, list[_Rehearsed]], name: str, more: float, measured: float, number: int
) -> Line:
    """The line of what was rehearsed; ``more`` for each is added, the run's own gives the rest."""
    small, large = SIZES
    slopes = [
        max(0.0, (getattr(b, name) - getattr(a, name)) / (large - small)) + more
        for a, b in zip(found[small], found[large], strict=True)
    ]
    each = statistics.median(slopes)
    return Line(
        fixed=max(0.0, measured - each * number), each=each, low=min(slopes), high=max(slopes)
    )


def _sample(rates: Rates, out: str) -> pa.Table:
    """Some rows of LABELS: the run's own, or such as a table without labels has."""
    if rates.kind != "label":
        made = {"status": "ok", "config_digest": _DIGEST, "attempts": 1}
        return pa.Table.from_pylist([_named(made, 0)], schema.LABELLED)
    newest = newest_commit(out, run_folder.read_json(out))
    rows = commit_files.read(newest, schema.LABELLED.names)
    if not len(rows):
        raise storage.damaged(newest.uri, "it holds no rows")
    return rows.slice(0, _MOST_SAMPLED)


def _named(row: dict[str, object], number: int) -> dict[str, object]:
    return {**row, "video_id": f"{number}", "uri": f"/{number}", "fingerprint": "f"}


def _tiled(rows: pa.Table, number: int) -> pa.Table:
    """So many rows, each of its own video."""
    found = rows.take(np.arange(number) % len(rows))
    for name, values in {
        "video_id": [f"{k:016x}" for k in range(number)],
        "uri": [f"/videos/{k:09}.mp4" for k in range(number)],
        "fingerprint": ["f" * 16] * number,
        "config_digest": [_DIGEST] * number,
    }.items():
        at = schema.LABELLED.get_field_index(name)
        found = found.set_column(at, schema.LABELLED.field(at), pa.array(values))
    return found.cast(schema.LABELLED)


def _once(rows: pa.Table, number: int) -> _Rehearsed:
    """One rehearsal with so many videos, in a folder that is removed."""
    tiled = _tiled(rows, number)
    with tempfile.TemporaryDirectory(prefix="vidray-plan-") as folder:
        videos = _files(Path(folder) / "videos", number)
        listing = _seconds(lambda: list_videos(videos))
        labels = LabelSet(out=join(folder, "labels"), name="rehearsed")
        plan = _plan_of(tiled)
        todo = labels.todo(plan, max_attempts=1)
        run = labels.new_run("/videos", _DIGEST)
        labels.claim(run, todo, {})
        _write_parts(run, tiled)
        checking = _seconds(lambda: run.check(todo.plan))
        commit_bytes, committing = _measured(lambda: labels.commit(run, model_digest="m"))
        compare_bytes, comparing = _measured(lambda: labels.todo(plan, max_attempts=1))
    return _Rehearsed(
        listing=listing,
        comparing=comparing,
        checking=checking,
        committing=committing,
        commit_bytes=commit_bytes / number,
        compare_bytes=(compare_bytes + plan.nbytes) / number,
    )


def _plan_of(rows: pa.Table) -> pa.Table:
    """VIDEOS of rows of LABELS."""
    sizes = pa.array(np.ones(len(rows), np.int64))
    columns = {name: rows[name] for name in schema.VIDEOS.names if name in rows.column_names}
    columns |= {"size_bytes": sizes, "label": rows["true_label"]}
    return pa.table([columns[name] for name in schema.VIDEOS.names], schema=schema.VIDEOS)


def _files(folder: Path, number: int) -> str:
    """A folder of so many empty files, which a listing takes for videos."""
    folder.mkdir()
    for k in range(number):
        (folder / f"{k:09}.mp4").touch()
    return str(folder)


def _write_parts(run: Run, rows: pa.Table) -> None:
    size = videos_per_part(len(rows))
    for part, begin in enumerate(range(0, len(rows), size)):
        run.write_part(part, rows.slice(begin, size))


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _measured(work: Callable[[], object]) -> tuple[float, float]:
    """Bytes that Arrow holds at once above what it held before, and seconds."""
    whole = pa.default_memory_pool()
    # A pool knows its highest mark ever, of whatever this process did before: this one is new.
    pool = pa.proxy_memory_pool(whole)
    pa.set_memory_pool(pool)
    try:
        seconds = _seconds(work)
    finally:
        pa.set_memory_pool(whole)
    return float(pool.max_memory() or 0), seconds


def _answer_seconds(out: str) -> float:
    """Median seconds until a bucket answers."""
    where = join(out, run_folder.RUN)
    return statistics.median(_seconds(lambda: storage.read_bytes(where)) for _ in range(5))
