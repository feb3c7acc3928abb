import copy
import functools
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import video

from vidray.models.networks.architecture import Architecture
from vidray.models.networks.c3d import C3D, c3d
from vidray.models.networks.checkpointing import checkpoint_blocks
from vidray.models.networks.frame_pooling import (
    POOLINGS,
    AttentionPooling,
    FramePooling,
    frame_pooling,
)
from vidray.models.networks.heads import HEAD_KINDS, make_head
from vidray.models.networks.r2plus1d import r2plus1d_34
from vidray.models.networks.resnet_clips import PLANS, resnet_clips
from vidray.models.networks.torchvision_video import torchvision_video
from vidray.models.networks.x3d import x3d

CLASSES = 3
# Every architecture: how to build it, its smallest clip (C, T, H, W), the embedding, its blocks.
NETWORKS: dict[str, tuple[Callable[..., Architecture], tuple[int, ...], int, int]] = {
    **{
        f"{backbone}_{pooling}": (
            lambda *a, b=backbone, p=pooling, **k: frame_pooling(*a, backbone=b, pooling=p, **k),
            (3, 2, 32, 32),
            length,
            count,
        )
        for backbone, length, count in (
            ("resnet18", 512, 5),
            ("resnet50", 2048, 5),
            ("efficientnet_b0", 1280, 9),
            ("efficientnet_lite0", 1280, 9),
        )
        for pooling in POOLINGS
    },
    "c3d": (c3d, (3, 4, 32, 32), 4096, 6),
    **{
        name: (lambda *a, n=name, **k: resnet_clips(n, *a, **k), (3, 4, 32, 32), 2048, 5)
        for name in PLANS
    },
    "r2plus1d_34": (r2plus1d_34, (3, 4, 32, 32), 512, 5),
    **dict.fromkeys(("x3d_s", "x3d_m"), (x3d, (3, 4, 32, 32), 2048, 5)),
    **{
        name: (lambda *a, n=name, **k: torchvision_video(n, *a, **k), clip, length, count)
        for name, clip, length, count in (
            ("r3d_18", (3, 4, 32, 32), 512, 5),
            ("mc3_18", (3, 4, 32, 32), 512, 5),
            ("r2plus1d_18", (3, 4, 32, 32), 512, 5),
            ("s3d", (3, 8, 32, 32), 1024, 12),
            ("swin3d_t", (3, 4, 32, 32), 768, 8),
        )
    },
    **{
        name: (
            lambda *a, n=name, **k: torchvision_video(n, *a, frames=4, size_px=32, **k),
            (3, 4, 32, 32),
            768,
            17,
        )
        for name in ("mvit_v1_b", "mvit_v2_s")
    },
}
QUICK = {"resnet18_avg", "resnet18_lstm", "efficientnet_b0_attention", "r3d_18", "s3d", "x3d_s"}
EACH = pytest.mark.parametrize("name", NETWORKS)
EACH_TRAINED = pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS],
)


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def on_meta(build: Callable[..., Architecture], *args: object, **options: object) -> Architecture:
    with torch.device("meta"):
        return build(*args, **options)


def num_parameters(architecture: Architecture) -> int:
    return sum(parameter.numel() for parameter in architecture.network.parameters())


@pytest.mark.parametrize(
    ("name", "head", "classes", "expected"),
    [
        ("resnet18_avg", "linear", 3, 11_178_051),
        ("efficientnet_b0_avg", "layernorm_dropout_linear", 3, 4_013_951),
        ("efficientnet_b0_max", "layernorm_dropout_linear", 3, 4_013_951),
        ("efficientnet_b0_attention", "layernorm_dropout_linear", 3, 4_834_432),
        ("c3d", "linear", 101, 78_409_573),
        ("r3d_18", "linear", 3, 33_167_811),
        ("r3d_18", "layernorm_dropout_linear", 3, 33_168_835),
    ],
)
def test_parameters_are_those_of_the_source(name, head, classes, expected):
    assert num_parameters(on_meta(NETWORKS[name][0], classes, head=head)) == expected


