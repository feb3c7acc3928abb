"""What tables and JSON of strangers say, fit for a page that goes by mail: no text without end, no
passwords or signatures of addresses.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vidray import storage

# Characters of a text by its column; the page itself shows 20,000 of one at the most.
_MOST = {"uri": 4096, "error_message": 20_000}
MOST_OF_NAME = 500
_MOST_OF_VALUE = 4096
_MOST_LEVELS = 100  # A fixed rule: how deep Python gets depends on who calls.
_WITH_ADDRESSES = ("uri", "group", "error_message")


def cut(text: str, most: int = MOST_OF_NAME) -> str:
    """A text, or its beginning with what tells it from others that begin so."""
    if len(text) <= most:
        return text
    digest = blake2b(text.encode(errors="replace"), digest_size=4).hexdigest()
    return f"{text[:most]}… ({len(text):,} characters, {digest})"


def cut_throughout(values: Any) -> Any:
    """A JSON value whose texts are names, such as those of classes; all ``cut``."""
    return _throughout(values, cut)


def cleaned_json(values: Any) -> Any:
    """A JSON value, every text in it without secrets and of limited length.

    Raises:
        RecursionError: it is nested too deeply.
    """
    return _throughout(values, lambda text: storage.without_secrets(cut(text, _MOST_OF_VALUE)))


def _throughout(values: Any, clean: Callable[[str], str], levels: int = _MOST_LEVELS) -> Any:
    if not levels:
        raise RecursionError(f"nested deeper than {_MOST_LEVELS} levels")
    if isinstance(values, str):
        return clean(values)
    within = partial(_throughout, clean=clean, levels=levels - 1)
    if isinstance(values, dict):
        return {cut(name): within(value) for name, value in values.items()}
    return [within(value) for value in values] if isinstance(values, list) else values


def cleaned_table(table: pa.Table) -> pa.Table:
    """A table whose texts are of limited length, and whose addresses and messages are without
    secrets. Jobs store none; a stranger's table may.
    """
    for at, field in enumerate(table.schema):
        is_address = field.name in _WITH_ADDRESSES
        if is_address or pa.types.is_string(field.type):
            texts = table[field.name].cast(pa.string())
            chunks = [_cleaned(chunk, field.name, is_address) for chunk in texts.chunks]
            table = table.set_column(at, field.name, pa.chunked_array(chunks, pa.string()))
    return table


def _cleaned(texts: pa.Array, name: str, is_address: bool) -> pa.Array:
    most = _MOST.get(name, MOST_OF_NAME)
    found = pc.greater(pc.utf8_length(texts), most)
    if is_address:
        # What ``without_secrets`` looks for has one of these: of a million addresses, few have.
        found = pc.or_(found, pc.match_substring_regex(texts, "[@?#&]"))
    found = pc.fill_null(found, False)
    clean = partial(_clean_text, name=name, most=most, is_address=is_address)
    changed = [clean(text) for text in texts.filter(found).to_pylist()]
    return pc.replace_with_mask(texts, found, pa.array(changed, pa.string())) if changed else texts


def _clean_text(text: str, *, name: str, most: int, is_address: bool) -> str:
    text = cut(text, most)
    # In the path of a file the signs mean nothing.
    is_path = name == "uri" and not storage.is_bucket(text)
    return storage.without_secrets(text) if is_address and not is_path else text
