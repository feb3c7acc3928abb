"""Names of the decoders a user may choose. Imports nothing heavy."""

from __future__ import annotations

import importlib.util
from typing import Literal, get_args

from vidray.errors import UserError, unknown_name

Decoder = Literal["pyav", "opencv", "decord"]
DECODERS: tuple[Decoder, ...] = get_args(Decoder)


def check_decoder(name: str) -> None:
    """Raise UserError unless ``name`` is a decoder that is installed."""
    if name not in DECODERS:
        raise unknown_name("decoder", name, DECODERS)
    if name == "decord" and importlib.util.find_spec("decord") is None:
        raise UserError("decoder decord is not installed: pip install 'vidray[decord]'")
