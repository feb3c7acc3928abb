"""Each sentence on the models stands where its figures support it, with these, and only there."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from vidray.evaluation.pairs import PairedDifference, sign_test
from vidray.report.blocks import Fold, Prose
from vidray.report.frames.thumbnails import Thumbnails
from vidray.report.judged.comparable import groups
from vidray.report.judged.compare_baselines import BaselineResult, baselines_of
from vidray.report.judged.compare_pairs import pairs_of
from vidray.report.runs import JudgedModel, Runs, StudyResult
from vidray.report.settings import ReportSettings
from vidray.report.tools import Tools
from vidray.report.verdict import limits, sentences, strengths, weaknesses
from vidray.report.verdict.by_quality import MEASURES, ByQuality, Third
from vidray.report.verdict.damage_trials import DamageResult, GroupTrial, ModelTrial
from vidray.report.verdict.made_damage import DAMAGES
from vidray.report.verdict.sentences import GroupFacts, Sentence
from vidray.tables.schema import STUDY

CLASSES = ("fight", "walk")
TRUTH = ("fight",) * 20 + ("walk",) * 20
OTHER = {"fight": "walk", "walk": "fight"}


def judged(
    name: str,
    wrong: Sequence[int] = (),
    *,
    truth: Sequence[str] = TRUTH,
    answers: Mapping[int, str] | None = None,
    classes: Sequence[str] = CLASSES,
    sure: float = 0.8,
    groups: Sequence[str | None] | None = None,
    cost: Mapping[str, float] | None = None,
) -> JudgedModel:
    """A model that takes the videos ``wrong`` for the other class, or answers as told."""
    predicted = [OTHER[label] if k in wrong else label for k, label in enumerate(truth)]
    for k, label in (answers or {}).items():
        predicted[k] = label
    chosen = np.array([list(classes).index(label) for label in predicted])
    probabilities = np.full((len(truth), len(classes)), (1 - sure) / (len(classes) - 1))
    probabilities[np.arange(len(truth)), chosen] = sure
    ids = tuple(f"v{k}" for k in range(len(truth)))
    return JudgedModel(
        out=f"/runs/{name}_test",
        name=f"{name}_test",
        report={"config": {"model": f"runs/{name}", "split": "test"}},
        class_names=tuple(classes),
        video_ids=ids,
        uris=tuple(f"/videos/{video}.mp4" for video in ids),
        truth=tuple(truth),
        predicted=tuple(predicted),
        groups=tuple(groups or ids),
        probabilities=probabilities,
        cost=cost or {},
        baselines={},
    )


def facts(*members: JudgedModel, **more: Any) -> GroupFacts:
    """What is known of models judged on the same videos."""
    runs = Runs(folders=(), judged=members)
    (group,) = groups(runs)
    known = {"pairs": pairs_of(group), "baselines": baselines_of(group, runs)}
    return GroupFacts(group=group, **{**known, **more})


def said(
    rule: Callable[[GroupFacts], Iterator[Sentence]], *members: JudgedModel, **more: Any
) -> str:
    """The sentences of a rule."""
    return " ".join(one.text for one in rule(facts(*members, **more)))


def numbers(text: str) -> list[float]:
    """The numbers of a text, names of models aside."""
    return [float(found) for found in re.findall(r"(?<![\w.])\d+(?:\.\d+)?", text)]


# The best model


def test_best_model_and_a_real_difference_to_the_next() -> None:
    text = said(sentences.best_model, judged("weak", range(5, 35)), judged("good", (0, 39)))
    assert text.startswith("good is right on 38 of 40 videos (0.950, 95 % interval 0.88 to 1.00)")
    assert "the most of 2 models, and on 28 videos more than the next one, weak (0.250)" in text
    # 29 videos, all but one for good, where the exact binomial test is known.
    p = sign_test([1] * 29 + [-1])
    assert p < 1e-4
    assert "more than chance explains (p < 0.0001)" in text


def test_best_model_by_chance() -> None:
    text = said(sentences.best_model, judged("good", (0, 1)), judged("next", (2, 3, 4)))
    assert "on 1 video more than the next one, next (0.925)" in text
    assert "no more than chance may give (p = 1)" in text


def test_a_model_alone_is_compared_with_none() -> None:
    text = said(sentences.best_model, judged("only", (0,)))
    assert text.endswith("No other model was judged on them.")
    for rule in sentences.RULES[1:]:
        assert not said(rule, judged("only", (0,))), rule


def test_models_that_are_really_worse_are_named_with_by_how_much() -> None:
    members = judged("good", (0,)), judged("near", (1, 2)), judged("weak", range(30))
    text = said(sentences.really_worse, *members)
    assert text == "good is really more accurate than 1 of the 2 others: weak (by 0.725)."
    assert not said(sentences.really_worse, *members[:2])


def test_models_that_cannot_be_told_apart() -> None:
    members = judged("good", range(6)), judged("near", range(5, 15)), judged("weak", range(40))
    text = said(sentences.not_told_apart, *members)
    assert "The order of good and near means nothing yet: on 40 videos" in text
    assert "weak" not in text
    needed = sentences.needed_recordings(
        np.arange(40) >= 6, ~np.isin(np.arange(40), range(5, 15)), np.arange(40)
    )
    assert needed is not None
    assert f"by 0.100, about {sentences._rounded(needed):,} recordings would show it" in text
    assert text.endswith("these are 40.")
    assert not said(sentences.not_told_apart, members[0], members[2])


def test_the_number_of_recordings_needed_finds_the_difference_in_eight_of_ten_cases() -> None:
    # Of 40 videos the first alone is right on 9, the second alone on 5.
    apart = np.array([1] * 9 + [-1] * 5 + [0] * 26)
    needed = sentences.needed_recordings(apart > 0, apart < 0, np.arange(40))
    assert needed is not None
    rng = np.random.default_rng(0)
    drawn = [sign_test(rng.choice(apart, needed)) <= 0.05 for _ in range(300)]
    assert 0.7 < np.mean(drawn) < 0.9
    assert sentences.needed_recordings(apart == 1, apart == 1, np.arange(40)) is None


# What a less accurate model is better at


def end_to_end(value: float) -> dict[str, float]:
    return {"end_to_end_seconds_per_video": value}


def test_a_faster_model() -> None:
    slow = judged("slow", (0,), cost=end_to_end(1.2))
    quick = judged("quick", (1, 2), cost=end_to_end(0.1))
    text = said(sentences.faster, slow, quick)
    assert text.startswith("quick is 12 times as fast as slow (100 ms a video from file to label, ")
    assert text.endswith(
        "against 1.2 s), and is not shown to be less accurate (lower by 0.025 here)."
    )
    near = judged("quick", (1, 2), cost=end_to_end(0.7))
    assert not said(sentences.faster, slow, near)
    assert not said(sentences.faster, slow, judged("unknown", (1, 2)))
    assert not said(sentences.faster, judged("slow", (0,)), quick)


def test_a_faster_model_that_is_really_worse_is_called_so() -> None:
    slow = judged("slow", (0,), cost=end_to_end(1.0))
    weak = judged("weak", range(30), cost=end_to_end(0.1))
    text = said(sentences.faster, slow, weak)
    assert text.endswith("and is really less accurate, by 0.725.")
    # One that is as good is named first, though it is not the fastest.
    good = judged("good", (1, 2), cost=end_to_end(0.25))
    assert said(sentences.faster, slow, weak, good).startswith("good is 4.0 times as fast")


def test_a_large_loss_that_is_not_proven_is_not_played_down() -> None:
    four = [f"r{k % 4}" for k in range(40)]
    slow = judged("slow", (0,), groups=four, cost=end_to_end(1.0))
    weak = judged("weak", range(30), groups=four, cost=end_to_end(0.1))
    text = said(sentences.faster, slow, weak)
    assert text.endswith(
        "and was right less often here, by 0.725, though so few videos do not prove it."
    )


def test_no_error_seen_is_no_certainty() -> None:
    text = said(sentences.best_model, judged("good"))
    assert "good is right on 40 of 40 videos (1.000, 95 % interval 0.91 to 1.00)" in text
    assert pytest.approx(0.025, abs=0.001) == 0.912**40  # Clopper and Pearson's exact one


def test_a_smaller_model() -> None:
    large = judged("large", (0,), cost={"size_bytes": 90e6})
    small = judged("small", (1,), cost={"size_bytes": 3e6})
    text = said(sentences.smaller, large, small)
    assert (
        text
        == "small takes 3 MB where large takes 90 MB (30 times as much), and is as often right."
    )
    assert not said(sentences.smaller, large, judged("small", (1, 2), cost={"size_bytes": 30e6}))


def test_a_better_calibrated_model() -> None:
    wrong = judged("best", range(8), sure=0.99)
    honest = judged("honest", range(10), sure=0.75)
    text = said(sentences.better_calibrated, wrong, honest)
    assert "honest is the better one: they lie 0.000 from" in text
    assert text.endswith("those of best 0.190.")
    assert not said(sentences.better_calibrated, judged("best", range(8), sure=0.82), honest)


def test_a_model_that_finds_more_of_a_class() -> None:
    best = judged("best", range(12))  # 8 of 20 fights
    other = judged("other", range(20, 37))  # all fights, 3 of 20 walks
    text = said(sentences.better_on_class, best, other)
    # By hand: p is 2 / 2^17 of the walks and 2 / 2^12 of the fights, which Holm leaves as it is.
    assert pytest.approx(0.00049, abs=5e-6) == 2 / 2**12
    assert text.startswith("other finds more of class \u201cfight\u201d: 20 of 20 (1.00 to 1.00)")
    low, high = numbers(text)[-3:-1]
    assert text.endswith(f"best 8 of 20 ({low:.2f} to {high:.2f}) (p = 0.00049).")
    # The exact binomial interval of 8 of 20 is 0.19 to 0.64.
    assert 0.15 < low < 0.25
    assert 0.55 < high < 0.65
    assert not said(sentences.better_on_class, judged("best", range(3)), other)


def test_a_class_of_few_videos_is_not_compared() -> None:
    truth = ("fight",) * 4 + ("walk",) * 36
    best = judged("best", range(4), truth=truth)
    other = judged("other", range(4, 20), truth=truth)
    assert not said(sentences.better_on_class, best, other)


# What the best one does not know


def test_the_most_frequent_confusion() -> None:
    text = said(weaknesses.confused, judged("best", (0, 1, 2, 3, 4, 20)))
    assert text == (
        "What best confuses most: it takes 5 of 20 videos of class \u201cfight\u201d for "
        "\u201cwalk\u201d, 5 of its 6 errors."
    )
    assert not said(weaknesses.confused, judged("best", (0, 1, 2)))  # 3 of 20 are no pattern
    assert not said(weaknesses.confused, judged("best"))


def test_classes_that_no_model_finds() -> None:
    classes = ("fight", "walk", "fall")
    truth = (*TRUTH, *("fall",) * 10)
    lost = {40 + k: "walk" for k in range(7)}
    one = judged("one", (0,), truth=truth, classes=classes, answers=lost)
    two = judged("two", (1,), truth=truth, classes=classes, answers=lost | {47: "fight"})
    text = said(weaknesses.unknown_classes, one, two)
    assert "No model finds more than guessing would (0.33 of the videos) of class " in text
    assert "\u201cfall\u201d (at best 3 of 10)" in text
    knows = judged("knows", (2,), truth=truth, classes=classes)
    assert not said(weaknesses.unknown_classes, one, knows)
    alone = said(weaknesses.unknown_classes, two)
    assert alone.startswith("The model does not find more")
    assert "(at best 2 of 10)" in alone
    # Of one class nothing can be guessed better.
    sure = judged("knows", (), truth=["walk"] * 40)
    only = dataclasses.replace(sure, class_names=("walk",), probabilities=np.ones((40, 1)))
    assert not said(weaknesses.unknown_classes, only)


def test_confidence_against_accuracy() -> None:
    text = said(weaknesses.confidence, judged("sure", range(0, 40, 4), sure=0.95))
    assert "sure is surer of itself than it should be: its probabilities say 0.95" in text
    assert "and it is right on 0.75 (difference +0.20; 95 %: +0.0" in text
    text = said(weaknesses.confidence, judged("shy", (0,), sure=0.6))
    assert "less sure of itself than it could be" in text
    assert "0.60 on average, and it is right on 0.97 (difference -0.38; 95 %: " in text
    assert not said(weaknesses.confidence, judged("honest", range(0, 40, 4), sure=0.75))
    one = ["all"] * 40
    assert not said(weaknesses.confidence, judged("sure", range(10), sure=0.99, groups=one))


def test_classical_against_deep() -> None:
    forest, network = judged("extra_trees", (0,)), judged("r3d_18", range(12))
    text = said(sentences.classical_or_deep, network, forest)
    assert text.startswith(
        "The best classical model, extra_trees (0.975), is ahead of the best deep one, r3d_18 "
        "(0.700): more than chance explains (p = 0.00098)"
    )
    assert pytest.approx(0.00098, abs=5e-6) == 2 / 2**11
    assert not said(sentences.classical_or_deep, forest, judged("svm", (1, 2)))
    text = said(sentences.classical_or_deep, judged("r3d_18"), forest)
    assert text.startswith("The best deep model, r3d_18 (1.000), is ahead of the best classical")


# Quality and damage


def thirds(*accuracies: float, corrected: float, of: str = "brightness") -> ByQuality:
    measure = next(one for one in MEASURES if one.name == of)
    each = [
        Third(
            low=10.0 * k, high=10.0 * k + 9, num_videos=13 + k, num_recordings=9, accuracy=accuracy,
            ends=None,
        )
        for k, accuracy in enumerate(accuracies)
    ]  # fmt: skip
    return ByQuality(measure=measure, thirds=each, p_value=corrected / 2, corrected=corrected)


def test_dependence_on_quality_only_where_the_test_says_so() -> None:
    best = judged("best", range(10))
    dark = thirds(0.4, 0.9, 0.95, corrected=0.012)
    text = said(limits.by_quality, best, by_quality={"best_test": [dark]})
    assert text == (
        "best depends on brightness: it is right on 0.40 of the darkest third of the videos (13), "
        "and on 0.75 of all (p = 0.012)."
    )
    chance = thirds(0.4, 0.9, 0.95, corrected=0.2)
    text = said(limits.by_quality, best, by_quality={"best_test": [chance]})
    assert text == (
        "No dependence of best on the quality of the videos shows on 40 videos: not on brightness."
    )
    few = judged("best", range(10), groups=[f"r{k % 4}" for k in range(40)])
    text = said(limits.by_quality, few, by_quality={"best_test": [chance]})
    assert text.startswith("Whether best depends on the quality of the videos (brightness) cannot")
    assert "40 videos of 4 recordings: no difference could be shown on so few." in text
    none = ByQuality(measure=MEASURES[0], why_none="all videos have the same value")
    assert not said(limits.by_quality, best, by_quality={"best_test": [none]})
    assert not said(limits.by_quality, best)


def test_the_model_that_is_better_on_the_worst_third() -> None:
    values = {"brightness": {f"v{k}": float(k) for k in range(40)}}
    best, other = judged("best", range(9)), judged("other", range(20, 34))
    dark = dataclasses.replace(thirds(4 / 13, 1.0, 1.0, corrected=0.001))
    dark = dataclasses.replace(
        dark, thirds=[dataclasses.replace(dark.thirds[0], low=0.0, high=12.0), *dark.thirds[1:]]
    )
    known = {"by_quality": {"best_test": [dark]}, "quality_values": values}
    text = said(limits.by_quality, best, other, **known)
    assert text.endswith(" There other is better: right on 1.00 (p = 0.0039).")
    same = judged("same", (*range(9), 30))
    assert "There" not in said(limits.by_quality, best, same, **known)


def trial(changes: Sequence[float], corrected: Sequence[float]) -> GroupTrial:
    made = [
        DamageResult(
            damage=damage,
            accuracy=0.9 + change,
            change=PairedDifference(value=change, interval=None, p=p / 8, corrected=p),
        )
        for damage, change, p in zip(DAMAGES, changes, corrected, strict=False)
    ]
    one = ModelTrial(
        name="best_test", num_videos=20, num_recordings=18, control=0.9, as_judged=20, results=made
    )
    return GroupTrial(models=[one], failed={}, without={}, seconds=1.0)


def test_losses_by_made_damage() -> None:
    best = judged("best", (0,))
    text = said(limits.on_made_damage, best, damage=trial((-0.3, -0.5, -0.1), (0.02, 0.001, 0.4)))
    assert text == (
        "Damage made on purpose in copies of 20 videos of 18 recordings costs best accuracy: "
        "blur of 3 % of the height (0.90 to 0.40, p = 0.001) and blur of 1 % of the height (0.90 "
        "to 0.60, p = 0.02)."
    )
    text = said(limits.on_made_damage, best, damage=trial((-0.05, 0.05), (0.9, 1.0)))
    assert "No loss of best by damage made on purpose shows on copies of 20 videos" in text
    assert text.endswith("the most, -0.05 by blur of 1 % of the height, may be chance (p = 0.9).")
    assert said(limits.on_made_damage, best, damage=trial((0.0,), (1.0,))).endswith(
        "18 recordings."
    )
    few = trial((-0.6,) * 8, (1.0,) * 8)
    few = dataclasses.replace(
        few, models=[dataclasses.replace(few.models[0], num_videos=3, num_recordings=3)]
    )
    text = said(limits.on_made_damage, best, damage=few)
    assert text.startswith("What damage made on purpose costs best cannot be told from copies of 3")
    assert not said(limits.on_made_damage, best)
    assert not said(limits.on_made_damage, judged("untried"), damage=trial((-0.5,), (0.001,)))


# The judgement itself


def test_a_baseline_that_is_not_beaten() -> None:
    weak = judged("weak", range(18))
    text = said(limits.near_baseline, weak)
    assert text.startswith("Always answering 'fight' is right on 0.50: weak (0.55) is not shown")
    assert not said(limits.near_baseline, judged("good", (0,)))


def test_metadata_that_are_nearly_as_good() -> None:
    good = judged("good", (0,))
    against = PairedDifference(value=0.05, interval=(0.01, 0.1), p=0.01, corrected=0.01)
    metadata = BaselineResult(
        kind="metadata", title="metadata alone", accuracy=0.925, figures={}, num_videos=40,
        against={"good_test": against},
    )  # fmt: skip
    text = said(limits.near_baseline, good, baselines=[metadata])
    assert text == (
        "Without looking at any picture, from the properties of the files alone (size, duration, "
        "frame rate and the like), one is right on 0.93, only 0.05 less than good (0.97)."
    )
    far = dataclasses.replace(against, value=0.4)
    metadata = dataclasses.replace(metadata, against={"good_test": far})
    assert not said(limits.near_baseline, good, baselines=[metadata])


def test_few_recordings_leave_an_accuracy_open() -> None:
    five = [f"r{k % 5}" for k in range(40)]
    best = judged("best", [k for k in range(40) if k % 5 in (0, 1)], groups=five)
    text = said(limits.few_recordings, best)
    low, high = best.metrics["intervals"]["accuracy"]
    assert f"of 5 recordings leave the accuracy of best open from {low:.2f} to {high:.2f}" in text
    assert f"by less than about {(high - low) / 2:.2f}" in text
    assert not said(limits.few_recordings, judged("best", (0, 1)))
    text = said(limits.few_recordings, judged("best", (0, 1), groups=["r"] * 40))
    assert text.startswith("All 40 judged videos are of one recording")


def test_unknown_recordings_and_small_classes() -> None:
    unknown = dataclasses.replace(judged("best", (0,)), groups=(None,) * 40)
    assert "the 40 judged videos were cut from is not known" in said(
        limits.unknown_recordings, unknown
    )
    assert not said(limits.unknown_recordings, judged("best", (0,)))
    truth = ("fight",) * 3 + ("walk",) * 37
    text = said(limits.small_classes, judged("best", (0,), truth=truth))
    assert text.startswith("1 of 2 classes have fewer than 5 judged videos")
    assert text.endswith("fight (3).")
    assert not said(limits.small_classes, judged("best", (0,)))


def study(curves: Mapping[str, Sequence[float]], *, low: float = 0.1) -> StudyResult:
    """A study whose models reach these accuracies with 50 and with 100 of 100 videos."""
    rows = [
        {
            "model": model, "purpose": "learning-curve", "fraction": (0.5, 1.0)[k],
            "train_videos": (50, 100)[k], "judged_videos": 40, "accuracy": accuracy,
            "accuracy_low": accuracy - low, "accuracy_high": accuracy + low, "log_loss": 0.5,
            "training_seconds": 1.0,
        }
        for model, curve in curves.items()
        for k, accuracy in enumerate(curve)
    ]  # fmt: skip
    table = pa.Table.from_pylist(rows, schema=STUDY)
    return StudyResult(out="/runs/study", name="study", report={}, rows=table)


def test_learning_curves_of_both_families() -> None:
    found = study({"svm": (0.7, 0.72), "knn": (0.6, 0.6), "r3d_18": (0.5, 0.9), "majority": (1, 1)})
    texts = [one.text for one in limits.learning_curves(found)]
    assert texts[0] == (
        "With 50 videos to learn from the classical model svm is ahead (0.70; the deep model "
        "r3d_18 0.50), and with 100 videos to learn from the deep model r3d_18 is ahead (0.90; the "
        "classical model svm 0.72)."
    )
    assert "from 50 % to all of 100 videos" in texts[1]
    assert "svm (0.70 to 0.72)" in texts[1]
    assert "r3d_18 (0.50 to 0.90)" in texts[1]
    assert "knn" not in texts[1]
    near = study({"svm": (0.7, 0.7), "r3d_18": (0.65, 0.7)})
    first, second = (one.text for one in limits.learning_curves(near))
    assert "(0.70; the deep model r3d_18 0.65, within its interval)" in first
    assert first.endswith("with 100 videos both families are right on 0.70.")
    assert "svm" not in second
    flat = study({"svm": (0.7, 0.7)})
    assert not list(limits.learning_curves(flat))


# The chapter


def section_of(runs: Runs) -> Any:
    with Thumbnails(is_on=False) as thumbnails:
        return strengths.section(runs, Tools(settings=ReportSettings(), thumbnails=thumbnails))


def test_the_chapter_stands_on_its_figures_in_their_order() -> None:
    members = (
        judged("good", (0, 1, 2, 3, 20), cost=end_to_end(1.0)),
        judged("quick", (0, 1, 2, 21, 22, 23, 24), cost=end_to_end(0.1)),
        judged("weak", range(40)),
    )
    made = section_of(Runs(folders=(), judged=members))
    found = {
        block.title: block.blocks[0].paragraphs
        for block in made.blocks
        if isinstance(block, Fold) and isinstance(block.blocks[0], Prose)
    }
    assert list(found) == ["Strengths", "Limits"]
    assert found["Strengths"][0].startswith("good is right on 35 of 40 videos")
    assert any(text.startswith("quick is 10 times as fast") for text in found["Strengths"])
    assert any("means nothing yet" in text for text in found["Limits"])
    texts = [finding.text for finding in made.findings]
    assert texts
    assert set(texts) <= set(found["Limits"])
    assert not any("means nothing yet" in text for text in texts)  # The comparison says it.


def test_no_model_no_chapter() -> None:
    assert section_of(Runs(folders=())) is None


def test_never_more_than_fifteen_sentences() -> None:
    many = [Sentence(rank=k, text=str(k), is_limit=False) for k in range(30, 0, -1)]
    rules = sentences.RULES
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sentences, "RULES", (*rules, lambda _: iter(many)))
        found = strengths.said_of(facts(judged("good", (0,)), judged("next", (1, 2))))
    assert len(found) == 15
    assert [one.rank for one in found] == sorted(one.rank for one in found)
