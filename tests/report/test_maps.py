"""Maps that are the same twice, and figures of neighbours that a brute force confirms."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tests import made_runs
from tests.report import folders
from vidray.report import reading
from vidray.report.blocks import Chart, DataTable, Fold, Gallery, Part, Prose, Section
from vidray.report.frames.thumbnails import Thumbnails
from vidray.report.inside import map_points, maps, projections
from vidray.report.inside.map_points import MapPoints, stratified
from vidray.report.inside.projections import neighbourhood, standardised, tsne, umap
from vidray.report.runs import ExtractRun, Runs
from vidray.report.settings import ReportSettings
from vidray.report.tools import Tools

TOOLS = Tools(settings=ReportSettings(), thumbnails=Thumbnails(is_on=False))


def _rng() -> np.random.Generator:
    return np.random.default_rng(15)


# Numbers


def test_columns_are_standardised_and_what_is_missing_is_their_mean() -> None:
    rng = _rng()
    values = rng.normal(5, 3, (40, 4)).astype(np.float32)
    values[3, 0], values[4, 1], values[5, 1] = np.nan, np.inf, -np.inf
    values[:, 2] = 7.0
    values[:, 3] = np.nan
    found = standardised(values)
    assert found.shape == (40, 2)
    assert found[3, 0] == found[4, 1] == found[5, 1] == 0.0
    kept = np.delete(found[:, 0], 3)
    assert kept.mean() == pytest.approx(0, abs=1e-9)
    assert kept.std() == pytest.approx(1)
    np.testing.assert_allclose(
        kept, (np.delete(values[:, 0], 3) - np.nanmean(values[:, 0])) / np.nanstd(values[:, 0]),
        rtol=1e-5, atol=1e-6,
    )  # fmt: skip


def test_large_and_absent_numbers_do_no_harm() -> None:
    largest = np.finfo(np.float32).max
    values = np.array([[largest, 1.0], [-largest, 2.0], [0.0, 3.0]], np.float32)
    assert np.isfinite(standardised(values)).all()
    assert standardised(np.full((5, 3), np.nan, np.float32)).shape == (5, 0)
    assert standardised(np.ones((5, 3), np.float32)).shape == (5, 0)


def _brute_force(
    values: Any, class_of: Any, recording_of: Any, count: int = 5
) -> tuple[float, float, float]:
    """Share of the class among neighbours of other recordings, by chance, own recording."""
    same, chance, own = [], [], []
    for k, here in enumerate(values):
        others = sorted(
            (float(((here - there) ** 2).sum()), j) for j, there in enumerate(values) if j != k
        )
        own.append(np.mean([recording_of[j] == recording_of[k] for _, j in others[:count]]))
        foreign = [j for _, j in others if recording_of[j] != recording_of[k]]
        if foreign:
            same.append(np.mean([class_of[j] == class_of[k] for j in foreign[:count]]))
            chance.append(np.mean([class_of[j] == class_of[k] for j in foreign]))
    return float(np.mean(same)), float(np.mean(chance)), float(np.mean(own))


def test_neighbours_are_those_of_a_brute_force() -> None:
    rng = _rng()
    class_of = rng.integers(0, 3, 60)
    recording_of = rng.integers(0, 15, 60)
    values = rng.normal(size=(60, 7)) + class_of[:, None] + 0.5 * recording_of[:, None]
    found = neighbourhood(values, class_of, recording_of, seed=0)
    assert found is not None
    expected = _brute_force(values, class_of, recording_of)
    assert (found.same_class, found.by_chance, found.own_recording) == pytest.approx(expected)
    assert found.videos == 60
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.same_class < found.high


def test_neighbours_that_a_map_keeps_are_counted() -> None:
    values = _rng().normal(size=(50, 2))
    assert projections.kept_neighbours(values, values) == 1.0
    # Of 49 others, ten are near by chance.
    rng = _rng()
    noise = [projections.kept_neighbours(values, rng.permutation(values)) for _ in range(20)]
    assert np.mean(noise) == pytest.approx(10 / 49, abs=0.06)


def test_fewer_neighbours_than_five_are_enough() -> None:
    values = np.array([[0.0], [1.0], [5.0]])
    found = neighbourhood(values, np.array([0, 0, 1]), np.array([0, 0, 1]), seed=0)
    assert found is not None
    assert found.same_class == 0.0
    assert found.videos == 3
    assert neighbourhood(values, np.array([0, 0, 1]), np.zeros(3, np.int64), seed=0) is None


def test_recordings_alone_are_no_classes() -> None:
    """Numbers that tell recordings apart, not classes: neighbours of all kinds seem to know."""
    rng = _rng()
    recording_of = np.repeat(np.arange(40), 6)
    class_of = rng.permutation(np.arange(40) % 2)[recording_of]
    values = rng.normal(size=(40, 20))[recording_of] + 0.1 * rng.normal(size=(240, 20))
    found = neighbourhood(values, class_of, recording_of, seed=0)
    assert found is not None
    assert found.own_recording == 1.0
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.by_chance < found.high
    naive = neighbourhood(values, class_of, np.arange(240), seed=0)
    assert naive is not None
    assert naive.same_class == 1.0


@pytest.mark.slow
def test_intervals_of_numbers_that_say_nothing_hold_chance() -> None:
    """In 19 of 20: 100 draws of recordings whose numbers have nothing to do with their class."""
    rng = _rng()
    held = 0
    for _ in range(100):
        recording_of = np.repeat(np.arange(30), 4)
        class_of = rng.permutation(np.arange(30) % 2)[recording_of]
        values = rng.normal(size=(30, 8))[recording_of] + 0.3 * rng.normal(size=(120, 8))
        found = neighbourhood(values, class_of, recording_of, seed=0)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        held += found.low <= found.by_chance <= found.high
    assert held >= 85


# Samples


def test_a_sample_has_each_class_with_its_share() -> None:
    videos = [f"v{k}" for k in range(1000)]
    classes = ["many"] * 700 + ["some"] * 295 + [None] * 4 + ["rare"]
    chosen = stratified(videos, classes, most=100, seed=0)
    assert len(chosen) == len(set(chosen)) == 100
    counts = pd.Series([classes[k] or "-" for k in chosen]).value_counts()
    assert counts["rare"] == counts["-"] == 1
    assert abs(counts["many"] - 69) <= 1
    # A smaller sample is the beginning of a larger one, and in any order of rows the same videos.
    assert list(stratified(videos, classes, most=30, seed=0)) == list(chosen[:30])
    turned = stratified(videos[::-1], classes[::-1], most=100, seed=0)
    assert {videos[::-1][k] for k in turned} == {videos[k] for k in chosen}
    assert set(stratified(videos, classes, most=100, seed=1)) != set(chosen)
    assert len(stratified(videos[:5], classes[:5], most=100, seed=0)) == 5


# Maps


@pytest.mark.slow
def test_a_map_is_the_same_twice_and_shows_what_is_near() -> None:
    rng = _rng()
    values = standardised(rng.normal(size=(60, 70)) + 6 * (np.arange(60) % 3)[:, None])
    first = tsne(values, seed=0)
    assert first.shape == (60, 2)
    np.testing.assert_array_equal(first, tsne(values, seed=0))
    found = neighbourhood(first, np.arange(60) % 3, np.arange(60), seed=0)
    assert found is not None
    assert found.same_class > 0.95


@pytest.mark.slow
def test_umap_is_the_same_twice() -> None:
    pytest.importorskip("umap")
    rng = _rng()
    values = standardised(rng.normal(size=(40, 10)) + 6 * (np.arange(40) % 2)[:, None])
    first = umap(values, seed=0)
    np.testing.assert_array_equal(first, umap(values, seed=0))
    found = neighbourhood(first, np.arange(40) % 2, np.arange(40), seed=0)
    assert found is not None
    assert found.same_class > 0.95
    assert np.isfinite(umap(values[:8], seed=0)).all()


@pytest.mark.slow
def test_the_fewest_videos_have_a_map() -> None:
    values = standardised(_rng().normal(size=(projections.FEWEST, 3)))
    assert np.isfinite(tsne(values, seed=0)).all()


# The chapter


def _all(blocks: Sequence[Part]) -> Iterator[Part]:
    for block in blocks:
        yield block
        if isinstance(block, Fold):
            yield from _all(block.blocks)


def _of(section: Section | None, kind: type[Any]) -> list[Any]:
    assert section is not None
    return [block for block in _all(section.blocks) if isinstance(block, kind)]


@pytest.fixture(autouse=True)
def _without_umap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projections, "has_umap", lambda: False)


def test_without_features_there_is_no_chapter() -> None:
    assert maps.section(Runs(folders=("runs",)), TOOLS) is None


@pytest.mark.slow
def test_features_of_a_judged_model_with_its_errors(tmp_path: Path) -> None:
    made_runs.features_run(tmp_path / "features")
    folders.model(tmp_path / "knn")
    rows = [row for row in made_runs.videos(64) if row["split"] == "test"]
    folders.evaluation(tmp_path / "judged", tmp_path / "knn", rows=rows, skill=0.5)
    runs = reading.read([str(tmp_path)])
    section = maps.section(runs, TOOLS)
    (chart,) = _of(section, Chart)
    assert chart.name == "map-1-tsne"
    assert chart.title == "t-SNE of features: motion (features)"
    frame, judged = chart.frame, runs.judged[0]
    assert len(frame) == 64
    wrong = {
        video
        for video, truth, said in zip(judged.video_ids, judged.truth, judged.predicted, strict=True)
        if truth != said
    }
    assert wrong
    assert set(frame["video_id"][frame["ringed"]]) == wrong
    assert f"{len(rows)} have an answer of knn, {len(wrong)} errors are ringed" in chart.note
    said = frame.set_index("video_id")["said"]
    assert said["v000"] == "v000.mp4: jump; recording g0"
    assert all(said[video].startswith(f"{video}.mp4: ") for video in wrong)
    assert all("knn says" in said[video] and "(wrong)" in said[video] for video in wrong)
    assert set(frame["class"]) == {"jump", "run"}
    # Each point leads to the card of its video.
    (gallery,) = _of(section, Gallery)
    assert gallery.is_compact
    anchor_of = {card.title: card.anchor for card in gallery.cards}
    assert len(set(anchor_of.values())) == 64
    for row in frame.to_dict("records"):
        assert row["link"] == f"#{anchor_of[row['video_id'] + '.mp4']}"
    (text,) = _of(section, Prose)
    assert "pip install 'vidray[umap]'" in text.paragraphs[-1]
    (table,) = _of(section, DataTable)
    assert table.frame["videos"][0] == 64
    again = maps.section(runs, TOOLS)
    pd.testing.assert_frame_equal(_of(again, Chart)[0].frame, frame)


@pytest.mark.slow
def test_embeddings_of_labels_of_several_nights(tmp_path: Path) -> None:
    rng = _rng()
    rows = folders.label_rows(30)
    for k, row in enumerate(rows):
        row["embedding"] = (rng.normal(size=6) + 3 * (k % 2)).astype(np.float32).tolist()
        row["group"] = f"g{k // 3}"
    rows[4] |= {"status": "failed", "embedding": None, "label": None, "probabilities": None}
    rows[5]["true_label"] = None
    rows[6]["embedding"][2] = float("nan")
    folders.night(tmp_path / "labels", rows[:20])
    folders.night(tmp_path / "labels", rows[20:])
    (history,) = reading.read([str(tmp_path)]).labels
    points = map_points.of_labels(history, seed=0)
    assert points is not None
    # Without the one that failed, and the one whose embedding is none.
    assert len(points.frame) == 28
    by_video = points.frame.set_index("video_id")
    for k in (0, 7, 25):
        place = list(points.frame["video_id"]).index(f"n{k:05}")
        np.testing.assert_array_equal(
            points.vectors[place], np.array(rows[k]["embedding"], np.float32)
        )
        assert by_video.loc[f"n{k:05}", "label"] == rows[k]["label"]
        assert by_video.loc[f"n{k:05}", "true_label"] == rows[k]["true_label"]
    section = maps.section(reading.read([str(tmp_path)]), TOOLS)
    (chart,) = _of(section, Chart)
    assert chart.title == "t-SNE of embeddings of knn (labels)"
    assert set(chart.frame["class"]) == {"jump", "run", "unknown"}
    is_wrong = chart.frame["label"] != chart.frame["true_label"]
    known = chart.frame["true_label"].notna()
    assert (chart.frame["ringed"] == (is_wrong & known)).all()
    assert _of(section, DataTable)[0].frame["videos"][0] == 27


def test_labels_without_embeddings_have_no_map(tmp_path: Path) -> None:
    folders.night(tmp_path / "labels", folders.label_rows(12))
    (history,) = reading.read([str(tmp_path)]).labels
    assert map_points.of_labels(history, seed=0) is None


@pytest.mark.slow
def test_embeddings_of_several_lengths_share_no_map(tmp_path: Path) -> None:
    rows = folders.label_rows(12)
    for k, row in enumerate(rows):
        row["embedding"] = [0.5] * (3 + k % 2)
    folders.night(tmp_path / "labels", rows)
    (history,) = reading.read([str(tmp_path)]).labels
    assert map_points.of_labels(history, seed=0) is None


def test_many_classes_share_the_last_colour() -> None:
    labels = pd.Series([f"c{k:02}" for k in range(20) for _ in range(40 - k)])
    assert maps._named_classes(labels) == [f"c{k:02}" for k in range(7)]
    assert maps._named_classes(labels[labels < "c08"]) == [f"c{k:02}" for k in range(8)]
    assert maps._class("c10", ["c00"]) == "other classes"
    assert maps._class(None, ["c00"]) == "unknown"


def _space(seed: int, shift: float, labels: Sequence[str | None] | None = None) -> maps._Space:
    """40 recordings of 3 videos; their numbers are apart by ``shift`` for the two classes."""
    rng = np.random.default_rng(seed)
    recording = np.repeat(np.arange(40), 3)
    truth = [("a", "b")[k % 2] for k in recording]
    frame = pd.DataFrame(
        {
            "video_id": [f"v{k}" for k in range(120)],
            "uri": [f"/v{k}.mp4" for k in range(120)],
            "true_label": truth if labels is None else list(labels),
            "recording": [f"g{k}" for k in recording],
            "label": [None] * 120,
        },
        dtype=object,
    )
    vectors = rng.normal(size=(120, 5)) + shift * (recording % 2)[:, None]
    points = MapPoints(
        what="features: flow", run="features", num_videos=120, model="", frame=frame,
        vectors=vectors.astype(np.float32),
    )  # fmt: skip
    values = standardised(points.vectors)
    return maps._Space(points=points, values=values, near=maps._near(points, values, 0))


def test_numbers_that_do_not_tell_classes_apart_are_a_warning() -> None:
    (finding,) = maps._findings([_space(0, 3.0), _space(1, 0.0)])
    assert finding.level == "warning"
    assert "hardly tell the classes apart" in finding.text
    assert maps._findings([_space(0, 3.0)]) == []


def test_unknown_recordings_have_no_share() -> None:
    space = _space(0, 3.0)
    assert space.own_recording is not None
    frame = space.points.frame.assign(recording=None)
    bare = dataclasses.replace(space, points=dataclasses.replace(space.points, frame=frame))
    assert bare.own_recording is None
    assert maps._table([space, bare]).frame["own_recording"].isna().tolist() == [False, True]
    assert len(maps._explanation([bare], is_cut=False)) == 2


def _families(there: dict[str, int], *judged: tuple[float, list[str]]) -> list[list[str]]:
    """The families chosen of a run that has ``there``, with models of an accuracy each."""
    run = ExtractRun(out="o", name="n", report={}, rows=pa.table({}), families=there)
    models = [
        SimpleNamespace(
            metrics={"accuracy": accuracy},
            model=SimpleNamespace(is_deep=False, info={"families": families}),
        )
        for accuracy, families in judged
    ]
    return map_points._families(run, models)  # type: ignore[arg-type]


def test_families_are_those_of_the_best_model_that_has_learnt_from_them() -> None:
    there = {"color": 3, "flow": 3, "embedding": 3}
    assert _families(there) == [["flow"], ["embedding"]]
    models = [(0.7, ["color"]), (0.8, ["color", "flow"]), (0.9, ["texture"])]
    assert _families(there, *models) == [["color", "flow"], ["embedding"]]
    assert _families({"color": 3}) == [["color"]]
    assert _families({"embedding": 3}) == [["embedding"]]
    assert _families(there, (0.9, ["embedding"])) == [["embedding"]]
    assert _families({}) == []


def test_unknown_and_single_classes_have_no_figure() -> None:
    assert _space(0, 0.0, [None] * 120).near is None
    assert _space(0, 0.0, ["a"] * 120).near is None
    assert maps._findings([_space(0, 0.0, [None] * 120)]) == []
