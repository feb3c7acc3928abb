"""Grad-CAM, against arithmetic by hand, CAM, and networks made to look at one place."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.video import mvit, swin_transformer

from vidray.errors import ModelError
from vidray.models.grad_cam import grad_cam
from vidray.models.networks.build import build
from vidray.models.networks.frame_pooling import FramePooling
from vidray.models.networks.slowfast import SlowFast
from vidray.models.networks.timesformer import TimeSformer
from vidray.models.networks.torchvision_video import resnet_video
from vidray.models.networks.two_stream import TwoStream, flow_indices


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


class Tiny(nn.Module):
    """A convolution, a pooling that is not to be looked at, and a head that is not linear."""

    def __init__(self, channels: int = 4, classes: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv3d(3, channels, 3, stride=(1, 4, 4), padding=1),
            nn.ReLU(inplace=True),
            nn.AvgPool3d((1, 2, 2)),
        )
        self.head = nn.Linear(channels, classes)

    def forward(self, clips: Tensor) -> Tensor:
        pooled = self.features(clips).mean(dim=(2, 3, 4))
        logits: Tensor = self.head(pooled**2)
        return logits


def normalised(maps: Tensor) -> NDArray[np.float32]:
    """Maps ``(N, T, H, W)`` without what is negative, the highest of each clip 1."""
    kept = maps.relu()
    return (kept / kept.amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-30)).numpy()


def grown(maps: Tensor, shape: tuple[int, ...]) -> Tensor:
    return functional.interpolate(maps[:, None], shape, mode="trilinear").squeeze(1)


def test_it_is_what_the_paper_says_by_hand() -> None:
    network = Tiny().eval()
    clips = torch.randn(2, 3, 4, 32, 32)
    classes = np.array([2, 0])
    with torch.no_grad():
        maps = network.features[:2](clips)  # (2, 4, 4, 8, 8)
        pooled = maps.mean(dim=(2, 3, 4))  # of 2 x 2 means: the same
        # d logit / d place = 2 pooled w / places, the same in each place: its mean is itself.
        weights = 2 * pooled * network.head.weight[classes] / maps[0, 0].numel()
        by_hand = torch.einsum("nk,nkthw->nthw", weights, maps)
    found = grad_cam(network, clips, classes)
    assert found is not None
    assert found.places == (4, 8, 8)
    expected = normalised(grown(by_hand, (4, 32, 32)))
    assert expected.max() == 1
    np.testing.assert_allclose(found.maps, expected, atol=1e-5)


def randomised(network: nn.Module) -> nn.Module:
    """Norms that begin as zeros would hide what is behind them."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
                module.weight.uniform_(0.5, 1.5)
    return network.eval()


def activations(network: nn.Module, module: nn.Module, clips: Tensor) -> Tensor:
    seen: list[Tensor] = []
    handle = module.register_forward_hook(lambda _m, _i, out: seen.append(out))
    with torch.no_grad():
        network(clips)
    handle.remove()
    return seen[0]


def swin() -> nn.Module:
    return swin_transformer.SwinTransformer3d(
        patch_size=[2, 4, 4], embed_dim=8, depths=[1, 1], num_heads=[2, 2],
        window_size=[2, 4, 4], num_classes=3,
    )  # fmt: skip


@pytest.mark.parametrize(
    "kind", [pytest.param("mc3_18", marks=pytest.mark.slow), "resnet18_avg", "swin"]
)
def test_behind_an_average_and_a_linear_head_it_is_cam(kind: str) -> None:
    """The theorem of the paper: CAM (Zhou et al. 2016) up to a factor."""
    clips = torch.randn(2, 3, 4, 64, 64)
    network: Any
    if kind == "swin":
        network = swin().eval()
        maps = activations(network, network.norm, clips).movedim(-1, 1)
        weight = network.head.weight
    elif kind == "mc3_18":
        network = randomised(resnet_video("mc3_18", 3).network)
        maps, weight = activations(network, network.layer4, clips), network.fc.weight
    else:
        network = randomised(FramePooling(3))
        of_frames = activations(network, network.backbone, clips)  # (N * T, K, h, w)
        maps = of_frames.unflatten(0, (2, 4)).transpose(1, 2)
        weight = network.head.weight
    classes = np.array([0, 2])
    cam = torch.einsum("nk,nkthw->nthw", weight.detach()[classes], maps)
    found = grad_cam(network, clips, classes)
    assert found is not None
    assert found.places == tuple(maps.shape[2:])
    np.testing.assert_allclose(found.maps, normalised(grown(cam, (4, 64, 64))), atol=1e-4)
    assert found.maps.std() > 0.05


