"""One small trained-looking network and a run of clips, for all tests of exports."""

import dataclasses
from pathlib import Path

import pytest
import torch

from tests import made_runs
from vidray.models.folder import DeepModel, load, save_deep
from vidray.models.networks.build import build
from vidray.models.preprocess import IMAGENET, Preprocessing
from vidray.video.clips import ClipSettings

SIZE_PX, FRAMES = 32, 2


@pytest.fixture(scope="session")
def network_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The model folder of a network whose answers differ between clips."""
    torch.manual_seed(0)
    built = build("resnet18_avg", num_classes=2, weights="none")
    for module in built.network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # As if it had been trained.
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr, operator]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr, operator]
    mean, std = IMAGENET
    pre = Preprocessing(num_frames=FRAMES, size_px=SIZE_PX, mean=mean, std=std)
    clip = ClipSettings(frames_per_clip=FRAMES, size_px=SIZE_PX)
    info = {
        "family": "deep",
        "name": "resnet18_avg",
        "class_names": list(made_runs.LABELS),
        "network": {"name": "resnet18_avg", "num_classes": 2},
        "preprocessing": pre.to_json(),
        "clip": dataclasses.asdict(clip),
    }
    folder = tmp_path_factory.mktemp("network") / "m"
    folder.mkdir()
    save_deep(str(folder), info, built.network.state_dict())
    return str(folder)


@pytest.fixture(scope="session")
def network(network_dir: str) -> DeepModel:
    """The network of ``network_dir``."""
    model = load(network_dir)
    assert isinstance(model, DeepModel)
    return model


@pytest.fixture(scope="session")
def clips_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A finished run of clips of the size that the network takes."""
    folder: Path = tmp_path_factory.mktemp("clips") / "run"
    return str(made_runs.clips_run(folder, 32, frames=FRAMES, size_px=SIZE_PX))
