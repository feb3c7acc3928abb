"""The graph gives what the network gives, for any batch, and holds nothing of this machine."""

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torchvision.models.video import swin_transformer

from bench.export import differences, tiny
from vidray.errors import UserError
from vidray.export import graph
from vidray.models.folder import DeepModel
from vidray.models.names import DEEP


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


def test_the_docs_say_of_every_architecture_whether_it_is_exported() -> None:
    text = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
    _, _, section = text.partition("## Every architecture")
    lines = re.findall(r"^\| `(\w+)` \| (\S+) \| (\S+) \| (\S+) \| (.*)\|$", section, re.MULTILINE)
    assert [name for name, *_ in lines] == list(DEEP)
    for name, by_pytorch, *by_runtimes, why in lines:
        if by_pytorch == "no":
            assert why.strip(), name
        else:
            assert max(map(float, by_runtimes)) <= _most(float(by_pytorch)), name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18_lstm", "swin3d_t", "x3d_s", "two_stream_late"])
def test_runtimes_are_as_near_to_float64_as_pytorch(name: str) -> None:
    found = differences(tiny(name))
    assert set(found) == {"pytorch", "onnx", "openvino"}
    assert max(found.values()) <= _most(found["pytorch"])


@pytest.mark.parametrize(
    ("size", "window", "shift"),
    [
        ((8, 14, 14), (8, 7, 7), (0, 3, 3)),  # 16 frames: time is not shifted.
        ((16, 14, 21), (8, 7, 7), (4, 3, 3)),
        ((16, 7, 14), (8, 7, 7), (4, 0, 3)),
        ((4, 4, 4), (2, 2, 2), (1, 1, 1)),
    ],
)
def test_the_mask_of_windows_is_torchvisions(
    size: tuple[int, int, int], window: tuple[int, int, int], shift: tuple[int, int, int]
) -> None:
    mask = graph._window_mask(torch.zeros(1), size, window, shift)
    wanted = swin_transformer._compute_attention_mask_3d(torch.zeros(1), size, window, shift)
    assert torch.equal(mask, wanted)


def test_a_graph_that_openvino_does_not_read_is_one_line() -> None:
    node = onnx.helper.make_node("NoSuchOperator", ["a"], ["b"])
    ends = [onnx.helper.make_tensor_value_info(name, 1, [1]) for name in "ab"]
    proto = onnx.helper.make_model(onnx.helper.make_graph([node], "g", ends[:1], ends[1:]))
    with pytest.raises(UserError, match=r"^s3d cannot be exported to .*: take --to onnx$") as error:
        graph.to_openvino(proto, "s3d")
    assert "\n" not in str(error.value)


def _most(by_pytorch: float) -> float:
    """How far a runtime's float32 may be from float64: not much farther than PyTorch's."""
    return 10 * by_pytorch + 1e-5