def test_of_slowfast_it_is_the_cam_of_both_pathways_together() -> None:
    network: Any = randomised(SlowFast(3, width=16, depths=(1, 1, 1, 1)))
    clips, classes = torch.randn(2, 3, 8, 64, 64), np.array([1, 2])
    last = network.blocks[-1]
    slow, fast = (activations(network, way, clips) for way in (last.slow, last.fast))
    weight = network.head.weight.detach()[classes].split([slow.shape[1], fast.shape[1]], dim=1)
    cams = [
        grown(torch.einsum("nk,nkthw->nthw", of, maps), (8, 64, 64))
        for of, maps in zip(weight, (slow, fast), strict=True)
    ]
    found = grad_cam(network, clips, classes)
    assert found is not None
    np.testing.assert_allclose(found.maps, normalised(cams[0] + cams[1]), atol=1e-4)
    assert np.abs(found.maps - normalised(cams[0])).max() > 0.01  # the fast one counts, too
    # The mean of a map is what its pathway adds to the logit.
    with torch.no_grad():
        total = sum(of.mean(dim=(1, 2, 3)) for of in cams)
        logits = network(clips).gather(1, torch.from_numpy(classes)[:, None])[:, 0]
        np.testing.assert_allclose(
            total, logits - network.head.bias[classes], atol=0.05 * float(logits.abs().max())
        )


@pytest.mark.slow
def test_the_streams_of_a_two_stream_network_lie_on_the_frames_that_they_see() -> None:
    network: Any = randomised(TwoStream(2, fusion="early"))
    clips = torch.randn(1, 5, 16, 64, 64)
    middle, fields = 7, flow_indices(16).tolist()
    both = grad_cam(network, clips, np.array([0]))
    assert both is not None
    unseen = [k for k in range(16) if k not in {middle, *fields}]
    assert len(unseen) > 3
    assert not both.maps[0, unseen].any()
    assert both.maps[0, fields].any(axis=(1, 2)).all()
    with torch.no_grad():
        network.head.weight[:, 512:] = 0  # flow says nothing
        network.head.weight[0, :512].abs_()
    colours = grad_cam(network, clips, np.array([0]))
    assert colours is not None
    assert np.flatnonzero(colours.maps[0].any(axis=(1, 2))).tolist() == [middle]


