"""Drift of nights: what raises an alarm, what must not, and what a night is compared with."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from scipy import stats

from tests import made_runs
from tests.report import folders, made_nights
from tests.report.made_nights import failure, history, night, report, row
from vidray.evaluation import drift as tests
from vidray.evaluation.pairs import holm
from vidray.models.model_files import name_and_digest
from vidray.report import beside, nights
from vidray.report.blocks import Chart
from vidray.report.nights import alarms, drift, origin, rows, watched
from vidray.report.nights.drift import BEFORE_NAME, TESTED_NAME, TRAINING_NAME, NightDrift
from vidray.report.nights.origin import LabelOrigin
from vidray.report.nights.rows import NightRows
from vidray.report.reading import read
from vidray.report.runs import JudgedModel, LabelHistory, Runs

NOTHING = LabelOrigin(model=None, data=None, training=None, judged=None, looked=())


def _found(one: LabelHistory) -> NightRows:
    found = rows.of_history(one)
    assert found is not None
    return found


def _made(found: NightRows, known: LabelOrigin = NOTHING) -> list[NightDrift]:
    seen = watched.watch(found, known, most_nights=60, seed=0)
    return drift.of_nights(found, seen, seed=0)


def _history(*tables: pa.Table) -> NightRows:
    return _found(history(pa.concat_tables(tables)))


def _four(**last: Any) -> NightRows:
    """Three nights, and one that is unlike them as ``last`` says."""
    return _history(*(night(k, 160) for k in (1, 2, 3)), night(4, 160, **last))


def _alarms(made: Sequence[NightDrift]) -> list[str]:
    last = max(one.night for one in made)
    return [one.variable.title for one in made if one.night == last and one.is_alarm]


def test_longer_videos_raise_an_alarm_that_says_how_much_longer() -> None:
    found = _four(seconds=14.0)
    made = _made(found)
    assert _alarms(made) == ["duration"]
    level, text = alarms.verdict(found, made)
    assert level == "alarm"
    assert text.startswith("Night 4 (2026-10-30) is unlike the 3 nights before: duration: median 1")
    (one,) = [one for one in made if one.is_alarm]
    seconds = np.asarray(found.rows["duration_seconds"].to_numpy())
    sides = [seconds[(found.night == 3) == side] for side in (True, False)]
    exact = stats.ks_2samp(*(side[~np.isnan(side)] for side in sides)).statistic
    assert one.found.effect == pytest.approx(exact, abs=1 / 64)
    medians = [f"{np.nanmedian(side):.3g}" for side in sides]
    assert f"median {medians[0]} s, {medians[1]} s in the 3 nights before (KS 0." in text


def test_other_labels_raise_an_alarm_that_names_the_one_that_changed_most() -> None:
    made = _made(_four(shares=(0.05, 0.3, 0.65)))
    assert _alarms(made) == ["label"]
    (one,) = [one for one in made if one.is_alarm]
    assert " % walk, " in drift.said(one) or " % jump, " in drift.said(one)


def test_more_failures_raise_an_alarm_though_nine_of_ten_succeed() -> None:
    made = _made(_four(failed=0.14))
    assert _alarms(made) == ["failures"]


def test_an_unchanged_night_says_what_differs_most() -> None:
    found = _four()
    made = _made(found)
    assert _alarms(made) == []
    level, text = alarms.verdict(found, made)
    assert level == "note"
    assert "shows no drift against the 3 nights before: of 4 comparisons none" in text
    assert "The largest difference is of" in text


@pytest.mark.slow
def test_of_unchanged_nights_one_in_twenty_raises_an_alarm_at_most() -> None:
    histories = 200
    raised = 0
    for seed in range(histories):
        tables = [night(k, 80, failed=0.05, seed=seed) for k in (1, 2, 3)]
        found = _history(*tables)
        seen = watched.watch(found, NOTHING, most_nights=60, seed=seed)
        raised += bool(_alarms(drift.of_nights(found, seen, seed=seed)))
    assert raised <= stats.binom.ppf(0.99, histories, tests.LEVEL)


def test_p_values_of_a_night_are_corrected_together_over_all_references() -> None:
    known = dataclasses.replace(NOTHING, training=_training(300), judged=_judged(300))
    made = [one for one in _made(_four(), known) if one.night == 3]
    assert {one.against for one in made} == {BEFORE_NAME, TRAINING_NAME, TESTED_NAME}
    tested = [one for one in made if one.found.p is not None]
    assert [one.p for one in tested] == holm([one.found.p or 0 for one in tested])
    assert len(tested) == 7  # duration, label, probability, failures; duration; label, probability


def test_a_difference_that_does_not_matter_is_no_alarm_however_many_videos_show_it() -> None:
    rng = np.random.default_rng(0)
    count = 40_000
    is_last = np.arange(count) >= count // 2
    values = rng.normal(0, 1, count) + 0.12 * is_last
    variable = watched.NightVariable(
        title="brightness", against="training", column=tests.numbers(values), numbers=values
    )
    seen = watched.WatchedNights(
        night=is_last.astype(np.int64),
        # 1,000 recordings of each night are shuffled.
        recording=np.arange(count) // 20,
        is_new=np.ones(count, np.bool_),
        is_learnt=np.zeros(count, np.bool_),
        variables=(variable,),
        problems=(),
    )
    found = _history(night(1, 8), night(2, 8))
    (one,) = drift.of_nights(found, seen, seed=0)
    assert one.p is not None
    assert one.p < 0.001
    assert one.found.effect == pytest.approx(0.048, abs=0.02)
    assert not one.is_alarm


def test_a_night_of_three_videos_raises_no_alarm_and_one_of_one_cannot() -> None:
    found = _history(night(1, 200), night(2, 3, of_recording=1, failed=0))
    assert _alarms(_made(found)) == []
    small = _history(night(1, 12, failed=0), night(2, 1, failed=0, seconds=1000.0))
    made = _made(small)
    assert _alarms(made) == []
    level, text = alarms.verdict(small, made)
    assert level == "note"
    assert "too few recordings to tell drift from chance" in text


def test_a_first_night_without_training_data_cannot_be_compared() -> None:
    found = _history(night(1, 50))
    level, text = alarms.verdict(found, _made(found))
    assert level == "note"
    assert "cannot be compared" in text
    assert alarms.blocks(found, [], "nights") == []


def test_what_is_labelled_again_is_not_compared() -> None:
    again = [
        row(f"n1v{k:05}", 3, group=f"again{k}", duration_seconds=500.0, attempts=2)
        for k in range(60)
    ]
    tables = [night(1, 100), night(2, 100), night(3, 100)]
    found = _history(*tables, pa.Table.from_pylist(again, schema=made_nights.SCHEMA))
    made = _made(found)
    assert _alarms(made) == []
    (one,) = [one for one in made if one.night == 2 and one.variable.title == "duration"]
    assert one.found.night <= 100


def test_failures_are_not_compared_with_nights_whose_rows_are_gone() -> None:
    rest = night(1, 150, failed=0.0)  # Its failures passed, and their rows were compacted away.
    found = _found(
        history(
            pa.concat_tables([rest, night(2, 150, failed=0.1), night(3, 150, failed=0.1)]),
            {1: report(170), 2: report(150), 3: report(150)},
        )
    )
    (one,) = [o for o in _made(found) if o.night == 2 and o.variable.title == "failures"]
    assert one.found.others == 150


def test_drift_that_goes_on_against_the_training_data_is_an_alarm_once() -> None:
    known = dataclasses.replace(NOTHING, training=_training(200, seconds=3.0))
    first = _history(night(1, 100))
    assert alarms.verdict(first, _made(first, known))[0] == "alarm"
    third = _history(night(1, 100), night(2, 100), night(3, 100))
    level, text = alarms.verdict(third, _made(third, known))
    assert level == "warning"
    assert "is unlike the training data, as every night since night 1: duration: median" in text


# What a night is compared with


def _training(count: int, seconds: float = 8.0) -> pa.Table:
    lengths = seconds * np.exp(0.4 * np.random.default_rng(9).normal(size=count))
    return pa.table(
        {
            "video_id": [f"t{k}" for k in range(count)],
            "uri": [f"/train/{k}.mp4" for k in range(count)],
            "group": pa.nulls(count, pa.string()),
            "label": ["jump"] * count,
            "duration_seconds": lengths,
            "corrupt_share": np.zeros(count),
        }
    )


def _judged(count: int) -> JudgedModel:
    rng = np.random.default_rng(8)
    top = rng.uniform(0.4, 1, count)
    predicted = rng.choice(made_nights.CLASSES, count, p=(0.5, 0.3, 0.2))
    probabilities = np.tile((1 - top[:, None]) / 2, 3)
    for k, name in enumerate(predicted):
        probabilities[k, made_nights.CLASSES.index(name)] = top[k]
    ids = tuple(f"e{k}" for k in range(count))
    return JudgedModel(
        out="/judged", name="judged", report={}, class_names=made_nights.CLASSES, video_ids=ids,
        uris=ids, truth=("jump",) * count, predicted=tuple(map(str, predicted)),
        groups=(None,) * count, probabilities=probabilities, cost={}, baselines={},
    )  # fmt: skip


def test_labels_are_compared_with_answers_for_test_videos_not_with_the_truth() -> None:
    known = dataclasses.replace(NOTHING, training=_training(300), judged=_judged(300))
    found = _history(night(1, 300))
    made = {(one.against, one.variable.title): one for one in _made(found, known)}
    assert not any(one.is_alarm for one in made.values())
    assert made[TESTED_NAME, "label"].found.others == 300
    assert (TRAINING_NAME, "label") not in made


def test_videos_that_the_model_learnt_from_are_left_out_against_its_data_only() -> None:
    first = night(1, 100, failed=0)
    training = _training(40)
    learnt = training.set_column(0, "video_id", first["video_id"].slice(0, 40))
    known = dataclasses.replace(NOTHING, training=learnt)
    made = _made(_history(first, night(2, 100, failed=0)), known)
    sizes = {(one.night, one.against): one.found.night for one in made}
    assert sizes[0, TRAINING_NAME] == 60
    assert sizes[1, TRAINING_NAME] == 100
    (before,) = {one.found.others for one in made if one.against == BEFORE_NAME}
    assert before == 100


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Features of 64 videos, a model that learnt from half of them, its evaluation, and two nights
    of the videos of the features.
    """
    made_runs.features_run(tmp_path / "features")
    folders.model(tmp_path / "model", data=str(tmp_path / "features"))
    folders.evaluation(tmp_path / "judged", tmp_path / "model", number=16)
    videos = made_runs.videos(64)
    for half in (videos[:32], videos[32:]):
        labelled = [
            {
                **{name: one[name] for name in ("video_id", "uri", "group")},
                "label": "run", "probability": 0.8, "probabilities": [0.2, 0.8],
                "duration_seconds": 4.0, "embedding": [float(k), 1.0, 0.5],
            }
            for k, one in enumerate(half)
        ]  # fmt: skip
        folders.night(tmp_path / "labels", labelled)
    return tmp_path


