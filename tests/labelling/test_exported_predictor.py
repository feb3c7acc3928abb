"""Labels of exported networks: those computed by hand, in processes that never load PyTorch."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from tests.labelling.test_labeller import answer, planned, write_scenes
from tests.models.exported import tiny_graphs
from tests.ray_cluster import ROOT
from vidray.distributed.resources import Resources
from vidray.distributed.sandbox import Sandbox
from vidray.errors import UserError
from vidray.features.embedding import over_views
from vidray.features.extraction import Settings
from vidray.labelling import embedding, labeller, predictor, wire
from vidray.labelling.embed_options import EmbedOptions
from vidray.labelling.exported_predictor import open_predictor
from vidray.labelling.labeller import ClipModel
from vidray.labelling.options import LabelOptions
from vidray.labelling.settings import (
    LabelSettings,
    check_model,
    check_runtimes,
    name_and_digest,
)
from vidray.labelling.wire import Answer
from vidray.models.carried_network import copy_network
from vidray.models.folder import load_network
from vidray.models.model_files import network_info, read_info
from vidray.models.names import Runtime
from vidray.video.clips import ClipSettings, read_clips
from vidray.video.decode import Video

RUNTIMES: tuple[Runtime, ...] = ("openvino", "onnx")
OPTIONS = LabelOptions(long_seconds=8.0, window_seconds=2.0, step_seconds=1.0, embedding=True)


@pytest.fixture(scope="module", params=RUNTIMES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The model folder of a tiny exported network."""
    where = tmp_path_factory.mktemp("exports") / request.param
    return str(tiny_graphs.write(where, request.param))


def settings_of(folder: str, options: LabelOptions = OPTIONS) -> LabelSettings:
    return LabelSettings(model=folder, model_digest=name_and_digest(folder)[1], options=options)


def by_hand(pixels: NDArray[np.uint8]) -> Answer:
    """What the tiny network says, by NumPy."""
    logits, embeddings = tiny_graphs.expected(pixels)
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return Answer(exp / exp.sum(axis=1, keepdims=True), embeddings.astype(np.float32))


def row_by_hand(video: dict[str, Any], settings: LabelSettings) -> dict[str, Any]:
    """The LABELS row of a network that is NumPy."""
    clip = labeller.network(settings, None).clip
    model = ClipModel(class_names=tiny_graphs.CLASSES, clip=clip, predict=by_hand)
    return answer(labeller.label_video(video, model, settings))


@pytest.mark.parametrize("seconds", [4.0, 12.0])  # one clip; windows
def test_labels_are_those_computed_by_hand(folder: str, tmp_path: Path, seconds: float) -> None:
    video = planned(write_scenes(tmp_path / "a.mp4", (seconds / 2, 20), (seconds / 2, 240)))
    settings = settings_of(folder)
    config = json.loads(json.dumps(dataclasses.asdict(settings)))
    here = answer(labeller.label_videos(config)(video))
    elsewhere = labeller.label_videos(config, predictor.answer_questions(config))
    expected = row_by_hand(video, settings)
    assert here["label"] == expected["label"]
    for column in ("probabilities", "embedding"):
        np.testing.assert_allclose(here[column], expected[column], atol=1e-5)
    if seconds > OPTIONS.long_seconds:
        assert [part["label"] for part in here["segments"]] == [
            part["label"] for part in expected["segments"]
        ]
    assert answer(elsewhere(video)) == here  # Workers and predictors say the very same.


def test_what_a_clip_is_does_not_depend_on_who_else_asks(folder: str) -> None:
    predict = open_predictor(settings_of(folder), may_use_gpu=False)
    clips = np.random.default_rng(0).integers(0, 256, (9, *tiny_graphs.CLIP), np.uint8)
    together = predict(clips)
    assert together.embeddings is not None
    for k in range(len(clips)):
        alone = predict(clips[k : k + 1])
        assert alone.embeddings is not None
        assert alone.probabilities.tobytes() == together.probabilities[k : k + 1].tobytes()
        assert alone.embeddings.tobytes() == together.embeddings[k : k + 1].tobytes()


