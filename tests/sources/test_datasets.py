"""Lists of public data sets as they are downloaded, and data as people have them."""

import io
import json
import logging
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.video_writer import write_video
from vidray import storage
from vidray.errors import UserError
from vidray.sources import datasets, list_videos
from vidray.sources.listing import video_id


def _put(place: str, *names: str) -> None:
    for name in names:
        storage.write_bytes(f"{place}/{name}", name.encode())


def _write(place: str, name: str, text: str) -> str:
    storage.write_bytes(f"{place}/{name}", text.encode())
    return f"{place}/{name}"


def _rows(source: str, place: str) -> dict[str, tuple[Any, ...]]:
    """Path below the place -> (label, split)."""
    return {
        row["uri"].removeprefix(f"{place}/"): (row["label"], row["split"])
        for row in list_videos(source).to_pylist()
    }


# UCF-101


_UCF = [
    f"{label}/v_{label}_g{group:02d}_c01.avi"
    for label in ("ApplyEyeMakeup", "Archery", "YoYo")
    for group in (1, 8)
]


@pytest.mark.parametrize("around", ["UCF-101/", "", "data/UCF-101/"])
@pytest.mark.parametrize(
    "beside", ["ucfTrainTestlist", "splits", "UCF101TrainTestSplits/ucfTrainTestlist", "."]
)
def test_ucf101(place: str, around: str, beside: str) -> None:
    _put(place, *(around + name for name in _UCF), f"{around}YoYo/v_YoYo_g09_c01.avi")
    beside = f"{beside}/".removeprefix("./")
    _write(place, f"{beside}classInd.txt", "1 ApplyEyeMakeup\r\n2 Archery\r\n3 YoYo\r\n")
    for number in ("01", "02", "03"):  # the second and third would turn it round
        train, test = (_UCF[1::2], _UCF[::2]) if number == "01" else (_UCF[::2], _UCF[1::2])
        lines = [f"{name} {1 + _UCF.index(name) // 2}" for name in train]
        _write(place, f"{beside}trainlist{number}.txt", "\r\n".join(lines) + "\r\n")
        _write(place, f"{beside}testlist{number}.txt", "\r\n".join(test) + "\r\n")
    assert _rows(place, place) == {
        around + name: (name.split("/")[0], "train" if "_g08_" in name else "test") for name in _UCF
    }


def test_lists_that_name_nothing_here_are_told_and_not_used(
    place: str, caplog: pytest.LogCaptureFixture
) -> None:
    _put(place, "a/1.mp4", "b/2.mp4")
    _write(place, "notes/train.txt", "x/7.mp4 0\n")
    _write(place, "test.csv", "colour,size\nred,3\n")
    with caplog.at_level(logging.WARNING, "vidray"):
        assert _rows(place, place) == {"a/1.mp4": ("a", None), "b/2.mp4": ("b", None)}
    assert "notes/train.txt name no file that is there" in caplog.text
    assert "test.csv has no path column" in caplog.text


def test_videos_in_no_list_are_told(place: str, caplog: pytest.LogCaptureFixture) -> None:
    _put(place, "UCF-101/a/1.mp4", "UCF-101/b/2.mp4", "UCF-101/b/3.mp4")
    _put(place, "UCF-101/aa/4.mp4")  # a class of no list has an index, too
    _write(place, "lists/train.txt", "a/1.mp4 0\nb/2.mp4 2\n")
    with caplog.at_level(logging.WARNING, "vidray"):
        assert len(_rows(place, place)) == 2
    assert "left out: 2 videos" in caplog.text


# HMDB-51


@pytest.mark.parametrize("beside", ["splits", "testTrainMulti_7030_splits"])
@pytest.mark.parametrize("around", ["", "hmdb51_org/"])
def test_hmdb51(place: str, beside: str, around: str) -> None:
    names = ["a_1.avi", "(b) #2!.avi", "c d.avi", "a_1.avi"]
    files = [
        f"brush_hair/{names[0]}",
        f"brush_hair/{names[1]}",
        f"turn/{names[2]}",
        f"turn/{names[3]}",
    ]
    _put(place, *(around + name for name in files))
    for number in (1, 2):  # names with spaces after them, as they are
        code = "1" if number == 1 else "2"
        _write(
            place,
            f"{beside}/brush_hair_test_split{number}.txt",
            f"{names[0]} {code} \n{names[1]} 2 \n",
        )
        _write(
            place, f"{beside}/turn_test_split{number}.txt", f"{names[2]} 0 \n{names[3]} {code} \n"
        )
    assert _rows(place, place) == {
        f"{around}{files[0]}": ("brush_hair", "train"),
        f"{around}{files[1]}": ("brush_hair", "test"),
        f"{around}{files[3]}": ("turn", "train"),
    }


