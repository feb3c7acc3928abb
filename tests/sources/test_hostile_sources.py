"""Names, folders and lists made to break a listing: each odd entry costs its own row, no more."""

import contextlib
import json
import logging
import os
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.s3 import FaultyServer
from tests.video_writer import write_video
from vidray import storage
from vidray.errors import UserError, VideoError
from vidray.features.extraction import Settings, describe_video
from vidray.sources import list_videos, manifests
from vidray.sources.listing import video_id

_COLOR = Settings(families=("color",))


def _put(place: str, *names: str) -> None:
    for name in names:
        storage.write_bytes(f"{place}/{name}", name.encode())


def _content(uri: str) -> bytes:
    with storage.open_binary(uri) as file:
        return file.read()


def _row(video: dict[str, Any]) -> dict[str, Any]:
    """The row that extraction makes of it."""
    (row,) = describe_video(video, _COLOR).to_pylist()
    return dict(row)


# Names. Any that a file system and a bucket take is listed, found by itself and found by a list.

_NAMES = [
    "%41.mp4", "100%.mp4", "%.mp4", "a%00b.mp4", "a b.mp4", "a  b.mp4", "a#b.mp4", "a?b.mp4",
    "a*b.mp4", "[ab].mp4", "a;b.mp4", "a,b.mp4", "it's.mp4", 'say "a".mp4', "a&b=c.mp4", "+.mp4",
    "~.mp4", "~root.mp4", "$(reboot).mp4", "`reboot`.mp4", "a|b.mp4", "-rf.mp4", "--help.mp4",
    "q?versionId=7.mp4", "zip::x.mp4", "s3:x.mp4", "C:.mp4", "a@b.mp4", "u:p@h.mp4", "\\.mp4",
    "a\\b.mp4", "é.mp4", "e\u0301.mp4", "日本.mp4", "👩‍👧.mp4", "\u202egp4.mp4", "a\tb.mp4",
    "a\x1b[31m.mp4",
    "a\u2028b.mp4", "x" * 251 + ".mp4", "a.mp4.mp4", "a.b.c.MP4", "label 7.mp4", "v_A_g01_c01.avi",
]  # fmt: skip


@pytest.mark.parametrize("name", _NAMES)
def test_a_name_is_listed_and_comes_back(place: str, name: str) -> None:
    _put(place, f"class/{name}", "class/other.mp4")
    uri = f"{place}/class/{name}"
    rows = {row["uri"]: row for row in list_videos(place).to_pylist()}
    assert set(rows) == {uri, f"{place}/class/other.mp4"}
    assert rows[uri]["label"] == "class"
    assert rows[uri]["video_id"] == video_id(uri)
    assert storage.canonical(uri) == uri
    assert _content(uri) == f"class/{name}".encode()
    assert list(list_videos(uri)["uri"].to_pylist()) == [uri]
    quoted = name.replace('"', '""')
    storage.write_bytes(f"{place}/l.csv", f'path,label\n"class/{quoted}",class\n'.encode())
    (listed,) = list_videos(f"{place}/l.csv").to_pylist()
    group = "A_g01" if name.startswith("v_A") else None
    assert listed == {**rows[uri], "group": group}


def test_a_video_of_a_name_that_is_not_utf8_is_decoded(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"na\xefve 100%")
    folder.mkdir()
    path = folder / os.fsdecode(b"caf\xe9.mp4")
    write_video(tmp_path / "v.mp4", num_frames=7)
    os.rename(tmp_path / "v.mp4", path)
    (video,) = list_videos(str(tmp_path)).to_pylist()
    assert video["uri"] == f"file://{tmp_path}/na%EFve%20100%25/caf%E9.mp4"
    assert video["label"] == "na%EFve%20100%25"
    row = _row(json.loads(json.dumps(video)))  # as it goes to a sandbox
    assert (row["status"], row["num_frames"]) == ("ok", 7)
    # By a list, and with the folder itself as the source.
    (tmp_path / "l.csv").write_text(f"path,label\n{video['uri']},{video['label']}\n")
    assert list_videos(str(tmp_path / "l.csv")).to_pylist() == [video]
    assert list_videos(str(folder))["uri"].to_pylist() == [video["uri"]]