def _runs(folder: Path, *, digest: str | None = None) -> tuple[NightRows, Runs]:
    runs = read([str(folder)])
    (one,) = runs.labels
    if digest is not None:
        at = one.rows.column_names.index("model_digest")
        column = pa.array([digest] * len(one.rows), pa.string())
        one = dataclasses.replace(one, rows=one.rows.set_column(at, "model_digest", column))
    return _found(one), runs


@pytest.mark.slow
def test_the_origin_of_labels_is_the_very_model_that_made_them(folder: Path) -> None:
    digest = name_and_digest(str(folder / "model"))[1]
    known = origin.of_labels(*_runs(folder, digest=digest))
    assert known.model is not None
    assert known.data is not None
    assert known.judged is not None
    assert known.training is not None
    train = {v["video_id"] for v in made_runs.videos(64) if v["split"] == "train"}
    assert set(known.training["video_id"].to_pylist()) == train
    other = origin.of_labels(*_runs(folder))  # Of a model of this name that was trained again.
    assert (other.model, other.data, other.training, other.judged) == (None, None, None, None)
    assert [run.name for run in other.looked] == ["features"]


@pytest.mark.slow
def test_features_are_joined_by_video_and_embeddings_by_row(folder: Path) -> None:
    digest = name_and_digest(str(folder / "model"))[1]
    found, runs = _runs(folder, digest=digest)
    known = origin.of_labels(found, runs)
    seen = watched.watch(found, known, most_nights=60, seed=0)
    column = {one.title: one.column for one in seen.variables}
    for name in ("motion features", "temporal features"):
        assert column[name].is_known.sum() == 64 + 32  # The nights, and the training videos.
    assert column["embedding"].is_known.sum() == 64
    # Of 64 videos with the same lengths, nothing is to be told of the duration.
    assert len(np.unique(column["duration"].values[:64])) == 1
    made = drift.of_nights(found, seen, seed=0)
    assert {one.against for one in made} == {BEFORE_NAME, TRAINING_NAME, TESTED_NAME}


