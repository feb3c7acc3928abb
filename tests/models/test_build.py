"""From a name to a network: parameters, what is trained, and weights that can't run code."""

import json
import math
import pickle
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torchvision.models as tv
from torch import Tensor, nn
from torchvision.models import WeightsEnum, video

from tests.models.weights import recorded
from tests.models.weights.made_weights import clip, difference, made
from vidray import models, storage
from vidray.errors import UserError
from vidray.models import classical, names
from vidray.models.networks.architecture import Architecture
from vidray.models.networks.build import (
    build,
    build_model,
    origin_and_variant,
    set_trained,
)
from vidray.models.weights import files, published

# Every deep model that there must be.
ROWS = (
    "resnet18_avg resnet18_max resnet18_attention resnet18_lstm",
    "resnet50_avg resnet50_max resnet50_attention resnet50_lstm",
    "efficientnet_b0_avg efficientnet_b0_max efficientnet_b0_attention efficientnet_b0_lstm",
    "efficientnet_lite0_avg efficientnet_lite0_max",
    "efficientnet_lite0_attention efficientnet_lite0_lstm",
    "c3d",
    "r3d_18 mc3_18 r2plus1d_18 r2plus1d_34",
    "i3d_r50 slow_r50 c2d_r50 r2plus1d_r50",
    "s3d mvit_v1_b mvit_v2_s swin3d_t",
    "x3d_s x3d_m",
    "slowfast_r50",
    "timesformer_divided timesformer_space timesformer_joint timesformer_sparse",
    "videomae_small videomae_base videomae_large",
    "two_stream_late two_stream_early two_stream_weighted",
)
NORMALISED = "layernorm_dropout_linear"


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def test_every_model_of_the_list_has_a_name() -> None:
    assert sorted(names.DEEP) == sorted(" ".join(ROWS).split())
    assert models.DEEP == names.DEEP


def test_names_are_known_without_what_builds_the_models() -> None:
    assert set(classical._CLASSIFIERS) == {*names.CLASSICAL, names.MAJORITY}
    code = "import sys; from vidray.models import names; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "sklearn", "numpy", "pyarrow"} & set(done.stdout.split())


# Parameters


def parameters_of(name: str, **settings: Any) -> int:
    with torch.device("meta"):
        network = build_model(name, **settings)
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("name", "head", "classes", "expected"),
    [
        ("resnet18_avg", "linear", 3, 11_178_051),
        ("efficientnet_b0_avg", NORMALISED, 3, 4_013_951),
        ("efficientnet_b0_max", NORMALISED, 3, 4_013_951),
        ("efficientnet_b0_attention", NORMALISED, 3, 4_834_432),
        ("c3d", "linear", 101, 78_409_573),
        ("r3d_18", "linear", 3, 33_167_811),
        ("r3d_18", NORMALISED, 3, 33_168_835),
    ],
)
def test_parameters_exactly(name: str, head: str, classes: int, expected: int) -> None:
    assert parameters_of(name, head=head, num_classes=classes) == expected


@pytest.mark.parametrize(
    ("name", "millions"),
    [("i3d_r50", 28.04), ("slowfast_r50", 34.57), ("timesformer_divided", 121.0)],
)
def test_parameters_as_published(name: str, millions: float) -> None:
    assert parameters_of(name, num_classes=400) == pytest.approx(millions * 1e6, rel=0.01)