@pytest.mark.parametrize(
    "key",
    ["a//b.mp4", "//b.mp4", "a/./b.mp4", "./b.mp4", "a/../b.mp4", "../b.mp4", "a/q?versionId=1.mp4",
     "a.mp4/b.mp4", "a/...mp4/b.mp4", " /b.mp4", "a/b.mp4?v=1.mp4"],
)  # fmt: skip
def test_a_key_is_taken_as_it_is(s3_bucket: str, key: str) -> None:
    fs, bucket = storage.filesystem(s3_bucket)
    # Beside it what it would mean as a path, and with fewer slashes, and before "?".
    decoys = {"b.mp4", "a/b.mp4", "a/q", "a.mp4", "q", "a/b.mp4?v=1"}
    for name in {key, *decoys} - {""}:
        fs.call_s3("put_object", Bucket=bucket, Key=f"d/{name}", Body=name.encode())
    uri = f"{s3_bucket}/d/{key}"
    # By its path too, where that begins neither as one of the machine's nor with space.
    lines = [uri] if key[0] in "/ " else [uri, key]
    storage.write_bytes(f"{s3_bucket}/d/l.csv", "\n".join(["path", *lines]).encode())
    (row,) = list_videos(f"{s3_bucket}/d/l.csv").to_pylist()
    assert row["uri"] == uri
    assert _content(uri) == key.encode()
    if "..." not in key:  # a folder of a name with a dot before it is hidden
        assert uri in list_videos(f"{s3_bucket}/d")["uri"].to_pylist()
    big = storage.buckets.open_blocks(*storage.filesystem(uri))
    assert big.read() == key.encode()
    big.close()


def test_an_object_and_a_folder_of_one_name_are_both_there(s3_bucket: str) -> None:
    _put(s3_bucket, "d/x.mp4", "d/x.mp4/y.mp4", "d/x.mp4/z/w.mp4", "e", "e/f.mp4")
    uris = [f"{s3_bucket}/{name}" for name in ("d/x.mp4", "d/x.mp4/y.mp4", "d/x.mp4/z/w.mp4")]
    for source in ("d", "d/x.mp4"):
        assert list_videos(f"{s3_bucket}/{source}")["uri"].to_pylist() == uris
    assert list_videos(f"{s3_bucket}/e")["uri"].to_pylist() == [f"{s3_bucket}/e/f.mp4"]
    assert [_content(uri) for uri in uris] == [
        u.removeprefix(f"{s3_bucket}/").encode() for u in uris
    ]


# Folders of this machine


