"""Sources: every form of a list of videos, as tidy and as untidy as people make them."""

import csv
import io
import logging
import math
import os
import struct
import time
import unicodedata
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.s3 import FaultyServer
from tests.shared_data import CORPUS, FIGHT
from vidray import storage
from vidray.errors import UserError
from vidray.sources import list_videos, lookup, manifests
from vidray.sources.listing import video_id
from vidray.tables import schema


def _put(place: str, *names: str) -> None:
    for name in names:
        storage.write_bytes(storage.join(place, name), name.encode())


def _write(place: str, name: str, text: str, encoding: str = "utf-8") -> str:
    uri = storage.join(place, name)
    storage.write_bytes(uri, text.encode(encoding))
    return uri


def _rows(
    source: str, place: str, **how: tuple[float, float, float]
) -> dict[str, tuple[object, ...]]:
    """Path below the place -> (label, split, group); the table is checked on the way."""
    table = list_videos(source, **how)
    assert table.schema.equals(schema.VIDEOS)
    table.validate(full=True)
    uris = table.column("uri").to_pylist()
    assert uris == sorted(set(uris))
    assert len(set(table.column("video_id").to_pylist())) == len(uris)
    return {
        row["uri"].removeprefix(f"{place}/"): (row["label"], row["split"], row["group"])
        for row in table.to_pylist()
    }


# Folders


def test_class_folders(place: str) -> None:
    _put(place, "jump/a.mp4", "jump/deep/er/b.AVI", "run, fast/c d.MoV", "e.webm")
    _put(place, "jump/notes.txt", "README.md", ".x.mp4", "_tmp/d.mp4", "run, fast/.hidden/e.mp4")
    assert _rows(place, place) == {
        "jump/a.mp4": ("jump", None, None),
        "jump/deep/er/b.AVI": ("jump", None, None),
        "run, fast/c d.MoV": ("run, fast", None, None),
        "e.webm": (None, None, None),
    }


def test_rows_tell_size_and_fingerprint(place: str) -> None:
    _put(place, "a/b.mp4")
    (row,) = list_videos(place).to_pylist()
    info = storage.file_info(storage.join(place, "a/b.mp4"))
    assert (row["uri"], row["size_bytes"], row["fingerprint"]) == tuple(info)


