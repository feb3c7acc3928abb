"""Accuracy by quality, and on videos that are blurred, noisy, dark, or lack frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from vidray.report import charts
from vidray.report.blocks import Chart, Column, DataTable, Finding, Fold, Part, Prose, Section
from vidray.report.judged import paired
from vidray.report.judged.comparable import groups
from vidray.report.judged.paired import Ends
from vidray.report.runs import JudgedModel, Runs
from vidray.report.tools import Tools
from vidray.report.verdict import by_damage, by_quality
from vidray.report.verdict.by_quality import ByQuality, Third

_NAME = "robustness"
# Of a model that is not the best: those whose thirds differ most.
_FEW_CHARTS = 4
# Charts of all columns for so many models, best first; tables have them all.
_MOST_MODELS = 12


def section(runs: Runs, tools: Tools) -> Section | None:
    """The chapter; None where no run has anything for it."""
    by_model = quality_of(runs, tools.settings.seed)
    blocks = [*_by_quality(runs, by_model), *by_damage.blocks(runs, tools)]
    if not blocks:
        return None
    return Section(
        name=_NAME,
        title="Robustness",
        lead=(
            "How the models do on poor videos: where the judged videos are dark, blurred, noisy or "
            "short, and where such damage is made on purpose."
        ),
        blocks=blocks,
        findings=list(_findings(runs, by_model)),
    )


def quality_of(runs: Runs, seed: int) -> Mapping[str, Sequence[ByQuality]]:
    """Run of an evaluation -> its model's accuracy by thirds of each column.

    Those judged on the same videos stand together, the best one first.
    """
    values = by_quality.values_of(runs.features)
    found = {
        judged.name: by_quality.measured(judged, values, seed=seed)
        for group in groups(runs)
        for judged in group.members
    }
    return {name: columns for name, columns in found.items() if columns}


def _members(runs: Runs) -> Mapping[str, JudgedModel]:
    return {member.name: member for group in groups(runs) for member in group.members}


def _by_quality(runs: Runs, by_model: Mapping[str, Sequence[ByQuality]]) -> Iterator[Part]:
    if not by_model:
        return
    judged = _members(runs)
    num_real = sum(one.is_real for columns in by_model.values() for one in columns)
    num_tested = sum(bool(one.thirds) for columns in by_model.values() for one in columns)
    yield Prose(
        paragraphs=[
            (
                "The judged videos in thirds by each of their quality numbers. A test by recording "
                "says whether the accuracy differs between the thirds by more than chance, "
                "corrected for the number of columns (Holm). It does in "
                f"{num_real} of {num_tested} cases here." + _too_few(judged, by_model)
            ),
            *_not_compared(by_model),
        ]
    )
    if num_tested:
        yield _table(judged, by_model)
    drawn: list[Fold] = []
    for number, (name, columns) in enumerate([*by_model.items()][:_MOST_MODELS]):
        tested = sorted((one for one in columns if one.thirds), key=lambda one: one.p_value)
        shown = tested if number == 0 else tested[:_FEW_CHARTS]
        inside = [_chart(number, judged[name], one) for one in shown]
        if inside:
            title = f"{judged[name].title} by quality ({name})"
            drawn.append(Fold(title=title, blocks=inside))
    yield from drawn[:1]
    if drawn[1:]:
        yield Fold(title="Other models by quality", blocks=drawn[1:], is_open=False)


def _too_few(judged: Mapping[str, JudgedModel], by_model: Mapping[str, Sequence[ByQuality]]) -> str:
    """That the test could have found nothing, if that is so of the best model."""
    name, columns = next(iter(by_model.items()))
    if by_quality.could_show(columns, judged[name]):
        return ""
    number = len(dict.fromkeys(paired.recordings(judged[name].groups).tolist()))
    return f" {number} recordings are too few for the test to show any: judge on more."


def _not_compared(by_model: Mapping[str, Sequence[ByQuality]]) -> Iterator[str]:
    """The columns that the best model's videos have no thirds of, and why."""
    columns = next(iter(by_model.values()))
    without = [f"{one.measure.title.lower()} ({one.why_none})" for one in columns if not one.thirds]
    if without:
        yield f"Not compared: {'; '.join(without)}."


