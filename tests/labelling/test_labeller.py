"""Labels of one video: of the model's own clips, of a long one's windows; reasons of bad ones."""

from __future__ import annotations

import bisect
import copy
import dataclasses
import itertools
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.models.test_folder import fitted
from tests.ray_cluster import ROOT
from tests.video_writer import count_corrupt, write_concealed, write_video
from vidray import models, storage
from vidray.distributed.sandbox import Sandbox
from vidray.errors import ModelError, UserError, VideoError
from vidray.features.extraction import Settings, describe_video
from vidray.labelling import commits, labeller, wire
from vidray.labelling.labeller import ClipModel
from vidray.labelling.predictor import Batches, answer_questions
from vidray.labelling.settings import (
    LabelOptions,
    LabelSettings,
    check_model,
    name_and_digest,
)
from vidray.labelling.torch_predictor import TorchPredictor
from vidray.labelling.windows import join_windows, window_begins
from vidray.models.folder import ClassicalModel, DeepModel, save_classical, save_deep
from vidray.models.preprocess import Preprocessing
from vidray.models.recipes import recipe_of
from vidray.sources import list_videos
from vidray.tables import rows, schema
from vidray.video import clips
from vidray.video.clips import ClipSettings, cut_video
from vidray.video.decode import Limits, Video, read_frames

FEATURES = Settings(families=("color",))
SETTINGS = LabelSettings(
    model="m",
    model_digest="d",
    options=LabelOptions(long_seconds=8.0, window_seconds=2.0, step_seconds=1.0),
)
RATE = 10


def asked(**options: Any) -> LabelSettings:
    """``SETTINGS`` with other options."""
    return dataclasses.replace(SETTINGS, options=dataclasses.replace(SETTINGS.options, **options))


