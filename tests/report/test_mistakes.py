"""Errors in the right order, with the right figures, and each video's frames in the page once."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from tests.shared_data import FIGHT
from vidray.report import templates
from vidray.report.blocks import Card, DataTable, Fold, Gallery, Part, Prose, Section, Thumbnail
from vidray.report.frames.thumbnails import Thumbnails
from vidray.report.inside import mistakes
from vidray.report.inside.all_wrong import _findings, chance_of_each_number
from vidray.report.runs import JudgedModel, Runs
from vidray.report.settings import ReportSettings
from vidray.report.tools import Tools

CLASSES = ("a", "b", "c")


class _Pictures(Thumbnails):
    """As many frames as are wanted, of no video; or a reason."""

    def __init__(self, why: str = "") -> None:
        super().__init__()
        self.why = why
        self.asked: list[tuple[str, int]] = []

    def of(self, uri: str, *, count: int = 4, **_: Any) -> Sequence[Thumbnail] | str:
        self.asked.append((uri, count))
        return self.why or [Thumbnail(jpeg=b"x", alt="frame")] * count


def _judged(
    name: str,
    probabilities: Sequence[Sequence[float]],
    truth: Sequence[str],
    *,
    groups: Sequence[str | None] | None = None,
    class_names: tuple[str, ...] = CLASSES,
) -> JudgedModel:
    scores = np.array(probabilities)
    return JudgedModel(
        out=f"/runs/{name}",
        name=name,
        report={"config": {"model": f"/models/{name}"}},
        class_names=class_names,
        video_ids=tuple(f"v{k}" for k in range(len(truth))),
        uris=tuple(f"/videos/v{k}.mp4" for k in range(len(truth))),
        truth=tuple(truth),
        predicted=tuple(class_names[k] for k in scores.argmax(axis=1)),
        groups=tuple(groups or [None] * len(truth)),
        probabilities=scores,
        cost={},
        baselines={},
    )


def _made(*judged: JudgedModel, shown: int = 12, pictures: Thumbnails | None = None) -> Section:
    tools = Tools(settings=ReportSettings(shown_videos=shown), thumbnails=pictures or _Pictures())
    found = mistakes.section(Runs(folders=("runs",), judged=judged), tools)
    assert found is not None
    return found


def _all(blocks: Sequence[Part]) -> Iterator[Part]:
    for block in blocks:
        yield block
        if isinstance(block, Fold):
            yield from _all(block.blocks)


def _cards(section: Section) -> list[Card]:
    return [c for block in _all(section.blocks) if isinstance(block, Gallery) for c in block.cards]


def _gallery(section: Section, start: str) -> Gallery:
    (found,) = (
        block
        for block in _all(section.blocks)
        if isinstance(block, Gallery) and block.title.startswith(start)
    )
    return found


ONE = _judged(
    "one",
    [[0.6, 0.3, 0.1], [0.9, 0.1, 0.0], [0.5, 0.3, 0.2], [0.0, 0.02, 0.98], [0.1, 0.5, 0.4]],
    ["a", "b", "c", "c", "c"],
    groups=["x", "x", "y", "z", "y"],
)


def test_without_a_judged_model_there_is_no_chapter() -> None:
    tools = Tools(settings=ReportSettings(), thumbnails=Thumbnails(is_on=False))
    assert mistakes.section(Runs(folders=("runs",)), tools) is None


def test_errors_come_worst_first_with_their_figures() -> None:
    made = _made(ONE)
    errors = _gallery(made, "Errors")
    assert errors.title == "Errors, worst first (3 of 3)"
    assert [card.title for card in errors.cards] == ["v1.mp4", "v2.mp4", "v4.mp4"]
    assert errors.cards[0].facts == {
        "the model says": "a, 0.900 (wrong)",
        "true label": "b, 0.100",
        "recording": "x",
    }
    # Of all answers; at most half as many as errors.
    assert [c.title for c in _gallery(made, "Least sure").cards[:3]] == [
        "v2.mp4", "v4.mp4", "v0.mp4",
    ]  # fmt: skip
    assert [c.title for c in _gallery(made, "Most sure right").cards] == ["v3.mp4", "v0.mp4"]


def test_the_table_has_all_answers_and_links_to_cards() -> None:
    made = _made(ONE, shown=1)
    (table,) = (block for block in _all(made.blocks) if isinstance(block, DataTable))
    frame = table.frame
    assert list(frame["video"]) == ["v1.mp4", "v2.mp4", "v4.mp4", "v0.mp4", "v3.mp4"]
    assert list(frame["loss"]) == pytest.approx(-np.log([0.1, 0.2, 0.4, 0.6, 0.98]))
    assert table.most_rows == 1
    anchors = {card.anchor for card in _cards(made) if card.anchor}
    assert {link for link in frame["link"] if link} == {f"#{anchor}" for anchor in anchors}
    assert frame["link"][0] == "#video-mistakes-1"


def test_recordings_that_are_all_wrong_are_named() -> None:
    (said,) = (block.paragraphs[0] for block in _all(_made(ONE).blocks) if isinstance(block, Prose))
    assert "wrong: 3 of 5 (60.0 %)" in said
    assert "0.9 or more: 1 of 2 (50.0 %)" in said
    assert "every video is wrong: 1 of 3, with 2 of the errors (y)" in said


def test_an_unknown_recording_is_said() -> None:
    made = _made(_judged("m", ONE.probabilities.tolist(), ONE.truth, groups=[None, *"yxzy"]))
    cards = {card.title: card.facts["recording"] for card in _cards(made)}
    assert (cards["v0.mp4"], cards["v1.mp4"]) == ("unknown", "y")


@pytest.mark.slow
def test_a_model_without_errors_has_no_list_of_them() -> None:
    made = _made(_judged("good", [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]], ["a", "b"]))
    assert [b.title for b in _all(made.blocks) if isinstance(b, Gallery)] == [
        "Least sure answers (2 of 2)",
        "Most sure right answers (2 of 2)",
    ]


def _group(count: int, videos: int = 6) -> list[JudgedModel]:
    """Models that are wrong in video 0 all, the k-th in video k besides."""
    truth = [CLASSES[k % 3] for k in range(videos)]
    found = []
    for model in range(count):
        scores = np.full((videos, 3), 0.1)
        for k, label in enumerate(truth):
            wrong = k in (0, model + 1)
            scores[k, (CLASSES.index(label) + (2 if k == 0 else 1)) % 3 if wrong else k % 3] = 0.8
        found.append(_judged(f"m{model}", scores.tolist(), truth))
    return found


@pytest.mark.slow
def test_what_all_models_get_wrong_comes_first() -> None:
    made = _made(*_group(4))
    together = made.blocks[0]
    assert isinstance(together, Fold)
    assert together.title == "What 4 models get wrong together"
    gallery = _gallery(made, "Wrong in most")
    assert [card.title for card in gallery.cards] == ["v0.mp4"]
    assert gallery.cards[0].facts["models say"] == "c (4 of 4)"
    assert gallery.cards[0].facts["true label"] == "a, 0.100 on average"
    (said,) = (b.paragraphs[0] for b in together.blocks if isinstance(b, Prose))
    # Each is wrong in two of six: (1/3) ** 4 of six videos.
    assert said.startswith("1 of 6 videos are wrong in all 4 models.")
    assert f"{6 / 81:.2g} would" in said
    (table,) = (b for b in together.blocks if isinstance(b, DataTable))
    assert list(table.frame["models_wrong"]) == [4, 1, 1, 1, 1, 0]


@pytest.mark.slow
def test_a_finding_says_whose_labels_to_look_at() -> None:
    # Three of 40 in all five models, each of which errs in 4 of 40.
    videos, truth = 40, ["a"] * 40
    models = []
    for model in range(5):
        scores = np.tile([0.8, 0.1, 0.1], (videos, 1))
        for k in (0, 1, 2, 10 + model):
            scores[k] = [0.1, 0.8, 0.1]
        models.append(_judged(f"m{model}", scores.tolist(), truth))
    (finding,) = _made(*models).findings
    assert finding.level == "warning"
    assert "All 5 models get 3 of 40 test videos wrong" in finding.text
    assert "(v0.mp4, v1.mp4, v2.mp4)" in finding.text
    assert _made(*models[:2]).findings == []


@pytest.mark.slow
def test_chance_makes_no_finding() -> None:
    """Models that err independently and often; in 200 draws the warning comes in few."""
    rng = np.random.default_rng(15)
    warned = 0
    for _ in range(200):
        is_wrong = rng.random((3, 30)) < 0.4
        shares = is_wrong.mean(axis=1)
        hard = int(is_wrong.all(axis=0).sum())
        by_chance = 30 * float(np.prod(shares))
        frame = mistakes.answers(_judged("m", [[0.1, 0.8, 0.1]] * 30, ["a"] * 30)).head(hard)
        warned += bool(_findings(frame, 30, 3, by_chance))
    assert warned <= 6


@pytest.mark.slow
def test_other_orders_of_classes_are_the_same_classes() -> None:
    first, *others = _group(3)
    order = [2, 0, 1]
    turned = _judged(
        "turned",
        first.probabilities[:, order].tolist(),
        first.truth,
        class_names=tuple(CLASSES[k] for k in order),
    )
    same = [
        _gallery(_made(one, *others), "Wrong in most").cards[0].facts for one in (first, turned)
    ]
    assert same[0] == same[1]


def test_probabilities_of_numbers_of_events_are_those_of_all_outcomes() -> None:
    shares = [0.1, 0.5, 0.9, 0.25]
    expected = np.zeros(5)
    for outcome in itertools.product((0, 1), repeat=4):
        terms = [s if hit else 1 - s for s, hit in zip(shares, outcome, strict=True)]
        expected[sum(outcome)] += np.prod(terms)
    assert chance_of_each_number(shares) == pytest.approx(expected)


@pytest.mark.slow
def test_frames_of_a_video_are_in_the_page_once() -> None:
    pictures = _Pictures()
    made = _made(*_group(4), pictures=pictures)
    seen = set()
    for card in _cards(made):
        assert bool(card.anchor) == (card.title not in seen)
        seen.add(card.title)
    whole = [card.title for card in _cards(made) if len(card.pictures) == 4]
    assert len(whole) == len(set(whole)) == 5
    assert {len(card.pictures) for card in _cards(made)} == {1, 4}
    anchors = [card.anchor for card in _cards(made) if card.anchor]
    assert len(anchors) == len(set(anchors)) == len(seen)
    names = [block.name for block in _all(made.blocks) if isinstance(block, DataTable)]
    assert len(names) == len(set(names)) == 5


def test_a_reason_that_all_share_is_said_once() -> None:
    made = _made(ONE, pictures=_Pictures("no frames: the file is gone (missing)"))
    assert {card.why_none for card in _cards(made)} == {""}
    assert _gallery(made, "Errors").note == "No frames: the file is gone (missing)."


@pytest.mark.slow
def test_models_judged_on_different_videos_are_apart() -> None:
    other = _judged("other", [[0.1, 0.8, 0.1]] * 2, ["a", "b"])
    made = _made(*_group(2), other)
    folds = [block.title for block in made.blocks if isinstance(block, Fold)]
    assert folds[0] == "What 2 models get wrong together"
    assert folds[-1] == "other: 1 of 2 videos wrong"
    assert len(folds) == 4
    assert [block.is_open for block in made.blocks[1:] if isinstance(block, Fold)] == [
        True, False, False,
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.shared
def test_a_page_of_twelve_models_and_real_videos_can_be_mailed() -> None:
    rng = np.random.default_rng(15)
    clips = sorted(FIGHT.glob("*fight/*.mp4"))[::6]
    truth = ["a" if clip.parent.name == "fight" else "b" for clip in clips]
    models = [
        dataclasses.replace(
            _judged(f"m{k}", rng.dirichlet([1, 1, 1], len(clips)).tolist(), truth),
            uris=tuple(map(str, clips)),
        )
        for k in range(12)
    ]
    with Thumbnails() as thumbnails:
        made = _made(*models, pictures=thumbnails)
    cards = _cards(made)
    errors = [b for b in _all(made.blocks) if isinstance(b, Gallery) and "Errors" in b.title]
    assert len(errors) == 12
    wrong = {card.title for gallery in errors for card in gallery.cards}
    assert len(wrong) > 30
    whole = [card.title for card in cards if len(card.pictures) == 4]
    assert wrong <= set(whole)
    assert len(whole) == len(set(whole))
    assert all(card.pictures for card in cards)
    # Each was decoded once: 0.04 s on a quiet machine, and a busy one must not turn this red.
    assert thumbnails._seconds < 2 * len(clips)
    # 12 models with 12 errors each; room for the other chapters, as 20 MB is the most.
    assert len(templates.fragment(made)) < 8e6
