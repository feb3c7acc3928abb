"""The table of labels: plans, commits that are there whole or not, what readers see."""

from __future__ import annotations

import contextlib
import glob
import itertools
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidray import storage
from vidray.errors import UserError
from vidray.labelling import commit_files, commit_numbers, commits
from vidray.labelling.commits import LabelSet, read_labels
from vidray.storage import disk, parquet
from vidray.tables import schema, versions
from vidray.tables.runs import Run

DIGEST = "0123456789ab"
NEWEST = "qualify row_number() over (partition by video_id order by commit desc) = 1"


def videos(**fingerprints: str) -> pa.Table:
    """VIDEOS of these names and fingerprints."""
    rows = [
        {
            "video_id": f"id-{name}", "uri": f"/v/{name}.mp4", "size_bytes": 1,
            "fingerprint": fingerprint, "label": None, "split": None, "group": None,
        }
        for name, fingerprint in fingerprints.items()
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema.VIDEOS)


def labelled(
    plan: pa.Table,
    label: str = "run",
    caps: Mapping[str, tuple[str, str, float]] | None = None,
    **failed: str,
) -> pa.Table:
    """What a worker would make of a plan; ``failed``: name -> kind, ``caps``: and cap."""
    rows = []
    for row in plan.to_pylist():
        kind = failed.get(row["uri"][3:-4])
        own: dict[str, Any] = {"status": "ok", "label": label, "probability": 0.5}
        if kind:
            own = {"status": "failed", "error_kind": kind, "error_message": "it is so"}
            _, cap, value = (caps or {}).get(row["uri"][3:-4], (None, None, None))
            own |= {"cap": cap, "cap_value": value}
        rows.append({**row, **own, "config_digest": DIGEST})
    return pa.Table.from_pylist(rows, schema.LABELLED)


def label(labels: LabelSet, listed: pa.Table, *, max_attempts: int = 3, **told: Any) -> int | None:
    """A night: plan, work, commit."""
    todo = labels.todo(listed, max_attempts=max_attempts)
    if not len(todo.plan):
        return None
    run = labels.new_run("/v", DIGEST)
    assert labels.claim(run, todo, {}) == run
    work(run, **told)
    return labels.commit(run, model_digest="m")


def work(run: Run, **told: Any) -> None:
    plan = run.read_videos()
    numbers = run.part_numbers(plan)
    for part in numbers.unique().to_pylist():
        mine = plan.filter(pa.compute.equal(numbers, part))
        run.write_part(part, labelled(mine, **told))


@pytest.fixture
def labels(place: str) -> LabelSet:
    return LabelSet(out=storage.join(place, "labels-of-all"), name="model-1")


@pytest.mark.slow
def test_stretches_of_a_file_are_rows_of_their_own_in_one_order(labels: LabelSet) -> None:
    names = [str(k) for k in (7, 3, 9, 1, 5, 0, 8, 2, 6, 4)]
    listed = videos(**dict.fromkeys(names, "f"))
    uris = pa.array(["/v/all.mp4"] * 10)
    listed = listed.set_column(1, listed.schema.field("uri"), uris)
    for column, plus in (("begin_seconds", 0.0), ("end_seconds", 10.0)):
        values = pa.array([10.0 * int(name) + plus for name in names])
        at = listed.schema.get_field_index(column)
        listed = (
            listed.append_column(column, values)
            if at < 0
            else listed.set_column(at, column, values)
        )
    plan = labels.todo(listed, max_attempts=3).plan
    assert plan["video_id"].to_pylist() == [f"id-{k}" for k in range(10)]
    assert label(labels, listed) == 1
    columns = ["video_id", "begin_seconds", "end_seconds"]
    rows = read_labels(labels.out, columns=columns).to_pylist()
    assert rows == [
        {"video_id": f"id-{k}", "begin_seconds": 10.0 * k, "end_seconds": 10.0 * k + 10}
        for k in range(10)
    ]
    assert label(labels, listed) is None


def seen(labels: LabelSet) -> dict[str, tuple[str, str | None, int]]:
    rows = read_labels(labels.out, set_name=labels.name).to_pylist()
    assert [row["uri"] for row in rows] == sorted(row["uri"] for row in rows)
    return {row["uri"][3:-4]: (row["fingerprint"], row["label"], row["commit"]) for row in rows}