def test_one_spelling_of_a_source_one_id(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _put(place, "a/b.mp4")
    table = list_videos(place)
    assert list_videos(place + "/").equals(table)
    (row,) = table.to_pylist()
    assert row["video_id"] == video_id(row["uri"])
    assert len(row["video_id"]) == 20
    if not storage.is_bucket(place):
        monkeypatch.chdir(place)
        for spelling in (".", "./a/..", f"file://{place}"):
            assert list_videos(spelling).equals(table)


def test_ucf_names_are_groups(place: str) -> None:
    _put(place, "PushUps/v_PushUps_g07_c04.avi", "PushUps/push_g07_c04.avi")
    groups = {path: row[2] for path, row in _rows(place, place).items()}
    assert groups == {
        "PushUps/v_PushUps_g07_c04.avi": "PushUps_g07",
        "PushUps/push_g07_c04.avi": None,
    }


def test_folders_of_splits_are_splits(place: str) -> None:
    _put(place, "train/jump/a.mp4", "Validation/jump/b.mp4", "test/run/x/c.mp4")
    assert _rows(place, place) == {
        "train/jump/a.mp4": ("jump", "train", None),
        "Validation/jump/b.mp4": ("jump", "val", None),
        "test/run/x/c.mp4": ("run", "test", None),
    }


def test_a_video_beside_folders_of_splits_changes_nothing_for_others(place: str) -> None:
    _put(place, "train/jump/a.mp4", "test/run/b.mp4", "sample.mp4", "train/c.mp4")
    assert _rows(place, place) == {
        "train/jump/a.mp4": ("jump", "train", None),
        "test/run/b.mp4": ("run", "test", None),
        "sample.mp4": (None, None, None),
        "train/c.mp4": (None, "train", None),
    }


def test_splits_without_class_folders_have_no_labels(place: str) -> None:
    _put(place, "train/a.mp4", "test/b.mp4")
    assert _rows(place, place) == {
        "train/a.mp4": (None, "train", None), "test/b.mp4": (None, "test", None)
    }  # fmt: skip


def test_a_class_may_be_called_train(place: str) -> None:
    _put(place, "train/a.mp4", "car/b.mp4")
    assert {row[0] for row in _rows(place, place).values()} == {"train", "car"}


def test_nothing_found_says_what_is_there(place: str) -> None:
    _put(place, "a/b.txt", "a/c.jpg", "d.jpg", "LICENSE")
    with pytest.raises(UserError, match=r"no video below .* 2 \.jpg, 1 .*no extension") as error:
        list_videos(place)
    assert ".mp4" in str(error.value)
    assert "\n" not in str(error.value)


def test_left_out_files_are_counted(place: str, caplog: pytest.LogCaptureFixture) -> None:
    _put(place, "a/b.mp4", "a/c.jpg", "a/d.jpg")
    with caplog.at_level(logging.INFO, "vidray"):
        list_videos(place)
    assert "2 .jpg" in caplog.text


@pytest.mark.parametrize("name", ["fihgt", "videos/fihgt/x/y", "videos/fight/a.mpeg"])
def test_a_wrong_name_gets_a_hint(place: str, name: str) -> None:
    _put(place, "videos/fight/a.mp4", "fight/b.mp4")
    with pytest.raises(UserError, match=r"is not there; .*did you mean '(fight|a.mp4)'"):
        list_videos(storage.join(place, name))


def test_a_wrong_bucket_is_said(s3_server: str) -> None:
    with pytest.raises(UserError, match=r"s3://no-such-bucket-at-all.* not there"):
        list_videos("s3://no-such-bucket-at-all/videos")


def test_a_denied_bucket_is_the_users_error(faulty_s3: FaultyServer, s3_bucket: str) -> None:
    for method in ("GET", "HEAD"):
        faulty_s3.fail(method, s3_bucket.removeprefix("s3://"), 1000, status="403 Forbidden")
    with pytest.raises(UserError, match=r"access denied.*AWS_") as error:
        list_videos(s3_bucket)
    assert "testing" not in str(error.value)


def test_a_name_that_is_not_utf8_comes_back_to_its_file(tmp_path: Path) -> None:
    names = [b"caf\xe9.mp4", b"caf%E9.mp4", b"100% caf\xe9.mp4", "café.mp4".encode(), b"%ff.mp4"]
    for name in names:
        (tmp_path / os.fsdecode(b"cl\xe4sse/" + name)).parent.mkdir(exist_ok=True)
        (tmp_path / os.fsdecode(b"cl\xe4sse/" + name)).write_bytes(name)
        (tmp_path / os.fsdecode(name)).write_bytes(name)
    rows = list_videos(str(tmp_path)).to_pylist()
    assert len({row["uri"] for row in rows}) == len({row["video_id"] for row in rows}) == 10
    for row in rows:
        assert storage.canonical(row["uri"]) == row["uri"]
        assert storage.file_info(row["uri"])[1:] == (row["size_bytes"], row["fingerprint"])
    read = []
    for row in (row for row in rows if row["label"] is None):
        with storage.open_binary(row["uri"]) as file:
            read.append(file.read())
    assert sorted(read) == sorted(names)
    assert Counter(row["label"] for row in rows) == {None: 5, "cl%E4sse": 5}
    assert f"file://{tmp_path}/caf%E9.mp4" in {row["uri"] for row in rows}


# One video, globs


def test_one_video_of_any_name(place: str) -> None:
    _put(place, "a/b c.mp4", "a/noextension", "a/other.mp4")
    assert _rows(storage.join(place, "a/b c.mp4"), place) == {"a/b c.mp4": (None, None, None)}
    assert set(_rows(storage.join(place, "a/noextension"), place)) == {"a/noextension"}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*/*.mp4", {"a/1.mp4": "a", "b/2.mp4": "b", "[c]/6.mp4": "[c]"}),
        ("a/*", {"a/1.mp4": None, "a/3.avi": None}),
        ("**/*.mp4", {"a/1.mp4": "a", "a/x/4.mp4": "a", "b/2.mp4": "b", "[c]/6.mp4": "[c]"}),
        ("[ab]/?.mp4", {"a/1.mp4": "a", "b/2.mp4": "b"}),
        ("*/*.dat", {"a/5.dat": "a"}),
        ("[c]/6.mp4", {"[c]/6.mp4": None}),  # a file of that very name
    ],
)
def test_globs(place: str, pattern: str, expected: dict[str, str | None]) -> None:
    _put(place, "a/1.mp4", "b/2.mp4", "a/3.avi", "a/x/4.mp4", "a/5.dat", "a/n.txt", "[c]/6.mp4")
    found = _rows(storage.join(place, pattern), place)
    assert {path: row[0] for path, row in found.items()} == expected


