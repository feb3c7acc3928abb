"""Signed URLs: fetched with their signature, stored without it, also by runs that go on."""

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

import pyarrow as pa
import pytest

from tests.ray_cluster import Cluster, Job
from tests.video_writer import write_video
from tests.web import SIGNATURE, Web, serving
from vidray import storage
from vidray.distributed import pipeline
from vidray.distributed.sandbox import Sandbox
from vidray.errors import VideoError
from vidray.features.extraction import Settings, describe_video
from vidray.sources import list_videos
from vidray.sources.listing import video_id
from vidray.storage import addresses, json_file
from vidray.tables import run_folder, runs

_SIGNED = (
    f"X-Amz-Algorithm=AWS4&X-Amz-Credential=AKIA%2Fus&X-Amz-Signature={quote(SIGNATURE, safe='')}"
)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    folder = tmp_path / "web"
    folder.mkdir()
    for number, name in enumerate(("a.mp4", "b c.mp4", "one.mp4", "two.mp4")):
        write_video(folder / name, num_frames=10 + number)
    with serving(folder) as web:
        yield web


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_fetched", {})


def _manifest(web: Web, folder: Path) -> str:
    uri = str(folder / "list.csv")
    lines = [
        f"{web.address}/a.mp4?{_SIGNED},x",
        f"{web.address}/b%20c.mp4?{_SIGNED}#part,x",
        f"{web.address}/watch?v=one.mp4&{_SIGNED},y",
        f"{web.address}/watch?v=two.mp4&{_SIGNED},y",
        f"{web.address}/a.mp4?X-Amz-Signature=wrong&X-Amz-Date=1,x",
    ]
    Path(uri).write_text("path,label\n" + "\n".join(lines[:4]) + "\n")
    return uri


@pytest.mark.slow
def test_a_table_holds_no_signature_and_a_worker_gets_it(web: Web, tmp_path: Path) -> None:
    table = list_videos(_manifest(web, tmp_path))
    uris = table["uri"].to_pylist()
    assert uris[:2] == [f"{web.address}/a.mp4", f"{web.address}/b%20c.mp4"]
    assert table["video_id"].to_pylist()[0] == video_id(f"{web.address}/a.mp4")
    # Two videos of one page stay two, and the same two with a signature of tomorrow.
    assert len(set(uris)) == 4
    assert all(uri.startswith(f"{web.address}/watch#") for uri in uris[2:])
    assert not any("?" in uri or "Amz" in uri for uri in uris)
    assert all(size > 1000 for size in table["size_bytes"].to_pylist())
    tomorrow = f"{web.address}/watch?X-Amz-Signature=other&v=one.mp4&X-Amz-Date=9"
    assert storage.canonical(tomorrow) in uris
    storage.canonical(f"{web.address}/watch?v=one.mp4&{_SIGNED}")
    # A worker is another process: it knows what comes with the video, no more.
    videos = [{**row, "address": addresses.signed(row["uri"])} for row in table.to_pylist()]
    sandbox = Sandbox(
        "vidray.features.extraction:describe_videos",
        dataclasses.asdict(Settings(families=("color",))),
        memory_bytes=2 << 30,
        timeout_seconds=60,
    )
    try:
        batches = [sandbox.run(video) for video in videos]
        lost = sandbox.run({**videos[0], "uri": f"{web.address}/two.mp4", "address": None})
    finally:
        sandbox.close()
    rows = pa.Table.from_batches(batches).to_pylist()
    assert [row["status"] for row in rows] == ["ok"] * 4
    assert sorted(row["num_frames"] for row in rows) == [10, 11, 12, 13]
    assert SIGNATURE not in str(rows)
    (row,) = lost.to_pylist()
    assert (row["status"], row["error_kind"]) == ("failed", "denied")
    assert "address" not in batches[0].schema.names


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "kind"), [(403, "denied"), (401, "denied"), (404, "missing"), (503, "unavailable")]
)
def test_what_a_web_server_refuses_is_told_by_its_kind(web: Web, status: int, kind: str) -> None:
    web.refusal = status
    with pytest.raises(VideoError) as caught:
        storage.open_binary(storage.canonical(f"{web.address}/a.mp4?X-Amz-Signature=wrong"))
    assert caught.value.kind == kind
    assert "wrong" not in caught.value.message
    row = describe_video(
        {"uri": f"{web.address}/a.mp4", "size_bytes": 0, "fingerprint": "f"},
        Settings(families=("color",)),
    ).to_pylist()[0]
    assert (row["error_kind"], "Amz" in row["error_message"]) == (kind, False)


