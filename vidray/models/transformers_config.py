"""Configs of the ``transformers`` networks that vidray builds: what may be in one, and how large.

A config.json may have been written by anybody. Of one only the keys below are taken, each of its
type and in its range; what else is in it, code to fetch above all, is not looked at. Defaults are
those of ``transformers``, which writes only what differs from them. Imports nothing heavy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

from vidray.errors import UserError
from vidray.storage import checked_json

T = TypeVar("T")

Activation = Literal["gelu", "gelu_fast", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "relu"]
FrameEmbedding = Literal["patches", "projection"]

# The largest published are SigLIP's so400m (width 1152, depth 27) and V-JEPA 2's giant (1408, 40).
_MOST = {
    "hidden_size": 8192,
    "intermediate_size": 32_768,
    "num_hidden_layers": 128,
    "num_attention_heads": 128,
    "num_pooler_layers": 16,
    "projection_dim": 8192,
    "decoder_hidden_size": 8192,
    "decoder_intermediate_size": 32_768,
    "decoder_num_hidden_layers": 128,
    "decoder_num_attention_heads": 128,
    **dict.fromkeys(("vocab_size", "eos_token_id", "pad_token_id", "bos_token_id"), 1 << 20),
    "max_position_embeddings": 1024,
}
_FROM_ZERO = ("num_pooler_layers", "eos_token_id", "pad_token_id", "bos_token_id")
_MOST_PIXELS = 4096  # As frames and sides of stored clips.
# V-JEPA 2 at 64 frames of 384 pixels has 18,432. Attention pairs each with each.
MOST_PATCHES = 65_536


@dataclass(frozen=True, kw_only=True)
class _Encoder:
    """What all of them have: the blocks of a transformer."""

    KIND: ClassVar[str]

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            _check_range(name, value)
        if self.hidden_size % self.num_attention_heads:
            raise UserError(
                f"hidden_size is {self.hidden_size}: it must be a multiple of num_attention_heads, "
                f"which is {self.num_attention_heads}"
            )

    def as_json(self) -> dict[str, Any]:
        """The config as model.json has it, its kind included."""
        values = dataclasses.asdict(self)
        lists = {name: list(value) for name, value in values.items() if isinstance(value, tuple)}
        return {"kind": self.KIND, **values, **lists}


@dataclass(frozen=True, kw_only=True)
class VideoMAE(_Encoder):
    """Tong et al. 2022; the last four and ``norm_pix_loss`` are of the pre-training alone."""

    KIND: ClassVar[str] = "videomae"

    image_size: int = 224
    patch_size: int = 16
    num_frames: int = 16
    tubelet_size: int = 2
    intermediate_size: int = 3072
    hidden_act: Activation = "gelu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    layer_norm_eps: float = 1e-12
    qv_bias: bool = True
    use_mean_pooling: bool = True
    norm_pix_loss: bool = True
    decoder_num_attention_heads: int = 6
    decoder_hidden_size: int = 384
    decoder_num_hidden_layers: int = 4
    decoder_intermediate_size: int = 1536

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decoder_hidden_size % self.decoder_num_attention_heads:
            raise UserError(
                f"decoder_hidden_size is {self.decoder_hidden_size}: it must be a multiple of "
                f"decoder_num_attention_heads, which is {self.decoder_num_attention_heads}"
            )
        _check_patches(
            self.num_frames, self.tubelet_size, self.image_size, (self.patch_size, self.patch_size)
        )

    @property
    def size(self) -> tuple[int, int]:
        """Frames and pixels of the clips that it was made for."""
        return self.num_frames, self.image_size

    def resized(self, frames: int, size_px: int) -> VideoMAE:
        """The same network for other clips: its positions are computed."""
        return dataclasses.replace(self, num_frames=frames, image_size=size_px)


@dataclass(frozen=True, kw_only=True)
class Vivit(_Encoder):
    """Arnab et al. 2021, model 1."""

    KIND: ClassVar[str] = "vivit"

    image_size: int = 224
    num_frames: int = 32
    tubelet_size: tuple[int, ...] = (2, 16, 16)
    intermediate_size: int = 3072
    hidden_act: Activation = "gelu_fast"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    layer_norm_eps: float = 1e-6
    qkv_bias: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.tubelet_size) != 3 or not all(
            1 <= side <= _MOST_PIXELS for side in self.tubelet_size
        ):
            raise UserError(f"tubelet_size is {self.tubelet_size}: frames, rows and columns")
        frames, rows, columns = self.tubelet_size
        _check_patches(self.num_frames, frames, self.image_size, (rows, columns))

    @property
    def size(self) -> tuple[int, int]:
        """Frames and pixels of the clips that it was made for."""
        return self.num_frames, self.image_size

    def resized(self, frames: int, size_px: int) -> Vivit:
        """A network for other clips; its table of positions, which is learnt, has another shape."""
        return dataclasses.replace(self, num_frames=frames, image_size=size_px)


@dataclass(frozen=True, kw_only=True)
class Vjepa2(_Encoder):
    """Assran et al. 2025: the encoder and the pooling by attention; not the predictor."""

    KIND: ClassVar[str] = "vjepa2"

    crop_size: int = 256
    frames_per_clip: int = 64
    patch_size: int = 16
    tubelet_size: int = 2
    hidden_size: int = 1024
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    mlp_ratio: float = 4.0
    num_pooler_layers: int = 3
    drop_path_rate: float = 0.0
    hidden_act: Activation = "gelu"
    layer_norm_eps: float = 1e-6
    qkv_bias: bool = True
    attention_probs_dropout_prob: float = 0.0
    attention_dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden_size // self.num_attention_heads < 6:
            raise UserError(
                f"hidden_size is {self.hidden_size}: of each of {self.num_attention_heads} heads "
                "it must leave 6 numbers or more, for positions in time and space"
            )
        _check_patches(
            self.frames_per_clip, self.tubelet_size, self.crop_size, (self.patch_size,) * 2
        )

    @property
    def size(self) -> tuple[int, int]:
        """Frames and pixels of the clips that it was made for."""
        return self.frames_per_clip, self.crop_size

    def resized(self, frames: int, size_px: int) -> Vjepa2:
        """The same network for other clips: its positions are rotations."""
        return dataclasses.replace(self, frames_per_clip=frames, crop_size=size_px)


@dataclass(frozen=True, kw_only=True)
class _Image(_Encoder):
    """A network of single frames, whose embeddings are averaged over a clip."""

    image_size: int = 224
    patch_size: int = 16
    intermediate_size: int = 3072
    attention_dropout: float = 0.0
    pooling: FrameEmbedding = "projection"
    """Embedding of a frame: ``projection``, the normalised one that is compared with texts, or
    ``patches``, the mean of the patches, on which classifiers of images are trained."""
    frames: int = 8
    """Frames of a clip, where nobody says another number."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_patches(1, 1, self.image_size, (self.patch_size, self.patch_size))

    @property
    def size(self) -> tuple[int, int]:
        """Frames and pixels of the clips that it was made for."""
        return self.frames, self.image_size


