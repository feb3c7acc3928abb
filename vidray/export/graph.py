"""A network as one graph: stored pixels in, logits and embedding out."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest import mock

import onnx
import torch
from torch import Tensor, nn
from torchvision.models.video import swin_transformer

from vidray.errors import UserError
from vidray.models.exported import onnx_file
from vidray.models.folder import DeepModel
from vidray.models.names import Precision
from vidray.models.preprocess import Preprocessing

# Batches that a graph takes; one end of a range that torch.export wants to know.
_MOST_CLIPS = 4096
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Graph(nn.Module):
    """A network with the arithmetic of its preprocessing, which then cannot be got wrong.

    Args:
        network: takes ``float (N, C, T, H, W)``.
        head: its part that takes embeddings.
        dtype: of the network's weights and products.
    """

    def __init__(
        self,
        network: nn.Module,
        head: nn.Module,
        preprocessing: Preprocessing,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.network, self.head = network.to(dtype), head
        self.preprocessing, self.dtype = preprocessing, dtype

    def forward(self, clips: Tensor, flow: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``uint8 (N, T, H, W, 3)``, ``float32 (N, T, H, W, 2)`` -> ``(N, K)``, ``(N, D)``."""
        seen: list[Tensor] = []
        handle = self.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            logits = self.network(self.preprocessing.to_input(clips, flow).to(self.dtype))
        finally:
            handle.remove()
        return logits.float(), seen[0].float()


def example_inputs(preprocessing: Preprocessing, *, clips: int = 2) -> tuple[Tensor, ...]:
    """Inputs of ``Graph`` of the right shapes: black clips, and flow where it takes any."""
    shape = preprocessing.clip_shape
    pixels = torch.zeros((clips, *shape), dtype=torch.uint8)
    return (pixels, torch.zeros((clips, *shape[:3], 2))) if preprocessing.flow else (pixels,)


def to_onnx(model: DeepModel, precision: Precision = "float32") -> onnx.ModelProto:
    """The ONNX graph of a model, with a batch of any size; ``torch.onnx``'s, by torch.export.

    Raises:
        UserError: the network cannot be written so; why, in one line.
    """
    # A copy: a network in half precision cannot be put back.
    network, head = copy.deepcopy((model.network, model.head))
    assert head is not None
    graph = Graph(network, head, model.preprocessing, _DTYPES[precision]).eval()
    inputs = example_inputs(model.preprocessing)
    batch = torch.export.Dim("batch", min=1, max=_MOST_CLIPS)
    try:
        with (
            warnings.catch_warnings(),
            torch.no_grad(),
            mock.patch.object(swin_transformer, "_compute_attention_mask_3d", _window_mask),
        ):
            warnings.simplefilter("ignore")  # Of torch.onnx about itself.
            program: Any = torch.onnx.export(
                graph,
                inputs,
                dynamo=True,
                dynamic_shapes=tuple({0: batch} for _ in inputs),
                input_names=["clips", "flow"][: len(inputs)],
                output_names=["logits", "embedding"],
                verbose=False,
            )
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        raise UserError(f"{model.name} cannot be exported: {_reason(error)}") from error
    return checked(stripped(program.model_proto), model)


