"""The models on videos that were damaged on purpose, as tables and charts."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from vidray.report import charts
from vidray.report.blocks import Chart, Column, DataTable, Fold, Part, Prose
from vidray.report.formats import listing, plural, seconds
from vidray.report.judged.comparable import ComparedModels, groups
from vidray.report.runs import Runs
from vidray.report.tools import Tools
from vidray.report.verdict.damage_trials import GroupTrial, ModelTrial
from vidray.report.verdict.made_damage import DAMAGES

# Reasons listed why videos could not be damaged.
_MOST_REASONS = 3


def blocks(runs: Runs, tools: Tools) -> Iterator[Part]:
    """The trials of every group whose models' folders are given; or which flag measures them."""
    if not tools.settings.robustness_videos:
        if any(judged.model is not None for judged in runs.judged):
            yield Prose(paragraphs=[_not_measured()])
        return
    for group in groups(runs):
        trial = trial_of(group, runs, tools)
        if trial is not None:
            yield from _of_group(group, trial)


def trial_of(group: ComparedModels, runs: Runs, tools: Tools) -> GroupTrial | None:
    """The group's models on damaged videos, if the settings ask for any."""
    return tools.damage.of(group, runs, tools.settings)


def _not_measured() -> str:
    return (
        "How much blur, noise, darkness and dropped frames the models bear was not measured: "
        "--robustness-videos 20 damages 20 of the judged videos on purpose and labels them again "
        "with every model whose folder is given. That takes about 10 seconds a video, and more of "
        "large ones."
    )


def _of_group(group: ComparedModels, trial: GroupTrial) -> Iterator[Part]:
    yield Prose(paragraphs=list(_told(group, trial)))
    if not trial.models:
        return
    yield _table(group, trial)
    drawn = [_chart(group, one) for one in trial.models]
    yield Fold(title="What each damage costs, model by model", blocks=drawn)


def _told(group: ComparedModels, trial: GroupTrial) -> Iterator[str]:
    """What was done, with how many videos, and what could not be done."""
    names = listing([damage.title for damage in DAMAGES])
    if trial.models:
        first = trial.models[0]
        equal = sum(one.as_judged for one in trial.models)
        asked = sum(one.num_videos for one in trial.models)
        yield (
            f"{first.num_videos} judged videos of {first.num_recordings} recordings were copied "
            f"without loss and with damage ({names}), and each copy was labelled as a file is "
            f"({seconds(trial.seconds)} in all). The undamaged copies are the control: {equal} of "
            f"{asked} answers for them are those of the evaluations."
        )
    if trial.failed:
        reasons = [f"{why} ({video})" for video, why in [*trial.failed.items()][:_MOST_REASONS]]
        yield f"Not copied: {plural(len(trial.failed), 'video')}, such as: {'; '.join(reasons)}."
    if trial.without:
        told = [f"{group.labels[name]} ({why})" for name, why in trial.without.items()]
        yield f"Without {listing(told)}."


def _table(group: ComparedModels, trial: GroupTrial) -> DataTable:
    rows = []
    for one in trial.models:
        for result in one.results:
            low, high = result.change.interval or (None, None)
            rows.append(
                {
                    "model": group.labels[one.name],
                    "run": one.name,
                    "damage": result.damage.title,
                    "kind": result.damage.kind,
                    "amount": result.damage.amount,
                    "videos": one.num_videos,
                    "recordings": one.num_recordings,
                    "control": one.control,
                    "accuracy": result.accuracy,
                    "change": result.change.value,
                    "change_low": low,
                    "change_high": high,
                    "p": result.change.p,
                    "p_corrected": result.change.corrected,
                    "verdict": _verdict(result.change.value, result.change.is_real),
                }
            )
    return DataTable(
        name=f"made-damage-{group.number}",
        title="Accuracy on damaged copies",
        frame=pd.DataFrame(rows),
        columns={
            "model": Column(title="Model"),
            "damage": Column(title="Damage"),
            "control": Column(title="Undamaged", form="share"),
            "accuracy": Column(title="Damaged", form="share"),
            "change": Column(title="Change", form="share", interval=("change_low", "change_high")),
            "p_corrected": Column(title="p after Holm", form="number"),
            "verdict": Column(title="What that means"),
        },
        note=(
            "Below each change its 95 % interval, by bootstrap over recordings; p is corrected for "
            f"the {len(DAMAGES)} damages of a model."
        ),
        most_rows=10 * len(DAMAGES),
    )


def _verdict(change: float, is_real: bool) -> str:
    if not is_real:
        return "may be chance"
    return "loses" if change < 0 else "gains"


def _chart(group: ComparedModels, one: ModelTrial) -> Chart:
    rows = []
    for result in one.results:
        low, high = result.change.interval or (None, None)
        ends = "" if low is None else f" ({low:+.2f} to {high:+.2f})"
        rows.append(
            {
                "damage": result.damage.title,
                "change": result.change.value,
                "low": low,
                "high": high,
                "said": (
                    f"{result.damage.title}: {result.change.value:+.2f}{ends}, from "
                    f"{one.control:.2f} to {result.accuracy:.2f}"
                ),
            }
        )
    name = group.labels[one.name]
    number = [member.name for member in group.members].index(one.name)
    return charts.dots(
        pd.DataFrame(rows),
        label="damage",
        value="change",
        low="low",
        high="high",
        value_title="change of accuracy",
        name=f"made-damage-{group.number}-{number}",
        title=f"{name}: right on {one.control:.2f} without damage",
    )
