"""Numbers, sizes and times as the page's tables show them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pandas as pd

_SIZES = ("B", "kB", "MB", "GB", "TB")
MISSING = "\u2013"
_MOST_KEY = 120
# Characters that cannot be seen, cannot be written, or turn the text after them around.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def legible(text: str) -> str:
    """A text with its unseen characters spelled out: ``\\x00``, ``\\u202e``."""
    return _UNSEEN.sub(lambda found: _spelled(found[0]), text)


def _spelled(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def seconds(value: float) -> str:
    """A time span: ``3.1 ms``, ``2.50 s``, ``4 min 5 s``, ``3 h 2 min``."""
    if value < 1:
        return f"{value * 1000:.3g} ms"
    if value < 100:
        return f"{value:.3g} s"
    if value < 6000:
        return f"{value // 60:.0f} min {value % 60:.0f} s"
    return f"{value // 3600:,.0f} h {value % 3600 // 60:.0f} min"


def size(value: float) -> str:
    """A size in decimal units, with three digits: ``94.1 MB``."""
    power = min(len(_SIZES) - 1, max(0, int(math.log10(max(1, value)) // 3)))
    return f"{value / 1000**power:.3g} {_SIZES[power]}"


_FORMS: dict[str, Callable[[Any], str]] = {
    "text": str,
    "share": lambda value: f"{value:.3f}",
    "percent": lambda value: f"{100 * value:.1f} %",
    "count": lambda value: f"{value:,.0f}",
    "number": lambda value: f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}",
    "seconds": seconds,
    "bytes": size,
    "date": lambda value: f"{value:%Y-%m-%d %H:%M}",
}


def cell(value: Any, form: str) -> str:
    """The text of a value in a table; a dash where it is missing."""
    return MISSING if is_missing(value) else _FORMS[form](value)


def plural(number: int, noun: str, nouns: str = "") -> str:
    """A count and its noun: ``1 video``, ``1,200 videos``; ``nouns`` where no ``s`` makes many."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def listing(texts: Sequence[str], *, most: int = 8) -> str:
    """Texts as one: ``a``, ``a and b``, ``a, b and c``, ``a, b and 7 more``."""
    shown = [*texts[:most], *([f"{len(texts) - most} more"] if len(texts) > most else [])]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def is_missing(value: Any) -> bool:
    """Whether a value of a frame is none."""
    return value is None or bool(pd.api.types.is_scalar(value) and pd.isna(value))


def rows_of(table: Any) -> Iterator[dict[str, Any]]:
    """The rows of a ``blocks.DataTable`` that are shown, as its template takes them."""
    best = {name: _best(table.frame[name], column.best) for name, column in table.columns.items()}
    for number, row in enumerate(table.frame.head(table.most_rows).to_dict("records")):
        cells = []
        for name, column in table.columns.items():
            value = row[name]
            cells.append(
                {
                    "text": cell(value, column.form),
                    "is_number": column.form != "text",
                    "key": "" if is_missing(value) else _key(value),
                    "is_best": number in best[name],
                    "interval": _interval(table, name, row),
                }
            )
        link = row.get(table.link) if table.link else None
        yield {"cells": cells, "link": None if is_missing(link) else link}


def _key(value: Any) -> str:
    """What a column is sorted by: the beginning of a long text, which stands in its cell whole."""
    return str(value.timestamp() if hasattr(value, "timestamp") else value)[:_MOST_KEY]


def _best(values: pd.Series[Any], best: str | None) -> set[int]:
    """Positions of the best values of a column of two or more different ones."""
    known = values.dropna()
    if best is None or known.nunique() < 2:
        return set()
    at = known.max() if best == "highest" else known.min()
    return {number for number, value in enumerate(values) if value == at}


def _interval(table: Any, name: str, row: dict[str, Any]) -> dict[str, Any] | None:
    """Where an interval and its value lie on the range of its column, in percent, and its text."""
    column = table.columns[name]
    if column.interval is None:
        return None
    ends = column.interval
    if any(is_missing(row[end]) for end in (*ends, name)) or row[ends[0]] == row[ends[1]]:
        return None  # One value in all resamples: no spread to be seen, and no certainty.
    least, most = table.frame[ends[0]].min(), table.frame[ends[1]].max()
    span = (most - least) or 1.0
    low, high, at = (round(100 * float(row[end] - least) / span, 1) for end in (*ends, name))
    low_text, high_text = (cell(row[end], column.form) for end in ends)
    return {
        "low": low,
        "width": round(max(1.0, high - low), 1),
        # The left edge of a mark that is 2.5 wide, on the drawing to its last pixel.
        "mark": round(min(97.5, max(0.0, at - 1.25)), 2),
        "text": f"{low_text} to {high_text}",
    }
