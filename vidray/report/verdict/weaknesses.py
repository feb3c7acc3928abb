"""What is said of the models' errors: what is confused, what none knows, how sure they are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vidray.report.formats import listing, plural
from vidray.report.judged import paired
from vidray.report.judged.paired import Ends
from vidray.report.verdict.sentences import FEW_VIDEOS, GroupFacts, Sentence, quoted

# Of a class's videos that are taken for one other: fewer are no pattern.
_CONFUSED_SHARE, _CONFUSED_VIDEOS = 0.2, 2
# Of the difference between mean probability and accuracy.
_UNSURE = 0.05


def confused(facts: GroupFacts) -> Iterator[Sentence]:
    """The most frequent confusion of the best model."""
    matrix = np.array(facts.best.metrics["confusion_matrix"])
    wrong = matrix - np.diag(np.diag(matrix))
    true, answer = np.unravel_index(wrong.argmax(), wrong.shape)
    count, total = int(wrong[true, answer]), int(matrix[true].sum())
    if count < _CONFUSED_VIDEOS or count < _CONFUSED_SHARE * total:
        return
    names = facts.best.class_names
    errors = int(wrong.sum())
    yield Sentence(
        rank=25,
        text=(
            f"What {facts.name(facts.best)} confuses most: it takes {count} of {total} videos of "
            f"class {quoted(names[true])} for {quoted(names[answer])}, {count} of its "
            f"{plural(errors, 'error')}."
        ),
        is_limit=True,
    )


def unknown_classes(facts: GroupFacts) -> Iterator[Sentence]:
    """Classes that every model finds no more often than by guessing."""
    group = facts.group
    truth = np.array(group.truth, object)
    chance = 1 / len(group.class_names)
    unknown = []
    for name in group.class_names:
        chosen = truth == name
        if chosen.sum() < FEW_VIDEOS or chance == 1:  # Of one class every guess is right.
            continue
        most = max(int(group.rights(one)[chosen].sum()) for one in group.members)
        if most / chosen.sum() <= chance:
            unknown.append(f"{quoted(name)} (at best {most} of {int(chosen.sum())})")
    if unknown:
        who = "The model does not find" if len(group.members) == 1 else "No model finds"
        what = f"class {unknown[0]}" if len(unknown) == 1 else f"these classes: {listing(unknown)}"
        yield Sentence(
            rank=15,
            text=(
                f"{who} more than guessing would ({chance:.2f} of the videos) of {what}. Look at "
                "the labels there, or add videos to learn from."
            ),
            is_limit=True,
        )


def confidence(facts: GroupFacts) -> Iterator[Sentence]:
    """Whether the best model is more, or less, sure of itself than it is right."""
    best = facts.best
    sure = best.probabilities.max(axis=1)
    apart = sure - paired.hits(best)
    every = np.ones(len(apart), np.bool_)
    ends = paired.share_interval(apart, every, paired.recordings(best.groups), seed=facts.seed)
    gap = float(apart.mean())
    if ends is None or ends[0] <= 0 <= ends[1] or abs(gap) < _UNSURE:
        return
    how = "surer of itself than it should be" if gap > 0 else "less sure of itself than it could be"
    yield Sentence(
        rank=45 if gap > 0 else 95,  # Too little of it harms nobody.
        text=(
            f"{facts.name(best)} is {how}: its probabilities say {sure.mean():.2f} on average, and "
            f"it is right on {best.metrics['accuracy']:.2f} (difference {_span(gap, ends)})."
        ),
        is_limit=True,
    )


def _span(value: float, ends: Ends) -> str:
    return f"{value:+.2f}" + ("" if ends is None else f"; 95 %: {ends[0]:+.2f} to {ends[1]:+.2f}")


RULES = (unknown_classes, confused, confidence)
