"""Which differences between compared models are real: paired tests, in tables and in sentences."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from vidray.evaluation.pairs import (
    SIGNIFICANT,
    PairedDifference,
    differences,
    least_p,
    mcnemar,
)
from vidray.report.blocks import Column, DataTable, Fold, Part, Prose
from vidray.report.formats import listing, plural
from vidray.report.judged.comparable import ComparedModels
from vidray.report.runs import JudgedModel

# All pairs of more models than this are hundreds: each is then compared with the best only.
_MOST_PAIRED = 20
_COLUMNS = {
    "first": Column(title="Model"),
    "second": Column(title="Against"),
    "difference": Column(
        title="Accuracy, difference",
        form="share",
        interval=("difference_low", "difference_high"),
        hint="first minus second; interval of this pair alone",
    ),
    "verdict": Column(title="By accuracy"),
    "only_first": Column(
        title="Only first right", form="count", hint="videos that the first alone is right on"
    ),
    "only_second": Column(
        title="Only second right", form="count", hint="videos that the second alone is right on"
    ),
    "p": Column(title="p", form="number", hint="exact test of the difference in accuracy"),
    "p_corrected": Column(title="p after Holm", form="number"),
    "loss_difference": Column(
        title="Log loss, difference",
        form="share",
        interval=("loss_low", "loss_high"),
        hint="first minus second: below 0 the first is better",
    ),
    "loss_p_corrected": Column(title="Its p after Holm", form="number"),
    "loss_verdict": Column(title="By log loss"),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class PairedModels:
    """Two models of a group, compared on the same videos; the first is the more accurate one.

    Attributes:
        only_first, only_second: videos that one of the two alone is right on.
        accuracy, log_loss: first minus second, corrected over all pairs of the group.
        mcnemar: p of McNemar's test with videos taken as independent.
    """

    first: JudgedModel
    second: JudgedModel
    only_first: int
    only_second: int
    accuracy: PairedDifference
    log_loss: PairedDifference
    mcnemar: float


def pairs_of(group: ComparedModels, *, seed: int = 0) -> list[PairedModels]:
    """Every pair of the group's models, those with the best one first.

    Of more than 20 models, only the pairs with the best one.
    """
    members = group.members
    rights = np.stack([group.rights(member) for member in members])
    losses = np.stack([group.losses(member) for member in members])
    chosen = list(itertools.combinations(range(len(members)), 2))
    if len(members) > _MOST_PAIRED:
        chosen = [pair for pair in chosen if pair[0] == 0]
    by_accuracy = differences(rights, chosen, group.group_of, seed=seed)
    by_loss = differences(losses, chosen, group.group_of, seed=seed)
    return [
        PairedModels(
            first=members[one],
            second=members[other],
            only_first=int((rights[one] & ~rights[other]).sum()),
            only_second=int((rights[other] & ~rights[one]).sum()),
            accuracy=accuracy,
            log_loss=log_loss,
            mcnemar=mcnemar(rights[one], rights[other]),
        )
        for (one, other), accuracy, log_loss in zip(chosen, by_accuracy, by_loss, strict=True)
    ]


def frame_of(group: ComparedModels, pairs: Sequence[PairedModels]) -> pd.DataFrame:
    """A row a pair."""
    return pd.DataFrame([_row(group, pair) for pair in pairs])


def _row(group: ComparedModels, pair: PairedModels) -> dict[str, object]:
    first, second = group.label(pair.first), group.label(pair.second)
    low, high = pair.accuracy.interval or (None, None)
    loss_low, loss_high = pair.log_loss.interval or (None, None)
    return {
        "first": first,
        "second": second,
        "difference": pair.accuracy.value,
        "difference_low": low,
        "difference_high": high,
        "only_first": pair.only_first,
        "only_second": pair.only_second,
        "p": pair.accuracy.p,
        "p_corrected": pair.accuracy.corrected,
        "p_mcnemar": pair.mcnemar,
        "verdict": _verdict(first, second, pair.accuracy, higher_is_better=True),
        "loss_difference": pair.log_loss.value,
        "loss_low": loss_low,
        "loss_high": loss_high,
        "loss_p": pair.log_loss.p,
        "loss_p_corrected": pair.log_loss.corrected,
        "loss_verdict": _verdict(first, second, pair.log_loss, higher_is_better=False),
    }


def _verdict(first: str, second: str, found: PairedDifference, *, higher_is_better: bool) -> str:
    if not found.is_real:
        return "cannot tell"
    return f"{first if (found.value > 0) == higher_is_better else second} is better"


def blocks(group: ComparedModels, pairs: Sequence[PairedModels]) -> list[Part]:
    """What the tests say in a sentence, the pairs with the best model, and all pairs folded."""
    if not pairs:
        return []
    with_best = [pair for pair in pairs if pair.first is group.best]
    parts: list[Part] = [
        Prose(paragraphs=[said(group, pairs)], is_finding=True),
        DataTable(
            name=f"pairs-best-{group.slug}",
            title=f"{group.label(group.best)} against each other model",
            frame=frame_of(group, with_best),
            columns={name: column for name, column in _COLUMNS.items() if name != "first"},
            note=_note(group, pairs),
        ),
    ]
    if len(pairs) > len(with_best):
        table = DataTable(
            name=f"pairs-{group.slug}",
            title=f"All {len(pairs)} pairs, corrected together",
            frame=frame_of(group, pairs),
            columns=_COLUMNS,
            most_rows=200,
        )
        parts.append(Fold(title=table.title, blocks=[table], is_open=False))
    return parts


def _note(group: ComparedModels, pairs: Sequence[PairedModels]) -> str:
    test = (
        "McNemar's exact test"
        if group.num_recordings == len(group.video_ids)
        else "an exact test over recordings (McNemar's, but videos of one recording count as one)"
    )
    many = "" if len(pairs) == 1 else f", corrected for {len(pairs)} pairs as Holm does"
    return (
        f"p is the chance of such a difference between equal models, by {test}{many}. A difference "
        f"is called real where p is at most {SIGNIFICANT} after that."
    )


def said(group: ComparedModels, pairs: Sequence[PairedModels]) -> str:
    """Which models the best one is better than, and where the videos cannot tell."""
    best = group.label(group.best)
    with_best = [pair for pair in pairs if pair.first is group.best]
    real = [pair for pair in with_best if pair.accuracy.is_real]
    open_ = [pair for pair in with_best if not pair.accuracy.is_real]
    parts = []
    if real:
        listed = listing([f"{group.label(one.second)} ({in_words(one.accuracy)})" for one in real])
        parts.append(f"{best} is better than {listed}")
    if open_:
        names = [f"{group.label(one.second)} ({one.accuracy.value:+.3f})" for one in open_]
        whom = "against" if real else f"Between {best} and"
        parts.append(f"{whom} {listing(names, most=4)} the {witnesses(group)} cannot tell")
    sentence = "; ".join(parts) + "."
    if (least := min(1.0, least_p(group.num_recordings) * len(pairs))) > SIGNIFICANT:
        many = "" if len(pairs) == 1 else f" after correction for {len(pairs)} pairs"
        sentence += (
            f" {count_of(group)} are too few to show any "
            f"difference: if all spoke for one model, p would still be {least:.2f}{many}."
        )
    return sentence


def count_of(group: ComparedModels) -> str:
    """How many count as independent: ``7 recordings``; ``57 videos`` where each is one."""
    is_each = group.num_recordings == len(group.video_ids)
    noun = "video" if is_each else "recording"
    return plural(group.num_recordings, noun)


def witnesses(group: ComparedModels) -> str:
    """The videos, and their recordings where these are fewer: ``57 videos of 7 recordings``."""
    videos = f"{len(group.video_ids):,} videos"
    if group.num_recordings == len(group.video_ids):
        return videos
    of = "recording" if group.num_recordings == 1 else "recordings"
    return f"{videos} of {group.num_recordings:,} {of}"


def in_words(found: PairedDifference) -> str:
    """A difference with its figures, such as ``+0.105, 0.02 to 0.19, p = 0.03 after Holm``."""
    ends = "" if found.interval is None else f", {found.interval[0]:.2f} to {found.interval[1]:.2f}"
    return f"{found.value:+.3f}{ends}, {p_in_words(found.corrected)} after Holm"


def p_in_words(p: float) -> str:
    """A p-value with two digits: ``p = 0.031``; ``p < 0.0001``."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"
