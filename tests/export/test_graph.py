"""The graph gives what the network gives, for any batch, and holds nothing of this machine."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from vidray.errors import UserError
from vidray.export import graph
from vidray.models.folder import DeepModel


@pytest.fixture(scope="module")
def proto(network: DeepModel) -> onnx.ModelProto:
    return graph.to_onnx(network)


def _clips(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (number, 2, 32, 32, 3), np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("moved", [False, True], ids=["as it is", "for TensorRT"])
def test_logits_and_embeddings_are_the_networks(
    network: DeepModel, proto: onnx.ModelProto, moved: bool
) -> None:
    given = onnx.ModelProto()
    given.CopyFrom(proto)
    if moved:
        given = graph.cast_first(given)
        (reader,) = [node for node in given.graph.node if "clips" in node.input]
        assert reader.op_type == "Cast"
        onnx.checker.check_model(given, full_check=True)
    session = onnxruntime.InferenceSession(given.SerializeToString())
    wanted = graph.Graph(network.network, network.head, network.preprocessing)
    for number in (1, 2, 5):
        logits, embedding = session.run(["logits", "embedding"], {"clips": _clips(number)})
        with torch.no_grad():
            expected = wanted(torch.from_numpy(_clips(number)))
        np.testing.assert_allclose(logits, expected[0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(embedding, expected[1], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_file_names_no_place_and_is_the_same_each_time(
    network: DeepModel, proto: onnx.ModelProto
) -> None:
    data = proto.SerializeToString()
    assert data == graph.to_onnx(network).SerializeToString()
    assert b".py" not in data
    assert graph.__file__.rpartition("/")[0].encode() not in data


@pytest.mark.slow
def test_half_precision_halves_the_file_and_leaves_the_network(
    network: DeepModel, proto: onnx.ModelProto
) -> None:
    half = graph.to_onnx(network, "float16")
    assert half.ByteSize() < 0.6 * proto.ByteSize()
    assert next(network.network.parameters()).dtype == torch.float32
    session = onnxruntime.InferenceSession(half.SerializeToString())
    logits = session.run(["logits"], {"clips": _clips(3)})[0]
    assert logits.dtype == np.float32
    full = onnxruntime.InferenceSession(proto.SerializeToString())
    np.testing.assert_allclose(logits, full.run(["logits"], {"clips": _clips(3)})[0], atol=0.05)


class _Jumps(torch.nn.Module):
    """A network whose way depends on what it sees: no one graph is it."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(3, 2)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        means = clips.mean(dim=(2, 3, 4))
        out: torch.Tensor = self.head(means if means.sum() > 0 else -means)
        return out


@pytest.mark.slow
def test_a_network_that_cannot_be_one_graph_is_one_line(network: DeepModel) -> None:
    import dataclasses

    jumps = _Jumps()
    model = dataclasses.replace(network, name="jumps", network=jumps, head=jumps.head)
    with pytest.raises(UserError, match="jumps cannot be exported: ") as error:
        graph.to_onnx(model)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300
