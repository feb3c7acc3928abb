"""Split lists of public data sets, as downloaded: which files are lists, and their videos.

==================== =========================================================================
UCF-101              ``ucfTrainTestlist/trainlist01.txt``, ``testlist01.txt``, ``classInd.txt``
HMDB-51              ``CLASS_test_split1.txt``: names, with 1 for train, 2 for test, 0 for neither
Kinetics             CSV ``label, youtube_id, time_start, time_end, split``, or the same as JSON
Something-Something  JSON lists of ids with a template, ``labels.json``
mmaction2, SlowFast  ``…_train_list_videos.txt``, ``train.csv``: path or id, and label index
==================== =========================================================================

Only names and text come in; ``listing`` reads the files.
"""

import logging
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from vidray.errors import UserError
from vidray.sources import manifests
from vidray.sources.class_names import is_class_list
from vidray.sources.manifests import (
    Entry,
    extension_of,
    has_video_extension,
    split_named,
)
from vidray.storage import FileInfo

logger = logging.getLogger(__name__)

# Lists of a data set lie at its top, or a folder or two below.
_MOST_FOLDERS_ABOVE_LISTS = 3
# Of several sets of lists that of the first kind is used.
_EXTENSIONS = (".txt", ".csv", ".json")
_CODES = {"0": None, "1": "train", "2": "test"}  # HMDB-51's
_NO_LISTS = {"answers", "label", "labels", "class", "classes", "category", "categories"}


class SplitList(NamedTuple):
    """A file that lists the videos of a split, or (HMDB-51) those of a class with their splits."""

    path: str
    split: str | None
    label: str | None = None


def split_lists(paths: Iterable[str]) -> list[list[SplitList]]:
    """The lists of splits, found by name, folder by folder, ``splits/`` first.

    Of several sets in a folder, such as UCF-101's ``01`` to ``03``, the first is taken: one with a
    train split before others, text before CSV before JSON, then by number.
    """
    folders: dict[str, list[str]] = {}
    for path in sorted(paths):
        folders.setdefault(posixpath.dirname(path), []).append(path)
    order = sorted(folders, key=lambda name: (name != "splits", name.count("/"), name))
    found = (_best_set(folders[folder]) for folder in order)
    return [lists for lists in found if lists]


def may_be_list(path: str) -> bool:
    """The texts that may be lists, by place or name: a million may lie beside videos."""
    if posixpath.dirname(path) in ("", "splits"):
        return True
    is_named = is_class_list(path) or bool(_best_set([path]))
    return is_named and path.count("/") <= _MOST_FOLDERS_ABOVE_LISTS


def _best_set(paths: Sequence[str]) -> list[SplitList]:
    sets: dict[tuple[bool, int, int], list[SplitList]] = {}
    for path in paths:
        stem, extension = posixpath.splitext(posixpath.basename(path).lower())
        if extension not in _EXTENSIONS:
            continue
        if hmdb := re.fullmatch(r"(.+)_test_split(\d)", posixpath.splitext(path)[0]):
            key = (False, _EXTENSIONS.index(extension), int(hmdb[2]))
            sets.setdefault(key, []).append(SplitList(path, None, posixpath.basename(hmdb[1])))
            continue
        split, number, is_of_frames = _split_in_name(stem)
        if split:
            key = (is_of_frames, _EXTENSIONS.index(extension), number)
            sets.setdefault(key, []).append(SplitList(path, split))
    if not sets:
        return []

    def rank(key: tuple[bool, int, int]) -> tuple[bool, bool, int, int]:
        trains = any(one.split in ("train", None) for one in sets[key])
        return key[0], not trains, key[1], key[2]

    chosen = sets[min(sets, key=rank)]
    if len(sets) > 1:
        logger.warning(
            "of several sets of split files only %s%s is used",
            ", ".join(one.path for one in chosen[:3]),
            ", …" if len(chosen) > 3 else "",
        )
    return chosen


def _split_in_name(stem: str) -> tuple[str | None, int, bool]:
    """Split, number of the set and whether it lists frames: ``ucf101_train_split_1_rawframes``."""
    words = re.findall(r"[a-z]+|\d+", stem)
    splits = [(k, split_named(word.removesuffix("list"))) for k, word in enumerate(words)]
    named = [(k, split) for k, split in splits if split]
    if len(named) != 1 or _NO_LISTS & set(words):
        return None, 0, False
    ((place, split),) = named
    number = next((int(word) for word in words[place:] if word.isdecimal()), 0)
    return split, number, bool({"rawframes", "frames", "flow"} & set(words))


def read_list(data: bytes, of: SplitList) -> list[Entry]:
    """The entries of one list.

    Raises:
        UserError: it is not what its name says.
    """
    extension = extension_of(of.path)
    if of.label is not None:
        return _read_hmdb(data, of.path, of.label)
    if extension == ".json":
        return read_json(data, of.path, of.split)
    return (manifests.read_lines if extension == ".txt" else manifests.read_csv)(
        data, of.path, of.split
    )


