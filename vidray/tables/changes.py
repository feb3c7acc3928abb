"""The difference between two configs, for messages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from vidray.storage import json_file


def as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as JSON gives them back: lists for tuples."""
    found: dict[str, Any] = json.loads(json_file.to_bytes(values))
    return found


def config_changes(then: object, now: object) -> list[str]:
    """The difference between two configs, such as ``training.epochs: 30 -> 5``; flags that came
    since are left out.
    """
    old = _flat(then) if isinstance(then, Mapping) else {}
    new = _flat(as_json(now)) if isinstance(now, Mapping) else {}
    return [f"{name}: {old.get(name)} -> {v}" for name, v in new.items() if old.get(name, v) != v]


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as a flat dict, with names such as ``training.epochs``."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