# What cannot be built


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"name": "r3d18"}, "deep model 'r3d18' is unknown: did you mean r3d_18?"),
        ({"name": "resnet18"}, "deep model 'resnet18' is unknown: did you mean resnet18_"),
        ({"name": "zzz"}, "deep model 'zzz' is unknown: one of resnet18_avg, "),
        ({"name": ""}, "model '' is unknown"),
        (
            {"head": "lnear"},
            "head 'lnear' is unknown: did you mean linear? One of linear, ",
        ),
        ({"num_classes": 1}, "num_classes is 1: a classifier needs 2 or more classes"),
        ({"num_classes": 0}, "num_classes is 0"),
        (
            {"name": "slowfast_r50", "variant": "linspce"},
            "variant of slowfast_r50 'linspce' is unknown: did you mean linspace? One of linspace",
        ),
        ({"name": "c3d", "variant": "linspace"}, "'linspace' is unknown: one of padded"),
        ({"variant": "padded"}, "variant is 'padded': resnet18_avg has none, leave it out"),
        (
            {"name": "timesformer_divided", "frames": 2, "size_px": 40},
            "timesformer_divided: size_px=40 is not a multiple of patch_px=16",
        ),
    ],
)
def test_what_cannot_be_built_is_said_in_one_line(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        build_model(**{"name": "resnet18_avg", "num_classes": 3, **settings})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


# Variants

VARIANTS = [(name, variant) for name in names.VARIANTS for variant in names.VARIANTS[name]]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_a_variant_is_another_network(name: str, variant: str) -> None:
    assert name in names.DEEP
    networks = []
    for chosen in (None, variant):
        torch.manual_seed(0)
        built = build(name, num_classes=3, frames=8, size_px=48, variant=chosen)
        with torch.no_grad():  # Fresh, PyTorchVideo's residual blocks add nothing.
            for module in built.network.modules():
                if isinstance(module, nn.BatchNorm3d):
                    nn.init.uniform_(module.weight, 0.5, 1.5)
        networks.append(built.network.eval())
    plain, other = networks
    torch.manual_seed(1)
    clips = torch.randn(1, 3, 8, 48, 48)
    if plain.state_dict().keys() == other.state_dict().keys():
        other.load_state_dict(plain.state_dict())
        with torch.no_grad():
            assert not torch.allclose(plain(clips), other(clips), rtol=1e-4, atol=1e-6)


# What is trained: frames and side of a small clip, then the names that "head" adds to training and
# the blocks' names, from the last one back.
TRAINED: dict[str, tuple[int, int, tuple[str, ...], tuple[str, ...]]] = {
    "resnet18_attention": (2, 32, ("pooling.", "head."), ("backbone.layer4.", "backbone.layer3.")),
    "efficientnet_b0_lstm": (2, 32, ("pooling.", "head."), ("backbone.8.", "backbone.7.")),
    "c3d": (4, 32, ("head.",), ("fc.", "features.4.")),
    "r3d_18": (4, 32, ("fc.",), ("layer4.", "layer3.")),
    "i3d_r50": (4, 32, ("head.",), ("layer4.", "layer3.")),
    "r2plus1d_r50": (4, 32, ("head.",), ("layer4.", "layer3.")),
    "r2plus1d_34": (4, 32, ("fc.",), ("layer4.", "layer3.")),
    "x3d_s": (4, 32, ("before_pooling.", "after_pooling.", "head."), ("layer4.", "layer3.")),
    "efficientnet_lite0_max": (2, 32, ("head.",), ("backbone.8.", "backbone.7.")),
    "s3d": (8, 32, ("head.",), ("features.15.", "features.14.")),
    "mvit_v1_b": (4, 32, ("norm.", "head."), ("blocks.15.", "blocks.14.")),
    "mvit_v2_s": (4, 32, ("norm.", "head."), ("blocks.15.", "blocks.14.")),
    "swin3d_t": (4, 32, ("norm.", "head."), ("features.6.", "features.5.")),
    "slowfast_r50": (4, 32, ("head.",), ("blocks.4.", "blocks.3.")),
    "timesformer_divided": (2, 32, ("norm.", "head."), ("blocks.11.", "blocks.10.")),
    "videomae_small": (
        2, 32, ("fc_norm.", "classifier."),
        ("videomae.encoder.layer.11.", "videomae.encoder.layer.10."),
    ),
    "two_stream_weighted": (2, 32, ("head.",), ("blocks.4.", "blocks.3.")),
}  # fmt: skip
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "trained"),
    [
        *((name, "last_1_block") for name in TRAINED),
        ("slowfast_r50", "last_2_blocks"),
        ("s3d", "head"),
        *((name, how) for name in ("resnet18_attention", "r3d_18") for how in ("head", "all")),
        *((name, "last_2_blocks") for name in ("efficientnet_b0_lstm", "r3d_18")),
    ],
)
def test_gradients_reach_what_is_trained_and_nothing_else(name: str, trained: str) -> None:
    frames, side, ends, (last, second) = TRAINED[name]
    prefixes = {
        "head": ends,
        "last_1_block": (*ends, last),
        "last_2_blocks": (*ends, last, second),
        "all": ("",),
    }[trained]
    built = build(name, num_classes=3, frames=frames, size_px=side)
    set_trained(built, trained)
    before = {k: v.clone() for k, v in built.network.named_buffers()}
    channels = 5 if name.startswith("two_stream") else 3
    clips = torch.rand(2, channels, frames, side, side)
    built.network.train()(clips).square().sum().backward()

    parameters = dict(built.network.named_parameters())
    reached = {k for k, parameter in parameters.items() if parameter.grad is not None}
    assert reached == {k for k in parameters if k.startswith(prefixes)}
    for prefix in prefixes:
        of_part = (parameters[k].grad for k in reached if k.startswith(prefix))
        assert any(gradient is not None and gradient.any() for gradient in of_part), prefix
    # Statistics of batch norms move in what is trained, and stay bit by bit elsewhere.
    moved = {k for k, v in built.network.named_buffers() if not torch.equal(v, before[k])}
    assert moved == {k for k in before if k.startswith(prefixes) and k.endswith(STATISTICS)}


