"""VideoMAE, ViViT, V-JEPA 2, CLIP and SigLIP of ``transformers``, made and filled.

Names of tensors are its own, so that its files load as they are and those of older versions by its
own renamings. Nothing is downloaded here, and no code but the installed package's runs: configs are
``transformers_config``'s, tensors the caller's.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers.utils import logging as their_logging

from vidray.errors import UserError
from vidray.models.networks.architecture import Architecture
from vidray.models.networks.heads import HeadKind, make_head
from vidray.models.networks.transformers_networks import (
    FrameNetwork,
    VideoMAENetwork,
    VivitNetwork,
    Vjepa2Network,
)
from vidray.models.transformers_config import Clip, NetworkConfig, Siglip, VideoMAE, Vivit, Vjepa2

# 8.6 GB of float32. The largest published, V-JEPA 2's giant, has 1.03e9.
MOST_PARAMETERS = 1 << 31


@dataclasses.dataclass(frozen=True)
class _Kind:
    """One kind of network: how it is made, and which tensors of a file may lack or be left."""

    classes: Callable[[Any], tuple[Any, Any]]
    """NetworkConfig of ours -> the class of ``transformers`` and its config."""
    blocks: Callable[[Any], nn.ModuleList]
    new: tuple[str, ...] = ()
    """Parts that files without a classifier lack."""
    left: tuple[str, ...] = ()
    """Parts of files that a classification has no use for."""


def build_transformers(
    config: NetworkConfig,
    num_classes: int,
    *,
    head: HeadKind = "linear",
    dropout: float = 0.5,
    frames: int | None = None,
    size_px: int | None = None,
    state: Mapping[str, Tensor] | None = None,
    source: str = "the file",
    keep_head: bool | None = None,
) -> Architecture:
    """A network of ``transformers`` with its parts.

    Args:
        config: what it is made of.
        num_classes: logits.
        head: ``linear``, or ``layernorm_dropout_linear``.
        dropout: of the head.
        frames, size_px: of the clips; the config's where not given.
        state: initial weights in the names of ``transformers``; None starts fresh. Its classifier
            is kept where it has as many classes and ``head`` is linear.
        source: where ``state`` is from, for errors and for ``loaded``.
        keep_head: False never keeps its classifier; True wants it.

    Raises:
        UserError: too many parameters, or weights of another network or another size of clips.
    """
    sized = _sized(config, frames, size_px, state)
    check_parameters(sized)
    if isinstance(sized, VideoMAE) and torch.empty(0).is_meta:
        sized = _smallest(sized)  # No tensor of it depends on the clip.
    fits = head == "linear" and _num_labels(state) == num_classes
    if keep_head and not fits:
        said = _of_head(False, state, num_classes)
        raise UserError(f"{source}: its last layer is wanted, and {said}")
    kept = fits and keep_head is not False
    model, taken = _model(sized, num_classes, state, source)
    network = _network(sized, model)
    if not kept and (state is not None or head != "linear"):
        network.classifier = make_head(head, network.classifier.in_features, num_classes, dropout)
    loaded = taken and f"{taken}; {_of_head(kept, state, num_classes)}"
    blocks = list(_KINDS[sized.KIND].blocks(network))
    return Architecture(network=network, blocks=blocks, head=network.classifier, loaded=loaded)


def check_parameters(config: NetworkConfig) -> int:
    """The number of parameters of a network, counted before memory is taken.

    Raises:
        UserError: it is more than any published network has.
    """
    if isinstance(config, VideoMAE):
        config = _smallest(config)
    made, theirs = _KINDS[config.KIND].classes(config)
    with torch.device("meta"):
        count: int = sum(parameter.numel() for parameter in made(theirs).parameters())
    if count > MOST_PARAMETERS:
        raise UserError(
            f"the config of {config.KIND} makes {count / 1e9:.1f} billion parameters: "
            f"{MOST_PARAMETERS / 1e9:.1f} at the most"
        )
    return count


def _smallest(config: VideoMAE) -> VideoMAE:
    """The same network for clips of one patch: computing the positions of a long one takes long."""
    return config.resized(config.tubelet_size, config.patch_size)


def _sized(
    config: NetworkConfig,
    frames: int | None,
    size_px: int | None,
    state: Mapping[str, Tensor] | None,
) -> NetworkConfig:
    """The config for these clips."""
    size = (frames or config.size[0], size_px or config.size[1])
    if isinstance(config, (Clip, Siglip)):
        if size[1] < config.patch_size:
            raise UserError(f"size_px is {size[1]}: at least {config.patch_size}, one patch")
        return config
    if isinstance(config, Vivit) and state is not None and size != config.size:
        raise UserError(
            f"weights of vivit are for {config.size[0]} frames of {config.size[1]} px and the "
            f"clips have {size[0]} of {size[1]}: give --frames {config.size[0]} --crop-px "
            f"{config.size[1]}, of clips cut so, or --weights none"
        )
    return config.resized(*size)


def _model(
    config: NetworkConfig, num_classes: int, state: Mapping[str, Tensor] | None, source: str
) -> tuple[Any, str | None]:
    """The model of ``transformers``, fresh or filled, and what was taken of ``state``."""
    kind = _KINDS[config.KIND]
    made, theirs = kind.classes(config)
    theirs.num_labels = _num_labels(state) or num_classes
    if state is None:
        with _quiet():
            return made(theirs), None
    model, found = _from_state(made, theirs, state, source)
    _check_fit(found, kind, config, source)
    check_finite(model, source)
    left = sorted(found["unexpected_keys"])
    new = sorted(name for name in found["missing_keys"] if not name.startswith("classifier."))
    taken = f"{source}: {len(state) - len(left)} of {len(state)} tensors taken"
    taken += f", not those of {_parts(left)}, which a classification does not use" if left else ""
    return model, taken + (f"; {_parts(new)} made new" if new else "")


def _check_fit(found: Mapping[str, Any], kind: _Kind, config: NetworkConfig, source: str) -> None:
    """Raise UserError where the blocks of a file are not those of the network."""
    wrong = [
        f"{name} is missing" for name in found["missing_keys"] if not name.startswith(kind.new)
    ]
    wrong += [
        f"{name} is not in this model"
        for name in found["unexpected_keys"]
        if not name.startswith(kind.left)
    ]
    wrong += [
        f"{name} is {tuple(theirs)} and must be {tuple(ours)}"
        for name, theirs, ours in found["mismatched_keys"]
        if not name.startswith("classifier.")
    ]
    wrong += found.get("error_msgs") or []
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        said = "; ".join(sorted(wrong)[:3])
        raise UserError(f"{source} does not fit the model {config.KIND}: {said}{more}")


def _from_state(
    made: Any, theirs: Any, state: Mapping[str, Tensor], source: str
) -> tuple[Any, dict[str, Any]]:
    """A model of ``transformers`` with these weights, and which of them fit."""
    try:
        with _quiet():
            model, found = made.from_pretrained(
                None,
                config=theirs,
                # The network would keep these very tensors, and a file's are not to be written to.
                state_dict={name: tensor.clone() for name, tensor in state.items()},
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    except (ValueError, RuntimeError, OSError, KeyError) as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(f"{source} does not fit {made.__name__}: {said}") from None
    return model, found


def filled(
    made: Any, theirs: Any, state: Mapping[str, Tensor], source: str
) -> tuple[Any, list[str]]:
    """A model of ``transformers`` with its part of these weights, and the names that it lacks."""
    model, found = _from_state(made, theirs, state, source)
    return model, sorted({*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])})


def check_finite(model: nn.Module, source: str) -> None:
    """Raise UserError where a weight of a model is no number."""
    wrong = [name for name, value in model.state_dict().items() if not value.isfinite().all()]
    if wrong:
        raise UserError(
            f"{source} holds NaN or infinity in {len(wrong)} tensors, {wrong[0]} among them: get "
            "it again from its author"
        )


def _num_labels(state: Mapping[str, Tensor] | None) -> int | None:
    """The classes of a file's classifier; None where it has none."""
    found = None if state is None else state.get("classifier.weight")
    return len(found) if found is not None and found.ndim == 2 and len(found) else None


