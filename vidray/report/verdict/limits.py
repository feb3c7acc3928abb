"""What is said of conditions and of the judgement itself: quality, data, baselines, recordings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from vidray.evaluation.pairs import SIGNIFICANT, differences, least_p
from vidray.evaluation.study_plan import BASELINES
from vidray.models import names
from vidray.report.formats import listing
from vidray.report.judged.compare_pairs import p_in_words, witnesses
from vidray.report.runs import StudyResult
from vidray.report.verdict.by_quality import ByQuality, could_show
from vidray.report.verdict.sentences import FEW_VIDEOS, GroupFacts, Sentence

# An interval that is wider separates few models: see evaluation/console.py.
_WIDEST_INTERVAL = 0.2
_MOST_LISTED = 5
# A baseline this near makes a model's gain small.
_NEARLY = 0.1
# Accuracy by the last step of a learning curve; less is no rise that more data would be paid for.
_RISE = 0.02


def by_quality(facts: GroupFacts) -> Iterator[Sentence]:
    """On which videos the best model is worse, where the test says so; or that none shows."""
    columns = [one for one in facts.by_quality.get(facts.best.name, ()) if one.thirds]
    real = sorted((one for one in columns if one.is_real), key=lambda one: one.worst[1].accuracy)
    name = facts.name(facts.best)
    for one in real[:2]:
        where, third = one.worst
        overall = facts.best.metrics["accuracy"]
        yield Sentence(
            rank=28,
            text=(
                f"{name} depends on {one.measure.title.lower()}: it is right on "
                f"{third.accuracy:.2f} of the {where} third of the videos ({third.num_videos}), "
                f"and on {overall:.2f} of all ({p_in_words(one.corrected)})."
                f"{_who_is_better_there(facts, one)}"
            ),
            is_limit=True,
        )
    if columns and not real:
        listed = listing([one.measure.title.lower() for one in columns])
        if could_show(columns, facts.best):
            text = (
                f"No dependence of {name} on the quality of the videos shows on "
                f"{witnesses(facts.group)}: not on {listed}."
            )
            yield Sentence(rank=70, text=text, is_limit=False)
            return
        text = (
            f"Whether {name} depends on the quality of the videos ({listed}) cannot be told from "
            f"{witnesses(facts.group)}: no difference could be shown on so few."
        )
        yield Sentence(rank=52, text=text, is_limit=True)


def _who_is_better_there(facts: GroupFacts, one: ByQuality) -> str:
    """The model that is really better on the best one's worst third; nothing if there is none."""
    values, others = facts.quality_values, [pair.second for pair in facts.with_best]
    if not others or one.measure.name not in values:
        return ""
    third = one.worst[1]
    column = values[one.measure.name]
    numbers = np.array([column.get(video, np.nan) for video in facts.group.video_ids])
    chosen = (numbers >= third.low) & (numbers <= third.high)
    rights = np.stack([facts.group.rights(model)[chosen] for model in (*others, facts.best)])
    _, recordings = np.unique(facts.group.group_of[chosen], return_inverse=True)
    pairs = [(k, len(others)) for k in range(len(others))]
    found = differences(rights, pairs, recordings, seed=facts.seed)
    better = [(gain, k) for k, gain in enumerate(found) if gain.is_real and gain.value > 0]
    if not better:
        return ""
    gain, k = max(better, key=lambda pair: pair[0].value)
    share = float(rights[k].mean())
    return (
        f" There {facts.name(others[k])} is better: right on {share:.2f} "
        f"({p_in_words(gain.corrected)})."
    )