@pytest.mark.parametrize(
    ("name", "blocks"), [("resnet18_avg", 5), ("s3d", 12), ("timesformer_space", 12)]
)
def test_more_blocks_than_there_are_cannot_be_trained(name: str, blocks: int) -> None:
    with torch.device("meta"):
        built = build(name, num_classes=2)
    assert len(built.blocks) == blocks
    for wanted in (0, blocks + 1, 99):
        with pytest.raises(UserError, match=f"last_{wanted}_blocks.*N from 1 to {blocks} in this"):
            set_trained(built, f"last_{wanted}_blocks")
    for wanted in ("Head", "last_blocks", "last_-1_blocks", "last_1_blocks_", "none", ""):
        with pytest.raises(UserError, match="all, head or last_N_blocks"):
            set_trained(built, wanted)
    assert all(parameter.requires_grad for parameter in built.network.parameters())


def test_all_blocks_may_be_trained() -> None:
    built = build("resnet18_avg", num_classes=2)
    set_trained(built, "last_5_blocks")
    assert all(parameter.requires_grad for parameter in built.network.parameters())


# Published weights


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """PyTorch's empty cache of a machine that reaches nothing."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("https_proxy", "http_proxy", "HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # Nobody listens on the discard port.
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def cached(hub: Path, weights: WeightsEnum) -> Path:
    return hub / weights.url.rpartition("/")[2]


def publish(
    hub: Path, weights: WeightsEnum, make: Callable[[], nn.Module], *, counted: bool = True
) -> dict[str, Tensor]:
    """Random weights in the cache in place of the published ones.

    Args:
        counted: False leaves out what PyTorch before 0.4.1 did not save.
    """
    with torch.device("meta"):
        shapes = make().state_dict()
    state = {
        name: torch.rand(value.shape) if value.is_floating_point() else torch.tensor(7)
        for name, value in shapes.items()
        if counted or not name.endswith("num_batches_tracked")
    }
    torch.save(state, cached(hub, weights))
    return state


@pytest.mark.parametrize("counted", [True, False])
def test_published_weights_of_an_image_network(hub: Path, counted: bool) -> None:
    theirs = publish(hub, tv.ResNet18_Weights.DEFAULT, tv.resnet18, counted=counted)
    ours = build_model("resnet18_avg", num_classes=3, weights="default").state_dict()
    for name, value in theirs.items():
        if not name.startswith("fc."):
            place = "backbone." if name.startswith("layer") else "backbone.stem."
            assert torch.equal(ours[place + name], value), name
    assert ours["head.weight"].shape == (3, 512)


@pytest.mark.slow
def test_published_weights_of_a_video_network_but_its_head(hub: Path) -> None:
    theirs = publish(hub, video.R3D_18_Weights.DEFAULT, video.r3d_18)
    ours = build_model("r3d_18", num_classes=400, weights="default").state_dict()
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        # 400 classes are not Kinetics' because they are as many.
        assert torch.equal(ours[name], value) == (not name.startswith("fc.")), name


@pytest.mark.slow
@pytest.mark.parametrize("name", names.PYTORCHVIDEO)
def test_published_weights_of_pytorchvideo(hub: Path, name: str) -> None:
    """A file as its model zoo holds them, with the classes that the recorded answers are of."""
    rows = [row for row in recorded.read() if row.model == name and "pytorchvideo" in row.package]
    file = published._PYTORCHVIDEO[name]
    torch.save({"model_state": made(rows[0].names)}, hub / file)
    built = build(name, num_classes=recorded.CLASSES, weights="default", keep_head=True)
    assert (built.origin, built.variant) == origin_and_variant(name, "default")
    assert built.origin == "pytorchvideo"
    assert f"published weights {file} of PyTorchVideo" in (built.loaded or "")
    with torch.no_grad():
        found = built.network.eval()(clip(rows[0].shape))
    assert difference(found, rows[0].expected) < 1e-5


def test_names_of_pytorchvideo_are_those_of_its_files() -> None:
    assert published._PYTORCHVIDEO.keys() == set(names.PYTORCHVIDEO)


@pytest.mark.slow
def test_published_image_weights_are_inflated(hub: Path) -> None:
    theirs = publish(hub, tv.ResNet50_Weights.DEFAULT, tv.resnet50)
    ours = build_model("i3d_r50", num_classes=3, weights="default").state_dict()
    for name, value in theirs.items():
        if name.startswith("fc."):
            continue
        inflated = ours[name if name.startswith("layer") else f"stem.{name}"]
        if value.ndim < 4:
            assert torch.equal(inflated, value), name
            continue
        frames = inflated.shape[2]
        for frame in range(frames):
            torch.testing.assert_close(inflated[:, :, frame] * frames, value)
    assert ours["stem.conv1.weight"].shape[2] == 5


@pytest.mark.slow
def test_published_weights_of_both_streams(hub: Path) -> None:
    theirs = publish(hub, tv.ResNet18_Weights.DEFAULT, tv.resnet18, counted=False)
    network = build_model("two_stream_late", num_classes=3, weights="default")
    ours = network.state_dict()
    for stream in ("rgb", "flow"):
        assert torch.equal(ours[f"blocks.0.{stream}.1.weight"], theirs["bn1.weight"])
        for layer in (1, 2, 3, 4):
            for name in ("0.conv1.weight", "1.bn2.running_var"):
                found = ours[f"blocks.{layer}.{stream}.{name}"]
                assert torch.equal(found, theirs[f"layer{layer}.{name}"])
    assert torch.equal(ours["blocks.0.rgb.0.weight"], theirs["conv1.weight"])
    grey = theirs["conv1.weight"].mean(dim=1)
    for channel in range(20):
        torch.testing.assert_close(ours["blocks.0.flow.0.weight"][:, channel], grey)


@pytest.mark.slow
def test_published_weights_of_an_image_transformer(hub: Path) -> None:
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in tv.vit_b_16().state_dict().items()}
    # A number for each tensor, stored once: 86 million random ones would take seconds.
    theirs = {
        name: torch.tensor(float(k)).expand(shape) for k, (name, shape) in enumerate(shapes.items())
    }
    torch.save(theirs, cached(hub, tv.ViT_B_16_Weights.DEFAULT))
    ours = build_model(
        "timesformer_divided", num_classes=3, weights="default", frames=2, size_px=32
    ).state_dict()
    pairs = {
        "class_token": "class_token",
        "patch.weight": "conv_proj.weight",
        "space_position": "encoder.pos_embedding",
        "norm.bias": "encoder.ln.bias",
    }
    for block in (0, 11):
        layer = f"encoder.layers.encoder_layer_{block}."
        for our, their in (
            ("norm_attention.weight", "ln_1.weight"),
            ("attention.query_key_value.weight", "self_attention.in_proj_weight"),
            ("attention.project.bias", "self_attention.out_proj.bias"),
            ("norm_perceptron.bias", "ln_2.bias"),
            ("perceptron.0.weight", "mlp.0.weight"),
            ("perceptron.2.weight", "mlp.3.weight"),
        ):
            pairs[f"blocks.{block}.{our}"] = layer + their
    for our, their in pairs.items():
        # Positions are interpolated from 14x14 patches to 2x2; a constant stays what it is.
        expected = theirs[their].flatten()[0].expand(ours[our].shape)
        torch.testing.assert_close(ours[our], expected, msg=our)
    assert ours["head.weight"].std() > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("resnet18_avg", "resnet18-"),
        ("r3d_18", "r3d_18-"),
        ("i3d_r50", "resnet50-"),
        ("two_stream_late", "resnet18-"),
        ("timesformer_space", "vit_b_16-"),
    ],
)
def test_weights_that_cannot_be_fetched(hub: Path, name: str, file: str) -> None:
    with pytest.raises(UserError) as caught:
        build_model(name, num_classes=3, weights="default")
    message = str(caught.value)
    assert "\n" not in message
    assert f"published weights {file}" in message
    assert f"not in {hub} and can't be fetched" in message
    assert "put the file there, or start fresh with --weights none" in message
    assert list(hub.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["c3d", "r2plus1d_34"])
def test_what_was_never_published(hub: Path, name: str) -> None:
    with pytest.raises(UserError, match="there are no published weights: start fresh") as caught:
        build_model(name, num_classes=3, weights="default")
    assert "\n" not in str(caught.value)


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """What a payload touches; it does, where a pickle is trusted."""
    path = tmp_path / "marker"
    pickle.loads(pickle.dumps(Payload(path)))
    assert path.exists()
    path.unlink()
    return path


@pytest.mark.parametrize("new", [True, False])
def test_a_pickle_in_the_cache_is_not_run(hub: Path, marker: Path, new: bool) -> None:
    file = cached(hub, tv.ResNet18_Weights.DEFAULT)
    torch.save({"conv1.weight": Payload(marker)}, file, _use_new_zipfile_serialization=new)
    with pytest.raises(UserError, match=r"holds no weights.*remove it, or start fresh") as caught:
        build_model("resnet18_avg", num_classes=3, weights="default")
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK\x03\x04 cut short"])
def test_rubbish_in_the_cache(hub: Path, content: bytes) -> None:
    cached(hub, tv.ResNet18_Weights.DEFAULT).write_bytes(content)
    with pytest.raises(UserError, match="holds no weights"):
        build_model("two_stream_late", num_classes=3, weights="default")


# Weights of a file


def saved(built: Architecture | nn.Module, uri: str, **changed: Tensor) -> str:
    network = built.network if isinstance(built, Architecture) else built
    state = {**network.state_dict(), **changed}
    storage.write_bytes(uri, safetensors.torch.save(state))
    return uri


@pytest.mark.slow
def test_a_file_of_the_whole_network(place: str) -> None:
    source = build_model("resnet18_avg", num_classes=3).eval()
    file = saved(source, storage.join(place, "weights.safetensors"))
    torch.manual_seed(1)
    network = build_model("resnet18_avg", num_classes=3, weights=file).eval()
    clips = torch.rand(1, 3, 2, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(clips), source(clips))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "theirs", "ours", "head"),
    [
        ("resnet18_avg", {"num_classes": 5}, {}, "head."),
        ("r3d_18", {"num_classes": 5}, {}, "fc."),
        ("resnet18_lstm", {"head": NORMALISED}, {}, "head."),
        ("r3d_18", {}, {"head": NORMALISED}, "fc."),
        ("two_stream_weighted", {"num_classes": 5}, {}, "head."),
    ],
)
def test_a_file_with_another_head(
    tmp_path: Path, name: str, theirs: dict[str, Any], ours: dict[str, Any], head: str
) -> None:
    source = build_model(name, **{"num_classes": 3, **theirs})
    file = saved(source, str(tmp_path / "w.safetensors"))
    torch.manual_seed(1)
    network = build_model(name, **{"num_classes": 3, **ours}, weights=file)
    torch.manual_seed(1)
    fresh = build_model(name, **{"num_classes": 3, **ours}).state_dict()
    for key, value in network.state_dict().items():
        expected = fresh[key] if key.startswith(head) else source.state_dict()[key]
        assert torch.equal(value, expected), key


@pytest.mark.slow
@pytest.mark.parametrize("name", ["r3d_18", "s3d", "mvit_v1_b", "mvit_v2_s", "swin3d_t"])
def test_a_file_of_torchvisions_own_network(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    theirs = getattr(video, name)(num_classes=5).eval()
    file = saved(theirs, str(tmp_path / "theirs.safetensors"))
    same = build(name, num_classes=5, weights=file, frames=16, size_px=224)
    count = sum(not key.endswith("_index") for key in theirs.state_dict())
    said = "(torchvision's names), all there are, the head's 2 among them"
    assert same.loaded == f"{file}: {count} tensors taken {said}"
    assert (same.origin, same.variant) == ("torchvision", None)
    with torch.no_grad():
        clip = torch.rand(1, 3, 16, 224, 224)
        ours = same.network.eval()(clip)
        torch.testing.assert_close(ours, theirs(clip), rtol=1e-4, atol=1e-5)

    other = build(name, num_classes=3, weights=file, frames=16, size_px=224)
    assert other.loaded is not None
    assert re.fullmatch(
        rf"{re.escape(file)}: {count - 2} tensors taken \(torchvision's names\), left: "
        r"\S+\.(?:weight|bias), \S+\.(?:weight|bias) \(5 classes, this model has 3\), so the head "
        r"is new",
        other.loaded,
    )
    heads = {id(parameter) for parameter in other.head.parameters()}
    for (key, value), expected in zip(
        other.network.named_parameters(), same.network.parameters(), strict=True
    ):
        assert (id(value) in heads) != torch.equal(value, expected), key


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tables"),
    [
        ("mvit_v1_b", {"pos_encoding.spatial_pos": (64, 96), "pos_encoding.temporal_pos": (4, 96)}),
        ("timesformer_divided", {"space_position": (1, 5, 768), "time_position": (1, 8, 768)}),
    ],
)
def test_a_file_for_clips_of_another_size(
    tmp_path: Path, name: str, tables: dict[str, tuple[int, ...]]
) -> None:
    source = build(name, num_classes=3, frames=4, size_px=64)
    for table in tables:  # A constant is one at any size.
        with torch.no_grad():
            source.network.get_parameter(table).fill_(0.25)
    file = saved(source, str(tmp_path / "w.safetensors"))
    network = build_model(name, num_classes=3, frames=8, size_px=32, weights=file)
    for table, shape in tables.items():
        found = network.get_parameter(table)
        assert found.shape == shape
        torch.testing.assert_close(found, torch.full(shape, 0.25))
    assert network.eval()(torch.rand(1, 3, 8, 32, 32)).shape == (1, 3)


@pytest.mark.parametrize("damage", ["header", "shape", "place", "kind", "empty", "nested", "list"])
def test_a_damaged_file_is_told_in_a_line(tmp_path: Path, damage: str) -> None:
    entry: Any = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    header: Any = {"head.bias": entry}
    match damage:
        case "shape":
            entry["shape"] = [1 << 40]
        case "place":
            entry["data_offsets"] = [8, 16]
        case "kind":
            entry["dtype"] = "pickle"
        case "list":
            header = [1]
    text = b"[" * 100_000 if damage == "nested" else json.dumps(header).encode()
    claimed = 1 << 60 if damage == "header" else len(text)
    content = struct.pack("<Q", claimed) + text + bytes(8)
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"" if damage == "empty" else content)
    with pytest.raises(UserError, match="is no safetensors file") as caught:
        build_model("resnet18_avg", num_classes=2, weights=str(file))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_files_that_do_not_fit_name_the_tensors(tmp_path: Path) -> None:
    source = build_model("resnet18_avg", num_classes=3)
    key = "backbone.layer2.0.conv1.weight"
    file = saved(source, str(tmp_path / "a.safetensors"), **{key: torch.zeros(1, 2, 3, 3)})
    with pytest.raises(UserError) as caught:
        build_model("resnet18_avg", num_classes=3, weights=file)
    said = f"{file} does not fit the model: {key} is (1, 2, 3, 3) and must be (128, 64, 3, 3)"
    assert str(caught.value) == said

    file = saved(source, str(tmp_path / "b.safetensors"), extra=torch.zeros(1))
    with pytest.raises(UserError, match=r"extra is not in this model$"):
        build_model("resnet18_avg", num_classes=3, weights=file)

    nearest = r"does not fit r3d_18; the nearest is resnet18_avg \(vidray's names\): extra is not"
    with pytest.raises(UserError, match=nearest) as caught:
        build_model("r3d_18", num_classes=3, weights=file)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_file_that_is_not_there(place: str) -> None:
    file = storage.join(place, "none.safetensors")
    with pytest.raises(UserError, match="is not there: give a file of weights, a model folder,"):
        build_model("resnet18_avg", num_classes=3, weights=file)


@pytest.mark.slow
def test_none_is_fresh() -> None:
    states = []
    for weights in (None, "none"):
        torch.manual_seed(3)
        states.append(build_model("r3d_18", num_classes=2, weights=weights).state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    # Fresh: as wide as He et al. want it, not zeros.
    width = states[0]["layer1.0.conv1.0.weight"].std().item()
    assert width == pytest.approx(math.sqrt(2 / (64 * 27)), rel=0.05)


def test_a_file_is_recognised_once_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training asks three times: for colours, for the variant, for what contradicts them."""
    file = tmp_path / "w.safetensors"
    safetensors.torch.save_file(build("resnet18_avg", num_classes=2).network.state_dict(), file)
    read: list[str] = []
    whole = files.read
    monkeypatch.setattr(files, "read", lambda uri: (read.append(uri), whole(uri))[1])
    assert {origin_and_variant("resnet18_avg", str(file)) for _ in range(3)} == {("vidray", None)}
    assert len(read) == 1
    safetensors.torch.save_file(tv.resnet18().state_dict(), file)
    assert origin_and_variant("resnet18_avg", str(file)) == ("torchvision", None)
    assert len(read) == 2
