"""What is said of a file: taken, left, of other classes, of another network."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision.models as tv
from torch import Tensor, nn
from torchvision.models import video

from vidray.errors import UserError
from vidray.models import names
from vidray.models.folder import save_deep
from vidray.models.model_json import Network
from vidray.models.networks.build import build
from vidray.models.preprocess import Preprocessing
from vidray.models.weights import fitting, origins, published
from vidray.video.clips import ClipSettings


def saved(state: dict[str, Tensor], folder: Path, name: str = "w.pth") -> str:
    torch.save(state, folder / name)
    return str(folder / name)


def resnet18(folder: Path, *, classes: int = 5, **changed: Tensor) -> str:
    return saved({**tv.resnet18(num_classes=classes).state_dict(), **changed}, folder)


# What was taken


def test_another_head_is_named_with_its_classes(tmp_path: Path) -> None:
    file = resnet18(tmp_path)
    built = build("resnet18_avg", num_classes=3, weights=file)
    assert built.loaded == (
        f"{file}: 120 tensors taken (torchvision's names), left: fc.weight, fc.bias "
        "(5 classes, this model has 3), so the head is new"
    )
    assert built.origin == "torchvision"


def test_the_same_classes_in_another_form_of_head(tmp_path: Path) -> None:
    file = resnet18(tmp_path)
    built = build("resnet18_avg", num_classes=5, weights=file, head="layernorm_dropout_linear")
    assert built.loaded is not None
    assert built.loaded.endswith("(for other classes, or of another form), so the head is new")


def test_a_backbone_alone(tmp_path: Path) -> None:
    network = tv.resnet18()
    network.fc = nn.Identity()
    file = saved(network.state_dict(), tmp_path)
    built = build("resnet18_lstm", num_classes=3, weights=file)
    assert built.loaded == (
        f"{file}: 120 tensors taken (torchvision's names), there is no head, so the head is new"
    )


def test_counters_that_old_files_lack(tmp_path: Path) -> None:
    state = tv.resnet18(num_classes=3).state_dict()
    state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    built = build("resnet18_avg", num_classes=3, weights=saved(state, tmp_path))
    assert "102 tensors taken" in str(built.loaded)


def test_a_moving_average_is_preferred_and_said(tmp_path: Path) -> None:
    raw, average = tv.resnet18(num_classes=3), tv.resnet18(num_classes=3)
    file = saved({"model": raw.state_dict(), "model_ema": average.state_dict()}, tmp_path)
    built = build("resnet18_avg", num_classes=3, weights=file)
    assert torch.equal(built.network.state_dict()["head.weight"], average.fc.weight)
    assert "(torchvision's names; its moving average model_ema)" in str(built.loaded)


@pytest.mark.parametrize("keep", [None, True, False])
def test_whether_a_head_is_kept(tmp_path: Path, keep: bool | None) -> None:
    theirs = tv.resnet18(num_classes=3)
    file = saved(theirs.state_dict(), tmp_path)
    built = build("resnet18_avg", num_classes=3, weights=file, keep_head=keep)
    kept = torch.equal(built.network.state_dict()["head.weight"], theirs.fc.weight)
    assert kept == (keep is not False)
    assert ("so the head is new" in str(built.loaded)) == (keep is False)
    if keep:
        with pytest.raises(UserError, match=r"its last layer is wanted, and .*3 classes"):
            build("resnet18_avg", num_classes=4, weights=file, keep_head=True)


# What does not fit


def test_another_architecture_is_named(tmp_path: Path) -> None:
    file = resnet18(tmp_path)
    said = rf"^{file} does not fit r3d_18: it holds resnet18_avg \(torchvision's names\); give "
    with pytest.raises(UserError, match=said + "--model resnet18_avg, or other weights$"):
        build("r3d_18", num_classes=3, weights=file)


@pytest.mark.slow
def test_each_architecture_is_found_by_its_own_names(tmp_path: Path) -> None:
    for name in ("x3d_s", "mvit_v2_s", "swin3d_t", "s3d"):
        state = build(name, num_classes=3).network.state_dict()
        with pytest.raises(UserError, match=f"it holds {name} ") as caught:
            build("resnet18_avg", num_classes=3, weights=saved(state, tmp_path))
        assert "\n" not in str(caught.value)


def test_three_names_that_differ(tmp_path: Path) -> None:
    file = resnet18(
        tmp_path, **{"extra.a": torch.zeros(1), "layer1.0.conv1.weight": torch.zeros(2, 2)}
    )
    state = torch.load(file)
    del state["layer2.0.bn1.bias"], state["layer3.0.bn1.bias"], state["bn1.running_mean"]
    with pytest.raises(UserError) as caught:
        build("resnet18_avg", num_classes=3, weights=saved(state, tmp_path))
    assert str(caught.value) == (
        f"{file} does not fit the model: layer1.0.conv1.weight is (2, 2) and must be "
        "(64, 64, 3, 3); backbone.layer2.0.bn1.bias is missing; backbone.layer3.0.bn1.bias is "
        "missing and 2 more"
    )


def test_nothing_of_vidrays(tmp_path: Path) -> None:
    file = saved({f"net.{k}.w": torch.zeros(2) for k in range(5)} | {"x": torch.ones(1)}, tmp_path)
    with pytest.raises(UserError, match=r"no other that vidray has: its first tensors are net\.0"):
        build("resnet18_avg", num_classes=3, weights=file)


@pytest.mark.parametrize("shape", [(0,), (), (3,), (7, 7), (1, 512, 1, 1, 1, 1), (1000, 512, 2)])
def test_odd_shapes_of_a_head_and_of_a_body(tmp_path: Path, shape: tuple[int, ...]) -> None:
    built = build(
        "resnet18_avg",
        num_classes=3,
        weights=resnet18(tmp_path, **{"fc.weight": torch.zeros(shape)}),
    )
    assert "so the head is new" in str(built.loaded)
    wrong = resnet18(tmp_path, **{"layer4.1.conv2.weight": torch.zeros(shape)})
    with pytest.raises(UserError, match=r"layer4\.1\.conv2\.weight is \("):
        build("resnet18_avg", num_classes=3, weights=wrong)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [0, 1, 7, 197, 198])
def test_odd_tables_of_positions(tmp_path: Path, rows: int) -> None:
    state = build("timesformer_divided", num_classes=3, frames=2, size_px=32).network.state_dict()
    state["space_position"] = torch.zeros(1, rows, 768)
    file = saved(state, tmp_path)
    settings: dict[str, Any] = {"num_classes": 3, "weights": file, "frames": 2, "size_px": 32}
    if rows == 197:
        assert build("timesformer_divided", **settings).origin == "vidray"
        return
    with pytest.raises(UserError, match=r"space_position is \(1, "):
        build("timesformer_divided", **settings)


# Model folders


def model_folder(folder: Path, name: str, **settings: Any) -> str:
    network = Network(name=name, num_classes=3, **settings)
    info = {
        "family": "deep",
        "name": name,
        "class_names": ["a", "b", "c"],
        "network": dataclasses.asdict(network),
        "preprocessing": dataclasses.asdict(
            Preprocessing(num_frames=4, size_px=32, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
        ),
        "clip": dataclasses.asdict(ClipSettings(frames_per_clip=4, size_px=32)),
    }
    save_deep(str(folder), info, build(**dataclasses.asdict(network)).network.state_dict())
    return str(folder)


@pytest.mark.slow
def test_a_model_folder_and_its_file(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", "slowfast_r50", variant="linspace")
    for weights in (folder, f"{folder}/weights.safetensors"):
        built = build("slowfast_r50", num_classes=3, weights=weights)
        assert (built.origin, built.variant) == ("vidray", "linspace")
        assert str(built.loaded).startswith(f"{folder}: 662 tensors taken (vidray's names), all")
    with pytest.raises(UserError, match="holds slowfast_r50, and this is r3d_18: give --model"):
        build("r3d_18", num_classes=3, weights=folder)


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is a folder without model\.json or config\.json: give"):
        build("resnet18_avg", num_classes=3, weights=str(tmp_path))


# The table


def test_the_table_names_models_and_variants_that_there_are() -> None:
    for row in origins.ORIGINS:
        for model in row.models:
            assert model in names.DEEP
            names.check_variant(model, row.variant)


def test_formats_without_their_poolings_are_many() -> None:
    formats = {
        (row.name, model.rpartition("_")[0] if model.endswith(names.POOLINGS) else model)
        for row in origins.ORIGINS
        if row.name != "vidray"
        for model in row.models
    }
    assert len(formats) >= 60


def test_published_weights_have_a_licence_and_names() -> None:
    for name in names.DEEP:
        if name.startswith("videomae"):
            continue  # The hub of transformers says.
        found = published.of_model(name)
        if found is None:
            assert name.startswith(("c3d", "slowfast", "x3d", "r2plus1d_r50", "r2plus1d_34"))
            continue
        assert found.licence
        assert len(found.class_names) in (400, 1000)
        assert "\n" not in found.shown


def test_a_video_network_of_torchvision_with_its_head(tmp_path: Path) -> None:
    theirs = video.mc3_18(num_classes=4)
    file = saved({"model": {f"module.{k}": v for k, v in theirs.state_dict().items()}}, tmp_path)
    built = build("mc3_18", num_classes=4, weights=file)
    for name, value in theirs.state_dict().items():
        assert torch.equal(built.network.state_dict()[name], value)
    assert fitting.head_of(built) == "fc."
