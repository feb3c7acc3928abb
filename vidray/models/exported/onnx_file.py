"""An ONNX file from anybody, looked at before a runtime sees it; nothing is run, nothing else read.

What is allowed is what ``vidray.export`` writes: one graph of standard operators, without graphs
within it, all of its numbers in the file itself, with the inputs and outputs of ``Export``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from vidray.errors import UserError
from vidray.models.exported.protobuf import Reader, WireField

# Protobuf's own limit.
MOST_BYTES = (1 << 31) - 1
# The largest networks have 5,000 nodes; each node, shape and number in a list counts.
_MOST_FIELDS = 3_000_000
_MOST_SIDES = 8
_MOST_LENGTH = 1 << 31
_IR_VERSIONS, _OPSETS = range(3, 14), range(9, 27)
_FLOAT, _UINT8 = 1, 2
# Bytes of a number, by ONNX's code of its type; there is no text.
_SIZES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
# Lists of plain numbers that a tensor may have in place of bytes.
_LISTS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")

# All compute numbers of numbers: no control flow, no text, no files, no chance.
_OPERATORS_TEXT = """
Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast CastLike Ceil Clip Concat Constant
ConstantOfShape Conv ConvInteger ConvTranspose Cos CumSum DepthToSpace DequantizeLinear Div
DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand Flatten Floor GRU Gather GatherElements
GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GroupNormalization
HardSigmoid HardSwish Identity IsInf IsNaN InstanceNormalization LSTM LayerNormalization LeakyRelu
Less LessOrEqual Log LogSoftmax MatMul MatMulInteger Max MaxPool Mean Min Mish Mod Mul Neg NonZero
Not OneHot Or PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear RMSNormalization Range
Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin
ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize Round ScatterElements ScatterND Selu
Shape Sigmoid Sign Sin Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub
Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Where Xor Attention
RotaryEmbedding Swish
"""
OPERATORS = frozenset(_OPERATORS_TEXT.split())

_KINDS: dict[str, dict[int, WireField]] = {
    "model": {
        1: WireField("ir_version", "int"),
        2: WireField("producer_name", "text"),
        3: WireField("producer_version", "text"),
        4: WireField("domain", "text"),
        5: WireField("model_version", "int"),
        6: WireField("doc_string", "text"),
        7: WireField("graph", "graph"),
        8: WireField("opset_import", "opset", many=True),
    },
    "opset": {1: WireField("domain", "text"), 2: WireField("version", "int")},
    "graph": {
        1: WireField("node", "node", many=True),
        2: WireField("name", "text"),
        5: WireField("initializer", "tensor", many=True),
        10: WireField("doc_string", "text"),
        11: WireField("input", "value", many=True),
        12: WireField("output", "value", many=True),
        13: WireField("value_info", "value", many=True),
    },
    "node": {
        1: WireField("input", "text", many=True),
        2: WireField("output", "text", many=True),
        3: WireField("name", "text"),
        4: WireField("op_type", "text"),
        5: WireField("attribute", "attribute", many=True),
        6: WireField("doc_string", "text"),
        7: WireField("domain", "text"),
        8: WireField("overload", "text"),
    },
    "attribute": {
        1: WireField("name", "text"),
        2: WireField("f", "float"),
        3: WireField("i", "int"),
        4: WireField("s", "bytes"),
        5: WireField("t", "tensor"),
        7: WireField("floats", "float", many=True),
        8: WireField("ints", "int", many=True),
        9: WireField("strings", "bytes", many=True),
        13: WireField("doc_string", "text"),
        20: WireField("type", "int"),
    },
    "tensor": {
        1: WireField("dims", "int", many=True),
        2: WireField("data_type", "int"),
        4: WireField("float_data", "float", many=True),
        5: WireField("int32_data", "int", many=True),
        7: WireField("int64_data", "int", many=True),
        8: WireField("name", "text"),
        9: WireField("raw_data", "bytes"),
        10: WireField("double_data", "double", many=True),
        11: WireField("uint64_data", "int", many=True),
        12: WireField("doc_string", "text"),
        14: WireField("data_location", "int"),
    },
    "value": {
        1: WireField("name", "text"),
        2: WireField("type", "type"),
        3: WireField("doc_string", "text"),
    },
    "type": {1: WireField("tensor_type", "tensor type")},
    "tensor type": {1: WireField("elem_type", "int"), 2: WireField("shape", "shape")},
    "shape": {1: WireField("dim", "side", many=True)},
    "side": {1: WireField("dim_value", "int"), 2: WireField("dim_param", "text")},
}
_REFUSED = {
    ("tensor", 13): "its numbers lie in another file (external data)",
    ("tensor", 6): "it holds text",
    ("attribute", 6): "a node holds a graph of its own (a loop or a branch)",
    ("attribute", 11): "a node holds graphs of its own (a loop or a branch)",
    ("attribute", 21): "it holds functions of its own",
    ("model", 14): "it holds notes (metadata), which could be settings",
    ("model", 20): "it holds a training",
    ("model", 25): "it holds functions of its own",
}

Shape = tuple[int | None, ...]
Signature = Mapping[str, tuple[int, Shape]]
"""Name -> ONNX's code of its type, and its shape; None is any number."""


