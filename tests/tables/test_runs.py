"""The run folder without Ray: claimed, written whole, checked, published; in a bucket too."""

import json
from typing import Any

import pyarrow as pa
import pytest

from vidray import storage
from vidray.errors import UserError
from vidray.storage import join, parquet
from vidray.storage.parquet import read_parquet
from vidray.tables import run_folder, runs, schema, versions
from vidray.tables.runs import Run


def _videos(count: int) -> pa.Table:
    rows = [
        {"video_id": f"v{k:04d}", "uri": f"/x/{k:04d}.mp4", "size_bytes": k, "fingerprint": f"f{k}"}
        for k in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=schema.VIDEOS)


def _rows(videos: pa.Table) -> pa.Table:
    kinds = [None if k % 3 else "unreadable" for k in videos["size_bytes"].to_pylist()]
    return pa.table(
        {
            "video_id": videos["video_id"],
            "status": pa.array(["ok" if kind is None else "failed" for kind in kinds]),
            "error_kind": pa.array(kinds, pa.string()),
            "config_digest": pa.array(["d1"] * len(videos)),
        }
    )


def _run(place: str, *, videos: str = "/x", digest: str = "d1") -> Run:
    return Run(out=join(place, "out"), table="features", videos=videos, digest=digest)


def _write_all(run: Run, videos: pa.Table) -> None:
    parts = run.part_numbers(videos)
    for part in parts.unique().to_pylist():
        run.write_part(part, _rows(videos.filter(pa.compute.equal(parts, part))))


@pytest.mark.slow
def test_from_claim_to_published_table(place: str) -> None:
    run = _run(place)
    videos = run.videos_to_do({"n": 1}, lambda: _videos(10))
    assert videos.equals(_videos(10))
    assert run_folder.read_json(run.out)["state"] == "running"
    _write_all(run, videos)
    assert sorted(run.done_parts()) == list(range(10))
    with pytest.raises(UserError, match="no finished run"):
        runs.read_table(run.out)
    counts = run.check(videos)
    assert counts == {
        "videos": 10, "ok": 6, "failed": 4, "skipped": 0, "error_kinds": {"unreadable": 4},
    }  # fmt: skip
    run.publish({"n": 1}, {"counts": counts})
    assert run.is_finished()
    assert runs.read_table(run.out)["video_id"].equals(videos["video_id"])
    assert run_folder.read_json(run.out)["counts"] == counts
    assert not list(storage.list_files(join(run.out, "_staging"), hidden=True))


def test_the_listing_of_the_first_start_stays(place: str) -> None:
    _run(place).videos_to_do({}, lambda: _videos(3))
    again = _run(place).videos_to_do({}, lambda: pytest.fail("listed twice"))
    assert len(again) == 3


@pytest.mark.slow
@pytest.mark.parametrize("stop", ["before_publish", "half_published", "before_success"])
def test_a_kill_while_publishing_is_mended_by_the_next_run(place: str, stop: str) -> None:
    run = _run(place)
    videos = run.videos_to_do({}, lambda: _videos(5))
    _write_all(run, videos)
    if stop == "half_published" and storage.is_bucket(place):
        first = storage.read_bytes(run.part_uris(0)[0])
        storage.write_bytes(join(run.out, "features", "part-00000.parquet"), first)
    if stop == "before_success":
        storage.publish(join(run.out, "_staging"), join(run.out, "features"))
    again = _run(place)
    assert sorted(again.done_parts()) == list(range(5))
    again.publish({}, {"counts": again.check(videos)})
    assert len(runs.read_table(run.out)) == 5


@pytest.mark.slow
def test_lost_doubled_and_foreign_rows_are_noticed(place: str) -> None:
    run = _run(place)
    videos = run.videos_to_do({}, lambda: _videos(4))
    _write_all(run, videos.slice(0, 3))
    with pytest.raises(RuntimeError, match="3 rows for 4 videos"):
        run.check(videos)
    run.write_part(3, _rows(videos.slice(0, 1)))
    with pytest.raises(RuntimeError, match="lost or doubled"):
        run.check(videos)


def test_rows_of_other_settings_are_noticed(place: str) -> None:
    run = _run(place)
    videos = run.videos_to_do({}, lambda: _videos(2))
    _write_all(run, videos)
    foreign = _rows(videos.slice(1, 1)).set_column(3, "config_digest", pa.array(["other"]))
    run.write_part(1, foreign)
    with pytest.raises(RuntimeError, match="rows of other settings"):
        run.check(videos)


