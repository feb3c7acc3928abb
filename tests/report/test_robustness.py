"""Accuracy by thirds of quality against oracles; damaged copies pixel by pixel; the trials."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from tests.labelling.test_embedding import save_network
from tests.models.test_folder import fitted
from tests.report.test_strengths import judged
from tests.video_writer import moving_scene, uneven_pts, write_video
from vidray import models
from vidray.errors import UserError, VideoError
from vidray.features.embedding import Embedding, Views
from vidray.features.extraction import Settings, describe_video
from vidray.models import classical
from vidray.models.folder import ClassicalModel, DeepModel, save_classical
from vidray.models.matrices import to_matrix
from vidray.models.model_files import name_and_digest, read_info
from vidray.report.beside import parts
from vidray.report.blocks import Chart, DataTable, Fold, Part, Prose
from vidray.report.frames.thumbnails import Thumbnails
from vidray.report.judged import paired
from vidray.report.judged.comparable import groups
from vidray.report.runs import ExtractRun, JudgedModel, Runs, TrainedModel
from vidray.report.settings import ReportSettings
from vidray.report.tools import Tools
from vidray.report.verdict import by_quality, damage_trials, made_damage, robustness
from vidray.report.verdict.damage_trials import DamageTrials
from vidray.report.verdict.made_damage import DAMAGES, UNDAMAGED, MadeDamage, write_copy
from vidray.sources.listing import video_id
from vidray.tables import schema
from vidray.video.clips import cut_video
from vidray.video.decode import Request, Video
from vidray.video.sound import read_sound

CLASSES = ("jump", "run")

# Thirds


def test_equal_values_are_in_one_third() -> None:
    assert by_quality.thirds_of(np.arange(9.0)).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    tied = np.array([0, 0, 0, 0, 0, 1, 1, 2, 3.0])
    assert by_quality.thirds_of(tied).tolist() == [0, 0, 0, 0, 0, 1, 1, 2, 2]
    assert by_quality.thirds_of(np.array([5.0, 1, 9])).tolist() == [1, 0, 2]
    assert len(set(by_quality.thirds_of(np.array([1.0] * 8 + [2])).tolist())) < 3


def test_the_test_of_thirds_is_that_of_all_deals() -> None:
    right = np.array([1, 1, 1, 0, 1, 0, 0, 0, 1], np.bool_)
    third_of = np.repeat([0, 1, 2], 3)

    def spread(order: Sequence[int]) -> float:
        dealt = right[list(order)]
        return sum(3 * (dealt[third_of == k].mean() - right.mean()) ** 2 for k in range(3))

    # Who is in which third, 1,680 ways, not in which order.
    deals = [
        (*one, *two, *(set(range(9)) - set(one) - set(two)))
        for one in itertools.combinations(range(9), 3)
        for two in itertools.combinations(sorted(set(range(9)) - set(one)), 3)
    ]
    assert len(deals) == 1680
    seen = spread(range(9))
    exact = np.mean([spread(deal) >= seen - 1e-9 for deal in deals])
    found = by_quality.difference_test(right, np.arange(9), third_of, seed=0)
    assert found == pytest.approx(exact, abs=0.02)


def simulated(
    rng: np.random.Generator, effect: float
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """20 recordings of 4 videos that fail together; right more rarely in the highest third."""
    group_of = np.repeat(np.arange(20), 4)
    quality = rng.normal(size=20)[group_of] + 0.3 * rng.normal(size=80)
    third_of = by_quality.thirds_of(quality)
    score = 0.7 * rng.normal(size=20)[group_of] + 0.7 * rng.normal(size=80)
    return score < 0.7 - effect * (third_of == 2), group_of, third_of


@pytest.mark.slow
def test_thirds_that_do_not_differ_are_called_different_in_one_of_twenty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(by_quality, "PERMUTATIONS", 499)
    rng = np.random.default_rng(0)
    alarms = [by_quality.difference_test(*simulated(rng, 0.0), seed=k) < 0.05 for k in range(400)]
    assert 0.01 < np.mean(alarms) < 0.085  # 0.05, and what 400 draws leave open
    found = [by_quality.difference_test(*simulated(rng, 1.6), seed=k) < 0.05 for k in range(100)]
    assert np.mean(found) > 0.8


def test_videos_of_one_recording_are_no_independent_witnesses() -> None:
    group_of = np.repeat(np.arange(6), 10)
    third_of = np.repeat([0, 1, 2], 20)
    right = np.ones(60, np.bool_)
    right[40:50] = False  # one of the six recordings
    alone = by_quality.difference_test(right, np.arange(60), third_of, seed=0)
    together = by_quality.difference_test(right, group_of, third_of, seed=0)
    assert alone < 0.001
    assert together > 0.2


def test_many_recordings_are_tested_as_normal_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    right, group_of, third_of = simulated(rng, 0.5)
    drawn = by_quality.difference_test(right, group_of, third_of, seed=0)
    monkeypatch.setattr(by_quality, "_MANY", 10)
    assert by_quality.difference_test(right, group_of, third_of, seed=0) == pytest.approx(
        drawn, abs=0.06
    )


def test_intervals_are_those_of_means_drawn_by_hand() -> None:
    rng = np.random.default_rng(0)
    group_of = rng.integers(0, 12, 60)
    values, chosen = rng.random(60), rng.random((2, 60)) < 0.5
    chosen[1] = group_of == 3
    found = paired.share_intervals(values, chosen, group_of, seed=0)
    means = []
    for _ in range(4000):
        drawn = np.concatenate([np.flatnonzero(group_of == g) for g in rng.integers(0, 12, 12)])
        means.append(values[drawn][chosen[0][drawn]].mean())
    assert found[0] == pytest.approx(tuple(np.percentile(means, (2.5, 97.5))), abs=0.02)
    assert found[1] is None  # one recording


def features(values: dict[str, Sequence[float | None]], count: int = 40) -> ExtractRun:
    """A run of jobs/extract.py with these columns, of videos v0, v1, ..."""
    rows = [
        {
            "video_id": f"v{k}", "uri": f"/videos/v{k}.mp4", "fingerprint": "f", "status": "ok",
            "config_digest": "d", **{name: column[k] for name, column in values.items()},
        }
        for k in range(count)
    ]  # fmt: skip
    plain = schema.features_schema({})
    table = pa.Table.from_pylist(rows, schema=plain)
    return ExtractRun(out="/runs/features", name="features", report={}, rows=table, families={})


def test_accuracy_by_thirds_of_the_columns_there_are() -> None:
    run = features({
        "brightness": [float(k) for k in range(40)],
        "noise": [None if k == 3 else float(-k) for k in range(40)],
        "contrast": [7.0] * 40,
        "frames_per_second": [25.0] * 30 + [30.0] * 10,
        "width_px": [100 + k for k in range(40)],
        "height_px": [10] * 40,
    })  # fmt: skip
    model = judged("best", range(12))
    found = by_quality.measured(model, by_quality.values_of([run]), seed=0)
    by_name = {one.measure.name: one for one in found}
    assert list(by_name) == ["noise", "brightness", "contrast", "pixels", "frames_per_second"]
    dark = by_name["brightness"]
    assert [third.num_videos for third in dark.thirds] == [14, 13, 13]
    assert [third.accuracy for third in dark.thirds] == [pytest.approx(2 / 14), 1.0, 1.0]
    assert dark.thirds[0].ends is not None
    low, high = dark.thirds[0].ends
    assert low < 2 / 14 < high
    assert dark.is_real
    assert dark.worst[0] == "darkest"
    assert by_name["noise"].thirds[2].num_videos == 13
    assert sum(third.num_videos for third in by_name["noise"].thirds) == 39
    assert by_name["contrast"].why_none == "all videos have the same value, 7"
    assert "2 different ones" in by_name["frames_per_second"].why_none
    assert (by_name["pixels"].thirds[0].low, by_name["pixels"].thirds[2].high) == (1000, 1390)
    tested = [one for one in found if one.thirds]
    # Holm: the least of three times three.
    least = min(tested, key=lambda one: one.p_value)
    assert least.corrected == pytest.approx(3 * least.p_value)


def test_thirds_of_too_few_videos_or_recordings_are_not_compared() -> None:
    values = {"brightness": {f"v{k}": float(k) for k in range(40)}}
    values |= {one.name: {} for one in by_quality.MEASURES if one.name != "brightness"}
    one_dark = judged("best", groups=["dark"] * 14 + [f"r{k}" for k in range(26)])
    (found,) = by_quality.measured(one_dark, values, seed=0)
    assert found.why_none == "a third has fewer than 2 recordings"
    few = {**values, "brightness": {f"v{k}": float(k) for k in range(12)}}
    (found,) = by_quality.measured(judged("best"), few, seed=0)
    assert found.why_none == "a third has fewer than 5 videos"


def test_a_later_run_does_not_replace_the_first_ones_numbers() -> None:
    first = features({"brightness": [1.0, None]}, count=2)
    second = features({"brightness": [5.0, 6.0]}, count=2)
    assert by_quality.values_of([first, second])["brightness"] == {"v0": 1.0, "v1": 6.0}


# Damaged copies


def write_scene(path: Path, frames: int = 12) -> Path:
    """A textured picture that moves, in lossless 4:2:0."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=25, options={"qp": "0", "preset": "ultrafast"}
        )
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for pixels in moving_scene(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def read(path: Path | str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """All frames as stored, and their times from the first one."""
    with Video(str(path)) as video:
        times = video.pts_seconds
        request = Request(np.arange(len(times)))
        return video.read(request)[0].pixels.astype(np.float64), times - times[0]


def copied(video: Path, damage: MadeDamage = UNDAMAGED, *, seed: int = 0) -> Path:
    out = video.with_suffix(".nut")
    write_copy(str(video), str(out), damage, seed=seed)
    return out


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("plain.mp4", {}),
        ("odd.mp4", {"width_px": 161, "height_px": 121, "pix_fmt": "yuv444p"}),
        ("wide.mp4", {"pix_fmt": "yuv422p"}),
        ("full.mp4", {"pix_fmt": "yuvj420p"}),
        ("uneven.mkv", {"pts": uneven_pts(12), "time_base": "ms"}),
        ("flat.mkv", {"sample_aspect_ratio": "4/3"}),
        ("xvid.avi", {"codec": "mpeg4", "codec_tag": "XVID"}),
        ("sound.mp4", {"audio_codec": "aac"}),
    ],
)
def test_an_undamaged_copy_has_the_pixels_and_times_of_the_file(
    tmp_path: Path, name: str, made: dict[str, object]
) -> None:
    if "time_base" in made:
        made = {**made, "time_base": Fraction(1, 1000)}
    if "sample_aspect_ratio" in made:
        made = {**made, "sample_aspect_ratio": Fraction(4, 3)}
    path = write_video(tmp_path / name, num_frames=12, **made)  # type: ignore[arg-type]
    copy = copied(path)
    (pixels, times), (found, when) = read(path), read(copy)
    assert np.array_equal(pixels, found)
    assert when == pytest.approx(times, abs=1e-5)
    with Video(str(path)) as before, Video(str(copy)) as after:
        one, two = before.probe(), after.probe()
    assert two.frames_per_second == pytest.approx(one.frames_per_second, rel=0.01)
    assert two.sample_aspect_ratio == pytest.approx(one.sample_aspect_ratio)
    assert two.has_sound == one.has_sound