def _of_head(kept: bool, state: Mapping[str, Tensor] | None, num_classes: int) -> str:
    """What became of a file's head, in words."""
    theirs = _num_labels(state)
    if kept:
        return f"its head of {theirs} classes kept"
    had = f"of {theirs} classes not kept" if theirs else "none"
    return f"its head {had}, a new one of {num_classes} classes made"


def _parts(names: list[str]) -> str:
    """The parts that tensors are of, such as ``decoder``."""
    return ", ".join(dict.fromkeys(_part(name) for name in names))


def _part(name: str) -> str:
    first, _, rest = name.partition(".")
    return f"{first}.{rest.partition('.')[0]}" if first in _BODIES else first


_BODIES = ("videomae", "vivit", "vjepa2", "vision_model")


def _network(config: NetworkConfig, model: Any) -> Any:
    """The network of a model of ``transformers``."""
    if isinstance(config, (Clip, Siglip)):
        patches = config.pooling == "patches"
        projection = getattr(model, "visual_projection", nn.Identity())
        tower = getattr(model, "vision_model", model)
        # These would get no gradient, which processes that train together wait for.
        if patches and isinstance(config, Clip):
            tower.post_layernorm = nn.Identity()
        width = config.projection_dim if isinstance(config, Clip) else config.hidden_size
        head = model.classifier if patches else nn.Linear(width, model.config.num_labels)
        return FrameNetwork(config, tower, projection, head)
    if isinstance(config, VideoMAE):
        positions_move(model.videomae.embeddings)
    return model


