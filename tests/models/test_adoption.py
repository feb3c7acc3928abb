"""Published classifiers as model folders: what they answer is what their authors' code answers."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import WeightsEnum, video

from tests.command_lines import exit_code
from tests.made_runs import features_run
from tests.models.weights.made_weights import fill
from tests.videos import write_video
from vidray import models
from vidray.models.folder import DeepModel
from vidray.video import clips
from vidray.video.decode import Video

R3D = video.R3D_18_Weights.DEFAULT


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """PyTorch's cache, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def publish(hub: Path, weights: WeightsEnum, make: Callable[[], nn.Module]) -> nn.Module:
    """The network, with made weights that lie in the cache in place of the published ones."""
    network = fill(make())
    torch.save(network.state_dict(), hub / weights.url.rpartition("/")[2])
    return network


def adopt(*flags: object) -> int:
    return exit_code("jobs/adopt.py", *flags)


def deep(folder: Path) -> DeepModel:
    model = models.load(str(folder))
    assert isinstance(model, DeepModel)
    return model


def labelled(model: DeepModel, path: Path) -> Any:
    """The probabilities as a label job finds them: one clip's each."""
    with path.open("rb") as file, Video(file) as opened:
        pixels, _, _ = clips.read_clips(opened, file, model.clip)
    return model.predict(pixels)


def all_frames(path: Path) -> Tensor:
    """``uint8 (T, 3, H, W)``, as torchvision's own reader gave them."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)


@pytest.mark.slow
def test_kinetics_from_the_file_to_the_label(hub: Path, tmp_path: Path) -> None:
    """By torchvision's own transform and network, on the frames that its 15 a second are."""
    theirs = publish(hub, R3D, video.r3d_18)
    out = tmp_path / "model"
    assert adopt("--model", "r3d_18", "--out", out, "--clips-per-video", 1) == 0
    model = deep(out)
    assert model.class_names == tuple(R3D.meta["categories"])
    path = write_video(tmp_path / "a.mp4", num_frames=32, fps=30, width_px=176, height_px=144)
    frames = all_frames(path)
    assert len(frames) == 32
    # 16 frames at 15 a second are every other one of 30, the middle of each pair's stretch.
    chosen = frames[np.arange(16) * 2 + 1]
    with torch.no_grad():
        expected = theirs(R3D.transforms()(chosen)[None]).softmax(dim=1)
    np.testing.assert_allclose(labelled(model, path)[0], expected[0].numpy(), atol=1e-5)


@pytest.mark.slow
def test_classes_merged_by_a_list(
    hub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(hub, R3D, video.r3d_18)
    whole, merged = tmp_path / "whole", tmp_path / "merged"
    assert adopt("--model", "r3d_18", "--out", whole) == 0
    labels = tmp_path / "labels.csv"
    labels.write_text("class,label\nwrestling,fight\npunching person (boxing),fight\n*,other\n")
    capsys.readouterr()
    assert adopt("--model", "r3d_18", "--out", merged, "--labels", labels) == 0
    told = capsys.readouterr().out
    assert "2 classes: fight, other" in told
    assert "licence of the weights: BSD-3-Clause" in told
    assert "16 frames at 15 a second" in told
    own, few = deep(whole), deep(merged)
    assert few.class_names == ("fight", "other")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, 16, 112, 112, 3), np.uint8)
    all_of_them = own.predict(pixels)
    fights = [own.class_names.index(n) for n in ("wrestling", "punching person (boxing)")]
    np.testing.assert_allclose(few.predict(pixels)[:, 0], all_of_them[:, fights].sum(1), rtol=1e-4)
    report = json.loads((merged / "run.json").read_text())
    assert report["state"] == "finished"
    assert (merged / "_SUCCESS").exists()


