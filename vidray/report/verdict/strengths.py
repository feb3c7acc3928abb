"""Strengths and limits of the models, in sentences that follow from the figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from vidray.evaluation.pairs import PairedDifference
from vidray.report.blocks import Finding, Fold, Part, Prose, Section
from vidray.report.dataset import shortcut_check, video_sets
from vidray.report.dataset.video_sets import VideoSet
from vidray.report.formats import plural
from vidray.report.judged.comparable import ComparedModels, groups
from vidray.report.judged.compare_baselines import BaselineResult, baselines_of
from vidray.report.judged.compare_pairs import pairs_of, witnesses
from vidray.report.runs import Runs
from vidray.report.tools import Tools
from vidray.report.verdict import by_damage, by_quality, limits, robustness, sentences, weaknesses
from vidray.report.verdict.sentences import GroupFacts, Sentence

_NAME = "strengths"
# More are not read; the least important are left out.
_MOST_SENTENCES = 15
# Ranks from here on need nobody.
_HARMLESS = 90


def section(runs: Runs, tools: Tools) -> Section | None:
    """The chapter; None where no run has anything for it."""
    found = [(facts, said_of(facts)) for facts in facts_of(runs, tools)]
    studies = [
        (study.name, list(limits.learning_curves(study)))
        for study in runs.studies
    ]  # fmt: skip
    blocks: list[Part] = []
    for facts, said in found:
        inside = list(_blocks(said))
        title = f"{plural(len(facts.group.members), 'model')} on {witnesses(facts.group)}"
        is_open = facts.group.number == 1 or len(facts.group.members) > 1
        blocks += inside if len(found) == 1 else [Fold(title=title, blocks=inside, is_open=is_open)]
    for name, said in studies:
        if said:
            inside = [Prose(paragraphs=[one.text for one in said])]
            blocks.append(Fold(title=f"By amount of data, in {name}", blocks=inside))
    if not blocks:
        return None
    return Section(
        name=_NAME,
        title="Strengths and limits",
        lead=(
            "What the figures of this page say of the models, the most important first. A sentence "
            "stands here only if its figures support it; p is the chance of such a difference "
            "between equal models."
        ),
        blocks=blocks,
        findings=[finding for facts, said in found[:1] for finding in _findings(said)],
    )


def facts_of(runs: Runs, tools: Tools) -> Iterator[GroupFacts]:
    """The figures of each group of models that were judged on the same videos."""
    seed = tools.settings.seed
    values = by_quality.values_of(runs.features)
    thirds = robustness.quality_of(runs, seed)
    sets = video_sets.of_runs(runs)
    for group in groups(runs):
        yield GroupFacts(
            group=group,
            pairs=pairs_of(group, seed=seed),
            baselines=_baselines(group, runs, sets, seed),
            by_quality=thirds,
            quality_values=values,
            damage=by_damage.trial_of(group, runs, tools),
            seed=seed,
        )


def _baselines(
    group: ComparedModels, runs: Runs, sets: Sequence[VideoSet], seed: int
) -> list[BaselineResult]:
    """What needs no picture: one class always; the metadata, as a study judged them, or else a
    forest over the properties of the files.
    """
    found = baselines_of(group, runs, seed=seed)
    if any(one.kind == "metadata" for one in found):
        return found
    for videos in sets:
        for beside in shortcut_check.compare(videos.labelled, group.members, seed=seed):
            against = {
                row["run"]: PairedDifference(
                    value=row["difference"],
                    interval=None if pd.isna(row["low"]) else (row["low"], row["high"]),
                    p=row["p"],
                    corrected=row["p"],
                )
                for row in beside.to_dict("records")
            }
            first = beside.iloc[0]
            metadata = BaselineResult(
                kind="metadata",
                title="file properties alone",
                accuracy=float(first["metadata"]),
                figures={},
                num_videos=int(first["videos"]),
                against=against,
            )
            return [*found, metadata]
    return found


def said_of(facts: GroupFacts) -> list[Sentence]:
    """The sentences that the figures support, the most important first."""
    rules = (*sentences.RULES, *weaknesses.RULES, *limits.RULES)
    found = sorted((one for rule in rules for one in rule(facts)), key=lambda one: one.rank)
    return found[:_MOST_SENTENCES]


def _blocks(said: list[Sentence]) -> Iterator[Part]:
    for title, is_limit in (("Strengths", False), ("Limits", True)):
        chosen = [one.text for one in said if one.is_limit == is_limit]
        if chosen:
            yield Fold(title=title, blocks=[Prose(paragraphs=chosen)])


def _findings(said: list[Sentence]) -> Iterator[Finding]:
    """The two most important limits, without those that other chapters say there."""
    limits_of = [
        one for one in said if one.is_limit and not one.is_compared and one.rank < _HARMLESS
    ]
    for one in limits_of[:2]:
        yield Finding(level="warning", text=one.text, section=_NAME)
