"""What model.json says of an exported network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vidray.errors import UserError
from vidray.models.names import ExportPrecision, Runtime

# TensorRT makes its engine of the graph where it runs.
IS_GRAPH: tuple[Runtime, ...] = ("onnx", "openvino", "tensorrt")


@dataclass(frozen=True, kw_only=True)
class Export:
    """How a network was exported.

    A graph takes ``clips``, ``uint8 (N, T, H, W, 3)`` after ``Preprocessing.select``, and where the
    network takes it ``flow``, ``float32 (N, T, H, W, 2)``. It gives ``logits``, ``float32 (N, K)``,
    and the head's input, ``embedding``, ``float32 (N, D)``.
    """

    to: Runtime
    """The runtime that runs it."""
    precision: ExportPrecision
    """Number format of its weights and products."""
    parent_digest: str
    """``name_and_digest`` of the model folder that was exported."""

    def __post_init__(self) -> None:
        if not re.fullmatch("[0-9a-f]{12}", self.parent_digest):
            raise UserError(f"parent_digest is {self.parent_digest[:60]!r}: twelve hex digits")


def is_graph(info: Mapping[str, Any]) -> bool:
    """Whether a checked model.json is of a network that PyTorch does not run."""
    exported = info.get("exported")
    return exported is not None and exported["to"] in IS_GRAPH


def runtime_of(info: Mapping[str, Any]) -> Runtime:
    """What runs the network of a checked model.json; PyTorch, if nothing else is said."""
    exported = info.get("exported")
    found: Runtime = "torch" if exported is None else exported["to"]
    return found