def positions_move(module: nn.Module) -> None:
    """Let computed positions move with the network: a copy to the GPU at each step is spared."""
    positions = module.__dict__.pop("position_embeddings")
    module.register_buffer("position_embeddings", positions, persistent=False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """A context in which ``transformers`` draws no bars and tables: what it says is said by us."""
    verbosity, bars = their_logging.get_verbosity(), their_logging.is_progress_bar_enabled()
    their_logging.set_verbosity_error()
    their_logging.disable_progress_bar()
    try:
        yield
    finally:
        their_logging.set_verbosity(verbosity)
        if bars:
            their_logging.enable_progress_bar()


def _given(config: NetworkConfig, *without: str) -> dict[str, Any]:
    return {k: v for k, v in dataclasses.asdict(config).items() if k not in without}


def _videomae(config: VideoMAE) -> tuple[Any, Any]:
    return VideoMAENetwork, transformers.VideoMAEConfig(**_given(config))


def _vivit(config: Vivit) -> tuple[Any, Any]:
    return VivitNetwork, transformers.VivitConfig(**_given(config))


def _vjepa2(config: Vjepa2) -> tuple[Any, Any]:
    # The predictor is made, and left out: as small as it can be.
    small = {
        "pred_hidden_size": 6, "pred_num_attention_heads": 1, "pred_num_hidden_layers": 0,
        "pred_num_mask_tokens": 1,
    }  # fmt: skip
    return Vjepa2Network, transformers.VJEPA2Config(**_given(config), **small)


def _clip(config: Clip) -> tuple[Any, Any]:
    tower = transformers.CLIPVisionConfig(**_given(config, "pooling", "frames"))
    if config.pooling == "projection":
        return transformers.CLIPVisionModelWithProjection, tower
    whole = transformers.CLIPConfig(
        vision_config=tower.to_dict(), projection_dim=config.projection_dim
    )
    return transformers.CLIPForImageClassification, whole


def _siglip(config: Siglip) -> tuple[Any, Any]:
    patches = config.pooling == "patches"
    given = _given(config, "pooling", "frames", "initializer_range")
    tower = transformers.SiglipVisionConfig(**given, vision_use_head=not patches)
    if not patches:
        return transformers.SiglipVisionModel, tower
    whole = transformers.SiglipConfig(vision_config=tower.to_dict())
    return transformers.SiglipForImageClassification, whole


_KINDS = {
    "videomae": _Kind(
        classes=_videomae,
        blocks=lambda network: network.videomae.encoder.layer,
        new=("classifier.", "fc_norm."),
        left=(
            "decoder.", "encoder_to_decoder.", "mask_token", "position_embeddings",
            "videomae.layernorm.", "fc_norm.", "layernorm.",
        ),
    ),
    "vivit": _Kind(
        classes=_vivit,
        blocks=lambda network: network.vivit.layers,
        new=("classifier.",),
        left=("vivit.pooler.", "pooler."),
    ),
    "vjepa2": _Kind(
        classes=_vjepa2,
        blocks=lambda network: network.vjepa2.encoder.layer,
        new=("classifier.", "pooler."),
        left=("vjepa2.predictor.", "predictor."),
    ),
    "clip": _Kind(
        classes=_clip,
        blocks=lambda network: network.vision_model.encoder.layers,
        new=("classifier.",),
        left=("text_model.", "text_projection.", "visual_projection.", "logit_scale"),
    ),
    "siglip": _Kind(
        classes=_siglip,
        blocks=lambda network: network.vision_model.encoder.layers,
        new=("classifier.",),
        left=("text_model.", "logit_scale", "logit_bias", "vision_model.head.", "head."),
    ),
}  # fmt: skip
