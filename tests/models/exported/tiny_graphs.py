"""Exported networks of a few hundred numbers, made by hand: no PyTorch is asked."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from vidray.models.exported.description import Export
from vidray.models.names import Runtime
from vidray.models.preprocess import Preprocessing
from vidray.tables.run_folder import GRAPHS
from vidray.video.clips import ClipSettings

CLIP = (2, 16, 16, 3)  # (T, H, W, 3)
CLASSES = ("jump", "run")
LENGTH = 3  # of the embedding: the mean of each colour


def weights() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Matrix ``(3, 2)`` and bias ``(2,)`` of the head."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(LENGTH, 2)).astype("f4"), rng.normal(size=2).astype("f4")


def expected(clips: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logits and embeddings by NumPy."""
    matrix, bias = weights()
    embedding = clips.astype(np.float64).mean(axis=(1, 2, 3)) / 255
    return embedding @ matrix + bias, embedding


def onnx_graph() -> onnx.ModelProto:
    """``clips`` -> the mean of each colour -> a linear layer."""
    matrix, bias = weights()
    nodes = [
        helper.make_node("Cast", ["clips"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["numbers", "axes"], ["means"], keepdims=0),
        helper.make_node("Div", ["means", "most"], ["embedding"]),
        helper.make_node("Gemm", ["embedding", "matrix", "bias"], ["logits"]),
    ]
    numbers = {
        "axes": np.array([1, 2, 3], np.int64), "most": np.float32(255),
        "matrix": matrix, "bias": bias,
    }  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("clips", TensorProto.UINT8, ["batch", *CLIP])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", LENGTH]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in numbers.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def info(to: Runtime = "onnx", **exported: Any) -> dict[str, Any]:
    """model.json of the graph."""
    export = Export(to=to, precision="float32", parent_digest="0" * 12)
    pre = Preprocessing(num_frames=2, size_px=16, mean=(0, 0, 0), std=(1, 1, 1))
    return {
        "family": "deep",
        "name": "resnet18_avg",
        "class_names": list(CLASSES),
        "network": {"name": "resnet18_avg", "num_classes": 2},
        "preprocessing": pre.to_json(),
        "clip": dataclasses.asdict(ClipSettings(frames_per_clip=2, size_px=16)),
        "exported": {**dataclasses.asdict(export), **exported},
    }


def write(folder: Path, to: Runtime = "onnx", proto: onnx.ModelProto | None = None) -> Path:
    """A model folder of ``proto``, or of ``onnx_graph``."""
    folder.mkdir(parents=True, exist_ok=True)
    proto = proto or onnx_graph()
    if to == "openvino":
        made = openvino.Core().read_model(proto.SerializeToString(), b"")
        openvino.save_model(made, folder / "network.xml", compress_to_fp16=False)
        text = (folder / "network.xml").read_text().partition("\t<rt_info>\n\t\t<")[0]
        (folder / "network.xml").write_text(text if "</net>" in text else f"{text}</net>\n")
    else:
        (folder / "network.onnx").write_bytes(proto.SerializeToString())
    data = b"".join((folder / name).read_bytes() for name in GRAPHS[to])
    described = info(to, sha256=hashlib.sha256(data).hexdigest())
    (folder / "model.json").write_text(json.dumps(described))
    return folder
