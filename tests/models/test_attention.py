"""Attention over frames and patches, against softmax by hand, loops, and transformers' own."""

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vidray.errors import ModelError
from vidray.models import rollout
from vidray.models.attention import ClipAttention, attend
from vidray.models.networks.frame_pooling import FramePooling
from vidray.models.networks.timesformer import ATTENTION_KINDS, AttentionKind, TimeSformer
from vidray.models.transformers_config import (
    Clip,
    NetworkConfig,
    Siglip,
    VideoMAE,
    Vivit,
    Vjepa2,
)


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def randomised(network: Any, std: float = 0.4) -> Any:
    """Weights so large that attention is far from even."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=std)
    return network.eval()


def looked(network: nn.Module, clips: Tensor) -> ClipAttention:
    """Its attention; its answers, hooks and modes must stay as they are."""
    modes = [module.training for module in network.modules()]
    with torch.no_grad():
        before = network(clips)
    found = attend(network, clips)
    with torch.no_grad():
        assert torch.equal(network(clips), before)
    assert [module.training for module in network.modules()] == modes
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    assert found is not None
    assert found.frames.dtype == np.float32
    np.testing.assert_allclose(found.frames.sum(axis=1), 1, atol=1e-5)
    if found.patches is not None:
        np.testing.assert_allclose(found.patches.sum(axis=(2, 3)), found.frames, atol=1e-6)
    return found


# --- image networks on every frame


def features_of(network: FramePooling, clips: Tensor) -> Tensor:
    frames = clips.transpose(1, 2)
    with torch.no_grad():
        return torch.stack([network.backbone(clip).mean(dim=(2, 3)) for clip in frames])


def test_attention_pooling_gives_its_softmax() -> None:
    network: Any = FramePooling(2, pooling="attention").eval()
    first, _, last = network.pooling.score
    with torch.no_grad():
        last.weight.normal_(std=2)
    clips = torch.randn(2, 3, 5, 32, 32)
    features = features_of(network, clips)
    with torch.no_grad():
        scores = np.array(
            [[last(torch.tanh(first(frame))).item() for frame in clip] for clip in features]
        )
    expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    found = looked(network, clips)
    np.testing.assert_allclose(found.frames, expected, atol=1e-5)
    assert found.patches is None
    assert np.ptp(expected) > 0.05


def test_lstm_pooling_gives_what_leaving_out_a_frame_changes() -> None:
    network: Any = FramePooling(3, pooling="lstm").eval()
    clips = torch.randn(2, 3, 4, 32, 32)
    expected = np.zeros((2, 4))
    for n, clip in enumerate(features_of(network, clips)):
        with torch.no_grad():
            whole = network.head(network.pooling(clip[None]))[0]
            for t in range(4):
                others = torch.stack([clip[k] for k in range(4) if k != t]).mean(dim=0)
                changed = torch.stack([others if k == t else clip[k] for k in range(4)])
                moved = network.head(network.pooling(changed[None]))[0] - whole
                expected[n, t] = float((moved - moved.mean()).norm())
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(looked(network, clips).frames, expected, atol=1e-4)


def test_a_frame_unlike_all_others_moves_an_lstm_most() -> None:
    network = FramePooling(3, pooling="lstm").eval()
    clips = torch.zeros(1, 3, 6, 32, 32)
    even = looked(network, clips)
    np.testing.assert_allclose(even.frames, 1 / 6, atol=1e-6)  # nothing moves the answer
    clips[:, :, 4] = torch.randn(3, 32, 32)
    found = looked(network, clips)
    assert found.frames[0].argmax() == 4
    assert found.frames[0, 4] > 0.4
    one = looked(network, clips[:, :, :1])
    assert one.frames.tolist() == [[1.0]]


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_poolings_without_attention_have_none(pooling: Any) -> None:
    assert attend(FramePooling(2, pooling=pooling), torch.zeros(1, 3, 2, 32, 32)) is None


def test_other_networks_have_none() -> None:
    assert attend(nn.Conv3d(3, 2, 3), torch.zeros(1, 3, 4, 8, 8)) is None


# --- rollout


def share_of(x: Tensor, added: Tensor) -> Tensor:
    own, new = (tokens.pow(2).sum(dim=-1).sqrt() for tokens in (x, added))
    return new / (own + new)


def softmax_by_hand(query: Tensor, key: Tensor) -> Tensor:
    """``(heads, L, D)`` twice -> mean over heads ``(L, M)``."""
    scores = (
        torch.stack([q @ k.T for q, k in zip(query, key, strict=True)]) / query.shape[-1] ** 0.5
    )
    weights = scores.exp()
    return (weights / weights.sum(dim=-1, keepdim=True)).mean(dim=0)


def attention_matrix(attention: Any, tokens: Tensor) -> Tensor:
    """Of our ``SelfAttention`` over tokens ``(L, D)``, already normed."""
    packed = attention.query_key_value(tokens)
    query, key, _ = packed.chunk(3, dim=-1)
    split = [part.unflatten(-1, (attention.heads, -1)).transpose(0, 1) for part in (query, key)]
    return softmax_by_hand(*split)


Groups = Sequence[Sequence[int]]


def groups_by_hand(kind: AttentionKind, frames: int, side: int) -> tuple[Groups | None, Groups]:
    """Numbers of the patches in each group: of the second attention, and of the first."""
    places = list(itertools.product(range(frames), range(side), range(side)))

    def by(key: Callable[[int, int, int], Any]) -> Groups:
        found: dict[Any, list[int]] = {}
        for number, place in enumerate(places):
            found.setdefault(key(*place), []).append(number)
        return list(found.values())

    if kind == "divided":
        return by(lambda t, r, c: (r, c)), by(lambda t, r, c: t)
    if kind == "space":
        return None, by(lambda t, r, c: t)
    if kind == "joint":
        return None, by(lambda t, r, c: 0)
    half = side // 2
    return by(lambda t, r, c: (r // half, c // half)), by(lambda t, r, c: (t % 2, r % 2, c % 2))


def rolled_by_hand(network: Any, clip: Tensor) -> Tensor:
    """Whole matrices over class token and patches, group by group: -> ``(T, R, C)`` of one clip."""
    kind, frames = network.attention, network.frames
    side = network.size_px // network.patch.kernel_size[0]
    token, grid = network._tokens(clip)
    # The class tokens of space are one for each frame, at the front.
    of_space = kind == "space"
    heads = frames if of_space else 1
    tokens = torch.cat([token[0].repeat(heads, 1), grid[0].flatten(0, 2)])
    second, first = groups_by_hand(kind, frames, side)
    total = torch.eye(len(tokens))
    for block in network.blocks:
        if second is not None:
            step, added = torch.eye(len(tokens)), torch.zeros_like(tokens)
            for group in second:
                at = torch.tensor(group) + heads
                x = tokens[at]
                added[at] = block.second(x[None, None])[0, 0]
                share = share_of(x, added[at])[:, None]
                matrix = attention_matrix(block.second.attention, block.second.norm(x))
                step[at] *= 1 - share
                step[at[:, None], at] += share * matrix
            tokens, total = tokens + added, step @ total
        step, added = torch.eye(len(tokens)), torch.zeros_like(tokens)
        step[:heads] = 0
        for number, group in enumerate(first):
            mine = number if of_space else 0
            at = torch.tensor([mine, *(k + heads for k in group)])
            x = block.norm_attention(tokens[at])
            found = block.attention(x[None, None])[0, 0]
            share = share_of(tokens[at], found)[:, None]
            rows = torch.zeros(len(at), len(tokens))
            rows[torch.arange(len(at)), at] = (1 - share)[:, 0]
            rows[:, at] += share * attention_matrix(block.attention, x)
            copies = 1 if of_space else len(first)
            step[at[1:]], added[at[1:]] = rows[1:], found[1:]
            step[mine] += rows[0] / copies
            added[mine] += found[0] / copies
        tokens, total = tokens + added, step @ total
        tokens = tokens + block.perceptron(block.norm_perceptron(tokens))
    rows = total[:heads, heads:].mean(dim=0)
    if of_space:
        rows = rows.view(frames, -1) / rows.view(frames, -1).sum(dim=1, keepdim=True) / frames
    return (rows / rows.sum()).view(frames, side, side)


@pytest.mark.parametrize("kind", ATTENTION_KINDS)
def test_timesformer_is_rolled_out_as_whole_matrices_are(kind: AttentionKind) -> None:
    network = randomised(
        TimeSformer(3, attention=kind, frames=4, size_px=16, patch_px=4, width=16, depth=3, heads=2)
    )
    clips = torch.randn(2, 3, 4, 16, 16)
    found = looked(network, clips)
    assert found.patches is not None
    assert found.weighs_frames == (kind != "space")
    with torch.no_grad():
        for patches, clip in zip(found.patches, clips, strict=True):
            expected = rolled_by_hand(network, clip[None])
            np.testing.assert_allclose(patches, expected, atol=1e-6)
            assert expected.std() > 0.15 * expected.mean()


def test_a_second_attention_that_admits_nothing_moves_no_weight() -> None:
    """So a network that has just got an image transformer's weights weighs frames as that does."""
    network: Any = TimeSformer(2, frames=4, size_px=16, patch_px=4, width=16, depth=2, heads=2)
    randomised(network.blocks[0].attention), randomised(network.blocks[1].attention)
    plain = TimeSformer(
        2, attention="space", frames=4, size_px=16, patch_px=4, width=16, depth=2, heads=2
    )
    plain.load_state_dict(network.state_dict(), strict=False)
    clips = torch.randn(1, 3, 1, 16, 16).expand(-1, -1, 4, -1, -1)
    found, of_space = looked(network.eval(), clips), looked(plain.eval(), clips)
    assert found.patches is not None
    assert of_space.patches is not None
    np.testing.assert_allclose(found.patches, of_space.patches, atol=1e-6)
    np.testing.assert_allclose(found.frames, 0.25, atol=1e-6)


