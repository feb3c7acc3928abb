"""Charts over the nights of a set of labels."""

from __future__ import annotations

from typing import Any

import pandas as pd

from vidray.report import charts
from vidray.report.blocks import Chart, Part
from vidray.report.formats import cell

MOST_NIGHTS = 90  # Drawn; the table and its CSV have all.
# As many colours as are told apart; what is rarer is drawn together.
_MOST_NAMES = 7
_REST = "all others"
_AXIS = {"labelOverlap": "greedy", "labelSeparation": 8, "labelAngle": 0}


def over_nights(field: str = "night") -> dict[str, Any]:
    """The axis of nights."""
    return {"field": field, "type": "ordinal", "title": "night", "axis": _AXIS}


def of_counts(frame: pd.DataFrame, kinds: pd.DataFrame, slug: str, prices: str) -> list[Part]:
    """What came in, failures by kind, speed, hours of video and cost, as far as they are known.

    Args:
        prices: what the cost is of, in words.
    """
    if len(frame) < 2:
        return []
    newest = frame.tail(MOST_NIGHTS)
    names = [name for name in ("labelled", "failed", "skipped") if newest[name].sum()]
    found: list[Part] = [
        stacked(newest, names, name=f"{slug}-came-in", title="Videos of each night", of="videos")
    ]
    failed = largest(kinds.tail(MOST_NIGHTS))
    if len(failed.columns) > 1:
        what = f"{slug}-kinds"
        found.append(stacked(failed, list(failed.columns[1:]), name=what, title="Failed, by kind"))
    for column, title, unit, note in (
        ("hours_of_video", "Hours of video", "hours", ""),
        ("videos_per_second", "Speed", "videos a second", ""),
        ("cost", "Cost of each night", "cost", prices),
    ):
        known = newest[["night", column]].dropna()
        if len(known) > 1 and known[column].any():
            what = f"{slug}-{column.replace('_', '-')}"
            found.append(_line(known, column, unit, name=what, title=title, note=note))
    return found


def largest(kinds: pd.DataFrame) -> pd.DataFrame:
    """Counts by night of the largest names, the largest first, and of all others together."""
    counts = kinds.drop(columns="night")
    totals = counts.sum().sort_values(ascending=False, kind="stable")
    kept = [name for name in totals.index[:_MOST_NAMES] if totals[name]]
    found = counts[kept].copy()
    found.insert(0, "night", kinds["night"])
    rest = counts.drop(columns=kept).sum(axis=1)
    if rest.any():
        # A name of theirs may be the same.
        found[_REST if _REST not in kept else f"{_REST} "] = rest
    return found


def stacked(
    frame: pd.DataFrame,
    names: list[str],
    *,
    name: str,
    title: str,
    of: str = "videos",
    is_share: bool = False,
) -> Chart:
    """A bar a night, of parts: counts, or shares of one whole."""
    long = frame.melt("night", names, var_name="what", value_name="value")
    long["order"] = long["what"].map({name: k for k, name in enumerate(names)})
    form = "percent" if is_share else "count"
    long["said"] = [
        f"night {night}, {what}: {cell(value, form)}"
        for night, what, value in zip(long["night"], long["what"], long["value"], strict=True)
    ]
    whole: dict[str, Any] = {"scale": {"domain": [0, 1]}, "axis": {"format": "%"}}
    spec = {
        "mark": {"type": "bar"},
        "encoding": {
            "x": over_nights(),
            "y": charts.quantity("value", of, **(whole if is_share else {})),
            "color": charts.category("what"),
            "order": {"field": "order"},
            "description": {"field": "said"},
        },
    }
    return charts.draw(spec, long, name=name, title=title)


def _line(
    frame: pd.DataFrame, column: str, unit: str, *, name: str, title: str, note: str
) -> Chart:
    said = [
        f"night {night}: {value:,.4g} {unit}"
        for night, value in zip(frame["night"], frame[column], strict=True)
    ]
    spec = {
        "encoding": {
            "x": over_nights(),
            "y": charts.quantity(column, unit),
            "description": {"field": "said"},
        },
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 2, "aria": False}},
            {"mark": {"type": "point", "filled": True, "size": 40}},
        ],
    }
    return charts.draw(spec, frame.assign(said=said), name=name, title=title, note=note)