def test_a_glob_without_a_match_is_said(place: str) -> None:
    _put(place, "a/1.mp4")
    with pytest.raises(UserError, match="no video matches"):
        list_videos(storage.join(place, "a/*.avi"))
    with pytest.raises(UserError, match="did you mean 'a'"):
        list_videos(storage.join(place, "aa/*.avi"))


# Split files


def test_split_files_name_exactly_the_videos(place: str) -> None:
    _put(place, "a b/1.mp4", "a b/2.mp4", "c/3.mp4", "c/unlisted.mp4")
    _write(place, "splits/train.txt", "﻿./a b/1.mp4 0\r\nc\\3.mp4 1\r\n\r\n")
    _write(place, "splits/val.txt", "a b/2.mp4 0")
    _write(place, "splits/test.txt", "c/gone.mp4 1\n")
    assert _rows(place, place) == {
        "a b/1.mp4": ("a b", "train", None),
        "c/3.mp4": ("c", "train", None),
        "a b/2.mp4": ("a b", "val", None),
        "c/gone.mp4": ("c", "test", None),
    }
    gone = next(row for row in list_videos(place).to_pylist() if "gone" in row["uri"])
    assert (gone["size_bytes"], gone["fingerprint"]) == (0, "missing")


@pytest.mark.parametrize("where", ["splits/classInd.txt", "classes.txt"])
@pytest.mark.parametrize("numbered", [True, False])
def test_class_files_name_the_indices(place: str, where: str, numbered: bool) -> None:
    _put(place, "x/1.mp4", "x/2.mp4")
    names = ["Jumping High", "a, b"]
    lines = [f"{index} {name}" for index, name in enumerate(names)] if numbered else names
    _write(place, where, "\n".join(lines))
    _write(place, "splits/train.txt", "x/1.mp4 1\nx/2.mp4 0")
    rows = _rows(place, place)
    assert rows["x/1.mp4"][0] == "a, b"
    assert rows["x/2.mp4"][0] == "Jumping High"


def test_ucf101_lists_as_published(place: str) -> None:
    names = ["Archery", "BoxingSpeedBag", "Typing"]
    videos = [f"{name}/v_{name}_g0{group}_c01.avi" for name in names for group in (1, 2)]
    _put(place, *videos)
    _write(place, "splits/classInd.txt", "1 Archery\r\n2 BoxingSpeedBag\r\n3 Typing\r\n")
    train = [f"{path} {number // 2 + 1}" for number, path in enumerate(videos) if "_g02_" in path]
    for number in ("01", "02"):
        _write(place, f"splits/trainlist{number}.txt", "\r\n".join(train))
        _write(place, f"splits/testlist{number}.txt", "\n".join(v for v in videos if "_g01_" in v))
    expected = {
        path: (
            path.split("/")[0],
            "train" if "_g02_" in path else "test",
            path.split("/v_")[1][: -len("_c01.avi")],
        )
        for path in videos
    }
    assert _rows(place, place) == expected


def test_indices_from_one_without_a_class_file(place: str) -> None:
    _put(place, "a/1.mp4", "b/2.mp4", "c/3.mp4")
    _write(place, "splits/train.txt", "a/1.mp4 1\nb/2.mp4 2")  # 3 never appears
    rows = _rows(place, place)
    assert {path: row[0] for path, row in rows.items()} == {"a/1.mp4": "a", "b/2.mp4": "b"}


def test_indices_without_any_names_stay(place: str) -> None:
    _put(place, "videos/1.mp4", "videos/2.mp4")
    _write(place, "splits/train.txt", "videos/1.mp4 17\nvideos/2.mp4 3")
    assert [row[0] for row in _rows(place, place).values()] == ["17", "3"]