def on_made_damage(facts: GroupFacts) -> Iterator[Sentence]:
    """What the best model loses by damage made on purpose; or that nothing shows."""
    trials = () if facts.damage is None else facts.damage.models
    one = next((trial for trial in trials if trial.name == facts.best.name), None)
    if one is None:
        return
    name = facts.name(facts.best)
    lost = [result for result in one.results if result.change.is_real and result.change.value < 0]
    on = f"{one.num_videos} videos of {one.num_recordings} recordings"
    if lost:
        told = [
            f"{result.damage.title} ({one.control:.2f} to {result.accuracy:.2f}, "
            f"{p_in_words(result.change.corrected)})"
            for result in sorted(lost, key=lambda result: result.change.value)
        ]
        text = f"Damage made on purpose in copies of {on} costs {name} accuracy: {listing(told)}."
        yield Sentence(rank=27, text=text, is_limit=True)
        return
    worst = min(one.results, key=lambda result: result.change.value)
    most = ""
    if worst.change.value < 0:
        p = p_in_words(worst.change.corrected)
        most = f": the most, {worst.change.value:+.2f} by {worst.damage.title}, may be chance ({p})"
    if least_p(one.num_recordings) * len(one.results) <= SIGNIFICANT:
        text = f"No loss of {name} by damage made on purpose shows on copies of {on}{most}."
        yield Sentence(rank=65, text=text, is_limit=False)
        return
    text = (
        f"What damage made on purpose costs {name} cannot be told from copies of {on}{most}. "
        "Give a larger --robustness-videos."
    )
    yield Sentence(rank=51, text=text, is_limit=True)


def near_baseline(facts: GroupFacts) -> Iterator[Sentence]:
    """Baselines that the best model does not really beat, or hardly."""
    accuracy = facts.best.metrics["accuracy"]
    for baseline in facts.baselines:
        what = (
            "Without looking at any picture, from the properties of the files alone (size, "
            f"duration, frame rate and the like), one is right on {baseline.accuracy:.2f}"
            if baseline.kind == "metadata"
            else f"Always answering {baseline.title.removeprefix('always ')!r} is right on "
            f"{baseline.accuracy:.2f}"
        )
        against = baseline.against.get(facts.best.name)
        if against is None:
            continue
        model = f"{facts.name(facts.best)} ({accuracy:.2f})"
        if not baseline.is_beaten_by(facts.best):
            text = f"{what}: {model} is not shown to be better ({p_in_words(against.corrected)})."
            yield Sentence(rank=5, text=text, is_limit=True, is_compared=True)
        elif against.value < _NEARLY:
            text = f"{what}, only {against.value:.2f} less than {model}."
            yield Sentence(rank=24, text=text, is_limit=True, is_compared=True)


def few_recordings(facts: GroupFacts) -> Iterator[Sentence]:
    """Whether the judged videos are too few to tell models apart."""
    ends = facts.best.metrics["intervals"]["accuracy"]
    if ends is None:
        yield Sentence(
            rank=6,
            text=(
                f"All {len(facts.group.video_ids)} judged videos are of one recording, so nothing "
                "shows how a model does on another one: judge on more recordings."
            ),
            is_limit=True,
        )
    elif ends[1] - ends[0] > _WIDEST_INTERVAL:
        yield Sentence(
            rank=22,
            text=(
                f"{witnesses(facts.group)} leave the accuracy of {facts.name(facts.best)} open "
                f"from {ends[0]:.2f} to {ends[1]:.2f}: models that differ by less than about "
                f"{(ends[1] - ends[0]) / 2:.2f} cannot be ordered. Judge on more recordings."
            ),
            is_limit=True,
        )


def unknown_recordings(facts: GroupFacts) -> Iterator[Sentence]:
    """Whether intervals take videos for independent that may not be."""
    if not facts.group.knows_recordings:
        yield Sentence(
            rank=50,
            text=(
                f"Which recordings the {len(facts.group.video_ids):,} judged videos were cut from "
                "is not known: if several are of one, all intervals here are too narrow."
            ),
            is_limit=True,
        )


