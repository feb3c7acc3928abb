"""Labels committed by vidray, Delta Lake, Lance and Iceberg: seconds, memory, what readers see.

    pip install deltalake pylance "pyiceberg[sql-sqlite]"
    python bench/table_formats.py                  # a million labels in 16 commits
    python bench/table_formats.py --rows 100000

For each: a commit of all labels, fifteen of a thousand, what a night with nothing new reads (the
state of every video) and compaction. Then what a reader of plain Parquet finds after compaction,
after a writer died before its commit, and after two writers that looked at the same moment have
committed the same thousand videos.
"""

# ruff: noqa: D102  (``Way`` explains its methods)

from __future__ import annotations

import datetime
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import duckdb
import numpy as np
import pyarrow as pa
import tyro

from vidray import memory, storage
from vidray.labelling import commit_files, commits
from vidray.labelling.commits import LabelSet
from vidray.storage import names
from vidray.tables import schema

_COLUMNS = ["video_id", "fingerprint", "status", "error_kind", "attempts", "commit"]
_NIGHTS, _NEW = 15, 1_000


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Commit labels in several table formats."""

    rows: int = 1_000_000
    """Rows of the first commit."""
    runs: int = 3
    """Times the state is read; the median is printed."""
    only: str = ""
    """Run one way only, in this process."""
    folder: str = ""
    """Folder that ``only`` writes."""


class Way(Protocol):
    """A table of labels."""

    def append(self, rows: pa.Table) -> None:
        """Commit."""

    def state(self) -> pa.Table:
        """The rows of the newest commits that are compared with a listing."""

    def compact(self) -> None:
        """Merge many files into one."""

    def die(self, rows: pa.Table) -> None:
        """Do all of a commit but the last request."""

    def race(self, rows: pa.Table) -> None:
        """Two writers look, then both commit these rows."""


class Vidray:
    """One Parquet file a commit, written under a condition."""

    def __init__(self, folder: str) -> None:
        self._labels = LabelSet(out=folder, name="bench-0")

    def append(self, rows: pa.Table) -> None:
        self._write(self._next(), rows)

    def _next(self) -> int:
        return max((commit.last for commit in self._labels.commits()), default=0) + 1

    def _write(self, number: int, rows: pa.Table) -> bool:
        name = f"commit-{number:06d}.parquet"
        where = storage.join(self._labels.out, "labels", "set=bench-0", name)
        return storage.write_once(where, commit_files.to_bytes(rows, [names.new_token()]))

    def state(self) -> pa.Table:
        return commits.read_labels(self._labels.out, columns=_COLUMNS)

    def compact(self) -> None:
        assert self._labels.compact()

    def die(self, rows: pa.Table) -> None:
        """Nothing of a commit is there before its last request: parts lie in a hidden folder."""
        part = storage.join(self._labels.out, "_runs", "set=bench-0", "a", "part-0.parquet")
        storage.write_bytes(part, commit_files.to_bytes(rows, [names.new_token()]))

    def race(self, rows: pa.Table) -> None:
        """The second one is handed the run of the first, and finds it committed."""
        sizes = pa.array(np.ones(len(rows), np.int64))
        videos = rows.append_column("size_bytes", sizes).select(schema.VIDEOS.names)
        plans = [self._labels.todo(videos, max_attempts=3) for _ in range(2)]
        runs = [self._labels.new_run("/videos", "0" * 12) for _ in range(2)]
        claimed = [self._labels.claim(r, p, {}) for r, p in zip(runs, plans, strict=True)]
        for run in claimed:
            assert run is not None
            if run.is_there():
                run.write_part(0, rows.select(schema.LABELLED.names))
            self._labels.commit(run, model_digest="0" * 12)


class Delta:
    """Delta Lake, by ``deltalake``."""

    def __init__(self, folder: str) -> None:
        self._folder = f"{folder}/table"

    def _table(self) -> Any:
        from deltalake import DeltaTable

        return DeltaTable(self._folder)

    def _append(self, where: Any, rows: pa.Table) -> None:
        from deltalake import write_deltalake

        write_deltalake(where, rows, mode="append")

    def append(self, rows: pa.Table) -> None:
        self._append(self._folder, rows)

    def state(self) -> pa.Table:
        return self._table().to_pyarrow_table(columns=_COLUMNS)

    def compact(self) -> None:
        self._table().optimize.compact()

    def die(self, rows: pa.Table) -> None:
        self.append(rows)
        max(Path(self._folder, "_delta_log").glob("*.json")).unlink()

    def race(self, rows: pa.Table) -> None:
        first, second = self._table(), self._table()
        self._append(first, rows)
        self._append(second, rows)


class DeltaMerge(Delta):
    """Delta Lake, but what is committed is compared with what is there: two writers conflict."""

    def append(self, rows: pa.Table) -> None:
        if Path(self._folder).exists():
            self._merge(self._table(), rows)
        else:
            super().append(rows)

    def _merge(self, table: Any, rows: pa.Table) -> None:
        same = "old.video_id = new.video_id"
        merger = table.merge(rows, same, source_alias="new", target_alias="old")
        merger.when_matched_update_all().when_not_matched_insert_all().execute()

    def race(self, rows: pa.Table) -> None:
        first, second = self._table(), self._table()
        self._merge(first, rows)
        _tried(lambda: self._merge(second, rows))


class Lance:
    """Lance, by ``pylance``."""

    def __init__(self, folder: str) -> None:
        self._folder = f"{folder}/table.lance"

    def append(self, rows: pa.Table) -> None:
        import lance

        lance.write_dataset(rows, self._folder, mode="append" if self._is_there() else "create")

    def _is_there(self) -> bool:
        return Path(self._folder).exists()

    def state(self) -> pa.Table:
        import lance

        return lance.dataset(self._folder).to_table(columns=_COLUMNS)

    def compact(self) -> None:
        import lance

        lance.dataset(self._folder).optimize.compact_files()

    def die(self, rows: pa.Table) -> None:
        import lance

        lance.fragment.write_fragments(rows, self._folder)

    def race(self, rows: pa.Table) -> None:
        import lance

        first, second = lance.dataset(self._folder), lance.dataset(self._folder)
        lance.write_dataset(rows, first, mode="append")
        lance.write_dataset(rows, second, mode="append")


class Iceberg:
    """Iceberg, by ``pyiceberg`` with a catalog in SQLite: it needs one beside the bucket."""

    def __init__(self, folder: str) -> None:
        from pyiceberg.catalog.sql import SqlCatalog

        self._catalog = SqlCatalog(
            "bench", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}/table"
        )
        self._catalog.create_namespace_if_not_exists("bench")

    def _table(self) -> Any:
        return self._catalog.load_table("bench.labels")

    def append(self, rows: pa.Table) -> None:
        self._catalog.create_table_if_not_exists("bench.labels", rows.schema).append(rows)

    def state(self) -> pa.Table:
        return self._table().scan(selected_fields=tuple(_COLUMNS)).to_arrow()

    def compact(self) -> None:
        """It has no compaction: all is read and written again."""
        table = self._table()
        table.overwrite(table.scan().to_arrow())

    def die(self, rows: pa.Table) -> None:
        table = self._table()

        def dies(*_: object, **__: object) -> None:
            raise ConnectionError

        table._do_commit = dies
        try:
            table.append(rows)
        except ConnectionError:
            return
        raise AssertionError("it did not die")

    def race(self, rows: pa.Table) -> None:
        first, second = self._table(), self._table()
        first.append(rows)
        _tried(lambda: second.append(rows))


_WAYS: dict[str, Callable[[str], Way]] = {
    "vidray": Vidray, "delta": Delta, "delta-merge": DeltaMerge, "lance": Lance,
    "iceberg": Iceberg,
}  # fmt: skip


def main(bench: Bench) -> None:
    """Each way in a process of its own, for its memory."""
    if bench.only:
        _measure(_WAYS[bench.only](bench.folder), bench)
        return
    for name in _WAYS:
        with tempfile.TemporaryDirectory() as folder:
            print(name, flush=True)
            flags = ["--rows", str(bench.rows), "--runs", str(bench.runs)]
            given = ["--only", name, "--folder", folder, *flags]
            # Not checked: Delta's library aborts at its end.
            subprocess.run([sys.executable, __file__, *given], check=False)


def _measure(way: Way, bench: Bench) -> None:
    rows = _labels(bench.rows, 0, 1)
    _print_cost("first commit", lambda: way.append(rows))
    nights = [_labels(_NEW, bench.rows + k * _NEW, k + 2) for k in range(_NIGHTS)]
    _print_cost(f"{_NIGHTS} commits of {_NEW}", lambda: list(map(way.append, nights)))
    expected = bench.rows + _NIGHTS * _NEW
    found = statistics.median(_seconds(lambda: _check(way, expected)) for _ in range(bench.runs))
    print(
        f"  state of all: {found:.2f} s, peak {(memory.peak_bytes() or 0) / 2**30:.2f} GiB",
        flush=True,
    )
    _print_cost("compaction", way.compact)
    _plain(bench, "after it", expected)
    way.die(_labels(_NEW, expected, 17))
    _check(way, expected)
    _plain(bench, "after a writer died", expected)
    way.race(_labels(_NEW, expected, 17))
    doubled = len(way.state()) - expected - _NEW
    print(f"  after two writers at once: {doubled} rows twice", flush=True)
    _plain(bench, "after them", expected + _NEW)


def _check(way: Way, expected: int) -> None:
    assert len(way.state()) == expected, f"{len(way.state())} rows for {expected}"


def _labels(number: int, first: int, commit: int) -> pa.Table:
    """Made-up labels of ``number`` videos."""
    rng = np.random.default_rng(first)
    probability = rng.random(number)
    names = [f"clip{first + k:08d}" for k in range(number)]
    columns: dict[str, Any] = {
        "video_id": pa.array([f"{value:016x}" for value in rng.integers(0, 2**62, number)]),
        "uri": pa.array([f"s3://bucket/videos/day/{name}.mp4" for name in names]),
        "fingerprint": pa.array([f"{value:016x}" for value in rng.integers(0, 2**62, number)]),
        "status": pa.array(["ok"] * number),
        "label": pa.array(np.where(probability > 0.5, "a", "b")),
        "probability": pa.array(probability),
        "attempts": pa.array(np.ones(number, np.int32)),
        "config_digest": pa.array(["0" * 12] * number),
        "model_digest": pa.array(["0" * 12] * number),
        "labelled_at": pa.array([datetime.datetime.now(datetime.UTC)] * number),
        "commit": pa.array(np.full(number, commit, np.int32)),
    }
    missing = {f.name: pa.nulls(number, f.type) for f in schema.LABELS if f.name not in columns}
    arrays = [{**missing, **columns}[f.name].cast(f.type) for f in schema.LABELS]
    return pa.table(arrays, schema=pa.schema(schema.LABELS))


def _plain(bench: Bench, when: str, expected: int) -> None:
    """How many rows the Parquet files of the table hold."""
    files = [str(path) for path in Path(bench.folder).rglob("*.parquet") if "/_" not in str(path)]
    found = duckdb.read_parquet(files).count("*").fetchall()[0][0] if files else 0
    print(f"  {when}, plain Parquet: {found - expected:+d} rows of {expected}", flush=True)


def _tried(work: Callable[[], object]) -> None:
    try:
        work()
    except Exception as error:  # noqa: BLE001  (what it raises is what is asked)
        print(f"  the second writer: {type(error).__name__}", flush=True)


def _print_cost(what: str, work: Callable[[], object]) -> None:
    print(f"  {what}: {_seconds(work):.2f} s", flush=True)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main(tyro.cli(Bench))
