"""Copies are found, whatever was done to them; like videos that are none are not."""

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from tests.shared_data import FIGHT
from vidray.report.blocks import Gallery, Prose
from vidray.report.dataset import duplicate_check, duplicates
from vidray.report.dataset.duplicates import (
    Compared,
    alike,
    compare,
    hashes,
    is_flat,
    prepare,
    too_flat,
)
from vidray.report.dataset.video_sets import VideoSet
from vidray.report.frames import glances
from vidray.report.frames.glances import SIDE_PX, Glance, glance_at, number_of_frames
from vidray.report.frames.thumbnails import Thumbnails
from vidray.report.settings import ReportSettings
from vidray.report.tools import Tools
from vidray.video.synthetic import make_clips

Pixels = NDArray[np.uint8]


def _scene(seed: int, count: int = 32, *, motion: int | None = None, bright: float = 40) -> Glance:
    """A still picture over which a square walks, ``bright`` levels brighter; ``motion`` is the seed
    of its way.
    """
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(SIDE_PX, SIDE_PX)).astype(np.float32)
    blobs = cv2.GaussianBlur(noise, (0, 0), 3)
    picture = 120 + 100 * blobs / np.abs(blobs).max()
    walk = np.random.default_rng(seed if motion is None else motion)
    begin, way = walk.uniform(0, 24, 2), walk.uniform(-0.7, 0.7, 2)
    frames = []
    for k in range(count):
        frame = picture.copy()
        x, y = ((begin + way * k) % 26).astype(int)
        frame[y : y + 4, x : x + 4] += bright
        frames.append(np.clip(frame, 0, 255).astype(np.uint8))
    return Glance(np.stack(frames), np.arange(count) / 8)


def _compare(a: Glance, b: Glance) -> Compared:
    return compare("a", "b", prepare(a), prepare(b))


def _noisy(glance: Glance, levels: float, gain: float = 1.0) -> Glance:
    rng = np.random.default_rng(9)
    noise = rng.normal(0, levels, glance.gray.shape)
    gray = np.clip(glance.gray * gain + noise, 0, 255).astype(np.uint8)
    return Glance(gray, glance.seconds)


def test_the_hash_is_of_the_lowest_frequencies() -> None:
    """Against the sum of cosines that the DCT is."""
    gray = _scene(3, 2).gray
    n = np.arange(SIDE_PX)
    waves = np.cos(np.pi * (2 * n[None, :] + 1) * np.arange(8)[:, None] / (2 * SIDE_PX))
    scale = np.where(np.arange(8) == 0, np.sqrt(1 / SIDE_PX), np.sqrt(2 / SIDE_PX))[:, None]
    for frame, code in zip(gray, hashes(gray), strict=True):
        low = (scale * waves) @ frame.astype(float) @ (scale * waves).T
        values = low.ravel()[1:]
        bits = np.unpackbits(np.array([code]).view(np.uint8))
        np.testing.assert_array_equal(bits[:63], values > np.median(values))
        assert bits[63] == 0


def test_a_copy_is_a_copy_after_noise_darkening_and_trimming() -> None:
    original = _scene(1)
    trimmed = Glance(original.gray[7:], original.seconds[7:] - original.seconds[7])
    for copy, shift in ((_noisy(original, 4, 0.8), 0.0), (_noisy(trimmed, 4), 7 / 8)):
        for pair in (_compare(original, copy), _compare(copy, original)):
            assert pair.is_copy
            assert abs(pair.later_seconds) == pytest.approx(shift, abs=0.07)
            assert pair.motion is not None
            assert pair.motion > 0.9


def test_another_moment_of_the_same_place_is_no_copy() -> None:
    pair = _compare(_scene(1, bright=20), _scene(1, motion=5, bright=20))
    assert not pair.is_copy
    assert pair.is_same_place
    other = _compare(_scene(1), _scene(2))
    assert not other.is_copy
    assert not other.is_same_place