@contextlib.contextmanager
def _as_nobody() -> Iterator[None]:
    """Without root's right to read everything."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A folder that another user can reach, with a good video in it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        _put(name, "a/good.mp4")
        yield folder
        for path in folder.rglob("*"):
            if not path.is_symlink() and path.is_dir():
                path.chmod(0o755)


def _loop(folder: Path) -> None:
    (folder / "a/x.mp4").symlink_to(folder / "a/x.mp4")


def _two_loops(folder: Path) -> None:
    (folder / "a/x.mp4").symlink_to(folder / "a/y")
    (folder / "a/y").symlink_to(folder / "a/x.mp4")


def _through_a_file(folder: Path) -> None:
    (folder / "a/x.mp4").symlink_to(folder / "a/good.mp4/deeper.mp4")


def _to_a_long_name(folder: Path) -> None:
    (folder / "a/x.mp4").symlink_to("y" * 300)


def _to_nothing(folder: Path) -> None:
    (folder / "a/x.mp4").symlink_to("nothing")


def _locked(folder: Path) -> None:
    (folder / "a/x.mp4").write_bytes(b"x")
    (folder / "a/x.mp4").chmod(0)


def _into_a_locked_folder(folder: Path) -> None:
    (folder / "_locked").mkdir()
    (folder / "_locked/x.mp4").write_bytes(b"x")
    (folder / "a/x.mp4").symlink_to(folder / "_locked/x.mp4")
    (folder / "_locked").chmod(0)


def _not_to_be_searched(folder: Path) -> None:
    (folder / "b").mkdir()
    (folder / "b/x.mp4").write_bytes(b"x")
    (folder / "b").chmod(0o444)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (_loop, "missing"), (_two_loops, "missing"), (_through_a_file, "missing"),
        (_to_a_long_name, "missing"), (_to_nothing, "missing"),
        (_into_a_locked_folder, "denied"), (_not_to_be_searched, "denied"), (_locked, "denied"),
    ],
)  # fmt: skip
def test_an_entry_that_cannot_be_looked_at_is_one_row(
    open_to_all: Path, make: Callable[[Path], None], kind: str
) -> None:
    make(open_to_all)
    with _as_nobody():
        rows = {Path(row["uri"]).name: row for row in list_videos(str(open_to_all)).to_pylist()}
        assert set(rows) == {"good.mp4", "x.mp4"}
        assert rows["good.mp4"]["size_bytes"] == len("a/good.mp4")
        if make is not _locked:  # whose size anybody may know
            assert (rows["x.mp4"]["size_bytes"], rows["x.mp4"]["fingerprint"]) == (0, kind)
        row = _row(rows["x.mp4"])
    assert (row["status"], row["error_kind"]) == ("failed", kind)
    assert str(open_to_all) not in row["error_message"]


def test_locked_folders_are_told_and_passed(
    open_to_all: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("b", "c\n\x1b[31m", "d", "e"):
        (open_to_all / name).mkdir(mode=0)
    with _as_nobody(), caplog.at_level(logging.WARNING, "vidray"):
        assert len(list_videos(str(open_to_all))) == 1
    (line,) = caplog.messages
    assert "4: " in line
    assert f"{open_to_all}/b (Permission denied)" in line
    assert "1 more" in line
    assert line.isprintable()


def test_a_locked_source_is_told_without_advice_for_buckets(open_to_all: Path) -> None:
    (open_to_all / "a").chmod(0)
    with _as_nobody(), pytest.raises(UserError, match=r"access denied.*permissions") as error:
        list_videos(str(open_to_all / "a"))
    assert "AWS" not in str(error.value)


@pytest.mark.slow
def test_eleven_hundred_nested_folders(tmp_path: Path) -> None:
    place = str(tmp_path)
    for _ in range(1100):
        place += "/d"
        os.mkdir(place)
    try:
        _put(place, "v.mp4")
        (row,) = list_videos(str(tmp_path)).to_pylist()
        assert _content(row["uri"]) == b"v.mp4"
    finally:  # pytest's own way to tidy up is recursive
        subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)


def test_a_path_longer_than_the_system_takes_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    _put(str(tmp_path), "good.mp4")
    monkeypatch.chdir(tmp_path)
    for _ in range(25):
        os.mkdir("x" * 200)
        os.chdir("x" * 200)
    Path("v.mp4").write_bytes(b"")
    os.chdir(tmp_path)
    with caplog.at_level(logging.WARNING, "vidray"):
        assert len(list_videos(str(tmp_path))) == 1
    assert "File name too long" in caplog.text


def test_links_among_links_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Thirty folders, each with two links to the next: 2 ** 30 paths to one video."""
    for number in range(30):
        (tmp_path / f"_l{number}").mkdir()
        for name in ("p", "q"):
            (tmp_path / f"_l{number}" / name).symlink_to(tmp_path / f"_l{number + 1}")
    (tmp_path / "_l30").mkdir()
    (tmp_path / "_l30" / "v.mp4").write_bytes(b"v")
    (tmp_path / "first").symlink_to(tmp_path / "_l0")
    (tmp_path / "second").symlink_to(tmp_path / "_l0")
    table = list_videos(str(tmp_path))
    assert 1 <= len(table) <= 2
    assert "read already" in caplog.text


def test_pipes_and_devices_are_no_videos_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "zero.mp4").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.mp4"))
    (tmp_path / "l.csv").write_text("path\npipe.mp4\nzero.mp4\nsocket.mp4\n/dev/stdin\n")
    rows = list_videos(str(tmp_path / "l.csv")).to_pylist()
    assert [row["fingerprint"] for row in rows] == ["unreadable"] * 4
    assert {_row(row)["error_kind"] for row in rows} == {"unreadable"}
    with pytest.raises(UserError, match="no video below"):
        list_videos(str(tmp_path))


# Lines of a list. Kinds: in a list of this machine, in one in a bucket; "ok" is the good video.