def small_classes(facts: GroupFacts) -> Iterator[Sentence]:
    """Classes that too few judged videos show."""
    support = {name: facts.group.truth.count(name) for name in facts.group.class_names}
    few = [f"{name} ({number})" for name, number in support.items() if number < FEW_VIDEOS]
    if few:
        yield Sentence(
            rank=48,
            text=(
                f"{len(few)} of {len(support)} classes have fewer than {FEW_VIDEOS} judged "
                f"videos, too few to say how well they are known: "
                f"{listing(few, most=_MOST_LISTED)}."
            ),
            is_limit=True,
            is_compared=True,
        )


RULES = (
    near_baseline,
    few_recordings,
    unknown_recordings,
    small_classes,
    by_quality,
    on_made_damage,
)

# Learning curves, of studies


def learning_curves(study: StudyResult) -> Iterator[Sentence]:
    """Which family leads at the smallest and at the full share of the data, and who still rises."""
    curves = _curves(study)
    shares = sorted({share for curve in curves.values() for share in curve})
    if len(shares) < 2:
        return
    first, last = shares[0], shares[-1]
    if sentence := _leaders(curves, first, last):
        yield Sentence(rank=38, text=sentence, is_limit=False)
    rising = []
    for model, curve in curves.items():
        if last in curve and shares[-2] in curve:
            before, now = curve[shares[-2]], curve[last]
            if now["accuracy"] - before["accuracy"] >= _RISE:
                rising.append(f"{model} ({before['accuracy']:.2f} to {now['accuracy']:.2f})")
    if rising:
        count = max(curve[last]["train_videos"] for curve in curves.values() if last in curve)
        yield Sentence(
            rank=39,
            text=(
                f"With the last step of the data, from {_share(shares[-2])} to {_share(last)} of "
                f"{count:,} videos, the accuracy of {listing(rising)} still rose: more videos may "
                "help."
            ),
            is_limit=False,
        )


def _curves(study: StudyResult) -> Mapping[str, Mapping[float, Mapping[str, Any]]]:
    """Model -> share of the training videos -> its row."""
    found: dict[str, dict[float, Mapping[str, Any]]] = {}
    for row in study.rows.to_pylist():
        if row["purpose"] == "learning-curve" and row["fraction"] and row["model"] not in BASELINES:
            found.setdefault(row["model"], {})[row["fraction"]] = row
    return found


def _leaders(
    curves: Mapping[str, Mapping[float, Mapping[str, Any]]], first: float, last: float
) -> str:
    """Which family is ahead at both ends; nothing where there are not both families."""
    at = {share: _best_of_families(curves, share) for share in (first, last)}
    if any(len(best) < 2 for best in at.values()):
        return ""
    parts = []
    for best in at.values():
        (ahead, one), (behind, other) = sorted(
            best.items(), key=lambda item: -item[1][1]["accuracy"]
        )
        number = one[1]["train_videos"]
        mine, theirs = one[1]["accuracy"], other[1]["accuracy"]
        if mine == theirs:
            parts.append(f"with {number:,} videos both families are right on {mine:.2f}")
            continue
        parts.append(
            f"with {number:,} videos to learn from the {ahead} {one[0]} is ahead ({mine:.2f}; the "
            f"{behind} {other[0]} {theirs:.2f}{_within(one[1], theirs)})"
        )
    sentence = ", and ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}."


def _within(row: Mapping[str, Any], other: float) -> str:
    """That the other accuracy lies within the interval of this one."""
    low = row["accuracy_low"]
    return ", within its interval" if low is not None and other >= low else ""


def _best_of_families(
    curves: Mapping[str, Mapping[float, Mapping[str, Any]]], share: float
) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
    best: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for model, curve in curves.items():
        kind = "classical model" if model in names.CLASSICAL else "deep model"
        if share in curve and (
            kind not in best or curve[share]["accuracy"] > best[kind][1]["accuracy"]
        ):
            best[kind] = model, curve[share]
    return best


def _share(fraction: float) -> str:
    return "all" if fraction == 1 else f"{100 * fraction:.0f} %"