def signature(
    clip_shape: tuple[int, int, int, int], *, flow: bool, classes: int
) -> tuple[Signature, Signature]:
    """The inputs and outputs of an exported graph."""
    inputs: dict[str, tuple[int, Shape]] = {"clips": (_UINT8, (None, *clip_shape))}
    if flow:
        inputs["flow"] = (_FLOAT, (None, *clip_shape[:3], 2))
    return inputs, {"logits": (_FLOAT, (None, classes)), "embedding": (_FLOAT, (None, None))}


def check(data: memoryview, inputs: Signature, outputs: Signature) -> None:
    """Raise UserError unless a file is a graph that may be run.

    Args:
        data: the whole file.
        inputs, outputs: those that it must have, and no others.
    """
    try:
        if len(data) > MOST_BYTES:
            raise ValueError(f"it has {len(data)} bytes, and the format holds {MOST_BYTES}")
        reader = Reader(_KINDS, most_fields=_MOST_FIELDS, refused=_REFUSED)
        model = reader.read("model", data)
        _check_versions(model)
        graph = model.get("graph", {})
        for node in graph.get("node", []):
            _check_node(node)
        for tensor in _tensors(graph):
            _check_tensor(tensor)
        _check_values("input", graph.get("input", []), inputs)
        _check_values("output", graph.get("output", []), outputs)
    except ValueError as error:
        raise UserError(str(error)) from None


def _check_versions(model: Mapping[str, Any]) -> None:
    if model.get("ir_version", 0) not in _IR_VERSIONS:
        raise ValueError(f"its format is of version {model.get('ir_version')}, which is not known")
    opsets = model.get("opset_import", [])
    if not opsets:
        raise ValueError("it names no set of operators")
    for opset in opsets:
        domain, version = opset.get("domain", ""), opset.get("version", 0)
        if domain not in ("", "ai.onnx"):
            raise ValueError(f"it wants operators of {domain[:60]!r}, which are not ONNX's own")
        if version not in _OPSETS:
            raise ValueError(f"it wants ONNX's operators of version {version}")


def _check_node(node: Mapping[str, Any]) -> None:
    operator, domain = node.get("op_type", ""), node.get("domain", "")
    if domain not in ("", "ai.onnx") or node.get("overload"):
        raise ValueError(f"its operator {operator[:60]!r} is of {domain[:60]!r}, not ONNX's own")
    if operator not in OPERATORS:
        raise ValueError(f"its operator {operator[:60]!r} is not one that networks need")


def _tensors(graph: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from graph.get("initializer", [])
    for node in graph.get("node", []):
        yield from (each["t"] for each in node.get("attribute", []) if "t" in each)


def _check_tensor(tensor: Mapping[str, Any]) -> None:
    name = tensor.get("name", "")[:60]
    dims, size = tensor.get("dims", []), _SIZES.get(tensor.get("data_type", 0))
    if tensor.get("data_location"):
        raise ValueError(f"numbers of {name!r} lie in another file (external data)")
    if size is None:
        raise ValueError(f"{name!r} is of a type that is not known")
    if len(dims) > _MOST_SIDES or not all(0 <= side < _MOST_LENGTH for side in dims):
        raise ValueError(f"{name!r} has a shape that cannot be")
    count = math.prod(dims)
    lists = [tensor[kind] for kind in _LISTS if tensor.get(kind)]
    if "raw_data" in tensor:
        fits = not lists and len(tensor["raw_data"]) == count * size
    else:
        fits = len(lists[0] if lists else []) == count and len(lists) <= 1
    if not fits:
        raise ValueError(f"{name!r} does not have the bytes of its shape")


def _check_values(what: str, values: list[Mapping[str, Any]], wanted: Signature) -> None:
    names = [value.get("name", "") for value in values]
    if sorted(names) != sorted(wanted):
        shown = ", ".join(name[:30] for name in names[:4])
        raise ValueError(f"its {what}s are {shown}, where {', '.join(wanted)} must be")
    for value in values:
        code, shape = wanted[value["name"]]
        kind = value.get("type", {}).get("tensor_type", {})
        sides = [side.get("dim_value") for side in kind.get("shape", {}).get("dim", [])]
        fits = len(sides) == len(shape) and all(
            side is None if expected is None and k == 0 else expected in (None, side)
            for k, (side, expected) in enumerate(zip(sides, shape, strict=False))
        )
        if kind.get("elem_type") != code or not fits:
            raise ValueError(f"its {what} {value['name']} is of another type or shape")
