"""The files beside the page: the data of its figures as CSV, and what a program reads of it.

report_data/
report.json   version, runs, findings, problems, and the names of the other files
NAME.csv      the data of the table or chart of that name
…             further files of chapters, such as tasks for Label Studio
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import vidray
from vidray import storage
from vidray.errors import UserError
from vidray.report import formats
from vidray.report.blocks import Chart, DataTable, Fold, Part, Section
from vidray.report.runs import Problem, Runs
from vidray.storage import join, json_file
from vidray.storage.addresses import local_path

SUMMARY = "report.json"
# Names of ours: an earlier page's files of these names are removed, and no others.
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*\.(csv|json|xml)")
# What a spreadsheet takes for a formula (OWASP, CSV injection), in letters of full width, too.
_FORMULA = ("=", "+", "-", "@", "\t", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def check(page: str, folder: str) -> None:
    """Raise UserError unless a page and the folder of its files can be written where they are to
    be: before the minutes that a page takes.
    """
    shown = storage.without_secrets(page)
    storage.check_file(page, "an HTML file")
    if storage.exists(folder) and not storage.is_folder(folder):
        raise UserError(f"--out is {shown}, but {storage.without_secrets(folder)} is a file")
    if not storage.is_bucket(folder) and Path(local_path(folder)).is_symlink():
        # Files of the folder behind it would be written over, and removed.
        raise UserError(f"--out is {shown}, but {folder} is a link: take it away")


def write(
    folder: str, runs: Runs, sections: Sequence[Section], problems: Sequence[Problem]
) -> None:
    """Write the files of a page, and remove those of an earlier one that this one has not."""
    files: dict[str, bytes] = {}
    for section in sections:
        files |= section.files
        for block in parts(section.blocks):
            if isinstance(block, DataTable | Chart):
                files[f"{block.name}.csv"] = csv(block.frame)
    left = _earlier(folder) - {*files, SUMMARY}
    for name, content in files.items():
        storage.write_bytes(join(folder, name), content)
    json_file.write_json(join(folder, SUMMARY), _summary(runs, sections, problems, sorted(files)))
    for name in sorted(left):
        if not storage.is_folder(join(folder, name)):  # A page has none: it is somebody's.
            storage.remove_tree(join(folder, name), inside=folder)


def _earlier(folder: str) -> set[str]:
    """Names of the files that an earlier page has left."""
    try:
        files = json_file.read(join(folder, SUMMARY)).get("files")
    except (OSError, UserError):
        return set()
    listed = files if isinstance(files, list) else []
    return {name for name in listed if isinstance(name, str) and _NAME.fullmatch(name)}


def _summary(
    runs: Runs, sections: Sequence[Section], problems: Sequence[Problem], files: Sequence[str]
) -> Mapping[str, Any]:
    return {
        "vidray": vidray.__version__,
        "runs": [storage.without_secrets(run.out) for run in runs.finished],
        "chapters": [section.name for section in sections],
        "findings": list(sections[0].findings),
        "problems": list(problems),
        "files": list(files),
    }


def parts(blocks: Iterable[Part]) -> Iterator[Part]:
    """Blocks, and those inside of folds."""
    for block in blocks:
        yield block
        if isinstance(block, Fold):
            yield from parts(block.blocks)


def csv(frame: pd.DataFrame) -> bytes:
    """A frame as CSV; a text that a spreadsheet would compute begins with an apostrophe.

    Unseen characters are spelled out: a carriage return would begin a row of its own.
    """

    def safe(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        text = formats.legible(value)
        return f"'{text}" if text.startswith(_FORMULA) else text

    plain = frame.drop(columns=[name for name in ("said", "link") if name in frame])
    plain = plain.rename(columns=safe)
    text: str = plain.map(safe).to_csv(index=False)
    return text.encode()