def test_a_copy_sounds_as_the_file_does(tmp_path: Path) -> None:
    path = write_video(tmp_path / "sound.mp4", num_frames=30, audio_codec="aac")
    whole, copy = read_sound(str(path)), read_sound(str(copied(path)))
    assert whole is not None
    assert np.array_equal(whole, copy)
    part, of_copy = (
        read_sound(str(where), begin_seconds=0.4, end_seconds=0.8)
        for where in (path, path.with_suffix(".nut"))
    )
    assert part is not None
    assert of_copy is not None
    assert len(part) == pytest.approx(len(of_copy), abs=2)


def test_a_turned_picture_is_upright_in_its_copy(tmp_path: Path) -> None:
    path = write_video(tmp_path / "turned.mp4", num_frames=5, rotation_degrees=90)
    (pixels, _), (found, _) = read(path), read(copied(path))
    assert pixels.shape == found.shape == (5, 160, 120, 3)
    assert np.abs(pixels - found).max() <= 3  # Colour is stored for 2 x 2 pixels, and turned.


def test_pixels_of_ten_bits_are_copied_nearly(tmp_path: Path) -> None:
    path = write_video(tmp_path / "ten.mp4", num_frames=4, pix_fmt="yuv420p10le")
    (pixels, _), (found, _) = read(path), read(copied(path))
    # FFmpeg turns ten bits into RGB more coarsely than eight.
    assert np.abs(pixels - found).mean() < 4


