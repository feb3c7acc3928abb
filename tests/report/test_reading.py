"""Run folders of any age, moved, missing, unfinished or damaged -> what the page is made of."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.made_runs import LABELS, clips_run, features_run, videos
from tests.report import folders
from vidray.errors import UserError
from vidray.report.inside.looks import clips_of
from vidray.report.reading import read
from vidray.report.runs import Runs
from vidray.storage.json_file import write_json
from vidray.tables.run_folder import RunFolder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of every kind that is quickly made."""
    root = tmp_path_factory.mktemp("runs")
    features_run(root / "features", 16)
    clips_run(root / "clips", 16)
    folders.model(root / "knn")
    folders.evaluation(root / "knn_test", root / "knn")
    folders.night(root / "labels", folders.label_rows(20))
    folders.night(root / "labels", folders.label_rows(10, first=20))
    return root


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    shutil.copytree(made, tmp_path / "runs")
    return tmp_path / "runs"


def _why(runs: Runs) -> dict[str, str]:
    return {Path(problem.folder).name: problem.why for problem in runs.problems}


def test_a_folder_of_runs_gives_all_of_them(made: Path) -> None:
    runs = read([str(made)])
    assert [run.name for run in runs.finished] == [
        "features", "clips", "knn", "knn_test", "labels",
    ]  # fmt: skip
    assert not runs.problems
    assert (len(runs.features[0].rows), len(runs.clips[0].rows)) == (16, 16)
    assert runs.features[0].rows.column_names[0] == "video_id"
    assert set(runs.features[0].families) == {"motion", "temporal"}
    assert runs.features[0].matrix(["motion", "temporal"]).shape == (
        16,
        sum(runs.features[0].families.values()),
    )
    judged = runs.judged[0]
    assert judged.model is runs.models[0]
    assert judged.title == "knn"
    wanted = np.mean([a == b for a, b in zip(judged.truth, judged.predicted, strict=True)])
    assert judged.metrics["accuracy"] == pytest.approx(wanted)
    assert judged.metrics["num_groups"] == 8  # Recordings of two videos each.
    history = runs.labels[0]
    assert (history.model_name, len(history.rows)) == ("knn", 30)
    assert history.nights[1]["videos_per_second"] == 2
    assert sorted(history.nights) == [1, 2]


def test_folders_given_one_by_one_or_twice_are_read_once(made: Path) -> None:
    runs = read([str(made / "knn"), str(made), str(made / "knn") + "/"])
    assert [run.name for run in runs.models] == ["knn"]


def test_runs_of_one_name_are_told_apart(made: Path, tmp_path: Path) -> None:
    for parent in ("monday", "tuesday"):
        shutil.copytree(made / "knn", tmp_path / parent / "knn")
    names = [run.name for run in read([str(tmp_path)]).models]
    assert names == ["monday/knn", "tuesday/knn"]


def test_an_evaluation_finds_its_model_where_it_was_moved(copied: Path) -> None:
    (copied / "knn").rename(copied / "elsewhere")
    assert read([str(copied)]).judged[0].model is None
    (copied / "moved").mkdir()
    (copied / "elsewhere").rename(copied / "moved" / "knn")
    assert read([str(copied)]).judged[0].model is not None


def test_a_model_that_is_not_given_is_not_opened(made: Path) -> None:
    runs = read([str(made / "knn_test")])
    assert runs.judged[0].model is None
    assert runs.judged[0].title == "knn"


def test_a_model_that_was_trained_again_is_not_the_judged_one(copied: Path) -> None:
    report = json.loads((copied / "knn_test" / "run.json").read_text())
    write_json(str(copied / "knn_test" / "run.json"), {**report, "model_digest": "f" * 12})
    assert read([str(copied)]).judged[0].model is None


def test_what_is_missing_unfinished_or_foreign_is_said(copied: Path) -> None:
    (copied / "features" / "_SUCCESS").unlink()
    (copied / "notes").mkdir()
    (copied / "foreign").mkdir()
    (copied / "foreign" / "run.json").write_text('{"kind": "of another program"}')
    given = [copied / name for name in ("features", "gone", "notes", "foreign", "knn")]
    runs = read([str(path) for path in given])
    why = _why(runs)
    assert "is not finished (no _SUCCESS): run the same command again" in why["features"]
    assert "is not there: check the path" in why["gone"]
    assert "holds no run of vidray" in why["notes"]
    assert "no job of vidray wrote" in why["foreign"]
    assert [run.name for run in runs.finished] == ["knn"]


