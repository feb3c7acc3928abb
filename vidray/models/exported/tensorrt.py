"""Exported networks run by TensorRT on an NVIDIA GPU; its engine is built where it runs.

A model folder holds the graph and no engine: an engine is of one kind of GPU and one TensorRT, and
reading one trusts whoever wrote it. The engine that is built is kept in a private folder of the
user's cache (``$XDG_CACHE_HOME`` or ~/.cache), and read again from there alone.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorrt
import torch
from numpy.typing import NDArray

from vidray.errors import UserError
from vidray.models.exported.model import Opening, Outputs, RunGraph
from vidray.models.exported.onnx import GRAPH, checked_bytes

# Clips that a pass takes, and those that the engine is fastest at.
_MOST_CLIPS, _USUAL_CLIPS = 16, 16
_WORKSPACE_BYTES = 4 << 30
# What layers may be computed in beside float32. int8 is where the graph says so.
_FLAGS = {"float32": (), "float16": ("FP16",), "bfloat16": ("BF16",), "int8": ("INT8", "FP16")}


def open_graph(folder: Path, opening: Opening) -> RunGraph:
    """The graph of ``network.onnx`` as an engine for this machine's GPU.

    Raises:
        UserError: it is damaged, holds what no export does, or there is no GPU.
    """
    if opening.device != "cuda" or not torch.cuda.is_available():
        raise UserError(
            "it is exported to tensorrt, which runs on an NVIDIA GPU, and there is none for it: "
            "label with --gpus-per-predictor 1, or export it to openvino or onnx"
        )
    data = checked_bytes(folder, opening)
    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    engine = _kept(_key(data, opening), logger)
    if engine is None:
        built = _build(data, opening, logger, folder / GRAPH)
        _keep(_key(data, opening), built)
        engine = tensorrt.Runtime(logger).deserialize_cuda_engine(built)
    return _Engine(engine)


def _build(data: bytes, opening: Opening, logger: Any, shown: Path) -> bytes:
    """A serialised engine of a graph; it takes minutes."""
    builder = tensorrt.Builder(logger)
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse(data):
        said = "; ".join(parser.get_error(k).desc() for k in range(min(parser.num_errors, 2)))
        raise UserError(f"{shown} is no graph that TensorRT can run ({said[:200]}): export again")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, _WORKSPACE_BYTES)
    for name in _FLAGS[opening.export.precision]:
        config.set_flag(getattr(tensorrt.BuilderFlag, name))
    if opening.export.precision == "float32":
        config.clear_flag(tensorrt.BuilderFlag.TF32)
    profile = builder.create_optimization_profile()
    shapes = {"clips": opening.clip_shape}
    if opening.flow:
        shapes["flow"] = (*opening.clip_shape[:3], 2)
    for name, shape in shapes.items():
        profile.set_shape(name, (1, *shape), (_USUAL_CLIPS, *shape), (_MOST_CLIPS, *shape))
    config.add_optimization_profile(profile)
    built = builder.build_serialized_network(network, config)
    if built is None:
        raise UserError(f"TensorRT could not build an engine of {shown}: export it to onnx")
    return bytes(built)


def _key(data: bytes, opening: Opening) -> str:
    """What an engine is of: the graph, TensorRT, the GPU, the number format."""
    facts = (tensorrt.__version__, torch.cuda.get_device_name(), opening.export.precision)
    return hashlib.sha256(repr(facts).encode() + data).hexdigest()


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "vidray" / "tensorrt"


def _kept(key: str, logger: Any) -> Any:
    """The engine that this user has built before; None where there is none that is surely so."""
    path = _cache() / key
    if not (_is_private(_cache()) and _is_private(path)):
        return None
    return tensorrt.Runtime(logger).deserialize_cuda_engine(path.read_bytes())


def _is_private(path: Path) -> bool:
    """Whether a file or folder is this user's, no link, and nobody else may write to it."""
    try:
        found = path.lstat()
    except OSError:
        return False
    is_open = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return found.st_uid == os.getuid() and not is_open and not path.is_symlink()


def _keep(key: str, built: bytes) -> None:
    try:
        _cache().mkdir(parents=True, exist_ok=True, mode=0o700)
        if not _is_private(_cache()):
            return
        with tempfile.NamedTemporaryFile(dir=_cache(), delete=False) as file:  # 0600
            file.write(built)
        Path(file.name).replace(_cache() / key)
    except OSError:  # A home that cannot be written to: the next process builds it again.
        return


class _Engine:
    """An engine with buffers on the GPU; one call at a time."""

    def __init__(self, engine: Any) -> None:
        self._context, self._lock = engine.create_execution_context(), threading.Lock()
        self._stream = torch.cuda.Stream()

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> Outputs:
        """The outputs for ``clips`` and, where the network takes it, ``flow``."""
        parts = range(0, len(inputs["clips"]), _MOST_CLIPS)
        found = [
            self._run({name: each[k : k + _MOST_CLIPS] for name, each in inputs.items()})
            for k in parts
        ]
        logits, embeddings = zip(*found, strict=True)
        return np.concatenate(logits), np.concatenate(embeddings)

    def _run(self, inputs: Mapping[str, NDArray[Any]]) -> Outputs:
        with self._lock, torch.cuda.stream(self._stream):
            there = {
                name: torch.from_numpy(np.require(each, requirements=["C", "W"])).cuda()
                for name, each in inputs.items()
            }
            for name, tensor in there.items():
                self._context.set_input_shape(name, tuple(tensor.shape))
            for name in ("logits", "embedding"):
                shape = tuple(self._context.get_tensor_shape(name))
                there[name] = torch.empty(shape, dtype=torch.float32, device="cuda")
            for name, tensor in there.items():
                self._context.set_tensor_address(name, tensor.data_ptr())
            if not self._context.execute_async_v3(self._stream.cuda_stream):
                raise RuntimeError("TensorRT could not run its engine")
            self._stream.synchronize()
            return there["logits"].cpu().numpy(), there["embedding"].cpu().numpy()