def damaged(tmp_path: Path, kind: str, amount: float) -> tuple[NDArray[np.float64], ...]:
    video = tmp_path / "scene.mp4"
    if not video.exists():
        write_scene(video)
    damage = MadeDamage(kind=kind, amount=amount, title="")  # type: ignore[arg-type]
    return *read(video), *read(copied(video, damage))


def test_noise_has_the_deviation_it_says(tmp_path: Path) -> None:
    before, times, after, when = damaged(tmp_path, "noise", 15)
    middle = (before > 80) & (before < 180)
    assert (after - before)[middle].std() == pytest.approx(15, rel=0.05)
    assert abs((after - before)[middle].mean()) < 0.5
    assert when == pytest.approx(times)
    # Another noise in each frame, and another one by another seed.
    other = read(copied(tmp_path / "scene.mp4", DAMAGES[2], seed=1))[0]
    assert np.abs(after[0] - after[1]).mean() > np.abs(before[0] - before[1]).mean()
    assert not np.array_equal(other, after)
    again = read(copied(tmp_path / "scene.mp4", DAMAGES[2], seed=0))[0]
    assert np.array_equal(again, after)


def test_darkness_leaves_the_share_it_says(tmp_path: Path) -> None:
    before, _, after, _ = damaged(tmp_path, "darkness", 0.4)
    bright = before > 60
    assert (after[bright] / before[bright]).mean() == pytest.approx(0.4, abs=0.02)


