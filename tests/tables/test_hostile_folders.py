"""Our own folders after a stranger touched them: one clear line, nothing lost, nothing deleted."""

from __future__ import annotations

import io
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.labelling.test_commits import DIGEST, label, videos, work
from vidray import storage
from vidray.errors import UserError
from vidray.features.extraction import Settings
from vidray.labelling import commit_files, commit_numbers, commits
from vidray.labelling.commits import LabelSet, read_labels
from vidray.learning.examples import read_features
from vidray.storage import join, parquet
from vidray.tables import run_folder, versions
from vidray.tables.run_folder import RunFolder
from vidray.tables.runs import Run

_RUNS = b"vidray.runs"


@pytest.fixture
def labels(place: str) -> LabelSet:
    """Two nights."""
    labels = LabelSet(out=join(place, "out"), name="model-1")
    label(labels, videos(a="1", b="1"))
    label(labels, videos(a="2", c="1"), label="sit")
    return labels


def contents(place: str) -> dict[str, bytes]:
    """Every file below a place, numbers that are taken apart."""
    files = storage.list_files(place, hidden=True)
    # A number that is taken is kept by whom it is taken, until it is used.
    kept = (info.uri for info in files if "/_numbers/" not in info.uri)
    return {uri: storage.read_bytes(uri) for uri in kept}


def told(act: Callable[[], Any]) -> str:
    """The one line that an act ends with; "" where it just works. A traceback fails the test."""
    said = ""
    try:
        act()
    except UserError as error:
        said = str(error)
    assert "\n" not in said
    return said


# Commits


def _folder(labels: LabelSet, *names: str) -> str:
    return join(labels.out, "labels", f"set={labels.name}", *names)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "old/commit-000001.parquet",
        "backup-commit-000001.parquet",
        "commit-000001.parquet.bak",
        "commit-000001 (copy).parquet",
        "commit-1.parquet",
        "commit-0000001.parquet",
        "commit-000001-000001.parquet",
        "commit-000002-000001.parquet",
        "commit-000001-000002-000003.parquet",
        "commit-9999999999.parquet",
        "Commit-000001.parquet",
        ".commit-000001.parquet",
        "../commit-000001.parquet",
        "../old/commit-000001.parquet",
        "../set=/commit-000001.parquet",
        "../set=../commit-000001.parquet",
    ],
)
def test_a_copy_is_no_commit_and_hides_none(
    labels: LabelSet, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(commits, "_MOST_COMMITS", 2)
    before = read_labels(labels.out)
    assert len(before) == 3
    original = storage.read_bytes(_folder(labels, "commit-000001.parquet"))
    head, _, last = name.rpartition("/")
    where = join(_folder(labels), *head.split("/"), last) if head else _folder(labels, last)
    storage.write_bytes(where, original)
    assert read_labels(labels.out).equals(before)
    assert labels.todo(videos(a="2", b="1", c="1"), max_attempts=3).counts["unchanged"] == 3
    assert label(labels, videos(d="1")) == 3
    assert labels.compact()
    assert len(read_labels(labels.out)) == 4
    assert storage.read_bytes(where) == original


@pytest.mark.slow
@pytest.mark.parametrize("number", ["000001", "000009", "000001-000009"])
def test_a_commit_of_another_set_is_told_and_its_rows_are_not_taken(
    labels: LabelSet, monkeypatch: pytest.MonkeyPatch, number: str
) -> None:
    """Its videos would count as labelled by a model that has never seen them."""
    other = LabelSet(out=labels.out, name="model-2")
    assert label(other, videos(z="1")) == 3
    monkeypatch.setattr(commits, "_MOST_COMMITS", 2)
    assert labels.compact()  # What is compacted tells its set, too.
    (whole,) = labels.commits()
    where = _folder(other, f"commit-{number}.parquet")
    storage.write_bytes(where, storage.read_bytes(whole.uri))
    before = contents(labels.out)
    for act in (
        lambda: read_labels(labels.out, set_name="model-2"),
        lambda: other.todo(videos(a="2"), max_attempts=3),
        other.compact,
    ):
        assert f'{where} is no commit of vidray (it is of the set "model-1")' in told(act)
    assert len(read_labels(labels.out, set_name="model-1")) == 3
    assert contents(labels.out) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["commit-000009.parquet", "commit-000001-000009.parquet"])
