"""Listing of videos: any folder, list, glob or single file, local or in a bucket, as VIDEOS.

In a folder, the first of these that is there decides:

1. ``splits/train.txt``, ``val.txt``, ``test.txt`` (or ``.csv``), or the official lists of a data
   set there or in any other folder of lists (``datasets.py``): exactly the videos that they name.
   Label indices count the names in ``classInd.txt``, ``classes.txt``, ``labels.txt`` or a label
   map beside the lists, in ``splits/`` or the folder, or else the class folders in order; a line
   without a label has its class folder's.
2. ``videos.csv`` or ``videos.parquet``, where no video is in a class folder.
3. Class folders: the first folder below the source is the label; a video beside them has none.
   A folder that holds all class folders (``UCF-101/``) is passed through. ``train/CLASS/…``,
   ``val/CLASS/…`` and so on are splits of classes, not classes; a video beside them has none.

Every file with a video's extension below the folder counts, hidden ones and those in folders that
start with "_" or "." do not. Lists say which files, whatever their extension: a file that is not
there stays a row, with size 0 and fingerprint "missing".
"""

import logging
import posixpath
import re
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
from fsspec.utils import glob_translate

from vidray import errors, storage
from vidray.errors import UserError, VideoError
from vidray.sources import (
    class_names,
    datasets,
    lookup,
    manifests,
    webp,
)
from vidray.sources.datasets import Beside, SplitList
from vidray.sources.folders import Folder, labelled, top_folder
from vidray.sources.manifests import Entry, extension_of, has_video_extension
from vidray.sources.splits import check_splits, derive_splits
from vidray.sources.video_rows import (
    Row,
    merged,
    to_table,
    video_id,
)
from vidray.storage import FileInfo, addresses

__all__ = ["list_videos", "video_id"]

logger = logging.getLogger(__name__)

_MANIFESTS = (".csv", ".tsv", ".parquet")
_LISTS = (".txt", ".json")