def test_dark_and_blank_videos_are_not_compared() -> None:
    rng = np.random.default_rng(0)
    dark = {
        f"dark{k}": Glance(
            rng.normal(12, 2, (16, SIDE_PX, SIDE_PX)).clip(0, 255).astype(np.uint8),
            np.arange(16) / 8,
        )
        for k in range(5)
    }
    blank = Glance(np.zeros((16, SIDE_PX, SIDE_PX), np.uint8), np.arange(16) / 8)
    every = {**dark, "blank": blank, "other blank": blank, "scene": _scene(1)}
    assert is_flat(blank.gray).all()
    assert alike(every, range(len(every))) == []
    assert set(too_flat(every)) == {*dark, "blank", "other blank"}


def test_where_nothing_moves_pictures_must_be_the_same() -> None:
    still = Glance(np.repeat(_scene(1).gray[:1], 16, axis=0), np.arange(16) / 8)
    again = Glance(np.repeat(_scene(1).gray[:1] // 2 + 40, 16, axis=0), np.arange(16) / 8)
    other = Glance(np.repeat(_scene(1, motion=5).gray[:1], 16, axis=0), np.arange(16) / 8)
    pair = _compare(still, again)
    assert pair.is_copy
    assert pair.motion is None
    assert not _compare(still, other).is_copy


def test_one_frame_is_compared_by_its_picture() -> None:
    one = Glance(_scene(1).gray[:1], np.zeros(1))
    assert _compare(one, one).is_copy
    assert not _compare(one, Glance(_scene(2).gray[:1], np.zeros(1))).is_copy
    assert alike({"a": one, "b": one}, [0, 1]) == [(0, 1)]


def test_the_search_is_exact_in_any_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a plain loop over all pairs, key frames and frames."""
    scenes = {f"s{k}": _scene(k // 3, 12, motion=k) for k in range(18)}
    classes = [k % 3 for k in range(18)]
    expected = {}
    for (i, a), (j, b) in itertools.permutations(enumerate(scenes.values()), 2):
        keys = hashes(a.gray)[[1, 3, 6, 8, 10]]
        least = [min(int(key ^ code).bit_count() for code in hashes(b.gray)) for key in keys]
        if np.mean(least) <= duplicates.ALIKE_BITS and classes[i] != classes[j]:
            pair = (min(i, j), max(i, j))
            expected[pair] = min(expected.get(pair, 99.0), float(np.mean(least)))
    assert len(expected) > 10
    found = alike(scenes, classes)
    assert set(found) == set(expected)
    assert [expected[pair] for pair in found] == sorted(expected.values())
    monkeypatch.setattr(duplicates, "_BLOCK_BYTES", 1)
    assert alike(scenes, classes) == found


def test_long_videos_are_sought_through_not_decoded() -> None:
    assert number_of_frames(seconds=2, pixels=10_000_000) == 16
    assert number_of_frames(seconds=0.1, pixels=1) == 8
    assert number_of_frames(seconds=60, pixels=100_000_000) == 64
    assert number_of_frames(seconds=60, pixels=10**10) == 12


def test_each_split_gets_its_share_of_the_videos_compared() -> None:
    frame = pd.DataFrame(
        {"video_id": [f"v{k:03}" for k in range(100)],
         "split": ["test"] * 5 + ["val"] * 25 + ["train"] * 70}
    )  # fmt: skip
    few = duplicate_check.choose(frame, 45, seed=0)
    assert few["split"].value_counts().to_dict() == {"test": 5, "val": 20, "train": 20}
    assert list(few["video_id"]) == sorted(few["video_id"])
    assert duplicate_check.choose(frame, 45, seed=0).equals(few)
    assert len(duplicate_check.choose(frame, 100, seed=0)) == 100


def test_the_same_moments_stand_side_by_side() -> None:
    moments = duplicate_check._moments(4.0, 2.0, 1.0)
    assert moments == [(1.5, 0.5), (2.5, 1.5)]
    assert duplicate_check._moments(2.0, 4.0, -1.0) == [(0.5, 1.5), (1.5, 2.5)]
    assert duplicate_check._moments(0.0, 0.0, 0.0) == [(0.0, 0.0), (0.0, 0.0)]


def _copy(
    source: Path, target: Path, *, crf: int = 30, scale: float = 1.0, crop: float = 0.0,
    skip_seconds: float = 0.0,
) -> Path:  # fmt: skip
    """A video encoded again, smaller, cropped at each side, without its beginning."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        rate = Fraction(reader.streams.video[0].average_rate or 25)
        out: Any = None
        for number, frame in enumerate(reader.decode(video=0)):
            if number < rate * Fraction(skip_seconds):
                continue
            pixels = frame.to_ndarray(format="rgb24")
            height, width = pixels.shape[:2]
            top, left = int(crop * height), int(crop * width)
            pixels = pixels[top : height - top, left : width - left]
            size = tuple(int(side * scale) // 2 * 2 for side in pixels.shape[1::-1])
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
            if out is None:
                options = {"crf": str(crf), "preset": "ultrafast"}
                out = writer.add_stream("libx264", rate=rate, options=options)
                out.width, out.height, out.pix_fmt = *size, "yuv420p"
            writer.mux(out.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        writer.mux(out.encode(None))
    return target


_CHANGES: dict[str, dict[str, Any]] = {
    "encoded again": {"crf": 34},
    "half as large": {"crf": 28, "scale": 0.5},
    "cropped": {"crf": 26, "crop": 0.03},
    "trimmed": {"crf": 26, "skip_seconds": 0.4},
    "all of it": {"scale": 0.6, "crop": 0.02, "skip_seconds": 0.3},
}


def _search(paths: list[Path], splits: list[str]) -> list[Compared]:
    """The pairs across splits that are copies."""
    videos = [
        {"video_id": str(path), "uri": str(path), "begin_seconds": None, "end_seconds": None}
        for path in paths
    ]
    found = glance_at(videos, most_seconds=500)
    assert not found.failed
    seen = {str(path): found.of[str(path)] for path in paths}
    ready = [prepare(glance) for glance in seen.values()]
    ids = list(seen)
    pairs = [compare(ids[a], ids[b], ready[a], ready[b]) for a, b in alike(seen, splits)]
    return [pair for pair in pairs if pair.is_copy]


def _is_right(pair: Compared) -> bool:
    return Path(pair.second).name.startswith(Path(pair.first).stem)


@pytest.mark.slow
def test_precision_and_recall_on_made_clips(tmp_path: Path) -> None:
    """Clips of one scene share background and discs, and differ in how these move: no copies."""
    make_clips(tmp_path / "clips", clips_per_class=3)
    originals = sorted(path for path in (tmp_path / "clips").rglob("v_*") if path.suffix != ".ts")
    copies = [
        _copy(path, tmp_path / f"{path.stem} {name}.mp4", **change)
        for path in originals
        for name, change in _CHANGES.items()
    ]
    found = _search([*originals, *copies], ["a"] * len(originals) + ["b"] * len(copies))
    right = [pair for pair in found if _is_right(pair)]
    missed = {str(path) for path in copies} - {pair.second for pair in right}
    # The brightness of these is drawn anew for each frame, and other frames are looked at.
    assert all("flicker" in name for name in missed), missed
    assert len(right) >= 0.9 * len(copies)
    assert len(right) == len(found)
    assert _search(originals, [path.stem for path in originals]) == []


@pytest.mark.slow
@pytest.mark.skipif(not FIGHT.is_dir(), reason="needs the fight clips beside the checkout")
def test_precision_and_recall_on_real_clips(tmp_path: Path) -> None:
    """Many of these are clips of one camera, seconds apart."""
    originals = [
        *sorted(FIGHT.rglob("fi0[0-1]*.mp4"))[:10],
        *sorted(FIGHT.rglob("nofi07*.mp4"))[:6],
    ]
    copies = [
        _copy(path, tmp_path / f"{path.stem} {name}.mp4", **change)
        for path in originals[::4]
        for name, change in _CHANGES.items()
    ]
    found = _search([*originals, *copies], ["a"] * len(originals) + ["b"] * len(copies))
    right = [pair for pair in found if _is_right(pair)]
    assert len(right) >= 0.9 * len(copies)
    assert len(right) == len(found)


def _set(paths: list[Path], splits: list[str], labels: list[str]) -> VideoSet:
    count = len(paths)
    frame = pd.DataFrame(
        {
            "video_id": [f"v{k}" for k in range(count)],
            "uri": [str(path) for path in paths],
            "label": labels,
            "split": splits,
            "group": None,
            "recording": [f"video v{k}" for k in range(count)],
            "status": "ok",
            "begin_seconds": None,
            "end_seconds": None,
        }
    )
    return VideoSet(name="features", frame=frame, states=frame, enhance=None)


@pytest.mark.slow
def test_the_page_shows_copies_side_by_side(tmp_path: Path) -> None:
    make_clips(tmp_path / "clips", clips_per_class=1)
    one = tmp_path / "clips" / "drift" / "v_drift_g01_c01.avi"
    other = next((tmp_path / "clips" / "spin").glob("v_*"))
    copy = _copy(one, tmp_path / "<img src=x>.mp4", scale=0.5)
    gone = tmp_path / "gone.mp4"
    videos = _set(
        [one, other, copy, gone], ["train", "train", "test", "test"], ["a", "b", "c", "b"]
    )
    with Thumbnails() as thumbnails:
        tools = Tools(settings=ReportSettings(), thumbnails=thumbnails)
        parts, findings = duplicate_check.blocks(
            videos, tools, slug="1", section="data", most_seconds=60
        )
    said = [text for part in parts if isinstance(part, Prose) for text in part.paragraphs]
    assert said[0] == (
        "Of 3 videos, 1 pair of copies cross splits (1 test and train) and 1 pair of copies has "
        "different labels."
    )
    assert "1 more could not be opened" in said[1]
    (gallery,) = [part for part in parts if isinstance(part, Gallery)]
    (card,) = gallery.cards
    assert set(card.title.split(" and ")) == {one.name, copy.name}
    assert len(card.pictures) == 4
    assert [finding.level for finding in findings] == ["alarm"]
    assert "1 test and train" in findings[0].text


def test_videos_that_are_gone_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        """A sandbox in whose hands no video opens."""

        def __init__(self, *_: object, **__: object) -> None:
            pass

        def run(self, video: dict[str, Any]) -> None:
            raise glances.VideoError("missing", f"{video['uri']} is gone")

        def close(self) -> None:
            pass

    monkeypatch.setattr(glances, "Sandbox", Gone)
    paths = [tmp_path / f"{k}.mp4" for k in range(200)]
    videos = _set(paths, ["train", "test"] * 100, ["a"] * 200)
    with Thumbnails(is_on=False) as thumbnails:
        tools = Tools(settings=ReportSettings(), thumbnails=thumbnails)
        parts, findings = duplicate_check.blocks(
            videos, tools, slug="1", section="data", most_seconds=60
        )
        off = Tools(settings=ReportSettings(frames=False), thumbnails=thumbnails)
        (turned_off,), _ = duplicate_check.blocks(
            videos, off, slug="1", section="data", most_seconds=60
        )
    assert isinstance(parts[0], Prose)
    assert parts[0].paragraphs[0].startswith("Copies could not be looked for: none of the videos")
    assert isinstance(parts[1], Prose)
    assert "not reached" in parts[1].paragraphs[0]
    assert findings == []
    assert isinstance(turned_off, Prose)
    assert "frames are turned off" in turned_off.paragraphs[0]
