"""The table of labels: what is committed, what is left to label, who is at work on it.

    OUT/labels/set=MODEL-DIGEST/commit-000001.parquet   a commit is one file, there whole or not
    OUT/labels/set=…/commit-000001-000016.parquet       commits 1 to 16, compacted
    OUT/_runs/set=MODEL-DIGEST/KEY.claim                names the run folder of an unfinished run
    OUT/_runs/set=MODEL-DIGEST/RUN/                     its frozen plan and finished parts (runs)

A set holds the labels of one model and one way to label: another model or config makes another
set. A video may have rows in several commits of a set; the one of the highest ``commit`` counts.

Why no table format (Delta Lake, Iceberg, Lance; ``bench/table_formats.py``): they keep files that
their log no longer names, or does not name yet. Whoever reads ``*.parquet`` without their library
sees every row twice after a compaction, and those of a writer that died; Lance has no Parquet. Two
writers that append at once both succeed. Only Delta's merge refuses one, and takes 0.6 to 0.9 s and
twice the memory for a thousand rows among a million. Here two runs of one command share a claim,
and one conditional write of one Parquet file is the commit and all that readers read; the price is
a commit held in memory.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import re
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vidray import digests, runs, schema, storage
from vidray.errors import UserError
from vidray.runs import Run
from vidray.storage import join

# So many files are read fast (0.1 s each from a bucket); then they are compacted into one.
_MOST_COMMITS = 16
# A reader that finds a file gone, because it was compacted, looks again.
_MOST_READS = 5
_ROWS_PER_GROUP = 50_000
# In a file's metadata: the runs whose rows it holds.
_RUNS = b"vidray.runs"
# Rows of several stretches share the URI of their file.
_ORDER = [("uri", "ascending"), ("video_id", "ascending")]
_STATE = ("video_id", "fingerprint", "status", "error_kind", "attempts")
_FILE = re.compile(r"commit-(\d+)(?:-(\d+))?\.parquet$")


@dataclass(frozen=True, order=True)
class Commit:
    """A committed file: of one commit, or of ``first`` to ``last`` compacted."""

    first: int
    last: int
    uri: str


@dataclass(frozen=True)
class Todo:
    """What a listing asks for."""

    plan: pa.Table
    """Rows to label: VIDEOS with ``true_label`` for ``label``, and ``attempts``, this one too."""
    counts: dict[str, int]
    """Videos that are new, changed, retried; unchanged, quarantined (failed for good), gone (no
    longer listed; their labels stay)."""
    last_commit: int
    """The newest one it takes account of."""


@dataclass(frozen=True, kw_only=True)
class LabelSet:
    """The labels of one model and one way to label, in a folder of any number of sets.

    Args:
        out: the folder.
        name: of the set, such as ``r3d_18-0123456789ab``.
    """

    out: str
    name: str

    def commits(self) -> list[Commit]:
        """What readers see, oldest first, without files whose rows are in a compacted one."""
        return _standing(_commits(self._uri()))

    def todo(self, videos: pa.Table, *, max_attempts: int) -> Todo:
        """The part of VIDEOS that has no label yet, has changed, or failed and may succeed now.

        Args:
            max_attempts: a video that failed as often with the same content is left alone.
        """
        last_commit = self._last_commit()
        before = _newest(_read(self, [*_STATE, "commit"])).drop_columns("commit")
        # Only what is compared is joined: a million videos with all their columns are 0.2 GB more.
        both = (
            videos.select(["video_id", "fingerprint"])
            .append_column("row", pa.array(np.arange(len(videos))))
            .join(before, "video_id", right_suffix="_before", join_type="left outer")
        )
        is_new = pc.is_null(both["fingerprint_before"])
        is_same = pc.fill_null(pc.equal(both["fingerprint"], both["fingerprint_before"]), False)
        has_failed = pc.and_(is_same, pc.fill_null(pc.equal(both["status"], "failed"), False))
        may_pass = pc.is_in(both["error_kind"], pa.array(schema.PASSING_KINDS))
        may_try = pc.less(pc.fill_null(both["attempts"], 0), max_attempts)
        is_retried = pc.and_(has_failed, pc.and_(may_pass, may_try))
        attempts = pc.if_else(is_retried, pc.add(both["attempts"], 1), 1).cast(pa.int32())
        wanted = pc.or_(pc.invert(is_same), is_retried)
        plan = videos.take(both["row"].filter(wanted)).rename_columns(
            ["true_label" if name == "label" else name for name in videos.column_names]
        )
        plan = plan.append_column("attempts", attempts.filter(wanted)).sort_by(_ORDER)
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

    def claim(self, run: Run, todo: Todo, config: dict[str, Any]) -> Run | None:
        """The run to work on: this new one, or the one that another process claimed just before.

        None if another process has committed since ``todo`` was made: look again.
        """
        token = storage.name_of(run.out).encode()
        is_ours = storage.write_once(self._claim_uri(run), token)
        claimed = self._claimed(run)
        is_overtaken = is_ours and self._last_commit() != todo.last_commit
        if claimed is None or is_overtaken or self.is_committed(claimed):
            self.remove(claimed or run)
            return None
        # Whoever is first freezes the plan; who claimed it may have been killed before.
        claimed.videos_to_do(config, lambda: todo.plan)
        return claimed

    def new_run(self, source: str, digest: str) -> Run:
        """A folder to work in, not claimed yet.

        Args:
            source: of the videos, without secrets.
            digest: of the settings.
        """
        return self._run(uuid.uuid4().hex, source, digest)

    def unfinished(self, source: str, digest: str) -> Run | None:
        """The run of the same command that was claimed and not committed, if there is one.

        One that was committed, but whose process died before it could tidy up, is removed.
        """
        run = self._claimed(self._run("", source, digest))
        if run is not None and self.is_committed(run):
            self.remove(run)
            return None
        # A claim without a plan is that of a process that has just begun, or died at once.
        return run if run is not None and run.is_there() else None

    def _claimed(self, like: Run) -> Run | None:
        """The run that is claimed for the source and settings of this one."""
        try:
            token = storage.read_bytes(self._claim_uri(like)).decode()
        except FileNotFoundError:
            return None
        return self._run(token, like.videos, like.digest)

    def is_committed(self, run: Run) -> bool:
        """Whether readers see the rows of ``run``."""
        token = storage.name_of(run.out)
        return any(token in _runs_in(commit.uri) for commit in reversed(self.commits()))

    def commit(self, run: Run, *, model_digest: str) -> int | None:
        """Show the rows of a run, all parts of which are there, to readers: all at once.

        Returns:
            The number of the commit; None if a process beside this one has committed the run.
        """
        number = None
        while number is None:
            # In this order: what commits this run meanwhile is seen, or takes this very number.
            attempt = self._last_commit() + 1
            if self.is_committed(run):
                break
            data = _commit_bytes(run, attempt, model_digest)
            # Of two runs that take the same number one fails, and takes the next. So does one whose
            # number was compacted while it wrote: its file is hidden by the compacted one.
            where = self._uri(f"commit-{attempt:06d}.parquet")
            if storage.write_once(where, data) and self.is_committed(run):
                number = attempt
        self.remove(run)
        return number

    def remove(self, run: Run) -> None:
        """Let go of a run's claim, if it has not gone to another run, and of its folder."""
        if self._claimed(run) == run:
            storage.remove_tree(self._claim_uri(run))
        storage.remove_tree(run.out)

    def compact(self) -> bool:
        """Make one file of many; of each video the newest row stays.

        A reader sees the old files, all, or the new one: its newest rows are the same.
        """
        self._remove_compacted()  # A kill may have left some.
        commits = self.commits()
        if len(commits) < _MOST_COMMITS:
            return False
        rows = _newest(_read(self)).sort_by("uri")
        tokens = sorted(set().union(*(_runs_in(commit.uri) for commit in commits)))
        name = f"commit-{commits[0].first:06d}-{commits[-1].last:06d}.parquet"
        storage.write_once(self._uri(name), _parquet(rows, tokens))
        self._remove_compacted()
        return True

    def remove_leftovers(self) -> None:
        """Remove what late processes of committed runs wrote after these were tidied up."""
        folder = self._runs()
        # In this order: the claim of a run is there before its folder.
        names = [info.uri[len(folder) + 1 :] for info in storage.list_files(folder, hidden=True)]
        found = {name.partition("/")[0] for name in names if "/" in name}
        for token in found - (self._all_claimed() if found else set()):
            storage.remove_tree(join(folder, token))

    def _all_claimed(self) -> set[str]:
        """The runs that claims name."""
        tokens = set()
        for name in storage.list_names(self._runs()):
            if name.endswith(".claim"):
                with contextlib.suppress(FileNotFoundError):  # committed meanwhile
                    tokens.add(storage.read_bytes(self._runs(name)).decode())
        return tokens

    def _remove_compacted(self) -> None:
        files = _commits(self._uri())
        for commit in set(files) - set(_standing(files)):
            storage.remove_tree(commit.uri)

    def _last_commit(self) -> int:
        """Of all sets: numbers tell which set was committed to last."""
        return max((commit.last for commit in _commits(join(self.out, "labels"))), default=0)

    def _uri(self, *names: str) -> str:
        return join(self.out, "labels", f"set={self.name}", *names)

    def _runs(self, *names: str) -> str:
        return join(self.out, "_runs", f"set={self.name}", *names)

    def _run(self, token: str, source: str, digest: str) -> Run:
        return Run(out=self._runs(token), table="labels", videos=source, digest=digest)

    def _claim_uri(self, run: Run) -> str:
        # A run of other library versions is not gone on with: its labels may differ.
        key = digests.of([run.videos, run.digest, runs.versions()])
        return self._runs(f"{key}.claim")