def test_a_model_that_was_passed_on_without_its_run_json_is_read(copied: Path) -> None:
    (copied / "knn" / "run.json").unlink()
    (copied / "knn" / "_SUCCESS").unlink()
    assert [run.name for run in read([str(copied)]).models] == ["knn"]
    assert [run.name for run in read([str(copied / "knn")]).models] == ["knn"]


def test_nothing_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--runs gives no run of vidray: .*gone is not there"):
        read([str(tmp_path / "gone")])
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file: give the folder"):
        read([str(tmp_path / "file")])


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("features/features/part-00000.parquet", b"PAR1 and no more"),
        ("features/run.json", b"{"),
        ("clips/clips/part-00000.parquet", b""),
        ("knn/model.json", b'{"family": "classical"}'),
        ("knn/importance.json", b'{"families": 3}'),
        ("knn/history.json", b"[[["),
        ("knn_test/metrics.json", b"[]"),
        ("knn_test/metrics.json", b'{"per_class": {"a": {}}}'),
        ("knn_test/predictions.parquet", b"\0" * 100),
        ("labels/labels/set=knn-0123456789ab/commit-000001.parquet", b"PAR1"),
        ("labels/run.json", b"\xff"),
    ],
)
def test_a_damaged_file_costs_its_run_and_no_other(file: str, content: bytes, copied: Path) -> None:
    (copied / file).write_bytes(content)
    runs = read([str(copied)])
    name = file.split("/", maxsplit=1)[0]
    assert list(_why(runs)) == [name]
    assert "\n" not in _why(runs)[name]
    assert sorted(run.name for run in runs.finished) == sorted(
        {"features", "clips", "knn", "knn_test", "labels"} - {name}
    )


