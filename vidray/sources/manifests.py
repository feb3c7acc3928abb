"""Manifests: CSV, Parquet, split files and class names as users write them, read leniently.

Only text comes in and entries go out; ``listing`` says what the paths mean and what is there.
"""

import csv
import difflib
import io
import json
import logging
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vidray.errors import UserError
from vidray.tables import schema

logger = logging.getLogger(__name__)

PATH_COLUMNS = ("uri", "path", "video_path", "clip_path")
# Without one of these, an id or a name: of a file beside the list or below it.
_ID_COLUMNS = (
    "youtube_id", "yt_id", "ytid", "video_id", "clip_id", "id", "vid", "video", "clip",
    "filename", "file_name", "video_name", "file", "name",
)  # fmt: skip
_LABEL_COLUMNS = (
    "label", "class", "class_name", "classname", "label_name", "labels", "category", "action",
    "activity", "target", "y",
)  # fmt: skip
# In seconds by their names; a bare "start" may count frames, where another column speaks of them.
_BEGIN_COLUMNS = (
    "begin_seconds", "start_seconds", "begin_sec", "start_sec", "time_begin", "time_start",
    "begin_time", "start_time", "t_begin", "t_start", "begin", "start",
)  # fmt: skip
_END_COLUMNS = (
    "end_seconds", "stop_seconds", "end_sec", "stop_sec", "time_end", "time_stop", "end_time",
    "stop_time", "t_end", "t_stop", "end", "stop",
)  # fmt: skip
_MAYBE_TIME = re.compile(r"(?:.*_)?(?:begin|start|end|stop|from|to|segment)(?:_.*)?")
_BARE = ("begin", "start", "end", "stop")
COLUMNS = {
    "path": PATH_COLUMNS,
    "id": _ID_COLUMNS,
    "label": _LABEL_COLUMNS,
    "split": ("split", "subset"),
    "group": ("group",),
    "begin": _BEGIN_COLUMNS,
    "end": _END_COLUMNS,
}

# A generous set: a file that is no video after all costs one failed row, a video that is left out
# is never noticed. .heic: phones keep the film of a "motion photo" in it.
VIDEO_EXTENSIONS = frozenset(
    f".{name}"
    for name in re.findall(
        r"\w+",
        "3g2 3gp asf avi divx dv f4v flv gif h264 h265 hevc heic ivf m1v m2t m2ts m2v m4v mj2 "
        "mjpeg mjpg mk3d mkv mov mp4 mpe mpeg mpg mts mxf obu ogm ogv ps qt rm rmvb ts vob webm "
        "wmv y4m",
    )
)

_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


class Entry(NamedTuple):
    """One line of a list, the path as written; None for missing values."""

    path: str
    label: str | None
    split: str | None
    group: str | None
    where: str  # file and line, for messages
    begin_seconds: float | None = None  # with end_seconds: the stretch of the file that is meant
    end_seconds: float | None = None
    cut: str | None = None  # what Kinetics calls a file of this stretch alone, without extension


def has_video_extension(path: str) -> bool:
    """Whether the name ends like a video's, in any case."""
    return extension_of(path) in VIDEO_EXTENSIONS


def extension_of(path: str) -> str:
    """The extension in lower case, ``.avi`` of ``a.b.AVI``; empty where there is none."""
    stem, dot, extension = path.rpartition("/")[2].rpartition(".")
    return f".{extension.lower()}" if dot and stem else ""


def split_named(name: str) -> str | None:
    """The split of a name: ``val`` for ``Validation`` and the like; None if it is no split."""
    return _SPLITS.get(name.strip().lower())


