"""Grad-CAM (Selvaraju et al. 2017): where in a clip a convolutional network sees a class.

    maps = grad_cam(model.network, model.preprocessing.to_input(pixels), classes)

The channels of the last convolutional stage are summed, each weighted by the sum of the class's
gradients over its places; what speaks against the class is cut off. (The paper takes their mean,
which is the same up to a factor; of sums, maps of two pathways can be added.) Where a linear head
follows an average, this is Zhou et al.'s CAM (2016).

- Image networks on every frame give a map a frame, so frames that count more are brighter.
- 3D networks give fewer maps than frames; these are interpolated over time as over space.
- SlowFast's two pathways each give one, and they are added, as its head adds what they say.
- Of a two-stream network, the map of the colours lies on the frame that it sees, that of the flow
  on the frames whose motion it sees, and they are added.

The stage is found in a forward pass: the last module at the shallowest depth whose output still has
rows and columns, and is no pooling's. Its places are 32 pixels wide in most networks, so that small
clips have few of them: ``least_side`` asks for an earlier stage with more, whose features are
simpler and tell classes apart less well.

Transformers have no such stage, apart from Video Swin, whose tokens keep their places to the end
and are averaged there; of the others ``attention`` says where they look.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.video.swin_transformer import SwinTransformer3d

from vidray.errors import ModelError
from vidray.models.inference import evaluating
from vidray.models.networks.slowfast import SlowFast
from vidray.models.networks.two_stream import TwoStream, flow_indices

_POOLINGS = (
    nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
)  # fmt: skip
_Place = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class _Stage:
    """A stage that is looked at: the module, and how its map ``(M, ...)`` is laid over the clips.

    Attributes:
        place: map ``float (M, t, h, w)`` or ``(M, h, w)`` and clips -> ``float (N, T, H, W)``.
        channels_last: its output is ``(N, t, h, w, K)``, not ``(N, K, t, h, w)``.
    """

    module: nn.Module
    place: _Place
    channels_last: bool = False


@dataclass(frozen=True, kw_only=True)
class ClassMaps:
    """Where a network sees a class in clips.

    Attributes:
        maps: ``float32 (N, T, H, W)``, the highest of each clip 1; all 0 where nothing speaks for
            the class.
        places: frames, rows and columns that the maps had before they were interpolated.
    """

    maps: NDArray[np.float32]
    places: tuple[int, int, int]


def grad_cam(
    network: nn.Module, clips: Tensor, classes: NDArray[np.int64], *, least_side: int = 2
) -> ClassMaps | None:
    """Maps of where a network sees a class in clips; None for networks without convolutional maps.

    The network's modes, gradients and hooks are left as they were. Not for several threads at once.

    Args:
        network: as ``networks.build`` makes it.
        clips: what it takes, ``float (N, C, T, H, W)``, on its device.
        classes: ``int (N,)``: which of its classes, a clip each.
        least_side: rows and columns of the stage; 2 of the last one if no stage has as many.

    Raises:
        ModelError: its weights are too large to compute with.
    """
    if len(classes) != len(clips):
        raise ValueError(f"{len(classes)} classes of {len(clips)} clips: give one each")
    # cuDNN's LSTMs have a backward pass in training mode alone.
    with evaluating(network), torch.no_grad(), torch.backends.cudnn.flags(enabled=False):
        stages = _stages(network) or _last_stage(network, clips, least_side)
        if not stages:
            return None
        outputs, logits = _outputs(network, clips, stages)
        chosen = logits.gather(1, torch.from_numpy(classes).to(logits.device)[:, None]).sum()
        gradients = torch.autograd.grad(chosen, outputs)
    maps = torch.zeros_like(clips[:, 0], dtype=torch.float32)
    for stage, output, gradient in zip(stages, outputs, gradients, strict=True):
        maps += stage.place(_weighted(stage, output.detach(), gradient), clips)
    maps = maps.relu()
    highest = maps.amax(dim=(1, 2, 3), keepdim=True)
    found = (maps / highest.clamp_min(torch.finfo(maps.dtype).tiny)).cpu().numpy()
    if not np.isfinite(found).all():
        raise ModelError(
            "the network's gradients are no numbers: get a new copy, or train it again"
        )
    return ClassMaps(maps=found, places=_places(stages[0], outputs[0], clips))


def _places(stage: _Stage, output: Tensor, clips: Tensor) -> tuple[int, int, int]:
    """Frames, rows and columns of a stage; those of image networks are of every frame they see."""
    sides = output.shape[1:-1] if stage.channels_last else output.shape[2:]
    frames = sides[0] if len(sides) == 3 else len(output) // len(clips)
    return frames, sides[-2], sides[-1]


def _weighted(stage: _Stage, output: Tensor, gradient: Tensor) -> Tensor:
    """Channels summed, each weighted by its gradients: ``(M, K, ...)`` -> ``(M, ...)``."""
    if stage.channels_last:
        output, gradient = output.movedim(-1, 1), gradient.movedim(-1, 1)
    weights = gradient.flatten(2).sum(dim=2)  # (M, K)
    return torch.einsum("mk,mk...->m...", weights.float(), output.float())


def _outputs(
    network: nn.Module, clips: Tensor, stages: Sequence[_Stage]
) -> tuple[list[Tensor], Tensor]:
    """The outputs of the stages and the logits, with a graph from the ones to the others.

    Gradients are on from a stage onwards, and not before: SlowFast over 32 frames of 224 px would
    keep some gigabytes for nothing.
    """
    outputs: dict[int, Tensor] = {}

    def begin(module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        outputs[id(module)] = output.detach().requires_grad_()
        torch.set_grad_enabled(True)  # Until the end of the caller's context.
        return outputs[id(module)].clone()  # What follows may change it in place.

    with _hooked([stage.module for stage in stages], begin):
        logits = network(clips)
    return [outputs[id(stage.module)] for stage in stages], logits


@contextlib.contextmanager
def _hooked(modules: Iterable[nn.Module], hook: Callable[..., Any]) -> Iterator[None]:
    """A context in which modules have a forward hook."""
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _last_stage(network: nn.Module, clips: Tensor, least_side: int) -> list[_Stage]:
    """The last convolutional stage of a network, by a forward pass; none of a transformer."""
    last = _Last(network, least_side)
    with _hooked(network.modules(), last):
        network(clips)
    return last.found()


class _Last:
    """The last convolutional stage.

    By depth, since a module inside a block sees what is beside its shortcut, and not the whole.
    """

    def __init__(self, network: nn.Module, least_side: int) -> None:
        self._depths = {id(module): name.count(".") for name, module in network.named_modules()}
        self._sides = (least_side, 2)
        self._pooled: Tensor | None = None
        # (rows and columns asked for, depth) -> the last module there
        self._last: dict[tuple[int, int], nn.Module] = {}
        self._has_tokens = False

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(module, nn.LayerNorm):
            # One over pooled features, (N, D), is a head's.
            self._has_tokens |= inputs[0].ndim > 2
        if not isinstance(output, Tensor) or output.ndim not in (4, 5):
            return
        if isinstance(module, _POOLINGS):
            self._pooled = output
        # A row of modules gives what its last one gave.
        elif output is not self._pooled:
            for side in self._sides:
                if max(output.shape[-2:]) >= side:
                    self._last[side, self._depths[id(module)]] = module

    def found(self) -> list[_Stage]:
        """The stage; none where there are tokens, or no place beside another."""
        for side in self._sides:
            depths = [depth for asked, depth in self._last if asked == side]
            if depths and not self._has_tokens:
                return [_Stage(module=self._last[side, min(depths)], place=_over_clip)]
        return []


def _stages(network: nn.Module) -> list[_Stage]:
    """The stages of networks of which the last output is not all there is to see."""
    if isinstance(network, SlowFast):
        last: Any = network.blocks[-1]
        return [_Stage(module=way, place=_over_clip) for way in (last.slow, last.fast)]
    if isinstance(network, TwoStream):
        last = network.blocks[-1]
        return [
            _Stage(module=last.rgb, place=_on_middle_frame),
            _Stage(module=last.flow, place=_on_flow_frames),
        ]
    if isinstance(network, SwinTransformer3d):
        return [_Stage(module=network.norm, place=_over_clip, channels_last=True)]
    return []


def _over_clip(maps: Tensor, clips: Tensor) -> Tensor:
    """A map of fewer places, interpolated; one of single frames only over rows and columns."""
    count, _, frames, height, width = clips.shape
    if maps.ndim == 4:
        size = (frames, height, width)
        return functional.interpolate(maps[:, None], size, mode="trilinear").squeeze(1)
    grown = functional.interpolate(maps[:, None], (height, width), mode="bilinear")
    return grown.view(count, frames, height, width)  # (N * T, 1, H, W)


def _on_middle_frame(maps: Tensor, clips: Tensor) -> Tensor:
    frames = clips.shape[2]
    return _on_frames(maps, clips, np.array([(frames - 1) // 2]))


def _on_flow_frames(maps: Tensor, clips: Tensor) -> Tensor:
    return _on_frames(maps, clips, flow_indices(clips.shape[2]))


def _on_frames(maps: Tensor, clips: Tensor, numbers: NDArray[np.int64]) -> Tensor:
    """The same map ``(N, h, w)`` on some frames, nothing on the others."""
    count, _, frames, height, width = clips.shape
    grown = functional.interpolate(maps[:, None], (height, width), mode="bilinear")
    placed = grown.new_zeros(count, frames, height, width)
    placed[:, torch.from_numpy(np.unique(numbers)).to(placed.device)] = grown
    return placed
