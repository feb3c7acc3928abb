"""Distributions of what the videos are, by split and by class: counted here, drawn small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vidray.report import charts
from vidray.report.blocks import Chart, Fold, Part
from vidray.report.dataset.video_sets import VideoSet, classes_of, splits_of
from vidray.report.formats import MISSING

_BINS = 16
_MOST_GROUPS = 6
# Values of a category with a colour of their own; the rest is "other".
_MOST_VALUES = 7
# Where the 99th percentile is so many times the 1st, equal bins would put nearly all in one.
_DECADES_RATIO = 30.0
_ROW_PX, _MARGIN_PX = 44, 60
_HEADER = {
    "labelAngle": 0,
    "labelAlign": "left",
    "labelAnchor": "start",
    "labelOrient": "top",
    "labelPadding": 2,
}


@dataclass(frozen=True)
class Property:
    """A column of a set of videos, and what it is called.

    Args:
        column: of the frame.
        title: in words.
        unit: of its numbers.
    """

    column: str
    title: str
    unit: str = ""

    @property
    def axis(self) -> str:
        """The title of its axis."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


FILE_NUMBERS = (
    Property("duration_seconds", "duration", "s"),
    Property("frames_per_second", "frame rate", "frames/s"),
    Property("bytes_per_second", "bit rate", "bytes/s"),
)
FILE_NAMES = (
    Property("resolution", "resolution"),
    Property("codec", "codec"),
    Property("container", "container"),
    Property("has_sound", "has sound"),
)
QUALITY = (
    Property("brightness", "brightness", "levels"),
    Property("contrast", "contrast", "levels"),
    Property("sharpness", "sharpness", "levels\u00b2"),
    Property("noise", "noise", "levels"),
    Property("blockiness", "blockiness", "1: none"),
    Property("near_duplicate_share", "share of frames that repeat the one before"),
    Property("black_share", "share of black frames"),
    Property("corrupt_share", "share of corrupt frames"),
    Property("enhanced_share", "share of enhanced frames"),
)


def blocks(videos: VideoSet, slug: str) -> list[Part]:
    """The charts: files by split, and folded the same by class, and the quality of the pictures."""
    frame = videos.frame[videos.frame["status"] == "ok"]
    by_split = _groups(frame, "split", splits_of(frame))
    by_class = _groups(frame, "label", classes_of(frame))
    files = (*FILE_NUMBERS, *FILE_NAMES)
    found: list[Part] = list(_drawn(frame, files, by_split, f"by-split-{slug}"))
    more = {
        "The same by class": _drawn(frame, files, by_class, f"by-class-{slug}"),
        "Quality of the pictures by split": _drawn(frame, QUALITY, by_split, f"by-split-{slug}"),
        "Quality of the pictures by class": _drawn(frame, QUALITY, by_class, f"by-class-{slug}"),
    }
    if len(by_class) < 2:
        more = {title: some for title, some in more.items() if not title.endswith("class")}
    folds = [Fold(title=t, blocks=some, is_open=False) for t, some in more.items() if some]
    return [*found, *folds]


