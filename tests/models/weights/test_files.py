"""Files of weights: every kind that people have is read, and nothing in one is run."""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from vidray import storage
from vidray.errors import UserError
from vidray.models.networks.build import build
from vidray.models.weights import files, wrappers

STATE = {"conv.weight": torch.arange(6.0).view(2, 3), "conv.bias": torch.ones(2)}


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def refused(file: Path | str) -> str:
    """The one line that a file is refused with."""
    with pytest.raises(UserError) as caught:
        wrappers.unwrap(files.read(str(file)), shown=str(file))
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    assert message.startswith(str(file))
    return message


# What is read


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.pyth", "w.pth.tar", "w.bin", "w"])
@pytest.mark.parametrize("new", [True, False])
def test_files_of_torch_by_content(tmp_path: Path, name: str, new: bool) -> None:
    torch.save(STATE, tmp_path / name, _use_new_zipfile_serialization=new)
    same(files.read(str(tmp_path / name)))


@pytest.mark.parametrize("kind", ["safetensors", "new", "old"])
def test_files_in_a_folder_and_in_a_bucket(place: str, kind: str) -> None:
    buffer = io.BytesIO()
    if kind == "safetensors":
        buffer.write(safetensors.torch.save(STATE))
    else:
        torch.save(STATE, buffer, _use_new_zipfile_serialization=kind == "new")
    uri = storage.join(place, "weights.pth")
    storage.write_bytes(uri, buffer.getvalue())
    same(files.read(uri))


def same(found: Any) -> None:
    assert list(found) == list(STATE) or sorted(found) == sorted(STATE)
    assert all(torch.equal(found[name], value) for name, value in STATE.items())


def test_a_link_that_the_user_names_is_followed(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "blob")
    (tmp_path / "weights.pth").symlink_to(tmp_path / "blob")
    same(files.read(str(tmp_path / "weights.pth")))


def test_what_trainings_leave_beside_the_weights(tmp_path: Path) -> None:
    beside = {
        "args": argparse.Namespace(lr=0.1, path="x"),
        "best": np.float64(0.9),
        "curve": np.arange(3),
        "output": Path("/tmp/x"),
    }
    torch.save({"model": STATE, **beside}, tmp_path / "w.pth")
    tensors, _ = wrappers.unwrap(files.read(str(tmp_path / "w.pth")), shown="w")
    same(tensors)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(tmp_path: Path, dtype: torch.dtype) -> None:
    source = build("resnet18_avg", num_classes=3).network
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in source.state_dict().items()}
    torch.save(state, tmp_path / "w.pth")
    found = build("resnet18_avg", num_classes=3, weights=str(tmp_path / "w.pth")).network
    for name, value in found.state_dict().items():
        assert value.dtype in (torch.float32, torch.int64)
        assert torch.equal(value, state[name].to(value.dtype)), name


def test_tensors_of_a_file_on_a_disk_are_mapped(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    torch.save({"a": torch.zeros(1 << 24)}, file)
    tracemalloc.start()
    files.read(str(file))
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


# What wraps them


@pytest.mark.parametrize(
    ("wrap", "said"),
    [
        (lambda s: {"state_dict": s, "epoch": 3, "optimizer": {"state": {0: s}}}, ""),
        (lambda s: {"model_state": s, "optimizer_state": {}, "cfg": "a: 1"}, ""),
        (lambda s: {"model": s}, ""),
        (lambda s: {"model_state_dict": s}, ""),
        (lambda s: {"network": s}, ""),
        (lambda s: {"module": s, "lr": 0.1}, ""),
        (lambda s: {"model": {"state_dict": s}}, ""),
        (lambda s: {"state_dict": {"x": s["conv.bias"]}, "state_dict_ema": s}, "state_dict_ema"),
        (lambda s: {"model": {"x": s["conv.bias"]}, "model_ema": s}, "model_ema"),
        # mmengine swaps: its average is the state_dict.
        (lambda s: {"state_dict": s, "ema_state_dict": {"x": s["conv.bias"]}}, ""),
        (lambda s: {f"module.{k}": v for k, v in s.items()}, ""),
        (lambda s: {f"module._orig_mod.{k}": v for k, v in s.items()}, ""),
        (lambda s: {"state_dict": {f"model.module.{k}": v for k, v in s.items()}}, ""),
        (lambda s: {**s, "epoch": 3, "name": "x"}, ""),
    ],
)
def test_wrappers(wrap: Any, said: str) -> None:
    tensors, found = wrappers.unwrap(wrap(STATE), shown="w")
    same(tensors)
    assert (said in found) if said else (found == "")


def test_a_prefix_that_not_all_have_stays() -> None:
    mixed = {"backbone.a": torch.ones(1), "head.a": torch.ones(1)}
    assert list(wrappers.unwrap(mixed, shown="w")[0]) == list(mixed)


@pytest.mark.parametrize(
    "found", [{}, [], 3, None, {"epoch": 3}, {"state_dict": {}}, torch.ones(2), {1: torch.ones(2)}]
)
def test_no_tensors_by_name(found: Any) -> None:
    with pytest.raises(UserError, match="w holds no tensors by name"):
        wrappers.unwrap(found, shown="w")


def test_a_whole_network_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "w.pth")
    assert "names 'torch.nn.modules.linear.Linear', which makes no" in refused(tmp_path / "w.pth")


