"""The table of labels: committed rows, videos left to label, and claims of runs at work.

    OUT/labels/set=MODEL-DIGEST/commit-000001.parquet   a commit is one file, there whole or not
    OUT/labels/set=…/commit-000001-000016.parquet       commits 1 to 16, compacted
    OUT/_runs/set=MODEL-DIGEST/KEY.claim                names the run folder of an unfinished run
    OUT/_runs/set=MODEL-DIGEST/RUN/                     its frozen plan and finished parts (runs)
    OUT/_numbers/                                       who is about to commit (commit_numbers)

A set holds the labels of one model and one way to label: another model or config makes another
set. A video may have rows in several commits of a set; the one of the highest ``commit`` counts.
Commits of all sets share one row of numbers: a higher one was there to be read later.

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
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from vidray import storage
from vidray.errors import UserError
from vidray.labelling import commit_files, commit_numbers
from vidray.labelling.commit_files import Commit
from vidray.labelling.todo import ORDER, STATE, Todo, left_to_do
from vidray.storage import checked_json, join, names, parquet
from vidray.tables import (
    digests,
    schema,
    versions,
)
from vidray.tables.runs import Run

T = TypeVar("T")

# So many files are read fast (0.1 s each from a bucket); then they are compacted into one.
_MOST_COMMITS = 16
# A reader that finds a file gone, because it was compacted, looks again.
_MOST_READS = 5


@dataclass(frozen=True, kw_only=True)
class LabelSet:
    """The labels of one model and one way to label, in a folder of any number of sets.

    Args:
        out: the folder.
        name: the set's name, such as ``r3d_18-0123456789ab``.
        libraries: that decide the numbers of a label.
    """

    out: str
    name: str
    libraries: tuple[str, ...] = versions.DECODING

    def __post_init__(self) -> None:
        names.check_name(self.name, what="a set of labels, which begins with that of its model,")

    def commits(self) -> list[Commit]:
        """The commits that readers see, oldest first, without those that a compacted file holds.

        Raises:
            UserError: a file that is named as a commit is damaged, or not vidray's.
        """
        return _settled(self, list)

    def todo(
        self, videos: pa.Table, *, max_attempts: int, caps: Mapping[str, float] | None = None
    ) -> Todo:
        """The videos that have no label yet, have changed, or failed and may succeed now.

        Args:
            max_attempts: a video that failed as often with the same content is left alone, unless
                it was over a cap that has risen since.
            caps: current values by name; rows name the cap they were over.
        """
        last_commit = self._last_commit()
        before = commit_files.newest(_read(self, [*STATE, "commit"])).drop_columns("commit")
        return left_to_do(
            videos, before, last_commit=last_commit, max_attempts=max_attempts, caps=caps or {}
        )

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
        return self._run(names.new_token(), source, digest)

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
        """The claimed run with the source and settings of this one."""
        try:
            token = _token_in(self._claim_uri(like))
        except FileNotFoundError:
            return None
        return self._run(token, like.videos, like.digest)

    def is_committed(self, run: Run) -> bool:
        """Whether readers see the rows of ``run``."""
        token = storage.name_of(run.out)
        return _settled(
            self, lambda commits: any(token in c.contents.runs for c in reversed(commits))
        )

    def commit(self, run: Run, *, model_digest: str, class_names: Sequence[str] = ()) -> int | None:
        """Publish the rows of a run whose parts are all written, in one step.

        Args:
            class_names: of the model, in the order of its probabilities.

        Returns:
            The number of the commit; None if a process beside this one has committed the run.
        """
        rows, token = _rows_of(run), storage.name_of(run.out)
        number = None
        while number is None:
            # In this order: what commits this run meanwhile is seen, or takes this very number.
            attempt = commit_numbers.take(self.out, token)
            if self.is_committed(run):
                break
            data = _commit_bytes(rows, run, attempt, model_digest, class_names)
            if not commit_numbers.is_ours(self.out, attempt):
                continue  # This took so long that others have passed by.
            where = self._uri(commit_files.file_name(attempt, attempt))
            if storage.write_once(where, data):
                number = attempt
            elif self._last_commit() < attempt:
                raise UserError(
                    f"{storage.without_secrets(where)} is in the way of a commit and is not one: "
                    "move it away, and start the job again"
                )
        commit_numbers.let_go(self.out, token)
        self.remove(run)
        return number

    def remove(self, run: Run) -> None:
        """Remove a run's folder, and its claim unless another run has it."""
        if self._claimed(run) == run:
            storage.remove_tree(self._claim_uri(run), inside=self.out)
        storage.remove_tree(run.out, inside=self.out)

    def compact(self) -> bool:
        """Merge many files into one; the newest row of each video stays.

        A reader sees the old files, all, or the new one: its newest rows are the same.
        """
        self._remove_compacted()  # A kill may have left some.
        commits = self.commits()
        if len(commits) < _MOST_COMMITS:
            return False
        contents = [commit.contents for commit in commits]
        if any(set(one.columns) - set(schema.LABELS.names) for one in contents):
            return False  # A newer vidray has written more than is known here: it may compact.
        rows = pa.concat_tables([commit_files.read(c, schema.LABELS.names) for c in commits])
        tokens = frozenset[str]().union(*(one.runs for one in contents))
        made_with = [one for each in contents for one in each.versions]
        last = max(commit.last for commit in commits)
        name = commit_files.file_name(commits[0].first, last)
        newest = commit_files.newest(rows).sort_by(ORDER)
        data = commit_files.to_bytes(newest, tokens, made_with, set_name=self.name)
        storage.write_once(self._uri(name), data)
        self._remove_compacted()
        return True

    def remove_leftovers(self) -> None:
        """Remove files that late or killed processes left."""
        folder = self._runs()
        for name in (self.out, self._uri(), folder, join(self.out, "_numbers")):
            storage.remove_drafts(name)
        # In this order: the claim of a run is there before its folder.
        paths = [info.uri[len(folder) + 1 :] for info in storage.list_files(folder, hidden=True)]
        found = {path.partition("/")[0] for path in paths if "/" in path}
        tokens = {name for name in found if names.is_token(name)}
        for token in tokens - (self._all_claimed() if tokens else set()):
            storage.remove_tree(join(folder, token), inside=self.out)

    def _all_claimed(self) -> set[str]:
        """The runs that the claims name."""
        folder, tokens = self._runs(), set()
        for info in storage.list_files(folder):
            if info.uri.endswith(".claim") and storage.parent_of(info.uri) == folder:
                with contextlib.suppress(FileNotFoundError):  # committed meanwhile
                    tokens.add(_token_in(info.uri))
        return tokens

    def _remove_compacted(self) -> None:
        """Remove files whose rows are known to be in another file, row by row."""
        commits = commit_files.find(self.out, self.name)
        with contextlib.suppress(FileNotFoundError):  # A process beside this one does the same.
            for holder in commits:
                hidden = [c for c in commits if holder in commit_files.holders(c, commits)]
                for commit in commit_files.held_by(holder, hidden) if hidden else ():
                    storage.remove_tree(commit.uri, inside=self.out)

    def _last_commit(self) -> int:
        return commit_numbers.last_commit(self.out)

    def _uri(self, *names: str) -> str:
        return join(self.out, "labels", f"set={self.name}", *names)

    def _runs(self, *names: str) -> str:
        return join(self.out, "_runs", f"set={self.name}", *names)

    def _run(self, token: str, source: str, digest: str) -> Run:
        return Run(
            out=self._runs(token),
            table="labels",
            videos=source,
            digest=digest,
            libraries=self.libraries,
        )

    def _claim_uri(self, run: Run) -> str:
        # A run of other library versions is not gone on with: its labels may differ.
        key = digests.of([run.videos, run.digest, run.versions])
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
    return commit_files.newest(rows).sort_by(ORDER).select(wanted)