def _read_hmdb(data: bytes, name: str, label: str) -> list[Entry]:
    entries = []
    for entry in manifests.read_lines(data, name, None):
        if entry.label not in _CODES:
            raise UserError(
                f"{entry.where} has the code {entry.label}: HMDB-51's are 1 (train), 2 (test), 0"
            )
        if split := _CODES[entry.label]:
            entries.append(entry._replace(path=f"{label}/{entry.path}", label=label, split=split))
    return entries


def read_json(data: bytes, name: str, split: str | None = None) -> list[Entry]:
    """Entries of a JSON list of objects with ``id`` or a path, or of an object of ids.

    Raises:
        UserError: neither, or an entry without an id.
    """
    found = manifests.json_of(data, name)
    if isinstance(found, dict):
        found = found.get("database", found)  # ActivityNet's
    items = (
        [{**value, "id": key} for key, value in found.items() if isinstance(value, dict)]
        if isinstance(found, dict)
        else found
    )
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise UserError(f"{name} is no list of videos: it needs objects with an id and a label")
    return [
        _json_entry({**item, **annotation}, split, f"{name} entry {number}")
        for number, item in enumerate(items, 1)
        for annotation in _annotations(item)
    ]


def _annotations(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Annotations of Kinetics and ActivityNet: a label and a segment, or several."""
    given = item.get("annotations")
    several = given if isinstance(given, list) else [given]
    found: list[dict[str, Any]] = [one for one in several if isinstance(one, dict)]
    return found or [{}]


def _json_entry(item: Mapping[str, Any], split: str | None, where: str) -> Entry:
    values: dict[str, Any] = {
        what: next((item[name] for name in names if item.get(name) is not None), None)
        for what, names in manifests.COLUMNS.items()
    }
    template = item.get("template")
    if isinstance(template, str):
        values["label"] = template.replace("[", "").replace("]", "")
    segment = item.get("segment")
    if isinstance(segment, list) and len(segment) == 2:
        values["begin"], values["end"] = segment
    path = values["path"] or values["id"]
    named = [path, *(values[what] for what in ("label", "split", "group", "begin", "end"))]
    named.append(None if values["path"] else path)
    # Half a character, which JSON can write, has no place in a table.
    texts = [None if v is None else str(v).encode(errors="replace").decode() for v in named]
    return manifests.entry_of(texts, split, where)


# Which videos are meant


def wrapper(paths: Sequence[str]) -> str:
    """The folder that holds all class folders (``UCF-101``), below the source; empty for none.

    Videos beside the class folders have no class. With a single folder beside them they are of one
    class, which holds that folder.
    """
    around: list[str] = []
    inside = [path for path in paths if "/" in path]
    while len(tops := {path.partition("/")[0] for path in inside}) == 1:
        below = [path.partition("/")[2] for path in inside]
        inside = [path for path in below if "/" in path]
        if not inside or (inside != below and len({p.partition("/")[0] for p in inside}) == 1):
            break  # The folder is a class itself.
        around += tops
    return "/".join(around)


class Beside:
    """Finds videos that a list names by the end of their path, or by an id.

    A video is meant where its path ends with all that a list says, with or without extension, and
    no other's does. So the folders above it, such as ``UCF-101/``, may be any.

    Args:
        entries: of the lists.
        videos: (path below the source, file) of all there.
    """

    def __init__(self, entries: Iterable[Entry], videos: Iterable[tuple[str, FileInfo]]) -> None:
        wanted = {name for entry in entries for name in (_tidy(entry.path), entry.cut) if name}
        depths = {name.count("/") + 1 for name in wanted}
        self._found: dict[str, list[FileInfo]] = {}
        for path, file in videos:
            stem = path[: -len(extension_of(path))] if has_video_extension(path) else path
            for whole in {path, stem}:
                names = whole.split("/")
                for depth in depths:
                    end = "/".join(names[-depth:])
                    if len(names) >= depth and end in wanted:
                        self._found.setdefault(end, []).append(file)

    def file_of(self, entry: Entry) -> tuple[FileInfo | None, bool]:
        """The file, if there is one, and whether it is the entry's stretch alone."""
        for name, is_cut in ((entry.cut, True), (_tidy(entry.path), False)):
            files = self._found.get(name or "", [])
            if len(files) == 1:
                return files[0], is_cut
        return None, False


def _tidy(path: str) -> str:
    return posixpath.normpath(path.replace("\\", "/"))


def is_by_name(entry: Entry) -> bool:
    """Whether an entry names its file without extension, as ids do."""
    return not extension_of(entry.path) and "://" not in entry.path