@pytest.mark.parametrize(
    ("line", "message"),
    [("b/2.mp4 7", r"splits/train.txt line 2: label index 7 .* 2 classes"), ("b/2.mp4 0", "'b'")],
)
def test_an_impossible_index_is_said(place: str, line: str, message: str) -> None:
    _put(place, "a/1.mp4", "b/2.mp4")
    _write(place, "splits/train.txt", f"a/1.mp4 0\n{line}\n")
    with pytest.raises(UserError, match=message):
        list_videos(place)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a/b c.mp4 3", ("a/b c.mp4", "3")),
        ("a/b c.mp4", ("a/b c.mp4", None)),
        ("a/b.mp4\t12 ", ("a/b.mp4", "12")),
        ("a/b.mp4,12", ("a/b.mp4", "12")),
        ("a/b 1.mp4 copy.avi Playing Guitar", ("a/b 1.mp4 copy.avi", "Playing Guitar")),
        ("frames/video17 4", ("frames/video17", "4")),
        ("frames/video17", ("frames/video17", None)),
        ("a/x.MP4, jump, high", ("a/x.MP4", "jump, high")),
        ("a/1, 2.mp4", ("a/1, 2.mp4", None)),
    ],
)
def test_lines_of_split_files(line: str, expected: tuple[str, str | None]) -> None:
    (entry,) = manifests.read_lines(f"\n{line}\n".encode(), "train.txt", "train")
    assert (entry.path, entry.label) == expected
    assert entry.where == "train.txt line 2"


def test_names_in_quotes(place: str) -> None:
    _put(place, "a b.mp4", "c.mp4")
    _write(place, "splits/train.txt", '"a b.mp4" 3\n"c.mp4", "4"\n')
    assert _rows(place, place) == {"a b.mp4": ("3", "train", None), "c.mp4": ("4", "train", None)}


def test_csv_splits(place: str) -> None:
    _put(place, "a/1.mp4", "a/2.mp4")
    _write(place, "splits/train.csv", 'path,label\na/1.mp4,"jump, high"\n')
    _write(place, "splits/valid.csv", "label;video_path\nrun;a/2.mp4\n")
    assert _rows(place, place) == {
        "a/1.mp4": ("jump, high", "train", None),
        "a/2.mp4": ("run", "val", None),
    }


def test_csv_splits_without_header_and_with_indices(place: str) -> None:
    _put(place, "a/1.mp4", "b/2.mp4")
    _write(place, "splits/train.csv", "a/1.mp4 0\n")
    _write(place, "splits/test.csv", "b/2.mp4,1\n")
    assert _rows(place, place) == {"a/1.mp4": ("a", "train", None), "b/2.mp4": ("b", "test", None)}


def test_splits_of_unknown_names_are_not_ignored(place: str) -> None:
    _put(place, "a/1.mp4")
    _write(place, "splits/fold1.txt", "a/1.mp4 0")
    with pytest.raises(UserError, match=r"fold1.txt: name them train, val and test"):
        list_videos(place)


def test_a_video_in_two_splits_is_said(place: str) -> None:
    _put(place, "a/1.mp4")
    _write(place, "splits/train.txt", "a/1.mp4 0")
    _write(place, "splits/test.txt", "./a/1.mp4 0")
    with pytest.raises(UserError, match=r"a/1.mp4 is listed twice, with split 't\w+' and 't\w+'"):
        list_videos(place)


def test_a_recording_in_two_splits_is_said(place: str) -> None:
    _write(place, "splits/train.txt", "A/v_A_g01_c01.avi\n")
    _write(place, "splits/test.txt", "A/v_A_g01_c02.avi\n")
    with pytest.raises(UserError, match="'A_g01' in train and test"):
        list_videos(place)


# Manifests


