"""Rows of VIDEOS: one per video or stretch of one, with a stable id."""

import re
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

import pyarrow as pa

from vidray import storage
from vidray.errors import UserError
from vidray.storage import FileInfo, addresses
from vidray.tables import schema


class Row(NamedTuple):
    """A video as a source names it, or a stretch of one."""

    file: FileInfo
    label: str | None = None
    split: str | None = None
    group: str | None = None
    begin_seconds: float | None = None
    end_seconds: float | None = None

    @property
    def key(self) -> tuple[str, float, float]:
        """The key of a video or stretch: there is one row for each."""
        if self.begin_seconds is None or self.end_seconds is None:
            return self.file.uri, -1.0, -1.0
        return self.file.uri, self.begin_seconds, self.end_seconds


def merged(rows: Iterable[Row]) -> list[Row]:
    """One row per video or stretch of one, in order; what one mention leaves out, another may say.

    Raises:
        UserError: two mentions contradict each other.
    """
    found: list[Row] = []
    for row in sorted(rows, key=lambda row: row.key):
        if found and found[-1].key == row.key:
            found[-1] = _both(found[-1], row)
        else:
            found.append(row)
    return found


def _both(one: Row, two: Row) -> Row:
    for name in ("label", "split", "group"):
        first, second = getattr(one, name), getattr(two, name)
        if first is not None and second is not None and first != second:
            raise UserError(
                f"{storage.without_secrets(one.file.uri)} is listed twice, with {name} {first!r} "
                f"and {second!r}: a video has one {name}; remove one of the two"
            )
    return one._replace(
        label=one.label or two.label, split=one.split or two.split, group=one.group or two.group
    )


def to_table(rows: Sequence[Row], root: str) -> pa.Table:
    """``schema.VIDEOS`` of rows in their order.

    Args:
        root: the source's folder, from which files are named that are recordings of stretches.
    """
    in_stretches = {row.file.uri for row in rows if row.begin_seconds is not None}
    names = [(field.name, field.type) for field in schema.VIDEOS]
    columns = {
        "video_id": [_id_of(row) for row in rows],
        "uri": [row.file.uri for row in rows],
        "size_bytes": [row.file.size_bytes for row in rows],
        "fingerprint": [row.file.fingerprint for row in rows],
        "label": [row.label for row in rows],
        "split": [row.split for row in rows],
        "group": [row.group or _group_of(row, root, in_stretches) for row in rows],
        "begin_seconds": [row.begin_seconds for row in rows],
        "end_seconds": [row.end_seconds for row in rows],
    }
    arrays = [pa.array(columns[name], kind) for name, kind in names]
    return pa.Table.from_arrays(arrays, schema=schema.VIDEOS)


def _id_of(row: Row) -> str:
    if row.begin_seconds is None or row.end_seconds is None:
        return video_id(row.file.uri)
    # A media fragment, as in the W3C's "Media Fragments URI".
    return video_id(f"{row.file.uri}#t={row.begin_seconds:.15g},{row.end_seconds:.15g}")


def video_id(uri: str) -> str:
    """The id of a video: 20 hexadecimal digits of its canonical URI.

    80 bits: among a billion videos, two share an id with a probability of 4e-7.
    """
    return blake2b(uri.encode(), digest_size=10).hexdigest()


def _group_of(row: Row, root: str, in_stretches: set[str]) -> str | None:
    """The recording in a UCF-101 name: ``v_PushUps_g07_c04`` -> ``PushUps_g07``.

    A file of which there are stretches is one recording, whole or in part.
    """
    uri = row.file.uri
    match = re.search(r"/v_([^/]+_g\d+)_c\d+\.\w+$", uri)
    if match:
        return match[1]
    return (addresses.below(root, uri) or uri) if uri in in_stretches else None