def read_history(out: str, *, set_name: str, columns: Sequence[str]) -> pa.Table:
    """LABELS of one set: the rows of every commit, the oldest first, several of a video that was
    labelled several times.
    """
    labels = LabelSet(out=storage.canonical(out), name=set_name)
    rows = _read(labels, [*dict.fromkeys([*columns, "uri", "commit"])])
    return rows.sort_by([("commit", "ascending"), ("uri", "ascending")]).select(list(columns))


def list_sets(out: str) -> list[str]:
    """Names of the sets with commits, the one committed to last at the end."""
    newest: dict[str, int] = {}
    for commit in commit_files.find(storage.canonical(out)):
        newest[commit.set_name] = max(commit.last, newest.get(commit.set_name, 0))
    # Of one number, which older versions of vidray could give twice, the name decides.
    return sorted(newest, key=lambda name: (newest[name], name))


def _settled(labels: LabelSet, look: Callable[[list[Commit]], T]) -> T:
    """The result of ``look`` on the current commits; repeated if they are compacted meanwhile."""
    for _ in range(_MOST_READS):
        try:
            return look(commit_files.standing(commit_files.find(labels.out, labels.name)))
        except FileNotFoundError:
            continue
    raise UserError(f"{labels.out} is compacted faster than it is read: try again")


