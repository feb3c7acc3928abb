"""Untrusted JSON as a dataclass of ours, whose fields say which values are allowed."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

from vidray.errors import UserError

T = TypeVar("T")
MayLack = tuple[type | str, ...]

_SHOWN_CHARACTERS = 60
_UNIONS = (types.UnionType, typing.Union)
# What JSON values of a plain type are called, and which they are. A bool is an int to Python.
_PLAIN: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    str: ("text", lambda value: isinstance(value, str) and is_text(value)),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("a whole number", lambda value: type(value) is int and abs(value) < 1 << 63),
    float: ("a number", lambda value: type(value) in (int, float) and _is_finite(value)),
    types.NoneType: ("null", lambda value: value is None),
}


def loads(data: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: damaged, nested too deeply, or with NaN or infinity, which JSON has not.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number")

    try:
        return json.loads(data, parse_constant=refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def build(kind: type[T], values: Any, where: str, *, may_lack: MayLack = ()) -> T:
    """``kind(**values)``, after a look at every key and at the type of every value.

    Args:
        kind: a dataclass; its fields may be plain, literal, optional, tuples or dataclasses.
        values: what JSON gave.
        where: what errors call ``values``; keys are named below it, as ``clip.size_px``.
        may_lack: dataclasses of which keys with a default may be missing, and names of such keys
            that may be missing anywhere; no others may.

    Raises:
        UserError: a key is missing or unknown, or a value is not what its field takes.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{where} is {shown(values)}: it must be an object")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(values) - set(fields)):
        known = ", ".join(fields)
        raise UserError(f"{where} has an unknown key {shown(unknown[0])}: there are {known}")
    for name, field in fields.items():
        has_default = field.default is not dataclasses.MISSING or (
            field.default_factory is not dataclasses.MISSING
        )
        is_optional = has_default and (kind in may_lack or name in may_lack)
        if name not in values and not is_optional:
            raise UserError(f"{where}.{name} is missing")
    hints = typing.get_type_hints(kind)
    given = {
        name: _value(hints[name], value, f"{where}.{name}", may_lack)
        for name, value in values.items()
    }
    try:
        return kind(**given)
    except UserError as error:
        raise UserError(f"in {where}, {error}") from None


def is_text(value: str) -> bool:
    """Whether a value is text that UTF-8 can hold: half of a surrogate pair is not."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(value: Any) -> str:
    """A value as an error shows it, on one line."""
    if isinstance(value, (Mapping, list)):
        return "an object" if isinstance(value, Mapping) else f"a list of {len(value)}"
    if type(value) is int and not _PLAIN[int][1](value):
        return "a number of many digits"  # Python refuses to print more than 4,300 of them.
    text = json.dumps(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _value(hint: Any, value: Any, where: str, may_lack: MayLack) -> Any:
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, where, may_lack=may_lack)
    if isinstance(value, Mapping):  # Of an optional dataclass.
        for kind in filter(dataclasses.is_dataclass, typing.get_args(hint)):
            return build(typing.cast(type, kind), value, where, may_lack=may_lack)
    if typing.get_origin(hint) is tuple and isinstance(value, list):
        (kind, *_) = typing.get_args(hint)  # All items of our tuples are of one kind.
        return tuple(_value(kind, item, f"{where}[{k}]", may_lack) for k, item in enumerate(value))
    if typing.get_origin(hint) in _UNIONS and isinstance(value, list):
        for choice in typing.get_args(hint):
            if typing.get_origin(choice) is tuple:
                return _value(choice, value, where, may_lack)
    rule, fits = _rule(hint)
    if not fits(value):
        raise UserError(f"{where} is {shown(value)}: it must be {rule}")
    return value


def _rule(hint: Any) -> tuple[str, Callable[[Any], bool]]:
    """The rule of a type in words, and a check for it."""
    if hint in _PLAIN:
        return _PLAIN[hint]
    if dataclasses.is_dataclass(hint):
        return "an object", lambda value: isinstance(value, Mapping)
    choices = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return f"one of {', '.join(choices)}", lambda value: value in choices
    if typing.get_origin(hint) is tuple:
        return "a list", lambda _: False
    if typing.get_origin(hint) is Mapping:  # What is in it, its dataclass looks at.
        return "an object", lambda value: isinstance(value, Mapping)
    if typing.get_origin(hint) in _UNIONS:
        rules = [_rule(choice) for choice in choices]
        return " or ".join(rule for rule, _ in rules), lambda value: any(
            fits(value) for _, fits in rules
        )
    raise TypeError(f"no JSON value is known to be {hint}")
