"""What model.json says of an exported network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vidray.errors import UserError
from vidray.models.names import NOT_OFFERED, ExportPrecision, Ranges, Runtime

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
    ranges: Ranges | None = None
    """Where int8 takes its ranges from; None of other formats."""
    parameters: int | None = None
    """Of the network."""
    flops_per_clip: int | None = None
    """Of the network; None where PyTorch cannot count them."""
    sha256: str | None = None
    """Of its files one after the other, in hexadecimal digits: a folder that was half copied, or
    that two exports wrote at once, is known by it."""

    def __post_init__(self) -> None:
        for name in ("parameters", "flops_per_clip"):
            if (getattr(self, name) or 0) < 0:
                raise UserError(f"{name} is {getattr(self, name)}: it must be 0 or more")
        if self.sha256 is not None and not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise UserError(f"sha256 is {self.sha256[:80]!r}: 64 hexadecimal digits")
        if why := NOT_OFFERED.get((self.to, self.precision)):
            raise UserError(f"{self.to} in {self.precision} is not offered: {why}")
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