def test_blur_is_that_of_a_gaussian_in_rgb(tmp_path: Path) -> None:
    before, _, after, _ = damaged(tmp_path, "blur", 0.03)
    by_hand = np.stack([cv2.GaussianBlur(frame, (0, 0), 0.03 * 120) for frame in before])
    assert np.abs(after - by_hand).mean() < 1.5
    assert np.abs(after - before).mean() > 5


def test_dropped_frames_are_gone_and_the_others_keep_their_times(tmp_path: Path) -> None:
    video = write_video(tmp_path / "numbers.mp4", num_frames=100)
    copy = copied(video, DAMAGES[6])
    (before, times), (after, when) = read(video), read(copy)
    place = np.array([int(np.abs(times - one).argmin()) for one in when])
    assert np.abs(times[place] - when).max() < 1e-5
    assert np.array_equal(before[place], after)
    assert 35 <= len(after) <= 65
    assert (place[0], place[-1]) == (0, 99)


def test_a_video_too_long_for_a_copy_without_loss_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made_damage, "_MOST_PIXELS", 160 * 120 * 11)
    video = write_video(tmp_path / "long.mp4", num_frames=12)
    with pytest.raises(VideoError, match="12 frames of 160x120: too many"):
        copied(video)


def test_each_damage_is_there_in_two_strengths_and_named_by_its_number() -> None:
    kinds = [damage.kind for damage in DAMAGES]
    assert kinds == ["blur"] * 2 + ["noise"] * 2 + ["darkness"] * 2 + ["dropped frames"] * 2
    assert len({damage.title for damage in DAMAGES}) == len(DAMAGES)
    with pytest.raises(UserError, match="robustness_videos is 1001"):
        ReportSettings(robustness_videos=1001)


# Trials


def test_changes_are_of_the_same_videos() -> None:
    rng = np.random.default_rng(0)
    right = rng.random((30, 9)) < 0.8
    right[:, 2] = right[:, 0] & (np.arange(30) % 2 == 0)
    found = damage_trials.results(right, np.arange(30))
    assert [one.damage for one in found] == list(DAMAGES)
    for k, one in enumerate(found, start=1):
        assert one.accuracy == pytest.approx(right[:, k].mean())
        assert one.change.value == pytest.approx(right[:, k].mean() - right[:, 0].mean())
    assert found[1].change.is_real
    assert found[1].change.interval is not None
    assert found[1].change.interval[1] < 0


def test_the_sample_is_drawn_by_seed() -> None:
    ids = [f"v{k}" for k in range(50)]
    assert damage_trials.sample(ids, 5, 0) == damage_trials.sample(ids, 5, 0)
    assert damage_trials.sample(ids, 5, 0) != damage_trials.sample(ids, 5, 1)
    assert damage_trials.sample(ids, 80, 0) == ids