def read_labels(
    out: str, *, set_name: str | None = None, columns: Sequence[str] | None = None
) -> pa.Table:
    """LABELS: committed rows only, the newest of each video, sorted by URI.

    Args:
        out: folder that ``jobs/label.py`` fills.
        set_name: one of ``list_sets``; the one committed to last if not given.
        columns: the ones wanted; all if not given.

    Raises:
        UserError: nothing is committed there.
    """
    uri = storage.canonical(out)
    names = list_sets(uri)
    if not names:
        raise UserError(f"{out} holds no labels yet: make some with jobs/label.py")
    if set_name is not None and set_name not in names:
        raise UserError(f"{out} has no set {set_name}: it has {', '.join(names)}")
    labels = LabelSet(out=uri, name=set_name or names[-1])
    wanted = list(schema.LABELS.names if columns is None else columns)
    rows = _read(labels, [*dict.fromkeys([*wanted, "video_id", "uri", "commit"])])
    return _newest(rows).sort_by(_ORDER).select(wanted)


def list_sets(out: str) -> list[str]:
    """Names of the sets with commits, the one committed to last at the end."""
    newest: dict[str, int] = {}
    for commit in _commits(join(storage.canonical(out), "labels")):
        name = storage.name_of(storage.parent_of(commit.uri)).removeprefix("set=")
        newest[name] = max(commit.last, newest.get(name, 0))
    return sorted(newest, key=lambda name: (newest[name], name))


