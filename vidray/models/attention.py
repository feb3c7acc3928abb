"""Attention: how much each frame of a clip, and each patch of it, counts in a network's answer.

    found = attend(model.network, model.preprocessing.to_input(pixels))

By the network's own attention, whatever it is; each kind says in ``rule`` what its weights are.
Networks that have none give None: ``grad_cam`` looks into those that are made of convolutions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vidray.errors import ModelError
from vidray.models.inference import evaluating
from vidray.models.networks.frame_pooling import AttentionPooling, FramePooling, LstmPooling
from vidray.models.networks.timesformer import TimeSformer, from_groups, to_groups
from vidray.models.rollout import AttentionStep, attended, back_through, watching


@dataclass(frozen=True, kw_only=True)
class ClipAttention:
    """What a network attends to in clips.

    Attributes:
        frames: ``float32 (N, T)``, each row summing to 1.
        patches: ``float32 (N, T, H', W')``, each clip's summing to 1; None where frames are whole.
        rule: what the weight of a frame is, in words for a reader.
        weighs_frames: whether the network can prefer a frame; those that average frames cannot.
    """

    frames: NDArray[np.float32]
    patches: NDArray[np.float32] | None
    rule: str
    weighs_frames: bool = True

    def __post_init__(self) -> None:
        if self.patches is not None and self.patches.shape[:2] != self.frames.shape:
            raise ValueError(f"patches {self.patches.shape} of frames {self.frames.shape}")

    @property
    def frames_seen(self) -> NDArray[np.float64]:
        """``float64 (N,)``: how many frames, counting alike, would be as spread as the weights.

        The exponential of the entropy: T where all count the same, 1 where one has everything.
        """
        weights = self.frames.astype(np.float64)
        logs = np.log(np.maximum(weights, np.finfo(np.float64).tiny))
        return np.asarray(np.exp(-(weights * logs).sum(axis=1)))


def attend(network: nn.Module, clips: Tensor) -> ClipAttention | None:
    """The attention of a network to clips, by its own rule; None if it has none.

    Its answers, modes and gradients are left as they are. Not for several threads at once.

    Args:
        network: as ``networks.build`` makes it.
        clips: what it takes, ``float (N, C, T, H, W)``, on its device.

    Raises:
        ModelError: its weights are too large to compute with.
    """
    look = _look_of(network)
    if look is None:
        return None
    with evaluating(network), torch.no_grad():
        found = look(network, clips)
    if not np.isfinite(found.frames).all():
        raise ModelError("the network's attention is no number: get a new copy, or train it again")
    return found


def _look_of(network: nn.Module) -> Callable[[Any, Tensor], ClipAttention] | None:
    if isinstance(network, FramePooling):
        return {AttentionPooling: _pooled, LstmPooling: _left_out}.get(type(network.pooling))
    if isinstance(network, TimeSformer):
        return _timesformer
    # Told by their parts: who has no ``transformers`` has none of these, and need not import it.
    for part, look in _OF_TRANSFORMERS.items():
        if hasattr(network, part):
            return look
    return None


def _found(
    weights: Tensor, num_frames: int, rule: str, *, tubelet: int = 1, weighs_frames: bool = True
) -> ClipAttention:
    """Of weights of patches ``float (N, T', R, C)``, each of which is of ``tubelet`` frames."""
    share = weights / weights.sum(dim=(1, 2, 3), keepdim=True)
    frames = share.repeat_interleave(tubelet, dim=1) / tubelet
    # The frames that fill no tubelet are not looked at.
    patches = frames.new_zeros(len(frames), num_frames, *frames.shape[2:])
    patches[:, : frames.shape[1]] = frames
    return ClipAttention(
        frames=patches.sum(dim=(2, 3)).float().cpu().numpy(),
        patches=patches.float().cpu().numpy(),
        rule=rule,
        weighs_frames=weighs_frames,
    )


# Image networks on every frame


def _pooling_input(network: FramePooling, clips: Tensor) -> Tensor:
    """Features of the frames: ``float (N, T, D)``."""
    seen: list[Tensor] = []

    def keep(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0])

    handle = network.pooling.register_forward_pre_hook(keep)
    try:
        network(clips)
    finally:
        handle.remove()
    return seen[0]