@pytest.fixture
def inside(folder: str, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What a worker's sandbox has loaded after it labelled a video."""
    video = planned(write_scenes(tmp_path / "a.mp4", (2, 20)))
    sandbox = Sandbox(
        "tests.labelling.inside:look_inside",
        {"settings": dataclasses.asdict(settings_of(folder))},
        memory_bytes=3 << 30,
        timeout_seconds=600,
    )
    try:
        yield json.loads(sandbox.run(video)["json"][0].as_py())
    finally:
        sandbox.close()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_worker_has_no_pytorch_and_maps_the_weights(inside: dict[str, Any], folder: str) -> None:
    assert inside["status"] == "ok"
    loaded = {name.partition(".")[0] for name in inside["modules"]}
    assert not loaded & {"torch", "torchvision", "ray", "sklearn"}, sorted(loaded)
    assert "libtorch" not in inside["maps"]
    if folder.endswith("openvino"):
        mapped = re.search(r"network\.bin\n(?:.*\n)*?Private_Dirty: +(\d+) kB", inside["maps"])
        assert mapped is not None
        assert int(mapped[1]) <= 4  # A page at the most: workers of a node share the others.


@pytest.mark.slow
def test_neither_a_driver_nor_a_predictor_has_pytorch(folder: str) -> None:
    """Nor does who extracts with --embed."""
    config = json.dumps(dataclasses.asdict(settings_of(folder)))
    driver = f"""
from vidray.distributed.resources import PredictorChoice, Resources
from vidray.labelling import nights
from vidray.labelling.options import LabelOptions
night = nights.begin({folder!r}, "v", "o", LabelOptions(), Resources(), PredictorChoice(),
                     max_attempts=1, config={{}})
night.labels
assert night.resources.memory_gib == 2.5
"""
    asked = f"""
import json
from vidray.labelling import predictor
predictor.answer_questions(json.loads({config!r}))
"""
    for code in (driver, asked):
        done = subprocess.run(
            [sys.executable, "-c", code + "\nimport sys\nassert 'torch' not in sys.modules"],
            check=False, cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def test_options_of_pytorch_are_refused(folder: str) -> None:
    info = read_info(folder)
    network = network_info(folder, info)
    assert network is not None
    check_model(OPTIONS, info)
    check_runtimes(OPTIONS, [network])
    for changed in ({"precision": "bfloat16"}, {"compile": True}):
        options = dataclasses.replace(OPTIONS, **changed)
        (name,) = changed
        told = f"--{name} has no effect on resnet18_avg, which was exported to"
        with pytest.raises(UserError, match=told):
            check_runtimes(options, [network])
        # Of two models one may be PyTorch's: it has an effect on that one.
        check_runtimes(options, [network, {**network, "exported": None}])


def test_a_gpu_that_the_runtime_cannot_use_is_told(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if folder.endswith("openvino"):
        pytest.skip("OpenVINO is given none, see placing")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(UserError, match="this ONNX Runtime cannot use GPUs"):
        open_predictor(settings_of(folder), may_use_gpu=True)


def test_the_runtime_decides_a_label(folder: str) -> None:
    info = read_info(folder)
    libraries = settings_of(folder).libraries(info, network_info(folder, info))
    assert "torch" not in libraries
    assert ("openvino" if folder.endswith("openvino") else "onnxruntime") in libraries


def test_an_export_that_changes_during_the_job_is_refused(folder: str, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "m")
    config = dataclasses.asdict(settings_of(str(copy)))
    info = json.loads((copy / "model.json").read_text())
    (copy / "model.json").write_text(json.dumps({**info, "class_names": ["run", "jump"]}))
    for work in (labeller.label_videos, predictor.answer_questions):
        with pytest.raises(UserError, match="has changed since the job began"):
            work(config)


def test_a_question_is_answered_in_a_process_of_its_own(folder: str) -> None:
    config = dataclasses.asdict(settings_of(folder))
    clips = np.random.default_rng(1).integers(0, 256, (3, *tiny_graphs.CLIP), np.uint8)
    found = wire.read_answer(predictor.answer_questions(config)(wire.question(clips)))
    np.testing.assert_allclose(found.probabilities, by_hand(clips).probabilities, atol=1e-5)


@pytest.mark.slow
def test_embeddings_of_an_export_are_features_and_go_with_the_model(
    folder: str, tmp_path: Path
) -> None:
    path = write_scenes(tmp_path / "a.mp4", (2, 20), (2, 240))
    settings = embedding.settings_of(
        EmbedOptions(embed=folder), Settings(families=()), "default", Resources(memory_gib=3)
    )
    assert settings.extraction.embedding is not None
    assert settings.extraction.embedding.size == tiny_graphs.LENGTH
    config = json.loads(json.dumps(dataclasses.asdict(settings)))
    row = embedding.describe_videos(config)(planned(path, label=None))
    seen = over_views(by_hand(views_of(path)).embeddings)
    np.testing.assert_allclose(row["embedding"][0].as_py(), seen, atol=1e-4)
    assert "torch" not in settings.libraries
    assert ("openvino" if folder.endswith("openvino") else "onnxruntime") in settings.libraries
    with pytest.raises(UserError, match="--embed-precision has no effect on resnet18_avg"):
        embedding.settings_of(
            EmbedOptions(embed=folder, embed_precision="bfloat16"),
            Settings(families=()), "default", Resources(memory_gib=3),
        )  # fmt: skip
    copy_network(folder, settings.extraction.embedding, str(tmp_path / "classical"))
    carried = tmp_path / "classical" / "embedding"
    assert name_and_digest(str(carried)) == name_and_digest(folder)
    assert load_network(str(carried)).class_names == tiny_graphs.CLASSES


def views_of(path: Path) -> NDArray[np.uint8]:
    """The four clips of a video that ``--embed`` looks at."""
    cut = ClipSettings(frames_per_clip=tiny_graphs.CLIP[0], size_px=16, clips_per_video=4)
    with Video(str(path)) as opened:
        return read_clips(opened, str(path), cut)[0]
