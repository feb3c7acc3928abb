"""The models side by side on the same videos: figures, intervals, which differences are real."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from vidray.evaluation.pairs import SIGNIFICANT, least_p
from vidray.report import charts
from vidray.report.blocks import Chart, DataTable, Finding, Fold, Part, Prose, Section
from vidray.report.formats import listing, seconds
from vidray.report.judged import compare_pairs, searches, studies
from vidray.report.judged.comparable import ComparedModels, groups, kind_of
from vidray.report.judged.compare_baselines import BaselineResult, baselines_of, not_better
from vidray.report.judged.compare_figures import figures, filled, interval_of
from vidray.report.judged.compare_pairs import (
    PairedModels,
    count_of,
    in_words,
    p_in_words,
    pairs_of,
    witnesses,
)
from vidray.report.runs import JudgedModel, Runs
from vidray.report.tools import Tools

__all__ = ["ComparedModels", "groups", "kind_of", "pairs_of", "section"]

NAME = "compare"
# Groups beyond have tables, but no sentence on the first screen.
_MOST_FINDINGS = 2
# What few videos cannot show may still be much: nobody would call a model 5 points below as good.
_LEAST_WORSE = 0.05
# Seconds of one model differ by some percent from one measurement to the next.
_QUICKER = 0.9
_NEVER = {
    "top5": "top 5, which says something from six classes on",
    "peak_gpu_bytes": "GPU memory, as no model was judged on a GPU",
    "training_seconds": "training times, as the model folders are not among the given ones",
}


def section(runs: Runs, tools: Tools) -> Section | None:
    """The chapter; None where no run has anything for it."""
    found = groups(runs)
    made = [_Compared(group, runs, tools.settings.seed) for group in found]
    blocks: list[Part] = []
    for one in made:
        inside = one.blocks()
        if len(made) == 1:
            blocks += inside
        else:
            is_open = one.group.number == 1 or len(one.group.members) > 1
            blocks.append(Fold(title=one.title, blocks=inside, is_open=is_open))
    blocks += [*studies.blocks(runs, tools.settings.seed), *searches.blocks(runs)]
    if not blocks:
        return None
    return Section(
        name=NAME,
        title="Models compared",
        lead=_lead(found),
        blocks=blocks,
        findings=[finding for one in made[:_MOST_FINDINGS] for finding in one.findings()],
    )


def _lead(found: Sequence[ComparedModels]) -> str:
    if not found:
        return "What studies and searches found; no model was judged by itself."
    if len(found) == 1:
        return (
            f"Which model is best on the {witnesses(found[0])} that all were judged on, and which "
            "of the differences are real."
        )
    return (
        f"Models were judged on {len(found)} different sets of videos, each with a table of its "
        "own: figures of one are not to be compared with those of another, because the videos "
        "differ too."
    )


class _Compared:
    """A group with all that is said of it."""

    def __init__(self, group: ComparedModels, runs: Runs, seed: int) -> None:
        self.group = group
        self.frame = figures(group, runs)
        self.pairs: Sequence[PairedModels] = pairs_of(group, seed=seed)
        self.baselines: Sequence[BaselineResult] = baselines_of(group, runs, seed=seed)

    @property
    def title(self) -> str:
        """The group in a line."""
        models = "1 model" if len(self.group.members) == 1 else f"{len(self.group.members)} models"
        return f"{models} on {witnesses(self.group)}, {_splits(self.group.members)}"

    def blocks(self) -> list[Part]:
        """Its table, its chart and its tests."""
        parts: list[Part] = [Prose(paragraphs=self._on_what()), self._table()]
        if len(self.group.members) > 1:
            parts.append(self._chart())
        parts.append(Prose(paragraphs=[self._against(one) for one in self.baselines]))
        return [*parts, *compare_pairs.blocks(self.group, self.pairs)]

    def _on_what(self) -> list[str]:
        group = self.group
        number = len(group.class_names)
        classes = "1 class" if number == 1 else f"{number:,} classes"
        said = [f"The videos, {_splits(group.members)}, are of {classes}. " + _of_recordings(group)]
        if group.left_out:
            listed = listing([f"{name} {number:,}" for name, number in group.left_out.items()])
            said.append(
                "Some models were judged on further videos, which the others were not; these are "
                f"left out here: {listed}."
            )
        return said

    def _table(self) -> DataTable:
        frame = self.frame
        for baseline in self.baselines:
            row = {
                "model": baseline.title,
                "kind": "baseline",
                "videos": baseline.num_videos,
                **baseline.figures,
            }
            frame = pd.concat([frame, pd.DataFrame([row])], ignore_index=True)
        columns = filled(frame)
        absent = [text for name, text in _NEVER.items() if name not in columns]
        note = "Below each figure its 95 % interval, by bootstrap over recordings. " + _timed(
            self.group.members
        )
        return DataTable(
            name=f"compare-{self.group.slug}",
            title=self.title,
            frame=frame,
            columns=columns,
            note=f"{note} Not shown: {'; '.join(absent)}." if absent else note,
            link="link",
        )

    def _chart(self) -> Chart:
        rows = self.frame[["model", "kind", "accuracy", "accuracy_low", "accuracy_high"]]
        more = [
            {
                "model": one.title,
                "kind": "baseline",
                **{name: one.figures.get(name) for name in rows if name.startswith("accuracy")},
            }
            for one in self.baselines
        ]
        frame = pd.concat([rows, pd.DataFrame(more)], ignore_index=True)
        return charts.dots(
            frame.fillna({"kind": "unknown"}),
            label="model",
            value="accuracy",
            low="accuracy_low",
            high="accuracy_high",
            value_title="accuracy, 95 % interval",
            name=f"compare-accuracy-{self.group.slug}",
            title="Accuracy of each model",
            note="Intervals that overlap may still differ: the paired tests below decide.",
            color="kind",
        )

    def _against(self, baseline: BaselineResult) -> str:
        """Whether the models are better than a baseline, in a sentence."""
        group = self.group
        worse = not_better(baseline, group.members)
        what = (
            f"The answer {baseline.title.removeprefix('always ')!r} for every video"
            if baseline.kind == "majority"
            else "The metadata alone (size, duration, frame rate and the like, no picture)"
        )
        right = f"{what} is right on {baseline.accuracy:.3f} of the videos. "
        if not worse:
            return right + "Every model is better."
        found = [baseline.against[one.name] for one in worse]
        names = [
            f"{group.label(member)} ({one.value:+.3f})"
            for member, one in zip(worse, found, strict=True)
        ]
        p = min(one.corrected for one in found)
        none = "No model is" if len(worse) == len(group.members) else "Not"
        least = f"{p_in_words(p)}{' or more' if len(found) > 1 and p < 1 else ''} after Holm"
        return f"{right}{none} shown to be better: {listing(names)}; {least}."

    # The first screen

    def findings(self) -> list[Finding]:
        """The model to use and why; and models that are not better than a baseline."""
        missed = [one for one in self.baselines if not one.is_beaten_by(self.group.best)]
        if missed:
            whom = listing([f"{one.title} ({one.accuracy:.3f})" for one in missed])
            text = (
                f"{self._choice()} It is not shown to be better than {whom}{self._why_not_shown()}."
            )
            return [Finding(level="warning", text=text, section=NAME)]
        text = " ".join([self._advice(), *_seen([self.group.best], self.group)])
        found = [
            Finding(
                level="note" if _seen([self.group.best], self.group) else "good",
                text=text,
                section=NAME,
            )
        ]
        for baseline in self.baselines:
            if worse := not_better(baseline, self.group.members):
                names = [f"{self.group.label(one)} {one.metrics['accuracy']:.3f}" for one in worse]
                text = (
                    f"Not shown to be better than {baseline.title} ({baseline.accuracy:.3f}) on "
                    f"{witnesses(self.group)}: {listing(names)}."
                )
                found.append(Finding(level="warning", text=text, section=NAME))
        return found

    def _why_not_shown(self) -> str:
        """That no difference to a baseline could be shown, where that is so."""
        group = self.group
        if least_p(group.num_recordings) * len(group.members) <= SIGNIFICANT:
            return ""
        return f", and {count_of(group)} are too few to show it of any: judge on more"

    def _advice(self) -> str:
        """Which model to use, and why."""
        cheap = cheapest_not_worse(self.pairs)
        other = "" if cheap is None else f", or {self.group.label(cheap[0])} where seconds count"
        return f"Use {self.group.label(self.group.best)}{other}. {self._choice()}"

    def _choice(self) -> str:
        best = self.group.best
        name = self.group.label(best)
        ends = interval_of(best.metrics, "accuracy")
        between = "" if ends is None else f" ({ends[0]:.2f} to {ends[1]:.2f})"
        text = (
            f"The most accurate model is {name}: {best.metrics['accuracy']:.3f}{between} on "
            f"{witnesses(self.group)}"
        )
        cheap = cheapest_not_worse(self.pairs)
        if cheap is None:
            return f"{text}."
        other, pair = cheap
        return (
            f"{text}; {self.group.label(other)} is not shown to be worse "
            f"({in_words(pair.accuracy)}) and takes {seconds(_seconds(other) or 0)} a video "
            f"instead of {seconds(_seconds(best) or 0)}."
        )


def cheapest_not_worse(pairs: Sequence[PairedModels]) -> tuple[JudgedModel, PairedModels] | None:
    """The quickest model, file to label, of those not worse than the best: neither shown to be, nor
    5 points or more below it. None if none is quicker by a tenth, or seconds were not measured.
    """
    if not pairs:
        return None
    best = pairs[0].first
    of_best = _seconds(best)
    least = None if of_best is None else _QUICKER * of_best
    found = None
    for pair in pairs:
        taken = _seconds(pair.second)
        is_worse = pair.accuracy.is_real or pair.accuracy.value >= _LEAST_WORSE
        if pair.first is not best or is_worse or taken is None or least is None:
            continue
        if taken < least:
            found, least = (pair.second, pair), taken
    return found


def _seconds(member: JudgedModel) -> float | None:
    return member.cost.get("end_to_end_seconds_per_video")


def _splits(members: Sequence[JudgedModel]) -> str:
    names = sorted({member.split for member in members})
    return f"split {names[0]}" if len(names) == 1 else f"splits {listing(names)}"


def _of_recordings(group: ComparedModels) -> str:
    text = (
        "Intervals and tests take videos of one recording as one witness."
        if group.knows_recordings
        else "No recordings are known, so videos count as independent: if several were cut from "
        "one recording, intervals are too narrow and p-values too small."
    )
    return " ".join([text, *_seen(group.members, group)])


def _seen(members: Sequence[JudgedModel], group: ComparedModels) -> list[str]:
    """A warning of models that were judged on videos that they may have learnt from."""
    names = [group.label(one) for one in members if one.split in ("all", "train")]
    if not names:
        return []
    whose = "its figures are" if len(names) == 1 else "their figures are"
    return [f"{listing(names)} may have learnt from some of these videos: {whose} too good."]


def _timed(members: Sequence[JudgedModel]) -> str:
    counts = sorted(
        {int(one.cost["timed_videos"]) for one in members if "timed_videos" in one.cost}
    )
    if not counts:
        return ""
    on = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return (
        f"Seconds and memory were measured on {on} videos as each model was judged: they compare "
        "where all were judged on one machine."
    )