@pytest.mark.slow
def test_only_what_is_new_or_changed_is_labelled(labels: LabelSet) -> None:
    assert label(labels, videos(a="1", b="1")) == 1
    assert label(labels, videos(a="1", b="1")) is None
    todo = labels.todo(videos(b="2", c="1"), max_attempts=3)
    assert todo.counts == {
        "new": 1, "changed": 1, "retried": 0, "unchanged": 0, "quarantined": 0, "gone": 1,
    }  # fmt: skip
    assert todo.plan["uri"].to_pylist() == ["/v/b.mp4", "/v/c.mp4"]
    assert label(labels, videos(b="2", c="1"), label="sit") == 2
    # A video that is gone keeps its label; one that changed has the new one only.
    assert seen(labels) == {"a": ("1", "run", 1), "b": ("2", "sit", 2), "c": ("1", "sit", 2)}


@pytest.mark.slow
def test_the_plan_is_videos_with_their_true_labels(labels: LabelSet) -> None:
    listed = videos(a="1").set_column(4, "label", pa.array(["jump"]))
    assert label(labels, listed) == 1
    (row,) = read_labels(labels.out).to_pylist()
    assert (row["true_label"], row["label"], row["attempts"]) == ("jump", "run", 1)
    assert read_labels(labels.out).schema.names == schema.LABELS.names


@pytest.mark.slow
def test_other_tools_know_what_probabilities_are_of(tmp_path: Path) -> None:
    """Also where commits of an older vidray are compacted, which do not say it."""
    labels = LabelSet(out=str(tmp_path), name="model-1")
    names = ["hop", "run", "sit"]
    for number in range(16):
        run = labels.new_run("/v", DIGEST)
        todo = labels.todo(videos(**{f"a{number}": "1", f"b{number}": "1"}), max_attempts=1)
        assert labels.claim(run, todo, {}) == run
        made = labelled(run.read_videos(), **{f"b{number}": "unreadable"})
        found = pa.array([[0.25, 0.5, 0.25], None], made.schema.field("probabilities").type)
        at = made.schema.get_field_index("probabilities")
        run.write_part(0, made.set_column(at, made.schema.field(at), found))
        labels.commit(run, model_digest="m", class_names=names)
        if number == 3:
            (file,) = tmp_path.glob("labels/*/commit-000004.parquet")
            table = pq.read_table(file)
            pq.write_table(table.drop_columns("class_names"), file)
    for _ in range(2):
        rows = {row["video_id"]: row for row in read_labels(str(tmp_path)).to_pylist()}
        assert rows["id-a3"]["class_names"] is None
        assert rows["id-a4"]["class_names"] == names
        assert rows["id-b4"]["class_names"] is None
        files = f"{tmp_path}/labels/*/*.parquet"
        one = "probabilities[list_position(class_names, 'run')]"
        query = f"select {one} from read_parquet('{files}', union_by_name=true)"
        assert duckdb.sql(query).fetchall().count((0.5,)) == 15
        frame = pd.concat(pd.read_parquet(file) for file in glob.glob(files))
        row = frame[frame.video_id == "id-a5"].iloc[0]
        assert dict(zip(row.class_names, row.probabilities, strict=True))["run"] == 0.5
        labels.compact()
    assert len(glob.glob(files)) == 1


@pytest.mark.slow
def test_failures_that_may_pass_are_tried_again_and_then_left_alone(labels: LabelSet) -> None:
    listed = videos(bad="1", slow="1", fine="1")
    assert label(labels, listed, bad="unreadable", slow="timeout") == 1
    assert label(labels, listed, slow="unavailable") == 2
    assert label(labels, listed, slow="timeout") == 3
    todo = labels.todo(listed, max_attempts=3)
    assert not len(todo.plan)
    assert (todo.counts["quarantined"], todo.counts["unchanged"]) == (2, 1)
    rows = {row["uri"]: row for row in read_labels(labels.out).to_pylist()}
    assert rows["/v/slow.mp4"]["attempts"] == 3
    assert rows["/v/slow.mp4"]["error_kind"] == "timeout"
    assert rows["/v/bad.mp4"]["attempts"] == 1
    # More patience, or new content, and it has another chance: a new one counts from one.
    assert labels.todo(listed, max_attempts=4).counts["retried"] == 1
    assert label(labels, videos(slow="2"), slow="timeout") == 4
    assert read_labels(labels.out, columns=["uri", "attempts"]).to_pylist()[-1]["attempts"] == 1
    assert label(labels, videos(slow="2")) == 5
    assert seen(labels)["slow"] == ("2", "run", 5)


