"""A specification of Vega-Lite and a data frame -> a chart, in the page's colours and fonts.

Colours are the variables of the page's style (``var(--series-1)``), so charts follow dark and
light. The order of the eight is that of Okabe and Ito (2008), told apart by colour-blind readers
too; shapes and dashes say the same once more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any, Literal

import pandas as pd
import vl_convert

from vidray.report import formats, svg
from vidray.report.blocks import Chart

# Of a chart with its axes: it fits a phone, and three stand side by side on a wide page. The height
# is that of the area of data alone.
WIDTH_PX, HEIGHT_PX = 320, 200
SERIES = tuple(f"var(--series-{number})" for number in range(1, 9))
_SHAPES = [
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "cross",
    "triangle-down",
    "triangle-right",
    "wedge",
]
_DASHES = [[1, 0], [6, 3], [2, 2], [8, 2, 2, 2], [4, 4], [1, 3], [10, 3], [6, 2, 1, 2]]
INK, LINE = "currentColor", "var(--line)"
# Longer names of classes and models are cut with an ellipsis; the tooltip has them whole.
MOST_LABEL_PX = 140
_CHARACTER_PX = 6.5  # of a text of 11 px, on average
_MOST_CHARACTERS = 300
_CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": "sans-serif",
    "padding": {"left": 10, "top": 4, "right": 8, "bottom": 4},
    "view": {"stroke": None},
    "axis": {
        "labelColor": INK,
        "titleColor": INK,
        "domainColor": LINE,
        "tickColor": LINE,
        "gridColor": LINE,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "labelLimit": MOST_LABEL_PX,
        "labelSeparation": 4,
        "titlePadding": 8,
    },
    "axisXQuantitative": {"tickCount": 5},
    # Above the data, never over it.
    "legend": {
        "orient": "top",
        "symbolBaseFillColor": INK,
        "symbolBaseStrokeColor": INK,
        "symbolOpacity": 1,
        "symbolLimit": 24,
        "columns": 2,
        "labelColor": INK,
        "titleColor": INK,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "labelLimit": MOST_LABEL_PX,
    },
    "header": {"labelColor": INK, "titleColor": INK},
    "range": {"category": list(SERIES), "symbol": _SHAPES},
    "text": {"color": INK, "fontSize": 11},
    "mark": {"color": SERIES[0]},
    "rule": {"color": INK},
    "title": {"color": INK},
}
_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"


def draw(
    spec: Mapping[str, Any], frame: pd.DataFrame, *, name: str, title: str, note: str = ""
) -> Chart:
    """A chart of any specification, in the page's colours and fonts.

    Args:
        spec: of Vega-Lite, without data; fields are columns of ``frame``. A column ``said`` in the
            encoding ``description`` is the name of each mark, and a column ``link`` in ``href``
            the anchor (``#...``) that it leads to.
        frame: what is drawn, and what the CSV beside the page holds.
        name, title, note: of the chart.
    """
    if frame.empty:
        return Chart(name=name, title=title, svg=svg.nothing(title), frame=frame, note=note)
    values = [
        {key: _drawable(value) for key, value in row.items()} for row in frame.to_dict("records")
    ]
    whole = {
        "$schema": _SCHEMA,
        "width": WIDTH_PX,
        "height": HEIGHT_PX,
        "data": {"values": values},
        "config": _CONFIG,
        **spec,
    }
    views = {"facet", "row", "column", "hconcat", "vconcat"} & {*spec, *spec.get("encoding", ())}
    if isinstance(whole["width"], int) and not views:
        # The width is that of all, axes and legends too.
        whole["autosize"] = {"type": "fit-x", "contains": "padding"}
    # No address is fetched, whatever a specification says.
    drawing = vl_convert.vegalite_to_svg(whole, allowed_base_urls=[])
    figure = svg.finished(drawing, name=name, title=title)
    return Chart(name=name, title=title, svg=figure, frame=frame, note=note)


def _drawable(value: Any) -> Any:
    """A value as JSON holds it; null where it is missing or no finite number."""
    if isinstance(value, str):
        text = formats.legible(value)
        return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}\u2026"
    if formats.is_missing(value):
        return None
    if isinstance(value, date):  # Without a zone: the days of the data, wherever it is drawn.
        stamp = pd.Timestamp(value)
        return (stamp if stamp.tzinfo is None else stamp.tz_convert(None)).isoformat()
    number = value.item() if hasattr(value, "item") else value
    return None if isinstance(number, float) and not math.isfinite(number) else number


def quantity(field: str, title: str, **more: Any) -> dict[str, Any]:
    """An axis of numbers; ``more`` goes into its encoding."""
    return {"field": field, "type": "quantitative", "title": title, **more}


def category(field: str, title: str | None = None, **more: Any) -> dict[str, Any]:
    """An axis, or a legend, of names in the order of the frame."""
    return {"field": field, "type": "nominal", "title": title, "sort": None, **more}


def names_in(values: pd.Series[Any]) -> list[Any]:
    """The different values of a column in their order, as they are drawn."""
    return [_drawable(value) for value in dict.fromkeys(values.dropna())]


def linear(values: pd.Series[Any]) -> dict[str, Any]:
    """A scale that need not begin at 0; around a single value it has some room."""
    known = values.dropna().astype(float)
    if known.nunique() != 1:
        return {"zero": False}
    only = float(known.iloc[0])
    room = abs(only) / 10 or 1.0
    return {"zero": False, "domain": [only - room, only + room]}


def log_axis(values: pd.Series[Any]) -> dict[str, Any]:
    """Scale and axis of the logarithm, with one line a power of ten; what is not above 0 is left
    out.
    """
    known = values[values > 0]
    if known.empty:
        return {"scale": {"zero": False}}
    first, last = math.floor(math.log10(known.min())), math.ceil(math.log10(known.max()))
    steps = (1,) if last - first > 2 else (1, 2, 5)
    every = max(1, (last - first) // 6)
    ticks = [step * 10.0**power for power in range(first, last + 1, every) for step in steps]
    wider = 1.3 if last - first > 2 else 2.0
    low, high = known.min() / wider, known.max() * wider
    shown = [tick for tick in ticks if low <= tick <= high]
    return {"scale": {"type": "log", "domain": [low, high]}, "axis": {"values": shown}}


def text_width(texts: Iterable[Any]) -> float:
    """Pixels that the widest of some labels takes, about."""
    longest = max((len(str(text)) for text in texts), default=1)
    return min(MOST_LABEL_PX, _CHARACTER_PX * longest)


def looks(
    frame: pd.DataFrame, column: str | None, *channels: Literal["color", "shape", "strokeDash"]
) -> dict[str, Any]:
    """The encoding of groups of rows, with one legend above the data for all its channels.

    The domain is stated: Vega-Lite joins legends of layers only where their domains are the same.
    """
    if column is None:
        return {}
    names = names_in(frame[column])
    room = WIDTH_PX - 70  # A legend begins where the data do.
    columns = max(1, min(4, len(names), int(room / (24 + text_width(names)))))
    legend = {"columns": columns, "labelLimit": room // columns - 24}
    ranges = {
        "color": [SERIES[number % 8] for number in range(len(names))],
        # After eight names their colours come again, with other shapes and dashes.
        "shape": [_SHAPES[(number + number // 8) % 8] for number in range(len(names))],
        "strokeDash": [_DASHES[(number + number // 8) % 8] for number in range(len(names))],
    }
    return {
        channel: category(column, scale={"domain": names, "range": ranges[channel]}, legend=legend)
        for channel in channels
    }
