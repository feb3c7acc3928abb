"""A network with the parts that training needs: its blocks and its head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network and its parts; every builder of this package returns one."""

    network: nn.Module
    """Clips ``float (N, C, T, H, W)`` to logits ``float (N, num_classes)``."""
    blocks: list[nn.Module]
    """Stages from input to output, without the head; they can be checkpointed or frozen. Parts
    between or after them (a last norm, the pooling over time) belong to none."""
    head: nn.Module
    """The submodule of ``network`` that maps embeddings ``(N, D)`` to logits."""
    loaded: str | None = None
    """The initial weights that were loaded, and those that were not; one line."""
    origin: str | None = None
    """Whose names those weights have, a word of ``weights.origins``: it says what is fed."""
    variant: str | None = None
    """How it is run, see ``names.VARIANTS``; it follows from the origin, too."""
    channels: Mapping[str, Sequence[int]] | None = None
    """What pruning has left of its layers, see ``cut_channels``; it follows from weights, too."""
    source: Mapping[str, Any] | None = None
    """Repository, commit and licence of initial weights of ``transformers``, for model.json."""

    @property
    def is_transformer(self) -> bool:
        """Whether its blocks normalise each token: convolutional networks use batch norm or none.

        A fact of the modules, so that networks made by other libraries are told apart too.
        """
        return any(
            isinstance(module, nn.LayerNorm) for block in self.blocks for module in block.modules()
        )

    def embed(self, clips: Tensor) -> Tensor:
        """The head's input: ``float (N, C, T, H, W)`` -> ``float (N, D)``."""
        seen: list[Tensor] = []

        def keep(_head: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen.append(inputs[0])

        # A hook, so that torchvision's networks, which have no such method, are no exception.
        handle = self.head.register_forward_pre_hook(keep)
        try:
            self.network(clips)
        finally:
            handle.remove()
        return seen[0]
