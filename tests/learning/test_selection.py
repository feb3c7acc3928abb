"""Splits that training derives and keeps to, and classes that are too small for it."""

import hashlib
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import ray

from tests.command_lines import exit_code
from tests.made_runs import LABELS, clips_run, features_run
from vidray import models
from vidray.errors import UserError
from vidray.evaluation import judging
from vidray.evaluation.judged import judge
from vidray.learning import recordings
from vidray.learning.deep_job import (
    DeepJob,
    labelled_rows,
    make_job,
    model_info,
)
from vidray.learning.examples import (
    apply,
    read_clips,
    read_features,
    select,
)
from vidray.learning.hyperparameters import Augmentation, Training
from vidray.learning.recordings import Demand
from vidray.learning.selection import Selection
from vidray.learning.train_config import (
    ClassicalSettings,
    DeepSettings,
    FoldSettings,
    LearningSettings,
    Workers,
)
from vidray.models import importance
from vidray.models.cross_validation import cross_validate
from vidray.models.names import ModelKind
from vidray.search import labelled_runs
from vidray.search.settings import Metric, SearchSettings
from vidray.search.trials import DeepTrials
from vidray.sources import splits

Captured = pytest.CaptureFixture[str]
Row = dict[str, Any]

FAST = ("--model", "knn", "--folds", "0")


