"""Where the videos are: any folder, list, glob or single file, local or in a bucket, as VIDEOS.

In a folder, the first of these that is there decides:

1. ``splits/train.txt``, ``val.txt``, ``test.txt`` (or ``.csv``; UCF-101's ``trainlist01.txt`` and
   ``testlist01.txt``, of several numbers the lowest): exactly the videos that they name. Label
   indices count the names in ``classInd.txt``, ``classes.txt`` or ``labels.txt`` in ``splits/`` or
   the folder, or else the class folders in order; a line without a label has its class folder's.
2. ``videos.csv`` or ``videos.parquet``, where no video is in a class folder.
3. Class folders: the first folder below the source is the label; a video beside them has none.
   ``train/CLASS/…``, ``val/CLASS/…`` and so on are splits of classes, not classes.

Every file with a video's extension below the folder counts, hidden ones and those in folders that
start with "_" or "." do not. Lists say which files, whatever their extension: a file that is not
there stays a row, with size 0 and fingerprint "missing".
"""

import logging
import os
import posixpath
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

import pyarrow as pa
from fsspec.utils import glob_translate

from vidray import lookup, manifests, schema, storage
from vidray.errors import UserError, VideoError
from vidray.manifests import Entry, extension_of, has_video_extension
from vidray.splits import check_splits, derive_splits
from vidray.storage import FileInfo

logger = logging.getLogger(__name__)

_MANIFESTS = (".csv", ".tsv", ".parquet")


class _Row(NamedTuple):
    file: FileInfo
    label: str | None = None
    split: str | None = None
    group: str | None = None


@dataclass
class _Folder:
    """What one pass over a folder finds."""

    root: str
    videos: list[FileInfo] = field(default_factory=list)
    lists: list[str] = field(default_factory=list)  # text and tables in it or in splits/, relative
    others: Counter[str] = field(default_factory=Counter)  # extension -> number of files

    def relative(self, file: FileInfo) -> str:
        return file.uri[len(self.root.rstrip("/")) + 1 :]


def list_videos(source: str, *, splits: Sequence[float] | None = None) -> pa.Table:
    """The videos of a source, sorted by URI: one row each, however often they are named.

    Args:
        source: a folder, a CSV or Parquet list (``uri|path|video_path|clip_path``, optional
            ``label, split, group``), a glob or one video; a local path or any fsspec URI.
        splits: fractions for train, val and test, for a source that gives no splits itself.

    Returns:
        ``schema.VIDEOS``. ``group`` is the list's, or the one in a UCF-style name:
        ``PushUps_g07`` of ``v_PushUps_g07_c04.avi``.

    Raises:
        UserError: nothing there, two labels for one video, one group in two splits, ...
    """
    root = storage.canonical(source)
    try:
        folder, rows = _find(root)
    except (FileNotFoundError, PermissionError) as error:
        reason = "it is gone" if isinstance(error, FileNotFoundError) else "access denied"
        raise UserError(
            f"cannot read {_shown(source)} ({reason}): check the address, AWS_PROFILE or "
            "AWS_ACCESS_KEY_ID, and AWS_ENDPOINT_URL"
        ) from error
    table = _to_table(_merged(rows))
    check_splits(table)
    if splits is None:
        return table
    given = table.num_rows - table.column("split").null_count
    if given:
        raise UserError(
            f"{_shown(source)} gives the splits of {given} of its {table.num_rows} videos: leave "
            "--split-fractions out to keep them, or give a list without splits to derive new ones"
        )
    return derive_splits(table, splits, root=folder)


def _find(root: str) -> tuple[str, list[_Row]]:
    """The folder that paths are relative to, and the rows as found."""
    if storage.is_folder(root):
        return root, _from_folder(_scan(root))
    if storage.exists(root):
        extension = extension_of(root)
        if extension in _MANIFESTS:
            return storage.parent_of(root), _from_manifest(root)
        if extension in (".txt", ".json", ".xlsx"):
            raise UserError(f"{_shown(root)} is no video: give a CSV, or the folder of splits/")
        return storage.parent_of(root), [_Row(storage.file_infos([root])[0])]
    if re.search(r"[*?\[]", root):
        return _from_glob(root)
    raise UserError(lookup.nearest(root))


# The forms of a source


def _scan(root: str) -> _Folder:
    folder = _Folder(root)
    for file in storage.list_files(root):
        extension = extension_of(file.uri)
        if extension in manifests.VIDEO_EXTENSIONS:
            folder.videos.append(file)
            continue
        folder.others[extension or "no extension"] += 1
        relative = folder.relative(file)
        if extension in (".txt", *_MANIFESTS) and posixpath.dirname(relative) in ("", "splits"):
            folder.lists.append(relative)
    return folder