def list_videos(source: str, *, splits: Sequence[float] | None = None) -> pa.Table:
    """The videos of a source, sorted by URI: one row each, however often they are named.

    Args:
        source: a folder, a CSV or Parquet list (``uri|path|video_path|clip_path`` or an id,
            optional ``label, split, group, begin_seconds, end_seconds``), an official list of a
            data set, a glob or one video; a local path or any fsspec URI.
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
    except OSError as error:
        raise UserError(_cannot_read(root, error)) from error
    table = to_table(merged(rows), folder)
    check_splits(table)
    if splits is None:
        return table
    if given := table.num_rows - table.column("split").null_count:
        raise UserError(
            f"{_shown(source)} gives the splits of {given} of its {table.num_rows} videos: leave "
            "--split-fractions out to keep them, or give a list without splits to derive new ones"
        )
    return derive_splits(table, splits, root=folder)


def _find(root: str) -> tuple[str, list[Row]]:
    """The folder that paths are relative to, and the rows as found."""
    extension = extension_of(root.partition("#")[0] if root.startswith("http") else root)
    is_listable = extension in (*_MANIFESTS, *_LISTS) or extension in manifests.VIDEO_EXTENSIONS
    # In a bucket a folder may have the name of an object. Asked only where that may be a source.
    itself = storage.file_infos([root]) if is_listable and storage.is_bucket(root) else []
    is_object = bool(itself) and itself[0].fingerprint not in ("missing", "unreadable")
    if storage.is_folder(root) and not (is_object and extension in _MANIFESTS):
        also = [Row(itself[0])] if is_object and has_video_extension(root) else []
        folder = _scan(root)
        return root, also if also and not folder.videos else [*_from_folder(folder), *also]
    if storage.exists(root):
        if extension in _MANIFESTS:
            return storage.parent_of(root), _from_manifest(root)
        if extension in _LISTS:
            return storage.parent_of(root), _from_list(root)
        if extension == ".xlsx":
            raise UserError(f"{_shown(root)} is no video: give a CSV, or the folder of splits/")
        return storage.parent_of(root), [Row(storage.file_infos([root])[0])]
    if re.search(r"[*?\[]", root):
        return _from_glob(root)
    raise UserError(lookup.nearest(root))


# The forms of a source


def _scan(root: str) -> Folder:
    folder, webps = Folder(root), list[FileInfo]()
    for file in storage.list_files(root):
        extension = extension_of(file.uri)
        if extension in manifests.VIDEO_EXTENSIONS:
            folder.videos.append(file)
            continue
        folder.others[extension or "no extension"] += 1
        if extension == ".webp":
            webps.append(file)
        if extension in (*_LISTS, *_MANIFESTS):
            relative = folder.relative(file)
            if datasets.may_be_list(relative):
                folder.lists.append(relative)
    if webps:
        moving = webp.animated(webps)
        folder.videos += moving
        folder.others -= Counter({".webp": len(moving)})  # and with none left no word of them
    return folder


def _from_folder(folder: Folder) -> list[Row]:
    for lists in datasets.split_lists(folder.lists):
        is_asked = posixpath.dirname(lists[0].path) == "splits"
        if rows := _from_split_lists(folder, lists, is_asked=is_asked):
            return rows
    inside = [path for path in folder.lists if posixpath.dirname(path) == "splits"]
    if any(not class_names.is_class_list(path) for path in inside):
        raise UserError(
            f"{_shown(folder.root)} has splits/, but its files are {', '.join(inside[:3])}: name "
            "them train, val and test (.txt or .csv), or rename the folder"
        )
    paths = [folder.relative(video) for video in folder.videos]
    listed = [name for name in ("videos.csv", "videos.parquet") if name in folder.lists]
    if listed and not any("/" in path for path in paths):
        logger.info("%s lists the videos of %s", listed[0], _shown(folder.root))
        return _from_manifest(storage.join(folder.root, listed[0]))
    if not paths:
        raise UserError(_nothing_in(folder))
    if folder.others:
        logger.info("left out, not videos: %s", _counted(folder.others))
    return _from_class_folders(folder, paths)


def _from_class_folders(folder: Folder, paths: list[str]) -> list[Row]:
    around = datasets.wrapper(paths)
    if around:
        logger.info("the folders in %s are the classes", around)
        paths = [path.removeprefix(f"{around}/") for path in paths]
    tops = [top_folder(path) for path in paths]
    names = {top for top in tops if top is not None}
    split = manifests.split_named(storage.name_of(around)) if around else None
    if len(names) > 1 and all(map(manifests.split_named, names)):
        # A video beside the folders, of splits or of classes, says nothing about the others.
        return [
            Row(video, top_folder(path.partition("/")[2]), manifests.split_named(top or ""))
            for video, path, top in zip(folder.videos, paths, tops, strict=True)
        ]
    return [Row(video, top, split) for video, top in zip(folder.videos, tops, strict=True)]


def _from_manifest(uri: str) -> list[Row]:
    name = storage.name_of(uri)
    if extension_of(name.partition("#")[0]) == ".parquet":
        try:
            with storage.open_binary(uri) as file:
                entries = manifests.read_parquet(file, name)
        except VideoError as error:
            raise UserError(f"cannot read {_shown(uri)}: {error.message}") from error
    else:
        entries = manifests.read_csv(storage.read_bytes(uri), name)
    if not entries:
        raise UserError(f"{_shown(uri)} has a header, but lists no video: add one row per video")
    base = storage.parent_of(uri)
    by_name = [entry for entry in entries if datasets.is_by_name(entry)]
    if not by_name or uri.startswith("http") or base == "/":
        return _looked_up(base, entries)
    folder = Folder(base)
    folder.videos = [file for file in storage.list_files(base) if has_video_extension(file.uri)]
    rows = _looked_up(base, entries, folder, by_name)
    if all(row.file.fingerprint == "missing" for row in rows):
        logger.warning(
            "%s names its %d videos without extension (%s, …), and none of them is beside it or "
            "in a folder below: put the list where the videos are",
            name, len(rows), by_name[0].path,
        )  # fmt: skip
    return rows


def _from_list(uri: str) -> list[Row]:
    """Rows of an official list given by itself, for videos in its folder or below."""
    folder = _scan(storage.parent_of(uri))
    name = storage.name_of(uri)
    (lists,) = datasets.split_lists([name]) or [[SplitList(name, None)]]
    rows = _from_split_lists(folder, lists, is_asked=True)
    if not any(_is_there(row) for row in rows):
        raise UserError(
            f"{_shown(uri)} names no file beside it or below: give the folder that holds both the "
            "videos and their lists, or give a CSV with the path of each"
        )
    return rows


def _from_glob(pattern: str) -> tuple[str, list[Row]]:
    """Rows of a glob; the label is the first folder below the part without wildcards."""
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
    folder = Folder(root or "/")
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
    labels = (top_folder(folder.relative(video)) for video in folder.videos)
    return folder.root, [Row(*pair) for pair in zip(folder.videos, labels, strict=True)]


def _looked_up(
    base: str,
    entries: Sequence[Entry],
    folder: Folder | None = None,
    by_name: Sequence[Entry] = (),
) -> list[Row]:
    """A row for each entry.

    Args:
        base: the folder that paths start from.
        folder: what is there, as far as it is known.
        by_name: entries that are looked for in all of it where nothing is at their path.
    """
    videos = folder.videos if folder else []
    known = {video.uri: video for video in videos}
    beside = Beside(
        by_name, ((folder.relative(video), video) for video in videos) if folder else ()
    )
    found = [_found_by_name(base, entry, known, beside) for entry in entries]
    left = [entry for entry, (file, _) in zip(entries, found, strict=True) if file is None]
    looked_up = iter(lookup.look_up(base, left, known))
    rows = []
    for entry, (file, is_cut) in zip(entries, found, strict=True):
        begin, end = (None, None) if is_cut else (entry.begin_seconds, entry.end_seconds)
        there = file or next(looked_up)
        rows.append(Row(there, entry.label, entry.split, entry.group, begin, end))
    return rows


def _found_by_name(
    base: str, entry: Entry, known: dict[str, FileInfo], beside: Beside
) -> tuple[FileInfo | None, bool]:
    """The file that an entry names by part of its path, if none is at its path."""
    at_path = known.get(f"{base.rstrip('/')}/{entry.path}")
    return (at_path, False) if at_path else beside.file_of(entry)


def _from_split_lists(folder: Folder, lists: Sequence[SplitList], *, is_asked: bool) -> list[Row]:
    """The videos of lists; none where lists found by chance name no file that is there."""
    names = ", ".join(one.path for one in lists[:3]) + (", …" if len(lists) > 3 else "")
    try:
        entries = [entry for one in lists for entry in _read(folder, one)]
    except UserError as error:
        if is_asked:
            raise
        logger.warning("%s: %s is not used", error, names)
        return []
    if not entries and is_asked:
        raise UserError(f"{_shown(folder.root)}: {names} list no video")
    rows = _looked_up(folder.root, entries, folder, entries)
    if not is_asked and not any(map(_is_there, rows)):
        logger.warning("%s name no file that is there, and are not used", names)
        return []
    rows = labelled(folder, lists, rows, entries)
    listed = {row.file.uri for row in rows}
    if left_out := sum(video.uri not in listed for video in folder.videos):
        logger.warning("left out: %d videos that are in none of %s", left_out, names)
    return rows


def _is_there(row: Row) -> bool:
    return row.file.fingerprint.partition(":")[0] not in errors.ERROR_KINDS


def _read(folder: Folder, one: SplitList) -> list[Entry]:
    return datasets.read_list(storage.read_bytes(storage.join(folder.root, one.path)), one)


# Labels of split files


# Messages


def _shown(uri: str) -> str:
    return storage.without_secrets(uri)


def _counted(others: Counter[str]) -> str:
    parts = [f"{number} {extension}" for extension, number in others.most_common(5)]
    if len(others) > 5:
        parts.append(f"{sum(others.values()) - sum(dict(others.most_common(5)).values())} more")
    return ", ".join(parts) or "none"


def _cannot_read(root: str, error: OSError) -> str:
    said = storage.without_secrets(" ".join(str(error.strerror or error).split()))[:200]
    kind = "it is gone" if isinstance(error, FileNotFoundError) else said
    reason = "access denied" if isinstance(error, PermissionError) else kind
    advice = "its permissions, and those of the folders above it"
    if storage.is_bucket(root):
        advice = "the address, and the credentials of its storage"
    if addresses.protocol_of(root) in ("s3", "s3a"):
        advice = "the address, AWS_PROFILE or AWS_ACCESS_KEY_ID, and AWS_ENDPOINT_URL"
    return f"cannot read {_shown(root)} ({reason}): check {advice}"


def _nothing_in(folder: Folder) -> str:
    return (
        f"no video below {_shown(folder.root)}: looked for .mp4, .avi, .mkv, .mov, .webm and "
        f"{len(manifests.VIDEO_EXTENSIONS) - 5} more extensions; other files there: "
        f"{_counted(folder.others)}; list files of other names in a CSV"
    )