def _pooled(network: FramePooling, clips: Tensor) -> ClipAttention:
    assert isinstance(network.pooling, AttentionPooling)
    weights = network.pooling.weights(_pooling_input(network, clips))
    return ClipAttention(
        frames=weights.float().cpu().numpy(),
        patches=None,
        rule="its weight in the network's average over the frames",
    )


def _left_out(network: FramePooling, clips: Tensor) -> ClipAttention:
    """By leaving frames out.

    The weights that pool an LSTM's outputs are not those of frames: each output knows all of them.
    """
    features = _pooling_input(network, clips)  # (N, T, D)
    count, frames = features.shape[:2]
    others = (features.sum(dim=1, keepdim=True) - features) / max(1, frames - 1)
    eye = torch.eye(frames, dtype=torch.bool, device=features.device)[None, :, :, None]
    # (N, T, T, D): clip, frame that is left out, frame
    without = torch.where(eye, others[:, :, None], features[:, None])
    whole, changed = (
        network.head(network.pooling(some)).float() for some in (features, without.flatten(0, 1))
    )
    moved = changed.unflatten(0, (count, frames)) - whole[:, None]  # (N, T, K)
    # A softmax does not see what is added to all logits.
    effect = (moved - moved.mean(dim=2, keepdim=True)).norm(dim=2)
    total = effect.sum(dim=1, keepdim=True)
    even = torch.full_like(effect, 1 / frames)
    weights = torch.where(total > 0, effect / total.clamp_min(torch.finfo(effect.dtype).tiny), even)
    return ClipAttention(
        frames=weights.cpu().numpy(),
        patches=None,
        rule="how far the answer moves if the mean of the other frames is put in its place",
    )


# Transformers

_ROLLOUT = "its part in the attention of all layers, followed back from what the head reads"
_ROLLOUT_WITHIN = f"{_ROLLOUT}; frames are averaged, so that each counts the same"


def _timesformer(network: TimeSformer, clips: Tensor) -> ClipAttention:
    residuals = []
    blocks: list[Any] = list(network.blocks)
    for block in blocks:
        if block.second is not None:
            residuals.append((block.second, block.second))
        residuals.append((block.norm_attention, block.attention))
    with watching(residuals) as seen:
        network(clips)
    steps = list(seen.steps)
    of_space = network.attention == "space"
    count, frames, side = len(clips), network.frames, network.size_px // network.patch.stride[0]
    # All of the weight begins at the class token; of space, each frame is a clip with its own.
    shape = (count * frames, 1, side, side, 1) if of_space else (count, frames, side, side, 1)
    token = clips.new_ones(shape[0])
    patches = clips.new_zeros(shape)
    for block in reversed(blocks):
        groups = block.groups(patches.shape)
        token, patches = _back_with_token(
            steps.pop(), token, patches, groups.first, strided=groups.is_strided
        )
        if groups.second is not None:
            grouped = to_groups(patches, groups.second)
            back = steps.pop().back(grouped.flatten(0, 1).squeeze(-1))
            patches = from_groups(back.view(grouped.shape), groups.second, patches.shape)
    weights = patches.view(count, frames, side, side)
    if of_space:
        weights = weights / weights.sum(dim=(2, 3), keepdim=True)
        return _found(weights, frames, _ROLLOUT_WITHIN, weighs_frames=False)
    return _found(weights, frames, _ROLLOUT)


def _back_with_token(
    step: AttentionStep,
    token: Tensor,
    patches: Tensor,
    parts: tuple[int, int, int],
    *,
    strided: bool,
) -> tuple[Tensor, Tensor]:
    """One attention back: class token ``(N,)`` and patches ``(N, T, R, C, 1)``.

    Each group has a copy of the token, and what they found was averaged.
    """
    grouped = to_groups(patches, parts, strided=strided)  # (N, G, L, 1)
    count = grouped.shape[1]
    copies = (token / count)[:, None, None, None].expand(-1, count, 1, 1)
    joined = torch.cat([copies, grouped], dim=2)  # (N, G, 1 + L, 1)
    back = step.back(joined.flatten(0, 1).squeeze(-1)).view(joined.shape)
    patches = from_groups(back[:, :, 1:], parts, patches.shape, strided=strided)
    return back[:, :, 0, 0].sum(dim=1), patches