def _window_mask(
    x: Tensor,
    size_dhw: tuple[int, int, int],
    window_size: tuple[int, int, int],
    shift_size: tuple[int, int, int],
) -> Tensor:
    """Torchvision's mask of Video Swin: -100 between places that only the shift made neighbours.

    Torchvision assigns to slices, some of them empty; OpenVINO does not read the graph of that.

    Returns:
        ``float (W, P, P)``: windows, and the places of a window twice.
    """
    region = x.new_zeros(())
    for axis, (size, window, shift) in enumerate(
        zip(size_dhw, window_size, shift_size, strict=True)
    ):
        place = torch.arange(size, device=x.device)
        part = (place >= size - window).to(x.dtype) + (place >= size - shift).to(x.dtype)
        own = part if shift else x.new_zeros(size)
        region = 3 * region + own.reshape([-1 if k == axis else 1 for k in range(3)])
    windows = [size // window for size, window in zip(size_dhw, window_size, strict=True)]
    split = [n for pair in zip(windows, window_size, strict=True) for n in pair]
    places = region.reshape(split).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(0, 2)
    apart = places.unsqueeze(1) != places.unsqueeze(2)
    return x.new_zeros(apart.shape).masked_fill(apart, -100.0)


def to_openvino(proto: onnx.ModelProto, name: str) -> Any:
    """The ONNX graph of the model ``name`` as an ``openvino.Model``.

    Raises:
        UserError: OpenVINO does not read it; why, in one line.
    """
    import openvino

    try:
        # Not ``openvino.convert_model``, which reports its use to a service for statistics.
        return openvino.Core().read_model(proto.SerializeToString(), b"")
    except RuntimeError as error:
        lines = [line for line in str(error).splitlines() if "with a message" in line]
        said = " ".join((lines or [str(error)])[0].split())[:200]
        raise UserError(
            f"{name} cannot be exported to OpenVINO, which does not read its graph ({said}): "
            "take --to onnx"
        ) from error


def checked(proto: onnx.ModelProto, model: DeepModel) -> onnx.ModelProto:
    """``proto``, which ``onnx`` and the label job both take.

    Raises:
        UserError: they do not.
    """
    inputs, outputs = onnx_file.signature(
        model.preprocessing.clip_shape,
        flow=model.preprocessing.flow,
        classes=len(model.class_names),
    )
    try:
        onnx.checker.check_model(proto)
        onnx_file.check(memoryview(proto.SerializeToString()), inputs, outputs)
    except (onnx.checker.ValidationError, UserError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(f"{model.name} cannot be exported: the graph is wrong ({said})") from error
    return proto


def stripped(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without notes, which tell where on this machine each line of code lies."""
    graph = proto.graph
    noted: Iterable[Any] = (proto, graph, *graph.node, *graph.initializer, *graph.input,
                            *graph.output, *graph.value_info)  # fmt: skip
    for part in noted:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    # Quantising names sets of operators that it then does not use.
    used = {node.domain for node in graph.node}
    opsets = [opset for opset in proto.opset_import if opset.domain in used]
    proto.ClearField("opset_import")
    proto.opset_import.extend(opsets)
    return proto


def cast_first(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with its pixels made numbers before they are moved.

    TensorRT takes bytes for an input of nothing but a cast.
    """
    nodes = proto.graph.node
    readers = [node for node in nodes if "clips" in node.input]
    for move in readers:
        casts = [node for node in nodes if move.output[0] in node.input]
        if move.op_type != "Transpose" or [cast.op_type for cast in casts] != ["Cast"]:
            continue
        cast = casts[0]
        middle, end = move.output[0], cast.output[0]
        # The two change places in the list as well: a value is made before it is used.
        first, second = copy.deepcopy(cast), copy.deepcopy(move)
        first.input[0], first.output[0] = "clips", middle
        second.input[0], second.output[0] = middle, end
        move.CopyFrom(first)
        cast.CopyFrom(second)
        for value in [value for value in proto.graph.value_info if value.name == middle]:
            proto.graph.value_info.remove(value)  # It said what the bytes were.
    return proto


def save_openvino(found: Any, folder: Path, *, half: bool = False) -> None:
    """Write network.xml and network.bin of an OpenVINO model.

    Args:
        half: weights are float16 in the file.
    """
    import openvino

    openvino.save_model(found, folder / "network.xml", compress_to_fp16=half)
    text = (folder / "network.xml").read_bytes()
    # What was used to make it, and settings of a runtime, which nobody may send along.
    text = re.sub(rb"\n\t<rt_info>.*?\n\t</rt_info>", b"", text, flags=re.DOTALL)
    (folder / "network.xml").write_bytes(text)


def _reason(error: BaseException) -> str:
    """What torch.onnx says, in one line: it wraps the cause, and draws trees around it."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(said)[:200]}"
