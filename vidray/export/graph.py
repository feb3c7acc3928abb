"""A network as one graph: stored pixels in, logits and embedding out."""

from __future__ import annotations

import io
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from vidray.models.folder import DeepModel
from vidray.models.preprocess import Preprocessing

# Batches that a graph takes; one end of a range that torch.export wants to know.
_MOST_CLIPS = 4096


class Graph(nn.Module):
    """A network with the arithmetic of its preprocessing, which then cannot be got wrong.

    Args:
        network: takes ``float (N, C, T, H, W)``.
        head: its part that takes embeddings.
    """

    def __init__(self, network: nn.Module, head: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network, self.head = network, head
        self.preprocessing = preprocessing

    def forward(self, clips: Tensor, flow: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``uint8 (N, T, H, W, 3)``, ``float32 (N, T, H, W, 2)`` -> ``(N, K)``, ``(N, D)``."""
        seen: list[Tensor] = []
        handle = self.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            logits = self.network(self.preprocessing.to_input(clips, flow))
        finally:
            handle.remove()
        return logits, seen[0]


def example_inputs(preprocessing: Preprocessing, *, clips: int = 2) -> tuple[Tensor, ...]:
    """Inputs of ``Graph`` of the right shapes: black clips, and flow where it takes any."""
    shape = preprocessing.clip_shape
    pixels = torch.zeros((clips, *shape), dtype=torch.uint8)
    return (pixels, torch.zeros((clips, *shape[:3], 2))) if preprocessing.flow else (pixels,)


def to_onnx(model: DeepModel) -> Any:
    """The ONNX program of a model, with a batch of any size; ``torch.onnx``'s, by torch.export."""
    assert model.head is not None
    graph = Graph(model.network, model.head, model.preprocessing).eval()
    inputs = example_inputs(model.preprocessing)
    batch = torch.export.Dim("batch", min=1, max=_MOST_CLIPS)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # Of torch.onnx about itself.
        return torch.onnx.export(
            graph,
            inputs,
            dynamo=True,
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            input_names=["clips", "flow"][: len(inputs)],
            output_names=["logits", "embedding"],
            verbose=False,
        )


def onnx_bytes(program: Any) -> bytes:
    """The file of ``to_onnx``."""
    file = io.BytesIO()
    program.save(file)
    return file.getvalue()
