"""Lists of videos that people write: CSV, Parquet, split files and class names, read leniently.

Only text comes in and entries go out; what the paths mean and what is there, ``sources.py`` says.
"""

import csv
import difflib
import io
import logging
import posixpath
import re
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from vidray import schema
from vidray.errors import UserError

logger = logging.getLogger(__name__)

CLASS_FILES = ("classind.txt", "classes.txt", "labels.txt")
PATH_COLUMNS = ("uri", "path", "video_path", "clip_path")

# A generous set: a file that is no video after all costs one failed row, a video that is left out
# is never noticed. .heic: phones keep the film of a "motion photo" in it.
VIDEO_EXTENSIONS = frozenset(
    f".{name}"
    for name in re.findall(
        r"\w+",
        "3g2 3gp asf avi divx dv f4v flv h264 h265 hevc heic ivf m1v m2t m2ts m2v m4v mj2 mjpeg "
        "mjpg mk3d mkv mov mp4 mpe mpeg mpg mts mxf obu ogm ogv ps qt rm rmvb ts vob webm wmv y4m",
    )
)

_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


class Entry(NamedTuple):
    """One line of a list: the path as written; None for what it does not say."""

    path: str
    label: str | None
    split: str | None
    group: str | None
    where: str  # file and line, for messages


def has_video_extension(path: str) -> bool:
    """Whether the name ends like a video's, in any case."""
    return extension_of(path) in VIDEO_EXTENSIONS


def extension_of(path: str) -> str:
    """``.avi`` of ``a.b.AVI``; empty where there is none."""
    stem, dot, extension = path.rpartition("/")[2].rpartition(".")
    return f".{extension.lower()}" if dot and stem else ""


def split_named(name: str) -> str | None:
    """``val`` for ``Validation`` and its like; None for a name that is no split's."""
    return _SPLITS.get(name.strip().lower())


def split_files(paths: Sequence[str]) -> dict[str, str]:
    """Which of the files in ``splits/`` to read, with the split of each; none for other names.

    ``train.txt``, ``val_list.csv`` and the like; of several sets, such as UCF-101's
    ``trainlist01.txt`` to ``03``, only the first: text before CSV, then by number.
    """
    sets: dict[tuple[bool, int], dict[str, str]] = {}
    for path in sorted(paths):
        stem, extension = posixpath.splitext(posixpath.basename(path).lower())
        match = re.fullmatch(r"([a-z]+?)(?:_?list)?_?(\d*)", stem)
        split = split_named(match[1]) if match else None
        if match and split and extension in (".txt", ".csv"):
            sets.setdefault((extension != ".txt", int(match[2] or 0)), {})[path] = split
    if not sets:
        return {}
    chosen = sets[min(sets)]
    if len(sets) > 1:
        logger.warning("of several sets of split files only %s is used", ", ".join(chosen))
    return chosen


def read_csv(data: bytes, name: str, split: str | None = None) -> list[Entry]:
    """The rows of a CSV with a header; one without, of paths and labels, is read as lines.

    Args:
        data: UTF-8, with or without BOM; separated by comma, semicolon or tab.
        name: of the file, for messages.
        split: of all rows that name none.

    Raises:
        UserError: no path column, a row with more cells than the header, not UTF-8.
    """
    text = _text(data, name)
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(",;\t", key=first.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        header = [cell.strip() for cell in next((row for row in rows if any(row)), [])]
        if header and has_video_extension(_line(first)[0]):
            return read_lines(data, name, split)
        columns = _columns(header, name)
        return [
            _entry([_cell(row, column) for column in columns], split, f"{name} line {line}")
            for line, row in _rows(rows, len(header), name)
        ]
    except csv.Error as error:
        raise UserError(f"{name} line {rows.line_num} is not CSV: {error}") from error


def read_parquet(file: BinaryIO, name: str) -> list[Entry]:
    """The rows of a Parquet file; only the columns that are needed are read.

    Raises:
        UserError: not Parquet, or no path column.
    """
    try:
        parquet = pq.ParquetFile(file)
        header = parquet.schema_arrow.names
        columns = [None if at is None else header[at] for at in _columns(header, name)]
        table = parquet.read(columns=[column for column in columns if column is not None])
        values = [_strings(table, column) for column in columns]
    except pa.ArrowException as error:
        raise UserError(f"{name} is not a Parquet list of videos: {error}") from error
    return [
        _entry(list(row), None, f"{name} row {number}")
        for number, row in enumerate(zip(*values, strict=True), 1)
    ]


def read_lines(data: bytes, name: str, split: str | None) -> list[Entry]:
    """The lines of a split file: ``relative/path``, ``… label-index`` or ``… label name``."""
    entries = []
    for number, line in enumerate(_text(data, name).splitlines(), 1):
        if line.strip():
            path, label = _line(line)
            entries.append(_entry([path, label, None, None], split, f"{name} line {number}"))
    return entries


def read_class_names(data: bytes, name: str) -> tuple[list[str], int]:
    """Class names in the order of their indices, and the first index.

    ``1 Name`` lines say it; of ``Name`` lines the first is 0.

    Raises:
        UserError: two classes of one name.
    """
    lines = [line.strip() for line in _text(data, name).splitlines() if line.strip()]
    numbered = [re.fullmatch(r"(\d+)[\s,:.]+(\S.*)", line) for line in lines]
    names, first = lines, 0
    pairs = sorted((int(match[1]), match[2]) for match in numbered if match)
    for start in (0, 1):
        # All numbered without a gap; otherwise numbers belong to names, such as "3 point shot".
        if [index for index, _ in pairs] == list(range(start, start + len(lines))):
            names, first = [found for _, found in pairs], start
    if len(set(names)) != len(names):
        twice = next(found for found in names if names.count(found) > 1)
        raise UserError(f"{name} names the class {twice!r} twice: each index needs its own name")
    return names, first


def names_of_indices(
    entries: list[Entry], tops: list[str | None], names: list[str], first: int
) -> list[str | None]:
    """Names where indices and class folders agree, counted from ``first`` or, failing that, from
    the other of 0 and 1 (UCF-101 counts from 1, most others from 0); None for no index.

    Args:
        entries: whose labels are indices.
        tops: the class folder that each entry is in.
        names: of the classes, in order.
        first: the index of the first name, 0 or 1.

    Raises:
        UserError: an index without a name, or a name that is another class folder's.
    """
    problem = _index_problem(entries, tops, names, first)
    if problem is not None:
        if _index_problem(entries, tops, names, 1 - first) is not None:
            raise UserError(problem)
        first = 1 - first
    indices = (entry.label for entry in entries)
    return [None if index is None else names[int(index) - first] for index in indices]


def _index_problem(
    entries: list[Entry], tops: list[str | None], names: list[str], base: int
) -> str | None:
    for entry, top in zip(entries, tops, strict=True):
        if entry.label is None:
            continue
        place = int(entry.label) - base
        if not 0 <= place < len(names):
            return (
                f"{entry.where}: label index {entry.label} of {entry.path!r}, but there are "
                f"{len(names)} classes, counted from {base}: {', '.join(names[:5])}"
            )
        if top in names and names[place] != top:
            return (
                f"{entry.where}: label index {entry.label} is class {names[place]!r}, but "
                f"{entry.path!r} is in class folder {top!r}: add classes.txt with the right order"
            )
    return None


def _text(data: bytes, name: str) -> str:
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{name} is not UTF-8 text (byte {error.start}): save it as UTF-8"
        ) from error