@dataclass(frozen=True, kw_only=True)
class Clip(_Image):
    """The vision tower of CLIP, Radford et al. 2021."""

    KIND: ClassVar[str] = "clip"

    patch_size: int = 32
    hidden_act: Activation = "quick_gelu"
    layer_norm_eps: float = 1e-5
    projection_dim: int = 512


@dataclass(frozen=True, kw_only=True)
class Siglip(_Image):
    """The vision tower of SigLIP, Zhai et al. 2023."""

    KIND: ClassVar[str] = "siglip"

    hidden_act: Activation = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6


@dataclass(frozen=True, kw_only=True)
class ClipText(_Encoder):
    """The text tower of CLIP."""

    KIND: ClassVar[str] = "clip_text"

    vocab_size: int = 49_408
    hidden_size: int = 512
    intermediate_size: int = 2048
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    hidden_act: Activation = "quick_gelu"
    layer_norm_eps: float = 1e-5
    attention_dropout: float = 0.0
    eos_token_id: int = 49_407
    pad_token_id: int | None = 1
    bos_token_id: int | None = 49_406


@dataclass(frozen=True, kw_only=True)
class SiglipText(_Encoder):
    """The text tower of SigLIP."""

    KIND: ClassVar[str] = "siglip_text"

    vocab_size: int = 32_000
    intermediate_size: int = 3072
    max_position_embeddings: int = 64
    hidden_act: Activation = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6
    attention_dropout: float = 0.0
    projection_size: int | None = None


NetworkConfig = VideoMAE | Vivit | Vjepa2 | Clip | Siglip
CONFIGS: dict[str, type[NetworkConfig]] = {
    kind.KIND: kind for kind in (VideoMAE, Vivit, Vjepa2, Clip, Siglip)
}
# Towers are published alone, too; their config is the part that they have of the whole.
_TOWERS = {"clip_vision_model": "clip", "siglip_vision_model": "siglip"}


def from_json(values: Any, where: str = "network.config") -> NetworkConfig:
    """The config that ``as_json`` wrote, as model.json has it.

    Raises:
        UserError: an unknown kind, or a value that is not what its key takes.
    """
    if not isinstance(values, Mapping) or values.get("kind") not in CONFIGS:
        kind = values.get("kind") if isinstance(values, Mapping) else values
        rule = f"one of {', '.join(CONFIGS)}"
        raise UserError(f"{where}.kind is {checked_json.shown(kind)}: it must be {rule}")
    given = {name: value for name, value in values.items() if name != "kind"}
    found = CONFIGS[values["kind"]]
    return checked_json.build(found, given, where, may_lack=(found,))


