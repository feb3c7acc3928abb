"""Frames of videos that a stranger's table names: the right ones, or a reason, and nothing else."""

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.shared_data import FIGHT
from tests.videos import read_number, read_numbers, write_video
from tests.web import serving
from vidray.errors import VideoError
from vidray.report.blocks import Thumbnail
from vidray.report.frames import decoding
from vidray.report.frames.thumbnails import Thumbnails


def _ask(uri: object, hosts: Sequence[str] = (), **more: Any) -> pa.RecordBatch:
    """The child's answer, asked for in this process."""
    plain = {"count": 4, "begin_seconds": None, "end_seconds": None, "at_seconds": None}
    request = {"uri": str(uri), **plain, "height_px": 120, **more}
    return decoding.worker({"hosts": list(hosts)})(request)


def _pixels(batch: pa.RecordBatch) -> NDArray[np.uint8]:
    """``uint8 (T, H, W, 3)``."""
    assert batch.schema.metadata is None, batch.schema.metadata
    rows = batch.to_pylist()
    return np.stack(
        [np.frombuffer(r["pixels"], np.uint8).reshape(r["height_px"], -1, 3) for r in rows]
    )


def _why(batch: pa.RecordBatch) -> tuple[str, str]:
    assert len(batch) == 0
    return batch.schema.metadata[b"kind"].decode(), batch.schema.metadata[b"why"].decode()


def test_frames_are_the_middles_of_equal_parts(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", num_frames=40)
    batch = _ask(path)
    assert read_numbers(_pixels(batch)) == [5, 15, 25, 35]
    assert batch["at_seconds"].to_pylist() == pytest.approx([0.2, 0.6, 1.0, 1.4])
    assert read_numbers(_pixels(_ask(path, begin_seconds=0.4, end_seconds=0.8))) == [11, 13, 16, 18]
    # Of two frames there are no four.
    assert read_numbers(_pixels(_ask(path, begin_seconds=0.4, end_seconds=0.48))) == [10, 11]


def test_a_frame_is_the_one_that_is_shown_at_its_time(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", num_frames=40)
    # 0.4799 is 0.48 of a clock of milliseconds; before the first and after the last are these.
    times = [0.8, 0.0, 0.05, 0.4799, -3.0, 99.0, 0.8]
    assert read_numbers(_pixels(_ask(path, at_seconds=times))) == [20, 0, 1, 12, 0, 39, 20]


def test_times_count_from_the_first_frame_shown(tmp_path: Path) -> None:
    path = write_video(tmp_path / "late.mp4", num_frames=20, pts=range(25, 45))
    batch = _ask(path, at_seconds=[0.0, 0.4])
    assert read_numbers(_pixels(batch)) == [0, 10]
    assert batch["at_seconds"].to_pylist() == pytest.approx([0.0, 0.4])


def test_frames_keep_their_shape(tmp_path: Path) -> None:
    turned = write_video(tmp_path / "turned.mp4", num_frames=2, rotation_degrees=90)
    assert _pixels(_ask(turned, count=1)).shape == (1, 120, 90, 3)
    wide = write_video(tmp_path / "wide.mp4", num_frames=2, width_px=1600, height_px=64)
    assert _pixels(_ask(wide, count=1)).shape == (1, round(4 * 120 / 25), 4 * 120, 3)
    tall = write_video(tmp_path / "tall.mp4", num_frames=2, width_px=16, height_px=1600)
    assert _pixels(_ask(tall, count=1)).shape == (1, 120, 1, 3)


def test_a_stretch_behind_the_end_is_said(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", num_frames=10)
    kind, why = _why(_ask(path, begin_seconds=5.0))
    assert kind == "too_short"
    assert "0.360 s" in why
    assert _why(_ask(path, begin_seconds=float("nan")))[0] == "too_short"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n"),
        ("script.mp4", "ffconcat version 1.0\nfile {}\n"),
    ],
)
def test_playlists_and_scripts_open_nothing(tmp_path: Path, name: str, text: str) -> None:
    video = write_video(tmp_path / "secret.ts", num_frames=10)
    path = tmp_path / name
    path.write_text(text.format(video.name))
    # FFmpeg itself shows the video that is named.
    with av.open(str(path)) as container:
        assert read_number(next(container.decode(video=0)).to_ndarray(format="rgb24")) == 0
    assert _why(_ask(path))[0] == "unreadable"
    assert _why(_ask(f"file://{path}"))[0] == "unreadable"


def test_files_that_are_no_videos_are_not_shown(tmp_path: Path) -> None:
    Image.new("RGB", (60, 60), "red").save(tmp_path / "private.jpg")
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "link.mp4").symlink_to("/proc/self/environ")
    expected = {
        "private.jpg": "no_video",
        "pipe.mp4": "unreadable",
        "empty.mp4": "unreadable",
        "link.mp4": "denied",
        ".": "unreadable",
        "gone.mp4": "missing",
    }
    for name, kind in expected.items():
        assert _why(_ask(tmp_path / name))[0] == kind, name


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("/etc/passwd", "unreadable"),
        ("/dev/zero", "unreadable"),
        ("/proc/self/mem", "denied"),
        ("file:///proc/self/environ", "denied"),
        ("file:///etc/%70asswd", "unreadable"),
        ("/etc/../proc/self/maps", "denied"),
        ("concat:/etc/passwd|/etc/passwd", "unavailable"),
        ("subfile,,start,0,end,0,,:/etc/passwd", "missing"),
        ("pipe:0", "missing"),
        ("http://169.254.169.254/latest/meta-data/iam/", "denied"),
        ("http://[fd00:ec2::254]/latest/meta-data/", "denied"),
        ("http://metadata.google.internal/computeMetadata/v1/", "denied"),
        ("https://localhost:8265/api/jobs/", "denied"),
        ("HTTP://127.0.0.1/", "denied"),
        ("ftp://10.0.0.1/a.mp4", "denied"),
        ("smb://10.0.0.1/share/a.mp4", "denied"),
        ("ssh://root@10.0.0.1/a.mp4", "denied"),
        ("github://owner:repo@main/a.mp4", "denied"),
        ("zip://a.mp4::http://127.0.0.1/a.zip", "denied"),
        ("simplecache::http://127.0.0.1/a.mp4", "missing"),
        ("reference://a", "denied"),
        ("http://", "denied"),
        ("http://[", "denied"),
        ("", "unavailable"),
        ("\0", "missing"),
        ("a" * 5000, "missing"),
    ],
)
def test_an_address_that_no_video_needs_is_refused(uri: str, kind: str) -> None:
    found, why = _why(_ask(uri))
    assert found == kind
    assert len(why) <= 300