# What must not be opened


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("nested", [True, False])
def test_a_pickle_is_not_run(tmp_path: Path, new: bool, nested: bool) -> None:
    marker, file = tmp_path / "marker", tmp_path / "w.pth"
    pickle.loads(pickle.dumps(Payload(marker)))
    assert marker.exists()  # where a pickle is trusted
    marker.unlink()
    value = {"a": [Payload(marker)]} if nested else Payload(marker)
    torch.save({**STATE, "x": value}, file, _use_new_zipfile_serialization=new)
    said = refused(file)
    assert "could run code, so nothing of it was opened" in said
    assert "convert it with safetensors.torch.save_file" in said
    assert not marker.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_bare_pickle_is_not_run(tmp_path: Path, protocol: int) -> None:
    marker, file = tmp_path / "marker", tmp_path / "w.pth"
    file.write_bytes(pickle.dumps(Payload(marker), protocol=protocol))
    refused(file)
    assert not marker.exists()


def test_a_payload_behind_the_tensors_of_an_old_file_is_not_run(tmp_path: Path) -> None:
    marker, file = tmp_path / "marker", tmp_path / "w.pth"
    torch.save(STATE, file, _use_new_zipfile_serialization=False)
    # An old file is five pickles; here the last, of names of storages, is another one.
    content = file.read_bytes()
    names = pickle.dumps(sorted(["0", "1"]), protocol=2)
    payload = pickle.dumps(Payload(marker), protocol=2)
    for begin in range(len(content)):
        if content[begin:].startswith(b"\x80\x02]"):
            file.write_bytes(content[:begin] + payload + content[begin + len(names) :])
            break
    else:
        pytest.fail("there is no list of names")
    assert "could run code" in refused(file)
    assert not marker.exists()


def test_a_program_of_torchscript_is_refused(tmp_path: Path) -> None:
    with pytest.warns(FutureWarning):
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "w.pt")
    assert "TorchScript" in refused(tmp_path / "w.pt")


def test_memory_is_not_taken_for_what_a_pickle_claims(tmp_path: Path) -> None:
    class Bytes:
        def __reduce__(self) -> tuple[Any, ...]:
            return bytearray, (1 << 40,)

    torch.save({"a": Bytes()}, tmp_path / "w.pth")
    assert "bytearray" in refused(tmp_path / "w.pth")

    small = torch.ones(1).expand(1 << 40)  # four bytes
    torch.save({"a": small}, tmp_path / "w.pth")
    assert "claims more than the bytes it has" in refused(tmp_path / "w.pth")


@pytest.mark.parametrize("new", [True, False])
def test_a_storage_of_a_terabyte_in_a_small_file(tmp_path: Path, new: bool) -> None:
    file = tmp_path / "w.pth"
    torch.save({"a": torch.ones(123457)}, file, _use_new_zipfile_serialization=new)
    content = file.read_bytes()
    number = struct.pack("<i", 123457)
    assert content.count(number) >= 2  # of the storage, of the shape
    file.write_bytes(content.replace(number, struct.pack("<i", (1 << 31) - 1)))
    refused(file)


