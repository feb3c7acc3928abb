"""The files of committed labels: their names, their metadata, and which of them readers see.

A commit is a file of exactly such a name, directly in the folder of its set; copies elsewhere or
under other names are no commits. Its metadata says which runs its rows are from. A file of such a
name that vidray did not write is an error that names it: labels may be missing.
"""

from __future__ import annotations

import functools
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vidray import storage
from vidray.errors import UserError
from vidray.storage import checked_json, join, names, parquet
from vidray.tables import schema

# Numbers are int32 in the table.
MOST_COMMITS_EVER = 999_999_999
_NAME = re.compile(r"commit-(\d{6,9})(?:-(\d{6,9}))?\.parquet")
_ROWS_PER_GROUP = 50_000
_AT_ONCE = 16
# In a file's metadata: the runs whose rows it holds, the libraries that these were made with, and
# the set that they belong to, which older files do not say.
# As old folders have them: they do not follow the modules of these names.
_RUNS, _VERSIONS, _SET = b"vidray.runs", b"vidray.versions", b"vidray.set"


@dataclass(frozen=True, order=True)
class Commit:
    """A committed file: one commit, or commits ``first`` to ``last`` compacted."""

    first: int
    last: int
    uri: str
    fingerprint: str = field(default="", compare=False)

    @property
    def set_name(self) -> str:
        """The name of its set."""
        return set_of(self.uri)

    @property
    def contents(self) -> Contents:
        """The file's metadata. Raises: UserError: it is damaged, or not vidray's.
        FileNotFoundError: it was compacted meanwhile.
        """
        return _contents(self.uri, self.fingerprint)


@dataclass(frozen=True)
class Contents:
    """The metadata of a committed file.

    Attributes:
        runs: those whose rows it holds.
        versions: of the libraries that its rows were made with, each set of them once.
        columns: those it has; a file of an older or newer vidray has others.
    """

    runs: frozenset[str]
    versions: tuple[Mapping[str, str | None], ...]
    columns: tuple[str, ...]


def set_of(uri: str) -> str:
    """The set of a file or a run, from its folder."""
    return storage.name_of(storage.parent_of(uri)).removeprefix("set=")


def file_name(first: int, last: int) -> str:
    """The file name of a commit, or of several compacted ones."""
    return f"commit-{first:06d}{f'-{last:06d}' if last != first else ''}.parquet"


def find(out: str, set_name: str | None = None) -> list[Commit]:
    """The committed files of one set, or of all, in order; no file is opened."""
    labels = join(out, "labels")
    folder = labels if set_name is None else join(labels, f"set={set_name}")
    found = []
    for info in storage.list_files(folder):
        above, _, name = info.uri[len(labels) + 1 :].rpartition("/")
        of_set, numbers = above.removeprefix("set="), _NAME.fullmatch(name)
        if not numbers or of_set == above or not names.is_name(of_set):
            continue
        if info.fingerprint == "missing":  # A link to nothing, or compacted this moment.
            continue
        first, last = int(numbers[1]), int(numbers[2] or numbers[1])
        if name == file_name(first, last) and first <= last:
            found.append(Commit(first, last, info.uri, info.fingerprint))
    return sorted(found)


def standing(commits: Sequence[Commit]) -> list[Commit]:
    """The files that readers see: without those that a compacted file of the same set holds.

    Raises:
        UserError: one of them is damaged, or not vidray's.
        FileNotFoundError: one was compacted meanwhile.
    """
    with ThreadPoolExecutor(_AT_ONCE) as pool:  # From a bucket each takes 0.1 s.
        list(pool.map(lambda commit: commit.contents, commits))
    return [commit for commit in commits if not holders(commit, commits)]


def holders(commit: Commit, commits: Iterable[Commit]) -> list[Commit]:
    """Files of a wider range that say they hold the rows of all runs of ``commit``, and of more.

    So a copy never hides what it is a copy of, whatever it is called.
    """
    wider = [
        other
        for other in commits
        if other.first <= commit.first
        and commit.last <= other.last
        and (other.first, other.last) != (commit.first, commit.last)
    ]
    return [
        other
        for other in wider
        if commit.contents.runs and commit.contents.runs < other.contents.runs
    ]