@pytest.mark.slow
def test_a_host_is_asked_only_if_it_is_named(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", num_frames=4)
    with serving(tmp_path) as web:
        address = f"{web.address}/a.mp4"
        assert _why(_ask(address))[0] == "denied"
        assert _why(_ask(address, hosts=["example.org"]))[0] == "denied"
        assert web.asked == []
        _ask(address, hosts=["127.0.0.1"])
        assert web.asked


def test_a_secret_in_an_address_is_not_in_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("cannot read https://user:pa55word@host/a.mp4?X-Amz-Signature=abc")

    monkeypatch.setattr(decoding, "check_address", fail)
    kind, why = _why(_ask("a.mp4"))
    assert kind == "crashed"
    assert "pa55word" not in why
    assert "abc" not in why


# What the parent makes of answers, with a stand-in for the child


class _Child:
    """Answers as it is told to, and counts the questions."""

    def __init__(self, answers: dict[str, pa.RecordBatch | Exception]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def run(self, request: dict[str, Any]) -> pa.RecordBatch:
        self.asked.append(request["uri"])
        found = self.answers.get(request["uri"], VideoError("missing", "the file is gone"))
        if isinstance(found, Exception):
            raise found
        return found

    def close(self) -> None:
        """Nothing to end."""


def _of_child(answers: dict[str, Any], **limits: Any) -> tuple[Thumbnails, _Child]:
    made, child = Thumbnails(**limits), _Child(answers)
    made._sandbox = child  # type: ignore[assignment]
    return made, child


def _frame_at(*seconds: float) -> pa.RecordBatch:
    rows = [{**_frame().to_pylist()[0], "at_seconds": at} for at in seconds]
    return pa.RecordBatch.from_pylist(rows, schema=_frame().schema)


def _frame(height: int = 4, width: int = 6, data: bytes | None = None) -> pa.RecordBatch:
    pixels = bytes(height * width * 3) if data is None else data
    return pa.record_batch(
        {
            "at_seconds": pa.array([0.5], pa.float64()),
            "height_px": pa.array([height], pa.int32()),
            "pixels": pa.array([pixels], pa.binary()),
        }
    )


def _shown(found: Sequence[Thumbnail] | str) -> Sequence[Thumbnail]:
    assert not isinstance(found, str), found
    return found


def test_what_was_decoded_is_kept() -> None:
    made, child = _of_child({"/a.mp4": _frame()})
    first = _shown(made.of("/a.mp4"))
    assert first == made.of("/a.mp4")
    assert child.asked == ["/a.mp4"]
    assert first[0].jpeg.startswith(b"\xff\xd8")
    assert (first[0].alt, first[0].caption) == ("frame at 0.50 s", "at 0.50 s")
    made.of("/a.mp4", at_seconds=[0.5])
    assert len(child.asked) == 2


def test_one_frame_of_a_video_that_was_decoded_is_one_of_these() -> None:
    made, child = _of_child({"/a.mp4": _frame_at(0.1, 0.5, 0.9)})
    made.of("/a.mp4", count=3)
    assert [one.caption for one in _shown(made.of("/a.mp4", count=1))] == ["at 0.50 s"]
    assert len(child.asked) == 1
    made.of("/a.mp4", count=1, end_seconds=4.0)
    made.of("/a.mp4", count=1, height_px=40)
    assert len(child.asked) == 3


def test_a_folder_whose_videos_are_gone_is_given_up() -> None:
    made, child = _of_child({"/here/a.mp4": _frame()})
    for number in range(20):
        assert "missing" in str(made.of(f"/gone/{number}.mp4"))
    assert len(child.asked) == 8
    assert made.of("/gone/99.mp4") == (
        "no frames: not looked for, as 8 others beside it are missing"
    )
    assert _shown(made.of("/here/a.mp4"))


def test_a_video_that_is_there_keeps_its_folder_in_hope() -> None:
    made, child = _of_child({f"/some/{number}.mp4": _frame() for number in range(0, 40, 5)})
    for number in range(40):
        made.of(f"/some/{number}.mp4")
    assert len(child.asked) == 40


def test_a_bucket_that_is_down_is_asked_twice() -> None:
    down = VideoError("unavailable", "the storage fails")
    made, child = _of_child({f"s3://bucket/{number}/a.mp4": down for number in range(9)})
    for number in range(9):
        made.of(f"s3://bucket/{number}/a.mp4")
    assert len(child.asked) == 2


def test_a_broken_video_is_asked_once_whatever_is_wanted_of_it() -> None:
    made, child = _of_child({"/a.mp4": VideoError("crashed", "died 2 times (SIGSEGV)")})
    assert made.of("/a.mp4") == "no frames: died 2 times (SIGSEGV) (crashed)"
    assert made.of("/a.mp4", count=1) == made.of("/a.mp4", at_seconds=[1.0]) == made.of("/a.mp4")
    assert len(child.asked) == 1


def test_a_stretch_that_is_not_there_says_nothing_of_another() -> None:
    made, child = _of_child({"/a.mp4": VideoError("too_short", "no frame from 5 s on")})
    made.of("/a.mp4", begin_seconds=5.0)
    child.answers["/a.mp4"] = _frame()
    assert _shown(made.of("/a.mp4"))


def test_bytes_and_seconds_have_an_end() -> None:
    size = len(_shown(_of_child({"/a.mp4": _frame()})[0].of("/a.mp4"))[0].jpeg)
    made, child = _of_child({"/a.mp4": _frame()}, most_bytes=3 * size)
    assert [isinstance(made.of("/a.mp4"), str) for _ in range(5)] == [False] * 3 + [True] * 2
    made, child = _of_child({"/a.mp4": _frame()}, most_seconds=0.0)
    assert "took 0 seconds" in str(made.of("/a.mp4"))
    assert child.asked == []


def test_the_places_of_videos_that_were_shown_are_told() -> None:
    uris = ["/a/1.mp4", "/a/2.mp4", "s3://bucket/x/y/1.mp4"]
    made, _ = _of_child({uri: _frame() for uri in uris})
    for uri in [*uris, *uris, "/gone/1.mp4"]:
        made.of(uri)
    assert made.places == {"/a": 2, "s3://bucket": 1}


def test_without_frames_nothing_is_asked() -> None:
    made, child = _of_child({"/a.mp4": _frame()}, is_on=False)
    assert made.of("/a.mp4") == "frames are turned off (--no-frames)"
    assert child.asked == []


@pytest.mark.parametrize(
    "answer",
    [
        _frame(data=b"<svg onload=alert(1)>"),
        _frame(height=0, data=b""),
        _frame(height=-4, data=bytes(72)),
        _frame(height=97, width=1),
        _frame(height=1, width=385),
        _frame().slice(0, 0),
        pa.record_batch({"a": pa.array([1])}),
        pa.record_batch({name: pa.array(["x"]) for name in ("a", "b", "c")}),
        _frame().replace_schema_metadata({"kind": b"\xff", "why": "x"}),
        _frame().replace_schema_metadata({"kind": "missing"}),
    ],
)
def test_an_answer_of_a_child_taken_over_is_refused(answer: pa.RecordBatch) -> None:
    made, _ = _of_child({"/a.mp4": answer})
    assert made.of("/a.mp4") == "no frames: the decoding process answers nonsense (crashed)"


def test_a_kind_that_is_none_is_not_shown() -> None:
    made, _ = _of_child({"/a.mp4": _frame().replace_schema_metadata({"kind": "<b>", "why": "x"})})
    assert made.of("/a.mp4") == "no frames: x (crashed)"


# With the child


@pytest.fixture(scope="module")
def thumbnails() -> Iterator[Thumbnails]:
    with Thumbnails() as made:
        yield made


@pytest.mark.slow
def test_a_video_in_a_child(thumbnails: Thumbnails, tmp_path: Path) -> None:
    path = write_video(tmp_path / "<img src=x onerror=alert(1)>.mp4", num_frames=40)
    found = _shown(thumbnails.of(str(path), height_px=120))
    assert [one.caption for one in found] == ["at 0.20 s", "at 0.60 s", "at 1.00 s", "at 1.40 s"]
    for one, number in zip(found, (5, 15, 25, 35), strict=True):
        assert read_number(np.asarray(Image.open(io.BytesIO(one.jpeg)).convert("RGB"))) == number


@pytest.mark.slow
def test_a_missing_video_costs_no_child(thumbnails: Thumbnails, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", num_frames=4)
    thumbnails.of(str(path), count=1)
    child = thumbnails._sandbox._child
    assert child is not None
    assert "missing" in str(thumbnails.of(str(tmp_path / "gone.mp4")))
    assert thumbnails._sandbox._child is child
    assert child.poll() is None


@pytest.mark.slow
@pytest.mark.shared
def test_short_clips_take_a_few_hundredths_of_a_second(thumbnails: Thumbnails) -> None:
    clips = sorted((FIGHT / "fight").glob("*.mp4"))[:12]
    before, size = thumbnails._seconds, thumbnails._bytes
    for clip in clips:
        assert len(_shown(thumbnails.of(str(clip)))) == 4
    # 0.04 s on a quiet machine; this one may have ten other things to do.
    assert (thumbnails._seconds - before) / len(clips) < 1.0
    # 12 models with 12 errors each, and as many bytes again for base64's third: below 20 MB.
    assert (thumbnails._bytes - size) / len(clips) * 144 * 4 / 3 < 8e6