def _from_folder(folder: _Folder) -> list[_Row]:
    inside = [path for path in folder.lists if path.startswith("splits/")]
    split_files = manifests.split_files(inside)
    if split_files:
        return _from_split_files(folder, split_files)
    if any(storage.name_of(path).lower() not in manifests.CLASS_FILES for path in inside):
        raise UserError(
            f"{_shown(folder.root)} has splits/, but its files are {', '.join(inside[:3])}: name "
            "them train, val and test (.txt or .csv), or rename the folder"
        )
    depths = [folder.relative(video).count("/") for video in folder.videos]
    listed = [name for name in ("videos.csv", "videos.parquet") if name in folder.lists]
    if listed and not any(depths):
        logger.info("%s lists the videos of %s", listed[0], _shown(folder.root))
        return _from_manifest(storage.join(folder.root, listed[0]))
    if not depths:
        raise UserError(_nothing_in(folder))
    if folder.others:
        logger.info("left out, not videos: %s", _counted(folder.others))
    tops = [_top(folder, video) for video in folder.videos]
    names = {top for top in tops if top is not None}
    if len(names) > 1 and all(map(manifests.split_named, names)) and min(depths) > 1:
        return [
            _Row(video, folder.relative(video).split("/")[1], manifests.split_named(str(top)))
            for video, top in zip(folder.videos, tops, strict=True)
        ]
    return [_Row(video, top) for video, top in zip(folder.videos, tops, strict=True)]


def _from_manifest(uri: str) -> list[_Row]:
    name = storage.name_of(uri)
    if extension_of(uri) == ".parquet":
        try:
            with storage.open_binary(uri) as file:
                entries = manifests.read_parquet(file, name)
        except VideoError as error:
            raise UserError(f"cannot read {_shown(uri)}: {error.message}") from error
    else:
        entries = manifests.read_csv(storage.read_bytes(uri), name)
    if not entries:
        raise UserError(f"{_shown(uri)} has a header, but lists no video: add one row per video")
    return _looked_up(storage.parent_of(uri), entries, {})


def _from_glob(pattern: str) -> tuple[str, list[_Row]]:
    """Labels as in a folder: by the first folder below the part without wildcards."""
    root = re.split(r"/(?=[^/]*[*?\[])", pattern, maxsplit=1)[0]
    try:
        matches = re.compile(glob_translate(pattern[len(root) + 1 :])).match
    except (ValueError, re.error) as error:  # a**b.mp4, [z-a]*
        raise UserError(
            f"{storage.without_secrets(pattern)} is no pattern ({error}): ** stands alone between "
            "slashes, for any folders; * is for a part of a name, [ab] for one of its letters"
        ) from error
    # "*.dat" asks for .dat files; "*" asks for videos among whatever else is there.
    asked = bool(re.search(r"\.\w+$", storage.name_of(pattern)))
    folder = _Folder(root or "/")
    for file in storage.list_files(folder.root):
        if matches(folder.relative(file)):
            if asked or has_video_extension(file.uri):
                folder.videos.append(file)
            else:
                folder.others[extension_of(file.uri) or "no extension"] += 1
    if not folder.videos:
        if not storage.exists(folder.root):
            raise UserError(lookup.nearest(folder.root))
        raise UserError(
            f"no video matches {_shown(pattern)} below {_shown(folder.root)}; other files that "
            f"match: {_counted(folder.others)}"
        )
    paths = (folder.relative(video) for video in folder.videos)
    labels = (path.partition("/")[0] if "/" in path else None for path in paths)
    return folder.root, [_Row(*pair) for pair in zip(folder.videos, labels, strict=True)]


def _looked_up(base: str, entries: list[Entry], known: dict[str, FileInfo]) -> list[_Row]:
    files = lookup.look_up(base, (entry.path for entry in entries), known)
    return [
        _Row(file, entry.label, entry.split, entry.group)
        for file, entry in zip(files, entries, strict=True)
    ]


def _from_split_files(folder: _Folder, split_files: dict[str, str]) -> list[_Row]:
    entries: list[Entry] = []
    for path, split in sorted(split_files.items()):
        read = manifests.read_lines if path.lower().endswith(".txt") else manifests.read_csv
        entries += read(storage.read_bytes(storage.join(folder.root, path)), path, split)
    if not entries:
        raise UserError(f"{_shown(folder.root)}: {', '.join(split_files)} list no video")
    known = {video.uri: video for video in folder.videos}
    rows = _looked_up(folder.root, entries, known)
    rows = _labelled(folder, rows, entries)
    left_out = len(known.keys() - {row.file.uri for row in rows})
    if left_out:
        logger.info("%d videos of %s are in no split: left out", left_out, _shown(folder.root))
    return rows


# Labels of split files