def test_columns_of_another_type_are_damage(copied: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    part = copied / "features" / "features" / "part-00000.parquet"
    table = pq.read_table(part)
    at = table.schema.get_field_index("duration_seconds")
    pq.write_table(table.set_column(at, "duration_seconds", pa.array(["long"] * 16)), part)
    assert "is damaged" in _why(read([str(copied)]))["features"]


def test_columns_that_an_older_version_did_not_write_are_null(copied: Path) -> None:
    import pyarrow.parquet as pq

    part = copied / "features" / "features" / "part-00000.parquet"
    pq.write_table(pq.read_table(part).drop_columns(["corrupt_share", "has_sound"]), part)
    predictions = copied / "knn_test" / "predictions.parquet"
    pq.write_table(pq.read_table(predictions).drop_columns(["group"]), predictions)
    shutil.rmtree(copied / "labels" / "nights")
    runs = read([str(copied)])
    assert not runs.problems
    assert runs.features[0].rows["has_sound"].null_count == 16
    assert set(runs.judged[0].groups) == {None}
    assert sorted(runs.labels[0].nights) == [2]  # Of run.json, the last night's.


def test_numbers_of_run_json_are_finite_or_none(copied: Path) -> None:
    report = json.loads((copied / "knn" / "run.json").read_text())
    odd = {"training": "fast", "all": 1e400, "other": True, "deep": {"er": 3}}
    (copied / "knn" / "run.json").write_text(json.dumps({**report, "seconds": odd}))
    model = read([str(copied)]).models[0]
    assert model.number("seconds", "training") is None
    assert model.number("seconds", "all") is None
    assert model.number("seconds", "other") is None
    assert model.number("seconds", "deep", "er") == 3
    assert model.number("seconds", "deep", "er", "more") is None


def test_hostile_names_are_kept_as_they_are(copied: Path) -> None:
    rows = [{**row, "uri": "/v/<img src=x onerror=alert(1)>.mp4"} for row in videos(4)]
    shutil.rmtree(copied / "knn_test")
    folders.evaluation(copied / "knn_test", copied / "knn", rows=rows)
    assert read([str(copied)]).judged[0].uris[0] == "/v/<img src=x onerror=alert(1)>.mp4"
    assert read([str(copied)]).judged[0].class_names == LABELS


def test_an_evaluation_of_an_address_with_a_password_is_read(copied: Path) -> None:
    for stated in ("s3://KEY:PW@bucket/knn2", "s3:/x", "\ud800", "s3://"):
        report = json.loads((copied / "knn_test/run.json").read_text())
        report["config"] |= {"model": stated, "data": stated}
        write_json(str(copied / "knn_test/run.json"), report)
        runs = read([str(copied)])
        assert [judged.model for judged in runs.judged] == [None]
        assert clips_of(runs.judged[0], runs) is None
        assert "PW" not in str(runs.judged[0].report)


def test_passwords_and_signatures_are_left_at_the_door(tmp_path: Path) -> None:
    signed = "https://h.example/a.mp4?X-Amz-Signature=SECRET"
    uris = (signed, "s3://KEY:SECRET@bucket/b.mp4", "/videos/c?token=1.mp4", "s3://bucket/d.mp4")
    rows = [dict(row, uri=uri) for row, uri in zip(videos(4), uris, strict=True)]
    rows[0] |= {"status": "failed", "error_kind": "missing", "error_message": f"gone: {signed}"}
    features_run(tmp_path / "features", rows=rows)
    clips_run(tmp_path / "clips", rows=rows)
    folders.evaluation(tmp_path / "knn_test", "x", rows=rows)
    night = [row | {"uri": uri} for row, uri in zip(folders.label_rows(4), uris, strict=True)]
    folders.night(tmp_path / "labels", night)
    runs = read([str(tmp_path)])
    shown = {
        "https://h.example/a.mp4", "s3://bucket/b.mp4", "/videos/c?token=1.mp4",
        "s3://bucket/d.mp4",
    }  # fmt: skip
    for run in (*runs.features, *runs.clips, *runs.labels):
        assert set(run.rows["uri"].to_pylist()) == shown
    assert set(runs.judged[0].uris) == shown
    messages = runs.features[0].rows["error_message"].to_pylist()
    assert messages == ["gone: https://h.example/a.mp4", None, None, None]


def test_a_run_behind_a_link_is_read_once(copied: Path) -> None:
    (copied / "broken").mkdir()
    (copied / "broken/run.json").write_text("[]")
    (copied / "latest").symlink_to("knn_test")
    (copied / "around").symlink_to(copied)
    runs = read([str(copied)])
    assert len(runs.judged) == 1
    assert len(list(runs.finished)) == 5
    assert len(runs.problems) == 1


@pytest.mark.parametrize("answer", [[0.9, 0.9], [-1.0, 2.0], [float("nan"), 0.5], [1e308, 0.0]])
def test_answers_that_are_no_probabilities_cost_their_run_only(
    answer: list[float], copied: Path
) -> None:
    uri = copied / "knn_test/predictions.parquet"
    table = pq.read_table(uri)
    at = table.column_names.index("probabilities")
    pq.write_table(table.set_column(at, "probabilities", pa.array([answer] * len(table))), uri)
    runs = read([str(copied)])
    assert not runs.judged
    assert "probabilities are not negative and add up to 1" in _why(runs)["knn_test"]


def test_json_that_is_nested_too_deeply_is_damage(copied: Path) -> None:
    text = (copied / "knn_test/run.json").read_text().rstrip()
    for depth in (150, 900, 100_000):
        deep = "[" * depth + "]" * depth
        (copied / "knn_test/run.json").write_text(f'{text[:-1]}, "x": {deep}}}')
        assert set(_why(read([str(copied)]))) == {"knn_test"}


def test_trials_of_odd_columns_are_read_as_far_as_they_are_ours(tmp_path: Path) -> None:
    folder = RunFolder(out=str(tmp_path / "search"), kind="search", shown={"config": {}})
    folder.claim()
    folder.finish()
    head = {"trial": ["a"], "family": ["deep"], "number": [0], "model": ["s3d"], "state": ["ok"],
            "seconds": [1]}  # fmt: skip
    odd = {"nested": [{"a": [1]}], "list": [[1.5]], **{f"c{k}": [k] for k in range(1000)}}
    table = pa.table({**head, **odd})
    pq.write_table(table, tmp_path / "search/trials.parquet")
    trials = read([str(tmp_path)]).searches[0].trials
    assert trials["seconds"].to_pylist() == [1.0]
    assert trials["c0"].to_pylist() == [0]
    assert not {"nested", "list"} & set(trials.column_names)
    assert len(trials.column_names) < 300
    pq.write_table(table.drop_columns("state"), tmp_path / "search/trials.parquet")
    features_run(tmp_path / "features", 4)
    assert "no column state" in _why(read([str(tmp_path)]))["search"]
    other = table.set_column(0, "trial", pa.array([{"a": 1}]))
    pq.write_table(other, tmp_path / "search/trials.parquet")
    assert set(_why(read([str(tmp_path)]))) == {"search"}
