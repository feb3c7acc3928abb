"""Protobuf messages of a few known kinds, read strictly: what is not known is refused.

A reader of our own, since a machine that labels has a runtime and not the package ``onnx``, and
since nothing may be left for the runtime to see that was not looked at: a field that is unknown, or
given twice where there can be one, is an error here, where other readers skip or merge it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Wire = Literal["int", "float", "double", "text", "bytes"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIRE_OF = {"int": _VARINT, "float": _FIXED32, "double": _FIXED64}
_LONGEST_VARINT = 10


@dataclass(frozen=True)
class WireField:
    """A field of a message.

    Attributes:
        kind: what it holds: a plain value, or the name of a kind of message.
        many: whether there may be several; plain numbers may then be packed.
    """

    name: str
    kind: str
    many: bool = False


Kinds = Mapping[str, Mapping[int, WireField]]
"""Kind of message -> number of a field -> the field."""


class Reader:
    """A reader of messages that counts what it reads.

    Args:
        kinds: the messages there are.
        most_fields: in all of them together.
        refused: (kind, number) -> why such a field is not taken, for better words than "unknown".
    """

    def __init__(
        self, kinds: Kinds, *, most_fields: int, refused: Mapping[tuple[str, int], str]
    ) -> None:
        self._kinds, self._left, self._refused = kinds, most_fields, refused

    def read(self, kind: str, data: memoryview) -> dict[str, Any]:
        """The fields of a message by name; bytes are views of ``data``. Kinds must not recur.

        Raises:
            ValueError: it is damaged, or not such a message.
        """
        found: dict[str, Any] = {}
        at = 0
        while at < len(data):
            self._left -= 1
            if self._left < 0:
                raise ValueError("it has more parts than any network")
            tag, at = _varint(data, at)
            number, wire = tag >> 3, tag & 7
            part = self._kinds[kind].get(number)
            if part is None:
                why = self._refused.get((kind, number), f"its {kind} has an unknown part {number}")
                raise ValueError(why)
            values, at = self._values(part, wire, data, at)
            if part.many:
                found.setdefault(part.name, []).extend(values)
            elif part.name in found:
                raise ValueError(f"its {kind} has {part.name} twice")
            else:
                (found[part.name],) = values
        return found

    def _values(
        self, part: WireField, wire: int, data: memoryview, at: int
    ) -> tuple[list[Any], int]:
        own = _WIRE_OF.get(part.kind, _BYTES)
        if wire == own and own != _BYTES:
            value, at = _number(part.kind, data, at)
            return [value], at
        if wire != _BYTES or (own != _BYTES and not part.many):
            raise ValueError(f"{part.name} is of another type")
        length, at = _varint(data, at)
        if length > len(data) - at:
            raise ValueError("it is cut short")
        inside = data[at : at + length]
        return self._of_bytes(part, inside), at + length

    def _of_bytes(self, part: WireField, inside: memoryview) -> list[Any]:
        if part.kind == "bytes":
            return [inside]
        if part.kind == "text":
            return [bytes(inside).decode()]  # UnicodeDecodeError is a ValueError.
        if part.kind not in _WIRE_OF:
            return [self.read(part.kind, inside)]
        return self._packed(part.kind, inside)

    def _packed(self, kind: str, inside: memoryview) -> list[Any]:
        values, at = [], 0
        while at < len(inside):
            self._left -= 1
            if self._left < 0:
                raise ValueError("it has more parts than any network")
            value, at = _number(kind, inside, at)
            values.append(value)
        return values


def _number(kind: str, data: memoryview, at: int) -> tuple[Any, int]:
    if kind == "int":
        value, at = _varint(data, at)
        return (value - (1 << 64) if value >> 63 else value), at
    code, size = ("<f", 4) if kind == "float" else ("<d", 8)
    if size > len(data) - at:
        raise ValueError("it is cut short")
    return struct.unpack_from(code, data, at)[0], at + size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for k in range(_LONGEST_VARINT):
        if at + k >= len(data):
            raise ValueError("it is cut short")
        byte = data[at + k]
        value |= (byte & 0x7F) << (7 * k)
        if byte < 0x80:
            if value >> 64:
                break
            return value, at + k + 1
    raise ValueError("a number in it has too many digits")