@pytest.fixture(autouse=True)
def _without_importance_and_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of the time of so small a training, and tested elsewhere."""
    monkeypatch.setattr("vidray.evaluation.study_plan.BASELINES", ("majority",))
    for name in ("by_columns", "by_feature"):
        monkeypatch.setattr(importance, name, lambda *_args, **_more: [])


def row(
    name: str, label: str | None, group: str | None, *, split: str | None = None, folder: str = "/v"
) -> Row:
    return {
        "video_id": f"{folder}/{name}", "uri": f"{folder}/{label}/{name}.mp4", "label": label,
        "fingerprint": f"f-{name}", "split": split, "group": group, "status": "ok",
    }  # fmt: skip


def two_classes(recordings_each: int = 20, **more: Any) -> list[Row]:
    """Two videos of each recording."""
    return [
        row(f"{label}{k}", label, f"{label}-g{k // 2}", **more)
        for label in LABELS
        for k in range(2 * recordings_each)
    ]


def without_groups(**more: Any) -> list[Row]:
    return [{**one, "group": None} for one in two_classes(**more)]


def by_hand(
    rows: Sequence[Row], split: str, shares: Sequence[float], folder: str = "/v"
) -> set[str]:
    """Videos of a split: the rule of ``splits`` written again, for classes that divide evenly."""
    found = set()
    for label in {one["label"] for one in rows}:
        recordings: dict[str, set[str]] = {}
        for one in rows:
            if one["label"] == label:
                below = one["uri"][len(folder) + 1 :]
                key = f"group {one['group']}" if one["group"] else f"path {below}"
                recordings.setdefault(key, set()).add(one["uri"])
        order = sorted(
            recordings, key=lambda key: hashlib.blake2b(f"0 {key}".encode(), digest_size=8).digest()
        )
        train, val, _ = (round(len(order) * share) for share in shares)
        part = {"train": order[:train], "val": order[train:][:val], "test": order[train:][val:]}
        found |= {uri for key in part[split] for uri in recordings[key]}
    return found


def run(job: str, *flags: object) -> None:
    """As the command line does, in this process."""
    assert exit_code(f"jobs/{job}.py", *flags) == 0


def fails(capsys: Captured, job: str, *flags: object) -> str:
    """The one line on stderr, with exit code 2 and before Ray is started."""
    capsys.readouterr()
    started: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        # As in a process of its own: this one may be on a cluster for the tests of jobs.
        patch.setattr(ray, "is_initialized", lambda: False)
        patch.setattr(ray, "init", lambda *_, **options: started.append(options))
        code = exit_code(f"jobs/{job}.py", *flags)
    told = capsys.readouterr().err.strip().splitlines()
    assert (code, len(told)) == (2, 1), told
    assert not started
    return told[0]


def judged(out: Path) -> set[str]:
    query = f"select uri from '{out}/predictions.parquet'"
    return {uri for (uri,) in duckdb.sql(query).fetchall()}


def info(model: Path) -> Any:
    return json.loads((model / "model.json").read_text())


# Splits that are derived


@pytest.mark.slow
@pytest.mark.parametrize("rows", [two_classes(), without_groups()], ids=["groups", "paths"])
@pytest.mark.parametrize("shares", [None, (0.5, 0.2, 0.3)])
def test_a_model_is_judged_on_the_split_that_its_training_derived(
    rows: list[Row], shares: tuple[float, ...] | None, tmp_path: Path, capsys: Captured
) -> None:
    data, model, out = tmp_path / "data", tmp_path / "model", tmp_path / "judged"
    features_run(data, rows=rows, source="/v")
    asked = ("--split-fractions", *shares) if shares else ()
    run("train", "--data", data, "--out", model, *FAST, *asked)
    told = capsys.readouterr().out
    shares = shares or (0.7, 0.15, 0.15)
    assert "the data give none" in told
    assert f"--split-fractions {' '.join(map(str, shares))}" in told
    assert ("no recordings known" in told) == (rows[0]["group"] is None)
    assert info(model)["selection"]["split_fractions"] == list(shares)
    run("evaluate", "--model", model, "--data", data, "--out", out, "--timed-videos", "0")
    expected = by_hand(rows, "test", shares)
    assert expected
    assert judged(out) == expected
    # What was judged on val while training is what --split val is.
    val = tmp_path / "val"
    flags = ("--split", "val", "--timed-videos", "0")
    run("evaluate", "--model", model, "--data", data, "--out", val, *flags)
    assert judged(val) == by_hand(rows, "val", shares)
    earlier = json.loads((model / "metrics.json").read_text())["val"]["accuracy"]
    assert json.loads((val / "metrics.json").read_text())["accuracy"] == earlier


def test_the_table_counts_videos_and_recordings(tmp_path: Path, capsys: Captured) -> None:
    rows = [*two_classes(), row("x", "[/b] :cat:", "one")]
    features_run(tmp_path / "data", rows=rows, source="/v")
    flags = ("--data", tmp_path / "data", "--out", tmp_path / "model", *FAST, "--no-calibrated")
    run("train", *flags, "--split-fractions", "0.95", "0.05", "0")
    told = capsys.readouterr().out
    for label in (*LABELS, "[/b] :cat:"):
        cells = []
        for split in ("train", "val", "test"):
            uris = by_hand(rows, split, (0.95, 0.05, 0))
            own = [one for one in rows if one["label"] == label and one["uri"] in uris]
            groups = {one["group"] for one in own}
            cells.append(f"{len(own)} ({len(groups)})" if own else "-")
        assert re.search(rf"{re.escape(label)} +{' +'.join(map(re.escape, cells))}", told), cells


def test_a_folder_and_its_copy_give_the_same_split(tmp_path: Path) -> None:
    split = {}
    for folder in ("/v", "s3://bucket/some/where"):
        rows = without_groups(folder=folder)
        data = features_run(tmp_path / folder.strip("/:"), rows=rows, source=folder)
        found = select(read_features(str(data)), Selection())
        table = found.table
        names = [uri.removeprefix(folder) for uri in table["uri"].to_pylist()]
        split[folder] = dict(zip(names, table["split"].to_pylist(), strict=True))
    first, second = split.values()
    assert first == second
    assert set(first.values()) == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("source", "root"),
    [
        ("/v", "/v"),
        ("/v/", "/v"),
        ("/v/run/*.mp4", "/v/run"),
        ("/v/*/*.mp4", "/v"),
        ("/v/list.csv", "/v"),
        ("/v/run/1.mp4", "/v/run"),
        ("s3://b/k/[ab]*", "s3://b/k"),
    ],
)
def test_the_folder_of_a_source_is_told_by_its_name(source: str, root: str) -> None:
    assert splits.source_folder(source, ["/v/run/1.mp4", "/v/run/2.mp4"]) == root


def test_training_derives_what_extracting_derives(tmp_path: Path) -> None:
    from vidray import sources

    folder = tmp_path / "videos"
    for name in (f"{label}/{k}.mp4" for label in LABELS for k in range(30)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    (tmp_path / "list.csv").write_text(
        "\n".join(
            ["path,label", *(f"videos/{p.parent.name}/{p.name},a" for p in folder.rglob("*.mp4"))]
        )
    )
    for source in (folder, folder / "*" / "*.mp4", tmp_path / "list.csv"):
        listed = sources.list_videos(str(source), splits=(0.5, 0.25, 0.25))
        root = splits.source_folder(str(source), listed["uri"].to_pylist())
        bounds = splits.balance(listed, (0.5, 0.25, 0.25), root=root)
        assert splits.assign(listed, (0.5, 0.25, 0.25), bounds, root=root).equals(listed)


@pytest.mark.slow
def test_given_splits_win_unless_other_ones_are_asked_for(tmp_path: Path, capsys: Captured) -> None:
    rows = [{**one, "split": ("train", "test")[k // 2 % 2]} for k, one in enumerate(two_classes())]
    data = features_run(tmp_path / "data", rows=rows, source="/v")
    run("train", "--data", data, "--out", tmp_path / "given", *FAST)
    assert "derived" not in capsys.readouterr().out
    assert info(tmp_path / "given")["selection"]["split_fractions"] is None
    flags = ("--split-fractions", "0.5", "0.25", "0.25")
    run("train", "--data", data, "--out", tmp_path / "own", *FAST, *flags)
    assert "instead of those given" in capsys.readouterr().out
    for model, expected in {
        "given": {one["uri"] for one in rows if one["split"] == "test"},
        "own": by_hand(rows, "test", (0.5, 0.25, 0.25)),
    }.items():
        out = tmp_path / f"{model}-judged"
        given = ("--model", tmp_path / model, "--data", data, "--out", out)
        run("evaluate", *given, "--timed-videos", "0")
        assert judged(out) == expected
        said = "instead of those that the data give" in capsys.readouterr().out
        assert said == (model == "own")


@pytest.mark.slow
def test_data_without_splits_are_not_split_anew_for_a_model_that_had_some(
    tmp_path: Path, capsys: Captured
) -> None:
    given = [{**one, "split": "train"} for one in two_classes()]
    run("train", "--data", features_run(tmp_path / "a", rows=given), "--out", tmp_path / "m", *FAST)
    others = features_run(tmp_path / "b", rows=two_classes(folder="/w"))
    flags = ("--model", tmp_path / "m", "--data", others, "--out", tmp_path / "x")
    assert "--split all judges on all of them" in fails(capsys, "evaluate", *flags)
    run("evaluate", *flags, "--split", "all", "--timed-videos", "0")
    assert judged(tmp_path / "x") == {one["uri"] for one in two_classes(folder="/w")}
    flags = ("--model", tmp_path / "m", "--data", tmp_path / "a", "--out", tmp_path / "y")
    told = fails(capsys, "evaluate", *flags)
    assert "no labelled video in split test (80 in train): choose another --split" in told


def test_videos_without_a_split_beside_others_are_left_out_and_counted(
    tmp_path: Path, capsys: Captured
) -> None:
    rows = [{**one, "split": "train" if k % 4 < 2 else None} for k, one in enumerate(two_classes())]
    data = features_run(tmp_path / "data", rows=rows)
    run("train", "--data", data, "--out", tmp_path / "m", *FAST)
    assert "40 labelled videos have no split" in capsys.readouterr().out


def test_a_recording_in_two_given_splits_is_refused(tmp_path: Path, capsys: Captured) -> None:
    rows = [{**one, "split": ("train", "test")[k % 2]} for k, one in enumerate(two_classes())]
    data = features_run(tmp_path / "data", rows=rows)
    flags = ("--data", data, "--out", tmp_path / "m", *FAST)
    assert "40 of 40 groups are in more than one split" in fails(capsys, "train", *flags)
    run("train", *flags, "--split-fractions", "0.7", "0.15", "0.15")


def test_stretches_of_one_file_are_of_one_recording(tmp_path: Path) -> None:
    stretches = [
        {**row(f"{label}{k}", label, None), "video_id": f"{label}{k}#{part}"}
        for label in LABELS
        for k in range(12)
        for part in range(3)
    ]
    found = read_features(str(features_run(tmp_path / "data", rows=stretches)))
    table = select(found, Selection()).table
    split_of: dict[str, set[str]] = {}
    for uri, split in zip(table["uri"].to_pylist(), table["split"].to_pylist(), strict=True):
        split_of.setdefault(uri, set()).add(split)
    assert all(len(own) == 1 for own in split_of.values())
    assert found.groups == [one["uri"] for one in stretches]  # No fold separates them.
    apart = [{**one, "split": ("train", "val", "test")[k % 3]} for k, one in enumerate(stretches)]
    pooled = judge(found.table, np.full((len(stretches), 2), 0.5))
    assert pooled.metrics(LABELS)["num_groups"] == 24  # No interval counts stretches as apart.
    leaking = read_features(str(features_run(tmp_path / "leak", rows=apart)))
    with pytest.raises(UserError, match="24 of 24 groups are in more than one split"):
        select(leaking, Selection())


@pytest.mark.slow
def test_a_training_of_other_fractions_is_another_training(
    tmp_path: Path, capsys: Captured
) -> None:
    data = features_run(tmp_path / "data", rows=two_classes())
    flags = ("--data", data, "--out", tmp_path / "m", *FAST)
    run("train", *flags)
    run("train", *flags, "--split-fractions", "0.7", "0.15", "0.15")  # Those of the default.
    assert "nothing to do" in capsys.readouterr().out
    told = fails(capsys, "train", *flags, "--split-fractions", "0.6", "0.2", "0.2")
    assert "split_fractions" in told


@pytest.mark.parametrize(
    "told",
    [
        {"split_fractions": [0.5, 0.5]},
        {"split_fractions": "0.7"},
        {"split_fractions": [0.7, 0.15, "0.15"]},
        {"split_fractions": [0.7, 0.15, None]},
        {"split_fractions": {"train": 1}},
        {"split_fractions": 3},
        {"split_fractions": [10**400, 0, 0]},
        {"without_classes": "run"},
        {"without_classes": [1]},
        {"without_classes": None},
        {"split_bounds": [0.5, 0.7]},
        {"split_bounds": {"run": 0.5}},
        {"split_bounds": {"run": [0.5]}},
        {"split_bounds": {"run": [0.5, "0.7"]}},
        {"split_bounds": {"run": [0.7, 0.5]}},
        {"split_bounds": {"run": [0.5, 1.5]}},
        {"split_bounds": {"run": [float("nan"), 0.5]}},
        ["run"],
        "x",
        7,
    ],
)
def test_a_selection_in_model_json_is_not_trusted(told: Any) -> None:
    with pytest.raises(UserError, match=r"selection in model\.json"):
        Selection.from_info({"selection": told})


def test_a_model_of_before_selects_nothing() -> None:
    assert Selection.from_info({}) == Selection()
    written = {"selection": {"split_fractions": [0.6, 0.2, 0.2], "without_classes": ["a"]}}
    read = Selection(split_fractions=(0.6, 0.2, 0.2), without_classes=("a",))
    assert Selection.from_info(written) == read


@pytest.mark.slow
def test_videos_that_are_added_later_move_no_other(tmp_path: Path) -> None:
    """A model is judged by the bounds of its training: nothing that it has learnt from."""
    rows = two_classes(9)
    data = features_run(tmp_path / "data", rows=rows, source="/v")
    run("train", "--data", data, "--out", tmp_path / "m", *FAST)
    assert Selection.from_info(info(tmp_path / "m")).split_bounds
    more = two_classes(30)
    grown = features_run(tmp_path / "grown", rows=more, source="/v")
    flags = ("--model", tmp_path / "m", "--data", grown, "--timed-videos", "0")
    found = {}
    for split in ("train", "val", "test"):
        run("evaluate", *flags, "--split", split, "--out", tmp_path / split)
        found[split] = judged(tmp_path / split)
        assert by_hand(rows, split, (0.7, 0.15, 0.15)) <= found[split]
    assert set.union(*found.values()) == {one["uri"] for one in more}


def test_videos_that_cannot_be_read_have_no_part_in_the_split(tmp_path: Path) -> None:
    """Features and clips of the same videos are split alike, whatever failed in either."""
    rows = two_classes(10)
    failed = [
        {**one, "status": "failed"} if k in (3, 4, 5, 24) else one for k, one in enumerate(rows)
    ]
    features = read_features(str(features_run(tmp_path / "f", rows=failed, source="/v")))
    clips = read_clips(str(clips_run(tmp_path / "c", rows=rows, source="/v")))
    of_clips, of_features = (
        dict(zip(table["uri"].to_pylist(), table["split"].to_pylist(), strict=True))
        for table in (select(examples, Selection()).table for examples in (clips, features))
    )
    assert len(of_features) == len(of_clips) - 4
    assert of_features.items() <= of_clips.items()


@pytest.mark.parametrize("job", ["train", "study"])
def test_a_job_of_before_is_finished_with_its_splits(
    job: str, tmp_path: Path, capsys: Captured
) -> None:
    """Before splits were balanced the draws alone decided them: no bounds are recorded."""
    data = features_run(tmp_path / "data", rows=two_classes(), source="/v")
    out, flags = tmp_path / "out", ("--folds", "0")
    given = {
        "train": ("--data", data, "--model", "knn"),
        "study": ("--features", data, "--models", "knn"),
    }[job]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splits, "balance", lambda *_args, **_more: {})
        run(job, *given, "--out", out, *flags)
    report = json.loads((out / "run.json").read_text())
    assert "split_bounds" not in json.dumps(report)
    report["state"] = "running"
    (out / "run.json").write_text(json.dumps(report))
    (out / "_SUCCESS").unlink()
    run(job, *given, "--out", out, *flags)
    assert "split_bounds" not in (out / "run.json").read_text()
    assert (out / "_SUCCESS").exists()
    run(job, *given, "--out", out, *flags, "--overwrite")
    assert "split_bounds" in (out / "run.json").read_text()


def test_the_workers_of_a_deep_training_are_told_the_derived_split(tmp_path: Path) -> None:
    rows = [*two_classes(), row("s", "skip rope", "s")]
    data = clips_run(tmp_path / "clips", rows=rows, source="/v")
    asked = Selection(split_fractions=(0.5, 0.2, 0.3), without_classes=("skip rope",))
    examples = select(read_clips(str(data)), asked)
    job = make_job(
        "resnet18_avg", examples, examples.class_names,
        deep=DeepSettings(), training=Training(), augmentation=Augmentation(),
    )  # fmt: skip
    sent = DeepJob.from_json(json.loads(json.dumps(job.to_json())))
    assert sent.class_names == LABELS
    clips = read_clips(str(data)).clips
    assert clips is not None
    for split in ("train", "val"):
        found, _ = labelled_rows(clips, split, sent.class_names, sent.splits)
        expected = by_hand(two_classes(), split, (0.5, 0.2, 0.3))
        assert set(clips.table["uri"].take(pa.array(found)).to_pylist()) == expected
    written = json.loads(json.dumps(model_info(sent, examples)))
    assert Selection.from_info(written) == examples.selection
    assert examples.selection.without_classes == ("skip rope",)


@pytest.mark.slow
def test_a_deep_trial_learns_from_the_derived_split(tmp_path: Path) -> None:
    rows = two_classes(8)
    data = str(clips_run(tmp_path / "clips", rows=rows, source="/v"))
    asked = select(read_clips(data), Selection(split_fractions=(0.5, 0.3, 0.2))).selection
    trials = DeepTrials(
        data=data,
        work=str(tmp_path / "work"),
        deep=DeepSettings(),
        training=Training(epochs=1, batch_size=8, optimizer="sgd"),
        augmentation=Augmentation.none(),
        workers=Workers(in_process=True),
        metric="log_loss",
        selection=asked,
    )
    told: list[dict[str, Any]] = []
    trials.run({"number": 0, "model": "resnet18_avg"}, told.append)
    model = Path(trials.folder(0)) / "model"
    assert Selection.from_info(info(model)) == asked
    val = apply(read_clips(trials.data), asked).of_split("val")
    expected = by_hand(rows, "val", (0.5, 0.3, 0.2))
    assert set(val.table["uri"].to_pylist()) == expected
    loaded = models.load(str(model))
    own = judging.predict(loaded, val)[np.arange(len(val.table)), val.targets(LABELS)]
    assert -np.log(own).mean() == pytest.approx(told[-1]["score"], rel=1e-4)


# Classes that are too small


def with_a_small_class(*, recordings_of_it: int, videos_each: int = 1) -> list[Row]:
    small = [
        row(f"s{k}-{part}", "skip rope", f"s{k}", split="train")
        for k in range(recordings_of_it)
        for part in range(videos_each)
    ]
    rest = [
        {**one, "split": ("train", "train", "val", "test")[k // 2 % 4]}
        for k, one in enumerate(two_classes())
    ]
    return [*rest, *small]


@pytest.mark.parametrize(
    ("number", "ways"),
    [
        (1, [["--no-calibrated", "--folds", "0"], ["--without-classes", "skip rope"]]),
        (
            2,
            [
                ["--folds", "0"],
                ["--no-calibrated", "--folds", "2"],
                ["--without-classes", "skip rope"],
            ],
        ),
        (3, [["--folds", "3"], ["--without-classes", "skip rope"]]),
    ],
)
@pytest.mark.parametrize("job", ["train", "study"])
def test_a_small_class_is_named_with_flags_that_work(
    job: str, number: int, ways: list[list[str]], tmp_path: Path, capsys: Captured
) -> None:
    rows = with_a_small_class(recordings_of_it=number, videos_each=3)
    data = features_run(tmp_path / "data", rows=rows)
    flags = {
        "train": ("--data", data, "--model", "knn"),
        "study": ("--features", data, "--models", "knn"),
    }[job]
    told = fails(capsys, job, *flags, "--out", tmp_path / "x")
    assert f"class 'skip rope' has {number} group" in told
    assert "5 folds need one each" in told
    assert not (tmp_path / "x").exists()
    for way in ways:
        assert shlex.join(way) in told, told
    for k, way in enumerate(ways if job == "train" else ways[:1]):
        out = tmp_path / f"out{k}"
        run(job, *flags, "--repeats", "1", "--out", out, *way)
        assert (out / "_SUCCESS").exists()


@pytest.mark.slow
def test_a_class_that_was_left_out_is_not_judged(tmp_path: Path, capsys: Captured) -> None:
    rows = [*with_a_small_class(recordings_of_it=1), row("t", "skip rope", "t", split="test")]
    data = features_run(tmp_path / "data", rows=rows)
    flags = ("--data", data, "--out", tmp_path / "m", *FAST)
    assert "; did you mean skip rope?" in fails(
        capsys, "train", *flags, "--without-classes", "skiprope"
    )
    run("train", *flags, "--without-classes", "skip rope")
    assert models.load(str(tmp_path / "m")).class_names == LABELS
    given = ("--model", tmp_path / "m", "--data", data, "--out", tmp_path / "judged")
    run("evaluate", *given, "--timed-videos", "0")
    assert "classes left out: skip rope" in capsys.readouterr().out
    assert judged(tmp_path / "judged") == {
        one["uri"] for one in rows if one["split"] == "test" and one["label"] in LABELS
    }


@pytest.mark.slow
def test_a_class_that_a_model_has_never_seen_is_named(tmp_path: Path, capsys: Captured) -> None:
    data = features_run(tmp_path / "data", rows=with_a_small_class(recordings_of_it=0))
    run("train", "--data", data, "--out", tmp_path / "m", *FAST)
    others = [*two_classes(folder="/w"), row("n", "skip rope", None), row("o", "-x", None)]
    given = ("--model", tmp_path / "m", "--data", features_run(tmp_path / "w", rows=others))
    flags = (*given, "--split", "all", "--timed-videos", "0", "--out", tmp_path / "x")
    told = fails(capsys, "evaluate", *flags)
    assert "does not know 2 of the 4 classes: '-x' (1 rows), 'skip rope' (1 rows)" in told
    assert not (tmp_path / "x").exists()
    features_run(tmp_path / "v", rows=others[:-1])
    flags = ("--model", tmp_path / "m", "--data", tmp_path / "v", *flags[4:])
    told = fails(capsys, "evaluate", *flags)
    run("evaluate", *flags, *shlex.split(told[told.index("--without-classes") :]))
    assert judged(tmp_path / "x") == {one["uri"] for one in two_classes(folder="/w")}


def test_fractions_that_are_advised_help(tmp_path: Path) -> None:
    """Seven classes of three recordings, so that train lacks them: what is named is tried."""
    tried = 0
    for seed in range(6):
        rows = [row(f"{k}-{n}", f"c{k}", f"{seed} {k} {n}") for k in range(7) for n in range(3)]
        found = read_features(str(features_run(tmp_path / str(seed), rows=rows)))
        with pytest.raises(UserError, match="split train") as error:
            _ = select(found, Selection(split_fractions=(0.1, 0.5, 0.4))).class_names
        if advice := re.search(r"--split-fractions (\S+) (\S+) (\S+),", str(error.value)):
            train_share, val, test = map(float, advice.groups())
            own = Selection(split_fractions=(train_share, val, test))
            assert len(select(found, own).class_names) == 7
            tried += 1
    assert tried


def test_a_class_that_is_only_judged_is_named(tmp_path: Path, capsys: Captured) -> None:
    rows = [*with_a_small_class(recordings_of_it=0), row("t", "skip rope", "t", split="test")]
    data = features_run(tmp_path / "data", rows=rows)
    for flags in (
        ("train", "--data", data, "--model", "knn"),
        ("study", "--features", data, "--models", "knn"),
    ):
        told = fails(capsys, *flags, "--out", tmp_path / "x")
        assert "1 of 3 classes are in no video of split train" in told
        assert "'skip rope' is 1 recording in test" in told
        assert "--without-classes 'skip rope'" in told
    run("train", "--data", data, *FAST, "--out", tmp_path / "m", "--without-classes", "skip rope")


@pytest.mark.slow
def test_what_cannot_be_learnt_from_is_one_line(tmp_path: Path, capsys: Captured) -> None:
    empty = "holds no clip, since no video was labelled and could be read"
    broken = [{**one, "status": "failed"} for one in two_classes()[:6]]
    unlabelled = [{**row(f"u{k}", None, None)} for k in range(3)]
    one_class = [row(f"o{k}", "run", f"g{k}") for k in range(9)]
    for name, rows, message in (
        ("failed", broken, "no video that is both ok and labelled (6 failed; 0 of 6 rows"),
        ("unlabelled", unlabelled, "(3 ok; 3 of 3 rows have no label)"),
        ("one class", one_class, "of one class, 'run'"),
        ("one video", one_class[:1], "of one class, 'run'"),
    ):
        data = features_run(tmp_path / name, rows=rows)
        clips = clips_run(tmp_path / f"{name} clips", rows=rows)
        out = tmp_path / "x"
        for flags in (
            ("train", "--data", data, "--model", "svm"),
            ("study", "--features", data, "--models", "svm"),
            ("train", "--data", clips, "--model", "r3d_18"),
            ("study", "--clips", clips, "--models", "r3d_18"),
        ):
            told = fails(capsys, *flags, "--out", out)
            assert (empty if name == "failed" and clips in flags else message) in told
            assert not out.exists()


@pytest.mark.slow
def test_advice_is_tried_before_it_is_given() -> None:
    """Made-up recordings of three classes, some with several: every way that is named works."""
    rng = np.random.default_rng(0)
    names = ("a", "b", "c d")
    refused = 0
    for _ in range(60):
        number = int(rng.integers(3, 25))
        groups = [f"g{g}" if g else None for g in rng.integers(0, rng.integers(2, 12), number)]
        y = np.append(rng.integers(0, 3, number - 3), [0, 1, 2])
        demand = Demand(
            folds=int(rng.choice([0, 2, 3, 5])),
            repeats=2,
            calibrated=bool(rng.random() < 0.7),
            seed=int(rng.integers(3)),
        )
        try:
            recordings.check(y, groups, names, demand)
        except UserError as error:
            refused += 1
            told = str(error)
        else:
            continue
        for folds in re.findall(r"give --folds (\d)", told):
            own = {**vars(demand), "folds": int(folds)}
            recordings.check(y, groups, names, Demand(**own))
        for found in re.findall(r"give --no-calibrated(?: --folds (\d))?", told):
            own = {**vars(demand), "calibrated": False, "folds": int(found or demand.folds)}
            recordings.check(y, groups, names, Demand(**own))
        for left_out in re.findall(r"--without-classes (.*?)(?:,| or add)", told):
            kept = [k for k, label in enumerate(y) if names[label] not in shlex.split(left_out)]
            left = [name for name in names if name not in shlex.split(left_out)]
            own_y = np.array([left.index(names[y[k]]) for k in kept])
            recordings.check(own_y, [groups[k] for k in kept], left, demand)
    assert refused > 10


def test_classes_that_are_left_out_already_stay_in_the_advice(
    tmp_path: Path, capsys: Captured
) -> None:
    rows = [*with_a_small_class(recordings_of_it=1), row("y", "yo-yo", "y", split="train")]
    data = features_run(tmp_path / "data", rows=rows)
    flags = ("--data", data, "--model", "knn", "--out", tmp_path / "m")
    told = fails(capsys, "train", *flags)
    assert "--without-classes 'skip rope' yo-yo or add" in told
    told = fails(capsys, "train", *flags, "--without-classes", "yo-yo")
    assert "--without-classes yo-yo 'skip rope' or add" in told


@pytest.mark.slow
def test_what_is_not_refused_can_be_trained() -> None:
    """The check is as strict as the training itself, and no stricter."""
    from vidray.models import classical

    rng = np.random.default_rng(1)
    names = ("a", "b")
    outcomes = set()
    for _ in range(40):
        number = int(rng.integers(4, 14))
        groups = [f"g{g}" for g in rng.integers(0, rng.integers(2, 7), number)]
        y = np.append(rng.integers(0, 2, number - 2), [0, 1])
        x = rng.normal(size=(number, 3)).astype(np.float32)
        demand = Demand(folds=2, repeats=1, calibrated=True, seed=0)
        try:
            recordings.check(y, groups, names, demand)
            is_fine = True
        except UserError:
            is_fine = False
        try:
            classical.fit("knn", x, y, groups, names, seed=0)
            cross_validate("knn", x, y, groups, names, seed=0, folds=2, repeats=1)
            is_trained = True
        except UserError:
            is_trained = False
        assert is_fine == is_trained
        outcomes.add(is_fine)
    assert outcomes == {True, False}


# Several runs


def test_a_study_takes_the_splits_of_the_run_that_has_some(
    tmp_path: Path, capsys: Captured
) -> None:
    rows = [
        {**one, "split": ("train", "train", "val", "test")[k // 2 % 4]}
        for k, one in enumerate(two_classes())
    ]
    data = features_run(tmp_path / "f", rows=rows)
    bare = clips_run(tmp_path / "c", rows=[{**one, "split": None} for one in rows])
    flags = ("--models", "knn", "--folds", "0", "--out", tmp_path / "s")
    run("study", "--features", data, "--clips", bare, *flags)
    assert "derived" not in capsys.readouterr().out
    unit = json.loads((tmp_path / "s" / "units" / "knn.test.json").read_text())
    assert set(unit["video_ids"]) == {r["video_id"] for r in rows if r["split"] == "test"}


@pytest.mark.slow
def test_a_study_derives_what_a_training_derives(tmp_path: Path, capsys: Captured) -> None:
    rows = two_classes()
    data = features_run(tmp_path / "f", rows=rows, source="/v")
    flags = ("--features", data, "--models", "knn", "--folds", "0", "--out", tmp_path / "s")
    run("study", *flags)
    assert "splits derived by recording" in capsys.readouterr().out
    unit = json.loads((tmp_path / "s" / "units" / "knn.test.json").read_text())
    uris = by_hand(rows, "test", (0.7, 0.15, 0.15))
    expected = {one["video_id"] for one in rows if one["uri"] in uris}
    assert set(unit["video_ids"]) == expected
    report = json.loads((tmp_path / "s" / "run.json").read_text())
    assert report["asked"]["selection"]["split_fractions"] == [0.7, 0.15, 0.15]


def _read(
    *folders: Path, selection: Selection | None = None, metric: Metric = "log_loss", **more: Any
) -> Any:
    """What a search of classical models, or of both kinds, learns from."""
    kinds: tuple[ModelKind, ...] = ("classical", "deep")
    settings = SearchSettings(
        kinds=kinds[: len(folders)],
        metric=metric,
        selection=selection or Selection(),
        folds=FoldSettings(folds=2, repeats=1),
        learning=LearningSettings(classical=ClassicalSettings(**more)),
    )
    return labelled_runs.read_runs([str(folder) for folder in folders], settings)


def test_both_families_of_a_search_are_split_alike(tmp_path: Path, capsys: Captured) -> None:
    rows = two_classes()
    given = [{**one, "split": ("train", "val", "test")[k // 2 % 3]} for k, one in enumerate(rows)]
    bare, clips = features_run(tmp_path / "f", rows=rows), clips_run(tmp_path / "c", rows=rows)
    own = features_run(tmp_path / "given", rows=given)
    found = _read(bare, clips)
    assert capsys.readouterr().out.count("splits derived by recording") == 1
    first, second = (data.examples.table.select(["uri", "split"]) for data in found.values())
    assert first.equals(second)
    with pytest.raises(UserError, match=r"of the other: --split-fractions 0.7 0.15 0.15 derives"):
        _read(own, clips)
    _read(own, clips, selection=Selection(split_fractions=(0.7, 0.15, 0.15)))


def test_a_search_says_what_too_little_is(tmp_path: Path) -> None:
    for number, ways in (
        (1, ("give --without-classes 'skip rope'",)),
        (2, ("give --no-calibrated --metric accuracy", "give --without-classes 'skip rope'")),
    ):
        data = features_run(
            tmp_path / str(number), rows=with_a_small_class(recordings_of_it=number)
        )
        with pytest.raises(UserError, match="class 'skip rope'") as error:
            _read(data)
        told = str(error.value)
        assert all(way in told for way in ways)
        assert "--folds 0" not in told  # A search has none.
    _read(data, calibrated=False, metric="accuracy")
    _read(data, selection=Selection(without_classes=("skip rope",)))
    empty = Selection(split_fractions=(0.9, 0.1, 0.0))
    with pytest.raises(UserError, match=r"in split test: derive other splits with"):
        _read(features_run(tmp_path / "e", rows=two_classes()), selection=empty)
