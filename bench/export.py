"""Every deep architecture as one graph, by each runtime and by PyTorch, against float64.

    python -m bench.export                      # half an hour on one core
    python -m bench.export --models s3d c3d

Prints the table of docs/export.md: the largest difference of a logit from PyTorch's in float64,
over the largest logit, for batches of 1, 2 and 5 clips of noise, of a fresh network of few pixels.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from vidray.errors import UserError
from vidray.export import graph
from vidray.models.exported import onnx
from vidray.models.exported import openvino as by_openvino
from vidray.models.exported.description import Export
from vidray.models.exported.model import Opening, Outputs, RunGraph
from vidray.models.folder import DeepModel
from vidray.models.names import DEEP, FLOW_MODELS
from vidray.models.networks.build import build
from vidray.models.preprocess import KINETICS, Preprocessing
from vidray.video.clips import ClipSettings

_BATCHES = (1, 2, 5)
_BY = ("pytorch", "onnx", "openvino")
_LEAST_LOGIT = 1e-6  # Fresh networks of few pixels may say next to nothing.
# Frames and pixels that a family cannot do with less of; others have 4 and 32.
_LEAST = {
    "c3d": (16, 112), "efficientnet": (4, 64), "mvit": (16, 64), "s3d": (14, 32),
    "slowfast": (16, 32), "swin3d": (8, 64), "x3d": (8, 64), "videomae": (4, 32),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ExportBench:
    """Which architectures are exported."""

    models: tuple[str, ...] = DEEP
    """Names of deep models."""


def tiny(name: str, *, classes: int = 3) -> DeepModel:
    """A fresh network of an architecture, for small clips."""
    frames, size_px = _LEAST.get(name.partition("_")[0].partition("r50")[0], (4, 32))
    torch.manual_seed(0)
    size = {"frames": frames, "size_px": size_px}
    built = build(name, num_classes=classes, weights="none", frames=frames, size_px=size_px)
    mean, std = KINETICS
    pre = Preprocessing(num_frames=frames, size_px=size_px, mean=mean, std=std,
                        flow=name in FLOW_MODELS)  # fmt: skip
    _settle(built.network, pre)
    return DeepModel(
        name=name,
        class_names=tuple("abcdefgh"[:classes]),
        network=built.network.eval(),
        preprocessing=pre,
        clip=ClipSettings(frames_per_clip=frames, size_px=size_px),
        info={"network": {"name": name, "num_classes": classes, **size}},
        head=built.head,
    )


def _settle(network: torch.nn.Module, pre: Preprocessing) -> None:
    """Give batch norms the statistics of noise: a fresh efficientnet_b0 says 0 to everything."""
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # The mean of all passes, of which there is one.
    with torch.no_grad():
        network.train()(torch.randn(8, pre.num_channels, pre.num_frames, pre.size_px, pre.size_px))


def differences(model: DeepModel) -> dict[str, float]:
    """Runtime, or ``pytorch`` -> the largest difference of a logit from PyTorch's in float64, over
    the largest logit.

    Raises:
        UserError: it cannot be exported, or a runtime cannot run it.
    """
    proto = graph.to_onnx(model)
    wanted = _graph(model, torch.float64)
    here = _graph(model, torch.float32)

    def by_pytorch(inputs: Mapping[str, NDArray[Any]]) -> Outputs:
        with torch.no_grad():
            logits, embedding = here(*map(torch.from_numpy, inputs.values()))
        return logits.numpy(), embedding.numpy()

    found = {"pytorch": _largest(by_pytorch, wanted, model)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / onnx.GRAPH).write_bytes(proto.SerializeToString())
        graph.save_openvino(graph.to_openvino(proto, model.name), folder)
        for to, module in (("onnx", onnx), ("openvino", by_openvino)):
            export = Export(to=to, precision="float32", parent_digest="0" * 12)  # type: ignore[arg-type]
            run = module.open_graph(folder, _opening(model, export))
            found[to] = _largest(run, wanted, model)
    return found


def _graph(model: DeepModel, dtype: torch.dtype) -> graph.Graph:
    network, head = copy.deepcopy((model.network, model.head))
    return graph.Graph(network, head or network, model.preprocessing, dtype)


def _opening(model: DeepModel, export: Export) -> Opening:
    return Opening(
        export=export, clip_shape=model.preprocessing.clip_shape, flow=model.preprocessing.flow,
        classes=len(model.class_names), device="cpu", threads=1,
    )  # fmt: skip


def _largest(run: RunGraph, wanted: graph.Graph, model: DeepModel) -> float:
    each = [_difference(run, wanted, model, batch) for batch in _BATCHES]
    return float(np.max(each))  # NaN shows, which max() would hide.


def _difference(run: RunGraph, wanted: graph.Graph, model: DeepModel, batch: int) -> float:
    rng = np.random.default_rng(batch)
    shape = (batch, *model.preprocessing.clip_shape)
    inputs = {"clips": rng.integers(0, 256, shape, np.uint8)}
    if model.preprocessing.flow:
        inputs["flow"] = rng.uniform(-1, 1, (*shape[:4], 2)).astype(np.float32)
    with torch.no_grad():
        logits, embedding = wanted(*map(torch.from_numpy, inputs.values()))
    found = run(inputs)
    assert found[1].shape == embedding.shape
    most = max(float(logits.abs().max()), _LEAST_LOGIT)
    return float(np.abs(found[0] - logits.numpy()).max()) / most


def row(name: str) -> str:
    """A line of the table."""
    try:
        found = differences(tiny(name))
    except UserError as error:
        return f"| `{name}` | no | no | no | {error} |"
    return f"| `{name}` | {' | '.join(f'{found[by]:.0e}' for by in _BY)} | |"


def main(config: ExportBench) -> None:
    """Print the table, a line as soon as it is known."""
    print("| model | PyTorch | ONNX Runtime | OpenVINO | why not |\n|---|---|---|---|---|")
    for name in config.models:
        print(row(name), flush=True)


if __name__ == "__main__":
    main(tyro.cli(ExportBench))