@pytest.mark.slow
def test_a_set_is_of_one_model_and_config(labels: LabelSet) -> None:
    other = LabelSet(out=labels.out, name="model-2")
    assert label(labels, videos(a="1", b="1")) == 1
    assert label(other, videos(a="1"), label="sit") == 2
    assert commits.list_sets(labels.out) == ["model-1", "model-2"]
    # The one committed to last is what readers get.
    assert read_labels(labels.out)["label"].to_pylist() == ["sit"]
    assert set(seen(labels)) == {"a", "b"}
    assert label(labels, videos(c="1")) == 3
    assert commits.list_sets(labels.out) == ["model-2", "model-1"]
    with pytest.raises(UserError, match="no set model-3: it has model-2, model-1"):
        read_labels(labels.out, set_name="model-3")


@pytest.mark.slow
def test_nothing_uncommitted_is_seen(labels: LabelSet) -> None:
    with pytest.raises(UserError, match="no labels yet"):
        read_labels(labels.out)
    label(labels, videos(a="1"))
    todo = labels.todo(videos(a="1", b="1"), max_attempts=3)
    run = labels.new_run("/v", DIGEST)
    assert labels.claim(run, todo, {}) == run
    work(run)
    assert set(seen(labels)) == {"a"}
    # Its process was killed; the next one finds it, plan and finished parts and all.
    again = labels.unfinished("/v", DIGEST)
    assert again == run
    assert len(again.done_parts()) == 1
    assert labels.unfinished("/other", DIGEST) is None
    assert labels.unfinished("/v", "other") is None
    assert labels.commit(again, model_digest="m") == 2
    assert set(seen(labels)) == {"a", "b"}
    assert labels.unfinished("/v", DIGEST) is None
    for name in ("_runs", "_numbers"):
        assert not list(storage.list_files(storage.join(labels.out, name), hidden=True))


@pytest.mark.slow
def test_two_runs_at_once_commit_once(labels: LabelSet) -> None:
    listed = videos(a="1", b="1")
    plans = [labels.todo(listed, max_attempts=3) for _ in range(2)]
    mine, theirs = (labels.new_run("/v", DIGEST) for _ in range(2))
    assert labels.claim(mine, plans[0], {}) == mine
    shared = labels.claim(theirs, plans[1], {})
    assert shared == mine == labels.unfinished("/v", DIGEST)
    work(mine)
    assert labels.commit(mine, model_digest="m") == 1
    work_again = shared  # It was still at work on the same plan, and now ends, too.
    assert labels.commit(work_again, model_digest="m") is None
    assert seen(labels) == {"a": ("1", "run", 1), "b": ("1", "run", 1)}
    assert len(commit_files.find(labels.out)) == 1


