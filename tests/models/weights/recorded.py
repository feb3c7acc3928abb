"""Formats of packages that not every machine has: their names and shapes, and what they answered.

``recorded.json`` is made by ``record_formats.py``. Weights are not stored: they follow from the
names (``made_weights``), and so does the clip.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

FILE = Path(__file__).with_name("recorded.json")
CLASSES = 7


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A network of another package: what its file looks like, and its answer."""

    package: str
    model: str
    """Ours."""
    shape: tuple[int, int, int]
    """Frames, rows and columns of the clip."""
    key: str
    """Under which it keeps its weights in a checkpoint."""
    names: dict[str, tuple[int, ...]]
    logits: list[list[float]]

    def __str__(self) -> str:
        return f"{self.package.partition(' ')[0]}-{self.model}"

    @property
    def expected(self) -> Tensor:
        """Logits ``float (2, CLASSES)``."""
        return torch.tensor(self.logits)


def shapes_of(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what a network keeps."""
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def packed(names: dict[str, tuple[int, ...]]) -> dict[str, dict[str, list[int]]]:
    """The names by what they begin with: ``{"bn1": {"weight bias": [64]}}``."""
    found: dict[str, dict[tuple[int, ...], list[str]]] = {}
    for name, shape in names.items():
        begin, _, end = name.rpartition(".")
        found.setdefault(begin, {}).setdefault(shape, []).append(end)
    return {
        begin: {" ".join(ends): list(shape) for shape, ends in shapes.items()}
        for begin, shapes in found.items()
    }


def unpacked(found: dict[str, dict[str, list[int]]]) -> dict[str, tuple[int, ...]]:
    """The inverse of ``packed``."""
    return {
        f"{begin}.{end}".lstrip("."): tuple(shape)
        for begin, shapes in found.items()
        for ends, shape in shapes.items()
        for end in ends.split()
    }


def read() -> list[Recorded]:
    """All of them."""
    rows: list[dict[str, Any]] = json.loads(FILE.read_text())
    return [
        Recorded(**{**row, "shape": tuple(row["shape"]), "names": unpacked(row["names"])})
        for row in rows
    ]


def write(rows: list[Recorded]) -> None:
    """Store them, a line for each part of a network."""
    texts = []
    for row in sorted(rows, key=lambda row: (row.package, row.model, row.key)):
        values = asdict(row)
        names = values.pop("names")
        head = json.dumps(values)[1:-1]
        lines = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in packed(names).items())
        texts.append(f'{{{head}, "names": {{\n{lines}\n}}}}')
    FILE.write_text("[\n" + ",\n".join(texts) + "\n]\n")