def held_by(holder: Commit, commits: Iterable[Commit]) -> list[Commit]:
    """The commits whose rows, or newer ones of their videos, are all in ``holder``."""
    columns = ["video_id", "commit"]
    newest = read(holder, columns).group_by("video_id").aggregate([("commit", "max")])
    held = []
    for commit in commits:
        both = read(commit, columns).join(newest, "video_id", join_type="left outer")
        found = pc.fill_null(pc.greater_equal(both["commit_max"], both["commit"]), False)
        if pc.all(found, min_count=0).as_py():
            held.append(commit)
    return held


def read(commit: Commit, columns: Sequence[str]) -> pa.Table:
    """Read columns of LABELS; null where the file is older than a column."""
    there = [name for name in columns if name in commit.contents.columns]
    table = parquet.read_parquet(commit.uri, there)
    wanted = pa.schema([schema.LABELS.field(name) for name in columns])
    arrays = [
        table[field.name] if field.name in there else pa.nulls(len(table), field.type)
        for field in wanted
    ]
    return pa.Table.from_arrays(arrays, schema=wanted)


def newest(rows: pa.Table) -> pa.Table:
    """The row of the highest commit for each video."""
    if len(rows) == len(pc.unique(rows["video_id"])):
        return rows
    # Sorted by commit, so that of the rows of a video the last one is the newest.
    rows = rows.take(pc.sort_indices(rows, [("commit", "ascending")]))
    rows = rows.append_column("row", pa.array(np.arange(len(rows))))
    last = rows.group_by("video_id").aggregate([("row", "max")])["row_max"]
    return rows.take(last).drop_columns("row")


def to_bytes(
    rows: pa.Table,
    tokens: Iterable[str],
    versions: Iterable[Mapping[str, str | None]] = (),
    *,
    set_name: str | None = None,
) -> bytes:
    """The bytes of a commit's file.

    Args:
        rows: LABELS.
        tokens: the runs they are from.
        versions: of the libraries they were made with.
        set_name: the set they belong to.
    """
    sink = io.BytesIO()
    of_set = {} if set_name is None else {_SET: set_name}
    columns = schema.LABELS.with_metadata(
        {_RUNS: json.dumps(sorted(tokens)), _VERSIONS: json.dumps(_each_once(versions)), **of_set}
    )
    words = [field.name for field in columns if pa.types.is_string(field.type)]
    with pq.ParquetWriter(
        sink,
        columns,
        compression="zstd",
        use_dictionary=words,
        write_statistics=words,
        write_page_checksum=True,
    ) as writer:
        writer.write_table(rows.cast(columns), row_group_size=_ROWS_PER_GROUP)
    return sink.getvalue()


def _each_once(versions: Iterable[Mapping[str, str | None]]) -> list[Mapping[str, str | None]]:
    return list({json.dumps(one, sort_keys=True): one for one in versions}.values())


# A file that is there never changes: it is made by one conditional write. Should somebody put
# another one in its place, its fingerprint is another one, too.
@functools.lru_cache(maxsize=1024)
def _contents(uri: str, _fingerprint: str) -> Contents:
    found = parquet.read_schema(uri)
    metadata = found.metadata or {}
    try:
        tokens, versions = (json.loads(metadata.get(key, b"[]")) for key in (_RUNS, _VERSIONS))
    except (ValueError, RecursionError):
        raise _not_ours(uri, "its metadata is damaged") from None
    if _RUNS not in metadata or not isinstance(tokens, list):
        raise _not_ours(uri, "it does not say which runs it holds")
    if not all(isinstance(token, str) and names.is_token(token) for token in tokens):
        raise _not_ours(uri, "it names runs by impossible names")
    name = set_of(uri)
    if (other := metadata.get(_SET, name.encode()).decode(errors="replace")) != name:
        raise _not_ours(uri, f"it is of the set {checked_json.shown(other)}")
    for wanted in schema.LABELS:
        if wanted.name not in found.names:
            if not wanted.nullable:
                raise _not_ours(uri, f"it has no column {wanted.name}")
        elif found.field(wanted.name).type != wanted.type:
            kind = found.field(wanted.name).type
            raise _not_ours(uri, f"its column {wanted.name} is {kind}, not {wanted.type}")
    given = versions if isinstance(versions, list) else []
    kept = tuple(one for one in given if isinstance(one, dict))
    return Contents(frozenset(tokens), kept, tuple(found.names))


def _not_ours(uri: str, why: str) -> UserError:
    return UserError(
        f"{storage.without_secrets(uri)} is no commit of vidray ({why}): move it out of this "
        "folder, or put back what was there"
    )