def test_a_signed_list_is_a_list(web: Web) -> None:
    (web.folder / "list.csv").write_text(f"path\n{web.address}/a.mp4?{_SIGNED}\n")
    (row,) = list_videos(f"{web.address}/list.csv?{_SIGNED}").to_pylist()
    assert row["uri"] == f"{web.address}/a.mp4"
    assert row["size_bytes"] > 1000


@pytest.mark.parametrize(
    ("query", "digest"),
    [
        ("Expires=1&Signature=a&Key-Pair-Id=b", False),
        ("sv=2024&sr=b&sig=x%3D&se=2026", False),
        ("X-Goog-Signature=1&X-Goog-Date=2", False),
        ("access_token=1", False),
        ("se=2026", True),  # no "sig": not Azure's, so it may say what is asked for
        ("versionId=7&X-Amz-Signature=1", True),
        ("id=7", True),
    ],
)
def test_a_signature_is_told_from_what_is_asked_for(query: str, digest: bool) -> None:
    stored = storage.canonical(f"https://h/a.mp4?{query}")
    assert stored.partition("#")[0] == "https://h/a.mp4"
    assert ("#" in stored) == digest
    assert storage.canonical(stored) == stored  # as in a table of ours that is given as a list
    assert addresses.fetched(stored) == f"https://h/a.mp4?{query}"


def test_addresses_are_listed_again_where_nobody_knows_them(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _manifest(web, tmp_path)
    plan = list_videos(source)  # what a run freezes
    monkeypatch.setattr(addresses, "_fetched", {})  # another process goes on with it
    listings: list[pa.Table] = []
    todo = pipeline._with_addresses(plan, lambda: listings.append(list_videos(source)))
    assert len(listings) == 1
    assert todo.drop_columns("address").equals(plan)
    assert all(SIGNATURE in unquote(address) for address in todo["address"].to_pylist())
    again = pipeline._with_addresses(plan, lambda: listings.append(plan))
    assert len(listings) == 1  # known now
    assert again.equals(todo)
    local = plan.set_column(1, "uri", pa.array(["/a.mp4", "s3://b/http.mp4", "/http", "http.mp4"]))
    assert pipeline._with_addresses(local.slice(0, 3), lambda: listings.append(plan)).equals(
        local.slice(0, 3)
    )
    assert len(listings) == 1


@pytest.mark.timeout(1500)
def test_a_run_goes_on_with_signed_urls_and_no_file_holds_them(
    web: Web, cluster: Cluster, tmp_path: Path
) -> None:
    source, out = _manifest(web, tmp_path), tmp_path / "out"
    job = Job("jobs/extract.py", cluster)
    flags = ("--videos", source, "--out", out, "--families", "color", "--show", 0)
    job.run(*flags)
    assert runs.read_table(str(out))["status"].to_pylist() == ["ok"] * 4
    expected = {part.name: part.read_bytes() for part in (out / "features").iterdir()}
    # As a job leaves it that is killed before its first part.
    (out / "_SUCCESS").unlink()
    shutil.rmtree(out / "features")
    header = run_folder.read_json(str(out))
    json_file.write_json(f"{out}/run.json", {**header, "state": "running"})
    web.asked.clear()
    job.run(*flags)
    assert {part.name: part.read_bytes() for part in (out / "features").iterdir()} == expected
    assert len(web.asked) >= 8  # listed and read again
    for path in (path for path in out.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert b"Amz" not in content
        assert b"s3cr3t" not in content