@pytest.mark.slow
def test_vectors_are_those_of_their_videos(folder: Path) -> None:
    found, runs = _runs(folder)
    ids = pc.unique(found.rows["video_id"])
    chosen = ids.take(pa.array([40, 3, 17]))
    wanted = pa.concat_arrays([chosen, pa.array(["nobody"])])
    values = watched._family(runs.features, "motion", wanted)
    assert values is not None
    known = runs.features[0].matrix(["motion"])
    order = runs.features[0].rows["video_id"].to_pylist()
    at = [order.index(video) for video in chosen.to_pylist()]
    np.testing.assert_array_equal(values[:3], known[at])
    assert np.isnan(values[3]).all()
    of_rows = watched._embeddings(found, np.array([5, 33]))
    assert of_rows is not None
    assert of_rows[:, 0].tolist() == [5.0, 1.0]


@pytest.mark.slow
def test_runs_that_looked_in_another_way_are_not_joined(folder: Path) -> None:
    found, runs = _runs(folder)
    first = runs.features[0]
    way = {"extraction": {"families": ["color"], "enhance": "always"}}
    other = dataclasses.replace(first, out="/other", report={"config": way})
    more = dataclasses.replace(first, out="/more")
    known = origin.of_labels(found, dataclasses.replace(runs, features=(first, other, more)))
    assert [run.out for run in known.looked] == [first.out, "/more"]