@pytest.mark.parametrize(
    "name", ["r3d_18", "mc3_18", "r2plus1d_18", "s3d", "mvit_v1_b", "mvit_v2_s", "swin3d_t"]
)
def test_parameters_are_torchvisions_own(name):
    weights = video.__dict__[
        {
            "r3d_18": "R3D_18_Weights",
            "mc3_18": "MC3_18_Weights",
            "r2plus1d_18": "R2Plus1D_18_Weights",
            "s3d": "S3D_Weights",
            "mvit_v1_b": "MViT_V1_B_Weights",
            "mvit_v2_s": "MViT_V2_S_Weights",
            "swin3d_t": "Swin3D_T_Weights",
        }[name]
    ].DEFAULT
    build = NETWORKS[name][0]
    if name == "mvit_v1_b":  # Its positions are as many as places.
        build = functools.partial(torchvision_video, name)
    assert num_parameters(on_meta(build, 400)) == weights.meta["num_params"]


@pytest.mark.parametrize(
    ("name", "millions"),
    # PyTorchVideo's model zoo; VMZ's for the one of 34 layers.
    [
        ("i3d_r50", 28.04),
        ("slow_r50", 32.45),
        ("c2d_r50", 24.33),
        ("r2plus1d_r50", 28.11),
        ("x3d_s", 3.79),
        ("x3d_m", 3.79),
        ("r2plus1d_34", 63.7),
        # TensorFlow's: 4.7 M with 1000 classes, of which 1.281 M are the classifier's.
        ("efficientnet_lite0_avg", 4.65 - 1.281 + 0.5124),
    ],
)
def test_parameters_are_those_published(name, millions):
    found = num_parameters(on_meta(NETWORKS[name][0], 400))
    assert found / 1e6 == pytest.approx(millions, rel=0.002)


@pytest.mark.slow
@EACH
def test_the_head_that_normalises_has_two_numbers_more_for_each_feature(name):
    build, _, length, _ = NETWORKS[name]
    plain, normalising = (on_meta(build, CLASSES, head=kind) for kind in HEAD_KINDS)
    assert num_parameters(normalising) - num_parameters(plain) == 2 * length


@pytest.mark.slow
@EACH
def test_clips_become_logits(name):
    build, clip, length, count = NETWORKS[name]
    architecture = on_meta(build, CLASSES)
    clips = torch.empty(2, *clip, device="meta")
    assert architecture.network(clips).shape == (2, CLASSES)
    assert architecture.embed(clips).shape == (2, length)
    assert len(architecture.blocks) == count


@EACH
def test_blocks_and_head_are_parts_in_order_that_do_not_overlap(name):
    architecture = on_meta(NETWORKS[name][0], CLASSES)
    place = {id(p): index for index, p in enumerate(architecture.network.parameters())}
    parts = [*architecture.blocks, architecture.head]
    places = [[place[id(p)] for p in part.parameters()] for part in parts]
    assert all(places)
    flat = [index for part in places for index in part]
    assert flat == sorted(set(flat))


def test_embedding_through_the_head_is_the_logits():
    architecture = frame_pooling(CLASSES)
    architecture.network.eval()
    clips = torch.randn(2, 3, 2, 32, 32)
    torch.testing.assert_close(
        architecture.head(architecture.embed(clips)), architecture.network(clips)
    )
    assert not architecture.head._forward_pre_hooks


def test_an_unknown_name_is_told_the_known_ones():
    with pytest.raises(ValueError, match="linear, layernorm_dropout_linear"):
        make_head("mlp", 4, 2, 0.5)
    with pytest.raises(ValueError, match="avg, max, attention, lstm"):
        FramePooling(3, pooling="mean")
    with pytest.raises(ValueError, match="resnet18, resnet50, efficientnet_b0, efficientnet_lite0"):
        FramePooling(3, backbone="vgg")
    with pytest.raises(ValueError, match=r"r3d_18.*swin3d_t"):
        torchvision_video("r3d_19", 3)