@pytest.mark.parametrize("column", ["uri", "path", "video_path", "Clip_Path"])
def test_manifest_csv(place: str, column: str) -> None:
    _put(place, "in/a b.mp4", "in/100%é.mp4", "elsewhere/c.mp4")
    text = (
        f"label, {column} ,split,group,other\r\n"
        '"jump, high",./a b.mp4,Train,007,x\r\n'
        ",100%é.mp4,validation,unknown,\r\n"
        '"say ""hi""",../elsewhere/c.mp4,,,"a\nb"\r\n'
        f"run,{storage.join(place, 'gone.bin')},test\r\n"
    )
    uri = _write(place, "in/list.CSV", "﻿" + text)
    assert _rows(uri, place) == {
        "in/a b.mp4": ("jump, high", "train", "007"),
        "in/100%é.mp4": (None, "val", None),
        "elsewhere/c.mp4": ('say "hi"', None, None),
        "gone.bin": ("run", "test", None),
    }


def test_a_manifest_leaves_other_readers_their_limit() -> None:
    """It is the whole process's: 35 characters after a short list, and nobody read a CSV again."""
    before = csv.field_size_limit()
    manifests.read_csv(b"path,label\na.mp4,x\n", "l.csv")
    assert csv.field_size_limit() == before
    long = "y" * (before + 1)
    (entry,) = manifests.read_csv(f"path,label\na.mp4,{long}\n".encode(), "l.csv")
    assert entry.label == long


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_encodings_and_separators(place: str, encoding: str, separator: str) -> None:
    uri = _write(place, "l.csv", f"path{separator}label\nü.mp4{separator}läuft\n", encoding)
    assert _rows(uri, place) == {"ü.mp4": ("läuft", None, None)}


def test_manifest_parquet(place: str) -> None:
    _put(place, "a.mp4")
    table = pa.table(
        {
            "path": ["a.mp4", "b.mp4", "c.mp4"],
            "label": pa.array([1.0, None, 2.0]),  # pandas: whole numbers beside a missing one
            "group": pa.array(["x", "unknown", None]).dictionary_encode(),
            "pixels": [[1], [2], [3]],
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    uri = storage.join(place, "list.parquet")
    storage.write_bytes(uri, buffer.getvalue())
    assert _rows(uri, place) == {
        "a.mp4": ("1", None, "x"),
        "b.mp4": (None, None, None),
        "c.mp4": ("2", None, None),
    }


def _parquet(place: str, table: pa.Table) -> str:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    storage.write_bytes(f"{place}/v.parquet", buffer.getvalue())
    return f"{place}/v.parquet"


def test_a_parquet_of_odd_columns_is_read_or_said(place: str) -> None:
    _put(place, "a.mp4", "b.mp4")
    paths = pa.array(["a.mp4", "b.mp4"])
    twice = pa.Table.from_arrays([paths, pa.array(["c.mp4", "d.mp4"])], ["path", "path"])
    assert list(_rows(_parquet(place, twice), place)) == ["a.mp4", "b.mp4"]
    for labels, expected in (
        ([1.0, math.nan], ["1", None]),  # pandas' missing number
        ([1.5, 2.0], ["1.5", "2"]),
        (pa.array(["x", "y"]).dictionary_encode(), ["x", "y"]),
    ):
        table = pa.table({"path": paths, "label": labels})
        assert [row[0] for row in _rows(_parquet(place, table), place).values()] == expected
    offsets = pa.py_buffer(struct.pack("<2i", 0, 6))
    latin = pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(b"\xe9a.mp4")])
    for column in (latin, pa.array([["a.mp4"]])):
        with pytest.raises(UserError, match="'path', which is no UTF-8 text"):
            list_videos(_parquet(place, pa.table({"path": column})))


def test_a_damaged_parquet_is_said(place: str) -> None:
    uri = _parquet(place, pa.table({"path": ["a.mp4", "b.mp4"]}))
    data = bytearray(storage.read_bytes(uri))
    data[20:40] = b"\xff" * 20
    storage.write_bytes(uri, bytes(data))
    with pytest.raises(UserError, match=r"v\.parquet is damaged, write it again"):
        list_videos(uri)


@pytest.mark.slow
def test_a_list_of_a_million_columns_takes_seconds() -> None:
    header = ",".join(["path", *(f"Column {k}" for k in range(1_000_000))])
    started = time.monotonic()
    entries = manifests.read_csv(f"{header}\na.mp4\n".encode(), "v.csv")
    assert [entry.path for entry in entries] == ["a.mp4"]
    assert time.monotonic() - started < 20