@pytest.mark.slow
def test_a_file_needs_the_names_of_its_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = fill(video.r3d_18(num_classes=3))
    file = tmp_path / "mine.pth"
    torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, file)
    out = tmp_path / "model"
    flags = ("--model", "r3d_18", "--weights", file, "--out", out)
    assert adopt(*flags) == 2
    assert "does not say what its classes are called: give --classes" in capsys.readouterr().err
    names = tmp_path / "names.txt"
    names.write_text("walk\nrun\n")
    assert adopt(*flags, "--classes", names) == 2
    assert "3 classes" in capsys.readouterr().err
    names.write_text("walk\nrun\njump\n")
    assert adopt(*flags, "--classes", names) == 0
    assert deep(out).class_names == ("walk", "run", "jump")
    assert adopt(*flags, "--classes", names) == 0  # Again: nothing to do.
    names.write_text("walk\nrun\nfly\n")
    assert adopt(*flags, "--classes", names) == 2  # Another model is there.
    assert adopt(*flags, "--classes", names, "--overwrite") == 0
    assert deep(out).class_names == ("walk", "run", "fly")


@pytest.mark.slow
def test_the_package_of_weights_labels_a_picture(tmp_path: Path) -> None:
    """EfficientNet-Lite0's weights come with pip: an espresso in every frame."""
    from skimage import data

    out = tmp_path / "model"
    assert adopt("--model", "efficientnet_lite0_avg", "--out", out) == 0
    model = deep(out)
    frames = [data.coffee()] * 8
    path = write_frames(tmp_path / "coffee.mkv", frames)
    (found,) = labelled(model, path)[:1]
    assert model.class_names[int(found.argmax())] == "espresso"
    assert found.max() > 0.85


def write_frames(path: Path, frames: list[Any]) -> Path:
    """The frames without loss."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=8)
        stream.width, stream.height = frames[0].shape[1], frames[0].shape[0]
        stream.pix_fmt = "bgr0"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.slow
def test_a_model_folder_is_adopted_under_other_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder of ours, itself or by its file of weights; a classical one has no weights."""
    first, labels = tmp_path / "first", tmp_path / "labels.csv"
    assert adopt("--model", "efficientnet_lite0_avg", "--out", first) == 0
    labels.write_text("class,label\nespresso,drink\n*,other\n")
    flags = ("--model", "efficientnet_lite0_avg", "--labels", labels)
    pixels = np.zeros((1, 8, 224, 224, 3), np.uint8)
    for k, weights in enumerate((first, first / "weights.safetensors")):
        out = tmp_path / str(k)
        assert adopt(*flags, "--weights", weights, "--out", out) == 0
        own = deep(first).predict(pixels)[0, deep(first).class_names.index("espresso")]
        assert deep(out).predict(pixels)[0, 0] == pytest.approx(own, rel=1e-4)
    capsys.readouterr()
    assert adopt("--model", "r3d_18", "--weights", first, "--out", tmp_path / "other") == 2
    assert "holds efficientnet_lite0_avg, and this is r3d_18" in capsys.readouterr().err
    data, classical = features_run(tmp_path / "features"), tmp_path / "classical"
    learnt = ("--data", data, "--model", "logistic_regression", "--folds", "0")
    assert exit_code("jobs/train.py", *learnt, "--out", classical) == 0
    capsys.readouterr()
    assert adopt("--model", "r3d_18", "--weights", classical, "--out", tmp_path / "none") == 2
    assert "which has no weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--model", "r3d_19"), "did you mean r3d_18"),
        (("--model", "extra_trees"), "extra_trees"),
        (("--model", "r3d_18", "--weights", "none"), "fresh weights know no class"),
        (("--model", "c3d"), "c3d"),
        (("--model", "r3d_18", "--words", "x.txt"), "--words needs a model of texts"),
        (("--model", "r3d_18", "--words", "x", "--classes", "y"), "give one"),
    ],
)
def test_what_cannot_be_adopted_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], said: str
) -> None:
    assert adopt(*flags, "--out", tmp_path / "out") == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert sys.exc_info() == (None, None, None)
