"""Parquet files of ours: written the same way each time, checked for damage when read."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vidray import storage
from vidray.storage import disk


def parquet_bytes(table: pa.Table) -> bytes:
    """A Parquet file: the same table gives the same bytes."""
    sink = io.BytesIO()
    words = [field.name for field in table.schema if pa.types.is_string(field.type)]
    # Dictionaries do not help float lists; zstd level 1 saves a third of them at 0.3 GB/s.
    # Statistics of them are of no use to a reader and a third of the time.
    pq.write_table(
        table,
        sink,
        compression="zstd",
        compression_level=1,
        use_dictionary=words,
        write_statistics=words,
    )
    return sink.getvalue()


def read_parquet(
    uri: str, columns: list[str] | None = None, *, if_there: Sequence[str] = ()
) -> pa.Table:
    """A Parquet file, or some of its columns.

    Args:
        columns: all if not given.
        if_there: further ones, of which the file may lack some.

    Raises:
        FileNotFoundError: there is none.
        UserError: it is damaged, or has not these columns.
    """
    if columns is not None and if_there:
        there = read_schema(uri).names
        columns = [*columns, *(name for name in if_there if name in there)]
    _refuse_pipes(uri)
    try:
        if storage.is_bucket(uri) and columns is None:
            data = io.BytesIO(storage.read_bytes(uri))
            return pq.read_table(data, page_checksum_verification=True)
        if storage.is_bucket(uri):
            # Only the wanted columns' bytes: a part of the notebooks' numbers has 42 MB.
            with _opened(uri) as file:
                return pq.read_table(file, columns=columns, page_checksum_verification=True)
        return pq.read_table(
            uri, columns=columns, partitioning=None, page_checksum_verification=True
        )
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        _raise_if_damaged(uri, error)
        raise


def read_schema(uri: str) -> pa.Schema:
    """Columns and metadata of a Parquet file; errors as of ``read_parquet``."""
    _refuse_pipes(uri)
    try:
        with _opened(uri) as file:
            return pq.read_schema(file)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        _raise_if_damaged(uri, error)
        raise


def _refuse_pipes(uri: str) -> None:
    """Refuse a pipe, whose opening would wait for a writer. Raises OSError if it is no file."""
    if not storage.is_bucket(uri):
        disk.size_and_fingerprint(storage.canonical(uri))


def _raise_if_damaged(uri: str, error: Exception) -> None:
    """Raise UserError for damage: Arrow has own errors for it, or an OSError without a number."""
    is_of_arrow = isinstance(error, pa.ArrowException | UnicodeDecodeError)
    # A storage that does not answer has no number either, but a cause (``buckets.call``).
    is_plain = type(error) is OSError and error.errno is None and error.__cause__ is None
    if is_of_arrow or is_plain:
        said = " ".join(str(error).split())[:200]
        raise storage.damaged(uri, said) from error


def _opened(uri: str) -> Any:
    fs, path = storage.filesystem(uri)
    return fs.open(path, "rb", block_size=1 << 18, cache_type="readahead")