def test_our_own_table_is_a_manifest(place: str) -> None:
    _put(place, "a/1.mp4", "b/2.mp4")
    table = list_videos(place, splits=(0.5, 0.25, 0.25))
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    storage.write_bytes(storage.join(place, "videos.parquet"), buffer.getvalue())
    assert list_videos(storage.join(place, "videos.parquet")).equals(table)


def test_one_path_many_spellings_one_row(place: str) -> None:
    _put(place, "a/1.mp4")
    absolute = storage.join(place, "a/1.mp4")
    text = (
        f"path,label,group\na/1.mp4,x,\n./a/1.mp4,x,g\na\\1.mp4,,\n{absolute},x,\na/../a/1.mp4,x,g"
    )
    assert _rows(_write(place, "l.csv", text), place) == {"a/1.mp4": ("x", None, "g")}


@pytest.mark.parametrize("column", ["label", "group", "split"])
def test_contradictions_are_said(place: str, column: str) -> None:
    uri = _write(place, "l.csv", f"path,{column}\na/1.mp4,test\n./a/1.mp4,train\n")
    with pytest.raises(UserError, match=rf"a/1.mp4 .* {column} 'test' and 'train'"):
        list_videos(uri)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clip_pth,label\na.mp4,x\n", r"columns are clip_pth, label; .*'clip_pth' to 'clip_path'"),
        ("path,split\na.mp4,holdout\n", r"line 2 has split 'holdout': one of train, val, test"),
        ("path,label\na.mp4,jump, high\n", r"line 2 has 3 cells, the header 2"),
        ("path,label\n,x\n", "line 2 has no path"),
        ("path,label\n", "lists no video"),
        ("", "is empty"),
        ("path,group,split\na.mp4,g,train\nb.mp4,g,test\n", "'g' in train and test"),
    ],
)
def test_wrong_manifests_are_said(place: str, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        list_videos(_write(place, "list.csv", text))
    assert "\n" not in str(error.value)


def test_wrong_files_are_said(place: str) -> None:
    with pytest.raises(UserError, match="not UTF-8"):
        list_videos(_write(place, "l.csv", "path\nä.mp4\n", "latin-1"))
    with pytest.raises(UserError, match="not a Parquet"):
        list_videos(_write(place, "l.parquet", "path\na.mp4\n"))
    with pytest.raises(UserError, match="give a CSV"):
        list_videos(_write(place, "l.txt", "a.mp4\n"))


def test_many_rows_of_a_bucket_are_looked_up_in_one_listing(
    faulty_s3: FaultyServer, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup, "LIST_ABOVE", 10)
    names = [f"_v/{index}.mp4" for index in range(12)]
    _put(s3_bucket, *names)
    uri = _write(s3_bucket, "l.csv", "path\n" + "\n".join([*names, "gone.mp4"]))
    faulty_s3.requests.clear()
    table = list_videos(uri)
    assert Counter(table.column("fingerprint").to_pylist())["missing"] == 1
    assert sum("_v/" in request for request in faulty_s3.requests) == 0


def test_unicode_forms_meet(place: str) -> None:
    composed, apart = (unicodedata.normalize(form, "é/è.mp4") for form in ("NFC", "NFD"))
    _put(place, apart)
    for name, text in (("l.csv", f"path\n{composed}\n"), ("splits/train.txt", composed)):
        uri = _write(place, name, text)
        source = uri if name == "l.csv" else place
        assert list(_rows(source, place)) == [apart]


def test_a_literal_backslash_is_kept_where_it_is_real(tmp_path: Path) -> None:
    (tmp_path / "a\\b.mp4").write_bytes(b"x")
    uri = _write(str(tmp_path), "l.csv", "path\na\\b.mp4\n")
    assert list(_rows(uri, str(tmp_path))) == ["a\\b.mp4"]


def test_a_list_in_the_folder_counts_without_class_folders(place: str) -> None:
    _put(place, "1.mp4", "2.mp4")
    _write(place, "videos.csv", "path,label\n1.mp4,x\n")
    assert _rows(place, place) == {"1.mp4": ("x", None, None)}
    _put(place, "y/3.mp4")
    assert _rows(place, place)["1.mp4"] == (None, None, None)
    assert _rows(place, place)["y/3.mp4"] == ("y", None, None)


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_characters="\0/\\"), min_size=1)
            .map(str.strip)
            .filter(lambda name: name.strip(" .") == name and name != ""),
            st.text(st.characters(codec="utf-8", exclude_characters="\0")).map(str.strip),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_any_text_survives_csv(rows: list[tuple[str, str]]) -> None:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([("path", "label"), *rows])
    entries = manifests.read_csv(text.getvalue().encode(), "l.csv")
    assert [(entry.path, entry.label or "") for entry in entries] == rows