def _read(labels: LabelSet, columns: Sequence[str]) -> pa.Table:
    """All rows of a set: several of a video that was labelled several times."""
    kinds = pa.schema([schema.LABELS.field(name) for name in columns])

    def look(commits: list[Commit]) -> pa.Table:
        tables = [commit_files.read(commit, columns) for commit in commits]
        return pa.concat_tables([kinds.empty_table(), *tables])

    return _settled(labels, look)


def _rows_of(run: Run) -> pa.Table:
    """The parts of a run as one table."""
    with ThreadPoolExecutor(16) as pool:
        uris = [uri for _, uri in sorted(run.done_parts().items())]
        parts = list(pool.map(parquet.read_parquet, uris))
    for uri, part in zip(uris, parts, strict=True):
        if not part.schema.equals(schema.LABELLED):
            raise storage.damaged(uri)
    return pa.concat_tables([schema.LABELLED.empty_table(), *parts])


def _commit_bytes(
    rows: pa.Table, run: Run, number: int, model_digest: str, class_names: Sequence[str] = ()
) -> bytes:
    """The rows of a run as a committed file, with the values they share."""
    classes = _class_column(class_names, rows["probabilities"])
    now = datetime.datetime.now(datetime.UTC)
    for name, value in (
        ("model_digest", model_digest),
        ("labelled_at", now),
        ("commit", number),
    ):
        field = schema.LABELS.field(name)
        column = pa.repeat(pa.scalar(value, field.type), len(rows))
        rows = rows.append_column(field, column)
    rows = rows.append_column(schema.LABELS.field("class_names"), classes)
    rows = rows.select(schema.LABELS.names)
    name = commit_files.set_of(run.out)
    return commit_files.to_bytes(rows, [storage.name_of(run.out)], [run.versions], set_name=name)


def _class_column(class_names: Sequence[str], probabilities: pa.ChunkedArray) -> pa.ChunkedArray:
    """The classes of each row that has probabilities; null in the others."""
    kind, names = schema.LABELS.field("class_names").type, pa.array(class_names, pa.string())
    chunks = []
    for chunk in filter(len, probabilities.chunks):
        is_there = chunk.is_valid().to_numpy(zero_copy_only=False) & bool(class_names)
        ends = np.cumsum(is_there * len(names))
        starts = pa.array(ends - is_there * len(names), pa.int32(), mask=~is_there)
        offsets = pa.concat_arrays([starts, pa.array(ends[-1:], pa.int32())])
        each = pa.array(np.tile(np.arange(len(names), dtype=np.int32), int(is_there.sum())))
        values = pa.DictionaryArray.from_arrays(each, names)
        chunks.append(pa.ListArray.from_arrays(offsets, values))
    return pa.chunked_array(chunks, kind)


def _token_in(uri: str) -> str:
    """The token of the run that a claim names."""
    try:
        text = storage.read_bytes(uri).decode(errors="replace")
    except IsADirectoryError:
        text = ""
    except FileNotFoundError:
        if not storage.is_dead_link(uri):
            raise
        text = ""
    if not names.is_token(text):
        raise UserError(
            f"{storage.without_secrets(uri)} names no run of vidray (it holds "
            f"{checked_json.shown(text)}): remove it, and start the job again"
        )
    return text
