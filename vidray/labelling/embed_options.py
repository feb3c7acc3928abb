"""Settings of an extraction with a frozen network, as flags. No PyTorch here."""

from __future__ import annotations

from dataclasses import dataclass

from vidray.errors import UserError
from vidray.features.embedding import MOST_CROPS, MOST_VIEWS, EmbeddingPrecision


@dataclass(frozen=True, kw_only=True)
class EmbedOptions:
    """A frozen network whose embeddings are features, and the views that it is shown."""

    embed: str | None = None
    """Model folder of a deep model, local or in a bucket: what its head sees of each video becomes
    the feature family embedding. Alone it is the only family; families named with --families, or of
    another --preset, are extracted beside it."""
    embed_clips: int | None = None
    """Clips per video that the network is shown, one from each of as many equal stretches of its
    time. If not given, as many as it was trained on, and 4 at least: with one there is no
    deviation."""
    embed_crops: int = 1
    """Square crops per frame that the network is shown, from edge to edge. For models that learnt
    from clips made with jobs/clips.py --fit crop or resize_crop."""
    embed_precision: EmbeddingPrecision = "float32"
    """Number format in which the network of --embed computes. On GPUs, and processors that support
    it, bfloat16 is faster."""

    def __post_init__(self) -> None:
        for name, most in (("embed_clips", MOST_VIEWS), ("embed_crops", MOST_CROPS)):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= most:
                raise UserError(f"{name} is {value}: it must be 1 to {most}")