class BrightSquare(nn.Module):
    """Says class 0 where some 8 x 8 pixels are bright, class 1 where none are."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Conv3d(3, 1, (1, 8, 8), stride=(1, 8, 8))
        nn.init.constant_(self.look.weight, 1 / (3 * 64))
        nn.init.constant_(self.look.bias, -0.5)
        self.relu = nn.ReLU()
        self.head = nn.Linear(1, 2)
        self.head.weight.data = torch.tensor([[1.0], [-1.0]])

    def forward(self, clips: Tensor) -> Tensor:
        logits: Tensor = self.head(self.relu(self.look(clips)).mean(dim=(2, 3, 4)))
        return logits


def test_the_map_of_a_network_that_looks_for_a_bright_square_is_on_the_square() -> None:
    clips = torch.zeros(2, 3, 4, 32, 32)
    clips[0, :, 1, :8, 24:] = 1  # top right, in the second frame
    clips[1, :, 3, 24:, :8] = 1  # bottom left, in the last
    found = grad_cam(BrightSquare(), clips, np.array([0, 0]))
    assert found is not None
    for maps, frame, rows, columns in (
        (found.maps[0], 1, slice(0, 12), slice(20, 32)),
        (found.maps[1], 3, slice(20, 32), slice(0, 12)),
    ):
        assert maps[frame, rows, columns].sum() / maps.sum() > 0.99
        assert np.unravel_index(maps.argmax(), maps.shape)[0] == frame
    against = grad_cam(BrightSquare(), clips, np.array([1, 1]))
    assert against is not None
    assert not against.maps.any()  # the square speaks against class 1, and nothing for it


def test_the_network_is_left_as_it_was() -> None:
    network = FramePooling(3, pooling="lstm").train()
    network.backbone[0].eval()
    for parameter in network.backbone.parameters():
        parameter.requires_grad_(False)
    modes = [module.training for module in network.modules()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    clips = torch.randn(1, 3, 2, 64, 64)
    assert grad_cam(network, clips, np.array([1])) is not None
    assert [module.training for module in network.modules()] == modes
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(parameter.requires_grad for parameter in network.backbone.parameters())
    assert not clips.requires_grad
    assert clips.grad is None
    assert not any(module._forward_hooks for module in network.modules())
    assert torch.is_grad_enabled()
    with torch.no_grad():
        assert grad_cam(network, clips, np.array([1])) is not None
        assert not torch.is_grad_enabled()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_the_answers_are_those_of_evaluation_mode() -> None:
    """Batch norms of a network in training would mix the clips of a batch."""
    network = FramePooling(3).train()
    clips, classes = torch.randn(2, 3, 2, 64, 64), np.array([0, 1])
    both = grad_cam(network, clips, classes)
    alone = grad_cam(network, clips[:1], classes[:1])
    assert both is not None
    assert alone is not None
    np.testing.assert_allclose(both.maps[:1], alone.maps, atol=1e-5)


def tiny_mvit() -> nn.Module:
    setting = mvit.MSBlockConfig(
        num_heads=1, input_channels=8, output_channels=8, kernel_q=[3, 3, 3], kernel_kv=[3, 3, 3],
        stride_q=[1, 1, 1], stride_kv=[1, 2, 2],
    )  # fmt: skip
    return mvit.MViT(
        (32, 32), 4, [setting, setting], residual_pool=False, residual_with_cls_embed=True,
        rel_pos_embed=False, proj_after_attn=False, num_classes=2,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["timesformer", "mvit"])
def test_transformers_have_none(kind: str) -> None:
    network = (
        tiny_mvit()
        if kind == "mvit"
        else TimeSformer(2, frames=4, size_px=32, width=16, depth=1, heads=2)
    )
    clips = torch.randn(1, 3, 4, 32, 32)
    assert network.eval()(clips).shape == (1, 2)
    assert grad_cam(network, clips, np.array([0])) is None


@pytest.mark.parametrize(
    ("size_px", "least_side", "side"),
    [(128, 2, 4), (64, 2, 2), (64, 4, 4), (32, 2, 2), (64, 99, 2)],
)
def test_small_clips_are_seen_by_an_earlier_stage(size_px: int, least_side: int, side: int) -> None:
    """A ResNet's stages halve: 32 px are one place in the last one, which is no map."""
    network = FramePooling(2)
    clips = torch.randn(1, 3, 2, size_px, size_px)
    found = grad_cam(network, clips, np.array([0]), least_side=least_side)
    assert found is not None
    assert found.places == (2, side, side)


@pytest.mark.slow
def test_an_earlier_stage_is_a_whole_one_not_a_part_of_a_block() -> None:
    """The first convolution of a ResNet-50's last stage has more places, beside a shortcut."""
    network: Any = randomised(build("c2d_r50", num_classes=2).network)
    clips = torch.randn(1, 3, 2, 64, 64)
    maps = activations(network, network.layer3, clips).requires_grad_()
    logit = network.head(network.layer4(maps).mean(dim=(2, 3, 4)))[0, 0]
    (gradient,) = torch.autograd.grad(logit, maps)
    by_hand = torch.einsum("nk,nkthw->nthw", gradient.mean(dim=(2, 3, 4)), maps.detach())
    found = grad_cam(network, clips, np.array([0]), least_side=4)
    assert found is not None
    np.testing.assert_allclose(found.maps, normalised(grown(by_hand, (2, 64, 64))), atol=1e-4)


def test_a_class_is_wanted_for_each_clip() -> None:
    with pytest.raises(ValueError, match="1 classes of 2 clips"):
        grad_cam(Tiny(), torch.zeros(2, 3, 4, 32, 32), np.array([0]))


def test_weights_too_large_to_compute_with_are_an_error() -> None:
    network = Tiny()
    with torch.no_grad():
        network.head.weight.fill_(3e38)
    with pytest.raises(ModelError, match="no numbers"):
        grad_cam(network, torch.full((1, 3, 4, 32, 32), 1e6), np.array([0]))