def from_theirs(values: Any, where: str = "config.json") -> NetworkConfig:
    """The config of a config.json of ``transformers``.

    Raises:
        UserError: a network that vidray does not build, or a value of the wrong type or range.
    """
    kind = values.get("model_type") if isinstance(values, Mapping) else None
    kind = _TOWERS.get(str(kind), kind)
    if kind not in CONFIGS:
        raise UserError(
            f"{where} is of model_type {checked_json.shown(kind)}: vidray builds "
            f"{', '.join(CONFIGS)}"
        )
    if values.get("num_channels", 3) != 3 or values.get("in_chans", 3) != 3:
        raise UserError(f"{where} is of a network of other channels than red, green, blue")
    given = dict(values)
    if kind in ("clip", "siglip"):
        given = dict(values.get("vision_config") or values)
        if "projection_dim" in values:
            given["projection_dim"] = values["projection_dim"]
        architectures = values.get("architectures")
        named = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
        given["pooling"] = "patches" if named.endswith("ForImageClassification") else "projection"
    return _built(CONFIGS[kind], given, where)


def text_from_theirs(
    values: Mapping[str, Any], where: str = "config.json"
) -> ClipText | SiglipText:
    """The text tower's config, of a config.json that ``from_theirs`` has read.

    Raises:
        UserError: there is none, or a value is of the wrong type or range.
    """
    kinds: dict[Any, type[ClipText | SiglipText]] = {"clip": ClipText, "siglip": SiglipText}
    kind, text = values.get("model_type"), values.get("text_config")
    if kind not in kinds:
        raise UserError(
            f"{where} is of model_type {checked_json.shown(kind)}, which has no texts: give a "
            "model of clip or siglip, with both of its towers"
        )
    return _built(
        kinds[kind], dict(text) if isinstance(text, Mapping) else {}, f"{where} text_config"
    )


def _built(kind: type[T], given: dict[str, Any], where: str) -> T:
    """A config of the known keys of ``given``."""
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if "qkv_bias" in given and "qv_bias" in known:  # As VideoMAE's config called it at first.
        given["qv_bias"] = given["qkv_bias"]
    taken = {name: _one_side(name, given[name]) for name in known & set(given)}
    return checked_json.build(kind, taken, where, may_lack=(kind,))


def _one_side(name: str, value: Any) -> Any:
    """The side of a square that a config gives as height and width."""
    is_pair = isinstance(value, list) and len(value) == 2 and value[0] == value[1]
    return value[0] if is_pair and name in ("image_size", "patch_size", "crop_size") else value


def _check_range(name: str, value: Any) -> None:
    if isinstance(value, bool) or value is None or not isinstance(value, (int, float)):
        return
    least, most = (0, 64) if isinstance(value, float) else (1, _MOST.get(name, _MOST_PIXELS))
    if name in _FROM_ZERO:
        least = 0
    if name.endswith(("_prob", "_dropout", "_rate", "_range", "_eps")):
        most = 1
    if not least <= value <= most:
        raise UserError(f"{name} is {value}: it must be {least} to {most}")


def _check_patches(
    frames: int, tubelet: int, size_px: int, patch_px: tuple[int, int] | tuple[int, ...]
) -> None:
    """Raise UserError unless a clip holds a patch, and not too many."""
    if frames < tubelet or size_px < max(patch_px):
        raise UserError(
            f"a clip of {frames} frames of {size_px} px holds no patch of {tubelet} frames of "
            f"{patch_px[0]}x{patch_px[1]} px: take more frames, or larger ones"
        )
    patches = frames // tubelet * (size_px // patch_px[0]) * (size_px // patch_px[1])
    if patches > MOST_PATCHES:
        raise UserError(
            f"a clip of {frames} frames of {size_px} px has {patches} patches: at the most "
            f"{MOST_PATCHES}; take fewer frames, or smaller ones"
        )


# As published by their authors (MCG-NJU), the decoders of the pre-training too.
VIDEOMAE: dict[str, VideoMAE] = {
    "videomae_small": VideoMAE(
        hidden_size=384, num_attention_heads=6, intermediate_size=1536, decoder_hidden_size=192,
        decoder_num_attention_heads=3, decoder_intermediate_size=768,
    ),
    "videomae_base": VideoMAE(),
    "videomae_large": VideoMAE(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096,
        decoder_hidden_size=512, decoder_num_attention_heads=8, decoder_num_hidden_layers=12,
        decoder_intermediate_size=2048,
    ),
}  # fmt: skip