def test_attention_weights_sum_to_one_and_say_what_counts():
    pooling = AttentionPooling(8)
    features = torch.randn(2, 5, 8)
    weights = pooling.weights(features)
    assert weights.shape == (2, 5)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2))
    expected = (weights[..., None] * features).sum(dim=1)
    torch.testing.assert_close(pooling(features), expected)


@pytest.mark.parametrize(("pooling", "ordered"), [*((p, p == "lstm") for p in POOLINGS)])
def test_only_the_lstm_knows_the_order_of_frames(pooling, ordered):
    network = FramePooling(CLASSES, pooling=pooling).eval()
    clips = torch.randn(1, 3, 4, 32, 32)
    with torch.no_grad():
        logits, shuffled = network(clips), network(clips[:, :, [2, 0, 3, 1]])
    assert torch.allclose(logits, shuffled, atol=1e-5) is not ordered


def test_frame_pooling_sees_each_frame_of_its_own_clip():
    network = FramePooling(CLASSES).eval()
    clips = torch.randn(2, 3, 3, 32, 32)
    with torch.no_grad():
        features = [
            torch.stack([network.backbone(frame[None]).mean(dim=(0, 2, 3)) for frame in frames])
            for frames in clips.transpose(1, 2)
        ]
        expected = network.head(torch.stack(features).mean(dim=1))
        torch.testing.assert_close(network(clips), expected, atol=1e-5, rtol=1e-5)
        last = clips.contiguous(memory_format=torch.channels_last_3d)
        torch.testing.assert_close(network(last), expected, atol=1e-5, rtol=1e-5)


def test_c3d_resizes_nothing_at_its_own_size():
    with torch.device("meta"):
        network = C3D(CLASSES)
        clips = torch.empty(1, 3, 16, 112, 112)
        assert network.features(clips).shape == (1, 512, 1, 4, 4)
        exact = torch.randn(1, 512, 1, 4, 4, device="cpu")
        assert torch.equal(network.resize(exact), exact)
        network.resize = None  # Nor is it asked: ONNX has no such layer.
        assert network(clips).shape == (1, CLASSES)


@pytest.mark.parametrize("clip", [(1, 16, 16), (8, 112, 112), (17, 60, 81), (32, 128, 171)])
def test_c3d_runs_on_other_sizes(clip):
    with torch.device("meta"):
        assert C3D(CLASSES)(torch.empty(1, 3, *clip)).shape == (1, CLASSES)


def _randomise_statistics(network: nn.Module) -> None:
    """Batch norms that are not the identity, so that a statistic in the wrong place shows."""
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.uniform_(-0.1, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.8, 1.2)


@pytest.mark.slow
def test_s3d_gives_torchvisions_logits():
    original = video.s3d(weights=None).eval()
    _randomise_statistics(original)
    architecture = torchvision_video("s3d", 400)
    architecture.network.features.load_state_dict(original.features.state_dict())
    last = original.classifier[1]
    architecture.head.load_state_dict({"weight": last.weight.flatten(1), "bias": last.bias})
    clips = torch.randn(1, 3, 24, 224, 224)
    with torch.no_grad():
        expected = original(clips)
        torch.testing.assert_close(
            architecture.network.eval()(clips), expected, atol=1e-4, rtol=1e-3
        )


@pytest.mark.slow
def test_a_fresh_s3d_learns_the_statistics_it_is_judged_by():
    """At torchvision's momentum of 0.001 a training of minutes is judged at chance."""
    network = torchvision_video("s3d", CLASSES).network
    clips = 3 + torch.randn(2, 3, 8, 32, 32)
    with torch.no_grad():
        for _ in range(40):
            network(clips)
    norm = network.features[0][0][1]
    seen = network.features[0][0][0](clips).mean(dim=(0, 2, 3, 4))
    torch.testing.assert_close(norm.running_mean, seen, atol=1e-3, rtol=0.05)