def _labelled(folder: _Folder, rows: list[_Row], entries: list[Entry]) -> list[_Row]:
    """Rows with class names for indices, and class folders for no label."""
    tops = [_top(folder, row.file) for row in rows]
    given = [entry.label for entry in entries if entry.label is not None]
    if given and all(label.isdecimal() for label in given):
        names, first = _class_names(folder, tops)
        if names:
            labels = manifests.names_of_indices(entries, tops, names, first)
            return [
                row._replace(label=label or top)
                for row, label, top in zip(rows, labels, tops, strict=True)
            ]
    return [row._replace(label=row.label or top) for row, top in zip(rows, tops, strict=True)]


def _top(folder: _Folder, file: FileInfo) -> str | None:
    """The class folder of a file below the source."""
    inside = file.uri.startswith(folder.root.rstrip("/") + "/")
    top, slash, _ = folder.relative(file).partition("/")
    # Interned: a million videos have a few labels.
    return sys.intern(top) if inside and slash else None


def _class_names(folder: _Folder, tops: list[str | None]) -> tuple[list[str], int]:
    """Class names in order, and the index of the first; no names where nothing tells them."""
    by_name = {path.lower(): path for path in folder.lists}
    for path in (f"{place}{name}" for place in ("splits/", "") for name in manifests.CLASS_FILES):
        if path in by_name:
            uri = storage.join(folder.root, by_name[path])
            return manifests.read_class_names(storage.read_bytes(uri), by_name[path])
    # Also the folders that only the lists know: a class whose videos are all gone keeps its index.
    found = {_top(folder, video) for video in folder.videos} | set(tops)
    names = sorted(name for name in found if name)
    return (names, 0) if len(names) > 1 else ([], 0)


# The table


def _merged(rows: Iterable[_Row]) -> list[_Row]:
    """One row per URI, in order; what one mention leaves out, another may say.

    Raises:
        UserError: two mentions contradict each other.
    """
    merged: list[_Row] = []
    for row in sorted(rows, key=lambda row: row.file.uri):
        if merged and merged[-1].file.uri == row.file.uri:
            merged[-1] = _both(merged[-1], row)
        else:
            merged.append(row)
    return merged


def _both(one: _Row, two: _Row) -> _Row:
    for name, first, second in zip(_Row._fields[1:], one[1:], two[1:], strict=True):
        if first is not None and second is not None and first != second:
            raise UserError(
                f"{_shown(one.file.uri)} is listed twice, with {name} {first!r} and {second!r}: "
                f"a video has one {name}; remove one of the two"
            )
    return _Row(one.file, one.label or two.label, one.split or two.split, one.group or two.group)


def _to_table(rows: list[_Row]) -> pa.Table:
    uris = [row.file.uri for row in rows]
    try:
        return pa.Table.from_arrays(
            [
                pa.array([video_id(uri) for uri in uris], pa.string()),
                pa.array(uris, pa.string()),
                pa.array([row.file.size_bytes for row in rows], pa.int64()),
                pa.array([row.file.fingerprint for row in rows], pa.string()),
                pa.array([row.label for row in rows], pa.string()),
                pa.array([row.split for row in rows], pa.string()),
                pa.array([row.group or _group_in_name(row.file.uri) for row in rows], pa.string()),
            ],
            schema=schema.VIDEOS,
        )
    except UnicodeEncodeError as error:
        name = os.fsencode(str(error.object))
        raise UserError(f"the file name {name!r} is not UTF-8: rename it") from error


def video_id(uri: str) -> str:
    """20 hexadecimal digits of a URI in its canonical spelling.

    80 bits: among a billion videos, two share an id with a probability of 4e-7.
    """
    return blake2b(uri.encode(), digest_size=10).hexdigest()


def _group_in_name(uri: str) -> str | None:
    """UCF-101 numbers recordings within a class: ``v_PushUps_g07_c04`` -> ``PushUps_g07``."""
    match = re.search(r"/v_([^/]+_g\d+)_c\d+\.\w+$", uri)
    return match[1] if match else None


# Messages


def _shown(uri: str) -> str:
    return storage.without_secrets(uri)


def _counted(others: Counter[str]) -> str:
    parts = [f"{number} {extension}" for extension, number in others.most_common(5)]
    if len(others) > 5:
        parts.append(f"{sum(others.values()) - sum(dict(others.most_common(5)).values())} more")
    return ", ".join(parts) or "none"


def _nothing_in(folder: _Folder) -> str:
    return (
        f"no video below {_shown(folder.root)}: looked for .mp4, .avi, .mkv, .mov, .webm and "
        f"{len(manifests.VIDEO_EXTENSIONS) - 5} more extensions; other files there: "
        f"{_counted(folder.others)}; list files of other names in a CSV"
    )
