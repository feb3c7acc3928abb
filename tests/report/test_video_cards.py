"""Cards of videos, and of parts of videos, each with an anchor of its own."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from vidray.report.blocks import Thumbnail
from vidray.report.frames.thumbnails import Thumbnails
from vidray.report.inside.video_cards import VideoCards, gallery, recording, stretches_of
from vidray.report.runs import ExtractRun, Runs


class _Asked(Thumbnails):
    """Frames of no video; what was asked for is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[dict[str, Any]] = []

    def of(self, uri: str, **more: Any) -> Sequence[Thumbnail] | str:
        self.asked.append({"uri": uri, **more})
        return [Thumbnail(jpeg=b"x", alt="frame", caption="0.50 s")] * more["count"]


def _run(*rows: tuple[str, float | None, float | None]) -> ExtractRun:
    names = ("video_id", "begin_seconds", "end_seconds")
    kinds = (pa.string(), pa.float64(), pa.float64())
    columns = zip(*rows, strict=True)
    table = pa.table({n: pa.array(c, k) for n, c, k in zip(names, columns, kinds, strict=True)})
    return ExtractRun(out="o", name="n", report={}, rows=table, families={})


def test_parts_of_one_file_are_videos_of_their_own() -> None:
    run = _run(("first", 0.0, 4.5), ("last", 60.0, None), ("whole", None, None))
    stretches = stretches_of(Runs(folders=("x",), features=(run,)))
    assert stretches == {"first": (0.0, 4.5), "last": (60.0, None)}
    source = _Asked()
    cards = VideoCards(source, "test", stretches)
    made = [cards.card(video, "/a/film.mp4", {}) for video in ("first", "last", "whole")]
    assert [card.title for card in made] == [
        "film.mp4, 0 s to 4.5 s",
        "film.mp4, 60 s to its end",
        "film.mp4",
    ]
    assert [card.anchor for card in made] == [f"video-test-{k}" for k in (1, 2, 3)]
    asked = [(one["begin_seconds"], one["end_seconds"]) for one in source.asked]
    assert asked == [(0.0, 4.5), (60.0, None), (None, None)]
    assert stretches_of(Runs(folders=("x",), features=(_run(("a", None, None)),))) == {}


def test_the_frames_of_a_video_are_shown_once_and_one_of_them_again() -> None:
    source = _Asked()
    cards = VideoCards(source, "test")
    counts = [
        len(cards.card("a", "/a.mp4", {}, frames=frames).pictures) for frames in (1, 4, 4, 1, 2)
    ]
    assert counts == [1, 4, 1, 1, 1]
    assert cards.links(["a", "b"]).tolist() == ["#video-test-1", None]


def test_captions_may_be_left_out() -> None:
    plain = VideoCards(_Asked(), "test", has_captions=False)
    assert {one.caption for one in plain.card("a", "/a.mp4", {}).pictures} == {""}
    assert {one.alt for one in plain.card("a", "/a.mp4", {}).pictures} == {"frame"}


def test_reasons_that_differ_stay_with_their_cards() -> None:
    off = VideoCards(Thumbnails(is_on=False), "test")
    cards = [off.card(video, f"/{video}.mp4", {}) for video in ("a", "b")]
    same = gallery("Two", cards, "A note.")
    assert same.note == "A note. Frames are turned off (--no-frames)."
    assert [card.why_none for card in same.cards] == ["", ""]
    seen = VideoCards(_Asked(), "other").card("c", "/c.mp4", {})
    mixed = gallery("Three", [*cards, seen])
    assert [bool(card.why_none) for card in mixed.cards] == [True, True, False]
    assert mixed.note == ""


def test_an_unknown_recording_is_said() -> None:
    assert [recording(value) for value in ("g1", 7, None, float("nan"))] == [
        "g1", "7", "unknown", "unknown",
    ]  # fmt: skip
