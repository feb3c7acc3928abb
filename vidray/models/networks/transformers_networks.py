"""Networks of ``transformers`` as ours: clips ``float (N, 3, T, H, W)`` to logits, a head of ours.

Those of clips are the classification models of ``transformers`` themselves, under its own names;
those of images see every frame, and their embeddings are averaged over the clip.
"""

from __future__ import annotations

from typing import Any

import transformers
from torch import Tensor, nn
from torch.nn import functional

from vidray.models.transformers_config import Clip, Siglip


class VideoMAENetwork(transformers.VideoMAEForVideoClassification):  # type: ignore[misc]
    """VideoMAE (Tong et al. 2022): the mean of the patches, or the first one, and a norm."""

    def forward(self, clips: Tensor) -> Tensor:
        """``float (N, 3, T, H, W)`` -> ``(N, num_classes)``."""
        logits: Tensor = super().forward(clips.transpose(1, 2)).logits
        return logits


class VivitNetwork(transformers.VivitForVideoClassification):  # type: ignore[misc]
    """ViViT (Arnab et al. 2021): the class token."""

    def forward(self, clips: Tensor) -> Tensor:
        """``float (N, 3, T, H, W)`` -> ``(N, num_classes)``."""
        frames = clips.shape[2]
        if frames != self.config.num_frames:
            raise ValueError(f"clips of {frames} frames: it takes {self.config.num_frames}")
        logits: Tensor = super().forward(clips.transpose(1, 2)).logits
        return logits


class Vjepa2Network(transformers.VJEPA2ForVideoClassification):  # type: ignore[misc]
    """V-JEPA 2 (Assran et al. 2025): pooled by attention; its predictor is left out."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        del self.vjepa2.predictor  # It is no part of a classification, and would get no gradient.

    def forward(self, clips: Tensor) -> Tensor:
        """``float (N, 3, T, H, W)`` -> ``(N, num_classes)``."""
        logits: Tensor = super().forward(clips.transpose(1, 2)).logits
        return logits


class FrameNetwork(nn.Module):
    """CLIP's or SigLIP's vision tower on every frame; embeddings averaged over the clip.

    Args:
        config: of the tower, and which embedding is taken.
        vision_model: frames to patches and a pooled vector, as ``transformers`` has it.
        visual_projection: pooled vector to the space of texts.
        classifier: embeddings ``float (N, D)`` to logits.
    """

    def __init__(
        self,
        config: Clip | Siglip,
        vision_model: nn.Module,
        visual_projection: nn.Module,
        classifier: nn.Module,
    ) -> None:
        super().__init__()
        self.image_size, self.pooling = config.image_size, config.pooling
        self.class_tokens = int(config.KIND == "clip")  # Before the patches.
        self.vision_model = vision_model
        self.visual_projection = visual_projection
        self.classifier = classifier

    def forward(self, clips: Tensor) -> Tensor:
        """``float (N, 3, T, H, W)`` -> ``(N, num_classes)``."""
        frames = clips.transpose(1, 2)  # (N, T, 3, H, W)
        embeddings = self.embed_frames(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        logits: Tensor = self.classifier(embeddings.mean(dim=1))  # (N, T, D) -> (N, num_classes)
        return logits

    def embed_frames(self, frames: Tensor) -> Tensor:
        """``float (N, 3, H, W)`` -> ``(N, D)``."""
        other_size = frames.shape[-1] != self.image_size
        found = self.vision_model(frames, interpolate_pos_encoding=other_size)
        if self.pooling == "patches":
            patches: Tensor = found.last_hidden_state[:, self.class_tokens :].mean(dim=1)
            return patches
        return functional.normalize(self.visual_projection(found.pooler_output), dim=-1)