def _step(network: nn.Module, clips: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """A training step's loss, and afterwards all gradients and buffers."""
    torch.manual_seed(1)  # the same dropout
    network.train()
    loss = nn.functional.cross_entropy(network(clips), torch.tensor([0, 2]))
    loss.backward()
    after = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    after |= {f"buffer {name}": buffer for name, buffer in network.named_buffers()}
    return loss.detach(), after


@pytest.mark.slow
@EACH_TRAINED
def test_checkpointing_changes_nothing_but_memory(name):
    build, clip, _, _ = NETWORKS[name]
    plain = build(CLASSES, head="layernorm_dropout_linear")
    checkpointed = copy.deepcopy(plain)
    checkpoint_blocks(checkpointed.network, checkpointed.blocks)
    assert list(checkpointed.network.state_dict()) == list(plain.network.state_dict())
    clips = torch.randn(2, *clip)
    loss, after = _step(plain.network, clips)
    other_loss, other_after = _step(checkpointed.network, clips)
    assert torch.equal(loss, other_loss)
    assert other_after.keys() == after.keys()
    for tensor_name, tensor in after.items():
        torch.testing.assert_close(
            other_after[tensor_name],
            tensor,
            atol=1e-6,
            rtol=1e-4,
            msg=lambda text, n=tensor_name: f"{n}: {text}",
        )


def _passes_through(module: nn.Module, run: Callable[[], object]) -> int:
    passes: list[None] = []
    handle = module.register_forward_pre_hook(lambda *_: passes.append(None))
    run()
    handle.remove()
    return len(passes)


def test_checkpointed_blocks_are_computed_twice_in_training_and_once_elsewhere():
    architecture = frame_pooling(CLASSES)
    network, clips = architecture.network, torch.randn(2, 3, 2, 32, 32)
    checkpoint_blocks(network, architecture.blocks)
    inner = architecture.blocks[2][0].conv1
    assert _passes_through(inner, lambda: network(clips).sum().backward()) == 2
    with torch.no_grad():
        assert _passes_through(inner, lambda: network(clips)) == 1
    network.eval()
    assert _passes_through(inner, lambda: network(clips).sum().backward()) == 1


def test_a_stage_is_computed_again_block_by_block():
    """The last block first, or the activations of the whole stage would be there at once."""
    architecture = frame_pooling(CLASSES)
    network, clips = architecture.network, torch.randn(2, 3, 2, 32, 32)
    checkpoint_blocks(network, architecture.blocks)
    loss = network(clips).sum()
    again: list[int] = []
    for index, block in enumerate(architecture.blocks[1]):
        block.conv1.register_forward_pre_hook(lambda *_, index=index: again.append(index))
    loss.backward()
    assert again == [1, 0]


def test_a_checkpointed_network_is_copied_and_pickled_as_itself():
    architecture = frame_pooling(CLASSES)
    network, clips = architecture.network, torch.randn(2, 3, 2, 32, 32)
    checkpoint_blocks(network, architecture.blocks)
    network.eval()
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        with torch.no_grad():
            next(other.backbone.stem.parameters()).zero_()
        # The copy runs its own stem, not the original's.
        assert not torch.allclose(other(clips), network(clips))


def test_blocks_that_are_not_beside_each_other_are_refused():
    architecture = on_meta(frame_pooling, CLASSES)
    with pytest.raises(ValueError, match="not in the network"):
        checkpoint_blocks(architecture.network, [nn.Identity()])
    with pytest.raises(ValueError, match="inside another"):
        checkpoint_blocks(architecture.network, [architecture.blocks[1], architecture.blocks[1][0]])
