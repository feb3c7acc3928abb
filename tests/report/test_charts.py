"""Charts of data frames, as drawn: their marks, names, legends, and odd data."""

import re
import zoneinfo
from collections.abc import Sequence
from datetime import UTC, date, datetime
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from tests.report import made
from vidray.report import charts
from vidray.report.blocks import Chart

ODD_NAMES = {
    "none": [],
    "one": ["only"],
    "forty": [f"class_{k:02}" for k in range(40)],
    "long": [f"{k} a name that is much longer than the room for it, and more" for k in range(4)],
    "hostile": list(made.HOSTILE),
}


def _root(chart: Chart) -> ElementTree.Element:
    return ElementTree.fromstring(chart.svg)


def _names(chart: Chart) -> list[str]:
    """Of its marks."""
    marks = [group for group in _root(chart).iter() if "role-mark" in group.get("class", "")]
    found = [one for group in marks for one in group.iter() if one.get("aria-label")]
    return [one.get("aria-label", "") for one in found]


def _texts(chart: Chart) -> list[str]:
    return [one.text or "" for one in _root(chart).iter() if one.tag.endswith("}text")]


def _dots(names: Sequence[object], values: Sequence[object]) -> Chart:
    frame = pd.DataFrame({"n": names, "v": values, "lo": values, "hi": values})
    return charts.dots(
        frame, label="n", value="v", low="lo", high="hi", value_title="v", name="d", title="D"
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ODD_NAMES)
def test_every_chart_of_odd_names_is_drawn(kind: str) -> None:
    for chart in made.every_chart(ODD_NAMES[kind]):
        root = _root(chart)
        assert "Infinity" not in chart.svg
        assert "NaN" not in chart.svg
        assert not [one for one in root.iter() if "style" in one.attrib]
        assert {one.tag.split("}")[1] for one in root.iter()} <= {
            "svg", "g", "path", "line", "rect", "text", "a", "defs", "clipPath",
        }  # fmt: skip
        if kind == "none" and chart.name != "histogram":
            assert _texts(chart) == ["No values."]
        else:
            assert _names(chart)
        if chart.name != "heatmap":
            assert root.get("width") == "320"


def test_marks_are_named_by_their_values() -> None:
    frame = pd.DataFrame({"n": ["a", made.SCRIPT], "v": [0.25, 0.5], "lo": [0.2, None],
                          "hi": [0.3, None]})  # fmt: skip
    chart = charts.dots(
        frame, label="n", value="v", low="lo", high="hi", value_title="v", name="d", title="D"
    )
    assert _names(chart) == ["a: 0.25 (0.2 to 0.3)", f"{made.SCRIPT}: 0.5"]
    assert "<script" not in chart.svg
    said = charts.bars(frame.assign(said=["x", "y"]), label="n", value="v", value_title="v",
                       name="b", title="B")  # fmt: skip
    assert _names(said) == ["x", "y"]


def test_a_missing_value_has_its_line_and_no_mark() -> None:
    chart = _dots(["a", "b", "c"], [0.5, None, float("inf")])
    assert _names(chart) == ["a: 0.5 (0.5 to 0.5)"]
    assert {"a", "b", "c"} < set(_texts(chart))


def test_a_long_name_is_cut() -> None:
    assert len(_names(_dots([made.ERROR], [1.0]))[0]) < 400


def test_links_lead_to_anchors() -> None:
    frame = pd.DataFrame(
        {"x": [1.0, 2.0], "y": [1.0, 2.0], "said": ["a", "b"], "link": ["#v-1", "#v-2"]}
    )
    chart = charts.scatter(frame, x="x", y="y", x_title="x", y_title="y", name="s", title="S")
    assert re.findall(r'href="([^"]+)"', chart.svg) == ["#v-1", "#v-2"]


@pytest.mark.slow
def test_there_is_one_legend_above_the_data() -> None:
    for chart in made.every_chart(["a", "b", "c"]):
        groups = _root(chart).iter()
        legends = [one for one in groups if one.get("class") == "mark-group role-legend"]
        assert len(legends) == (0 if chart.name in ("heatmap", "histogram") else 1), chart.name
        for legend in legends:
            _, down = legend[0].get("transform", "")[10:-1].split(",")
            assert float(down) < 0  # The area of data begins at 0.


def test_after_eight_names_colours_come_again_with_other_shapes() -> None:
    names = [f"c{k:02}" for k in range(24)]
    frame = pd.DataFrame({"x": range(24), "y": range(24), "c": names})
    chart = charts.scatter(
        frame, x="x", y="y", x_title="x", y_title="y", color="c", name="s", title="S"
    )
    looks = set()
    for mark in _root(chart).iter():
        if mark.get("role") == "graphics-symbol" and mark.get("aria-roledescription") == "point":
            looks.add((mark.get("fill"), mark.get("d")))
    assert len(looks) == 24


