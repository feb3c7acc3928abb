"""SlowFast, TimeSformer and two-stream, against loops, hand arithmetic and torchvision."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet18
from torchvision.models.vision_transformer import VisionTransformer

from vidray.errors import UserError
from vidray.models import preprocess
from vidray.models.networks import timesformer, two_stream
from vidray.models.networks.architecture import Architecture
from vidray.models.networks.positions import (
    resize_space_positions,
    resize_time_positions,
)
from vidray.models.networks.slowfast import SlowFast
from vidray.models.networks.timesformer import (
    ATTENTION_KINDS,
    AttentionKind,
    Block,
    TimeSformer,
)
from vidray.models.networks.two_stream import (
    FUSION_KINDS,
    FusedHeads,
    FusionKind,
    TwoStream,
)
from vidray.models.weights import fitting


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def parameters_in(make: Callable[[], nn.Module]) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in make().parameters())


def randomise(network: nn.Module) -> None:
    """No weight is left at a zero or a one that would hide what it does."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.3)


# --- SlowFast


def tiny_slowfast() -> SlowFast:
    return SlowFast(3, width=16, depths=(1, 1, 1, 1)).eval()


def test_slowfast_has_the_published_parameters() -> None:
    assert round(parameters_in(lambda: SlowFast(400)) / 1e6, 2) == 34.57