def _table(
    judged: Mapping[str, JudgedModel], by_model: Mapping[str, Sequence[ByQuality]]
) -> DataTable:
    rows = [
        _row(judged[name], one)
        for name, columns in by_model.items()
        for one in columns
        if one.thirds
    ]
    return DataTable(
        name="accuracy-by-quality",
        title="Accuracy by thirds of quality",
        frame=pd.DataFrame(rows),
        columns={
            "model": Column(title="Model"),
            "column": Column(title="Thirds by"),
            "lowest": Column(title="Lowest third", form="share"),
            "middle": Column(title="Middle third", form="share"),
            "highest": Column(title="Highest third", form="share"),
            "corrected_p": Column(
                title="p",
                form="number",
                hint="how often chance alone sets the thirds so far apart, corrected",
            ),
            "meaning": Column(title="What that means"),
        },
        note="The accuracy in each third; intervals, numbers of videos and ranges are in the CSV.",
        most_rows=4 * len(by_quality.MEASURES),
    )


def _row(judged: JudgedModel, one: ByQuality) -> dict[str, object]:
    row: dict[str, object] = {
        "model": judged.title,
        "run": judged.name,
        "column": one.measure.title,
    }
    for at, place in enumerate(("lowest", "middle", "highest")):
        row |= _of_third(place, one.thirds[at])
    return row | {
        "p": one.p_value,
        "corrected_p": one.corrected,
        "meaning": _meaning(one),
    }


def _of_third(place: str, third: Third) -> dict[str, object]:
    low, high = third.ends or (None, None)
    return {
        place: third.accuracy,
        f"{place}_from": low,
        f"{place}_to": high,
        f"{place}_videos": third.num_videos,
        f"{place}_recordings": third.num_recordings,
        f"{place}_least_value": third.low,
        f"{place}_most_value": third.high,
    }


def _meaning(one: ByQuality) -> str:
    if not one.is_real:
        return "may be chance"
    return f"worst in the {one.worst[0]} third"


def _chart(number: int, judged: JudgedModel, one: ByQuality) -> Chart:
    labels = _labels(one)
    rows = [
        {
            "third": labels[at],
            "accuracy": third.accuracy,
            "low": None if third.ends is None else third.ends[0],
            "high": None if third.ends is None else third.ends[1],
            "videos": third.num_videos,
            "recordings": third.num_recordings,
            "said": f"{one.name_of(at)} third: accuracy {_with_ends(third.accuracy, third.ends)}, "
            f"{third.num_videos} videos of {third.num_recordings} recordings",
        }
        for at, third in enumerate(one.thirds)
    ]
    verdict = "differs beyond chance" if one.is_real else "no difference beyond chance"
    return charts.dots(
        pd.DataFrame(rows),
        label="third",
        value="accuracy",
        low="low",
        high="high",
        value_title="accuracy",
        domain=(0.0, 1.0),
        name=f"quality-{number}-{one.measure.name.replace('_', '-')}",
        title=f"{one.measure.title}: accuracy of {judged.title}",
        note=(
            f"From the {one.measure.least} third, above, to the {one.measure.most}. Corrected p "
            f"{one.corrected:.2g}: {verdict}."
        ),
    )


def _labels(one: ByQuality) -> list[str]:
    """The values of each third; their names where values differ too little to be told apart."""
    found = [
        f"{_number(third.low)} to {_number(third.high)}{one.measure.unit}" for third in one.thirds
    ]
    if len(set(found)) < len(found):
        return [one.name_of(at) for at in range(len(found))]
    return found


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _with_ends(value: float, ends: Ends) -> str:
    return f"{value:.3f}" + ("" if ends is None else f" ({ends[0]:.3f} to {ends[1]:.3f})")


def _findings(runs: Runs, by_model: Mapping[str, Sequence[ByQuality]]) -> Iterator[Finding]:
    """The strongest dependence of the best model, if any is real."""
    if not by_model:
        return
    judged = _members(runs)
    name, columns = next(iter(by_model.items()))
    real = [one for one in columns if one.is_real]
    if real:
        one = min(real, key=lambda found: found.worst[1].accuracy)
        where, third = one.worst
        overall = judged[name].metrics["accuracy"]
        yield Finding(
            level="warning",
            text=(
                f"{judged[name].title} is right on {third.accuracy:.2f} of the {where} third of "
                f"the videos, and on {overall:.2f} of all: look there before trusting its labels"
            ),
            section=_NAME,
        )