def test_a_log_axis_has_powers_of_ten_and_no_point_that_is_not_above_zero() -> None:
    frame = pd.DataFrame({"x": [1e-4, 1e2, 0.0, -1.0], "y": [1.0, 2.0, 3.0, 4.0]})
    chart = charts.scatter(
        frame, x="x", y="y", x_title="x", y_title="y", log_x=True, name="s", title="S"
    )
    assert _names(chart) == ["0.0001: 1", "100: 2"]
    assert {"0.0001", "0.01", "1", "100"} <= set(_texts(chart))
    assert len(chart.frame) == 4  # The CSV has them all.


def test_a_single_value_stands_in_the_middle_of_its_axis() -> None:
    assert charts.linear(pd.Series([5.0, None, 5.0])) == {"zero": False, "domain": [4.5, 5.5]}
    assert charts.linear(pd.Series([0.0])) == {"zero": False, "domain": [-1, 1]}
    assert charts.linear(pd.Series([1.0, 2.0])) == {"zero": False}
    assert charts.linear(pd.Series([], dtype=float)) == {"zero": False}


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.001, 10.0], [0.001, 0.01, 0.1, 1, 10]),
        ([2.0, 30.0], [1, 2, 5, 10, 20, 50]),
        ([1.0, 1e12], [1, 100, 1e4, 1e6, 1e8, 1e10, 1e12]),
    ],
)
def test_ticks_of_a_log_axis(values: list[float], ticks: list[float]) -> None:
    assert charts.log_axis(pd.Series(values))["axis"]["values"] == pytest.approx(ticks)


@pytest.mark.slow
def test_days_are_those_of_the_data_wherever_they_are_drawn() -> None:
    zone = zoneinfo.ZoneInfo("Asia/Tokyo")
    for night in (
        date(2026, 11, 1),
        datetime(2026, 11, 1, tzinfo=UTC),
        datetime(2026, 11, 1, 9, tzinfo=zone),
        pd.Timestamp("2026-11-01"),
    ):
        frame = pd.DataFrame({"night": [night], "n": [3]})
        chart = charts.lines(frame, x="night", y="n", x_type="temporal", x_title="night",
                             y_title="videos", name="t", title="T")  # fmt: skip
        assert any("Nov" in text or "00" in text for text in _texts(chart)), _texts(chart)
        assert _names(chart)[0].endswith(": 3")


@pytest.mark.slow
def test_a_curve_without_points_is_named_whole() -> None:
    frame = pd.DataFrame({"x": np.linspace(0, 1, 50), "y": np.linspace(0, 1, 50) ** 0.3})
    frame["model"] = "svm"
    chart = charts.lines(frame, x="x", y="y", x_title="x", y_title="y", color="model",
                         points=False, diagonal=True, name="r", title="R")  # fmt: skip
    assert _names(chart) == ["svm"]


@pytest.mark.slow
def test_cells_of_a_heatmap_have_text_where_it_has_room() -> None:
    few, many = made.heatmap(["a", "b"]), made.heatmap([f"class_{k}" for k in range(14)])
    assert _texts(few).count("12") == 4
    assert "12" not in _texts(many)
    assert 'opacity="0.8' in few.svg  # 0.8 of all: the strength is the share.


@pytest.mark.parametrize("row", ["row", "facet"])
def test_rows_of_charts_have_the_width_of_their_own(row: str) -> None:
    frame = pd.DataFrame({"x": [1, 2], "y": [1, 2], "g": ["a", "b"]})
    place = {"x": charts.quantity("x", "x"), "y": charts.quantity("y", "y")}
    view: dict[str, object] = {"width": 240, "height": 40, "mark": "point", "encoding": place}
    by = {"row": charts.category("g")}
    spec = {"facet": by, "spec": view} if row == "facet" else {**view, "encoding": {**place, **by}}
    drawn = charts.draw(spec, frame, name="r", title="R")
    assert 240 < float(_root(drawn).get("width", "0")) < 340


def test_no_address_is_fetched() -> None:
    spec = {"data": {"url": "https://example.org/a.csv"}, "mark": "point", "encoding": {}}
    frame = pd.DataFrame({"x": [1]})
    with pytest.raises(ValueError, match=r"(?i)url|data"):
        charts.draw(spec, frame, name="d", title="D")