def test_an_unfinished_run_of_other_versions_is_not_gone_on_with(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(place).videos_to_do({}, lambda: _videos(2))
    monkeypatch.setattr(versions, "of", lambda _: {"vidray": "0.0.0"})
    with pytest.raises(UserError, match="other library versions"):
        _run(place).check_settings({})


def test_a_folder_holds_one_run(place: str) -> None:
    _run(place).videos_to_do({"enhance": "off"}, lambda: _videos(3))
    with pytest.raises(
        UserError, match=r"unfinished features of other settings \(enhance: off -> auto\)"
    ):
        _run(place, digest="d2").check_settings({"enhance": "auto"})
    with pytest.raises(UserError, match="other settings"):
        _run(place, videos="/y").check_settings({"enhance": "off"})
    _run(place).overwrite()
    _run(place, digest="d2").check_settings({"enhance": "auto"})


@pytest.mark.slow
def test_a_run_that_publishes_does_not_disturb_one_that_still_writes(place: str) -> None:
    """The second run finds the folder moved away under its feet, and its draft within it."""
    first, second = _run(place), _run(place)
    videos = first.videos_to_do({}, lambda: _videos(5))
    _write_all(first, videos)
    storage.write_bytes(join(first.out, "_staging", ".0a1b.draft"), b"half of a part")
    storage.write_bytes(join(first.out, "_staging", "notes.txt"), b"somebody's")
    first.publish({}, {"counts": first.check(videos)})
    assert second.read_part(4) is not None
    second.write_part(3, _rows(videos.slice(3, 1)))
    second.publish({}, {"counts": second.check(videos)})
    files = storage.list_files(first.out, hidden=True)
    names = sorted(info.uri.removeprefix(storage.canonical(first.out) + "/") for info in files)
    parts = [f"features/part-{k:05d}.parquet" for k in range(5)]
    notes = "features/notes.txt"  # Not ours, and not removed.
    assert names == ["_SUCCESS", notes, *parts, "run.json", "videos.parquet"]


@pytest.mark.slow
@pytest.mark.parametrize("look", ["read_parquet", "storage.list_files"])
def test_a_part_that_is_published_between_two_looks_is_found(
    place: str, look: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = _run(place), _run(place)
    videos = first.videos_to_do({}, lambda: _videos(3))
    _write_all(first, videos)
    counts = first.check(videos)
    look_once = read_parquet if look == "read_parquet" else storage.list_files

    def look_and_publish(*args: Any, **more: Any) -> Any:
        monkeypatch.setattr(f"vidray.tables.runs.{look}", look_once)
        try:
            found = look_once(*args, **more)
            return iter(list(found)) if look == "storage.list_files" else found
        finally:
            first.publish({}, {"counts": counts})

    monkeypatch.setattr(f"vidray.tables.runs.{look}", look_and_publish)
    if look == "read_parquet":
        assert second.read_part(1) is not None
    else:
        assert sorted(second.done_parts()) == [0, 1, 2]
    assert first.is_finished()


@pytest.mark.slow
def test_overwriting_removes_only_what_a_run_of_this_table_left(place: str) -> None:
    run = _run(place)
    storage.write_bytes(join(run.out, "videos.parquet"), b"a manifest of the user's")
    for act in (run.overwrite, lambda: run.check_settings({})):
        with pytest.raises(UserError, match=r"holds videos.parquet but no run.json"):
            act()
    storage.remove_tree(join(run.out, "videos.parquet"), inside=run.out)
    run.videos_to_do({}, lambda: _videos(1))
    storage.write_bytes(join(run.out, "notes.txt"), b"mine")
    run.overwrite()
    left = [storage.name_of(info.uri) for info in storage.list_files(run.out)]
    assert sorted(left) == ["notes.txt", "run.json"]  # The folder stays this job's.
    assert len(run.videos_to_do({}, lambda: _videos(3))) == 3


@pytest.mark.parametrize("count", [1, 63, 64, 65, 233, 4097, 100_000])
def test_parts_are_runs_of_rows_that_depend_on_their_number_only(count: int) -> None:
    parts = _run("/x").part_numbers(pa.table({"k": range(count)})).to_pylist()
    sizes = [parts.count(part) for part in range(min(parts[-1] + 1, 70))]
    assert parts == sorted(parts)
    assert max(sizes) <= 64
    assert len(set(sizes[:-1])) <= 1
    assert parts[-1] + 1 >= min(count, 33)


def test_same_table_same_bytes_and_readable_by_others(tmp_path: str) -> None:
    import pandas as pd

    table = _rows(_videos(7))
    assert parquet.parquet_bytes(table) == parquet.parquet_bytes(
        pa.concat_tables([table.slice(0, 3), table.slice(3)])
    )
    path = f"{tmp_path}/t.parquet"
    storage.write_bytes(path, parquet.parquet_bytes(table))
    assert pd.read_parquet(path)["status"].tolist() == table["status"].to_pylist()


def test_secrets_do_not_reach_run_json(place: str) -> None:
    from jobs.extract import ExtractConfig, Settings, _public

    address = "https://bob:hunter2@host/x.mp4?X-Amz-Signature=abc"
    run = _run(place, videos=storage.without_secrets(address))
    config = ExtractConfig(videos=address, out="/o")
    run.videos_to_do(_public(config, Settings()), lambda: _videos(1))
    told = json.dumps(run_folder.read_json(run.out))
    assert "host/x.mp4" in told
    assert "hunter2" not in told
    assert "Signature=abc" not in told


@pytest.mark.slow
def test_a_run_beside_this_one_may_publish_while_it_is_checked(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _run(place)
    videos = run.videos_to_do({}, lambda: _videos(5))
    _write_all(run, videos)
    staged = run.done_parts()
    run.publish({}, {})  # just after this run had listed its parts
    monkeypatch.setattr(Run, "done_parts", lambda _run: staged)
    assert run.check(videos)["videos"] == 5