# Kinetics


_KINETICS = (
    "label,youtube_id,time_start,time_end,split,is_cc\n"
    '"shaking hands",--0BJ-j7tg8,0,10,train,0\n'
    "abseiling,_4YTwq0-73Y,15.0,25.0,validate,0\n"
    "zumba,gone4567890,107,117,train,0\n"
)


@pytest.mark.parametrize("folder", ["", "train/", "videos/shaking hands/"])
def test_kinetics(place: str, folder: str) -> None:
    _put(place, f"{folder}--0BJ-j7tg8_000000_000010.mp4", f"{folder}_4YTwq0-73Y.mkv")
    rows = list_videos(_write(place, "kinetics.csv", _KINETICS)).to_pylist()
    cut, whole, gone = (
        next(row for row in rows if name in row["uri"]) for name in ("0BJ", "4YT", "gone")
    )
    assert cut["uri"] == f"{place}/{folder}--0BJ-j7tg8_000000_000010.mp4"
    assert (cut["label"], cut["split"]) == ("shaking hands", "train")
    assert (cut["begin_seconds"], cut["end_seconds"]) == (None, None)
    assert cut["video_id"] == video_id(cut["uri"])
    assert whole["uri"] == f"{place}/{folder}_4YTwq0-73Y.mkv"
    assert (whole["label"], whole["split"]) == ("abseiling", "val")
    assert (whole["begin_seconds"], whole["end_seconds"]) == (15.0, 25.0)
    assert whole["video_id"] == video_id(f"{whole['uri']}#t=15,25")
    assert (gone["label"], gone["fingerprint"]) == ("zumba", "missing")
    assert (gone["begin_seconds"], gone["end_seconds"]) == (107.0, 117.0)


def test_kinetics_lists_in_a_folder(place: str) -> None:
    _put(
        place,
        "train/zumba/aaaaaaaaaaa_000001_000011.mp4",
        "val/zumba/bbbbbbbbbbb_000002_000012.mp4",
    )
    head = "label,youtube_id,time_start,time_end,split\n"
    _write(place, "annotations/train.csv", f"{head}zumba,aaaaaaaaaaa,1,11,train\n")
    _write(place, "annotations/val.csv", f"{head}zumba,bbbbbbbbbbb,2,12,val\n")
    assert _rows(place, place) == {
        "train/zumba/aaaaaaaaaaa_000001_000011.mp4": ("zumba", "train"),
        "val/zumba/bbbbbbbbbbb_000002_000012.mp4": ("zumba", "val"),
    }


def test_kinetics_json(place: str) -> None:
    _put(place, "aaaaaaaaaaa_000001_000011.mp4", "bbbbbbbbbbb.mp4")
    text = {
        "aaaaaaaaaaa": {"annotations": {"label": "zumba", "segment": [1.0, 11.0]},
                        "duration": 10.0, "subset": "train", "url": "https://www.youtube.com/x"},
        "bbbbbbbbbbb": {"annotations": [{"label": "polka", "segment": [2.5, 12]},
                                        {"label": "waltz", "segment": [20, 30]}],
                        "subset": "validation"},
    }  # fmt: skip
    rows = list_videos(_write(place, "k.json", json.dumps(text))).to_pylist()
    assert [(r["label"], r["split"], r["begin_seconds"], r["end_seconds"]) for r in rows] == [
        ("zumba", "train", None, None), ("polka", "val", 2.5, 12.0), ("waltz", "val", 20.0, 30.0)
    ]  # fmt: skip


# Something-Something


def test_something_somethings_first_version(place: str) -> None:
    _put(place, "v1/1.webm", "v1/2.webm")
    text = "1;Lifting something up, then letting it drop\n2;Turning something\n"
    _write(place, "something-something-v1-train.csv", text)
    assert _rows(place, place) == {
        "v1/1.webm": ("Lifting something up, then letting it drop", "train"),
        "v1/2.webm": ("Turning something", "train"),
    }


def test_ids_without_labels_in_folders_of_splits_and_classes(place: str) -> None:
    _put(place, "train/run/a.mp4", "train/walk/b.mp4")
    _write(place, "train.json", json.dumps([{"id": "a"}, {"id": "b"}]))
    assert _rows(place, place) == {
        "train/run/a.mp4": ("run", "train"), "train/walk/b.mp4": ("walk", "train")
    }  # fmt: skip