@pytest.mark.parametrize("frames", [4, 8, 32])
def test_slowfast_shapes(frames: int) -> None:
    network = tiny_slowfast()
    clip = torch.randn(2, 3, frames, 32, 48)
    embedding = network.embed(clip)
    assert embedding.shape == (2, network.embedding_length) == (2, 16 * 8 * 4 * 9 // 8)
    assert torch.equal(network(clip), network.head(embedding))
    assert network(clip).shape == (2, 3)


@pytest.mark.parametrize("frames", [0, 3, 30])
def test_slowfast_refuses_frames_it_cannot_share(frames: int) -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        tiny_slowfast()(torch.zeros(1, 3, frames, 32, 32))


def test_slowfast_stages_have_the_shapes_of_the_papers_table() -> None:
    network = tiny_slowfast()
    clip = torch.randn(1, 3, 32, 64, 64)
    slow, fast = clip[:, :, ::4], clip
    shapes = []
    for block in network.blocks:
        slow, fast = block(slow, fast)
        shapes.append((tuple(slow.shape[1:]), tuple(fast.shape[1:])))
    # An eighth of the channels; what joins the slow pathway is a quarter of its own.
    assert shapes == [
        ((16 + 4, 8, 16, 16), (2, 32, 16, 16)),
        ((64 + 16, 8, 16, 16), (8, 32, 16, 16)),
        ((128 + 32, 8, 8, 8), (16, 32, 8, 8)),
        ((256 + 64, 8, 4, 4), (32, 32, 4, 4)),
        ((512, 8, 2, 2), (64, 32, 2, 2)),
    ]


def test_the_slow_pathway_sees_every_fourth_frame() -> None:
    stem = tiny_slowfast().blocks[0]
    seen: dict[str, list[Tensor]] = {"slow": [], "fast": []}
    for name, outputs in seen.items():
        pathway = getattr(stem, name)
        pathway.register_forward_hook(lambda _m, _i, out, outputs=outputs: outputs.append(out))
    network = tiny_slowfast()
    network.blocks[0] = stem
    clip = torch.randn(1, 3, 8, 32, 32)
    for changed in (None, 0, 1, 2, 3, 4, 7):
        other = clip.clone()
        if changed is not None:
            other[:, :, changed] += 1
        network(other)
        same_slow = torch.equal(seen["slow"][-1], seen["slow"][0])
        assert same_slow == (changed not in (0, 4))
        assert torch.equal(seen["fast"][-1], seen["fast"][0]) == (changed is None)
    assert seen["slow"][0].shape[2] == 2
    assert seen["fast"][0].shape[2] == 8


def test_a_frame_of_the_fast_pathway_alone_changes_the_answer() -> None:
    network = tiny_slowfast()
    clip = torch.randn(1, 3, 8, 32, 32)
    other = clip.clone()
    other[:, :, 2] += 1
    assert not torch.equal(network(clip), network(other))


# --- TimeSformer


def tiny_timesformer(attention: AttentionKind, frames: int = 4, size_px: int = 8) -> TimeSformer:
    return TimeSformer(
        3,
        attention=attention,
        frames=frames,
        size_px=size_px,
        patch_px=2,
        width=8,
        depth=2,
        heads=2,
    ).eval()


@pytest.mark.parametrize(
    ("attention", "millions"),
    # The paper's table 1.
    [("space", 85.9), ("joint", 85.9), ("divided", 121.4), ("sparse", 121.4)],
)
def test_timesformer_has_the_published_parameters(
    attention: AttentionKind, millions: float
) -> None:
    count = parameters_in(lambda: TimeSformer(400, attention=attention))
    assert count / 1e6 == pytest.approx(millions, rel=0.003)


@pytest.mark.parametrize("attention", ATTENTION_KINDS)
def test_timesformer_shapes(attention: AttentionKind) -> None:
    network = tiny_timesformer(attention)
    clip = torch.randn(2, 3, 4, 8, 8)
    assert network.embed(clip).shape == (2, 8)
    assert torch.equal(network(clip), network.head(network.embed(clip)))
    assert network(clip).shape == (2, 3)
    assert len(network.blocks) == 2


# A token's place; the class token has none.
Place = tuple[int, int, int]
Tokens = dict[Place, Tensor]


def attend_by_hand(
    attention: timesformer.SelfAttention, query: Tensor, others: list[Tensor]
) -> Tensor:
    """What one token finds among others: one query, one head, one score at a time."""
    width = len(query)
    weight, bias = attention.query_key_value.weight, attention.query_key_value.bias
    packed = [weight @ token + bias for token in (query, *others)]
    per_head = width // attention.heads
    found = []
    for first in range(0, width, per_head):
        part = slice(first, first + per_head)
        q = packed[0][:width][part]
        scores = [
            float(q @ each[width : 2 * width][part]) / math.sqrt(per_head) for each in packed[1:]
        ]
        exponentials = [math.exp(score) for score in scores]
        values = [each[2 * width :][part] for each in packed[1:]]
        weighted = [e / sum(exponentials) * v for e, v in zip(exponentials, values, strict=True)]
        found.append(torch.stack(weighted).sum(dim=0))
    return attention.project.weight @ torch.cat(found) + attention.project.bias


def groups_by_hand(places: list[Place], key: Callable[[Place], object]) -> list[list[Place]]:
    return [list(group) for _, group in itertools.groupby(sorted(places, key=key), key=key)]  # type: ignore[arg-type]


def second_by_hand(block: Block, tokens: Tokens, key: Callable[[Place], object]) -> Tokens:
    assert block.second is not None
    changed = {}
    for group in groups_by_hand(list(tokens), key):
        normed = [block.second.norm(tokens[place]) for place in group]
        for place, query in zip(group, normed, strict=True):
            found = attend_by_hand(block.second.attention, query, normed)
            changed[place] = tokens[place] + block.second.admit(found)
    return changed


def main_by_hand(
    block: Block, token: Tensor, tokens: Tokens, key: Callable[[Place], object]
) -> tuple[Tensor, Tokens]:
    changed, class_found = {}, []
    for group in groups_by_hand(list(tokens), key):
        normed = [block.norm_attention(each) for each in (token, *(tokens[p] for p in group))]
        class_found.append(attend_by_hand(block.attention, normed[0], normed))
        for place, query in zip(group, normed[1:], strict=True):
            changed[place] = tokens[place] + attend_by_hand(block.attention, query, normed)
    return token + torch.stack(class_found).mean(dim=0), changed


def block_by_hand(
    block: Block, kind: str, token: Tensor, tokens: Tokens, half: int
) -> tuple[Tensor, Tokens]:
    if kind == "divided":
        tokens = second_by_hand(block, tokens, lambda p: (p[1], p[2]))
        token, tokens = main_by_hand(block, token, tokens, lambda p: p[0])
    elif kind == "sparse":
        tokens = second_by_hand(block, tokens, lambda p: (p[1] // half, p[2] // half))
        token, tokens = main_by_hand(block, token, tokens, lambda p: (p[0] % 2, p[1] % 2, p[2] % 2))
    else:
        token, tokens = main_by_hand(block, token, tokens, lambda p: 0)

    def perceived(one: Tensor) -> Tensor:
        changed: Tensor = one + block.perceptron(block.norm_perceptron(one))
        return changed

    return perceived(token), {place: perceived(one) for place, one in tokens.items()}


def embed_by_hand(network: TimeSformer, clip: Tensor) -> Tensor:
    """The embedding of one clip (3, T, H, W), patch by patch."""
    assert network.patch.bias is not None
    side, patch_px = network.size_px // 2, 2
    tokens: Tokens = {}
    for t, r, c in itertools.product(range(network.frames), range(side), range(side)):
        rows = slice(r * patch_px, (r + 1) * patch_px)
        columns = slice(c * patch_px, (c + 1) * patch_px)
        pixels = clip[:, t, rows, columns].reshape(-1)
        token = network.patch.weight.flatten(1) @ pixels + network.patch.bias
        tokens[t, r, c] = token + network.space_position[0, 1 + r * side + c]
        if network.time_position is not None:
            tokens[t, r, c] = tokens[t, r, c] + network.time_position[0, t]
    start: Tensor = network.class_token[0, 0] + network.space_position[0, 0]
    clips = [tokens]
    if network.attention == "space":
        clips = groups_of_frames(tokens)
    ends = []
    for frames in clips:
        token, seen = start, frames
        for block in network.blocks:
            assert isinstance(block, Block)
            token, seen = block_by_hand(block, network.attention, token, seen, side // 2)
        ends.append(network.norm(token))
    return torch.stack(ends).mean(dim=0)


def groups_of_frames(tokens: Tokens) -> list[Tokens]:
    frames = sorted({place[0] for place in tokens})
    return [{p: token for p, token in tokens.items() if p[0] == frame} for frame in frames]


@pytest.mark.parametrize("attention", ATTENTION_KINDS)
def test_attention_is_what_loops_over_patches_give(attention: AttentionKind) -> None:
    network = tiny_timesformer(attention).double()
    randomise(network)
    clips = torch.randn(2, 3, 4, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        expected = torch.stack([embed_by_hand(network, clip) for clip in clips])
        torch.testing.assert_close(network.embed(clips), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("strided", [False, True])
def test_groups_are_put_together_again(strided: bool) -> None:
    patches = torch.arange(2 * 4 * 6 * 2 * 3).view(2, 4, 6, 2, 3)
    groups = timesformer.to_groups(patches, (2, 3, 1), strided=strided)
    assert groups.shape == (2, 6, 8, 3)
    back = timesformer.from_groups(groups, (2, 3, 1), patches.shape, strided=strided)
    assert torch.equal(back, patches)
    first = patches[:, ::2, ::3] if strided else patches[:, :2, :2]
    assert torch.equal(groups[:, 0], first.flatten(1, 3))


def tiny_vit() -> VisionTransformer:
    vit = VisionTransformer(
        image_size=8, patch_size=2, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=32
    )
    vit.heads = nn.Identity()
    randomise(vit)
    return vit.eval()


def from_vit(state: Mapping[str, Tensor], network: TimeSformer) -> None:
    """Begin a fresh network with an image transformer's weights."""
    built = Architecture(network=network, blocks=list(network.blocks), head=network.head)
    found = fitting.FoundWeights(tensors=state, shown="vit", origin="torchvision")
    fitting.fill(f"timesformer_{network.attention}", found, lambda _name, _variant: built)


def test_from_vit_of_space_attention_averages_the_image_transformer() -> None:
    vit, network = tiny_vit(), tiny_timesformer("space")
    from_vit(vit.state_dict(), network)
    clip = torch.randn(2, 3, 4, 8, 8)
    expected = torch.stack([vit(clip[:, :, t]) for t in range(4)]).mean(dim=0)
    torch.testing.assert_close(network.embed(clip), expected)


@pytest.mark.parametrize(("attention", "frames"), [("divided", 4), ("joint", 1)])
def test_from_vit_sees_a_still_picture_as_the_image_transformer(
    attention: AttentionKind, frames: int
) -> None:
    vit, network = tiny_vit(), tiny_timesformer(attention, frames)
    head = network.head.state_dict()
    from_vit(vit.state_dict(), network)
    picture = torch.randn(2, 3, 8, 8)
    clip = picture[:, :, None].expand(-1, -1, frames, -1, -1)
    torch.testing.assert_close(network.embed(clip), vit(picture))
    assert all(torch.equal(head[name], value) for name, value in network.head.state_dict().items())


def test_from_vit_resizes_positions_and_names_what_does_not_fit() -> None:
    network = tiny_timesformer("divided", size_px=12)
    from_vit(tiny_vit().state_dict(), network)
    assert network.space_position.shape == (1, 37, 8)
    weights = tiny_vit().state_dict()
    del weights["encoder.layers.encoder_layer_1.ln_2.weight"]
    with pytest.raises(UserError, match=r"blocks\.1\.norm_perceptron\.weight is missing"):
        from_vit(weights, network)


@pytest.mark.parametrize("attention", ["divided", "sparse"])
def test_the_second_attention_learns_though_it_begins_as_zeros(attention: AttentionKind) -> None:
    network = tiny_timesformer(attention)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    clip = torch.randn(2, 3, 4, 8, 8)
    for _ in range(2):
        optimizer.zero_grad()
        functional.cross_entropy(network(clip), torch.tensor([0, 1])).backward()
        optimizer.step()
    block = network.blocks[0]
    assert isinstance(block, Block)
    assert block.second is not None
    for parameter in (block.second.admit.weight, block.second.attention.query_key_value.weight):
        assert parameter.grad is not None
        assert float(parameter.grad.abs().max()) > 0


@pytest.mark.parametrize("attention", ATTENTION_KINDS)
def test_every_weight_has_a_gradient(attention: AttentionKind) -> None:
    network = tiny_timesformer(attention)
    network(torch.randn(1, 3, 4, 8, 8)).sum().backward()
    # Distributed training stops at a weight that the loss does not reach.
    assert [name for name, each in network.named_parameters() if each.grad is None] == []


def test_positions_in_space_are_interpolated_and_the_class_token_kept() -> None:
    ramp = torch.arange(4.0)
    grid = torch.stack([ramp[:, None].expand(4, 4), ramp[None].expand(4, 4)], dim=-1)
    positions = torch.cat([torch.full((1, 1, 2), 9.0), grid.reshape(1, 16, 2)], dim=1)
    assert resize_space_positions(positions, side=4) is positions
    resized = resize_space_positions(positions, side=8)
    assert resized.shape == (1, 65, 2)
    assert torch.equal(resized[:, :1], positions[:, :1])
    rows = resized[0, 1:].view(8, 8, 2)
    # Half as far apart; PyTorch's cubic (a = -0.75) bends a ramp by a twentieth of a step.
    middle = rows[3:5, 3:5]
    torch.testing.assert_close(
        middle[..., 0], torch.tensor([[1.25, 1.25], [1.75, 1.75]]), rtol=0, atol=0.05
    )
    torch.testing.assert_close(
        middle[..., 1], torch.tensor([[1.25, 1.75], [1.25, 1.75]]), rtol=0, atol=0.05
    )
    with pytest.raises(ValueError, match="square"):
        resize_space_positions(positions[:, :-1], side=8)


def test_positions_in_time_are_interpolated() -> None:
    positions = torch.tensor([0.0, 1.0]).view(1, 2, 1)
    resized = resize_time_positions(positions, frames=4)
    assert resized.flatten().tolist() == [0.0, 0.25, 0.75, 1.0]


def test_weights_of_other_sizes_load_by_fitting_positions() -> None:
    small, large = tiny_timesformer("divided"), tiny_timesformer("divided", frames=8, size_px=16)
    randomise(small)
    built = Architecture(network=large, blocks=list(large.blocks), head=large.head)
    found = fitting.FoundWeights(tensors=small.state_dict(), shown="small")
    filled = fitting.fill("timesformer_divided", found, lambda _name, _variant: built)
    assert filled.origin == "vidray"
    assert torch.equal(large.space_position[:, 0], small.space_position[:, 0])
    assert torch.equal(large.norm.weight, small.norm.weight)
    assert large.time_position is not None
    assert float(large.time_position.detach().abs().min()) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": "axial"}, "one of divided, space, joint, sparse"),
        ({"size_px": 9}, "multiple of patch_px=2"),
        ({"heads": 3}, "multiple of heads=3"),
        ({"frames": 0}, "below 1"),
        ({"attention": "sparse", "frames": 3}, "3 frames is odd"),
        ({"attention": "sparse", "size_px": 6}, "3 patches along a side is odd"),
    ],
)
def test_impossible_timesformers_are_refused(options: dict[str, object], message: str) -> None:
    sizes = {"frames": 4, "size_px": 8, "patch_px": 2, "width": 8, "depth": 1, "heads": 2}
    with pytest.raises(ValueError, match=message):
        TimeSformer(3, **{**sizes, **options})  # type: ignore[arg-type]


def test_a_clip_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, 5, 8, 8\).*takes \(3, 4, 8, 8\)"):
        tiny_timesformer("divided")(torch.zeros(1, 3, 5, 8, 8))


# --- two streams


@pytest.mark.parametrize("fusion", FUSION_KINDS)
def test_two_stream_shapes(fusion: FusionKind) -> None:
    network = TwoStream(3, fusion=fusion).eval()
    clip = torch.randn(2, 5, 12, 32, 48)
    embedding = network.embed(clip)
    assert embedding.shape == (2, network.embedding_length) == (2, 1024)
    logits = network(clip)
    assert torch.equal(logits, network.head(embedding))
    assert logits.shape == (2, 3)


@pytest.mark.parametrize("fusion", FUSION_KINDS)
def test_two_stream_parameters(fusion: FusionKind) -> None:
    backbone = parameters_in(resnet18) - 512 * 1000 - 1000
    flow_stem = (20 - 3) * 64 * 7 * 7
    # One head of 1024 or two of 512 have the same weights; two have a second row of biases.
    heads = {"early": 1024 * 3 + 3, "late": 1024 * 3 + 6, "weighted": 1024 * 3 + 6 + 1}
    count = parameters_in(lambda: TwoStream(3, fusion=fusion))
    assert count == 2 * backbone + flow_stem + heads[fusion]


@pytest.mark.parametrize(
    ("flow_weight", "expected"),
    # (0.2 + 0.6) / 2; 0.4 * 0.2 + 0.6 * 0.6
    [(None, [0.4, 0.6]), (1.5, [0.44, 0.56])],
)
def test_fusion_by_hand(flow_weight: float | None, expected: list[float]) -> None:
    fused = FusedHeads(nn.Identity(), nn.Identity(), flow_weight=flow_weight)
    # Logits are known up to a constant of each stream.
    rgb, flow = torch.tensor([0.2, 0.8]).log() + 3, torch.tensor([0.6, 0.4]).log() - 5
    out = fused(torch.cat([rgb, flow])[None])
    torch.testing.assert_close(out.exp(), torch.tensor([expected]))
    torch.testing.assert_close(out.softmax(dim=1), torch.tensor([expected]))


def test_the_weight_of_the_streams_is_learned() -> None:
    fused = FusedHeads(nn.Identity(), nn.Identity(), flow_weight=1.5)
    assert fused.flow_share_logit is not None
    # Only the colours know the class, so the share of flow must fall.
    functional.nll_loss(fused(torch.tensor([[5.0, 0.0, 0.0, 0.0]])), torch.tensor([0])).backward()
    assert fused.flow_share_logit.grad is not None
    assert float(fused.flow_share_logit.grad) > 0


def test_streams_see_the_middle_frame_and_ten_fields_around_it() -> None:
    clip = torch.zeros(1, 5, 16, 1, 1)
    times = torch.arange(16.0).view(16, 1, 1)
    clip[0, :3], clip[0, 3], clip[0, 4] = times, times, times + 100
    rgb, flow = two_stream.split_streams(clip)
    assert rgb.flatten().tolist() == [7.0, 7.0, 7.0]
    pairs = [[t, t + 100] for t in range(2, 12)]
    assert flow.view(10, 2).tolist() == pairs


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (1, [0] * 10),
        (2, [0] * 10),
        (4, [0, 0, 0, 1, 1, 1, 1, 2, 2, 2]),
        (10, [0, 1, 2, 3, 4, 4, 5, 6, 7, 8]),
        (11, list(range(10))),
        (12, list(range(10))),
        (13, list(range(1, 11))),
        (32, list(range(10, 20))),
    ],
)
def test_flow_indices(frames: int, expected: list[int]) -> None:
    assert two_stream.flow_indices(frames).tolist() == expected


def test_the_first_convolution_of_flow_is_the_mean_over_colours() -> None:
    weight = torch.randn(4, 3, 2, 2)
    inflated = two_stream.inflate_first_convolution(weight, channels=20)
    assert inflated.shape == (4, 20, 2, 2)
    mean = (weight[:, 0] + weight[:, 1] + weight[:, 2]) / 3
    for channel in range(20):
        torch.testing.assert_close(inflated[:, channel], mean)


def test_a_clip_without_flow_is_refused() -> None:
    with pytest.raises(ValueError, match="clip_flow"):
        TwoStream(3)(torch.zeros(1, 3, 11, 32, 32))
    with pytest.raises(ValueError, match="one of late, early, weighted"):
        TwoStream(3, fusion="middle")  # type: ignore[arg-type]


def pan(dx: int, dy: int, frames: int = 3, scale: int = 1) -> NDArray[np.uint8]:
    """A texture that moves by (dx, dy) pixels a frame: uint8 (frames, 64, 96, 3), times scale."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (160 * scale, 200 * scale, 3), dtype=np.uint8)
    picture = cv2.GaussianBlur(noise, (0, 0), 2.0 * scale)
    picture = cv2.normalize(picture, None, 0, 255, cv2.NORM_MINMAX)  # type: ignore[call-overload]
    # What moves right is cut further left.
    top, left, height, width = (scale * size for size in (48, 52, 64, 96))
    cuts = [picture[top - t * dy :, left - t * dx :][:height, :width] for t in range(frames)]
    return np.stack(cuts)


@pytest.mark.parametrize(("dx", "dy"), [(3, 0), (-2, 4), (0, -5)])
def test_flow_of_a_shifted_picture_is_the_shift(dx: int, dy: int) -> None:
    flow = preprocess.clip_flow(pan(dx, dy)) * preprocess.MAX_FLOW_PX
    assert flow.shape == (3, 64, 96, 2)
    assert flow.dtype == np.float32
    inside = flow[:, 8:-8, 8:-8]  # at the edges a part is only seen once
    assert np.abs(inside - [dx, dy]).mean() < 0.1
    assert np.quantile(np.abs(inside - [dx, dy]), 0.99) < 0.3


def test_the_last_field_is_repeated_and_one_frame_does_not_move() -> None:
    flow = preprocess.clip_flow(pan(3, 0))
    assert np.array_equal(flow[2], flow[1])
    assert not np.array_equal(flow[1], flow[0])
    assert not preprocess.clip_flow(pan(3, 0)[:1]).any()


def test_flow_is_cut_at_twenty_pixels() -> None:
    flow = preprocess.clip_flow(pan(24, 0, frames=2, scale=4))
    assert np.median(flow[..., 0]) == 1.0
    assert np.abs(flow).max() == 1.0


@pytest.mark.parametrize("shape", [(2, 8, 64, 3), (2, 64, 64), (0, 64, 64, 3), (2, 64, 64, 1)])
def test_pixels_without_flow_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"should be|too small"):
        preprocess.clip_flow(np.zeros(shape, np.uint8))