@pytest.mark.slow
def test_the_chapter_shows_drift_with_charts_of_what_changed() -> None:
    found = _four(seconds=16.0)
    runs = Runs(folders=("x",), labels=(found.history,))
    section = nights.section(runs, made_nights.tools())
    assert section is not None
    charts = {b.name: b for b in beside.parts(section.blocks) if isinstance(b, Chart)}
    assert "duration" in charts["nights-drift-0"].title.lower()
    assert charts["nights-drift-nights-before"].frame["is_alarm"].sum() == 1
    assert section.findings[0].level == "alarm"
    assert "KS" in section.findings[0].text


@pytest.mark.slow
def test_damaged_features_cost_their_own_comparison_and_are_named(folder: Path) -> None:
    found, runs = _runs(folder)
    (part,) = (folder / "features" / "features").glob("*.parquet")
    part.write_bytes(b"PAR1 and nothing else PAR1")
    seen = watched.watch(found, origin.of_labels(found, runs), most_nights=60, seed=0)
    titles = {one.title for one in seen.variables}
    assert titles >= {"duration", "embedding"}
    assert not titles & {"motion features", "temporal features"}
    assert len(seen.problems) == 2
    assert seen.problems[0].startswith("The motion features are not compared: they cannot be read")


def _by_night(spread: float, seed: int) -> NightRows:
    """Fourteen nights, each of other lengths of its own."""
    rng = np.random.default_rng(seed)
    seconds = 8.0 * np.exp(spread * rng.normal(size=14))
    return _history(*(night(k + 1, 100, seconds=s, seed=seed) for k, s in enumerate(seconds)))


@pytest.mark.slow
def test_nights_that_differ_as_a_rule_raise_no_alarm_by_doing_so_again() -> None:
    usual, raised = 0, 0
    for seed in range(12):
        last = [one for one in _made(_by_night(0.3, seed)) if one.night == 13]
        (one,) = [one for one in last if one.variable.title == "duration"]
        raised += one.is_alarm
        usual += one.is_beyond_chance and one.size >= 1
    assert usual >= 4  # Without what is usual each of these were an alarm.
    assert raised <= 3
    # One that differs from all of them is an alarm all the same.
    nights_before = _by_night(0.05, 0).rows
    found = _history(nights_before, night(15, 100, seconds=16.0))
    assert _alarms(_made(found)) == ["duration"]


def test_rows_of_failures_alone_are_compared_by_kind() -> None:
    some = [failure(f"a{k}", 1, "timeout") for k in range(30)]
    more = [failure(f"b{k}", 2, "unreadable") for k in range(30)]
    made = _made(_found(history([*some, *more])))
    assert _alarms(made) == ["failures"]