def _line(line: str) -> tuple[str, str | None]:
    """Path and label of a line; a path may hold spaces, and so may a label's name."""
    line = line.strip()
    if has_video_extension(line):
        return line, None
    index = re.fullmatch(r"(.*\S?)[\s,;]+(\d+)", line)
    if index:
        return index[1].rstrip(" \t,;"), index[2]
    for gap in reversed(list(re.finditer(r"[\s,;]+", line))):
        if has_video_extension(line[: gap.start()]):
            return line[: gap.start()], line[gap.end() :]
    return line, None


def _columns(header: list[str], name: str) -> list[int | None]:
    """Where path, label, split and group are; None for one that is not there."""
    lower = [column.strip().lower() for column in header]
    path = next((lower.index(column) for column in PATH_COLUMNS if column in lower), None)
    if path is None:
        raise UserError(_no_path_column(header, name))
    others = (
        lower.index(column) if column in lower else None for column in ("label", "split", "group")
    )
    return [path, *others]


def _no_path_column(header: list[str], name: str) -> str:
    def likeness(pair: tuple[str, str]) -> float:
        return difflib.SequenceMatcher(None, pair[0].lower(), pair[1]).ratio()

    if not any(header):
        return (
            f"{name} is empty: it needs a header with {', '.join(PATH_COLUMNS[:-1])} or clip_path"
        )
    nearest = max(((column, wanted) for column in header for wanted in PATH_COLUMNS), key=likeness)
    return (
        f"{name} has no path column (one of {', '.join(PATH_COLUMNS)}); its columns are "
        f"{', '.join(header)}; nearest: rename {nearest[0]!r} to {nearest[1]!r}"
    )


def _rows(rows: Any, width: int, name: str) -> Iterator[tuple[int, list[str]]]:
    for row in rows:
        if any(row[width:]):
            raise UserError(
                f"{name} line {rows.line_num} has {len(row)} cells, the header {width}: put "
                "a value that holds the separator in quotes"
            )
        if any(cell.strip() for cell in row):
            yield rows.line_num, row


def _cell(row: list[str], column: int | None) -> str | None:
    return row[column] if column is not None and column < len(row) else None


def _strings(table: pa.Table, column: str | None) -> list[str | None]:
    if column is None:
        return [None] * table.num_rows
    values = table.column(column)
    if pa.types.is_floating(values.type):  # what pandas makes of whole numbers beside a missing one
        values = values.cast(pa.int64(), safe=True)
    strings: list[str | None] = values.cast(pa.string()).to_pylist()
    return strings


def _entry(values: list[str | None], split: str | None, where: str) -> Entry:
    path, label, given, group = (value.strip() or None if value else None for value in values)
    if path is None or "\0" in path:
        raise UserError(f"{where} has no path: every row names one video")
    if given is not None:
        split = split_named(given)
        if split is None:
            raise UserError(
                f"{where} has split {given!r}: one of {', '.join(schema.SPLITS)}, or empty"
            )
    if group is not None and group.lower() == "unknown":
        group = None
    return Entry(path, label, split, group, where)