def _commits(folder: str) -> list[Commit]:
    """Every committed file below a folder, in order."""
    named = ((_FILE.search(info.uri), info.uri) for info in storage.list_files(folder))
    return sorted(Commit(int(n[1]), int(n[2] or n[1]), uri) for n, uri in named if n)


def _standing(commits: Sequence[Commit]) -> list[Commit]:
    """Without those of which another one holds all."""
    return [
        commit
        for commit in commits
        if not any(
            other.first <= commit.first and commit.last <= other.last and other != commit
            for other in commits
        )
    ]


def _read(labels: LabelSet, columns: Sequence[str] = schema.LABELS.names) -> pa.Table:
    """All rows of a set: several of a video that was labelled several times."""
    kinds = pa.schema([schema.LABELS.field(name) for name in columns])
    for _ in range(_MOST_READS):
        try:
            tables = [runs.read_parquet(c.uri, list(columns)) for c in labels.commits()]
        except FileNotFoundError:
            continue
        return pa.concat_tables([kinds.empty_table(), *tables])
    raise UserError(f"{labels.out} is compacted faster than it is read: try again")


def _newest(rows: pa.Table) -> pa.Table:
    """Of each video the row of the highest commit."""
    if len(rows) == len(pc.unique(rows["video_id"])):
        return rows
    # Sorted by commit, so that of the rows of a video the last one is the newest.
    rows = rows.take(pc.sort_indices(rows, [("commit", "ascending")]))
    rows = rows.append_column("row", pa.array(np.arange(len(rows))))
    last = rows.group_by("video_id").aggregate([("row", "max")])["row_max"]
    return rows.take(last).drop_columns("row")


def _commit_bytes(run: Run, number: int, model_digest: str) -> bytes:
    """The parts of a run as one file, with what all its rows share."""
    now = datetime.datetime.now(datetime.UTC)
    with ThreadPoolExecutor(16) as pool:
        uris = [uri for _, uri in sorted(run.done_parts().items())]
        rows = pa.concat_tables([schema.LABELLED.empty_table(), *pool.map(runs.read_parquet, uris)])
    for name, value in (
        ("model_digest", model_digest),
        ("labelled_at", now),
        ("commit", number),
    ):
        field = schema.LABELS.field(name)
        column = pa.repeat(pa.scalar(value, field.type), len(rows))
        rows = rows.append_column(field, column)
    return _parquet(rows, [storage.name_of(run.out)])


def _parquet(rows: pa.Table, tokens: Sequence[str]) -> bytes:
    sink = io.BytesIO()
    told = schema.LABELS.with_metadata({_RUNS: json.dumps(list(tokens))})
    words = [field.name for field in told if pa.types.is_string(field.type)]
    with pq.ParquetWriter(
        sink, told, compression="zstd", use_dictionary=words, write_statistics=words
    ) as writer:
        writer.write_table(rows.cast(told), row_group_size=_ROWS_PER_GROUP)
    return sink.getvalue()


def _runs_in(uri: str) -> set[str]:
    """The runs whose rows a committed file holds."""
    try:
        return set(json.loads(runs.read_metadata(uri)[_RUNS]))
    except FileNotFoundError:
        return set()  # Compacted meanwhile: its runs are in the file that took its place.


def _true(flags: Any) -> int:
    return int(pc.sum(flags.cast(pa.int64())).as_py() or 0)
