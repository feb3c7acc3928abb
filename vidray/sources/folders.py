"""Folders of videos: their content, and the label that a path in them gives."""

import posixpath
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from vidray import storage
from vidray.sources import (
    class_names,
    datasets,
)
from vidray.sources.datasets import SplitList
from vidray.sources.manifests import Entry
from vidray.sources.video_rows import (
    Row,
)
from vidray.storage import FileInfo, addresses


@dataclass
class Folder:
    """The result of one pass over a folder."""

    root: str
    videos: list[FileInfo] = field(default_factory=list)
    lists: list[str] = field(default_factory=list)  # text and tables in it or in splits/, relative
    others: Counter[str] = field(default_factory=Counter)  # extension -> number of files

    def relative(self, file: FileInfo) -> str:
        """The path of a file below the folder."""
        return addresses.below(self.root, file.uri) or storage.name_of(file.uri)


def labelled(
    folder: Folder, lists: Sequence[SplitList], rows: list[Row], entries: list[Entry]
) -> list[Row]:
    """Rows whose label indices became class names; rows without a label get their class folder.

    Where others have labels, an entry without one has that of its folder only where it is a class
    of theirs: of Something-Something's test list nothing is known.
    """
    around = datasets.wrapper([folder.relative(video) for video in folder.videos])
    tops = [
        _class_folder(folder, around, row, entry) for row, entry in zip(rows, entries, strict=True)
    ]
    labels = [entry.label for entry in entries]
    given = {label for label in labels if label is not None}
    if given and all(label.isdecimal() for label in given):
        names, first = _class_names(folder, around, posixpath.dirname(lists[0].path), tops)
        if names:
            labels = class_names.names_of_indices(entries, tops, names, first)
            given = set(names)
    return [
        row._replace(label=label or (top if top in given or not given else None))
        for row, label, top in zip(rows, labels, tops, strict=True)
    ]


def _class_folder(folder: Folder, around: str, row: Row, entry: Entry) -> str | None:
    """The first folder of a path as its list has it, or of the file where that has none."""
    path = addresses.below(folder.root, row.file.uri)
    if path is None:
        return None
    written = posixpath.normpath(entry.path.replace("\\", "/"))
    ends_so = "/" in written and f"/{path}".endswith(f"/{written}")
    return top_folder(written if ends_so else path.removeprefix(f"{around}/"))


def top_folder(path: str) -> str | None:
    """The first folder of a path below the source."""
    top, slash, _ = path.partition("/")
    return sys.intern(top) if slash else None  # Interned: a million videos have a few labels.


def _class_names(
    folder: Folder, around: str, beside: str, tops: list[str | None]
) -> tuple[list[str], int]:
    """Class names in order, and the index of the first; no names where they are unknown."""
    named = [path for path in folder.lists if class_names.is_class_list(path)]
    for place in (beside, "splits", ""):
        found = [path for path in named if posixpath.dirname(path) == place]
        for path in sorted(found, key=class_names.rank):
            uri = storage.join(folder.root, path)
            return class_names.read_class_names(storage.read_bytes(uri), path)
    # Also the folders that only the lists know: a class whose videos are all gone keeps its index.
    paths = (folder.relative(video) for video in folder.videos)
    there = {top_folder(path.removeprefix(f"{around}/")) for path in paths}
    # Where the lists know none of the folders, their paths begin further below.
    names = sorted(name for name in {*tops, *(there if there & {*tops} else ())} if name)
    return (names, 0) if len(names) > 1 else ([], 0)