@pytest.mark.parametrize("kind", ["compressed", "link", "above", "twice", "no_pickle", "claims"])
def test_odd_zips(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "w.pth"
    torch.save(STATE, file)
    with zipfile.ZipFile(file) as archive:
        entries = [(entry, archive.read(entry)) for entry in archive.infolist()]
    packing = zipfile.ZIP_DEFLATED if kind == "compressed" else zipfile.ZIP_STORED
    with zipfile.ZipFile(file, "w", packing) as archive:
        for entry, content in entries:
            if kind == "no_pickle" and entry.filename.endswith("data.pkl"):
                continue
            archive.writestr(entry.filename, content)
        if kind == "link":
            link = zipfile.ZipInfo("w/data/9")
            link.external_attr = 0o120777 << 16
            archive.writestr(link, "/etc/passwd")
        if kind == "above":
            archive.writestr("w/../../x", b"")
    if kind == "twice":
        with (
            pytest.warns(UserWarning, match="Duplicate name"),
            zipfile.ZipFile(file, "a") as archive,
        ):
            archive.writestr(entries[0][0].filename, b"")
    if kind == "claims":
        content = bytearray(file.read_bytes())
        for at in range(len(content) - 4):
            if content[at : at + 4] == b"PK\x01\x02":  # of the directory: sizes
                content[at + 20 : at + 28] = struct.pack("<II", 1 << 30, 1 << 30)
        file.write_bytes(content)
    refused(file)


def test_a_bomb(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", bytes(1 << 26))
    assert file.stat().st_size < 1 << 20
    tracemalloc.start()
    assert "is compressed" in refused(file)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_a_header_of_ten_gibibytes(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    with file.open("wb") as target:
        target.write(struct.pack("<Q", 10 << 30) + b"{")
        target.truncate((10 << 30) + 100)  # of zeros that take no place
    tracemalloc.start()
    assert "its header would have 10737418240 bytes" in refused(file)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_a_file_larger_than_any_weights(tmp_path: Path) -> None:
    with (tmp_path / "w.pth").open("wb") as target:
        target.truncate(1 << 40)
    assert "weights have 64 GiB at the most" in refused(tmp_path / "w.pth")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["new", "old", "safetensors"])
def test_files_that_are_cut_short(tmp_path: Path, kind: str, share: float) -> None:
    file = tmp_path / f"w.{kind}"
    if kind == "safetensors":
        file.write_bytes(safetensors.torch.save(STATE))
    else:
        torch.save(STATE, file, _use_new_zipfile_serialization=kind == "new")
    os.truncate(file, int(file.stat().st_size * share))
    refused(file)


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>404</html>", b"PK\x03\x04", b"\x80\x02", b"version https://git-lfs.github.com",
     b"\x1f\x8b" + bytes(50), bytes(100), json.dumps({"a": 1}).encode()],
)  # fmt: skip
def test_other_kinds_of_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    refused(tmp_path / "w.pth")


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dead").symlink_to(tmp_path / "nothing")
    for name in ("pipe", "dead", "none", ""):
        refused(tmp_path / name)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none(tmp_path: Path, value: float) -> None:
    state: dict[str, Tensor] = build("resnet18_avg", num_classes=3).network.state_dict()
    state["backbone.layer1.0.bn1.running_var"][5] = value
    torch.save(state, tmp_path / "w.pth")
    said = r"holds NaN or infinity in 1 tensors, backbone\.layer1\.0\.bn1\.running_var among"
    with pytest.raises(UserError, match=said):
        build("resnet18_avg", num_classes=3, weights=str(tmp_path / "w.pth"))


@pytest.mark.parametrize("kind", ["sparse", "complex", "meta"])
def test_tensors_of_kinds_that_no_network_has(tmp_path: Path, kind: str) -> None:
    value = torch.ones(2, 2)
    match kind:
        case "sparse":
            value = value.to_sparse()
        case "complex":
            value = value.to(torch.complex64)
        case "meta":
            value = torch.empty(2, 2, device="meta")
    torch.save({"a": value}, tmp_path / "w.pth")
    refused(tmp_path / "w.pth")
