"""Storage: the same behaviour on a folder and in a bucket, also when requests fail."""

import io
import os
import threading
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest

from tests.s3 import FaultyServer
from vidray import storage
from vidray.errors import UserError, VideoError


def _fill(place: str, names: list[str]) -> None:
    for name in names:
        storage.write_bytes(storage.join(place, name), name.encode())


def _listed(place: str, **how: bool) -> list[str]:
    return [file.uri.removeprefix(place + "/") for file in storage.list_files(place, **how)]


# Listing


def test_list_leaves_out_hidden_files_and_working_folders(place: str) -> None:
    shown = ["a/b/c.mp4", "a/x y.avi", "100% ünï,code #1.mp4", "_root.mp4", "a/_SUCCESS"]
    hidden = [".DS_Store", "a/._x.mp4", "_tmp/a.mp4", "a/.cache/b.mp4", "_runs/deep/er/c.mp4"]
    _fill(place, shown + hidden)
    assert sorted(_listed(place)) == sorted(shown)
    assert sorted(_listed(place, hidden=True)) == sorted(shown + hidden)


def test_hidden_is_judged_below_the_root_only(place: str) -> None:
    _fill(place, ["_tmp/.cache/a.mp4"])
    assert _listed(storage.join(place, "_tmp/.cache")) == ["a.mp4"]


def test_list_of_nothing_is_empty(place: str) -> None:
    assert _listed(storage.join(place, "not/there")) == []
    assert _listed(place) == []


