"""Charts: a data frame and a specification of Vega-Lite -> SVG, drawn here, in no browser.

So the page needs no library of charts: it opens at once, prints sharply, works offline, and its
content-security policy lets no script but the page's own run. Every mark carries its values as its
name (``aria-label``): for screen readers, and for the page's tooltips.

Colours are the variables of the page's style (``var(--series-1)``), so charts follow dark and
light. The order of the eight is that of Okabe and Ito (2008), told apart by colour-blind readers
too; shapes and dashes say the same once more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from typing import Any

import pandas as pd
import vl_convert

from vidray.report.blocks import Chart

# Of a chart that fits a phone. On a wide page charts stand beside one another.
WIDTH_PX, HEIGHT_PX = 280, 200
SERIES = tuple(f"var(--series-{number})" for number in range(1, 9))
_SHAPES = [
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "cross",
    "triangle-down",
    "stroke",
    "wedge",
]
_DASHES = [[1, 0], [6, 3], [2, 2], [8, 2, 2, 2], [4, 4], [1, 3], [10, 3], [6, 2, 1, 2]]
_INK, _LINE = "currentColor", "var(--line)"
# Longer names of classes and models are cut with an ellipsis; the tooltip has them whole.
_MOST_LABEL_PX = 150
_CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": "sans-serif",
    "padding": 4,
    "view": {"stroke": None},
    "axis": {
        "labelColor": _INK,
        "titleColor": _INK,
        "domainColor": _LINE,
        "tickColor": _LINE,
        "gridColor": _LINE,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "labelLimit": _MOST_LABEL_PX,
    },
    # Above the data, never over it.
    "legend": {
        "orient": "top",
        "columns": 2,
        "labelColor": _INK,
        "titleColor": _INK,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "labelLimit": _MOST_LABEL_PX,
        "symbolStrokeColor": _INK,
    },
    "header": {"labelColor": _INK, "titleColor": _INK},
    "range": {"category": list(SERIES), "symbol": _SHAPES},
    "text": {"color": _INK, "fontSize": 11},
    "mark": {"color": SERIES[0]},
    "rule": {"color": _INK},
    "title": {"color": _INK},
}
_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"


def draw(
    spec: Mapping[str, Any], frame: pd.DataFrame, *, name: str, title: str, note: str = ""
) -> Chart:
    """A chart of any specification, in the page's colours and fonts.

    Args:
        spec: of Vega-Lite, without data; fields are columns of ``frame``. A column ``said`` in the
            encoding ``description`` is the name of each mark, and a column ``link`` in ``href``
            what it links to.
        frame: what is drawn, and what the CSV beside the page holds.
        name, title, note: of the chart.
    """
    values = frame.astype(object).where(frame.notna(), None).to_dict("records")
    whole = {
        "$schema": _SCHEMA,
        "width": WIDTH_PX,
        "height": HEIGHT_PX,
        "data": {"values": values},
        "config": _CONFIG,
        **spec,
    }
    # No address is fetched, whatever a specification says.
    svg = vl_convert.vegalite_to_svg(whole, allowed_base_urls=[])
    return Chart(name=name, title=title, svg=_accessible(svg, title), frame=frame, note=note)


def _accessible(svg: str, title: str) -> str:
    """The drawing as one figure with a name, which scales to the width it is given."""
    start = svg.index(">")
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg[:start])
    assert box is not None
    label = escape(title, quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {box[1]} {box[2]}" '
        f'width="{box[1]}" height="{box[2]}" role="graphics-document" aria-label="{label}" '
        f'tabindex="0">{svg[start + 1 :].replace("xlink:href", "href")}'
    )


def quantity(field: str, title: str, **more: Any) -> dict[str, Any]:
    """An axis of numbers; ``more`` goes into its encoding."""
    return {"field": field, "type": "quantitative", "title": title, **more}


def category(field: str, title: str | None = None, **more: Any) -> dict[str, Any]:
    """An axis, or a legend, of names in the order of the frame."""
    return {"field": field, "type": "nominal", "title": title, "sort": None, **more}


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
) -> Chart:
    """A dot and the line of its interval for each row, one below another.

    Args:
        frame: a row each, in the order from top to bottom; ``low`` and ``high`` may be null. Its
            column ``said`` is the name of each mark; made of label and value if there is none.
        label, value, low, high, color: its columns; ``color`` (and shape) by group of rows.
    """
    said = frame if "said" in frame else _with_names(frame, label, value, low, high)
    y = category(label, None)
    look = {} if color is None else {"color": category(color), "shape": category(color)}
    spec = {
        "height": {"step": 24},
        "encoding": {"y": y, "description": {"field": "said"}},
        "layer": [
            {
                "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.6, "aria": False},
                "encoding": {
                    "x": quantity(low, value_title, scale={"zero": False}),
                    "x2": {"field": high},
                    **({} if color is None else {"color": category(color)}),
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 70},
                "encoding": {"x": quantity(value, value_title, scale={"zero": False}), **look},
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
            "y": category(label, None),
            "x": quantity(value, value_title),
            "description": {"field": "said"},
            **({} if color is None else {"color": category(color)}),
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
    at = {"field": x, "type": x_type, "title": x_title}
    up = quantity(y, y_title, scale={"zero": False})
    hue = {} if color is None else {"color": category(color)}
    dash = {} if color is None else {"strokeDash": category(color, scale={"range": _DASHES})}
    shape = {} if color is None else {"shape": category(color)}
    layers: list[dict[str, Any]] = []
    if diagonal:
        corners = {"values": [{"at": 0, "up": 0}, {"at": 1, "up": 1}]}
        mark = {"type": "line", "color": _LINE, "strokeDash": [4, 4], "aria": False}
        axes = {"x": quantity("at", x_title), "y": quantity("up", y_title)}
        layers.append({"data": corners, "mark": mark, "encoding": axes})
    if band is not None:
        ends = {"y": quantity(band[0], y_title), "y2": {"field": band[1]}}
        mark = {"type": "area", "opacity": 0.2, "aria": False}
        layers.append({"mark": mark, "encoding": {"x": at, **ends, **hue}})
    line = {"type": "line", "strokeWidth": 2, "aria": False}
    layers.append({"mark": line, "encoding": {"x": at, "y": up, **hue, **dash}})
    if points:
        mark = {"type": "point", "filled": True, "size": 40}
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
    scale: dict[str, Any] = {"type": "log"} if log_x else {"zero": False}
    place = {
        "x": quantity(x, x_title, scale=scale, **nothing),
        "y": quantity(y, y_title, scale={"zero": False}, **nothing),
    }
    names = {"description": {"field": "said"}}
    if "link" in frame:
        names["href"] = {"field": "link"}
    look = {} if color is None else {"color": category(color), "shape": category(color)}
    said = frame if "said" in frame else _with_names(frame, x, y, color=color)
    mark = {"type": "point", "filled": True, "size": size, "opacity": 0.85}
    layers: list[dict[str, Any]] = [{"mark": mark, "encoding": {**place, **look, **names}}]
    if "ringed" in frame:
        ring = {"type": "point", "size": 4 * size, "filled": False, "color": _INK, "aria": False}
        layers.append({"transform": [{"filter": "datum.ringed"}], "mark": ring, "encoding": place})
    if label is not None:
        text = {"type": "text", "align": "left", "dx": 8, "limit": _MOST_LABEL_PX, "aria": False}
        layers.append({"mark": text, "encoding": {**place, "text": {"field": label}}})
    return draw({"layer": layers}, said, name=name, title=title, note=note)


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
    step = max(14, min(44, WIDTH_PX // max(1, frame[x].nunique())))
    place = {"x": category(x, x_title, axis={"labelAngle": -45}), "y": category(y, y_title)}
    names = {"description": {"field": "said"}}
    cell = {"type": "rect", "color": SERIES[0], "stroke": _LINE}
    fill = {
        "opacity": quantity(value, "", scale={"domain": [0, 1], "range": [0.03, 1]}, legend=None)
    }
    ink = {
        "condition": {"test": f"datum['{value}'] > 0.55", "value": "var(--on-series)"},
        "value": _INK,
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
        "mark": {"type": "bar", "binSpacing": 1, "opacity": 0.85},
        "encoding": {
            "x": {"field": low, "bin": {"binned": True}, "title": x_title},
            "x2": {"field": high},
            "y": quantity(count, "videos"),
            "description": {"field": "said"},
            **({} if color is None else {"color": category(color)}),
        },
    }
    return draw(spec, said, name=name, title=title, note=note)


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
    return f"{value:.4g}" if isinstance(value, float) else str(value)