def _groups(frame: pd.DataFrame, column: str, names: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Name -> its rows, of the largest groups; all videos where there is no name."""
    if not names:
        return {"all": np.ones(len(frame), np.bool_)}
    return {
        name: (frame[column] == name).fillna(False).to_numpy(np.bool_)
        for name in names[:_MOST_GROUPS]
    }


def _drawn(
    frame: pd.DataFrame,
    properties: Sequence[Property],
    groups: dict[str, NDArray[np.bool_]],
    slug: str,
) -> list[Part]:
    """A chart of each property that is known and differs."""
    found = []
    for one in properties:
        is_number = one not in FILE_NAMES
        chart = _histogram if is_number else _shares
        if frame[one.column].dropna().nunique() > 1:
            found.append(chart(frame, one, groups, f"{one.column.replace('_', '-')}-{slug}"))
    return list(found)


def edges(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], bool]:
    """Edges of bins over finite values, and whether they are equal on a log scale.

    Few different values (frame rates) get bins around them by being many; a scale over decades
    is logarithmic.
    """
    low, high = float(values.min()), float(values.max())
    if low == high:
        return np.array([low - 0.5, high + 0.5]), False
    first, last = np.percentile(values, [1, 99])
    if low > 0 and last > _DECADES_RATIO * first:
        return np.geomspace(low, high, _BINS + 1), True
    return np.linspace(low, high, _BINS + 1), False


def count(
    values: NDArray[np.float64], groups: dict[str, NDArray[np.bool_]]
) -> tuple[pd.DataFrame, bool]:
    """A row for each group and bin that is not empty: group, low, high, videos, share."""
    known = np.isfinite(values)
    bounds, is_log = edges(values[known])
    rows = []
    for name, inside in groups.items():
        counts, _ = np.histogram(values[known & inside], bounds)
        total = max(1, int(counts.sum()))
        rows += [
            {"group": name, "low": low, "high": high, "videos": int(n), "share": n / total}
            for n, low, high in zip(counts, bounds[:-1], bounds[1:], strict=True)
            if n
        ]
    return pd.DataFrame(rows, columns=["group", "low", "high", "videos", "share"]), is_log


def _histogram(
    frame: pd.DataFrame, one: Property, groups: dict[str, NDArray[np.bool_]], name: str
) -> Chart:
    values = pd.to_numeric(frame[one.column], errors="coerce").to_numpy(np.float64, na_value=np.nan)
    counted, is_log = count(values, groups)
    counted["said"] = [
        f"{row['group']}, {one.title} {row['low']:.3g} to {row['high']:.3g} {one.unit}: "
        f"{row['videos']:,} videos ({row['share']:.1%})"
        for row in counted.to_dict("records")
    ]
    scale = {"type": "log"} if is_log else {"zero": False, "nice": False}
    bars = {
        "width": charts.WIDTH_PX - _MARGIN_PX,
        "height": _ROW_PX,
        "mark": {"type": "bar", "binSpacing": 1},
        "encoding": {
            "x": charts.quantity("low", one.axis, scale=scale),
            "x2": {"field": "high"},
            "y": charts.quantity("share", "", axis={"format": "%", "tickCount": 2}),
            "y2": {"datum": 0},
            "description": {"field": "said"},
        },
    }
    spec: dict[str, Any] = {
        "facet": {"row": charts.category("group", header=_HEADER) | {"sort": list(groups)}},
        "spec": bars,
        "spacing": 6,
    }
    missing = int((~np.isfinite(values)).sum())
    note = f"Not known of {missing:,} videos." if missing else ""
    title = one.title[0].upper() + one.title[1:]
    return charts.draw(spec, counted, name=name, title=title, note=note)


def _shares(
    frame: pd.DataFrame, one: Property, groups: dict[str, NDArray[np.bool_]], name: str
) -> Chart:
    """Stacked shares of the values of a category in each group."""
    values = frame[one.column]
    if one.column == "has_sound":
        values = values.map({True: "yes", False: "no"})
    text = values.astype(object).where(values.notna(), MISSING).astype(str)
    common = list(text.value_counts().index[:_MOST_VALUES])
    text = text.where(text.isin(common), "other")
    rows = []
    for group, inside in groups.items():
        counts = text[inside].value_counts()
        total = max(1, int(counts.sum()))
        rows += [
            {
                "group": group,
                "value": value,
                "videos": int(counts[value]),
                "share": counts[value] / total,
                "said": f"{group}, {one.title} {value}: {counts[value]:,} videos "
                f"({counts[value] / total:.1%})",
            }
            for value in [*common, "other"]
            if value in counts
        ]
    return stacked(
        pd.DataFrame(rows),
        label="group",
        value="share",
        value_title="share of videos",
        color="value",
        name=name,
        title=one.title[0].upper() + one.title[1:],
    )


def stacked(
    frame: pd.DataFrame,
    *,
    label: str,
    value: str,
    value_title: str,
    color: str,
    name: str,
    title: str,
    note: str = "",
) -> Chart:
    """Bars stacked by ``color``, in the bar and in the legend in the order of the frame.

    ``charts.bars`` stacks by the alphabet: test would come before train.
    """
    order = {text: number for number, text in enumerate(dict.fromkeys(frame[color]))}
    spec = {
        "height": {"step": 22},
        "mark": {"type": "bar", "height": {"band": 0.75}},
        "encoding": {
            "y": charts.category(label, None),
            "x": charts.quantity(value, value_title),
            **charts.looks(frame, color, "color"),
            "order": {"field": "place", "type": "quantitative"},
            "description": {"field": "said"},
        },
    }
    placed = frame.assign(place=frame[color].map(order).astype(int))
    return charts.draw(spec, placed, name=name, title=title, note=note)
