"""Charts: a data frame and a specification of Vega-Lite -> SVG, drawn here, in no browser.

So the page needs no library of charts: it opens at once, prints sharply, works offline, and its
content-security policy lets no script but the page's own run. Every mark carries its values as its
name (``aria-label``): for screen readers, and for the page's tooltips.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from vidray.report.blocks import Chart
from vidray.report.drawing import (
    HEIGHT_PX,
    INK,
    LINE,
    MOST_LABEL_PX,
    SERIES,
    WIDTH_PX,
    category,
    draw,
    linear,
    log_axis,
    looks,
    names_in,
    quantity,
    text_width,
)
from vidray.report.label_places import PLACES, places

__all__ = [
    "HEIGHT_PX",
    "SERIES",
    "WIDTH_PX",
    "bars",
    "category",
    "dots",
    "draw",
    "heatmap",
    "histogram",
    "linear",
    "lines",
    "log_axis",
    "looks",
    "quantity",
    "scatter",
]


def dots(
    frame: pd.DataFrame,
    *,
    label: str,
    value: str,
    low: str,
    high: str,
    value_title: str,
    name: str,
    title: str,
    note: str = "",
    color: str | None = None,
    domain: tuple[float, float] | None = None,
) -> Chart:
    """A dot and the line of its interval for each row, one below another.

    Args:
        frame: a row each, in the order from top to bottom; ``low`` and ``high`` may be null. Its
            column ``said`` is the name of each mark; made of label and value if there is none.
        label, value, low, high, color: its columns; ``color`` (and shape) by group of rows.
        domain: ends of the axis, for charts that are compared with one another.
    """
    said = frame if "said" in frame else _with_names(frame, label, value, low, high)
    scale = {"zero": False} if domain is None else {"domain": list(domain)}
    y = category(label, None, scale={"domain": names_in(frame[label])})
    spec = {
        "height": {"step": 24},
        "encoding": {"y": y, "description": {"field": "said"}},
        "layer": [
            {
                "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.6, "aria": False},
                "encoding": {
                    "x": quantity(low, value_title, scale=scale),
                    "x2": {"field": high},
                    **looks(frame, color, "color"),
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
                "encoding": {
                    "x": quantity(value, value_title, scale=scale),
                    **looks(frame, color, "color", "shape"),
                },
            },
        ],
    }
    return draw(spec, said, name=name, title=title, note=note)


def bars(
    frame: pd.DataFrame,
    *,
    label: str,
    value: str,
    value_title: str,
    name: str,
    title: str,
    note: str = "",
    color: str | None = None,
) -> Chart:
    """A horizontal bar for each row; stacked by ``color`` where rows share a label."""
    said = frame if "said" in frame else _with_names(frame, label, value, color=color)
    spec = {
        "height": {"step": 22},
        "mark": {"type": "bar", "height": {"band": 0.75}},
        "encoding": {
            "y": category(label, None, scale={"domain": names_in(frame[label])}),
            "x": quantity(value, value_title),
            "description": {"field": "said"},
            **looks(frame, color, "color"),
        },
    }
    return draw(spec, said, name=name, title=title, note=note)


def lines(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    x_title: str,
    y_title: str,
    name: str,
    title: str,
    note: str = "",
    color: str | None = None,
    band: tuple[str, str] | None = None,
    x_type: str = "quantitative",
    diagonal: bool = False,
    points: bool = True,
) -> Chart:
    """Lines over ``x``, one for each value of ``color``, told apart by dashes and shapes, too.

    Args:
        band: columns with the ends of an interval, drawn behind.
        x_type: ``quantitative``, ``temporal`` or ``ordinal``.
        diagonal: draw the line from 0, 0 to 1, 1, as ROC curves and reliability diagrams have it.
        points: mark each value; not for curves of hundreds.
    """
    said = frame if "said" in frame else _with_names(frame, x, y, color=color)
    at: dict[str, Any] = {"field": x, "type": x_type, "title": x_title, "sort": None}
    if x_type == "ordinal":
        at["axis"] = {"labelOverlap": "greedy"}
    up = quantity(y, y_title, scale=linear(frame[y]))
    hue, dash, shape = (looks(frame, color, name) for name in ("color", "strokeDash", "shape"))
    layers: list[dict[str, Any]] = []
    if diagonal:
        corners = {"values": [{"at": 0, "up": 0}, {"at": 1, "up": 1}]}
        mark = {"type": "line", "color": LINE, "strokeDash": [4, 4], "aria": False}
        axes = {"x": quantity("at", x_title), "y": quantity("up", y_title)}
        layers.append({"data": corners, "mark": mark, "encoding": axes})
    if band is not None:
        ends = {"y": quantity(band[0], y_title), "y2": {"field": band[1]}}
        mark = {"type": "area", "opacity": 0.2, "aria": False}
        layers.append({"mark": mark, "encoding": {"x": at, **ends, **hue}})
    # The legend tells lines apart by the shapes of their points; by dashes where there are none.
    line = {"type": "line", "strokeWidth": 2, "aria": not points}
    whole = {"description": {"value": title} if color is None else {"field": color}}
    if points:
        dash = {key: {**value, "legend": None} for key, value in dash.items()}
    layers.append(
        {"mark": line, "encoding": {"x": at, "y": up, **hue, **dash, **({} if points else whole)}}
    )
    if points:
        mark = {"type": "point", "filled": True, "size": 40, "opacity": 1}
        names = {"description": {"field": "said"}}
        layers.append({"mark": mark, "encoding": {"x": at, "y": up, **hue, **shape, **names}})
    return draw({"layer": layers}, said, name=name, title=title, note=note)


def scatter(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    x_title: str,
    y_title: str,
    name: str,
    title: str,
    note: str = "",
    color: str | None = None,
    label: str | None = None,
    log_x: bool = False,
    axes: bool = True,
    size: int = 60,
) -> Chart:
    """A point for each row.

    Args:
        frame: its column ``said`` names each point; ``link`` is the anchor that it leads to;
            ``ringed`` (bool) draws a ring around it.
        label: column with a text beside each point.
        axes: off for maps whose axes mean nothing, such as t-SNE.
    """
    nothing: dict[str, Any] = {} if axes else {"axis": None}
    along = log_axis(frame[x]) if log_x else {"scale": linear(frame[x])}
    place = {
        "x": quantity(x, x_title, **{**along, **nothing}),
        "y": quantity(y, y_title, scale=linear(frame[y]), **nothing),
    }
    names = {"description": {"field": "said"}}
    if "link" in frame:
        names["href"] = {"field": "link"}
    look = looks(frame, color, "color", "shape")
    said = frame if "said" in frame else _with_names(frame, x, y, color=color)
    if log_x:
        said = said[said[x] > 0]
    mark = {"type": "point", "filled": True, "size": size, "opacity": 0.85}
    layers: list[dict[str, Any]] = [{"mark": mark, "encoding": {**place, **look, **names}}]
    if "ringed" in frame:
        ring = {"type": "point", "size": 4 * size, "filled": False, "color": INK, "aria": False}
        layers.append({"transform": [{"filter": "datum.ringed"}], "mark": ring, "encoding": place})
    if label is not None:
        said = said.assign(place=_label_places(said, x, y, label, log_x=log_x))
        for number, beside in enumerate(PLACES):
            text = {"type": "text", "align": beside.align, "dx": beside.dx, "dy": beside.dy,
                    "limit": MOST_LABEL_PX, "aria": False}  # fmt: skip
            layers.append(
                {
                    "transform": [{"filter": f"datum.place == {number}"}],
                    "mark": text,
                    "encoding": {**place, "text": {"field": label}},
                }
            )
    drawn = draw({"layer": layers}, said, name=name, title=title, note=note)
    return dataclasses.replace(drawn, frame=frame)


def heatmap(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    value: str,
    x_title: str,
    y_title: str,
    shown: str,
    name: str,
    title: str,
    note: str = "",
) -> Chart:
    """A cell for each row; the darker, the higher ``value`` (0 to 1).

    Args:
        shown: column with the text in the cell.
    """
    room = WIDTH_PX - 30 - text_width(frame[y])
    step = max(14, min(44, int(room / max(1, frame[x].nunique()))))
    place = {"x": category(x, x_title, axis={"labelAngle": -45}), "y": category(y, y_title)}
    names = {"description": {"field": "said"}}
    cell = {"type": "rect", "color": "var(--heat)", "stroke": LINE}
    fill = {
        "opacity": quantity(value, "", scale={"domain": [0, 1], "range": [0.03, 1]}, legend=None)
    }
    ink = {
        # At this strength black and white read equally well on the cell.
        "condition": {"test": f"datum['{value}'] > 0.74", "value": "var(--on-series)"},
        "value": "var(--on-paper)",
    }
    layers: list[dict[str, Any]] = [{"mark": cell, "encoding": {**fill, **names}}]
    if step >= 24:
        text = {"type": "text", "aria": False}
        layers.append({"mark": text, "encoding": {"text": {"field": shown}, "color": {**ink}}})
    spec = {"width": {"step": step}, "height": {"step": step}, "encoding": place, "layer": layers}
    return draw(spec, frame, name=name, title=title, note=note)


def histogram(
    frame: pd.DataFrame,
    *,
    low: str,
    high: str,
    count: str,
    x_title: str,
    name: str,
    title: str,
    note: str = "",
    color: str | None = None,
) -> Chart:
    """Bars of counts over bins that are already counted, so that a page holds no raw values."""
    said = frame if "said" in frame else _with_names(frame, low, count, color=color)
    spec = {
        "mark": {"type": "bar", "binSpacing": 1},
        "encoding": {
            "x": {"field": low, "bin": {"binned": True}, "title": x_title},
            "x2": {"field": high},
            "y": quantity(count, "videos"),
            "description": {"field": "said"},
            **looks(frame, color, "color"),
        },
    }
    return draw(spec, said, name=name, title=title, note=note)


def _label_places(frame: pd.DataFrame, x: str, y: str, label: str, *, log_x: bool) -> list[int]:
    across = frame[x].astype(float)
    return places(
        (np.log(across.where(across > 0)) if log_x else across).tolist(),
        frame[y].astype(float).tolist(),
        [text_width([text]) for text in frame[label]],
        area=(WIDTH_PX - 70, HEIGHT_PX),
    )


def _with_names(
    frame: pd.DataFrame,
    label: str,
    value: str,
    low: str | None = None,
    high: str | None = None,
    color: str | None = None,
) -> pd.DataFrame:
    """The frame with a column ``said`` that names each mark by its values."""

    def said(row: Mapping[str, Any]) -> str:
        parts = [f"{_text(row[label])}: {_text(row[value])}"]
        if low is not None and high is not None and pd.notna(row[low]):
            parts.append(f"({_text(row[low])} to {_text(row[high])})")
        if color is not None:
            parts.insert(0, f"{_text(row[color])},")
        return " ".join(parts)

    return frame.assign(said=[said(row) for row in frame.to_dict("records")])


def _text(value: Any) -> str:
    if isinstance(value, date):
        return f"{value:%Y-%m-%d}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