def read_csv(data: bytes, name: str, split: str | None = None) -> list[Entry]:
    """The rows of a CSV with a header; one without, of paths or ids and labels, is read as lines.

    Args:
        data: UTF-8, with or without BOM; separated by comma, semicolon or tab.
        name: of the file, for messages.
        split: of all rows that name none.

    Raises:
        UserError: no path column, a row with more cells than the header, not UTF-8.
    """
    text = text_of(data, name)
    first = next((line for line in text.splitlines() if line.strip()), "")
    # An id and a sentence (Something-Something's first version): commas belong to that.
    separator = ";" if re.match(r"\d+;", first) else max(",;\t", key=first.count)
    # Its default ends the whole list for one long cell. It is the whole process's: only raised.
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        header = [cell.strip() for cell in next((row for row in rows if any(row)), [])]
        path, label = _line(first)
        is_named = any(at is not None for at in _places(header).values())
        if has_video_extension(path) or (label and label.isdecimal() and not is_named):
            return read_lines(data, name, split)
        if len(header) == 2 and header[0].isdecimal() and not is_named:  # Jester: 34870;Swiping
            rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
            header = ["id", "label"]
        columns = _columns(header, name)
        return [
            entry_of([_cell(row, column) for column in columns], split, f"{name} line {line}")
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
        # What pandas makes of whole numbers beside a missing one is a label "1", not "1.0".
        values = [_strings(table, column, name, whole=at < 4) for at, column in enumerate(columns)]
    except pa.ArrowException as error:
        raise UserError(f"{name} is not a Parquet list of videos: {error}") from error
    except OSError as error:
        if error.errno is not None:
            raise
        said = " ".join(str(error).split())[:200]  # Arrow's, of what it cannot unpack
        raise UserError(f"{name} is damaged, write it again: {said}") from error
    return [
        entry_of(list(row), None, f"{name} row {number}")
        for number, row in enumerate(zip(*values, strict=True), 1)
    ]


def read_lines(data: bytes, name: str, split: str | None) -> list[Entry]:
    """The lines of a split file: ``relative/path``, ``… label-index`` or ``… label name``.

    Raises:
        UserError: a list of folders of frames.
    """
    lines = [
        (n, line) for n, line in enumerate(text_of(data, name).splitlines(), 1) if line.strip()
    ]
    _refuse_frames([line for _, line in lines], name)
    return [
        entry_of([*_line(line), None, None, None, None, None], split, f"{name} line {number}")
        for number, line in lines
    ]


def _refuse_frames(lines: list[str], name: str) -> None:
    """Refuse mmaction2's rawframes lists: a path and two or more numbers in every line."""
    for line in lines:
        _, *rest = re.split(r"[\s,;]+", line.strip())
        if len(rest) < 2 or not all(word.isdecimal() for word in rest):
            return
    if lines:
        raise UserError(
            f"{name} has a path and {len(rest)} numbers a line ({lines[0].strip()[:80]}): a list "
            "of folders of frames (path, number of frames, label), such as mmaction2's rawframes, "
            "or of several labels. Give a list of videos with one label each: path, label"
        )


def text_of(data: bytes, name: str) -> str:
    """The text of a list: UTF-8, or UTF-16 with its mark. Raises UserError."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{name} is not UTF-8 text (byte {error.start}): save it as UTF-8"
        ) from error


def json_of(data: bytes, name: str) -> Any:
    """The value of a JSON file. Raises UserError, also for brackets nested too deeply to read."""
    try:
        return json.loads(text_of(data, name))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name} is not JSON: {' '.join(str(error).split())[:200]}") from error


# What a path ends with where something comes behind it. All of a line is looked at once: to try
# every gap of a line of commas as its end took hours.
_PATH_END = re.compile(
    rf"(?<=[^/])\.(?:{'|'.join(e[1:] for e in VIDEO_EXTENSIONS)})(?=[\s,;])", re.IGNORECASE
)


def _line(line: str) -> tuple[str, str | None]:
    """Path and label of a line; a path may hold spaces, and so may a label's name."""
    line = line.strip()
    if quoted := re.fullmatch(r'"([^"]+)"[\s,;]*(.*)', line):
        return quoted[1], quoted[2].strip('"') or None
    if has_video_extension(line):
        return line, None
    head = line.rstrip("0123456789")
    path = head.rstrip(" \t\v\f\r\n,;")
    if head != line and path != head:
        return path, line[len(head) :]
    ends = [match.end() for match in _PATH_END.finditer(line)]
    label = line[ends[-1] :].strip(" \t\v\f\r\n,;") if ends else ""
    return (line[: ends[-1]], label) if label else (line, None)


def _places(header: list[str]) -> dict[str, int | None]:
    """The place of each kind of column: that of the first of its names in the header."""
    found = {_plain(column): k for k, column in reversed([*enumerate(header)])}
    return {
        what: next((found[name] for name in names if name in found), None)
        for what, names in COLUMNS.items()
    }


def _plain(column: str) -> str:
    """The plain name of a column: ``start_time`` for ``Start Time`` and ``startTime``."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", column.strip())
    return re.sub(r"[\s-]+", "_", apart.lower())


def _columns(header: list[str], name: str) -> list[int | None]:
    """Places of path or id, label, split, group, begin, end and the id alone; None: not there."""
    at = _places(header)
    path = at["id"] if at["path"] is None else at["path"]
    if path is None:
        raise UserError(_no_path_column(header, name))
    begin, end = _stretch_columns(header, at["begin"], at["end"], name)
    columns = [path, at["label"], at["split"], at["group"], begin, end]
    read = {*columns}
    unread = [column for k, column in enumerate(header) if column and k not in read]
    if at["label"] is None and unread:
        logger.warning(
            "%s has no label column (label, class, category, …), so its videos have none; "
            "columns not read: %s", name, ", ".join(unread[:8]),
        )  # fmt: skip
    times = [column for column in unread if _MAYBE_TIME.fullmatch(_plain(column))]
    if begin is None and times:
        logger.warning(
            "%s has columns that may be of stretches (%s), which are not read, so its rows are of "
            "whole files: name them begin_seconds and end_seconds if they are",
            name, ", ".join(times[:4]),
        )  # fmt: skip
    return [*columns, None if at["path"] is not None else path]


def _stretch_columns(
    header: list[str], begin: int | None, end: int | None, name: str
) -> tuple[int | None, int | None]:
    """Both columns of a stretch in seconds, or neither."""
    found = [header[at].strip() for at in (begin, end) if at is not None]
    if len(found) == 1 and found[0].lower().endswith("_seconds"):
        raise UserError(f"{name} has {found[0]} alone: a stretch has begin_seconds and end_seconds")
    counts_frames = any("frame" in column.lower() for column in header)
    bare = [column for column in found if column.lower() in _BARE]
    if len(found) < 2 or (bare and counts_frames):
        return None, None
    if bare:
        logger.warning("%s: %s are read as seconds", name, " and ".join(found))
    return begin, end


def _no_path_column(header: list[str], name: str) -> str:
    def likeness(pair: tuple[str, str]) -> float:
        return difflib.SequenceMatcher(None, pair[0].lower(), pair[1]).ratio()

    named = [column[:80] for column in header if column][:50]
    if not named:
        return (
            f"{name} is empty: it needs a header with {', '.join(PATH_COLUMNS[:-1])} or clip_path"
        )
    nearest = max(((column, wanted) for column in named for wanted in PATH_COLUMNS), key=likeness)
    return (
        f"{name} has no path column (one of {', '.join(PATH_COLUMNS)}); its columns are "
        f"{', '.join(named)}; nearest: rename {nearest[0]!r} to {nearest[1]!r}"
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


def _strings(table: pa.Table, column: str | None, name: str, *, whole: bool) -> list[str | None]:
    if column is None:
        return [None] * table.num_rows
    values = table.column(table.schema.names.index(column))  # the first, of two of one name
    try:
        if pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
            if whole and pc.all(pc.equal(values, pc.round(values))).as_py() is not False:
                values = values.cast(pa.int64(), safe=True)
        strings: list[str | None] = values.cast(pa.string()).to_pylist()
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UserError(
            f"{name} has {values.type} in column {column!r}, which is no UTF-8 text: {error}"
        ) from error
    return strings


def entry_of(values: Sequence[str | None], split: str | None, where: str) -> Entry:
    """An entry of path, label, split, group, begin, end and id, as texts.

    Raises:
        UserError: no path, an unknown split, half a stretch or one that is none.
    """
    path, label, given, group, begin, end, name = (
        value.strip() or None if value else None for value in values
    )
    if path is None:
        raise UserError(f"{where} has no path: every row names one video")
    if given is not None:
        split = split_named(given)
        if split is None:
            raise UserError(
                f"{where} has split {given!r}: one of {', '.join(schema.SPLITS)}, or empty"
            )
    if group is not None and group.lower() == "unknown":
        group = None
    stretch = _stretch(begin, end, where)
    entry = Entry(path, label, split, group, where)
    if stretch is None:
        return entry
    begins, ends = stretch
    cut = f"{name}_{int(begins):06d}_{int(ends):06d}" if name else None
    return entry._replace(begin_seconds=begins, end_seconds=ends, cut=cut)


def _stretch(begin: str | None, end: str | None, where: str) -> tuple[float, float] | None:
    if begin is None and end is None:
        return None
    try:
        seconds = float(begin or ""), float(end or "")
    except ValueError:
        seconds = (math.nan, math.nan)
    if not 0 <= seconds[0] < seconds[1] < math.inf:
        raise UserError(
            f"{where} has a stretch from {begin} to {end}: two numbers of seconds, from 0 on, the "
            "first below the second; or both empty for the whole file"
        )
    return seconds
