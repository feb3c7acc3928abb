"""Lists of classes and the labels they count as, ``labels.csv``. No PyTorch.

class,label
punching person (boxing),fight
wrestling,fight
*,no_fight
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vidray import storage
from vidray.errors import UserError, closest_name
from vidray.storage.text_file import read_text

REST = "*"
_COLUMNS = ["class", "label"]
_MOST_BYTES = 16 << 20


@dataclass(frozen=True)
class ClassMap:
    """Labels by class; None leaves a class out. What is not listed keeps its name, or gets the
    label of ``*``.
    """

    labels: Mapping[str, str | None]

    def label_of(self, name: str) -> str | None:
        """The label that a class counts as; None where it is left out."""
        return self.labels.get(name, self.labels.get(REST, name))

    def merged(self, class_names: Sequence[str]) -> tuple[tuple[str, ...], tuple[int | None, ...]]:
        """The labels of a model's classes, sorted, and for each class the number of its label.

        Raises:
            UserError: a listed class is none of ``class_names``, or fewer than two labels are left.
        """
        self.check(class_names)
        labels = [self.label_of(name) for name in class_names]
        names = tuple(sorted({label for label in labels if label is not None}))
        if len(names) < 2:
            raise UserError(
                f"all classes count as {', '.join(map(repr, names)) or 'nothing'}: a model needs "
                f"two labels or more; give the other classes a label, such as {REST},other"
            )
        return names, tuple(None if label is None else names.index(label) for label in labels)

    def check(self, class_names: Iterable[str]) -> None:
        """Raise UserError where a listed class is none of ``class_names``."""
        there = list(class_names)
        for name in self.labels:
            if name != REST and name not in there:
                meant = closest_name(name, there)
                hint = f"; did you mean {meant!r}?" if meant else ""
                raise UserError(f"the list of labels names {name!r}, which is no class here{hint}")


def read_class_map(uri: str) -> ClassMap:
    """The list in a CSV file, local or in a bucket.

    Raises:
        UserError: there is none, or a line is not a class and its label.
    """
    shown = storage.without_secrets(uri)
    text = read_text(
        uri,
        most_bytes=_MOST_BYTES,
        give="give a CSV file of labels",
        other="is not UTF-8: save it as a CSV file in UTF-8",
    )
    rows = csv.reader(io.StringIO(text), strict=True)
    try:
        return _read(rows, shown)
    except csv.Error as error:
        raise UserError(f"{shown}, line {rows.line_num}: {error}") from None


def _read(rows: Iterable[list[str]], shown: str) -> ClassMap:
    found: dict[str, str | None] = {}
    header: list[str] | None = None
    for number, row in enumerate(rows, start=1):
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        if header is None:
            header = [cell.lower() for cell in cells]
            if header != _COLUMNS:
                raise UserError(
                    f"{shown} begins with {','.join(cells)!r}: its first line is class,label"
                )
        elif len(cells) != 2 or not cells[0]:
            raise UserError(f"{shown}, line {number} is {','.join(row)!r}: it must be class,label")
        elif cells[0] in found:
            raise UserError(f"{shown}, line {number} has {cells[0]!r} again: list it once")
        else:
            found[cells[0]] = cells[1] or None
    if not found:
        raise UserError(f"{shown} lists no class: give a line class,label for each")
    return ClassMap(found)
