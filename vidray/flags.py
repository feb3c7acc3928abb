"""Flags of dataclasses that a config holds: their names, and a refusal of those without effect."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

import tyro

from vidray.errors import UserError

# Marks a dataclass in a config: a flag is named after its field alone, --size-px and not
# --settings.size-px, however deep it lies.
Flat: Any = tyro.conf.OmitArgPrefixes


def refuse_unused(settings: Any, because: str, *, but: Collection[str] = ()) -> None:
    """Raise UserError for the first flag of a dataclass that is not at its default.

    Args:
        settings: a dataclass whose fields are flags; every field has a default.
        because: what the flags have no effect on, such as ``svm``.
        but: fields that do have one.
    """
    plain = type(settings)()
    for field in dataclasses.fields(settings):
        given = getattr(settings, field.name)
        if field.name not in but and given != getattr(plain, field.name):
            flag = "--" + ("no-" if given is False else "") + field.name.replace("_", "-")
            raise UserError(f"{flag} has no effect on {because}: leave it out")