def _videomae(network: Any, clips: Tensor) -> ClipAttention:
    config = network.config
    with watching([(layer, layer.attention) for layer in network.videomae.encoder.layer]) as seen:
        network(clips)
    tubelet, patch = config.tubelet_size, config.patch_size
    grid = _grid(clips, tubelet, (patch, patch))
    weights = clips.new_zeros(len(clips), grid[0] * grid[1] * grid[2])
    if config.use_mean_pooling:
        weights[:] = 1 / weights.shape[1]
    else:
        weights[:, 0] = 1
    rolled = back_through(seen.steps, weights).unflatten(1, grid)
    return _found(rolled, clips.shape[2], _ROLLOUT, tubelet=tubelet)


def _vivit(network: Any, clips: Tensor) -> ClipAttention:
    with watching([(layer, layer.attention) for layer in network.vivit.layers]) as seen:
        network(clips)
    tubelet, rows, columns = network.config.tubelet_size
    grid = _grid(clips, tubelet, (rows, columns))
    weights = clips.new_zeros(len(clips), 1 + grid[0] * grid[1] * grid[2])
    weights[:, 0] = 1
    rolled = back_through(seen.steps, weights)[:, 1:].unflatten(1, grid)
    return _found(rolled, clips.shape[2], _ROLLOUT, tubelet=tubelet)


def _vjepa2(network: Any, clips: Tensor) -> ClipAttention:
    pooler = network.pooler
    residuals = [(layer, layer.attention) for layer in network.vjepa2.encoder.layer]
    residuals += [(layer, layer.self_attn) for layer in pooler.self_attention_layers]
    with watching(residuals) as seen:
        network(clips)
    # One query, which asks all patches: what is left of the calls. What it was before counts not.
    query, key, scale = seen.calls[-1]
    asked = attended(query, key, scale, clips.new_ones(len(clips), 1))
    tubelet, patch = network.config.tubelet_size, network.config.patch_size
    grid = _grid(clips, tubelet, (patch, patch))
    rolled = back_through(seen.steps, asked).unflatten(1, grid)
    return _found(rolled, clips.shape[2], _ROLLOUT, tubelet=tubelet)


def _frames(network: Any, clips: Tensor) -> ClipAttention:
    """CLIP's and SigLIP's towers, which see each frame for itself."""
    tower = network.vision_model
    asked: list[Tensor] = []
    handles = []
    head = getattr(tower, "head", None)  # SigLIP's, which pools by attention.
    if head is not None:
        handles.append(head.attention.register_forward_hook(lambda _m, _i, out: asked.append(out)))
    try:
        with watching([(layer, layer.self_attn) for layer in tower.encoder.layers]) as seen:
            network(clips)
    finally:
        for handle in handles:
            handle.remove()
    tokens = seen.steps[0].share.shape[1]
    weights = clips.new_zeros(len(clips) * clips.shape[2], tokens)
    if network.pooling == "patches":
        weights[:, network.class_tokens :] = 1 / (tokens - network.class_tokens)
    elif asked:
        weights = asked[0][1][:, 0].float()  # (N * T, 1, L), the mean of its heads
    else:
        weights[:, 0] = 1
    rolled = back_through(seen.steps, weights)[:, network.class_tokens :]
    side = round(rolled.shape[1] ** 0.5)
    within = (rolled / rolled.sum(dim=1, keepdim=True)).view(len(clips), clips.shape[2], side, side)
    return _found(within, clips.shape[2], _ROLLOUT_WITHIN, weighs_frames=False)


def _grid(clips: Tensor, tubelet: int, patch: tuple[int, int]) -> tuple[int, int, int]:
    """Patches along frames, rows and columns."""
    frames, height, width = clips.shape[2:]
    return frames // tubelet, height // patch[0], width // patch[1]


# By a part that only this kind has.
_OF_TRANSFORMERS: dict[str, Callable[[Any, Tensor], ClipAttention]] = {
    "videomae": _videomae,
    "vivit": _vivit,
    "vjepa2": _vjepa2,
    "vision_model": _frames,
}