# Derived splits


def test_derived_splits_keep_groups(place: str) -> None:
    _put(place, *(f"A/v_A_g{group:02d}_c{clip}.avi" for group in range(8) for clip in (1, 2)))
    rows = _rows(place, place, splits=(0.5, 0.25, 0.25))
    assert len({(row[1], row[2]) for row in rows.values()}) == 8
    assert all(row[1] for row in rows.values())


@pytest.mark.slow
def test_derived_splits_are_the_same_in_folder_and_bucket(tmp_path: Path, s3_bucket: str) -> None:
    names = [f"{label}/{number}.mp4" for label in "ab" for number in range(20)]
    found = []
    for place in (str(tmp_path), s3_bucket):
        _put(place, *names)
        found.append(_rows(place, place, splits=(0.5, 0.25, 0.25)))
    assert found[0] == found[1]
    storage.remove_tree(  # the rest stays where it was
        storage.join(s3_bucket, "b"), inside=s3_bucket
    )  # the rest stays where it was
    rest = _rows(s3_bucket, s3_bucket, splits=(0.5, 0.25, 0.25))
    assert rest == {path: row for path, row in found[0].items() if path.startswith("a/")}


def test_given_splits_are_neither_mixed_with_derived_ones_nor_silently_kept(place: str) -> None:
    _put(place, "a/1.mp4", "a/2.mp4")
    text = b"path,split\na/1.mp4,train\na/2.mp4,\n"
    storage.write_bytes(storage.join(place, "list.csv"), text)
    with pytest.raises(UserError, match="gives the splits of 1 of its 2 videos"):
        list_videos(storage.join(place, "list.csv"), splits=(0.5, 0.25, 0.25))


# Real data


@pytest.mark.shared
def test_fight_clips_from_all_three_forms(tmp_path: Path) -> None:
    fight = str(FIGHT)
    for name in ("fight", "no_fight"):
        (tmp_path / name).symlink_to(Path(fight) / name)
    forms = [
        _rows(str(tmp_path), str(tmp_path)),  # class folders alone
        _rows(fight, fight),  # splits/ wins over them
        _rows(f"{fight}/videos.csv", fight),
    ]
    labels = [{path: row[0] for path, row in form.items()} for form in forms]
    assert labels[0] == labels[1] == labels[2]
    assert Counter(labels[0].values()) == {"fight": 113, "no_fight": 120}
    assert Counter(row[1] for row in forms[1].values()) == {"train": 159, "val": 17, "test": 57}
    with open(f"{fight}/videos.csv") as file:
        groups = {row["clip_path"]: row["group"] for row in csv.DictReader(file)}
    assert {path: row[2] or "unknown" for path, row in forms[2].items()} == groups


@pytest.mark.shared
def test_fight_clips_derived_splits_keep_recordings_whole() -> None:
    fight = str(FIGHT)
    rows = _rows(f"{fight}/videos.csv", fight, splits=(0.6, 0.2, 0.2))
    groups = {(row[2], row[1]) for row in rows.values() if row[2]}
    assert len(groups) == len({group for group, _ in groups})
    assert Counter(row[1] for row in rows.values())["train"] > 233 // 3


@pytest.mark.shared
def test_odd_files_are_all_listed() -> None:
    found = _rows(str(CORPUS), str(CORPUS))
    with (CORPUS / "expected.csv").open() as file:
        expected = {row["path"] for row in csv.DictReader(file)}
    assert set(found) == expected == set(_rows(str(CORPUS / "expected.csv"), str(CORPUS)))
    assert {row[0] for row in found.values()} == {path.split("/")[0] for path in expected}
