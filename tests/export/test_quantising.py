"""INT8: nobody hears of it, layers that lose labels stay in float, dynamic ranges need no clips."""

import logging
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest

from tests.command_lines import ROOT
from tests.models.exported.tiny_graphs import CLIP, expected, onnx_graph
from vidray.errors import UserError
from vidray.export import graph, quantising
from vidray.models.exported import onnx_file

# Every way out of the process is closed and counted before anything of ours is imported.
_WATCHED = """
import socket, sys, urllib.request
tried = []
def refuse(*args, **kwargs):
    tried.append(args)
    raise OSError("closed")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
urllib.request.urlopen = refuse
import openvino
from tests.models.exported.tiny_graphs import CLIP, onnx_graph
from vidray.export import quantising
import numpy as np
with quantising.quiet_nncf() as nncf:
    graph = openvino.Core().read_model(onnx_graph().SerializeToString(), b"")
    clips = nncf.Dataset([np.zeros((1, *CLIP), np.uint8)] * 2, lambda clip: {"clips": clip})
    nncf.quantize(graph, clips, subset_size=2)
    from nncf.telemetry.wrapper import telemetry
assert type(telemetry).__name__ == "MagicMock", type(telemetry)
assert tried == [], tried
"""


@pytest.mark.slow
def test_nothing_is_reported_to_anybody() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WATCHED], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_loggers_and_handlers_of_others_are_as_they_were() -> None:
    before = [(handler, handler.level) for handler in logging.root.handlers]
    assert before
    with quantising.quiet_nncf():
        pass
    assert logging.getLoggerClass() is logging.Logger
    assert [(handler, handler.level) for handler in logging.root.handlers] == before


def test_dynamic_ranges_of_linear_layers_are_standard_operators() -> None:
    found = graph.stripped(quantising.dynamic_onnx(onnx_graph().SerializeToString()))
    assert "MatMulInteger" in {node.op_type for node in found.graph.node}
    onnx.checker.check_model(found)
    inputs, outputs = onnx_file.signature(CLIP, flow=False, classes=2)
    onnx_file.check(memoryview(found.SerializeToString()), inputs, outputs)
    clips = np.random.default_rng(0).integers(0, 256, (3, *CLIP), np.uint8)
    session = onnxruntime.InferenceSession(found.SerializeToString())
    logits = session.run(["logits"], {"clips": clips})[0]
    np.testing.assert_allclose(logits, expected(clips)[0], atol=0.02)


def test_a_graph_without_linear_layers_has_no_dynamic_ranges() -> None:
    proto = onnx_graph()
    sums = onnx.helper.make_node("Add", ["embedding", "most"], ["logits"])
    proto.graph.node[3].CopyFrom(sums)
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3
    with pytest.raises(UserError, match="give --ranges calibrated"):
        quantising.dynamic_onnx(proto.SerializeToString())


def test_openvino_weights_become_int8() -> None:
    rng = np.random.default_rng(0)
    proto = onnx_graph()
    wide = onnx.numpy_helper.from_array(rng.normal(size=(3, 64)).astype("f4"), "wide")
    back = onnx.numpy_helper.from_array(rng.normal(size=(64, 3)).astype("f4"), "back")
    proto.graph.initializer.extend([wide, back])
    proto.graph.node.insert(3, onnx.helper.make_node("MatMul", ["embedding", "wide"], ["w"]))
    proto.graph.node.insert(4, onnx.helper.make_node("MatMul", ["w", "back"], ["e2"]))
    proto.graph.node[5].input[0] = "e2"
    made = openvino.Core().read_model(proto.SerializeToString(), b"")
    found = quantising.dynamic_openvino(made)
    kinds = {
        op.get_element_type().get_type_name()
        for op in found.get_ordered_ops()
        if op.get_type_name() == "Constant"
    }
    assert "i8" in kinds


def test_rounded_layers_are_named_for_both_kinds_of_graphs() -> None:
    assert quantising.rounded_layers(onnx_graph()) == set()
    made = openvino.Core().read_model(onnx_graph().SerializeToString(), b"")
    assert quantising.rounded_layers(made) == set()