class Brightness(nn.Module):
    """Logits (mean, 0) of a clip; the head is fed the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1, 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[20.0], [0.0]]))
            self.head.bias.zero_()

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(inputs.mean(dim=(1, 2, 3, 4))[:, None])
        return logits


@pytest.fixture
def deep() -> DeepModel:
    network = Brightness().eval()
    return DeepModel(
        name="brightness",
        class_names=("bright", "dark"),
        network=network,
        preprocessing=Preprocessing(num_frames=4, size_px=8, mean=(0.5,) * 3, std=(1.0,) * 3),
        clip=ClipSettings(frames_per_clip=4, size_px=8, clips_per_video=2),
        info={},
        head=network.head,
    )


class FirstNumber:
    """A fitted model of two classes: the first number is the probability of the second one."""

    n_features_in_ = 432
    classes_ = np.array([0, 1])

    def predict_proba(self, rows: np.ndarray) -> np.ndarray:
        return np.stack([1 - rows[:, 0], rows[:, 0]], axis=1)


@pytest.fixture
def classical() -> ClassicalModel:
    return ClassicalModel(
        name="first_number",
        class_names=("a", "b"),
        pipeline=FirstNumber(),
        families=FEATURES.families,
        features=FEATURES,
        info={},
    )


def write_scenes(path: Path, *scenes: tuple[float, int]) -> Path:
    """A video of (seconds, gray level) one after the other."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"g": "20"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for seconds, level in scenes:
            for _ in range(round(seconds * RATE)):
                pixels = np.full((48, 64, 3), level, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def planned(path: Path, **changed: Any) -> dict[str, Any]:
    """A row of a plan."""
    info = storage.file_info(str(path))
    row = {
        "video_id": "id", "uri": str(path), "size_bytes": info.size_bytes,
        "fingerprint": info.fingerprint, "true_label": "dark", "split": None, "group": "g",
        "attempts": 2,
    }  # fmt: skip
    return {**row, **changed}


def label_video(row: dict[str, Any], model: Any, settings: LabelSettings) -> pa.RecordBatch:
    """By a model as it is loaded."""
    if isinstance(model, DeepModel):
        predict = TorchPredictor(model, settings)
        model = ClipModel(class_names=model.class_names, clip=model.clip, predict=predict)
    return labeller.label_video(row, model, settings)


def answer(batch: pa.RecordBatch) -> dict[str, Any]:
    assert batch.schema.equals(schema.LABELLED)
    (row,) = batch.to_pylist()
    assert isinstance(row, dict)
    return row


def test_a_short_video_has_the_probabilities_of_its_training_clips(
    deep: DeepModel, tmp_path: Path
) -> None:
    path = write_scenes(tmp_path / "a.mp4", (2, 100), (3, 200))
    row = answer(label_video(planned(path), deep, SETTINGS))
    pixels = cut_video({**planned(path), "label": "x"}, deep.clip)["pixels"].to_pylist()
    stored = np.frombuffer(b"".join(pixels), np.uint8).reshape(2, 4, 8, 8, 3)
    expected = deep.predict(stored).mean(axis=0)
    assert row["probabilities"] == expected.tolist()
    assert (row["label"], row["probability"]) == ("bright", expected.max())
    assert (row["true_label"], row["attempts"], row["group"]) == ("dark", 2, "g")
    assert (row["status"], row["segments"], row["embedding"]) == ("ok", None, None)
    assert row["duration_seconds"] == pytest.approx(5)
    assert row["config_digest"] == SETTINGS.digest
    more = asked(clips_per_video=1, embedding=True)
    row = answer(label_video(planned(path), deep, more))
    whole = dataclasses.replace(deep.clip, clips_per_video=1)
    (pixels,) = cut_video({**planned(path), "label": "x"}, whole)["pixels"].to_pylist()
    assert row["embedding"] == pytest.approx([np.frombuffer(pixels, np.uint8).mean() / 255 - 0.5])


def test_a_long_video_is_cut_where_its_scenes_change(deep: DeepModel, tmp_path: Path) -> None:
    path = write_scenes(tmp_path / "a.mp4", (7, 30), (12, 220), (5, 30))
    row = answer(label_video(planned(path), deep, SETTINGS))
    segments = row["segments"]
    assert [segment["label"] for segment in segments] == ["dark", "bright", "dark"]
    bounds = [segment["begin_seconds"] for segment in segments] + [segments[-1]["end_seconds"]]
    assert bounds == pytest.approx([0, 7, 19, 24], abs=SETTINGS.options.window_seconds)
    assert [s["end_seconds"] for s in segments[:-1]] == bounds[1:-1]
    assert bounds[0] == 0
    assert bounds[-1] == pytest.approx(24)
    assert all(segment["probability"] > 0.5 for segment in segments)
    assert row["label"] == ("bright" if row["probabilities"][0] > 0.5 else "dark")


def write_uneven(path: Path, frames: Sequence[tuple[float, int]]) -> Path:
    """A video of (seconds of a frame, gray level) one after the other, timed in milliseconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "gray"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for seconds, level in frames:
            frame = av.VideoFrame.from_ndarray(np.full((48, 64), level, np.uint8), format="gray")
            frame.pts, frame.time_base = round(seconds * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


# Ten seconds at ten frames a second, then thirty at one; bright from 5 to 20 s.
UNEVEN = [
    (seconds, 220 if 5 <= seconds < 20 else 30)
    for seconds in [*(k / 10 for k in range(100)), *range(10, 40)]
]


def test_a_long_video_of_a_variable_rate_is_cut_in_seconds(deep: DeepModel, tmp_path: Path) -> None:
    path = write_uneven(tmp_path / "a.mkv", UNEVEN)
    row = answer(label_video(planned(path), deep, SETTINGS))
    segments = row["segments"]
    assert [segment["label"] for segment in segments] == ["dark", "bright", "dark"]
    bounds = [segment["begin_seconds"] for segment in segments] + [segments[-1]["end_seconds"]]
    assert bounds == pytest.approx([0, 5, 20, 40], abs=SETTINGS.options.step_seconds)
    # 15 of 40 s are bright, though more than half of the frames are not.
    assert row["probabilities"][0] == pytest.approx(15 / 40, abs=0.05)


def test_windows_that_show_the_same_frames_are_asked_about_once(tmp_path: Path) -> None:
    """Two pictures, a minute each, and two seconds of another: the mean counts every window."""
    frames = [(0.0, 10), (60.0, 200), *((120 + k / 2, 60) for k in range(4))]
    path = write_uneven(tmp_path / "a.mkv", frames)
    asked: list[int] = []

    def predict(pixels: np.ndarray) -> wire.Answer:
        means = pixels.mean(axis=(1, 2, 3, 4))
        asked.extend(np.rint(means).astype(int).tolist())
        bright = means / 255
        return wire.Answer(np.stack([bright, 1 - bright], axis=1), means[:, None])

    clip = ClipSettings(frames_per_clip=4, size_px=8)
    model = ClipModel(class_names=("bright", "dark"), clip=clip, predict=predict)
    row = answer(labeller.label_video(planned(path), model, SETTINGS))
    assert len(asked) < 10
    # Windows of 2 s begin at 0, 1, ... 120 s; the last one ends with the video, at 122 s.
    seen = [[10, 200, 60][bisect.bisect([0, 60, 120], k + 0.25 + 0.5 * j) - 1]
            for k in range(121) for j in range(4)]  # fmt: skip
    assert row["embedding"] == pytest.approx([np.mean(seen)], abs=0.5)
    assert row["probabilities"] == pytest.approx(
        [np.mean(seen) / 255, 1 - np.mean(seen) / 255], abs=0.002
    )


@pytest.mark.parametrize("seconds", [3, 40])
def test_a_video_went_as_far_as_its_clip_that_went_furthest(tmp_path: Path, seconds: int) -> None:
    """By clips, and by windows: those of the bright half leave at once."""
    path = write_scenes(tmp_path / "a.mp4", (seconds / 2, 220), (seconds / 2, 30))

    def predict(pixels: np.ndarray) -> wire.Answer:
        bright = pixels.mean(axis=(1, 2, 3, 4)) > 125
        found = np.where(bright[:, None], [0.75, 0.25], [0.25, 0.75])
        stages = np.where(bright, 1, 3).astype(np.int32)
        # By way of the process that has the network.
        return wire.read_answer(wire.write_answer(wire.Answer(found, None, stages)))

    clip = ClipSettings(frames_per_clip=4, size_px=8, clips_per_video=2)
    model = ClipModel(class_names=("bright", "dark"), clip=clip, predict=predict)
    assert answer(labeller.label_video(planned(path), model, SETTINGS))["exit_stage"] == 3
    bright = write_scenes(tmp_path / "b.mp4", (seconds, 220))
    assert answer(labeller.label_video(planned(bright), model, SETTINGS))["exit_stage"] == 1


def test_without_exits_there_is_no_stage(deep: DeepModel, tmp_path: Path) -> None:
    path = write_scenes(tmp_path / "a.mp4", (2, 220))
    assert answer(label_video(planned(path), deep, SETTINGS))["exit_stage"] is None
    whole = wire.Answer(np.array([[0.5, 0.5]]))
    assert wire.joined([whole, whole]).stages is None


@pytest.mark.parametrize("name", ["r3d_18", "x3d_s"])
def test_the_pixels_of_a_label_are_those_of_training(tmp_path: Path, name: str) -> None:
    """As torchvision and PyTorchVideo resize and crop them, for short and long videos."""
    recipe = recipe_of(name, {"r3d_18": "torchvision", "x3d_s": "pytorchvideo"}[name])
    assert recipe is not None
    path = write_video(tmp_path / "a.mp4", num_frames=100, width_px=210, height_px=132)
    asked: list[np.ndarray] = []

    def predict(pixels: np.ndarray) -> wire.Answer:
        asked.append(pixels)
        return wire.Answer(np.tile([0.75, 0.25], (len(pixels), 1)), None)

    cut = ClipSettings(**recipe.clip())
    model = ClipModel(class_names=("a", "b"), clip=cut, predict=predict)
    answer(labeller.label_video(planned(path), model, SETTINGS))
    (stored,) = cut_video({**planned(path), "label": "a"}, cut)["pixels"].to_pylist()
    (clip,) = asked.pop()
    assert clip.tobytes() == stored
    # Of a window of a long video, the same: its first one begins with the video.
    options = LabelOptions(long_seconds=3.0, window_seconds=3.0, step_seconds=1.0)
    answer(
        labeller.label_video(planned(path), model, dataclasses.replace(SETTINGS, options=options))
    )
    window = {**planned(path), "begin_seconds": 0.0, "end_seconds": 3.0, "label": "a"}
    (stored,) = cut_video(window, cut)["pixels"].to_pylist()
    assert asked[0][0].tobytes() == stored
    # A window is as long as a clip at least.
    short = dataclasses.replace(options, window_seconds=1.0, step_seconds=0.5)
    row = answer(
        labeller.label_video(planned(path), model, dataclasses.replace(SETTINGS, options=short))
    )
    assert row["segments"]
    window = {**window, "end_seconds": recipe.clip_seconds}
    (stored,) = cut_video(window, cut)["pixels"].to_pylist()
    assert asked[1][0].tobytes() == stored


def test_a_stretch_is_labelled_alone(deep: DeepModel, tmp_path: Path) -> None:
    path = write_scenes(tmp_path / "a.mp4", (7, 30), (12, 220), (5, 30))
    short = planned(path, begin_seconds=8.0, end_seconds=12.0)
    row = answer(label_video(short, deep, SETTINGS))
    assert (row["label"], row["segments"]) == ("bright", None)
    assert row["probability"] > 0.99
    assert (row["begin_seconds"], row["end_seconds"]) == (8.0, 12.0)
    assert row["duration_seconds"] == pytest.approx(4)
    pixels = cut_video({**short, "label": "x"}, deep.clip)["pixels"].to_pylist()
    stored = np.frombuffer(b"".join(pixels), np.uint8).reshape(2, 4, 8, 8, 3)
    assert row["probabilities"] == deep.predict(stored).mean(axis=0).tolist()
    # Longer than --long-seconds: windows within the stretch, on the clock of the file.
    row = answer(label_video(planned(path, begin_seconds=10.0, end_seconds=99.0), deep, SETTINGS))
    segments = row["segments"]
    assert [segment["label"] for segment in segments] == ["bright", "dark"]
    bounds = [segment["begin_seconds"] for segment in segments] + [segments[-1]["end_seconds"]]
    assert bounds == pytest.approx([10, 19, 24], abs=SETTINGS.options.step_seconds)
    assert (bounds[0], bounds[-1]) == pytest.approx((10, 24))
    assert row["duration_seconds"] == pytest.approx(14)
    row = answer(label_video(planned(path, begin_seconds=24.0, end_seconds=34.0), deep, SETTINGS))
    assert (row["status"], row["error_kind"], row["label"]) == ("failed", "too_short", None)
    assert row["error_message"].startswith("no frame from 24.000 s to 34.000 s")


@pytest.mark.slow
def test_ten_minutes_of_joined_scenes(deep: DeepModel, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scenes: list[tuple[float, int]] = []
    while sum(seconds for seconds, _ in scenes) < 590:
        scenes.append((float(rng.integers(40, 400)) / 10, 220 if len(scenes) % 2 else 30))
    scenes.append((600 - sum(seconds for seconds, _ in scenes), scenes[-2][1]))
    path = write_scenes(tmp_path / "a.mp4", *scenes)
    row = answer(label_video(planned(path), deep, SETTINGS))
    assert row["duration_seconds"] == pytest.approx(600)
    segments = row["segments"]
    assert [s["label"] for s in segments] == ["bright" if v > 99 else "dark" for _, v in scenes]
    ends = np.cumsum([seconds for seconds, _ in scenes])
    found = [segment["end_seconds"] for segment in segments]
    assert np.abs(found - ends).max() <= SETTINGS.options.window_seconds


def test_windows_have_the_frames_of_a_plain_read(deep: DeepModel, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", num_frames=90, codec="mpeg4", options={"bf": "2"})
    chosen = [np.array([k, k + 3, k + 3, k + 9]) for k in range(0, 80, 7)]
    settings = ClipSettings(frames_per_clip=4, size_px=32)
    with Video(str(path)) as video:
        cut = [pixels for (pixels,) in clips.stream_clips(video, chosen, settings)]
    for pixels, frames in zip(cut, chosen, strict=True):
        plain = read_frames(str(path), frame_indices=frames, width_px=32, height_px=32)
        assert np.array_equal(pixels, plain.pixels)


def test_windows_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", num_frames=200)
    chosen = [np.arange(k, k + 10) for k in range(0, 190, 5)]
    with Video(str(path)) as video:
        read: list[int] = []
        stream: Callable[..., Any] = video.stream

        def watched(request: Any) -> Any:
            for k, pixels in stream(request):
                read.append(k)
                yield k, pixels

        video.stream = watched  # type: ignore[method-assign]
        cut = clips.stream_clips(video, chosen, ClipSettings(frames_per_clip=10, size_px=16))
        next(cut)
        assert read == list(range(10))
        next(cut)
        assert read == list(range(15))


def test_crops_are_averaged(deep: DeepModel, tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:  # dark on the left, bright on the right
        stream = container.add_stream("ffv1", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 96, 32, "bgr0"
        row = np.repeat(np.array([20, 120, 220], np.uint8), 32)
        pixels = np.broadcast_to(row[None, :, None], (32, 96, 3))
        for _ in range(200):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels))))
        container.mux(stream.encode())
    model = dataclasses.replace(deep, clip=dataclasses.replace(deep.clip, fit="crop"))

    def expected(levels: Sequence[int]) -> float:
        return float(np.mean([1 / (1 + np.exp(-20 * (level / 255 - 0.5))) for level in levels]))

    for long_seconds in (8.0, 60.0):  # by windows, and in one piece
        for crops, levels in ((1, [120]), (3, [20, 120, 220])):
            settings = asked(crops=crops, long_seconds=long_seconds)
            row = answer(label_video(planned(path), model, settings))
            assert row["probabilities"][0] == pytest.approx(expected(levels), abs=0.01)
            assert (row["segments"] is None) == (long_seconds == 60)


@pytest.mark.slow
def test_a_network_elsewhere_gives_the_same_row(tmp_path: Path) -> None:
    from tests.models.test_folder import save, trained

    folder = str(tmp_path / "model")
    save(trained("resnet18_avg"), folder)
    settings = dataclasses.replace(
        asked(embedding=True), model=folder, model_digest=name_and_digest(folder)[1]
    )
    config = dataclasses.asdict(settings)
    here, answers = labeller.label_videos(config), answer_questions(config)
    elsewhere = labeller.label_videos(config, answers)
    paths = [write_scenes(tmp_path / f"{k}.mp4", (k, 20 * k)) for k in (1, 2, 5, 12)]
    expected = [here(planned(path)) for path in paths]
    with ThreadPoolExecutor(4) as pool:  # Four who ask at once.
        found = list(pool.map(elsewhere, [planned(path) for path in paths] * 3))
    for one, other in zip(expected * 3, found, strict=True):
        assert answer(one)["status"] == "ok"
        assert one.equals(other)


def test_what_a_network_says_does_not_depend_on_who_else_asks(deep: DeepModel) -> None:
    """Also where passes are of several clips, as on a GPU."""
    predictor = TorchPredictor(deep, asked(embedding=True))
    predictor.batch_size = 4
    pixels = np.random.default_rng(0).integers(0, 256, (23, 4, 8, 8, 3), np.uint8)
    expected = predictor(pixels)
    batches = Batches(predictor, threads=2)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(batches, np.array_split(pixels, 9)))
    assert np.array_equal(np.concatenate([f.probabilities for f in found]), expected.probabilities)
    seen = [f.embeddings for f in found if f.embeddings is not None]
    assert np.array_equal(np.concatenate(seen), expected.embeddings)


@pytest.mark.slow
def test_a_compiled_network_says_the_same(deep: DeepModel) -> None:
    torch.manual_seed(0)
    head = nn.Linear(8, 2)
    layers = [nn.Conv3d(3, 8, 3), nn.BatchNorm3d(8), nn.ReLU(), nn.AdaptiveAvgPool3d(1)]
    network = nn.Sequential(*layers, nn.Flatten(), head)
    network(torch.randn(8, 3, 4, 8, 8))  # Statistics to fold.
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 8, 8, 3), np.uint8)
    answers = []
    for compiled in (False, True):
        model = dataclasses.replace(deep, network=copy.deepcopy(network.eval()))
        model = dataclasses.replace(model, head=model.network.get_submodule("5"))
        settings = asked(compile=compiled, embedding=True)
        answers.append(TorchPredictor(model, settings)(pixels))
    eager, fast = answers
    np.testing.assert_allclose(fast.probabilities, eager.probabilities, atol=1e-6)
    assert not np.array_equal(fast.probabilities, eager.probabilities)  # It was compiled.
    assert fast.embeddings is not None
    assert eager.embeddings is not None
    np.testing.assert_allclose(fast.embeddings, eager.embeddings, atol=1e-6)


def test_a_node_that_cannot_compile_is_told(
    deep: DeepModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch._inductor.config as inductor

    monkeypatch.setattr(inductor.cpp, "cxx", ("no-such-compiler",))
    torch.compiler.reset()
    with pytest.raises(UserError, match=r"cannot be compiled .*: install a C\+\+ compiler"):
        TorchPredictor(deep, asked(compile=True))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_on_a_gpu_the_same_labels_whoever_else_asks(
    tmp_path: Path, precision: Literal["float32", "bfloat16"]
) -> None:
    from tests.models.test_folder import save, trained

    folder = str(tmp_path / "model")
    save(trained("resnet18_avg"), folder)
    here, there = models.load(folder), models.load(folder, device="cuda")
    assert isinstance(here, DeepModel)
    assert isinstance(there, DeepModel)
    clip = here.clip
    shape = (50, clip.frames_per_clip, clip.size_px, clip.size_px, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    on_gpu = TorchPredictor(there, asked(precision=precision))
    for batch_size in (on_gpu.batch_size, 1):  # Short passes, too.
        on_gpu.batch_size = batch_size
        expected = on_gpu(pixels).probabilities
        batches = Batches(on_gpu, threads=2)
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(batches, np.array_split(pixels, 17)))
        assert np.array_equal(np.concatenate([f.probabilities for f in found]), expected)
    on_cpu = TorchPredictor(here, SETTINGS)(pixels).probabilities
    # TF32 convolutions; bfloat16 has 8 bits.
    np.testing.assert_allclose(expected, on_cpu, atol=5e-3 if precision == "float32" else 5e-2)


def test_a_wrong_question_is_told_to_who_asked(deep: DeepModel) -> None:
    with pytest.raises(ValueError, match="no clips of"):
        wire.read_question(wire.question(np.zeros((1, 4, 9, 9, 3), np.uint8)), deep.clip)
    batches = Batches(TorchPredictor(deep, SETTINGS), threads=1)
    with pytest.raises(ValueError, match="give uint8"):
        batches(np.zeros((1, 4, 8, 8), np.uint8))
    assert batches(np.zeros((2, 4, 8, 8, 3), np.uint8)).probabilities.shape == (2, 2)


@pytest.mark.parametrize(
    ("changed", "info", "told"),
    [
        ({"crops": 3}, {"family": "deep", "clip": {"fit": "squash"}}, "train on clips of --fit"),
        (
            {"embedding": True},
            {"family": "classical"},
            "--embedding has no effect on m",
        ),
        (
            {"clips_per_video": 2},
            {"family": "classical"},
            "--clips-per-video has no effect on m",
        ),
        ({"compile": True}, {"family": "classical"}, "--compile has no effect on m"),
        (
            {"step_seconds": 1.0},
            {"family": "classical"},
            "--step-seconds has no effect on m",
        ),
        (
            {"precision": "bfloat16"},
            {"family": "classical"},
            "--precision has no effect on m",
        ),
    ],
)
def test_what_a_model_cannot_do_is_told(
    changed: dict[str, Any], info: dict[str, Any], told: str
) -> None:
    options = LabelOptions(**changed)
    with pytest.raises(UserError, match=told):
        check_model(options, {"name": "m", **info})
    check_model(options, {"name": "m", "family": "deep", "clip": {"fit": "crop"}})


@pytest.mark.slow
@given(frames=st.integers(1, 500), span=st.integers(1, 100), step=st.integers(1, 100))
def test_windows_see_the_whole_video(frames: int, span: int, step: int) -> None:
    step = min(step, span)
    begins = window_begins(frames, span, step)
    ends = np.minimum(begins + span, frames)
    seen = np.zeros(frames, bool)
    for begin, end in zip(begins, ends, strict=True):
        seen[begin:end] = True
    assert seen.all()
    assert (np.diff(begins) > 0).all()
    assert (np.diff(begins) <= step).all()


def _joined(labels: Sequence[int]) -> list[dict[str, Any]]:
    bounds = np.array([[k, k + 2.0] for k in range(len(labels))])
    probabilities = np.eye(3)[list(labels)] * 0.8 + 0.1
    return join_windows(bounds, probabilities, ("a", "b", "c"))


def test_segments_by_hand() -> None:
    # Middles at 1, 2, 3, 4 s: a change between the windows at 2 and 3 lies at 2.5.
    assert _joined([0, 0, 2, 2]) == [
        {"begin_seconds": 0.0, "end_seconds": 2.5, "label": "a", "probability": pytest.approx(0.9)},
        {"begin_seconds": 2.5, "end_seconds": 5.0, "label": "c", "probability": pytest.approx(0.9)},
    ]
    (only,) = _joined([1])
    assert (only["begin_seconds"], only["end_seconds"], only["label"]) == (0.0, 2.0, "b")


@given(labels=st.lists(st.integers(0, 2), min_size=1, max_size=30))
def test_segments_follow_each_other(labels: list[int]) -> None:
    segments = _joined(labels)
    assert segments[0]["begin_seconds"] == 0
    assert segments[-1]["end_seconds"] == len(labels) + 1
    for one, two in itertools.pairwise(segments):
        assert one["end_seconds"] == two["begin_seconds"]
        assert one["label"] != two["label"]
        assert one["begin_seconds"] < one["end_seconds"]


def test_a_classical_model_labels_by_its_own_features(
    classical: ClassicalModel, tmp_path: Path
) -> None:
    path = write_scenes(tmp_path / "a.mp4", (2, 30))
    row = answer(label_video(planned(path), classical, SETTINGS))
    (described,) = describe_video({**planned(path), "label": None}, FEATURES).to_pylist()
    first = float(np.float32(described["color"][0]))
    assert row["probabilities"] == pytest.approx([1 - first, first])
    assert row["duration_seconds"] == pytest.approx(2)
    path = write_scenes(tmp_path / "b.mp4", (2, 30), (3, 220))
    row = answer(label_video(planned(path, begin_seconds=3.0), classical, SETTINGS))
    assert row["probabilities"] == [1.0, 0.0]  # No pixel is in the darkest bin.
    assert row["duration_seconds"] == pytest.approx(2)


@pytest.mark.parametrize("long_seconds", [60.0, 2.0])
def test_corrupt_frames_are_told_of_and_may_be_refused(
    long_seconds: float, deep: DeepModel, classical: ClassicalModel, tmp_path: Path
) -> None:
    path = write_concealed(tmp_path / "a.mp4")
    corrupt, frames = count_corrupt(path)
    windows = {"long_seconds": long_seconds, "window_seconds": 1.0, "step_seconds": 0.5}
    settings = asked(**windows)
    strict = asked(**windows, limits=Limits(max_corrupt_share=0.5 * corrupt / frames))
    for model in (deep, classical):
        row = answer(label_video(planned(path), model, settings))
        assert (row["status"], row["damaged_packets"]) == ("ok", 0)
        assert (row["corrupt_frames"], row["corrupt_share"]) == (corrupt, corrupt / frames)
    assert answer(label_video(planned(path), deep, strict))["error_kind"] == "damaged"


def test_bad_videos_are_rows_with_a_reason(
    deep: DeepModel, classical: ClassicalModel, tmp_path: Path
) -> None:
    text, video = tmp_path / "text.mp4", write_scenes(tmp_path / "a.mp4", (2, 30))
    text.write_text("no video")
    gone = planned(video, uri=str(tmp_path / "gone.mp4"))
    replaced = planned(video, fingerprint="another")
    for model in (deep, classical):
        for row, kind in ((planned(text), "unreadable"), (gone, "missing"), (replaced, "changed")):
            found = answer(label_video(row, model, SETTINGS))
            assert (found["status"], found["error_kind"]) == ("failed", kind)
            assert found["error_message"]
            assert (found["label"], found["probabilities"]) == (None, None)
            assert (found["true_label"], found["attempts"]) == ("dark", 2)


def test_the_caps_of_the_job_are_those_of_a_classical_model_too(tmp_path: Path) -> None:
    made = fitted("knn")
    folder = str(tmp_path / "model")
    save_classical(folder, made.info, made.pipeline)
    path = write_video(tmp_path / "a.mp4", num_frames=30)
    settings = LabelSettings(model=folder, model_digest=name_and_digest(folder)[1])
    limits = Limits(max_seconds=0.5)
    short = dataclasses.replace(settings, options=LabelOptions(limits=limits))
    for each, kind in ((settings, None), (short, "too_large")):
        row = answer(labeller.label_videos(dataclasses.asdict(each))(planned(path)))
        assert row["error_kind"] == kind


@pytest.mark.parametrize("family", ["deep", "classical"])
def test_a_fault_of_the_model_is_no_row(
    family: str, deep: DeepModel, classical: ClassicalModel, tmp_path: Path
) -> None:
    path = write_scenes(tmp_path / "a.mp4", (2, 100))
    model: Any = deep if family == "deep" else classical
    if family == "deep":
        model = ClipModel(
            class_names=deep.class_names, clip=deep.clip, predict=TorchPredictor(deep, SETTINGS)
        )
        with torch.no_grad():
            deep.network.head.weight.fill_(torch.nan)
    else:
        classical.pipeline.predict_proba = lambda rows: np.full((len(rows), 2), np.nan)
    with pytest.raises(ModelError, match="that do not sum to 1"):
        labeller.label_video(planned(path), model, SETTINGS)
    if family == "deep":  # And before there is a video.
        with pytest.raises(ModelError, match="that do not sum to 1"):
            TorchPredictor(deep, SETTINGS)


def test_the_digest_is_of_what_decides_a_label() -> None:
    moved = dataclasses.replace(SETTINGS, model="elsewhere")
    assert moved.digest == SETTINGS.digest
    assert dataclasses.replace(SETTINGS, model_digest="e").digest != SETTINGS.digest
    for changed in ({"long_seconds": 9.0}, {"embedding": True}, {"decoder": "opencv"}):
        assert asked(**changed).digest != SETTINGS.digest
    as_json = LabelSettings.from_json(dataclasses.asdict(SETTINGS))
    assert as_json == SETTINGS


@pytest.mark.slow
def test_a_model_that_changes_during_the_job_is_refused(tmp_path: Path) -> None:
    from tests.models.test_folder import save, trained

    folder = str(tmp_path / "model")
    save(trained("resnet18_avg"), folder)
    settings = dataclasses.replace(SETTINGS, model=folder, model_digest=name_and_digest(folder)[1])
    label = labeller.label_videos(dataclasses.asdict(settings))
    path = write_scenes(tmp_path / "a.mp4", (1, 30))
    assert answer(label(planned(path)))["status"] == "ok"
    model = trained("resnet18_avg")
    save_deep(folder, {**model.info, "class_names": ("x", "y", "z")}, model.network.state_dict())
    assert name_and_digest(folder)[1] != settings.model_digest
    with pytest.raises(UserError, match="has changed since the job began"):
        labeller.label_videos(dataclasses.asdict(settings))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"window_seconds": 0.0}, "window_seconds is 0"),
        ({"step_seconds": 3.0}, "none may be above the next"),
        ({"long_seconds": 1.0}, "none may be above the next"),
        ({"clips_per_video": 0}, "clips_per_video is 0"),
        ({"crops": 0}, "crops is 0"),
        ({"precision": "int8"}, "one of float32, bfloat16"),
    ],
)
def test_wrong_settings_are_told(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        asked(**changed)


@pytest.mark.slow
def test_a_driver_needs_no_torch() -> None:
    """Nor does a worker that asks a predictor: PyTorch would be 0.3 GB in each."""
    code = (
        "import sys; from vidray.labelling import commits, labeller; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0


def test_what_is_no_model_is_told(place: str) -> None:
    with pytest.raises(UserError, match=r"is not a model folder \(no model.json\)"):
        name_and_digest(storage.join(place, "nothing"))


def test_caps_are_no_part_of_the_digest_and_are_told_in_the_row(tmp_path: Path) -> None:
    assert asked(limits=Limits(max_pixels=5)).digest == SETTINGS.digest
    made = fitted("knn")
    folder = str(tmp_path / "model")
    save_classical(folder, made.info, made.pipeline)
    path = write_video(tmp_path / "a.mp4", num_frames=30)
    settings = LabelSettings(model=folder, model_digest=name_and_digest(folder)[1])
    for limits, cap in (
        (Limits(max_seconds=0.5), ("max_seconds", 0.5)),
        (Limits(max_pixels=100), ("max_pixels", 100.0)),
        (Limits(max_frames=10), ("max_frames", 10.0)),
        (Limits(max_bytes=100), ("max_bytes", 100.0)),
        (Limits(), (None, None)),
    ):
        capped = dataclasses.replace(settings, options=LabelOptions(limits=limits))
        row = answer(labeller.label_videos(dataclasses.asdict(capped))(planned(path)))
        assert (row["cap"], row["cap_value"]) == cap
        assert (row["error_kind"] == "too_large") == (cap[0] is not None)


@pytest.mark.slow
def test_a_row_made_under_a_low_cap_of_memory_is_made_again_under_a_higher_one(
    tmp_path: Path,
) -> None:
    """Through a sandbox, as the job does."""
    path = tmp_path / "wide.avi"
    write_video(path, num_frames=3, width_px=4096, height_px=4096, codec="mpeg4")
    listed = list_videos(str(path))
    labels = commits.LabelSet(out=str(tmp_path / "out"), name="eater-1")
    kinds = []
    for memory_bytes in (1 << 29, 1 << 29, 1 << 32):
        caps = {"memory_bytes": float(memory_bytes)}
        todo = labels.todo(listed, max_attempts=1, caps=caps)
        kinds.append({name: number for name, number in todo.counts.items() if number})
        if not len(todo.plan):
            continue
        run = labels.new_run("/v", "d")
        assert labels.claim(run, todo, {}) == run
        sandbox = Sandbox(
            "tests.poison:labels_of_large_frames", {}, memory_bytes=memory_bytes,
            timeout_seconds=120,
        )  # fmt: skip
        (video,) = run.read_videos().to_pylist()
        try:
            batch = sandbox.run(video)
        except VideoError as error:
            batch = rows.failed(video, schema.LABELLED, "d", error)
        finally:
            sandbox.close()
        made = pa.Table.from_batches([batch.replace_schema_metadata(None)], schema.LABELLED)
        run.write_part(0, made)
        labels.commit(run, model_digest="m")
        (row,) = commits.read_labels(labels.out).to_pylist()
        if memory_bytes == 1 << 29:
            assert row["error_kind"] == "out_of_memory", row["error_message"]
            assert (row["cap"], row["cap_value"]) == ("memory_bytes", float(1 << 29))
        else:
            assert (row["status"], row["label"], row["attempts"]) == ("ok", "large", 2)
            assert (row["cap"], row["cap_value"]) == (None, None)
    assert kinds == [{"new": 1}, {"quarantined": 1}, {"retried": 1}]
