"""OpenVINO's graph of XML from anybody, looked at before OpenVINO sees it; nothing else is read.

What is allowed is what ``vidray.export`` writes: layers of OpenVINO's own sets of operators, none
with a graph in it, whose constants lie within the file of weights beside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NoReturn
from xml.parsers import expat

from vidray.errors import UserError

# The largest networks have 60,000 elements of each kind.
_MOST_ELEMENTS = 2_000_000
_MOST_DEPTH = 8
_PIECE_BYTES = 1 << 20

# Element -> those it may be in.
_WITHIN: dict[str, tuple[str, ...]] = {
    "net": ("",),
    "layers": ("net",),
    "edges": ("net",),
    "layer": ("layers",),
    "edge": ("edges",),
    "data": ("layer",),
    "input": ("layer",),
    "output": ("layer",),
    "rt_info": ("layer", "port"),
    "port": ("input", "output"),
    "dim": ("port",),
    "attribute": ("rt_info",),
}
_OPSET = re.compile(r"opset([1-9]|1[0-9])")
_NUMBER = re.compile(r"[0-9]{1,18}")
# All compute numbers of numbers: no control flow, no state, no text, no chance.
_LAYERS_TEXT = """
Abs AdaptiveAvgPool AdaptiveMaxPool Add AvgPool BatchNormInference Broadcast Ceiling Clamp Concat
Const Convert ConvertLike Convolution ConvolutionBackpropData Cos CumSum DepthToSpace Divide
Einsum Elu Equal Erf Exp Eye FakeConvert FakeQuantize Floor FloorMod GRUCell GRUSequence Gather
GatherElements GatherND Gelu Greater GreaterEqual GroupConvolution GroupNormalization HSigmoid
HSwish HardSigmoid Interpolate LSTMCell LSTMSequence Less LessEqual Log LogSoftmax LogicalAnd
LogicalNot LogicalOr LogicalXor MVN MatMul MaxPool Maximum Minimum Mish Mod Multiply Negative
NonZero NormalizeL2 NotEqual OneHot PReLU Pad Parameter Power Range ReLU ReduceL1 ReduceL2
ReduceLogicalAnd ReduceLogicalOr ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Reshape
Result Roll Round ScaledDotProductAttention ScatterElementsUpdate ScatterNDUpdate ScatterUpdate
Select Selu ShapeOf Sigmoid Sign Sin Slice SoftMax SoftPlus Softmax Softplus SoftSign SpaceToDepth
Split Sqrt SquaredDifference Squeeze StridedSlice Subtract Swish Tan Tanh Tile TopK Transpose
Unsqueeze VariadicSplit IsFinite IsInf IsNaN
"""
LAYERS = frozenset(_LAYERS_TEXT.split())
_TYPES_TEXT = """
f64 f32 f16 bf16 i64 i32 i16 i8 i4 u64 u32 u16 u8 u4 u1 boolean
"""
_TYPES = frozenset(_TYPES_TEXT.split())


def check(data: memoryview, *, weights_bytes: int) -> None:
    """Raise UserError unless XML is a graph that may be read.

    Args:
        data: the whole file.
        weights_bytes: size of the file of weights.
    """
    try:
        _Elements(weights_bytes).read(data)
    except expat.ExpatError as error:
        raise UserError(f"it is damaged ({error})") from None
    except ValueError as error:
        raise UserError(str(error)) from None


class _Elements:
    """The elements of a file, as expat meets them."""

    def __init__(self, weights_bytes: int) -> None:
        self._weights_bytes, self._seen = weights_bytes, 0
        self._open = [""]
        self._layer = ""

    def read(self, data: memoryview) -> None:
        parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.XmlDeclHandler = _declaration
        parser.StartDoctypeDeclHandler = _refuse_doctype
        parser.EntityDeclHandler = _refuse_doctype
        parser.ExternalEntityRefHandler = _refuse_doctype
        parser.ProcessingInstructionHandler = _refuse_instruction
        parser.StartCdataSectionHandler = _refuse_instruction
        for begin in range(0, len(data), _PIECE_BYTES):
            piece = bytes(data[begin : begin + _PIECE_BYTES])
            if b"\0" in piece:  # Markup in UTF-16 has one in every other place.
                raise ValueError("it is not written in UTF-8")
            parser.Parse(piece, False)
        parser.Parse(b"", True)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._seen += 1
        if self._seen > _MOST_ELEMENTS or len(self._open) > _MOST_DEPTH:
            raise ValueError("it has more parts than any network")
        parent = self._open[-1]
        if parent not in _WITHIN.get(name, ()):
            raise ValueError(f"it has an element {name[:60]!r} within {parent[:60]!r}")
        self._open.append(name)
        if name == "layer":
            self._check_layer(attributes)
        elif name == "data" and self._layer == "Const":
            self._check_constant(attributes)

    def _end(self, _name: str) -> None:
        self._open.pop()

    def _check_layer(self, attributes: Mapping[str, str]) -> None:
        self._layer = attributes.get("type", "")
        version = attributes.get("version", "")
        if not _OPSET.fullmatch(version):
            raise ValueError(
                f"its layer {self._layer[:60]!r} is of {version[:60]!r}, not OpenVINO's own"
            )
        if self._layer not in LAYERS:
            raise ValueError(f"its layer {self._layer[:60]!r} is not one that networks need")

    def _check_constant(self, attributes: Mapping[str, str]) -> None:
        if attributes.get("element_type", "") not in _TYPES:
            raise ValueError("a constant is of a type that is not known")
        if unknown := sorted(attributes.keys() - {"element_type", "shape", "offset", "size"}):
            raise ValueError(f"a constant has {unknown[0][:60]!r}, which is not known")
        given = [attributes.get(name, "") for name in ("offset", "size")]
        if not all(_NUMBER.fullmatch(number) for number in given):
            raise ValueError("a constant does not say where its numbers lie")
        if sum(map(int, given)) > self._weights_bytes:
            raise ValueError("a constant lies beyond the end of the file of weights")


def _declaration(_version: str, encoding: str | None, _standalone: int) -> None:
    if encoding is not None and encoding.lower() not in ("utf-8", "us-ascii"):
        raise ValueError(f"it is written in {encoding[:60]!r}, not in UTF-8")


def _refuse_doctype(*_: object) -> NoReturn:
    raise ValueError("it declares a document type or entities, which can name other files")


def _refuse_instruction(*_: object) -> NoReturn:
    raise ValueError("it has instructions for another program")