def rows_of(videos: Sequence[Path]) -> list[dict[str, object]]:
    """VIDEOS rows of two classes in turn."""
    return [
        {"video_id": video_id(str(path)), "uri": str(path), "size_bytes": path.stat().st_size,
         "fingerprint": "f", "label": CLASSES[k % 2]}
        for k, path in enumerate(videos)
    ]  # fmt: skip


def judged_on(
    videos: Sequence[Path], model_dir: str, probabilities: NDArray[np.float64]
) -> JudgedModel:
    """The evaluation of a model in a folder, which is among the given ones."""
    info = read_info(model_dir)
    labels = tuple(str(row["label"]) for row in rows_of(videos))
    name = Path(model_dir).name
    return JudgedModel(
        out=f"{model_dir}_test", name=f"{name}_test", report={},
        class_names=tuple(info["class_names"]),
        video_ids=tuple(video_id(str(path)) for path in videos), uris=tuple(map(str, videos)),
        truth=labels, predicted=labels, groups=(None,) * len(videos),
        probabilities=probabilities, cost={}, baselines={},
        model=TrainedModel(out=model_dir, name=name, report={}, info=info),
    )  # fmt: skip


def write_numbers(folder: Path, count: int) -> list[Path]:
    return [
        write_video(folder / f"{k}.mp4", num_frames=20, first_number=600 * k) for k in range(count)
    ]


def shown(blocks: Iterator[Part]) -> dict[type, list[Part]]:
    found: dict[type, list[Part]] = {}
    for part in parts(blocks):
        found.setdefault(type(part), []).append(part)
    return found


@pytest.mark.slow
def test_the_undamaged_copies_get_the_answers_of_the_evaluation(tmp_path: Path) -> None:
    videos = write_numbers(tmp_path, 2)
    videos.append(tmp_path / "gone.mp4")
    videos[-1].write_bytes(videos[0].read_bytes())
    model, out = fitted("knn"), str(tmp_path / "model")
    save_classical(out, model.info, model.pipeline)
    made = [describe_video(row, model.features) for row in rows_of(videos)]
    found = models.load(out)
    assert isinstance(found, ClassicalModel)
    answers = found.predict(pa.Table.from_batches(made))
    runs = Runs(folders=(), judged=(judged_on(videos, out, answers),))
    videos[-1].unlink()
    (group,) = groups(runs)
    trials = DamageTrials()
    trial = trials.of(group, runs, ReportSettings(robustness_videos=5))
    assert trial is not None
    assert trial is trials.of(group, runs, ReportSettings(robustness_videos=5))
    (one,) = trial.models
    assert (one.num_videos, one.as_judged) == (2, 2)
    right = group.rights(group.best)[[group.video_ids.index(video_id(str(v))) for v in videos[:2]]]
    assert one.control == pytest.approx(right.mean())
    assert trial.failed == {video_id(str(videos[-1])): "it was listed, but is not there any more"}
    with Thumbnails(is_on=False) as thumbnails:
        tools = Tools(
            settings=ReportSettings(robustness_videos=5), thumbnails=thumbnails, damage=trials
        )
        chapter = robustness.section(runs, tools)
    assert chapter is not None
    on_page = shown(iter(chapter.blocks))
    (table,) = on_page[DataTable]
    assert isinstance(table, DataTable)
    assert len(table.frame) == len(DAMAGES)
    assert table.frame["damage"].tolist() == [damage.title for damage in DAMAGES]
    assert len(on_page[Chart]) == 1
    told = " ".join(
        text for part in on_page[Prose] if isinstance(part, Prose) for text in part.paragraphs
    )
    assert "2 of 2 answers for them are those of the evaluations" in told
    assert "Not copied: 1 video," in told


