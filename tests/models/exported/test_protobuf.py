"""What the package ``onnx`` writes is read as it is; anything else is an error."""

import random
import struct

import pytest
from onnx import StringStringEntryProto, helper

from vidray.models.exported.protobuf import Reader, WireField

_KINDS = {
    "tensor": {
        1: WireField("dims", "int", many=True),
        2: WireField("data_type", "int"),
        4: WireField("float_data", "float", many=True),
        8: WireField("name", "text"),
    },
    "pair": {1: WireField("key", "text"), 2: WireField("value", "bytes")},
    "node": {7: WireField("floats", "float", many=True), 2: WireField("f", "float")},
    "list": {1: WireField("item", "pair", many=True)},
}


def _read(kind: str, data: bytes, most_fields: int = 1000) -> dict[str, object]:
    reader = Reader(_KINDS, most_fields=most_fields, refused={("node", 6): "graphs"})
    return reader.read(kind, memoryview(data))


def test_numbers_packed_and_text_are_as_onnx_wrote_them() -> None:
    tensor = helper.make_tensor("w", 1, [2, 3], [0.5, -1, 2, 3, 4, 1e30])
    assert _read("tensor", tensor.SerializeToString()) == {
        "dims": [2, 3], "data_type": 1, "name": "w",
        "float_data": list(struct.unpack("<6f", struct.pack("<6f", 0.5, -1, 2, 3, 4, 1e30))),
    }  # fmt: skip


def test_negative_numbers_take_ten_bytes() -> None:
    assert _read("tensor", b"\x08" + b"\xff" * 9 + b"\x01") == {"dims": [-1]}


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        ("pair", b"\x0a\x05ab", "cut short"),
        ("pair", b"\x0a", "cut short"),
        ("node", b"\x15\x00\x00", "cut short"),
        ("tensor", b"\x08" + b"\xff" * 11, "too many digits"),
        ("tensor", b"\x08" + b"\xff" * 9 + b"\x02", "too many digits"),
        ("pair", b"\x1a\x00", "unknown part 3"),
        ("node", b"\x32\x00", "graphs"),
        ("tensor", b"\x10\x01\x10\x01", "data_type twice"),
        ("tensor", b"\x12\x01\x01", "another type"),
        ("pair", b"\x08\x01", "another type"),
        ("pair", b"\x0a\x01\xff", "utf-8"),
        ("pair", b"\x0b", "another type"),
        ("tensor", b"\x0a\x09" + b"\x01" * 9, "more parts"),
        ("list", b"\x0a\x00" * 9, "more parts"),
    ],
)
def test_anything_else_is_an_error(kind: str, data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        _read(kind, data, most_fields=8)


def test_damage_is_an_error_or_another_message() -> None:
    """Any bytes: nothing but ValueError is ever raised."""
    rng = random.Random(0)
    whole = StringStringEntryProto(key="a" * 20, value="b" * 20).SerializeToString()
    for _ in range(2000):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            _read("pair", bytes(data[: rng.randint(0, len(data))]))
        except ValueError:
            continue
