"""--sampling: which frames clips and features are made of, and that the default changes nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.video_writer import read_numbers, write_video
from vidray.errors import UserError
from vidray.features.extraction import Settings, describe_video
from vidray.labelling.settings import LabelOptions
from vidray.labelling.windows import window_frames
from vidray.sources import list_videos
from vidray.video.choice import FrameChoice
from vidray.video.clips import ClipSettings, clip_frames, cut_video
from vidray.video.clock import Clock
from vidray.video.frames import Limits

CHOICES = [
    FrameChoice(),
    FrameChoice(sampling="uniform"),
    FrameChoice(sampling="fps", fps=5.0),
    FrameChoice(sampling="dense"),
    FrameChoice(sampling="random", seed=3),
    FrameChoice(sampling="random_clip"),
]
choices = st.sampled_from(CHOICES)


def test_what_nobody_chose_has_the_digest_it_had() -> None:
    """Taken with commit ace43ad: its runs are gone on with, and its labels stay."""
    assert ClipSettings().digest == "aace634aa459"
    limits = Limits(max_corrupt_share=0.5)
    assert ClipSettings(size_px=64, clip_seconds=2.0, limits=limits).digest == "d9990fd4f3ab"
    assert Settings().digest == "c826683c196c"
    assert Settings(families=("color",), enhance="auto").digest == "a09494accb26"
    found = {ClipSettings(choice=choice).digest for choice in CHOICES}
    found |= {ClipSettings(choice=FrameChoice(sampling="random", seed=4)).digest}
    assert len(found) == 7


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("kind", [ClipSettings, Settings])
def test_settings_come_back_from_json(kind: Any, choice: FrameChoice) -> None:
    settings = kind(choice=choice)
    values = dataclasses.asdict(settings)
    assert kind.from_json(values) == settings
    assert "choice" in values
    del values["choice"]
    assert kind.from_json(values) == kind()


@given(choice=choices, ticks=st.integers(1, 400), rate=st.floats(1, 60), count=st.integers(1, 40))
def test_a_clip_has_its_frames_and_a_video_no_more_than_may_be_looked_at(
    choice: FrameChoice, ticks: int, rate: float, count: int
) -> None:
    clip = choice.of_clip(num_ticks=ticks, ticks_per_second=rate, count=count, draw=7)
    assert clip.shape == (count,)
    assert clip.dtype == np.int64
    assert clip.min() >= 0
    assert clip.max() < ticks
    if choice.sampling in ("dense", "random", "random_clip") and count <= ticks:
        assert len(set(clip.tolist())) == count
    if choice.sampling is None:
        return
    found = choice.of_video(num_ticks=ticks, ticks_per_second=rate, most=count, draw=7)
    assert 1 <= len(found) <= count
    assert (np.diff(found) >= 0).all()
    assert found.min() >= 0
    assert found.max() < ticks


def test_choices_by_hand() -> None:
    def clip(choice: FrameChoice, ticks: int, **how: Any) -> list[int]:
        asked = {"ticks_per_second": 10.0, "count": 4, "draw": 0, **how}
        return choice.of_clip(num_ticks=ticks, **asked).tolist()

    assert clip(FrameChoice(sampling="dense"), 20) == [8, 9, 10, 11]
    assert clip(FrameChoice(sampling="dense"), 2) == [0, 0, 1, 1]
    assert clip(FrameChoice(sampling="fps", fps=5.0), 40) == [16, 18, 20, 22]
    assert clip(FrameChoice(sampling="fps", fps=1.0), 20) == [0, 0, 10, 10]
    begin, *rest = clip(FrameChoice(sampling="random_clip"), 40)
    assert rest == [begin + 1, begin + 2, begin + 3]
    assert clip(FrameChoice(sampling="random_clip"), 3) == [0, 1, 2, 0]
    assert clip(FrameChoice(sampling="random"), 3) == [0, 1, 1, 2]

    def video(choice: FrameChoice, most: int) -> list[int]:
        return choice.of_video(num_ticks=40, ticks_per_second=10.0, most=most, draw=0).tolist()

    assert video(FrameChoice(sampling="uniform"), 4) == [5, 15, 25, 35]
    assert video(FrameChoice(sampling="dense"), 300) == list(range(40))
    assert video(FrameChoice(sampling="fps", fps=2.5), 300) == list(range(0, 40, 4))
    assert video(FrameChoice(sampling="fps", fps=2.5), 2) == [8, 28]


def test_each_video_has_a_draw_of_its_own_and_the_same_in_every_run() -> None:
    settings = ClipSettings(choice=FrameChoice(sampling="random_clip"), clips_per_video=2)
    found = [clip_frames(1000, 25.0, settings, draw=size).tolist() for size in (5000, 5000, 6000)]
    assert found[0] == found[1]
    assert found[0] != found[2]
    (first, *_), (second, *_) = found[0]
    assert second != first + 500
    other = dataclasses.replace(settings, choice=FrameChoice(sampling="random_clip", seed=1))
    assert clip_frames(1000, 25.0, other, draw=5000).tolist() != found[0]


@pytest.mark.parametrize("choice", CHOICES[2:])
def test_clips_hold_the_chosen_frames_and_say_what_they_span(
    tmp_path: Path, choice: FrameChoice
) -> None:
    path = write_video(tmp_path / "a.mp4", num_frames=60)  # 25 frames a second
    (video,) = list_videos(str(path)).to_pylist()
    settings = ClipSettings(frames_per_clip=4, size_px=64, choice=choice, clips_per_video=2)
    batch = cut_video({**video, "label": "x"}, settings)
    shape = (4, 64, 64, 3)
    pixels = [np.frombuffer(p.as_buffer(), np.uint8).reshape(shape) for p in batch["pixels"]]
    wanted = clip_frames(60, 25.0, settings, draw=video["size_bytes"])
    assert [read_numbers(clip) for clip in pixels] == wanted.tolist()
    spans = zip(batch["begin_seconds"].to_pylist(), batch["end_seconds"].to_pylist(), strict=True)
    for (begin, end), frames, stretch in zip(spans, wanted, ((0.0, 1.2), (1.2, 2.4)), strict=True):
        span = (frames.min() / 25, (frames.max() + 1) / 25)
        assert (begin, end) == pytest.approx(stretch if choice.sampling == "random" else span)
    assert cut_video({**video, "label": "x"}, settings).equals(batch)


def test_features_are_of_the_chosen_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", num_frames=60)
    (video,) = list_videos(str(path)).to_pylist()

    def row(**changed: Any) -> dict[str, Any]:
        batch = describe_video(video, Settings(families=("color",), **changed))
        (found,) = batch.to_pylist()
        assert found["status"] == "ok", found["error_message"]
        found["color"] = np.nan_to_num(found["color"]).tolist()
        return dict(found)

    default, dense = row(), row(choice=FrameChoice(sampling="dense"))
    # One a second of 25 a second are frames 0, 25 and 50.
    once = row(choice=FrameChoice(sampling="fps", fps=1.0))
    assert once["color"] == default["color"]
    assert once["config_digest"] != default["config_digest"]
    assert dense["color"] != default["color"]
    every = row(choice=FrameChoice(sampling="random_clip"), max_sampled_frames=60)
    assert every["color"] == dense["color"]


def test_long_videos_are_labelled_by_frames_chosen_as_in_training() -> None:
    clock = Clock.of(np.arange(1000) / 10)
    dense = ClipSettings(frames_per_clip=4, choice=FrameChoice(sampling="dense"))
    windows, _ = window_frames(clock, LabelOptions(), dense)
    assert windows[:2].tolist() == [[18, 19, 20, 21], [38, 39, 40, 41]]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"sampling": "fps"}, "say how many frames a second"),
        ({"sampling": "fps", "fps": 0.0}, "fps is 0.0: it must be above 0"),
        ({"sampling": "fps", "fps": float("nan")}, "fps is nan"),
        ({"fps": 2.0}, "--fps has no effect without --sampling fps"),
        ({"sampling": "dense", "seed": 1}, "--seed has no effect without --sampling random"),
        ({"sampling": "random", "seed": -1}, "seed is -1: it must be 0 or more"),
    ],
)
def test_choices_that_mean_nothing_are_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        FrameChoice(**given)
