"""A folder with a graph is a model, by each runtime; what is wrong with it is one line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.models.exported.tiny_graphs import CLASSES, CLIP, expected, onnx_graph, write
from vidray import models
from vidray.errors import ModelError, UserError
from vidray.export.graph import stripped
from vidray.models.exported.model import ExportedModel, load_exported
from vidray.models.model_files import name_and_digest, read_info
from vidray.models.names import Runtime
from vidray.models.probabilities import softmax

_RUNTIMES = ("onnx", "openvino")


def _clips(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (number, *CLIP), np.uint8)


def _load(folder: Path) -> ExportedModel:
    model = models.load(str(folder))
    assert isinstance(model, ExportedModel)
    return model


@pytest.mark.parametrize("to", _RUNTIMES)
def test_answers_are_those_of_the_graph_for_any_batch(tmp_path: Path, to: Runtime) -> None:
    model = _load(write(tmp_path, to))
    assert model.class_names == CLASSES
    for number in (1, 2, 5):
        logits, embedding = expected(_clips(number))
        found, seen = model.answer(_clips(number))
        np.testing.assert_allclose(found, softmax(logits.astype("f4")), atol=1e-6)
        np.testing.assert_allclose(seen, embedding, atol=1e-6)
    assert model.predict(_clips(5), batch_size=2).shape == (5, 2)
    assert model.predict(_clips(5)[:0]).shape == (0, 2)
    np.testing.assert_array_equal(model.embed(_clips(3)), model.answer(_clips(3))[1])


def test_a_dynamic_range_is_of_one_clip(tmp_path: Path) -> None:
    # The range of a linear layer's input is measured as it runs: a bright clip would widen that of
    # the dark ones beside it.
    from vidray.export import quantising

    graph = quantising.dynamic_onnx(onnx_graph().SerializeToString())
    folder = write(tmp_path, "onnx", stripped(graph))
    info = json.loads((folder / "model.json").read_text())
    info["exported"] |= {"precision": "int8", "ranges": "dynamic"}
    (folder / "model.json").write_text(json.dumps(info))
    model = _load(folder)
    clips = _clips(4)
    clips[0] //= 8
    alone = np.concatenate([model.answer(clip[None])[0] for clip in clips])
    np.testing.assert_array_equal(model.answer(clips)[0], alone)


@pytest.mark.parametrize("to", _RUNTIMES)
def test_no_thread_is_bound_to_some_of_the_cores(tmp_path: Path, to: Runtime) -> None:
    # Each worker of a machine would bind its one thread to the same core.
    folder = write(tmp_path, to)
    code = (
        "import contextlib, os, sys, threading\n"
        "import numpy as np\n"
        "from vidray.models.exported.model import load_exported\n"
        "from vidray.models.model_files import read_info\n"
        "folder, done = sys.argv[1], threading.Event()\n"
        "model = load_exported(folder, read_info(folder), threads=1)\n"
        f"clips = np.zeros((64, *{CLIP}), np.uint8)\n"
        "def work():\n"
        "    for _ in range(200):\n"
        "        model.answer(clips)\n"
        "    done.set()\n"
        "mine = os.sched_getaffinity(0)\n"
        "threading.Thread(target=work, daemon=True).start()\n"
        "while not done.is_set():\n"
        "    for thread in os.listdir('/proc/self/task'):\n"
        "        with contextlib.suppress(ProcessLookupError):\n"  # It ended.
        "            assert os.sched_getaffinity(int(thread)) == mine, thread\n"
        "print(len(mine))\n"
    )
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    assert int(done.stdout) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("to", _RUNTIMES)
def test_several_threads_may_ask_at_once(tmp_path: Path, to: Runtime) -> None:
    model = _load(write(tmp_path, to))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda k: model.predict(_clips(k + 1)), range(16)))
    for k, one in enumerate(found):
        np.testing.assert_array_equal(one, model.predict(_clips(k + 1)))


@pytest.mark.parametrize("to", _RUNTIMES)
def test_a_folder_in_a_bucket_is_a_model_too(tmp_path: Path, to: Runtime, s3_bucket: str) -> None:
    import s3fs

    write(tmp_path / "m", to)
    s3fs.S3FileSystem().put(str(tmp_path / "m"), f"{s3_bucket}/m", recursive=True)
    model = models.load(f"{s3_bucket}/m")
    assert isinstance(model, ExportedModel)
    np.testing.assert_array_equal(
        model.predict(_clips(2)), _load(tmp_path / "m").predict(_clips(2))
    )


def _cut(folder: Path, name: str) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:-7])


def _linked(folder: Path, name: str) -> None:
    outside = folder.parent / "outside"
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)


def _gone(folder: Path, name: str) -> None:
    (folder / name).unlink()


def _emptied(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"")


def _folder(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()


def _pipe(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_cut, "holds other files than were exported"),
        (_linked, "is a link to another file"),
        (_gone, "not a whole model folder"),
        (_emptied, "has 0 bytes"),
        (_folder, "cannot be read"),
        (_pipe, "cannot be read"),
    ],
)
@pytest.mark.parametrize(
    ("to", "name"),
    [("onnx", "network.onnx"), ("openvino", "network.xml"), ("openvino", "network.bin")],
)
def test_wrong_files_are_one_line(
    tmp_path: Path, damage: Callable[[Path, str], None], said: str, to: Runtime, name: str
) -> None:
    folder = write(tmp_path / "m", to)
    damage(folder, name)
    with pytest.raises(UserError, match=said) as error:
        models.load(str(folder))
    assert "\n" not in str(error.value)


def _without_digest(folder: Path) -> None:
    """Whoever changes a file may change what model.json says of it."""
    values = json.loads((folder / "model.json").read_text())
    values["exported"]["sha256"] = None
    (folder / "model.json").write_text(json.dumps(values))


@pytest.mark.parametrize("to", _RUNTIMES)
def test_weights_cut_by_their_maker_are_one_line(tmp_path: Path, to: Runtime) -> None:
    folder = write(tmp_path, to)
    _without_digest(folder)
    _cut(folder, {"onnx": "network.onnx", "openvino": "network.bin"}[to])
    with pytest.raises(UserError, match="not what an export writes"):
        models.load(str(folder))


@pytest.mark.parametrize("to", _RUNTIMES)
def test_a_graph_of_fewer_classes_is_named_with_what_to_do(tmp_path: Path, to: Runtime) -> None:
    folder = write(tmp_path, to)
    values = json.loads((folder / "model.json").read_text())
    values["class_names"] = ["a", "b", "c"]
    values["network"]["num_classes"] = 3
    (folder / "model.json").write_text(json.dumps(values))
    told = f"^{folder}/network.* is not what an export writes: .*logits is of another.*export it"
    with pytest.raises(UserError, match=told):
        models.load(str(folder))


def test_a_graph_that_contradicts_itself_is_one_line(tmp_path: Path) -> None:
    proto = onnx_graph()
    proto.graph.node[3].input[0] = "nobody"
    with pytest.raises(UserError, match="no graph that ONNX Runtime can run") as error:
        models.load(str(write(tmp_path, "onnx", proto)))
    assert "\n" not in str(error.value)


def test_data_outside_the_folder_are_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"\x00" * 24)
    proto = onnx_graph()
    tensor = proto.graph.initializer[2]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    folder = write(tmp_path / "m", "onnx", proto)
    os.utime(secret, (1, 1))
    with pytest.raises(UserError, match="external data"):
        models.load(str(folder))
    assert secret.stat().st_atime == 1


def test_a_custom_operator_is_one_line(tmp_path: Path) -> None:
    proto = onnx_graph()
    proto.graph.node.append(helper.make_node("Evil", ["clips"], ["x"], domain="my.own"))
    with pytest.raises(UserError, match=r"'Evil' is of 'my\.own', not ONNX's own"):
        models.load(str(write(tmp_path, "onnx", proto)))


def test_a_graph_that_answers_for_fewer_clips_is_the_models_fault(tmp_path: Path) -> None:
    proto = onnx_graph()
    first = helper.make_node("ReduceMean", ["numbers", "axes"], ["all"], keepdims=0)
    proto.graph.node[1].CopyFrom(first)
    proto.graph.node.insert(2, helper.make_node("ReduceMean", ["all", "zero"], ["means"]))
    zero = onnx.numpy_helper.from_array(np.array([0], np.int64), "zero")
    proto.graph.initializer.append(zero)
    model = _load(write(tmp_path, "onnx", proto))
    with pytest.raises(ModelError, match="1 answers for 3 clips"):
        model.predict(_clips(3))


def test_the_digest_changes_with_the_graph(tmp_path: Path) -> None:
    folder = write(tmp_path, "openvino")
    _, before = name_and_digest(str(folder))
    data = bytearray((folder / "network.bin").read_bytes())
    data[-1] ^= 1
    (folder / "network.bin").write_bytes(bytes(data))
    assert name_and_digest(str(folder))[1] != before


@pytest.mark.slow
@pytest.mark.parametrize("to", _RUNTIMES)
def test_pytorch_is_not_imported(tmp_path: Path, to: Runtime) -> None:
    code = (
        "import sys, numpy as np\n"
        "from vidray.models.exported.model import load_exported\n"
        "from vidray.models.model_files import read_info\n"
        f"folder = {str(write(tmp_path, to))!r}\n"
        "model = load_exported(folder, read_info(folder), threads=1)\n"
        f"model.predict(np.zeros((1, *{CLIP}), np.uint8))\n"
        "assert not {'torch', 'onnx', 'sklearn', 'ray'} & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_tensorrt_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    folder = str(write(tmp_path, "tensorrt"))
    with pytest.raises(UserError, match="tensorrt is not installed: pip install 'tensorrt'"):
        load_exported(folder, read_info(folder))


def test_weights_of_an_export_are_no_weights_to_train(tmp_path: Path) -> None:
    from vidray.models.weights import reader

    folder = str(write(tmp_path, "onnx"))
    with pytest.raises(UserError, match="exported network, which cannot be trained: give the"):
        reader.info_of(folder, "resnet18_avg")