@pytest.mark.parametrize("prefix", ["", "something-something-v2-"])
def test_something_something(place: str, prefix: str) -> None:
    _put(place, *(f"20bn-something-something-v2/{number}.webm" for number in (1, 2, 78687, 4)))
    train = [{"id": "78687", "label": "holding potato next to a bottle",
              "template": "Holding [something] next to [something]", "placeholders": ["potato"]},
             {"id": "1", "label": "moving a cup", "template": "Moving [something]"}]  # fmt: skip
    _write(place, f"labels/{prefix}train.json", json.dumps(train))
    _write(place, f"labels/{prefix}validation.json", json.dumps(train[1:2]).replace('"1"', '"2"'))
    _write(place, f"labels/{prefix}test.json", json.dumps([{"id": "4"}]))
    _write(place, "labels/test-answers.csv", "4;Moving something\n")
    _write(place, f"labels/{prefix}labels.json", '{"Holding something next to something": "0"}')
    found = {path.rpartition("/")[2]: row for path, row in _rows(place, place).items()}
    assert found == {
        "4.webm": (None, "test"),  # The folder is no class, and its label is not published.
        "78687.webm": ("Holding something next to something", "train"),
        "1.webm": ("Moving something", "train"),
        "2.webm": ("Moving something", "val"),
    }


def test_jester(place: str) -> None:
    _put(place, "34870.webm", "56557.webm")
    text = "34870;Drumming Fingers\n56557;Sliding Two Fingers Right\n"
    assert _rows(_write(place, "jester-v1-train.csv", text), place) == {
        "34870.webm": ("Drumming Fingers", None),
        "56557.webm": ("Sliding Two Fingers Right", None),
    }


# mmaction2, SlowFast


def test_mmaction2_lists(place: str) -> None:
    _put(place, "videos_train/abseiling/x.mp4", "videos_val/zumba/y z.mp4")
    _write(place, "kinetics400_train_list_videos.txt", "abseiling/x.mp4 0\n")
    _write(place, "kinetics400_val_list_videos.txt", "zumba/y z.mp4 1\n")
    _write(place, "kinetics400_train_list_rawframes.txt", "abseiling/x 250 0\n")
    _write(place, "label_map_k400.txt", "abseiling\nzumba\n")
    assert _rows(place, place) == {
        "videos_train/abseiling/x.mp4": ("abseiling", "train"),
        "videos_val/zumba/y z.mp4": ("zumba", "val"),
    }


@pytest.mark.parametrize(
    "name", ["splits/train.txt", "splits/train.csv", "ucf101_train_split_1_rawframes.txt", "l.csv"]
)
def test_lists_of_frames_say_what_they_are(place: str, name: str) -> None:
    _put(place, "x/1.mp4")
    uri = _write(place, name, "x/1 250 0\nx/2 131 1\n")
    source = place if name.startswith("splits") else uri
    with pytest.raises(UserError, match=r"2 numbers a line.*folders of frames.*mmaction2"):
        list_videos(source)


@pytest.mark.parametrize("separator", [" ", ",", "\t"])
@pytest.mark.parametrize("folder", ["", "compress/abseiling/"])
def test_ids_without_extension(place: str, separator: str, folder: str) -> None:
    _put(place, f"{folder}-3B32lodo2M.mp4", f"{folder}-7kbO0v4hag.webm", f"{folder}-7kbO0v4hag.txt")
    text = f"-3B32lodo2M{separator}0\n-7kbO0v4hag{separator}1\n-gone{separator}1\n"
    for name in ("train.csv", "train.txt"):
        found = _rows(_write(place, name, text), place)
        assert {path: row[0] for path, row in found.items()} == {
            f"{folder}-3B32lodo2M.mp4": "0", f"{folder}-7kbO0v4hag.webm": "1", "-gone": "1"
        }  # fmt: skip


def test_ids_with_a_header(place: str) -> None:
    _put(place, "v/a1.mp4", "v/a2.mp4")
    text = "video_id,class\na1,x\na2,y\n"
    assert _rows(_write(place, "l.csv", text), place) == {
        "v/a1.mp4": ("x", None), "v/a2.mp4": ("y", None)
    }  # fmt: skip


def test_an_id_of_two_files_is_neither(place: str) -> None:
    """Not the first, nor the last: which one is meant the list does not say."""
    _put(place, "a/x.mp4", "b/x.mp4", "b/y.mp4")
    assert _rows(_write(place, "l.csv", "id,label\nx,1\ny,1\n"), place) == {
        "x": ("1", None), "b/y.mp4": ("1", None)
    }  # fmt: skip


