"""An ONNX file is looked at before it is run: what no export writes is refused in one line."""

import random
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.models.exported.tiny_graphs import CLIP, onnx_graph
from vidray.errors import UserError
from vidray.models.exported import onnx_file


def _check(data: bytes) -> None:
    inputs, outputs = onnx_file.signature(CLIP, flow=False, classes=2)
    onnx_file.check(memoryview(data), inputs, outputs)


def test_a_graph_of_standard_operators_passes() -> None:
    proto = onnx_graph()
    onnx.checker.check_model(proto, full_check=True)
    _check(proto.SerializeToString())


def _external(proto: onnx.ModelProto) -> None:
    tensor = proto.graph.initializer[2]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../secret")


def _external_said_only(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[2].data_location = TensorProto.EXTERNAL


def _external_constant(proto: onnx.ModelProto) -> None:
    tensor = TensorProto(name="c", data_type=1, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    proto.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def _custom(proto: onnx.ModelProto) -> None:
    proto.graph.node.append(helper.make_node("Evil", ["clips"], ["x"], domain="my.own"))


def _custom_set(proto: onnx.ModelProto) -> None:
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def _unknown(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].op_type = "ImageDecoder"


def _loop(proto: onnx.ModelProto) -> None:
    body = helper.make_graph([], "body", [], [])
    proto.graph.node.append(helper.make_node("Loop", ["", ""], ["x"], body=body))


def _function(proto: onnx.ModelProto) -> None:
    nodes = [helper.make_node("Relu", ["a"], ["b"])]
    opset = [helper.make_opsetid("", 20)]
    proto.functions.append(helper.make_function("my", "Cast", ["a"], ["b"], nodes, opset))


def _notes(proto: onnx.ModelProto) -> None:
    proto.metadata_props.add(key="ort_config", value="{}")


def _sparse(proto: onnx.ModelProto) -> None:
    proto.graph.sparse_initializer.add()


def _text(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(helper.make_tensor("s", TensorProto.STRING, [1], [b"x"]))


def _huge(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[2].dims[0] = 1 << 40


def _negative(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[2].dims[0] = -3


def _short(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[2].dims[0] = 4


def _another_input(proto: onnx.ModelProto) -> None:
    proto.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


def _other_shape(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 9


def _fixed_batch(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def _other_type(proto: onnx.ModelProto) -> None:
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE


def _other_classes(proto: onnx.ModelProto) -> None:
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3


def _future(proto: onnx.ModelProto) -> None:
    proto.opset_import[0].version = 99


def _no_opset(proto: onnx.ModelProto) -> None:
    proto.ClearField("opset_import")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_external, "external data"),
        (_external_said_only, "external data"),
        (_external_constant, "external data"),
        (_custom, "'Evil' is of 'my.own'"),
        (_custom_set, "'com.microsoft', which are not ONNX's own"),
        (_unknown, "'ImageDecoder' is not one that networks need"),
        (_loop, "a graph of its own"),
        (_function, "functions of its own"),
        (_notes, "notes"),
        (_sparse, "unknown part 15"),
        (_text, "holds text"),
        (_huge, "a shape that cannot be"),
        (_negative, "a shape that cannot be"),
        (_short, "does not have the bytes of its shape"),
        (_another_input, "its inputs are clips, more, where clips must be"),
        (_other_shape, "input clips is of another type or shape"),
        (_fixed_batch, "input clips is of another type or shape"),
        (_other_type, "output logits is of another type or shape"),
        (_other_classes, "output logits is of another type or shape"),
        (_future, "version 99"),
        (_no_opset, "no set of operators"),
    ],
)
def test_what_no_export_writes_is_refused(
    change: Callable[[onnx.ModelProto], None], said: str
) -> None:
    proto = onnx_graph()
    change(proto)
    with pytest.raises(UserError, match=said) as error:
        _check(proto.SerializeToString())
    assert "\n" not in str(error.value)


def test_two_graphs_in_one_file_are_refused_where_other_readers_join_them() -> None:
    other = onnx_graph()
    other.graph.node[0].op_type = "Evil"
    joined = onnx_graph().SerializeToString() + other.SerializeToString()
    assert len(onnx.load_from_string(joined).graph.node) == 8  # What a runtime would see.
    with pytest.raises(UserError, match="twice"):
        _check(joined)


def test_numbers_in_lists_count_like_bytes() -> None:
    proto = onnx_graph()
    values = numpy_helper.to_array(proto.graph.initializer[3])
    proto.graph.initializer[3].CopyFrom(helper.make_tensor("bias", 1, [2], values))
    _check(proto.SerializeToString())
    proto.graph.initializer[3].float_data.append(1)
    with pytest.raises(UserError, match="bytes of its shape"):
        _check(proto.SerializeToString())


def test_damage_is_one_line() -> None:
    rng = random.Random(0)
    whole = onnx_graph().SerializeToString()
    said = []
    for _ in range(1000):
        data = bytearray(whole[: rng.randint(0, len(whole))] if rng.random() < 0.3 else whole)
        for _ in range(rng.randint(1, 3)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            _check(bytes(data))
        except UserError as error:
            said.append(str(error))
    assert len(said) > 500
    assert not any("\n" in line for line in said)


def test_flow_is_a_second_input() -> None:
    inputs, _ = onnx_file.signature(CLIP, flow=True, classes=2)
    assert inputs["flow"] == (TensorProto.FLOAT, (None, 2, 16, 16, 2))
    with pytest.raises(UserError, match="where clips, flow must be"):
        onnx_file.check(memoryview(onnx_graph().SerializeToString()), inputs, {})


def test_all_numbers_that_networks_store_have_a_size() -> None:
    for kind in (np.float32, np.float16, np.int8, np.uint8, np.int64, np.int32, np.bool_):
        tensor = numpy_helper.from_array(np.zeros((2, 3), kind), "x")
        proto = onnx_graph()
        proto.graph.initializer.append(tensor)
        _check(proto.SerializeToString())