def test_a_token_that_asks_for_one_frame_gives_it_the_weight() -> None:
    """Made by hand: the key of bright patches answers the class token's query."""
    network: Any = TimeSformer(
        2, attention="joint", frames=4, size_px=8, patch_px=4, width=4, depth=1, heads=1
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        block = network.blocks[0]
        block.norm_attention.weight.fill_(1)
        network.class_token[..., 0] = 1
        network.patch.weight[1] = 1
        packed = block.attention.query_key_value
        packed.bias[0] = 5  # every query
        packed.weight[4, 1] = 5  # the key of what is bright
        packed.weight[8:] = torch.eye(4)
        block.attention.project.weight.copy_(torch.eye(4))
    clips = torch.zeros(1, 3, 4, 8, 8)
    clips[:, :, 2] = 1
    found = looked(network.eval(), clips)
    assert found.frames[0, 2] > 0.99
    assert found.frames_seen[0] < 1.1


def test_many_weights_are_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, weights = torch.randn(2, 3, 10, 4), torch.randn(2, 3, 7, 4), torch.rand(2, 10)
    whole = rollout.attended(query, key, 0.7, weights)
    matrices = (query @ key.transpose(2, 3) * 0.7).softmax(dim=-1).mean(dim=1)
    torch.testing.assert_close(whole, torch.einsum("bl,blm->bm", weights, matrices))
    monkeypatch.setattr(rollout, "_MOST_WEIGHTS", 2 * 3 * 7 * 3)  # three queries at once
    torch.testing.assert_close(rollout.attended(query, key, 0.7, weights), whole)
    monkeypatch.setattr(rollout, "_MOST_WEIGHTS", 1)
    torch.testing.assert_close(rollout.attended(query, key, 0.7, weights), whole)


# --- transformers

SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


def made(config: NetworkConfig) -> Any:
    pytest.importorskip("transformers")
    from vidray.models.networks.transformers_video import build_transformers

    return randomised(build_transformers(config, 3).network, std=0.3)


def rolled_with_their_attentions(
    layers: Any, norm: str, attention: str, hidden: Sequence[Tensor], weights: Sequence[Tensor]
) -> Tensor:
    """Matrices of ``output_attentions`` multiplied: ``(N, L, L)``."""
    total = torch.eye(hidden[0].shape[1]).expand(len(hidden[0]), -1, -1)
    for layer, x, given in zip(layers, hidden, weights, strict=False):
        added = getattr(layer, attention)(getattr(layer, norm)(x))
        share = share_of(x, added[0] if isinstance(added, tuple) else added)[..., None]
        total = ((1 - share) * torch.eye(x.shape[1]) + share * given.mean(dim=1)) @ total
    return total


def eager(network: Any) -> Any:
    """A copy that computes attention step by step, and gives it out."""
    copied = copy.deepcopy(network)
    copied.set_attn_implementation("eager")
    return copied


def as_frames(patches: Tensor, tubelet: int) -> NDArray[np.float32]:
    """``(N, T', R, C)`` -> ``(N, T)``."""
    share = patches.sum(dim=(2, 3)) / patches.sum(dim=(1, 2, 3))[:, None]
    return (share.repeat_interleave(tubelet, dim=1) / tubelet).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("mean", [True, False])
def test_videomae_is_rolled_out_with_the_attentions_that_transformers_gives(mean: bool) -> None:
    network = made(
        VideoMAE(image_size=32, num_frames=6, intermediate_size=32, use_mean_pooling=mean, **SMALL)
    )
    clips = torch.randn(2, 3, 6, 32, 32)
    theirs = eager(network)
    with torch.no_grad():
        out = theirs.videomae(
            clips.transpose(1, 2), output_attentions=True, output_hidden_states=True
        )
        total = rolled_with_their_attentions(
            theirs.videomae.encoder.layer, "layernorm_before", "attention",
            out.hidden_states, out.attentions,
        )  # fmt: skip
    rows = (total.mean(dim=1) if mean else total[:, 0]).unflatten(1, (3, 2, 2))
    found = looked(network, clips)
    np.testing.assert_allclose(found.frames, as_frames(rows, 2), atol=1e-5)
    assert found.patches is not None
    assert found.patches.shape == (2, 6, 2, 2)
    assert np.ptp(found.frames) > 0.005


def test_vivit_is_rolled_out_with_the_attentions_that_transformers_gives() -> None:
    network = made(
        Vivit(image_size=32, num_frames=4, tubelet_size=(2, 16, 16), intermediate_size=32, **SMALL)
    )
    clips = torch.randn(2, 3, 4, 32, 32)
    theirs = eager(network)
    with torch.no_grad():
        out = theirs.vivit(clips.transpose(1, 2), output_attentions=True, output_hidden_states=True)
        total = rolled_with_their_attentions(
            theirs.vivit.layers, "layernorm_before", "attention",
            out.hidden_states, out.attentions,
        )  # fmt: skip
    rows = total[:, 0, 1:].unflatten(1, (2, 2, 2))
    np.testing.assert_allclose(looked(network, clips).frames, as_frames(rows, 2), atol=1e-5)


def test_vjepa2_begins_at_what_its_pooler_asks_for() -> None:
    network = made(
        Vjepa2(crop_size=32, frames_per_clip=6, num_pooler_layers=1, mlp_ratio=2.0, **SMALL)
    )
    clips = torch.randn(2, 3, 6, 32, 32)
    theirs = eager(network)
    with torch.no_grad():
        hidden = theirs.vjepa2.encoder.embeddings(clips.transpose(1, 2))
        inputs, weights = [], []
        for layer in theirs.vjepa2.encoder.layer:
            inputs.append(hidden)
            hidden, given = layer(hidden)
            weights.append(given)
        total = rolled_with_their_attentions(
            theirs.vjepa2.encoder.layer, "norm1", "attention", inputs, weights
        )
        hidden = theirs.vjepa2.encoder.layernorm(hidden)
        (pooling,) = theirs.pooler.self_attention_layers
        after, given = pooling(hidden, attention_mask=None)
        added = pooling.self_attn(hidden_states=pooling.layer_norm1(hidden), attention_mask=None)[0]
        share = share_of(hidden, added)[..., None]
        total = ((1 - share) * torch.eye(12) + share * given.mean(dim=1)) @ total
        queries = theirs.pooler.query_tokens.repeat(2, 1, 1)
        _, asked = theirs.pooler.cross_attention_layer(queries, after)
    rows = torch.einsum("nl,nlm->nm", asked.mean(dim=1)[:, 0], total).unflatten(1, (3, 2, 2))
    found = looked(network, clips)
    np.testing.assert_allclose(found.frames, as_frames(rows, 2), atol=1e-5)
    assert np.ptp(found.frames) > 0.01


IMAGE = {"image_size": 32, "patch_size": 16, "intermediate_size": 32, **SMALL}


@pytest.mark.parametrize(
    "config",
    [
        Clip(projection_dim=8, **IMAGE),
        Clip(pooling="patches", **IMAGE),
        Siglip(**IMAGE),
        Siglip(pooling="patches", **IMAGE),
    ],
    ids=lambda config: f"{config.KIND}-{config.pooling}",
)
def test_towers_of_images_count_all_frames_alike(config: Clip | Siglip) -> None:
    network = made(config)
    clips = torch.randn(2, 3, 3, 32, 32)
    found = looked(network, clips)
    assert not found.weighs_frames
    np.testing.assert_allclose(found.frames, 1 / 3, atol=1e-6)
    tower = eager(network.vision_model)
    with torch.no_grad():
        out = tower(
            clips.transpose(1, 2).flatten(0, 1), output_attentions=True, output_hidden_states=True
        )
        total = rolled_with_their_attentions(
            tower.encoder.layers, "layer_norm1", "self_attn", out.hidden_states, out.attentions
        )
        first = network.class_tokens
        if config.pooling == "patches":
            rows = total[:, first:].mean(dim=1)
        elif config.KIND == "clip":
            rows = total[:, 0]
        else:
            head, last = tower.head, out.last_hidden_state
            asked = head.attention(head.probe.repeat(len(last), 1, 1), last, last)[1][:, 0]
            rows = torch.einsum("nl,nlm->nm", asked, total)
    rows = rows[:, first:] / rows[:, first:].sum(dim=1, keepdim=True) / 3
    assert found.patches is not None
    np.testing.assert_allclose(found.patches.reshape(6, -1), rows, atol=1e-5)
    assert np.ptp(found.patches) > 0.005


def test_frames_that_fill_no_tubelet_have_no_weight() -> None:
    network = made(VideoMAE(image_size=32, num_frames=5, intermediate_size=32, **SMALL))
    found = looked(network, torch.randn(1, 3, 5, 32, 32))
    assert found.frames.shape == (1, 5)
    assert found.frames[0, 4] == 0
    np.testing.assert_allclose(found.frames[0, 0], found.frames[0, 1])


# --- the result


def test_frames_seen_are_as_many_as_count_alike() -> None:
    frames = np.array([[0.25] * 4, [1, 0, 0, 0], [0.5, 0.5, 0, 0]], np.float32)
    found = ClipAttention(frames=frames, patches=None, rule="")
    np.testing.assert_allclose(found.frames_seen, [4, 1, 2], rtol=1e-6)


def test_patches_are_of_the_same_frames() -> None:
    with pytest.raises(ValueError, match="patches"):
        ClipAttention(frames=np.ones((1, 4)), patches=np.ones((1, 2, 3, 3)), rule="")


def test_weights_too_large_to_compute_with_are_an_error() -> None:
    network: Any = FramePooling(2, pooling="attention")
    with torch.no_grad():
        network.pooling.score[2].weight.fill_(3e38)
    with pytest.raises(ModelError, match="no number"):
        attend(network, torch.randn(1, 3, 4, 32, 32))


def test_a_network_in_training_is_looked_at_in_evaluation_mode() -> None:
    network = FramePooling(2, pooling="attention").train()
    clips = torch.randn(2, 3, 3, 32, 32)
    both, alone = attend(network, clips), attend(network, clips[:1])
    assert network.training
    assert both is not None
    assert alone is not None
    np.testing.assert_allclose(both.frames[:1], alone.frames, atol=1e-5)