def test_ids_of_nothing_get_a_hint(place: str, caplog: pytest.LogCaptureFixture) -> None:
    _put(place, "other.mp4")
    with caplog.at_level(logging.WARNING, "vidray"):
        found = _rows(_write(place, "l.csv", "-3B32lodo2M 0\n-7kbO0v4hag 1\n"), place)
    assert found == {"-3B32lodo2M": ("0", None), "-7kbO0v4hag": ("1", None)}
    assert "none of them is beside it" in caplog.text


# Folders


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["UCF-101/a/1.mp4", "UCF-101/b/2.mp4"], ["a", "b"]),
        (["x/UCF-101/a/1.mp4", "x/UCF-101/b/c/2.mp4"], ["a", "b"]),
        (["UCF-101/a/1.mp4"], ["a"]),
        (["UCF-101/a/1.mp4", "UCF-101/2.mp4"], ["UCF-101", "UCF-101"]),  # it is a class
        (["UCF-101/a/1.mp4", "UCF-101/b/1.mp4", "UCF-101/c.mp4"], ["a", "b", None]),
        (["UCF-101/a/1.mp4", "z/2.mp4"], ["UCF-101", "z"]),
        (["UCF-101/a1/1.mp4", "UCF-101/a2/2.mp4"], ["a1", "a2"]),
        (["a/1.mp4", "a/2.mp4"], ["a", "a"]),
        (["1.mp4", "2.mp4"], [None, None]),
        (["1.mp4", "UCF-101/a/1.mp4", "UCF-101/b/2.mp4"], [None, "a", "b"]),
        (["w/train/a/1.mp4", "w/val/b/2.mp4"], ["a", "b"]),
    ],
)
def test_a_folder_around_the_class_folders(
    place: str, paths: list[str], expected: list[str | None]
) -> None:
    _put(place, *paths)
    assert [row["label"] for row in list_videos(place).to_pylist()] == expected


def test_a_wrapper_around_splits(place: str) -> None:
    _put(place, "w/train/a/1.mp4", "w/val/b/2.mp4")
    assert _rows(place, place) == {"w/train/a/1.mp4": ("a", "train"), "w/val/b/2.mp4": ("b", "val")}