@pytest.mark.slow
def test_a_claim_without_a_plan_is_gone_on_with(
    labels: LabelSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process has just begun, or died at once: the next one gives it its plan."""
    todo = labels.todo(videos(a="1"), max_attempts=3)
    first, second = (labels.new_run("/v", DIGEST) for _ in range(2))
    with monkeypatch.context() as patch:
        patch.setattr(Run, "videos_to_do", lambda *_: None)
        assert labels.claim(first, todo, {}) == first
    assert labels.unfinished("/v", DIGEST) is None
    assert labels.claim(second, todo, {}) == first
    assert labels.unfinished("/v", DIGEST) == first
    work(first)
    labels.remove(second)  # Not the claim, which is the first one's.
    assert labels.unfinished("/v", DIGEST) == first
    assert labels.commit(first, model_digest="m") == 1


@pytest.mark.slow
def test_a_plan_that_was_overtaken_is_dropped(labels: LabelSet) -> None:
    listed = videos(a="1")
    late = labels.todo(listed, max_attempts=3)
    assert label(labels, listed) == 1
    run = labels.new_run("/v", DIGEST)
    assert labels.claim(run, late, {}) is None
    assert labels.unfinished("/v", DIGEST) is None
    assert not len(labels.todo(listed, max_attempts=3).plan)


@pytest.mark.slow
def test_two_sources_commit_one_after_the_other(labels: LabelSet) -> None:
    """Both take the same number; one is first, the other takes the next."""
    found = [("/v", labels.todo(videos(a="1"), max_attempts=3))]
    found.append(("/w", labels.todo(videos(b="1"), max_attempts=3)))
    for source, todo in found:
        run = labels.new_run(source, DIGEST)
        assert labels.claim(run, todo, {}) == run
        work(run)
    numbers = []
    for source in ("/w", "/v"):
        run = labels.unfinished(source, DIGEST)
        assert run is not None
        numbers.append(labels.commit(run, model_digest="m"))
    assert numbers == [1, 2]
    assert set(seen(labels)) == {"a", "b"}


@pytest.mark.slow
def test_a_number_that_was_compacted_meanwhile_is_not_taken(
    labels: LabelSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "_MOST_COMMITS", 2)
    label(labels, videos(a="1"))
    slow = labels.new_run("/elsewhere", DIGEST)
    assert labels.claim(slow, labels.todo(videos(x="1"), max_attempts=3), {}) == slow
    work(slow)
    make = commits._commit_bytes

    def slowly(rows: pa.Table, run: Run, number: int, *of_model: Any) -> bytes:
        if run == slow and number == 2:
            assert label(labels, videos(y="1")) == 3
            assert labels.compact()
        return make(rows, run, number, *of_model)

    monkeypatch.setattr(commits, "_commit_bytes", slowly)
    monkeypatch.setattr(commit_numbers, "_MOST_WAITING_SECONDS", 0.2)
    assert labels.commit(slow, model_digest="m") == 4
    assert seen(labels).keys() == {"a", "x", "y"}
    labels.compact()
    assert seen(labels).keys() == {"a", "x", "y"}


@pytest.mark.slow
def test_a_run_that_two_have_finished_is_committed_once(
    labels: LabelSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = labels.new_run("/v", DIGEST)
    assert labels.claim(run, labels.todo(videos(a="1"), max_attempts=3), {}) == run
    work(run)
    last_commit = commit_numbers.last_commit

    def while_another_commits(out: str) -> int:
        monkeypatch.undo()
        assert labels.commit(run, model_digest="m") == 1
        return last_commit(out)

    monkeypatch.setattr(commit_numbers, "last_commit", while_another_commits)
    assert labels.commit(run, model_digest="m") is None
    assert [commit.last for commit in labels.commits()] == [1]


@pytest.mark.slow
def test_many_commits_are_compacted_and_read_the_same(
    labels: LabelSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "_MOST_COMMITS", 4)
    for night in range(3):
        label(labels, videos(a=str(night), **{f"n{night}": "1"}))
    assert not labels.compact()
    todo = labels.todo(videos(late="1"), max_attempts=3)
    late = labels.new_run("/late", DIGEST)
    assert labels.claim(late, todo, {}) == late
    work(late)
    assert labels.commit(late, model_digest="m") == 4
    before = read_labels(labels.out)
    assert labels.compact()
    assert [(c.first, c.last) for c in labels.commits()] == [(1, 4)]
    assert read_labels(labels.out).equals(before)
    assert seen(labels)["a"] == ("2", "run", 3)
    # A process that still works on a run that is in the compacted file knows that it is.
    assert labels.commit(late, model_digest="m") is None
    assert label(labels, videos(b="1")) == 5
    assert [(c.first, c.last) for c in labels.commits()] == [(1, 4), (5, 5)]


@pytest.mark.slow
def test_a_kill_while_compacting_is_not_seen(
    labels: LabelSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "_MOST_COMMITS", 2)
    for night in range(2):
        label(labels, videos(a=str(night), **{f"n{night}": "1"}))
    before = read_labels(labels.out)
    with monkeypatch.context() as patch:
        patch.setattr(LabelSet, "_remove_compacted", lambda _labels: None)
        assert labels.compact()
    assert len(commit_files.find(labels.out)) == 3
    assert read_labels(labels.out).equals(before)
    assert not labels.compact()
    assert len(commit_files.find(labels.out)) == 1
    assert read_labels(labels.out).equals(before)


def test_other_readers_see_the_same(tmp_path: Path) -> None:
    labels = LabelSet(out=str(tmp_path / "out"), name="model-1")
    label(labels, videos(a="1", b="1"))
    label(labels, videos(a="2", c="1"), label="sit")
    todo = labels.todo(videos(d="1"), max_attempts=3)
    run = labels.new_run("/v", DIGEST)
    labels.claim(run, todo, {})
    work(run)  # staged, not committed
    ours = read_labels(labels.out, columns=["uri", "label", "commit"]).to_pylist()
    files = f"{labels.out}/labels/*/*.parquet"
    query = f"select uri, label, commit from '{files}' {NEWEST} order by uri"
    rows = duckdb.sql(query).fetchall()
    assert [dict(zip(("uri", "label", "commit"), row, strict=True)) for row in rows] == ours
    frame = pd.read_parquet(f"{labels.out}/labels")
    frame = frame.sort_values(["uri", "commit"]).drop_duplicates("video_id", keep="last")
    assert frame[["uri", "label", "commit"]].to_dict("records") == ours
    assert set(frame["set"]) == {"model-1"}


@pytest.mark.slow
def test_a_commit_is_there_whole_or_not(labels: LabelSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before its one write, and after it, before it could tidy up."""
    todo = labels.todo(videos(a="1"), max_attempts=3)
    run = labels.new_run("/v", DIGEST)
    labels.claim(run, todo, {})
    work(run)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    for target, name in ((storage, "write_once"), (LabelSet, "remove")):
        with monkeypatch.context() as patch:
            patch.setattr(target, name, killed)
            with pytest.raises(KeyboardInterrupt):
                labels.commit(run, model_digest="m")
        assert len(commit_files.find(labels.out)) == (0 if target is storage else 1)
    assert set(seen(labels)) == {"a"}
    assert labels.unfinished("/v", DIGEST) is None  # committed: tidied up now
    assert not storage.exists(run.out)


@pytest.mark.slow
def test_what_late_processes_leave_is_removed_and_nothing_else(labels: LabelSet) -> None:
    label(labels, videos(a="1"))
    late, todo = labels.new_run("/v", DIGEST), labels.todo(videos(b="1"), max_attempts=3)
    storage.write_bytes(storage.join(late.out, "_staging", "part-00003.parquet"), b"late")
    run = labels.new_run("/w", DIGEST)
    assert labels.claim(run, todo, {}) == run
    work(run)
    labels.remove_leftovers()
    assert not storage.exists(late.out)
    assert labels.unfinished("/w", DIGEST) == run
    assert labels.commit(run, model_digest="m") == 2


@pytest.mark.slow
def test_numbers_are_those_of_all_sets(labels: LabelSet) -> None:
    names = itertools.cycle(["x", "y"])
    for night in range(4):
        own = LabelSet(out=labels.out, name=next(names))
        assert label(own, videos(**{f"n{night}": "1"})) == night + 1
    assert parquet.read_parquet(own.commits()[-1].uri)["commit"].to_pylist() == [4]


@pytest.mark.slow
def test_a_video_over_a_cap_is_tried_again_when_the_cap_has_risen(labels: LabelSet) -> None:
    listed = videos(large="1", long="1", slow="1", bad="1", fine="1")
    over = {
        "large": ("out_of_memory", "memory_bytes", 1 << 30),
        "long": ("too_large", "max_seconds", 60.0),
        "slow": ("timeout", "timeout_seconds", 10.0),
    }
    told = {name: kind for name, (kind, _, _) in over.items()} | {"bad": "unreadable"}
    caps: dict[str, float] = {name: value for _, name, value in over.values()}
    assert label(labels, listed, caps=over, **told) == 1
    for _ in range(2):
        assert label(labels, listed, caps=over, **told)  # a timeout may pass: three attempts
    assert not len(labels.todo(listed, max_attempts=3, caps=caps).plan)
    lower = {name: value / 2 for name, value in caps.items()}
    assert not len(labels.todo(listed, max_attempts=3, caps=lower).plan)
    assert not len(labels.todo(listed, max_attempts=3, caps={"max_pixels": 1e9}).plan)
    for name, (_, cap, value) in over.items():
        risen = labels.todo(listed, max_attempts=3, caps={**caps, cap: value + 1})
        assert risen.plan["uri"].to_pylist() == [f"/v/{name}.mp4"]
        assert risen.counts["retried"] == 1
        assert risen.counts["quarantined"] == 3
        assert risen.plan["attempts"].to_pylist() == [4 if name == "slow" else 2]
    (row,) = read_labels(labels.out).filter(pa.compute.field("uri") == "/v/large.mp4").to_pylist()
    assert (row["cap"], row["cap_value"]) == ("memory_bytes", float(1 << 30))


def _commit_at_once(out: str, name: str, together: Any, told: Any) -> None:
    """In a process of its own: a run that is worked off, committed when all are as far."""
    labels = LabelSet(out=out, name=name)
    run = labels.new_run("/v", DIGEST)
    assert labels.claim(run, labels.todo(videos(a="1"), max_attempts=3), {}) == run
    work(run)
    together.wait()
    number = labels.commit(run, model_digest="m")
    told.put((name, number))


@pytest.mark.slow
def test_models_that_commit_at_once_have_one_order(place: str) -> None:
    out, context = storage.join(place, "out"), multiprocessing.get_context("spawn")
    names = [f"model-{k}" for k in range(4)]
    together, told = context.Barrier(len(names)), context.Queue()
    processes = [
        context.Process(target=_commit_at_once, args=(out, name, together, told)) for name in names
    ]
    for process in processes:
        process.start()
    numbers = dict(told.get(timeout=300) for _ in names)
    for process in processes:
        process.join()
    assert sorted(numbers.values()) == [1, 2, 3, 4]
    order = sorted(names, key=lambda name: numbers[name])
    assert commits.list_sets(out) == order
    if not storage.is_bucket(out):
        # Each was there before the next one's number was taken.
        written = [c.uri for name in order for c in LabelSet(out=out, name=name).commits()]
        made = [Path(uri).stat().st_ctime_ns for uri in written]
        assert made == sorted(made)
    assert not list(storage.list_files(storage.join(out, "_numbers"), hidden=True))


@pytest.mark.slow
def test_a_killed_commit_holds_up_others_for_a_while_and_itself_not_at_all(
    labels: LabelSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = labels.new_run("/v", DIGEST)
    assert labels.claim(run, labels.todo(videos(a="1"), max_attempts=3), {}) == run
    work(run)

    def killed(*_: object) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(commits, "_commit_bytes", killed)
        with pytest.raises(KeyboardInterrupt):
            labels.commit(run, model_digest="m")
    with monkeypatch.context() as patch:
        patch.setattr(commit_numbers, "_MOST_WAITING_SECONDS", 1.0)
        other = LabelSet(out=labels.out, name="model-2")
        began = time.monotonic()
        assert label(other, videos(a="1")) == 2  # 1 was taken, and did not come.
        assert time.monotonic() - began >= 1.0
    assert labels.commit(run, model_digest="m") == 3
    with monkeypatch.context() as patch:
        patch.setattr(commit_numbers.time, "sleep", killed)  # Nobody waits for himself.
        run = labels.new_run("/w", DIGEST)
        assert labels.claim(run, labels.todo(videos(b="1"), max_attempts=3), {}) == run
        work(run)
        with monkeypatch.context() as inner:
            inner.setattr(commits, "_commit_bytes", killed)
            with pytest.raises(KeyboardInterrupt):
                labels.commit(run, model_digest="m")
        assert labels.commit(run, model_digest="m") == 4
    assert commits.list_sets(labels.out) == ["model-2", "model-1"]
    assert not list(storage.list_files(storage.join(labels.out, "_numbers"), hidden=True))


@pytest.mark.slow
def test_old_folders_go_on(labels: LabelSet) -> None:
    """Made before numbers were noted, caps told, libraries named and exits there."""
    label(labels, videos(a="1"))
    (commit,) = labels.commits()
    rows = parquet.read_parquet(commit.uri)
    tokens = rows.schema.metadata[b"vidray.runs"]
    old = rows.drop_columns(["cap", "cap_value", "exit_stage"]).replace_schema_metadata(
        {b"vidray.runs": tokens}
    )
    for name in (labels.name, "other-1"):
        where = storage.join(labels.out, "labels", f"set={name}", "commit-000001.parquet")
        storage.write_bytes(where, parquet.parquet_bytes(old))
    for name in ("cap", "exit_stage"):
        assert read_labels(labels.out, set_name=labels.name)[name].to_pylist() == [None]
    assert label(labels, videos(a="1", b="1")) == 2
    assert commits.list_sets(labels.out) == ["other-1", labels.name]
    assert set(seen(labels)) == {"a", "b"}


@pytest.mark.slow
@pytest.mark.parametrize("step", range(40))
def test_killed_at_any_request_and_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Whatever is written or removed next, it is not: the next start comes to the same table."""
    monkeypatch.setattr(commits, "_MOST_COMMITS", 2)
    monkeypatch.setattr(commit_numbers, "_MOST_WAITING_SECONDS", 0.2)
    listed = videos(a="2", b="1")
    labels = LabelSet(out=str(tmp_path), name="model-1")
    label(labels, videos(a="1"))
    left = [step]

    def counted(function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return function(*args, **kwargs)

        return call

    def night() -> None:
        if run := labels.unfinished("/v", DIGEST):
            work(run)
            labels.commit(run, model_digest="m")
        todo = labels.todo(listed, max_attempts=3)
        run = labels.claim(labels.new_run("/v", DIGEST), todo, {}) if len(todo.plan) else None
        if run is not None:  # The one that was claimed before, if one was.
            work(run)
            labels.commit(run, model_digest="m")
        labels.remove_leftovers()
        labels.compact()

    with monkeypatch.context() as patch:
        for name in ("write_once", "write_bytes", "remove_tree"):
            patch.setattr(storage, name, counted(getattr(storage, name)))
        with contextlib.suppress(KeyboardInterrupt):
            night()
    other = LabelSet(out=labels.out, name="model-2")
    label(other, videos(a="1"))
    night()
    assert {name: row[:2] for name, row in seen(labels).items()} == {
        "a": ("2", "run"), "b": ("1", "run"),
    }  # fmt: skip
    files = commit_files.find(labels.out, "model-1")
    rows = pa.concat_tables(parquet.read_parquet(commit.uri) for commit in files).to_pylist()
    assert len(rows) == len({(row["video_id"], row["commit"]) for row in rows})
    left_over = [p for name in ("_runs", "_numbers") for p in tmp_path.glob(f"{name}/**/*")]
    assert [p for p in left_over if p.is_file()] == []


@pytest.mark.slow
def test_a_commit_names_the_libraries_that_made_it(
    labels: LabelSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = LabelSet(out=labels.out, name="model-1", libraries=("torch", "av"))
    label(deep, videos(a="1"))
    with monkeypatch.context() as patch:
        patch.setattr(versions, "_version", lambda name: f"{name} of tomorrow")
        # It is a part of what the claim of a run is for.
        assert deep.new_run("/v", DIGEST).versions["torch"] == "torch of tomorrow"
        label(deep, videos(a="1", b="1"))
    one, two = (commit.contents.versions for commit in deep.commits())
    assert one == (versions.of(("torch", "av")),)
    assert (two[0]["torch"], two[0]["av"]) == ("torch of tomorrow", "av of tomorrow")
    monkeypatch.setattr(commits, "_MOST_COMMITS", 2)
    assert deep.compact()
    assert deep.commits()[0].contents.versions == (*one, *two)


def test_a_run_of_other_libraries_is_not_gone_on_with(
    labels: LabelSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = LabelSet(out=labels.out, name="model-1", libraries=("torch", "av"))
    run = deep.new_run("/v", DIGEST)
    assert deep.claim(run, deep.todo(videos(a="1"), max_attempts=3), {}) == run
    monkeypatch.setattr(versions, "_version", lambda name: "2" if name == "numpy" else "1")
    assert LabelSet(out=labels.out, name="model-1").unfinished("/v", DIGEST) is None
    assert deep.unfinished("/v", DIGEST) is None


@pytest.mark.slow
def test_drafts_of_dead_processes_go_and_nothing_else(tmp_path: Path) -> None:
    labels = LabelSet(out=str(tmp_path), name="model-1")
    label(labels, videos(a="1"))
    script = (
        "import os, signal; from vidray import storage\n"
        "os.link = os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    folders = (tmp_path, tmp_path / "labels/set=model-1", tmp_path / "_runs/set=model-1")
    for folder in folders:
        for write in ("write_once", "write_bytes"):
            code = f"{script}storage.{write}({str(folder / 'commit-000009.parquet')!r}, b'x' * 99)"
            assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
        assert len(list(folder.glob(".*.draft"))) == 2
        for name in (".notes.draft", "a.draft", f".{'0' * 32}.drafts"):
            (folder / name).write_text("mine")
        (folder / f".{'1' * 32}.draft").symlink_to("/etc/hostname")
    with disk.draft(str(folders[1] / "commit-000010.parquet"), b"still at it") as draft:
        labels.remove_leftovers()
        assert Path(draft).read_bytes() == b"still at it"
    for folder in folders:
        kept = {path.name for path in folder.glob("*draft*")}
        assert kept == {".notes.draft", "a.draft", f".{'0' * 32}.drafts", f".{'1' * 32}.draft"}
    assert set(seen(labels)) == {"a"}