_LINES: list[tuple[str, str, str]] = [
    ("good.mp4", "ok", "ok"),
    ("./good.mp4", "ok", "ok"),
    ("x/../good.mp4", "ok", "ok"),
    (".//good.mp4", "ok", "ok"),
    (".\\good.mp4", "ok", "ok"),
    ("gone.mp4", "missing", "missing"),
    ("good.mp4/deeper.mp4", "missing", "missing"),
    (".", "unreadable", "unreadable"),
    ("foo://x/a.mp4", "unavailable", "unavailable"),
    ("gs://bucket/a.mp4", "unavailable", "unavailable"),
    ("az://container/a.mp4", "unavailable", "unavailable"),
    ("abfs://c@account.dfs.core.windows.net/a.mp4", "unavailable", "unavailable"),
    ("hdfs://node/a.mp4", "unavailable", "unavailable"),
    ("sftp://user@host/a.mp4", "unavailable", "unavailable"),
    ("smb://host/a.mp4", "unavailable", "unavailable"),
    ("zip://a.zip", "unavailable", "denied"),
    ("zip://a.mp4::file:///etc/passwd", "unavailable", "denied"),
    ("tar://a.mp4::/etc/passwd", "unavailable", "denied"),
    ("simplecache::file:///etc/passwd", "denied", "denied"),
    ("filecache::https://h/a.mp4", "denied", "denied"),
    ("reference://x", "unavailable", "denied"),
    ("git://./x", "unavailable", "denied"),
    ("dir::file:///etc/passwd", "denied", "denied"),
    ("/etc/passwd", "listed", "denied"),
    ("//etc/passwd", "listed", "denied"),
    ("file:///etc/passwd", "listed", "denied"),
    ("FILE:///etc/passwd", "listed", "denied"),
    ("local:///etc/passwd", "listed", "denied"),
    ("file://localhost/etc/passwd", "listed", "denied"),
    ("file:///%65tc/passwd", "listed", "denied"),
    ("../../../../../../../../../../../../etc/passwd", "listed", "denied"),
    ("../../other-bucket/a.mp4", "missing", "denied"),
    ("..\\..\\other-bucket\\a.mp4", "missing", "denied"),
    ("s3://", "unavailable", "unavailable"),
    ("s3:///a.mp4", "unavailable", "unavailable"),
    ("s3://a b/c.mp4", "unavailable", "unavailable"),
    ("s3://key:s3cr3t@bucket/a.mp4", "denied", "denied"),
    ("https://user:s3cr3t@host/a.mp4", "denied", "denied"),
    ("https://user@host/a.mp4", "denied", "denied"),
    ("https://u:s3@cr3t@host/a.mp4", "denied", "denied"),
    ("https://u:s3/cr3t@host/a.mp4?sig=s3cr3t", "unavailable", "unavailable"),
    ("https://", "unavailable", "unavailable"),
    ("https:///a.mp4", "unavailable", "unavailable"),
    ("http://127.0.0.1:9/a.mp4?X-Amz-Signature=s3cr3t", "unavailable", "unavailable"),
    ("a\0b.mp4", "missing", "missing"),
    ("\0", "missing", "missing"),
    ("y" * 300 + ".mp4", "missing", "missing"),
    ("y/" * 3000 + "a.mp4", "missing", "missing"),
    ("y" * 200_000, "missing", "unavailable"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("line", "local", "bucket"), _LINES, ids=[repr(c[0])[:40] for c in _LINES])
def test_a_line_of_a_list_costs_one_row(
    place: str, line: str, local: str, bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    kind = bucket if storage.is_bucket(place) else local
    _put(place, "d/good.mp4", "d/second.mp4")
    text = f'path,label\nsecond.mp4,x\n"{line}",x\n'
    storage.write_bytes(f"{place}/d/list.csv", text.encode())
    with caplog.at_level(logging.WARNING, "vidray"):
        rows = list_videos(f"{place}/d/list.csv").to_pylist()
    assert len(rows) == 2
    (second,) = (row for row in rows if row["uri"] == f"{place}/d/second.mp4")
    (odd,) = (row for row in rows if row is not second)
    assert _content(second["uri"]) == b"d/second.mp4"
    told = " ".join([str(rows), caplog.text])
    assert "s3cr3t" not in told
    assert "cr3t" not in told
    if kind == "ok":
        assert odd["uri"] == f"{place}/d/good.mp4"
        assert _content(odd["uri"]) == b"d/good.mp4"
        return
    if kind == "listed":  # what a list of this machine may name
        assert odd["size_bytes"] == os.stat("/etc/passwd").st_size
        return
    assert odd["size_bytes"] == 0
    found, colon, reason = odd["fingerprint"].partition(": ")
    assert found == kind
    assert not colon or "list.csv line 3: " in caplog.text
    row = _row(odd)
    # In a bucket, what is no file when it is listed is no object when it is asked for.
    kinds = (kind, "missing") if line == "." else (kind,)
    assert row["status"] == "failed"
    assert row["error_kind"] in kinds
    assert not colon or row["error_message"] == reason
    assert "s3cr3t" not in str(row)
    assert "\n" not in row["error_message"]


def test_a_refused_row_stays_refused_by_whoever_reads_it(s3_bucket: str, tmp_path: Path) -> None:
    """The row of a file that is there, and that a list in a bucket must not name."""
    secret = tmp_path / "private.mp4"
    secret.write_bytes(b"private")
    storage.write_bytes(f"{s3_bucket}/l.csv", f"path\n{secret}\n".encode())
    (video,) = list_videos(f"{s3_bucket}/l.csv").to_pylist()
    row = _row(video)
    assert (row["error_kind"], row["uri"]) == ("denied", str(secret))
    assert "list in a bucket" in row["error_message"]


def test_a_million_bad_lines_are_a_few_in_the_log(
    place: str, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [f"foo{number}://x/a.mp4" for number in range(50)] + ["gs://b/a.mp4", "gs://b/b.mp4"]
    storage.write_bytes(f"{place}/l.csv", "\n".join(["path", *lines]).encode())
    with caplog.at_level(logging.WARNING, "vidray"):
        assert len(list_videos(f"{place}/l.csv")) == 52
    told = [one.getMessage() for one in caplog.records if one.name.startswith("vidray")]
    assert len(told) == 6
    assert sum("pip install gcsfs (2 entries)" in message for message in told) == 1


# Whole lists: one line that says what is wrong, or the rows that it means


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("l.csv", b"\xff\xfe\x00", "UTF-8|no path column|is empty"),
        ("l.csv", b"\xef\xbb\xbf", "is empty"),
        ("l.csv", b"\x00\x01\x02\x03\xff", "not UTF-8"),
        ("l.csv", b"," * 200_000, "is empty"),
        ("l.csv", b"a," * 100_000, "no path column"),
        (
            "l.csv",
            b"path,begin_seconds,end_seconds\na.mp4,nan,2\n",
            "line 2 .*stretch from nan to 2",
        ),
        (
            "l.csv",
            b"path,begin_seconds,end_seconds\na.mp4,0,inf\n",
            "line 2 .*stretch from 0 to inf",
        ),
        ("l.csv", b"path,begin_seconds,end_seconds\na.mp4,-1,2\n", "line 2 .*stretch from -1 to 2"),
        ("l.csv", b"path,begin_seconds,end_seconds\na.mp4,2,2\n", "line 2 .*stretch from 2 to 2"),
        ("l.csv", b"path,begin_seconds,end_seconds\na.mp4,1,\n", "line 2 .*stretch from 1 to None"),
        ("l.csv", b"path,begin_seconds,end_seconds\na.mp4,x,2\n", "line 2 .*stretch from x to 2"),
        ("l.csv", b"path,begin_seconds\na.mp4,1\n", "begin_seconds alone"),
        ("l.csv", b"a 250 0\nb 130 1\n", "folders of frames"),
        ("l.parquet", b"PAR1" * 100, "not a Parquet"),
        ("l.json", b"[" * 200_000, "not JSON"),
        ("l.json", b'{"a": 1', "not JSON"),
        ("l.json", b"[1, 2]", "no list of videos"),
        ("l.json", b'[{"label": "x"}]', "entry 1 has no path"),
        ("l.json", b'[{"id": "gone"}]', "names no file .*give a CSV"),
        ("l.txt", b"," * 200_000, "no path|names no file"),
        ("l.txt", b"a " * 100_000, "names no file"),
        ("splits/train.txt", b", 7\n", "line 1 has no path"),
        ("splits/train.json", b"null", "no list of videos"),
        ("splits/turn_test_split1.txt", b"a.mp4 7\n", "code 7: HMDB-51's are"),
        ("splits/train.txt", b"x/a.mp4 250 0\n", "folders of frames"),
    ],
)
def test_a_broken_list_is_one_line(place: str, name: str, data: bytes, message: str) -> None:
    storage.write_bytes(f"{place}/{name}", data)
    source = place if name.startswith("splits/") else f"{place}/{name}"
    with pytest.raises(UserError, match=message) as error:
        list_videos(source)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 6000


@pytest.mark.parametrize("separator", [",", " ", ";", " ,; "])
@pytest.mark.parametrize("end", ["", " 7", ".mp4", " .mp4 x"])
@pytest.mark.timeout(60)
def test_a_line_of_separators_takes_no_hours(separator: str, end: str) -> None:
    """200,000 of them: the way that tried each gap as the end of the path took 5 s for 8,000."""
    line = f"a.mp4{separator * 200_000}x{end}"
    (entry,) = manifests.read_lines(line.encode(), "train.txt", None)
    assert entry.path.startswith("a.mp4")


def test_json_may_hold_half_a_character(place: str) -> None:
    _put(place, "7.mp4")
    text = json.dumps([{"id": "7", "template": "Moving [\ud800]"}])
    storage.write_bytes(f"{place}/train.json", text.encode())
    assert list_videos(f"{place}/train.json")["label"].to_pylist() == ["Moving ?"]


# Sources


@pytest.mark.parametrize(
    "source",
    ["s3://", "s3:", "s3:/", "s3:/bucket/a", "s3:///a", "S3://", "gs://", "https://", "https:///x",
     "s3://a b/c", "s3://bücket/x", "https://user:s3cr3t@host/l.csv", "s3://k:s3cr3t@b/x",
     "https://u:s3/cr3t@host/l.csv"],
)  # fmt: skip
def test_an_address_without_a_bucket_or_with_a_password_is_refused(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for use in (list_videos, storage.canonical, lambda uri: storage.write_bytes(uri, b"")):
        with pytest.raises(UserError) as error:
            use(source)
        assert "cr3t" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_looks_like_an_address_can_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _put(f"{tmp_path}/s3:", "a.mp4")
    assert len(list_videos("./s3:")) == 1


@pytest.mark.slow
def test_what_fails_while_a_folder_is_listed_is_one_line(
    faulty_s3: FaultyServer, s3_bucket: str
) -> None:
    _put(s3_bucket, "a.mp4")
    faulty_s3.fail("GET", "list-type=2", 1000, status="500 Internal Server Error")
    with pytest.raises(UserError, match=f"cannot read {s3_bucket}.*AWS_ENDPOINT_URL"):
        list_videos(s3_bucket)


# Buckets


def test_an_object_in_an_archive_is_archived_until_it_is_restored(s3_bucket: str) -> None:
    fs, bucket = storage.filesystem(s3_bucket)
    put = {"Bucket": bucket, "Key": "a/cold.mp4", "Body": b"cold"}
    fs.call_s3("put_object", **put, StorageClass="GLACIER")
    _put(s3_bucket, "a/warm.mp4")
    cold, warm = list_videos(s3_bucket).to_pylist()
    for size_bytes in (None, 4, 1 << 30):
        with pytest.raises(VideoError) as caught:
            storage.open_binary(cold["uri"], size_bytes=size_bytes).read()
        assert caught.value.kind == "archived"
    assert _row(cold)["error_kind"] == "archived"
    assert _content(warm["uri"]) == b"a/warm.mp4"
    fs.call_s3("restore_object", Bucket=bucket, Key="a/cold.mp4", RestoreRequest={"Days": 1})
    assert _content(cold["uri"]) == b"cold"


def test_a_public_bucket_needs_no_credentials(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs, bucket = storage.filesystem(s3_bucket)
    fs.call_s3("put_object", Bucket=bucket, Key="a.mp4", Body=b"a.mp4", ACL="public-read")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_REGION", "eu-west-2")  # other options: a new connection
    with pytest.raises(UserError, match="access denied"):
        list_videos(s3_bucket)
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
    (row,) = list_videos(s3_bucket).to_pylist()
    assert _content(row["uri"]) == b"a.mp4"


def test_an_address_inside_a_file_is_told_for_what_it_is() -> None:
    with pytest.raises(UserError, match="zip:// is no storage"):
        storage.canonical("zip://a.mp4::file:///tmp/a.zip")


def test_a_protocol_in_capitals_is_the_same_one(s3_bucket: str) -> None:
    storage.write_bytes(f"{s3_bucket}/a.mp4", b"a")
    storage.write_bytes(f"{s3_bucket}/l.csv", f"path\nS3{s3_bucket[2:]}/a.mp4\n".encode())
    for source in (s3_bucket, f"S3{s3_bucket[2:]}", f"{s3_bucket}/l.csv"):
        (row,) = list_videos(source).to_pylist()
        assert (row["uri"], row["size_bytes"]) == (f"{s3_bucket}/a.mp4", 1)
