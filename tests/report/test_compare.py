"""The chapter that compares models: what may stand side by side, and what is said of it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats

from tests.report.made_models import features, judged, mostly, study, tools, trained
from vidray.evaluation.metrics import compute_metrics
from vidray.report import beside, formats
from vidray.report.blocks import Chart, DataTable, Part, Prose, Section
from vidray.report.judged import compare
from vidray.report.judged.comparable import kind_of
from vidray.report.judged.compare import groups, pairs_of
from vidray.report.runs import JudgedModel, Runs, SearchResult


def _runs(*models: JudgedModel, **more: object) -> Runs:
    return Runs(folders=("/runs",), judged=models, **more)  # type: ignore[arg-type]


def _made(runs: Runs) -> Section:
    found = compare.section(runs, tools())
    assert found is not None
    return found


def _parts(section: Section) -> dict[str, Part]:
    every = beside.parts(section.blocks)
    return {part.name: part for part in every if isinstance(part, DataTable | Chart)}


def _text(section: Section) -> str:
    prose = (part for part in beside.parts(section.blocks) if isinstance(part, Prose))
    return "\n".join([section.lead, *(text for part in prose for text in part.paragraphs)])


def _table(section: Section, name: str) -> pd.DataFrame:
    part = _parts(section)[name]
    assert isinstance(part, DataTable)
    return part.frame.set_index(part.frame.columns[0])


# What may stand side by side


def test_two_models_are_not_shown_as_the_first_of_them() -> None:
    config = {"model": "/runs/knn", "then": "/runs/r3d_18", "split": "test"}
    both = judged("both", mostly(20, 4), report={"config": config})
    assert both.title == "knn, then r3d_18"
    assert kind_of(both) is None


def test_the_same_videos_in_another_order_are_one_group() -> None:
    first = judged("svm", mostly(20, 4))
    order = list(reversed(range(20)))
    second = judged(
        "knn",
        [first.predicted[k] == first.truth[k] for k in order],
        videos=[first.video_ids[k] for k in order],
        truth=[first.truth[k] for k in order],
    )
    [group] = groups(_runs(first, second))
    assert {member.title for member in group.members} == {"svm", "knn"}
    # Equal answers video by video: no video is one's alone.
    [pair] = pairs_of(group)
    assert (pair.only_first, pair.only_second, pair.accuracy.p) == (0, 0, 1.0)


def test_models_of_different_videos_are_in_no_table_together() -> None:
    here = judged("svm", mostly(20, 4))
    there = judged("knn", mostly(20, 2), videos=[f"w{k}" for k in range(20)])
    section = _made(_runs(here, there))
    assert len(groups(_runs(here, there))) == 2
    tables = [part for part in _parts(section).values() if isinstance(part, DataTable)]
    for table in tables:
        assert not {"svm", "knn"} <= set(table.frame.get("model", []))
    assert "2 different sets of videos" in section.lead
    assert "not to be compared" in section.lead


@pytest.mark.parametrize(("missing", "together"), [(1, 1), (2, 1), (3, 2)])
def test_a_tenth_of_the_videos_may_be_missing(missing: int, together: int) -> None:
    whole = judged("svm", mostly(20, 4))
    part = judged("knn", mostly(20 - missing, 4))
    found = groups(_runs(whole, part))
    assert len(found) == together
    if together == 1:
        assert found[0].left_out == {"svm": missing}
        # svm is wrong on the first four of the common videos.
        [svm] = [member for member in found[0].members if member.title == "svm"]
        assert svm.metrics["accuracy"] == pytest.approx(1 - 4 / (20 - missing))
        assert f"left out here: svm {missing}." in _text(_made(_runs(whole, part)))


def test_other_labels_or_classes_are_other_videos() -> None:
    here = judged("svm", mostly(20, 4))
    relabelled = judged("knn", mostly(20, 4), truth=["jump"] * 20)
    wider = judged("random_forest", mostly(20, 4), truth=here.truth, classes=("jump", "run", "sit"))
    assert len(groups(_runs(here, relabelled))) == 2
    assert len(groups(_runs(here, wider))) == 2


def test_every_judged_model_is_in_one_group() -> None:
    rng = np.random.default_rng(0)
    models = [
        judged(f"m{k}", [True] * 30, videos=sorted(rng.permutation(40)[:30].astype(str)))
        for k in range(5)
    ]
    found = [member.name for group in groups(_runs(*models)) for member in group.members]
    assert sorted(found) == sorted(model.name for model in models)


def test_recordings_that_predictions_do_not_name_are_those_of_the_data() -> None:
    of_video = {f"v{k:03}": f"r{k // 5}" for k in range(20)}
    first, second = judged("svm", mostly(20, 0)), judged("knn", mostly(20, 20))
    [alone] = groups(_runs(first, second))
    [known] = groups(_runs(first, second, features=(features("f", of_video),)))
    assert (alone.num_recordings, alone.knows_recordings) == (20, False)
    assert (known.num_recordings, known.knows_recordings) == (4, True)
    # All videos speak for svm: 20 witnesses, or four.
    assert pairs_of(alone)[0].accuracy.p == pytest.approx(2**-19)
    assert pairs_of(known)[0].accuracy.p == pytest.approx(2**-3)
    assert "No recordings are known, so videos count as independent" in _text(
        _made(_runs(first, second))
    )
    said = _text(_made(_runs(first, second, features=(features("f", of_video),))))
    assert "20 videos of 4 recordings" in said
    assert "4 recordings are too few to show any difference" in said


def test_two_evaluations_of_one_name_are_told_apart() -> None:
    one, two = judged("svm", mostly(20, 4)), judged("svm", mostly(20, 2))
    other = JudgedModel(**{**vars(two), "name": "again/svm_test"})
    [group] = groups(_runs(one, other))
    assert set(group.labels.values()) == {"svm (svm_test)", "svm (again/svm_test)"}


# What is said


def test_figures_are_those_of_the_predictions_and_cost_is_the_evaluations() -> None:
    model = judged(
        "s3d",
        mostly(40, 9),
        groups=[f"r{k // 2}" for k in range(40)],
        cost={
            "parameters": 1000.0,
            "size_bytes": 5e6,
            "flops_per_clip": 3e9,
            "seconds_per_video": 0.2,
            "end_to_end_seconds_per_video": 0.5,
            "frames_per_second": 80.0,
            "peak_ram_bytes": 4096.0,
        },
        model=trained("s3d", family="deep"),
    )
    section = _made(_runs(model, judged("svm", mostly(40, 12), cost={"frames_per_second": 0.0})))
    frame = _table(section, "compare-1")
    expected = compute_metrics(
        model.truth, model.probabilities, model.class_names, groups=model.groups
    )
    row = frame.loc["s3d"]
    for name in ("accuracy", "macro_precision", "macro_recall", "macro_f1", "macro_auc"):
        assert row[name] == pytest.approx(expected[name])
        assert [row[f"{name}_low"], row[f"{name}_high"]] == expected["intervals"][name]
    assert (row["ece"], row["log_loss"]) == (expected["ece"], expected["log_loss"])
    assert (row["gflops"], row["training_seconds"], row["kind"]) == (3.0, 12.5, "deep")
    # What older versions wrote for "nothing": noise of the memory, no frames at all.
    assert pd.isna(row["peak_ram_bytes"])
    assert pd.isna(frame.loc["svm", "frames_per_second"])
    assert frame.loc["svm", "kind"] == "classical"


def test_the_best_of_each_column_is_marked_and_every_row_has_its_interval() -> None:
    section = _made(_runs(judged("svm", mostly(40, 12)), judged("knn", mostly(40, 4))))
    table = _parts(section)["compare-1"]
    assert isinstance(table, DataTable)
    rows = list(formats.rows_of(table))
    place = list(table.columns).index("accuracy")
    cells = [row["cells"][place] for row in rows]
    assert [cell["is_best"] for cell in cells] == [True, False, False]
    assert all(cell["interval"] is not None for cell in cells)
    assert table.frame["model"].tolist() == ["knn", "svm", "always jump"]


def test_a_real_difference_is_named_with_its_figures() -> None:
    runs = _runs(
        judged("svm", mostly(60, 0)),
        judged("knn", mostly(60, 20)),
        judged("extra_trees", mostly(60, 1)),
    )
    section = _made(runs)
    [sentence] = [line for line in _text(section).splitlines() if line.startswith("svm is better")]
    # Two-sided, 20 of 20 one way, times 3 pairs; the second of Holm's three is knn - extra_trees.
    assert 3 * stats.binomtest(0, 20).pvalue < 1e-4
    assert "than knn (+0.333, " in sentence
    assert "p < 0.0001 after Holm)" in sentence
    assert sentence.endswith("against extra_trees (+0.017) the 60 videos cannot tell.")
    best = _table(section, "pairs-best-1").set_index("second")
    assert best.loc["knn", "verdict"] == "svm is better"
    assert best.loc["extra_trees", "verdict"] == "cannot tell"
    assert best.loc["knn", ["only_first", "only_second"]].tolist() == [20, 0]
    every = _table(section, "pairs-1")
    assert len(every) == 3
    # Corrected together, in the table of the best, too.
    assert best.loc["knn", "p_corrected"] == pytest.approx(3 * best.loc["knn", "p"])


def test_the_first_screen_says_which_model_and_which_is_cheaper() -> None:
    quick, slow = {"end_to_end_seconds_per_video": 0.1}, {"end_to_end_seconds_per_video": 2.0}
    runs = _runs(
        judged("s3d", mostly(60, 2), cost=slow),
        judged("svm", mostly(60, 3), cost=quick),
        judged("knn", mostly(60, 25), cost={"end_to_end_seconds_per_video": 0.01}),
    )
    findings = _made(runs).findings
    assert findings[0].level == "good"
    assert findings[0].text.startswith(
        "Use s3d, or svm where seconds count. The most accurate model is s3d: 0.967 ("
    )
    assert "svm is not shown to be worse (+0.017" in findings[0].text
    assert "100 ms a video instead of 2 s" in findings[0].text
    # 35 of 60 against 30 of 60: nobody would bet on it.
    assert findings[1].level == "warning"
    assert "Not shown to be better than always jump (0.500)" in findings[1].text
    assert "knn 0.583" in findings[1].text
    assert "s3d" not in findings[1].text


def test_a_cheap_model_far_below_is_not_recommended_though_few_videos_cannot_tell() -> None:
    slow, quick = ({"end_to_end_seconds_per_video": value} for value in (1.0, 0.1))
    runs = _runs(
        judged("s3d", mostly(24, 1), cost=slow),
        judged("svm", mostly(24, 5, start=1), cost=quick),
    )
    [group] = groups(runs)
    assert not pairs_of(group)[0].accuracy.is_real
    assert "svm" not in _made(runs).findings[0].text


def test_always_right_is_not_certain() -> None:
    runs = _runs(judged("svm", mostly(30, 0)), judged("knn", mostly(30, 30)))
    frame = _table(_made(runs), "compare-1")
    exact = stats.binomtest(30, 30).proportion_ci()  # Clopper and Pearson's, SciPy's default
    ends = frame.loc["svm", ["accuracy_low", "accuracy_high"]].tolist()
    assert ends == pytest.approx([exact.low, 1.0])
    ends = frame.loc["knn", ["accuracy_low", "accuracy_high"]].tolist()
    assert ends == pytest.approx([0.0, 1 - exact.low])
    assert pd.isna(frame.loc["svm", "macro_f1_low"])


def test_a_model_judged_on_all_videos_is_not_praised() -> None:
    report = {"config": {"model": "/runs/svm", "split": "all"}}
    [finding] = _made(_runs(judged("svm", mostly(40, 1), report=report))).findings
    assert finding.level == "note"
    assert finding.text.endswith("svm may have learnt from some of these videos: its figures are "
                                 "too good.")  # fmt: skip


def test_without_a_model_better_than_one_class_no_model_is_praised() -> None:
    majority = {"majority": {"label": "run", "accuracy": 0.5}}
    runs = _runs(judged("svm", mostly(40, 19), baselines=majority), judged("knn", mostly(40, 22)))
    [finding] = _made(runs).findings
    assert finding.level == "warning"
    assert "It is not shown to be better than always run (0.500)" in finding.text


def test_the_metadata_of_a_study_on_the_same_videos_are_a_baseline(tmp_path: Path) -> None:
    good = judged("svm", mostly(40, 8))
    (tmp_path / "units").mkdir()
    (tmp_path / "study.json").write_text(json.dumps({"class_names": ["run", "jump"]}))
    # The metadata are right on 36 of the 38 videos that the study had.
    answers = [
        [0.9, 0.1] if (truth == "run") == (k > 1) else [0.1, 0.9]
        for k, truth in enumerate(good.truth[:38])
    ]
    unit = {"video_ids": list(good.video_ids[:38]), "probabilities": answers}
    (tmp_path / "units" / "metadata.test.json").write_text(json.dumps(unit))
    runs = _runs(good, studies=(study("s", [], out=str(tmp_path)),))
    section = _made(runs)
    row = _table(section, "compare-1").loc["metadata alone (on 38 of the videos)"]
    assert row["accuracy"] == pytest.approx(36 / 38)
    assert row["kind"] == "baseline"
    assert any("metadata alone" in finding.text for finding in section.findings)
    # Of other videos, or damaged, they say nothing here.
    elsewhere = {**unit, "video_ids": [f"w{k}" for k in range(38)]}
    for text in (json.dumps(elsewhere), "[]", json.dumps({**unit, "probabilities": [[2, 3]]})):
        (tmp_path / "units" / "metadata.test.json").write_text(text)
        again = _made(_runs(good, studies=(study("s", [], out=str(tmp_path)),)))
        assert _table(again, "compare-1").index.tolist() == ["svm", "always jump"]


def test_nothing_judged_is_no_chapter() -> None:
    assert compare.section(Runs(folders=("/runs",)), tools()) is None


def test_names_that_nobody_should_have_are_shown_as_they_are() -> None:
    name = "<img src=x onerror=alert(1)>"
    runs = _runs(
        judged(name, mostly(20, 3), classes=("</script>", "[/b]")),
        judged("svm", mostly(20, 5), classes=("</script>", "[/b]")),
    )
    html = _made(runs)._repr_html_()
    assert "<img" not in html
    assert "&lt;img" in html


# Studies and searches

_ROW = {"purpose": "test", "train_videos": 90, "judged_videos": 40, "macro_f1": 0.7}


def test_a_study_has_its_test_its_pairs_and_its_folds(tmp_path: Path) -> None:
    rows = [
        {**_ROW, "model": "svm", "accuracy": 0.95, "log_loss": 0.3, "training_seconds": 2.0},
        {**_ROW, "model": "s3d", "accuracy": 0.5, "log_loss": 0.9, "training_seconds": 60.0},
        {**_ROW, "model": "majority", "accuracy": 0.96, "log_loss": 0.7, "training_seconds": 0.1},
        *(
            {**_ROW, "purpose": "cross-validation", "repeat": k, "model": "svm", "accuracy": value,
             "log_loss": 0.4, "training_seconds": 5.0}
            for k, value in enumerate((0.6, 0.7, 0.8))
        ),
    ]  # fmt: skip
    made = {"svm": judged("svm", mostly(40, 2)), "s3d": judged("s3d", mostly(40, 20))}
    (tmp_path / "units").mkdir()
    (tmp_path / "study.json").write_text(json.dumps({"class_names": ["jump", "run"]}))
    for name, model in made.items():
        unit = {"video_ids": model.video_ids, "probabilities": model.probabilities.tolist()}
        (tmp_path / "units" / f"{name}.test.json").write_text(json.dumps(unit))
    truth = dict(zip(made["svm"].video_ids, made["svm"].truth, strict=True))
    of_video = {video: f"r{k // 2}" for k, video in enumerate(truth)}
    runs = Runs(
        folders=("/runs",),
        features=(features("f", of_video, labels=truth),),
        studies=(study("s", rows, out=str(tmp_path)),),
    )
    section = _made(runs)
    # The baselines are last, though one is the most accurate.
    assert _table(section, "study-test-1").index.tolist() == ["svm", "s3d", "majority"]
    assert _table(section, "study-test-1")["kind"].tolist() == ["classical", "deep", "baseline"]
    folds = _table(section, "study-folds-1").loc["svm"]
    assert folds[["accuracy", "accuracy_std", "repeats", "training_seconds"]].tolist() == (
        pytest.approx([0.7, 0.1, 3, 15.0])
    )
    pair = _table(section, "pairs-best-study-1").iloc[0]
    # 9 recordings speak for svm, none against: two of its errors are the other's too.
    assert pair["p"] == pytest.approx(2 * 0.5**9)
    assert "svm is better than s3d" in _text(section)
    # Without the labels there are tables and no tests.
    without = _made(Runs(folders=("/runs",), studies=runs.studies))
    assert set(_parts(without)) == {"study-test-1", "study-accuracy-1", "study-folds-1"}


def _search(metric: str) -> SearchResult:
    trials = pa.table(
        {
            "trial": [f"classical-{k:04}" for k in range(5)],
            "family": ["classical"] * 5,
            "number": list(range(5)),
            "model": ["svm", "knn", "svm", "svm", "knn"],
            "state": ["ok", "ok", "failed", "ok", "stopped"],
            "error_message": [None, None, "</script>", None, None],
            "score": [0.5, 0.7, None, 0.6, None],
            "accuracy": [0.5, 0.7, None, 0.6, None],
            "seconds": [1.0, 2.0, 3.0, 4.0, 5.0],
            "svm.C": [1.0, None, 2.0, 0.5, None],
        }
    )
    report = {"settings": {"metric": metric}}
    return SearchResult(out="/runs/search", name="search", report=report, trials=trials)


@pytest.mark.parametrize(
    ("metric", "best", "of_svm", "course"),
    [
        ("accuracy", ["knn", "svm"], "classical-0003", [0.5, 0.7, 0.7]),
        ("log_loss", ["svm", "knn"], "classical-0000", [0.5, 0.5, 0.5]),
    ],
)
def test_a_search_has_the_best_trial_of_each_model(
    metric: str, best: list[str], of_svm: str, course: list[float]
) -> None:
    section = _made(Runs(folders=("/runs",), searches=(_search(metric),)))
    table = _table(section, "search-best-1")
    assert table.index.tolist() == best
    assert table.loc["svm", ["trial", "trials", "failed", "seconds"]].tolist() == [of_svm, 3, 1, 8]
    assert table.loc["svm", "settings"] == f"C {1.0 if metric == 'log_loss' else 0.5}"
    scores = _parts(section)["search-scores-1"]
    assert isinstance(scores, Chart)
    assert scores.frame["best_so_far"].tolist() == course