def test_a_copy_under_the_name_of_a_commit_costs_nothing(
    labels: LabelSet, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It tells the runs it holds: those of one commit, whatever its name says."""
    before = read_labels(labels.out)
    original = storage.read_bytes(_folder(labels, "commit-000001.parquet"))
    storage.write_bytes(_folder(labels, name), original)
    labels.compact()
    assert read_labels(labels.out).equals(before)
    assert len(labels.commits()) == 3
    assert label(labels, videos(d="1")) == 10
    monkeypatch.setattr(commits, "_MOST_COMMITS", 2)
    labels.compact()
    assert (
        read_labels(labels.out, columns=["uri", "label"])
        .slice(0, 3)
        .equals(before.select(["uri", "label"]))
    )


@pytest.mark.slow
def test_what_says_it_holds_a_commit_and_does_not_deletes_nothing(labels: LabelSet) -> None:
    tokens = [token for commit in labels.commits() for token in commit.contents.runs]
    rows = labels.commits()[0]
    liar = commit_files.read(rows, parquet.read_schema(rows.uri).names).slice(0, 1)
    data = commit_files.to_bytes(liar, [*tokens, "f" * 32])
    storage.write_bytes(_folder(labels, "commit-000001-000005.parquet"), data)
    before = contents(labels.out)
    labels.compact()
    assert contents(labels.out) == before


def _rewritten(data: bytes, change: Callable[[pa.Table], pa.Table]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(change(pq.read_table(io.BytesIO(data))), sink)
    return sink.getvalue()


def _damaged(data: bytes) -> Iterator[tuple[str, bytes]]:
    """What may be in the place of a commit."""
    table = pq.read_table(io.BytesIO(data))
    yield "empty", b""
    yield "text", b"no parquet, but some text\n" * 50
    yield "zeros", bytes(4096)
    yield "magic only", b"PAR1" * 3
    for share in (0.1, 0.5, 0.9, 0.999):
        yield f"first {share}", data[: int(len(data) * share)]
    yield "tail only", data[len(data) // 2 :]
    yield "foreign", _rewritten(data, lambda _: pa.table({"x": [1, 2]}))
    yield "no metadata", _rewritten(data, lambda t: t.replace_schema_metadata({}))
    for name in table.column_names:
        if not table.schema.field(name).nullable:
            yield f"no {name}", _rewritten(data, lambda t, n=name: t.drop_columns(n))
        kind = pa.list_(pa.binary()) if name != "cap" else pa.int8()
        index = table.column_names.index(name)
        yield (
            f"other {name}",
            _rewritten(
                data, lambda t, i=index, n=name, k=kind: t.set_column(i, n, pa.nulls(len(t), k))
            ),
        )
    for told in ("", "{", "5", "null", '"x"', "{}", '["../x"]', "[null]", '["A"]', "[" * 9999):
        yield (
            f"runs {told[:9]}",
            _rewritten(data, lambda t, r=told: t.replace_schema_metadata({_RUNS: r.encode()})),
        )


@pytest.mark.slow
@pytest.mark.parametrize("number", ["000001", "000002", "000003", "000001-000003"])
def test_what_is_no_commit_is_one_line_and_never_deleted(tmp_path: Path, number: str) -> None:
    labels = LabelSet(out=str(tmp_path / "out"), name="model-1")
    for night in range(2):
        label(labels, videos(a=str(night), **{f"n{night}": "1"}))
    other = LabelSet(out=labels.out, name="model-2")
    label(other, videos(a="1"))
    run = labels.new_run("/v", DIGEST)
    assert labels.claim(run, labels.todo(videos(z="1"), max_attempts=3), {}) == run
    work(run)
    where = Path(_folder(labels, f"commit-{number}.parquet"))
    good = Path(_folder(labels, "commit-000001.parquet")).read_bytes()
    kept = where.read_bytes() if where.exists() else None
    for name, data in _damaged(good):
        where.write_bytes(data)
        before = contents(labels.out)
        for act in (
            lambda: read_labels(labels.out, set_name=labels.name),
            labels.commits,
            lambda: labels.todo(videos(a="9"), max_attempts=3),
            lambda: labels.is_committed(run),
            lambda: labels.unfinished("/v", DIGEST),
            labels.compact,
            lambda: labels.commit(run, model_digest="m"),
        ):
            line = told(act)
            assert str(where) in line, (name, line)
            assert "move it" in line
        # What needs none of that set works.
        assert set(commits.list_sets(labels.out)) == {"model-1", "model-2"}
        assert len(read_labels(labels.out, set_name="model-2")) == 1
        labels.remove_leftovers()
        assert contents(labels.out) == before, name
    if kept is None:
        where.unlink()
    else:
        where.write_bytes(kept)
    assert labels.commit(run, model_digest="m") == 4
    assert len(read_labels(labels.out, set_name=labels.name)) == 4


@pytest.mark.slow
def test_flipped_bytes_are_told_and_never_labels(tmp_path: Path) -> None:
    labels = LabelSet(out=str(tmp_path), name="model-1")
    label(labels, videos(**{f"v{k}": "1" for k in range(300)}))
    (commit,) = labels.commits()
    path, rng = Path(commit.uri), np.random.default_rng(0)
    good, right = path.read_bytes(), read_labels(labels.out)
    footer = len(good) - 8 - int.from_bytes(good[-8:-4], "little")
    noticed = 0
    for at in rng.choice(len(good), 400, replace=False):
        data = bytearray(good)
        data[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        try:
            found = read_labels(labels.out)
        except UserError:
            noticed += 1
        else:
            # Pages have checksums, the footer behind them has none.
            assert at >= footer or found.equals(right)
        assert path.read_bytes() == bytes(data)
    assert noticed > 200


def test_a_folder_or_a_link_in_the_place_of_a_commit_is_told(tmp_path: Path) -> None:
    labels = LabelSet(out=str(tmp_path / "out"), name="model-1")
    label(labels, videos(a="1"))
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "commit-000001.parquet").write_bytes(b"mine")
    for way in ("folder", "link"):
        where = Path(_folder(labels, "commit-000002.parquet"))
        if way == "folder":
            where.mkdir()
        else:
            where.symlink_to(tmp_path / "nothing")
        assert len(read_labels(labels.out)) == 1
        assert "is in the way" in told(lambda: label(labels, videos(b="1")))
        where.rmdir() if way == "folder" else where.unlink()
        run = labels.unfinished("/v", DIGEST)
        assert run is not None
        assert labels.commit(run, model_digest="m") == 2
        Path(_folder(labels, "commit-000002.parquet")).unlink()
    # A set that is a link leads out of the folder: nothing behind it goes.
    Path(labels.out, "labels", "set=model-2").symlink_to(tmp_path / "victim")
    assert read_labels(labels.out, set_name="model-1").num_rows == 1
    assert told(LabelSet(out=labels.out, name="model-2").compact)
    assert (tmp_path / "victim" / "commit-000001.parquet").read_bytes() == b"mine"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "x/../../escaped", "/etc", "a/b", "-x", "a\nb", "é", "x" * 200, "a b"]
)
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"it must be 1 to 128 of A-Z a-z 0-9"):
        LabelSet(out=str(tmp_path), name=name)


# Claims


def _claim_texts(victim: str) -> list[bytes]:
    return [
        b"", b"\n", b"\xff\xfe\x00", victim.encode(), f"../../../{victim}".encode(), b"..", b".",
        b"../set=model-2", b"A" * 32, b"0" * 31, b"0" * 33, b"0" * 32 + b"\n", b"g" * 32,
        bytes(32), b"x" * 2_000_000, b"s3://bucket/victim", b"*",
    ]  # fmt: skip


@pytest.mark.slow
def test_what_a_claim_says_is_never_a_path(place: str) -> None:
    labels = LabelSet(out=join(place, "out"), name="model-1")
    label(labels, videos(a="1"))
    storage.write_bytes(join(place, "victim", "keep.txt"), b"mine")
    todo = labels.todo(videos(b="1"), max_attempts=3)
    run = labels.new_run("/v", DIGEST)
    assert labels.claim(run, todo, {}) == run
    work(run)
    other = labels.new_run("/w", DIGEST)
    assert labels.claim(other, todo, {}) == other
    claim = labels._claim_uri(run)
    kept = storage.read_bytes(claim)
    for text in _claim_texts(join(place, "victim")):
        storage.write_bytes(claim, text)
        before = contents(place)
        for act in (
            lambda: labels.unfinished("/v", DIGEST),
            lambda: labels.claim(labels.new_run("/v", DIGEST), todo, {}),
            lambda: labels.remove(run),
            labels.remove_leftovers,
        ):
            line = told(act)
            assert "names no run of vidray" in line, (text[:40], line)
            assert storage.without_secrets(claim) in line
            assert len(line) < 600
        assert contents(place) == before
    storage.write_bytes(claim, kept)
    assert labels.unfinished("/v", DIGEST) == run
    assert labels.commit(run, model_digest="m") == 2
    labels.remove_leftovers()
    assert labels.unfinished("/w", DIGEST) == other
    assert storage.read_bytes(join(place, "victim", "keep.txt")) == b"mine"


def _no_file(where: Path, way: str) -> None:
    where.parent.mkdir(parents=True, exist_ok=True)
    if way == "folder":
        where.mkdir()
    elif way == "pipe":
        os.mkfifo(where)  # Whoever opened it to read would wait for ever.
    else:
        where.symlink_to(where.parent / "nothing")


@pytest.mark.parametrize("way", ["folder", "pipe", "link"])
def test_what_is_no_file_in_the_place_of_a_claim_or_a_note_is_told(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_numbers, "_MOST_WAITING_SECONDS", 0.3)
    labels = LabelSet(out=str(tmp_path / "out"), name="model-1")
    run = labels.new_run("/v", DIGEST)
    claim = Path(labels._claim_uri(run))
    _no_file(claim, way)
    todo = labels.todo(videos(a="1"), max_attempts=3)
    assert "names no run of vidray" in told(lambda: labels.claim(run, todo, {}))
    assert "names no run of vidray" in told(lambda: labels.unfinished("/v", DIGEST))
    claim.rmdir() if way == "folder" else claim.unlink()
    assert labels.claim(run, todo, {}) == run
    work(run)
    note = Path(labels.out, "_numbers", "000001")
    _no_file(note, way)
    assert f"{note} is in the way" in told(lambda: labels.commit(run, model_digest="m"))
    note.rmdir() if way == "folder" else note.unlink()
    assert labels.commit(run, model_digest="m") == 1


def test_a_run_is_claimed_however_many_files_lie_beside_its_claim(tmp_path: Path) -> None:
    labels = LabelSet(out=str(tmp_path), name="model-1")
    run = labels.new_run("/v", DIGEST)
    assert labels.claim(run, labels.todo(videos(a="1"), max_attempts=3), {}) == run
    work(run)
    for k in range(1100):
        Path(labels._runs(), f"!{k}").touch()
    labels.remove_leftovers()
    assert labels.unfinished("/v", DIGEST) == run
    assert labels.commit(run, model_digest="m") == 1


@pytest.mark.slow
def test_a_claim_of_another_command_or_of_nothing(place: str) -> None:
    labels = LabelSet(out=join(place, "out"), name="model-1")
    todo = labels.todo(videos(a="1"), max_attempts=3)
    run, other = labels.new_run("/v", DIGEST), labels.new_run("/w", DIGEST)
    assert labels.claim(run, todo, {}) == run
    work(run)
    # Of /w, the run of /v: it is not gone on with, and not removed.
    storage.write_bytes(labels._claim_uri(other), storage.name_of(run.out).encode())
    before = contents(place)
    assert "other settings" in told(lambda: labels.claim(other, todo, {}))
    assert contents(place) == before
    # A run that is not there is begun.
    storage.write_bytes(labels._claim_uri(other), b"0" * 32)
    begun = labels.claim(other, todo, {})
    assert begun is not None
    assert storage.name_of(begun.out) == "0" * 32
    work(begun)
    assert labels.commit(begun, model_digest="m") == 1
    assert labels.commit(run, model_digest="m") == 2


@pytest.mark.parametrize("name", ["videos.parquet", "run.json", "_staging/part-00000.parquet"])
def test_a_run_that_was_damaged_is_told(tmp_path: Path, name: str) -> None:
    labels = LabelSet(out=str(tmp_path / "out"), name="model-1")
    todo = labels.todo(videos(a="1"), max_attempts=3)
    run = labels.new_run("/v", DIGEST)
    assert labels.claim(run, todo, {}) == run
    work(run)
    where = Path(run.out, name)
    good = where.read_bytes()
    foreign = _rewritten(parquet.parquet_bytes(pa.table({"x": [1]})), lambda table: table)
    for data in (b"", b"text", good[: len(good) // 2], bytes(500), foreign, b"[" * 99_999, b"[1]"):
        where.write_bytes(data)
        before = contents(str(tmp_path))
        line = told(lambda: (labels.claim(run, todo, {}), labels.commit(run, model_digest="m")))
        assert str(where) in line or "other settings" in line, (data[:20], line)
        assert contents(str(tmp_path)) == before
    where.write_bytes(good)
    assert labels.commit(run, model_digest="m") == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["000002", "000900", "999999999", "9999999999", "x", "000001"])
def test_a_note_of_a_number_never_stops_the_commits(
    place: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from vidray.labelling import commit_numbers

    monkeypatch.setattr(commit_numbers, "_MOST_WAITING_SECONDS", 0.3)
    labels = LabelSet(out=join(place, "out"), name="model-1")
    label(labels, videos(a="1"))
    where = join(labels.out, "_numbers", name)
    storage.write_bytes(where, b"\xff../../x")
    line = told(lambda: label(labels, videos(b="1")))
    if name == "999999999":
        assert "has the number 999999999, above which there is none" in line
    else:
        assert not line
        assert len(read_labels(labels.out)) == 2
    assert storage.read_bytes(where) == b"\xff../../x"  # not ours, whatever it is


# run.json


_ABSURD: tuple[Any, ...] = (
    None, True, 0, -1, 1e308, float("nan"), float("inf"), 10**40, "", "x", "../../victim",
    "/victim", "x" * 5000, [], [None], ["x"], {}, {"x": 1}, {"limits": None}, {"": {}},
)  # fmt: skip


def _mutations(values: Any) -> Iterator[Any]:
    """Each key missing, and in its place each absurd value; keys within keys, too."""
    yield from _ABSURD
    if isinstance(values, dict):
        for key in values:
            yield {k: v for k, v in values.items() if k != key}
            for changed in _mutations(values[key]):
                yield {**values, key: changed}


def _features(out: str) -> Run:
    run = Run(out=out, table="features", videos="/v", digest="d", libraries=versions.FEATURES)
    settings = Settings(families=("temporal",))
    config = {"extraction": json.loads(json.dumps(settings, default=vars))}
    listed = videos(a="1", b="2")
    if not run.is_there():
        run.videos_to_do(config, lambda: listed)
        rows = pa.Table.from_pylist(
            [
                {**row, "label": "xy"[k], "split": "train", "status": "ok", "config_digest": "d"}
                for k, row in enumerate(listed.to_pylist())
            ],
            settings.schema,
        )
        for part in (0, 1):
            run.write_part(part, rows.slice(part, 1))
        report = {
            "counts": run.check(listed),
            "seconds": {"startup": 1.0, "working": 2.0, "in_workers": {"decode": 1.0}},
            "videos_per_second": 1.0,
            "cost_per_thousand_videos": None,
        }
        run.publish(config, report)
    return run


def _ask_features(out: str) -> list[Callable[[], Any]]:
    run = Run(out=out, table="features", videos="/v", digest="d", libraries=versions.FEATURES)

    def finished() -> None:
        from vidray.tables import summary

        summary.print_run(run, run.read_report())

    return [
        lambda: run_folder.check(out, "features"),
        lambda: run.check_settings({"extraction": {}}),
        finished,
        lambda: read_features(out),
        lambda: read_features(out).class_names,
        run.overwrite,
    ]


def _model(out: str) -> RunFolder:
    config = {"a": 1, "training": {"epochs": 3}}
    run = RunFolder(out=out, kind="model", same={"digest": "one"}, shown={"config": config})
    if not storage.exists(out):
        run.claim()
        storage.write_bytes(join(out, "model.json"), b"{}")
        run.finish(seconds={"training": 1.0})
    return run


def _ask_model(out: str) -> list[Callable[[], Any]]:
    return [lambda: _model(out).claim(), lambda: _model(out).claim(overwrite=True)]


def _study(out: str) -> RunFolder:
    settings = {"seed": 0, "shape": [1, 2]}
    folder = RunFolder(out=out, kind="study", settings=settings)
    if not storage.exists(out):
        folder.claim()
        folder.write("units/a.json", {"x": 1})
        folder.finish(videos={"all": 2})
    return folder


def _ask_study(out: str) -> list[Callable[[], Any]]:
    return [
        lambda: _study(out).earlier_settings(),
        lambda: _study(out).claim(),
        lambda: _study(out).claim(overwrite=True),
    ]


def _evaluation(out: str) -> RunFolder:
    run = RunFolder(out=out, kind="evaluation", shown={"config": {}})
    if not storage.exists(out):
        run.claim()
        run.finish(counts={"videos": 1})
    return run


def _ask_evaluation(out: str) -> list[Callable[[], Any]]:
    return [_evaluation(out).check, lambda: _evaluation(out).claim(overwrite=True)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "ask"),
    [
        (_features, _ask_features),
        (_model, _ask_model),
        (_study, _ask_study),
        (_evaluation, _ask_evaluation),
    ],
)
def test_any_run_json_is_taken_or_told(
    tmp_path: Path, make: Callable[[str], Any], ask: Callable[[str], list[Callable[[], Any]]]
) -> None:

    out, whole = tmp_path / "out", tmp_path / "whole"
    make(str(whole))
    (whole / "notes.txt").write_text("mine")
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "keep.txt").write_text("mine")
    values = json.loads((whole / "run.json").read_text())
    broken = [b"", b"{", b"\xff\xfe", b"[" * 99_999, b'{"a": ' * 5000, b"nul"]
    changed = [json.dumps(value).encode() for value in _mutations(values)]
    began = time.monotonic()
    for data in [*broken, *changed]:
        acts = len(ask(str(out)))
        for number in range(acts):
            if not (out / "run.json").exists() or (out / "run.json").read_bytes() != data:
                shutil.rmtree(out, ignore_errors=True)
                shutil.copytree(whole, out)
                (out / "run.json").write_bytes(data)
            told(ask(str(out))[number])
            assert (out / "notes.txt").read_text() == "mine", data[:80]
            assert (tmp_path / "victim" / "keep.txt").exists()
    assert len(changed) > 50
    print(f"{len(changed)} in {time.monotonic() - began:.1f} s")


@pytest.mark.parametrize("value", [None, 5, "x", [], "features", "model", {"a": 1}])
def test_a_label_folder_is_known_by_its_kind(tmp_path: Path, value: Any) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "run.json").write_text(json.dumps({"kind": value}))
    with pytest.raises(UserError, match=r"holds .*, not labels: choose another --out"):
        run_folder.check(str(out), "label")
