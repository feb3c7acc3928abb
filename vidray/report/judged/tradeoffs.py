"""What accuracy costs: seconds, size, memory and money; learning and training curves."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from vidray.evaluation.fronts import pareto
from vidray.report import charts
from vidray.report.blocks import Chart, Column, DataTable, Fold, Part, Section
from vidray.report.drawing import log_axis
from vidray.report.formats import cell, listing
from vidray.report.judged import learning_curves
from vidray.report.judged.comparable import ComparedModels, groups
from vidray.report.judged.compare_figures import COLUMNS, figures, filled
from vidray.report.judged.compare_pairs import witnesses
from vidray.report.judged.costs import rate_alone, rate_in_jobs
from vidray.report.judged.front_names import SIDES, names_beside
from vidray.report.runs import Runs
from vidray.report.settings import ReportSettings
from vidray.report.tools import Tools

# Costs that are farther apart than this have a logarithmic axis.
_WIDE = 10
_ENDS = ("accuracy_low", "accuracy_high")


@dataclass(frozen=True, kw_only=True)
class CostAxis:
    """Something that a model costs.

    Attributes:
        column: of the frame.
        slug: part of the chart's name.
        title: of the axis, with its unit.
        unit: what the column is divided by on the axis.
        noun: in sentences.
        form: of a value in words, as a table's column.
    """

    column: str
    slug: str
    title: str
    noun: str
    form: str
    unit: float = 1.0


AXES = (
    CostAxis(
        column="end_to_end_seconds_per_video",
        slug="seconds",
        title="seconds a video, file to label",
        noun="seconds a video",
        form="seconds",
    ),
    CostAxis(
        column="size_bytes", slug="size", title="size, MB", noun="size", form="bytes", unit=1e6
    ),
    CostAxis(
        column="peak_ram_bytes",
        slug="ram",
        title="peak RAM, MB",
        noun="memory",
        form="bytes",
        unit=1e6,
    ),
    CostAxis(
        column="peak_gpu_bytes",
        slug="gpu-memory",
        title="peak GPU memory, MB",
        noun="GPU memory",
        form="bytes",
        unit=1e6,
    ),
    CostAxis(
        column="cost_per_million",
        slug="cost",
        title="cost of a million videos",
        noun="cost",
        form="number",
    ),
)


def section(runs: Runs, tools: Tools) -> Section | None:
    """The chapter; None where no run has anything for it."""
    blocks: list[Part] = []
    chosen = [group for group in groups(runs) if len(group.members) > 1]
    for group in chosen:
        inside = _of_group(group, runs, tools.settings)
        if len(chosen) > 1 and inside:
            title = f"{len(group.members)} models on {witnesses(group)}"
            blocks.append(Fold(title=title, blocks=inside))
        else:
            blocks += inside
    blocks += learning_curves.blocks(runs)
    if not blocks:
        return None
    return Section(
        name="tradeoffs",
        title="What accuracy costs",
        lead="What a more accurate model takes in seconds, size, memory and money, and what more "
        "data or more training would bring. In each chart a dashed line joins the models that no "
        "other beats in both.",
        blocks=blocks,
    )


def frame_of(group: ComparedModels, runs: Runs, settings: ReportSettings) -> pd.DataFrame:
    """A row a model: its figures, what a million videos cost, and of which fronts it is.

    ``front_COLUMN`` says of each axis whether no model is both cheaper and at least as accurate.
    """
    frame = figures(group, runs)
    alone = [rate_alone(member) for member in group.members]
    in_jobs = [rate_in_jobs(member, runs) for member in group.members]
    # Rates of different kinds differ by more than models do: one kind for all that are compared.
    of_all = in_jobs if all(one is not None for one in in_jobs) else alone
    frame = frame.assign(
        **{
            name: [None if one is None else one.per_million(settings) for one in rates]
            for name, rates in (("cost_per_million", of_all), ("cost_in_jobs", in_jobs))
        },
        cost_from=[None if one is None else one.source for one in of_all],
        cost_in_jobs_from=[None if one is None else one.source for one in in_jobs],
    )
    for axis in AXES:
        frame[axis.column] = pd.to_numeric(frame[axis.column])
        frame[f"front_{axis.column}"] = pareto(frame[axis.column], frame["accuracy"])
    return frame


def _of_group(group: ComparedModels, runs: Runs, settings: ReportSettings) -> list[Part]:
    frame = frame_of(group, runs, settings)
    known = [axis for axis in AXES if frame[axis.column].notna().sum() > 1]
    parts: list[Part] = [chart(frame, axis, group.slug) for axis in known]
    return [*parts, _table(frame, known, group, settings)] if known else []


def _said(frame: pd.DataFrame, axis: CostAxis) -> str:
    """The front along an axis, in a sentence."""
    front = _front(frame, axis)
    named = [
        f"{row['model']} ({cell(row[axis.column], axis.form)}, {row['accuracy']:.3f})"
        for row in front.to_dict("records")
    ]
    without = int(frame[axis.column].isna().sum())
    rest = (
        f" {without} of {len(frame)} models have no figure here: not measured, or too little to be."
        if without
        else ""
    )
    if len(named) == 1:
        return f"{named[0]} costs least and is the most accurate.{rest}"
    is_all = len(named) + without == len(frame)
    beaten = "" if is_all else " Each other costs no less than one of these, for no more accuracy."
    return f"On the line: {listing(named)}.{beaten}{rest}"


def _front(frame: pd.DataFrame, axis: CostAxis) -> pd.DataFrame:
    return frame[frame[f"front_{axis.column}"]].sort_values(axis.column, kind="stable")


def chart(frame: pd.DataFrame, axis: CostAxis, slug: str) -> Chart:
    """Accuracy against what ``axis`` says, a dashed line along the front.

    Args:
        frame: as ``frame_of`` gives it; models without a figure are left out.
        slug: ends the chart's name.
    """
    known = frame[frame[axis.column].notna()]
    front = f"front_{axis.column}"
    points = pd.DataFrame(
        {
            "model": known["model"],
            "kind": known["kind"].fillna("unknown"),
            "x": known[axis.column] / axis.unit,
            **{name: known[name] for name in ("accuracy", *_ENDS)},
            "front": known[front],
            "link": known["link"],
        }
    ).sort_values("x", kind="stable")
    points["said"] = [
        f"{row['model']}: accuracy {row['accuracy']:.3f}, {axis.noun} "
        f"{cell(row['x'] * axis.unit, axis.form)}" + (", on the front" if row["front"] else "")
        for row in points.to_dict("records")
    ]
    is_log = bool(points["x"].min() > 0 and points["x"].max() > _WIDE * points["x"].min())
    across = points["x"].map(math.log) if is_log else points["x"]
    beside = names_beside(
        across, points["accuracy"], points["model"].to_list(), points["front"].to_list()
    )
    drawn = charts.draw(
        _scatter(points, frame, axis.title, is_log=is_log),
        points.assign(beside=beside),
        name=f"pareto-{axis.slug}-{slug}",
        title=f"Accuracy and {axis.noun}",
        note=_said(frame, axis),
    )
    return dataclasses.replace(drawn, frame=points)


def _scatter(
    points: pd.DataFrame, frame: pd.DataFrame, title: str, *, is_log: bool
) -> Mapping[str, Any]:
    """Points by kind, the steps of the front, and the names of the models on it."""
    along = log_axis(points["x"]) if is_log else {"scale": {"zero": False, "padding": 12}}
    place = {
        "x": charts.quantity("x", title, **along),
        "y": charts.quantity("accuracy", "accuracy", scale={"zero": False, "padding": 16}),
    }
    # By the order of the models in the other charts, so that a kind has one colour in all.
    kinds = frame.assign(kind=frame["kind"].fillna("unknown"))
    names = {"description": {"field": "said"}, "href": {"field": "link"}}
    step = {"type": "line", "interpolate": "step-after", "opacity": 0.6, "aria": False}
    return {
        "encoding": place,
        "layer": [
            {
                "transform": [{"filter": "datum.front"}],
                "mark": {**step, "color": "currentColor", "strokeDash": [3, 3]},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 70, "opacity": 0.9},
                "encoding": {**charts.looks(kinds, "kind", "color", "shape"), **names},
            },
            *(
                {
                    "transform": [{"filter": f"datum.beside === '{side}'"}],
                    "mark": {"type": "text", "align": align, "dx": dx, "dy": dy, "aria": False},
                    "encoding": {"text": {"field": "model"}},
                }
                for side, (align, dx, dy) in SIDES.items()
            ),
        ],
    }


def _table(
    frame: pd.DataFrame, known: Sequence[CostAxis], group: ComparedModels, settings: ReportSettings
) -> DataTable:
    on = [
        ", ".join(axis.noun for axis in known if row[f"front_{axis.column}"]) or None
        for row in frame.to_dict("records")
    ]
    columns = {
        **{name: COLUMNS[name] for name in ("model", "kind", "accuracy")},
        **{axis.column: COLUMNS[axis.column] for axis in AXES if axis.column in COLUMNS},
        "cost_per_million": Column(title="Cost of a million videos", form="number", best="lowest"),
        "cost_from": Column(title="Measured in"),
        "cost_in_jobs": Column(title="The same, in jobs", form="number"),
        "cost_in_jobs_from": Column(title="Jobs"),
        "front": Column(title="Not beaten in", hint="no model costs less and is as accurate"),
    }
    return DataTable(
        name=f"tradeoffs-{group.slug}",
        title="What each model costs",
        frame=frame.assign(front=on),
        columns=filled(frame.assign(front=on), columns),
        note=f"Money at {settings.cpu_hour_price:g} for a core and {settings.gpu_hour_price:g} for "
        "a GPU an hour (--cpu-hour-price, --gpu-hour-price), in the currency of these prices, for "
        "videos like those measured. A rate of one process takes one core for busy: networks keep "
        "several busy, so theirs is the least they cost.",
        link="link",
    )
