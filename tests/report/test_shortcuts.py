"""Properties that tell the class are found, others are not, and models are set beside them."""

import dataclasses
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.metrics import balanced_accuracy_score

from vidray.report.blocks import DataTable, Prose
from vidray.report.dataset import shortcut_check, shortcuts
from vidray.report.dataset.shortcuts import Shortcuts, against_guessing, encode, measure, rival
from vidray.report.dataset.video_sets import VideoSet
from vidray.report.runs import JudgedModel, Runs, StudyResult

NAMES = ("fight", "no_fight")


def _table(recordings: int = 40, each: int = 3, seed: int = 0) -> pd.DataFrame:
    """Videos of recordings of one class each; 8 of 10 fights have 25 frames a second, 2 of 10 of
    the others; the codec says nothing; all have one size.
    """
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(recordings), each)
    label = of % 2
    rare = np.isin(of, [r for r in range(recordings) if r // 2 % 5 == 0])
    rate = np.where((label == 0) != rare, 25.0, 30.0)
    count = len(of)
    return pd.DataFrame(
        {
            "video_id": [f"v{k:04}" for k in range(count)],
            "uri": [f"/videos/v{k:04}.mp4" for k in range(count)],
            "label": [NAMES[k] for k in label],
            "split": ["test" if r >= recordings - 12 else "train" for r in of],
            "group": [f"g{r}" for r in of],
            "recording": [f"g{r}" for r in of],
            "status": "ok",
            "error_kind": None,
            "frames_per_second": rate,
            "width_px": 640,
            "height_px": 360,
            "aspect": 16 / 9,
            "duration_seconds": rng.uniform(2, 9, recordings)[of],
            "codec": rng.choice(["h264", "vp9"], recordings)[of],
            "container": "mov",
            "bytes_per_second": rng.lognormal(11, 1, count),
            "has_sound": None,
            **{name: rng.normal(size=count) for name in shortcuts.PICTURE_COLUMNS},
        }
    )


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Fewer trees: what they find here is plain."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shortcuts, "_TREES", 10)
        patch.setattr(shortcuts, "_REPEATS", 1)
        yield


@pytest.fixture(scope="module")
def found(quick: None) -> Shortcuts:
    measured = measure(_table(), seed=0)
    assert isinstance(measured, Shortcuts)
    return measured


def test_the_property_that_tells_the_class_is_the_shortcut(found: Shortcuts) -> None:
    rows = found.frame.set_index("column")
    rate = rows.loc["frames_per_second"]
    # 16 of 20 recordings of each class follow the rule.
    assert rate["balanced_accuracy"] == pytest.approx(0.8, abs=0.02)
    assert rate["low"] < 0.8 < rate["high"]
    assert list(found.frame.loc[found.frame["is_shortcut"], "column"]) == ["frames_per_second"]
    assert rate["differs"] == "25: 80% of fight, 20% of no_fight"
    # What is the same in all videos, or unknown, is not among them.
    assert not {"width_px", "height_px", "aspect", "container", "has_sound"} & set(rows.index)
    assert found.together["is_shortcut"].all()
    assert (found.videos, found.recordings, found.guessing) == (120, 40, 0.5)


def test_no_recording_is_on_both_sides() -> None:
    """A value of its own for each recording says nothing of any other one."""
    table = _table()
    table["bytes_per_second"] = pd.factorize(table["recording"])[0].astype(float) * 2
    measured = measure(table, seed=0)
    assert isinstance(measured, Shortcuts)
    alone = measured.frame.set_index("column").loc["bytes_per_second"]
    assert alone["balanced_accuracy"] < 0.7
    assert not alone["is_shortcut"]


def test_classes_of_few_recordings_are_left_out() -> None:
    table = _table()
    rare = table.head(6).assign(label="rare", video_id=[f"r{k}" for k in range(6)])
    measured = measure(pd.concat([table, rare], ignore_index=True), seed=0)
    assert isinstance(measured, Shortcuts)
    assert measured.left_out == ("rare",)
    assert measured.class_names == NAMES
    few = measure(table.head(12), seed=0)
    assert isinstance(few, str)
    assert "fewer than two classes have 3 recordings" in few


def test_of_many_videos_whole_recordings_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortcuts, "_MOST_VIDEOS", 60)
    few = shortcuts._few(_table(), seed=0)
    assert len(few) == 60
    assert set(few.groupby("recording").size()) == {3}
    assert list(few["video_id"]) == sorted(few["video_id"])


def test_balanced_accuracy_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    y = rng.choice(3, 200, p=[0.7, 0.2, 0.1])
    predicted = rng.integers(0, 3, 200)
    figures = against_guessing(
        (y == predicted).astype(float), y, np.arange(200), classes=3, folds=5, seed=0
    )
    assert figures["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(y, predicted))
    assert figures["low"] < figures["balanced_accuracy"] < figures["high"]
    sure = against_guessing(np.ones(200), y, np.arange(200), classes=3, folds=5, seed=0)
    assert (sure["balanced_accuracy"], sure["p"]) == (1.0, 0.0)


def test_more_videos_of_as_many_recordings_make_no_narrower_interval() -> None:
    """Copies of a video are no evidence."""
    rng = np.random.default_rng(1)
    y = np.repeat([0, 1], 30)
    hits = (rng.random(60) < 0.7).astype(float)
    once = against_guessing(hits, y, np.arange(60), classes=2, folds=5, seed=0)
    often = [np.repeat(values, 10) for values in (hits, y, np.arange(60))]
    many = against_guessing(*often, classes=2, folds=5, seed=0)
    assert many == pytest.approx(once)


@pytest.mark.slow
@pytest.mark.parametrize("is_pure", [True, False])
def test_what_says_nothing_is_rarely_a_shortcut(is_pure: bool) -> None:
    """Of 60 properties that are the same in each recording and drawn by chance."""
    rejected = 0
    for number in range(60):
        rng = np.random.default_rng([7, number])
        codes = np.repeat(np.arange(30), rng.integers(1, 7, 30))
        y = (rng.permutation(30) % 2)[codes] if is_pure else rng.integers(0, 2, len(codes))
        x = rng.integers(0, 6, 30)[codes].astype(np.float32)
        groups = [f"g{code}" for code in codes]
        splits = [
            shortcuts.group_folds(y, groups, folds=5, seed=seed, class_names=NAMES)
            for seed in range(2)
        ]
        judge = shortcuts._Judge(y=y, codes=codes, splits=splits, classes=2, seed=0)
        rejected += judge.figures(x[:, None], is_alone=True)["p"] <= 0.05
    # 3 are expected; 8 or more have a chance of 1 % if the level is right.
    assert rejected < 8


def test_names_are_columns_of_0_and_1() -> None:
    frame = pd.DataFrame(
        {"codec": ["h264", None, "vp9", "h264"], "has_sound": [True, None, False, True],
         "duration_seconds": [1.5, np.inf, None, 4.0]}
    )  # fmt: skip
    x = encode(frame, ["codec", "has_sound", "duration_seconds"])
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x[:, 0], [1, 0, 0, 1])
    np.testing.assert_array_equal(x[:, 1], [0, 0, 1, 0])
    np.testing.assert_array_equal(x[:, 2], [1, np.nan, 0, 1])
    np.testing.assert_array_equal(x[:, 3], [1.5, np.nan, np.nan, 4])


def test_the_rival_has_seen_no_recording_of_the_judged_videos() -> None:
    table = _table()
    # One recording of train is cut up into test, too: none of its videos is taught with.
    table.loc[table["recording"] == "g0", "split"] = ["train", "test", "test"]
    judged = table[table["split"] == "test"]
    other = rival(table, list(judged["video_id"]), list(judged["label"]), seed=0)
    assert other is not None
    assert other.taught_with == 120 - 12 * 3 - 3
    expected = (judged["frames_per_second"] == 25) == (judged["label"] == "fight")
    assert (other.hits == expected).mean() > 0.7
    assert rival(table, ["unknown"], ["fight"], seed=0) is None


def _judged(table: pd.DataFrame, skill: float, name: str) -> JudgedModel:
    rows = table[table["split"] == "test"].iloc[::-1]
    rng = np.random.default_rng(0)
    truth = tuple(rows["label"])
    is_right = rng.random(len(truth)) < skill
    swapped = dict(zip(NAMES, reversed(NAMES), strict=True))
    predicted = tuple(t if ok else swapped[t] for t, ok in zip(truth, is_right, strict=True))
    return JudgedModel(
        out=f"/runs/{name}",
        name=name,
        report={"config": {"split": "test", "model": f"/runs/{name}"}},
        class_names=NAMES,
        video_ids=tuple(rows["video_id"]),
        uris=tuple(rows["uri"]),
        truth=truth,
        predicted=predicted,
        groups=tuple(rows["group"]),
        probabilities=np.array([[n == p for n in NAMES] for p in predicted], float),
        cost={},
        baselines={},
    )


def test_models_stand_beside_the_metadata_on_the_same_videos() -> None:
    table = _table()
    good, poor = _judged(table, 1.0, "good"), _judged(table, 0.5, "poor")
    (beside,) = shortcut_check.compare(table, [poor, good], seed=0)
    assert list(beside["model"]) == ["good", "poor"]
    assert list(beside["accuracy"]) == [
        1.0,
        np.mean([a == b for a, b in zip(poor.truth, poor.predicted, strict=True)]),
    ]
    assert beside["metadata"].nunique() == 1
    first = beside.iloc[0]
    assert first["difference"] == pytest.approx(1 - first["metadata"])
    assert (first["recordings"], first["videos"]) == (12, 36)
    # Judged on other videos: not in one table.
    half = dataclasses.replace(
        good,
        **{
            name: getattr(good, name)[:12]
            for name in ("video_ids", "uris", "truth", "predicted", "groups", "probabilities")
        },
    )
    assert len(shortcut_check.compare(table, [good, half], seed=0)) == 2


def _texts(parts: list[object]) -> str:
    return " ".join(text for part in parts if isinstance(part, Prose) for text in part.paragraphs)


def test_the_page_says_it_in_words() -> None:
    table = _table()
    videos = VideoSet(name="features", frame=table, states=table, enhance=None)
    runs = Runs(folders=(), judged=(_judged(table, 0.5, "poor"),))
    parts, findings = shortcut_check.blocks(videos, runs, slug="1", section="data", seed=0)
    said = _texts(list(parts))
    assert "the frame rate alone gives 0.80 (" in said
    assert "guessing gives 0.50" in said
    assert "The model is not shown to be better than the metadata: the best, poor, has" in said
    assert [finding.level for finding in findings] == ["warning", "warning"]
    # A study judged the metadata, too: the chapter that compares models says it.
    rows = pa.table({"model": ["metadata"]})
    study = StudyResult(out="/runs/study", name="study", report={}, rows=rows)
    runs = dataclasses.replace(runs, studies=(study,))
    (only,) = shortcut_check.blocks(videos, runs, slug="1", section="data", seed=0)[1]
    assert only.text.startswith("File properties give the class away: ")
    names = [part.name for part in parts if isinstance(part, DataTable)]
    assert names == ["shortcut-figures-1", "models-and-metadata-1-1"]


def test_where_nothing_tells_the_class_nobody_is_warned() -> None:
    table = _table()
    table["frames_per_second"] = 25.0
    videos = VideoSet(name="features", frame=table, states=table, enhance=None)
    parts, findings = shortcut_check.blocks(
        videos, Runs(folders=()), slug="1", section="data", seed=0
    )
    assert "No property of the files tells the class by itself" in _texts(list(parts))
    assert findings == []
    table = table.assign(label="fight")
    one = VideoSet(name="features", frame=table, states=table, enhance=None)
    assert shortcut_check.blocks(one, Runs(folders=()), slug="1", section="data", seed=0) == (
        [],
        [],
    )


def test_the_best_property_comes_first(found: Shortcuts) -> None:
    values = found.frame["balanced_accuracy"].tolist()
    assert all(first >= second for first, second in pairwise(values))


def test_numbers_too_large_for_the_trees_are_missing() -> None:
    frame = pd.DataFrame({"duration_seconds": [1.0, 1e308, -np.inf, None]})
    assert np.isfinite(encode(frame, ["duration_seconds"])[:, 0]).tolist() == [
        True, False, False, False,
    ]  # fmt: skip