def test_list_and_remove_go_on_after_the_first_page(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")  # S3's own pages hold 1000
    names = [f"{index:04d}.mp4" for index in range(10)]
    folder = storage.join(s3_bucket, "run")
    _fill(folder, names)
    assert _listed(folder) == names
    storage.remove_tree(folder, inside=s3_bucket)
    assert _listed(folder) == []


def test_listed_and_single_info_agree(place: str) -> None:
    _fill(place, ["a/b.mp4"])
    (listed,) = storage.list_files(place)
    assert listed == storage.file_info(listed.uri)
    assert listed == storage.file_infos([listed.uri])[0]
    assert listed.size_bytes == len("a/b.mp4")


def test_a_prefix_is_not_a_folder(place: str) -> None:
    _fill(place, ["run/a.mp4", "run2/b.mp4"])
    assert _listed(storage.join(place, "run")) == ["a.mp4"]
    assert not storage.exists(storage.join(place, "ru"))
    assert storage.is_folder(storage.join(place, "run"))
    assert not storage.is_folder(storage.join(place, "run/a.mp4"))
    assert storage.list_names(place) == ["run", "run2"]


def test_folder_markers_of_consoles_are_no_files(s3_bucket: str) -> None:
    fs, path = storage.filesystem(s3_bucket)
    fs.call_s3("put_object", Bucket=path, Key="videos/", Body=b"")
    _fill(s3_bucket, ["videos/a.mp4"])
    assert _listed(s3_bucket) == ["videos/a.mp4"]
    assert _listed(storage.join(s3_bucket, "videos")) == ["a.mp4"]


def test_links_loops_and_pipes(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.mp4").write_bytes(b"a")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "up").symlink_to(tmp_path)  # without care: for ever
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")  # opening it would wait for ever
    files = {
        file.uri.removeprefix(f"{tmp_path}/"): file for file in storage.list_files(str(tmp_path))
    }
    assert set(files) == {"real/a.mp4", "link/a.mp4", "gone.mp4"}
    assert files["gone.mp4"][1:] == (0, "missing")


def test_any_fsspec_storage_works(tmp_path: Path) -> None:
    place = "memory://vidray-test/videos"
    _fill(place, ["a/b.mp4", "_tmp/c.mp4", "d.mp4"])
    assert sorted(_listed(place)) == ["a/b.mp4", "d.mp4"]
    assert storage.open_binary(f"{place}/d.mp4").read() == b"d.mp4"
    assert storage.write_once(f"{place}/e.mp4", b"1")
    assert not storage.write_once(f"{place}/e.mp4", b"2")
    storage.remove_tree(place, inside="memory://vidray-test")
    assert _listed(place) == []


def test_unknown_protocol_is_the_users_error() -> None:
    with pytest.raises(UserError, match="nonsense://"):
        storage.filesystem("nonsense://a/b")


# Fingerprints


def test_fingerprint_changes_with_the_content_of_equal_size(place: str) -> None:
    uri = storage.join(place, "a.mp4")
    storage.write_bytes(uri, b"one")
    before = storage.file_info(uri)
    storage.write_bytes(uri, b"two")
    after = storage.file_info(uri)
    assert before.size_bytes == after.size_bytes
    assert before.fingerprint != after.fingerprint
    assert storage.file_info(uri) == after


def test_fingerprint_in_a_bucket_is_the_etag(s3_bucket: str) -> None:
    uri = storage.join(s3_bucket, "a.mp4")
    storage.write_bytes(uri, b"hello")
    assert storage.file_info(uri).fingerprint == "5d41402abc4b2a76b9719d911017c592"  # its MD5


# Reading


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 1, storage.WHOLE_FILE_BYTES, storage.WHOLE_FILE_BYTES + 7])
@pytest.mark.parametrize("known", [True, False])
def test_open_gives_every_byte_and_seeks(place: str, size: int, known: bool) -> None:
    uri = storage.join(place, "v.mp4")
    data = np.random.default_rng(size).bytes(size)
    storage.write_bytes(uri, data)
    with storage.open_binary(uri, size_bytes=size if known else None) as file:
        assert file.seekable()
        assert file.seek(0, io.SEEK_END) == size
        assert file.read(10) == b""
        file.seek(size // 2)
        assert file.read(1000) == data[size // 2 : size // 2 + 1000]
        assert file.tell() == min(size // 2 + 1000, size)
        file.seek(0)
        assert file.read() == data


def test_small_file_costs_one_request(faulty_s3: FaultyServer, s3_bucket: str) -> None:
    uri = storage.join(s3_bucket, "v.mp4")
    storage.write_bytes(uri, b"x" * 1000)
    faulty_s3.requests.clear()
    assert storage.open_binary(uri).read() == b"x" * 1000
    assert [request.split()[0] for request in faulty_s3.requests] == ["GET"]


@pytest.mark.slow
def test_big_file_is_read_in_blocks_within_64_mib(s3_bucket: str) -> None:
    uri = storage.join(s3_bucket, "big.mp4")
    size = 72 * 2**20
    storage.write_bytes(uri, bytes(size))
    with storage.open_binary(uri, size_bytes=size) as file:
        tracemalloc.start()
        while file.read(2**15):  # PyAV reads 32 KiB at a time
            # What the server, a thread of this process, allocates is not the file's.
            snapshot = tracemalloc.get_traced_memory()[0]
            assert snapshot < (64 + 24) * 2**20
        tracemalloc.stop()
        blocks = file._file.cache.cache_info()  # type: ignore[attr-defined]
    assert blocks.currsize * storage.buckets.BLOCK_BYTES <= 48 * 2**20


def test_video_decodes_straight_from_the_storage(place: str) -> None:
    memory = io.BytesIO()
    with av.open(memory, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in range(0, 200, 20):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    uri = storage.join(place, "v.mp4")
    storage.write_bytes(uri, memory.getvalue())
    with storage.open_binary(uri) as file, av.open(file) as container:
        levels = [frame.to_ndarray(format="rgb24").mean() for frame in container.decode(video=0)]
    assert np.allclose(levels, range(0, 200, 20), atol=3)


@pytest.mark.parametrize("read", [storage.file_info, storage.open_binary])
def test_a_vanished_file_is_missing(place: str, read: object) -> None:
    with pytest.raises(VideoError) as caught:
        read(storage.join(place, "a.mp4"))  # type: ignore[operator]
    assert caught.value.kind == "missing"
    assert place not in caught.value.message
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(storage.join(place, "a.mp4"))


def test_a_vanished_bucket_is_missing(s3_server: str) -> None:
    with pytest.raises(VideoError) as caught:
        storage.open_binary("s3://no-such-bucket-here/a.mp4")
    assert caught.value.kind == "missing"


def test_a_folder_is_no_video(place: str) -> None:
    _fill(place, ["a/b.mp4"])
    with pytest.raises(VideoError) as caught:
        storage.file_info(storage.join(place, "a"))
    assert caught.value.kind == "unreadable"


def test_infos_keep_a_row_for_every_file(place: str) -> None:
    _fill(place, ["a.mp4"])
    uris = [storage.join(place, name) for name in ("a.mp4", "b.mp4")]
    infos = storage.file_infos(uris)
    assert [info.uri for info in infos] == uris
    assert infos[1][1:] == (0, "missing")


# Faults


@pytest.mark.slow
def test_passing_faults_are_not_seen(faulty_s3: FaultyServer, s3_bucket: str) -> None:
    _fill(s3_bucket, ["a.mp4", "b.mp4"])
    uri = storage.join(s3_bucket, "a.mp4")
    faulty_s3.fail("GET", "list-type=2", 3)
    assert _listed(s3_bucket) == ["a.mp4", "b.mp4"]
    faulty_s3.fail("GET", "a.mp4", 3)
    assert storage.open_binary(uri).read() == b"a.mp4"
    faulty_s3.fail("HEAD", "a.mp4", 1, status="500 Internal Server Error")
    assert storage.file_info(uri).size_bytes == 5
    faulty_s3.fail("PUT", "a.mp4", 1, status="429 Too Many Requests")
    storage.write_bytes(uri, b"new")
    faulty_s3.fail("GET", "a.mp4", 1, action="cut")
    assert storage.read_bytes(uri) == b"new"
    assert all(fault.times == 0 for fault in faulty_s3.faults)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("503 Service Unavailable", "unavailable"),
        ("403 Forbidden", "denied"),
        ("404 Not Found", "missing"),
    ],
)
def test_lasting_faults_become_the_videos_error(
    faulty_s3: FaultyServer, s3_bucket: str, status: str, kind: str
) -> None:
    _fill(s3_bucket, ["a.mp4"])
    for method in ("GET", "HEAD"):
        faulty_s3.fail(method, "a.mp4", 1000, status=status)
    # Repeating a 503 takes seconds, and both ways to read repeat in the same place.
    for read in (storage.open_binary, storage.file_info)[: 1 if kind == "unavailable" else 2]:
        with pytest.raises(VideoError) as caught:
            read(storage.join(s3_bucket, "a.mp4"))
        assert caught.value.kind == kind
        assert "testing" not in caught.value.message  # the key and the secret of the tests


@pytest.mark.slow
def test_a_cut_connection_is_no_shorter_file(faulty_s3: FaultyServer, s3_bucket: str) -> None:
    _fill(s3_bucket, ["a.mp4"])
    faulty_s3.fail("GET", "a.mp4", 1000, action="cut")
    with pytest.raises(VideoError) as caught:
        storage.open_binary(storage.join(s3_bucket, "a.mp4"))
    assert caught.value.kind == "unavailable"


@pytest.mark.slow
def test_a_fault_in_a_later_block_is_the_videos_error(
    faulty_s3: FaultyServer, s3_bucket: str
) -> None:
    uri = storage.join(s3_bucket, "big.mp4")
    size = storage.WHOLE_FILE_BYTES + 1
    storage.write_bytes(uri, bytes(size))
    file = storage.open_binary(uri, size_bytes=size)
    assert file.read(100) == bytes(100)
    faulty_s3.fail("GET", "big.mp4", 1000)
    file.seek(10 * 2**20)
    with pytest.raises(VideoError) as caught:
        file.read(100)
    assert caught.value.kind == "unavailable"


@pytest.mark.slow
def test_a_file_that_changes_while_read_is_no_mixture(s3_bucket: str) -> None:
    uri = storage.join(s3_bucket, "big.mp4")
    size = storage.WHOLE_FILE_BYTES + 1
    storage.write_bytes(uri, bytes(size))
    file = storage.open_binary(uri, size_bytes=size)
    file.read(100)
    storage.write_bytes(uri, b"\1" * size)
    file.seek(10 * 2**20)
    with pytest.raises(VideoError) as caught:
        file.read(100)
    assert caught.value.kind == "unavailable"


@pytest.mark.slow
def test_a_dead_endpoint_ends(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(VideoError) as caught:
        storage.open_binary("s3://bucket/a.mp4")
    assert caught.value.kind == "unavailable"


def test_no_credentials_is_denied(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")  # other options: a new connection
    with pytest.raises(VideoError) as caught:
        storage.file_info(storage.join(s3_bucket, "a.mp4"))
    assert caught.value.kind == "denied"


def test_messages_hold_no_secrets() -> None:
    text = "GET https://user:pa55@host/a%20b.mp4?X-Amz-Signature=abc failed; s3://b/clip?.mp4"
    assert storage.without_secrets(text) == "GET https://host/a%20b.mp4 failed; s3://b/clip?.mp4"


# Writing


def test_write_replaces_whole_files(place: str) -> None:
    uri = storage.join(place, "deep/er/run.json")
    storage.write_bytes(uri, b"1" * 1000)
    storage.write_bytes(uri, b"2")
    assert storage.read_bytes(uri) == b"2"
    assert _listed(place, hidden=True) == ["deep/er/run.json"]


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = str(tmp_path / "run.json")
    storage.write_bytes(uri, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        storage.write_bytes(uri, b"new")
    assert storage.read_bytes(uri) == b"old"
    assert os.listdir(tmp_path) == ["run.json"]


def test_written_files_have_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").write_bytes(b"")
    storage.write_bytes(str(tmp_path / "ours"), b"")
    assert storage.write_once(str(tmp_path / "once"), b"")
    modes = {(tmp_path / name).stat().st_mode for name in ("usual", "ours", "once")}
    assert len(modes) == 1


def test_exactly_one_of_many_writers_creates(place: str) -> None:
    uri = storage.join(place, "lease")
    won: list[int] = []

    def write(number: int) -> None:
        if storage.write_once(uri, str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert storage.read_bytes(uri) == str(won[0]).encode()
    assert not storage.write_once(uri, b"late")
    assert _listed(place, hidden=True) == ["lease"]


@pytest.mark.slow
def test_a_lost_answer_does_not_lose_the_lease(faulty_s3: FaultyServer, s3_bucket: str) -> None:
    uri = storage.join(s3_bucket, "lease")
    faulty_s3.fail("PUT", "lease", 1, action="lose")  # done, but the answer is 503: sent again
    assert storage.write_once(uri, b"mine")
    assert not storage.write_once(uri, b"mine")
    assert storage.read_bytes(uri) == b"mine"


def test_remove_tree(place: str) -> None:
    _fill(place, ["run/a b", "run/_x/.hidden", "run/*", "run2/keep"])
    storage.remove_tree(storage.join(place, "run"), inside=place)
    storage.remove_tree(storage.join(place, "run"), inside=place)
    assert _listed(place, hidden=True) == ["run2/keep"]


def test_an_empty_path_is_not_the_current_folder() -> None:
    with pytest.raises(UserError, match="empty path"):
        storage.remove_tree("", inside="/")


def test_only_what_is_inside_is_removed(place: str) -> None:
    _fill(place, ["out/a", "out/deep/b", "outside/c", "d"])
    out = storage.join(place, "out")
    for uri in (
        out, place, f"{out}/", f"{out}/.", f"{out}/..", f"{out}/deep/../..", f"{out}/../outside",
        f"{out}side", f"{out}/deep/../../outside/c", storage.join(place, "d"), "/", "s3://other/a",
        "memory://out/a",
    ):  # fmt: skip
        with pytest.raises(UserError, match=r"is not inside .*, so it is not removed"):
            storage.remove_tree(uri, inside=out)
    assert sorted(_listed(place, hidden=True)) == ["d", "out/a", "out/deep/b", "outside/c"]
    storage.remove_tree(f"{out}/deep", inside=out)
    storage.remove_tree(f"{out}/a", inside=f"{out}/")
    assert sorted(_listed(place, hidden=True)) == ["d", "outside/c"]


def test_another_storage_of_the_same_path_is_not_inside(tmp_path: Path) -> None:
    _fill(str(tmp_path), ["a"])
    with pytest.raises(UserError, match="is not inside"):
        storage.remove_tree(f"{tmp_path}/a", inside=f"memory:/{tmp_path}")
    with pytest.raises(UserError, match="is not inside"):
        storage.remove_tree(f"memory:/{tmp_path}/a", inside=str(tmp_path))
    assert (tmp_path / "a").exists()


def test_links_do_not_lead_out_of_what_is_removed(tmp_path: Path) -> None:
    _fill(str(tmp_path), ["victim/keep", "out/own", "real/own"])
    out = tmp_path / "out"
    (out / "link").symlink_to(tmp_path / "victim")
    with pytest.raises(UserError, match="is not inside"):
        storage.remove_tree(f"{out}/link/keep", inside=str(out))
    storage.remove_tree(f"{out}/link", inside=str(out))  # the link, not what it leads to
    assert (tmp_path / "victim" / "keep").exists()
    (tmp_path / "alias").symlink_to(tmp_path / "real")  # --out may be a link itself
    storage.remove_tree(f"{tmp_path}/alias/own", inside=f"{tmp_path}/alias")
    assert not (tmp_path / "real" / "own").exists()


# Publishing


def test_publish_moves_everything_and_may_be_repeated(place: str) -> None:
    source, target = storage.join(place, "_tmp/run"), storage.join(place, "out/run")
    names = ["_SUCCESS", "a.parquet", "deep/b 100%.parquet", "_x/.c"]
    _fill(source, names)
    for _ in range(2):
        storage.publish(source, target)
        assert sorted(_listed(target, hidden=True)) == sorted(names)
        assert not storage.exists(source)
    assert storage.read_bytes(storage.join(target, "a.parquet")) == b"a.parquet"


def test_publish_of_nothing_raises(place: str) -> None:
    with pytest.raises(FileNotFoundError):
        storage.publish(storage.join(place, "no"), storage.join(place, "out"))


def test_publish_never_overwrites_a_folder(tmp_path: Path) -> None:
    for name in ("new", "out"):
        _fill(str(tmp_path / name), ["a"])
    with pytest.raises(FileExistsError, match="not empty"):
        storage.publish(str(tmp_path / "new"), str(tmp_path / "out"))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["PUT", "POST"])  # killed between copies; between deletes
def test_interrupted_publish_completes(
    faulty_s3: FaultyServer, s3_bucket: str, method: str
) -> None:
    source, target = storage.join(s3_bucket, "_tmp/run"), storage.join(s3_bucket, "run")
    names = ["_SUCCESS", *(f"{index}.parquet" for index in range(5))]
    _fill(source, names)
    where = "3.parquet" if method == "PUT" else "delete"
    faulty_s3.fail(method, where, 1000, status="403 Forbidden")
    with pytest.raises(PermissionError):
        storage.publish(source, target)
    published = _listed(target, hidden=True)
    assert ("_SUCCESS" in published) == (method == "POST")  # copied after everything else
    faulty_s3.faults.clear()
    storage.publish(source, target)
    assert sorted(_listed(target)) == sorted(names)
    assert _listed(source, hidden=True) == []


def test_a_fault_in_a_later_block_passes_through_the_decoder(
    faulty_s3: FaultyServer, s3_bucket: str
) -> None:
    uri = storage.join(s3_bucket, "big.mp4")
    storage.write_bytes(uri, bytes(storage.WHOLE_FILE_BYTES + 1))
    file = storage.open_binary(uri, size_bytes=storage.WHOLE_FILE_BYTES + 1)
    faulty_s3.fail("GET", "big.mp4", 1000, status="403 Forbidden")
    with pytest.raises(VideoError) as caught:
        av.open(file)
    assert caught.value.kind == "denied"