def _webp(folder: Path, name: str, *, frames: int) -> None:
    folder.mkdir(exist_ok=True)
    kind = "libwebp_anim" if frames > 1 else "libwebp"
    with av.open(str(folder / name), "w", format="webp") as container:
        stream = container.add_stream(kind, rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for level in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), level * 9, np.uint8), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_animations_are_videos_and_still_pictures_none(
    tmp_path: Path, s3_bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    local = tmp_path / "a"
    _webp(local, "moving.webp", frames=5)
    _webp(local, "still.webp", frames=1)
    (local / "no.webp").write_bytes(b"")
    write_video(local / "v.mp4", num_frames=5)
    write_video(local / "g.gif", num_frames=5, codec="gif", pix_fmt="rgb8")
    for path in local.iterdir():
        storage.write_bytes(f"{s3_bucket}/a/{path.name}", path.read_bytes())
    for place in (str(tmp_path), s3_bucket):
        caplog.clear()
        with caplog.at_level(logging.INFO, "vidray"):
            assert sorted(_rows(place, place)) == ["a/g.gif", "a/moving.webp", "a/v.mp4"]
        assert "2 .webp" in caplog.text


# Columns


@pytest.mark.parametrize(
    "column",
    [
        "label",
        "Label",
        "class",
        "Class Name",
        "labels",
        "category",
        "y",
        "target",
        "action",
        "class-name",
    ],
)
def test_label_columns(place: str, column: str) -> None:
    _put(place, "a.mp4")
    assert _rows(_write(place, "l.csv", f"path,{column}\na.mp4,run\n"), place) == {
        "a.mp4": ("run", None)
    }
    sink = io.BytesIO()
    pq.write_table(pa.table({"path": ["a.mp4"], column: ["run"]}), sink)
    storage.write_bytes(f"{place}/l.parquet", sink.getvalue())
    assert _rows(f"{place}/l.parquet", place) == {"a.mp4": ("run", None)}


def test_of_two_label_columns_the_plainer_counts(place: str) -> None:
    uri = _write(place, "l.csv", "y,path,label,class\n3,a.mp4,run,z\n")
    assert _rows(uri, place) == {"a.mp4": ("run", None)}


def test_columns_that_are_not_read_are_told(place: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "vidray"):
        _rows(_write(place, "l.csv", "path,genre\na.mp4,run\n"), place)
    assert "l.csv has no label column" in caplog.text
    assert "genre" in caplog.text


# Stretches


@pytest.mark.parametrize(
    ("begin", "end"),
    [("begin_seconds", "end_seconds"), ("start_seconds", "end_seconds"), ("time_start", "time_end"),
     ("start_time", "end_time"), ("t_start", "t_end"), ("Start Sec", "End Sec"), ("start", "end")],
)  # fmt: skip
def test_stretches_of_a_file_are_rows(place: str, begin: str, end: str) -> None:
    _put(place, "a.mp4")
    lines = ["a.mp4,x,0,1.5", "a.mp4,y,10.25,20", "a.mp4,z,,", "./a.mp4,x,0.0,1.50"]
    text = "\n".join([f"path,label,{begin},{end}", *lines])
    rows = list_videos(_write(place, "l.csv", text)).to_pylist()
    uri = f"{place}/a.mp4"
    assert [(r["label"], r["begin_seconds"], r["end_seconds"]) for r in rows] == [
        ("z", None, None), ("x", 0.0, 1.5), ("y", 10.25, 20.0)
    ]  # fmt: skip
    names = [uri, f"{uri}#t=0,1.5", f"{uri}#t=10.25,20"]
    assert [row["video_id"] for row in rows] == [video_id(name) for name in names]
    assert {row["uri"] for row in rows} == {uri}
    assert {row["group"] for row in rows} == {"a.mp4"}  # never in two splits


def test_stretches_of_files_of_one_name_are_of_two_recordings(place: str) -> None:
    head = "path,label,split,begin_seconds,end_seconds\n"
    text = f"{head}x/1.mp4,x,train,0,1\ny/1.mp4,y,test,0,1\n"
    rows = list_videos(_write(place, "l.csv", text)).to_pylist()
    assert [row["group"] for row in rows] == ["x/1.mp4", "y/1.mp4"]
    text += "x/1.mp4,x,test,1,2\n"
    with pytest.raises(UserError, match=r"'x/1.mp4' in train and test"):
        list_videos(_write(place, "l.csv", text))


def test_columns_that_may_be_of_stretches_are_told(
    place: str, caplog: pytest.LogCaptureFixture
) -> None:
    _put(place, "a.mp4")
    source = _write(place, "v.csv", "path,label,clip_start,clip_end\na.mp4,x,0.5,2\n")
    (row,) = list_videos(source).to_pylist()
    assert row["begin_seconds"] is None
    assert "may be of stretches (clip_start, clip_end)" in caplog.text
    source = _write(place, "v.csv", "videoPath,className,startTime,endTime\na.mp4,x,0.5,2\n")
    (row,) = list_videos(source).to_pylist()
    assert (row["label"], row["begin_seconds"], row["end_seconds"]) == ("x", 0.5, 2.0)


def test_bare_columns_beside_frames_are_not_seconds(place: str) -> None:
    (row,) = list_videos(
        _write(place, "l.csv", "path,start,end,num_frames\na.mp4,1,2,9\n")
    ).to_pylist()
    assert row["begin_seconds"] is None


def test_our_table_of_stretches_is_a_manifest(place: str) -> None:
    _put(place, "a.mp4")
    text = "path,label,begin_seconds,end_seconds\na.mp4,x,0,1.5\na.mp4,y,2,3\n"
    table = list_videos(_write(place, "l.csv", text))
    sink = io.BytesIO()
    pq.write_table(table, sink)
    storage.write_bytes(f"{place}/videos.parquet", sink.getvalue())
    assert list_videos(f"{place}/videos.parquet").equals(table)


# Names of lists


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["train.txt", "val.txt"], [["train.txt", "val.txt"]]),
        (["s/trainlist02.txt", "s/trainlist01.txt", "s/testlist01.txt"],
         [["s/testlist01.txt", "s/trainlist01.txt"]]),
        (["s/train.csv", "s/train.txt"], [["s/train.txt"]]),
        (["s/test.txt", "s/train.json"], [["s/train.json"]]),
        (["x/train.txt", "splits/train.txt"], [["splits/train.txt"], ["x/train.txt"]]),
        (["ucf101_train_split_2_videos.txt", "ucf101_val_split_2_videos.txt",
          "ucf101_train_split_10_videos.txt"],
         [["ucf101_train_split_2_videos.txt", "ucf101_val_split_2_videos.txt"]]),
        (["labels.txt", "test_labels.csv", "classInd.txt", "fold1.txt", "train_val.txt"], []),
    ],
)  # fmt: skip
def test_which_lists_are_lists_of_splits(paths: list[str], expected: list[list[str]]) -> None:
    found = [[one.path for one in lists] for lists in datasets.split_lists(paths)]
    assert found == expected
