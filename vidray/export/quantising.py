"""INT8 by NNCF: ranges of clips, per channel; layers that lose too many labels stay in float.

Jacob et al. 2018 describe such integers; NNCF shifts biases by the error that rounding leaves
(Nagel et al. 2019).
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidray.errors import UserError
from vidray.export.samples import Samples
from vidray.models.folder import DeepModel
from vidray.models.preprocess import clips_flow

Inputs = Mapping[str, NDArray[Any]]

# Clips on which layers are ranked: each layer costs a pass over them.
_RANKED_CLIPS = 32


@contextlib.contextmanager
def quiet_nncf() -> Iterator[Any]:
    """NNCF as a context: it draws no bars, and sends nobody word of what it is used for.

    It reports each call to a service for statistics unless it believes itself in its own tests.
    """
    if "nncf" not in sys.modules:
        os.environ["NNCF_CI"] = "1"
        # It warns of a compiler for GPUs that is not there.
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    loggers, levels = logging.getLoggerClass(), [(h, h.level) for h in logging.root.handlers]
    import nncf

    nncf.set_log_level(logging.ERROR)
    # It makes all later loggers of the process its own, and sets the level of others' handlers.
    logging.setLoggerClass(loggers)
    for handler, level in levels:
        handler.setLevel(level)
    with contextlib.redirect_stdout(io.StringIO()):
        yield nncf


def inputs_of(model: DeepModel, clips: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """The inputs of a graph for stored clips ``uint8 (N, T, H, W, 3)``."""
    selected = np.ascontiguousarray(model.preprocessing.select(clips))
    flow = {"flow": clips_flow(selected)} if model.preprocessing.flow else {}
    return {"clips": selected, **flow}


def calibrated(graph: Any, model: DeepModel, samples: Samples, *, is_transformer: bool) -> Any:
    """``graph`` in int8, weights per channel, with ranges of the clips.

    Args:
        graph: an OpenVINO model or an ONNX one.
        samples: clips of split train.
    """
    with quiet_nncf() as nncf:
        dataset = nncf.Dataset(range(len(samples)), lambda k: inputs_of(model, samples.clip(k)))
        return nncf.quantize(
            graph,
            dataset,
            subset_size=len(samples),
            model_type=nncf.ModelType.TRANSFORMER if is_transformer else None,
        )


def kept_accurate(
    graph: Any,
    model: DeepModel,
    samples: Samples,
    compared: Samples,
    *,
    labels: NDArray[np.int64],
    least_agreement: float,
    is_transformer: bool,
) -> Any:
    """``calibrated``, with the layers left in float whose rounding costs the most.

    NNCF puts layers back one by one, those first that change the logits the most when they alone
    are rounded, until the labels agree.

    Args:
        compared: clips on which labels must agree.
        labels: the network's, ``int64 (N,)``, of these clips.
    """
    answers: Callable[[Any, Inputs], Any] = (
        _answers_openvino if "openvino" in type(graph).__module__ else _answers_onnx
    )

    def agreement(compiled: Any, chosen: Iterable[int]) -> tuple[float, list[list[Any]]]:
        numbers = list(chosen)
        logits = [answers(compiled, inputs_of(model, compared.clip(k))) for k in numbers]
        same = [one.argmax() == labels[k] for k, one in zip(numbers, logits, strict=True)]
        return float(np.mean(same)), [[one] for one in logits]

    with quiet_nncf() as nncf:
        found: Any = nncf.quantize_with_accuracy_control(
            graph,
            nncf.Dataset(range(len(samples)), lambda k: inputs_of(model, samples.clip(k))),
            nncf.Dataset(range(len(compared)), lambda k: inputs_of(model, compared.clip(k))),
            agreement,
            max_drop=1 - least_agreement,
            drop_type=nncf.DropType.ABSOLUTE,
            subset_size=len(samples),
            model_type=nncf.ModelType.TRANSFORMER if is_transformer else None,
            advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
                ranking_subset_size=min(_RANKED_CLIPS, len(compared))
            ),
        )
        return found


def _answers_openvino(compiled: Any, inputs: Inputs) -> Any:
    return np.array(compiled(dict(inputs))["logits"])


def _answers_onnx(session: Any, inputs: Inputs) -> Any:
    return session.run(["logits"], dict(inputs))[0]


def rounded_layers(graph: Any) -> set[str]:
    """Names of the convolutions and products of a quantised graph that int8 goes into."""
    if "openvino" in type(graph).__module__:
        heavy = ("Convolution", "GroupConvolution", "MatMul")
        return {
            node.get_friendly_name()
            for node in graph.get_ordered_ops()
            if node.get_type_name() in heavy
            and node.input_value(0).get_node().get_type_name() == "FakeQuantize"
        }
    made = {name: node.op_type for node in graph.graph.node for name in node.output}
    return {
        node.name
        for node in graph.graph.node
        if node.op_type in ("Conv", "Gemm", "MatMul")
        and made.get(node.input[0]) == "DequantizeLinear"
    }


def dynamic_openvino(graph: Any) -> Any:
    """An OpenVINO model with int8 weights; the ranges of what they meet are measured as it runs."""
    with quiet_nncf() as nncf:
        return nncf.compress_weights(graph, mode=nncf.CompressWeightsMode.INT8_SYM)


def dynamic_onnx(data: bytes) -> Any:
    """An ONNX model whose linear layers have int8 weights and measure ranges as they run."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "a.onnx", Path(folder) / "b.onnx"
        source.write_bytes(data)
        logging.disable(logging.WARNING)  # It advises a pre-processing, which was done.
        try:
            quantize_dynamic(
                source, target, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True,
                weight_type=QuantType.QInt8,
            )  # fmt: skip
        finally:
            logging.disable(logging.NOTSET)
        found = onnx.load(target)
    if not any(node.op_type == "MatMulInteger" for node in found.graph.node):
        raise UserError("no linear layer of it could be made int8: give --ranges calibrated")
    return found