@pytest.mark.slow
def test_networks_and_embeddings_are_asked_as_for_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(damage_trials, "DAMAGES", DAMAGES[:1])
    videos = write_numbers(tmp_path, 3)
    network = save_network(tmp_path / "network", clips=2)
    deep = models.load(network)
    assert isinstance(deep, DeepModel)
    shape = (-1, deep.clip.frames_per_clip, deep.clip.size_px, deep.clip.size_px, 3)
    cut = [cut_video(row, deep.clip)["pixels"].to_pylist() for row in rows_of(videos)]
    clips = [np.frombuffer(b"".join(one), np.uint8).reshape(shape) for one in cut]
    by_network = np.stack([deep.predict(one).mean(axis=0) for one in clips])

    used = Embedding(model="resnet18_avg", digest=name_and_digest(network)[1], size=512)
    settings = Settings(families=("embedding",), embedding=used)
    views = Views(clip=deep.clip, embed=deep.embed)
    described = pa.Table.from_batches(
        [describe_video(row, settings, views) for row in rows_of(videos)]
    )
    matrix = to_matrix(described, settings.families)
    fit = classical.fit("knn", matrix, np.array([0, 1, 0]), None, CLASSES, seed=0, calibrated=False)
    info = {"family": "classical", "name": "knn", "class_names": CLASSES,
            "families": settings.families, "features": settings}  # fmt: skip
    out = str(tmp_path / "knn")
    save_classical(out, info, fit)
    shutil.copytree(network, Path(out) / "embedding")
    by_embedding = classical.predict(fit, matrix)

    runs = Runs(
        folders=(),
        judged=(judged_on(videos, network, by_network), judged_on(videos, out, by_embedding)),
    )
    (group,) = groups(runs)
    trial = DamageTrials().of(group, runs, ReportSettings(robustness_videos=3))
    assert trial is not None
    assert not trial.failed
    assert not trial.without
    assert [(one.num_videos, one.as_judged) for one in trial.models] == [(3, 3), (3, 3)]


def test_only_what_a_page_may_open_is_copied(tmp_path: Path) -> None:
    work = made_damage.worker({"hosts": ["videos.example"]})

    def refused(uri: str) -> tuple[str, str]:
        request = {"uri": uri, "size_bytes": 1, "out": str(tmp_path / "x.nut"), "kind": "none",
                   "amount": 0, "seed": 0}  # fmt: skip
        (row,) = work(request).to_pylist()
        assert not (tmp_path / "x.nut").exists()
        return row["kind"], row["why"]

    kind, why = refused("https://elsewhere.example/x.mp4")
    assert kind == "denied"
    assert "https://elsewhere.example" in why
    assert refused("/proc/self/maps") == ("denied", "a file of the system, not a video")
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    assert refused(str(text))[0] == "unreadable"


def test_models_without_their_folder_are_named(tmp_path: Path) -> None:
    runs = Runs(folders=(), judged=(judged("svm", (0,)), judged("knn", (1, 2))))
    (group,) = groups(runs)
    trial = DamageTrials().of(group, runs, ReportSettings(robustness_videos=3))
    assert trial is not None
    assert not trial.models
    assert set(trial.without) == {"svm_test", "knn_test"}
    assert DamageTrials().of(group, runs, ReportSettings(robustness_videos=0)) is None


# The chapter


def test_the_chapter_draws_what_was_measured_and_names_the_flag_for_the_rest() -> None:
    run = features({"brightness": [float(k) for k in range(40)], "contrast": [1.0] * 40})
    model = TrainedModel(
        out="/runs/svm", name="svm", report={}, info={"family": "classical", "name": "svm"}
    )
    best = dataclasses.replace(judged("svm", range(12)), model=model)
    runs = Runs(folders=(), features=(run,), judged=(best, judged("knn", range(20))))
    with Thumbnails(is_on=False) as thumbnails:
        made = robustness.section(runs, Tools(settings=ReportSettings(), thumbnails=thumbnails))
    assert made is not None
    found = shown(iter(made.blocks))
    (table,) = found[DataTable]
    assert isinstance(table, DataTable)
    assert table.frame["model"].tolist() == ["svm", "knn"]
    assert table.frame["lowest"].tolist() == [pytest.approx(2 / 14), 0.0]
    assert table.frame["meaning"].tolist()[0] == "worst in the darkest third"
    titles = [part.title for part in found[Fold] if isinstance(part, Fold)]
    assert titles == [
        "svm by quality (svm_test)", "Other models by quality", "knn by quality (knn_test)"
    ]  # fmt: skip
    told = " ".join(
        text for part in found[Prose] if isinstance(part, Prose) for text in part.paragraphs
    )
    assert "contrast (all videos have the same value, 1)" in told
    assert "--robustness-videos 20" in told
    (finding,) = made.findings
    assert finding.text.startswith(
        "svm is right on 0.14 of the darkest third of the videos, and on"
    )


def test_no_judged_model_no_chapter() -> None:
    with Thumbnails(is_on=False) as thumbnails:
        tools = Tools(settings=ReportSettings(), thumbnails=thumbnails)
        assert robustness.section(Runs(folders=()), tools) is None
