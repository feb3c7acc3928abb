"""FEATURES rows as the matrices that classical models take: float32, a row a video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vidray import features
from vidray.errors import UserError
from vidray.features import embedding
from vidray.features.embedding import Embedding
from vidray.models.arrays import Matrix

METADATA_COLUMNS = (
    "width_px",
    "height_px",
    "duration_seconds",
    "frames_per_second",
    "num_frames",
)


def to_matrix(table: pa.Table, families: Sequence[str]) -> Matrix:
    """Feature columns side by side: ``float32 (N, D)``; null rows and numbers become NaN.

    One family in one chunk without a null is a read-only view of Arrow's memory; anything else is
    copied once.

    Raises:
        UserError: a family is unknown or not among the columns, or none is given.
    """
    known = (*features.FAMILIES, embedding.NAME)
    for family in families:
        if family not in known:
            features.get_family(family)  # It says which there are.
    missing = [family for family in families if family not in table.column_names]
    if missing or not families:
        raise UserError(
            f"no features {', '.join(missing) or 'are named'}: the table has "
            f"{', '.join(f for f in known if f in table.column_names) or 'none'}; "
            f"extract with {'--embed' if missing == [embedding.NAME] else '--families'}"
        )
    lengths = [_length(table, family) for family in families]
    columns = [table.column(family) for family in families]
    if len(columns) == 1 and columns[0].num_chunks == 1 and not columns[0].null_count:
        return _chunk_values(columns[0].chunk(0), lengths[0])
    matrix = np.empty((len(table), sum(lengths)), np.float32)
    left = 0
    for column, length in zip(columns, lengths, strict=True):
        top = 0
        for chunk in column.chunks:
            matrix[top : top + len(chunk), left : left + length] = _chunk_values(chunk, length)
            top += len(chunk)
        left += length
    return matrix


def _length(table: pa.Table, family: str) -> int:
    if family != embedding.NAME:
        return features.get_family(family).length
    kind = table.schema.field(family).type  # As many as the network has.
    return int(kind.list_size) if pa.types.is_fixed_size_list(kind) else 0


def _chunk_values(chunk: pa.FixedSizeListArray, length: int) -> Matrix:
    """``float32 (n, length)``; ``values`` ignores a slice's offset and still holds null rows."""
    if chunk.type != pa.list_(pa.float32(), length):
        raise UserError(
            f"a feature column is {chunk.type}, should be {length} float32: extract again with "
            "this version of vidray"
        )
    numbers = chunk.values.slice(chunk.offset * length, len(chunk) * length)
    values = numbers.to_numpy(zero_copy_only=False).reshape(len(chunk), length)
    if chunk.null_count:
        values = values.copy()
        values[chunk.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return cast(Matrix, values)


def feature_names(families: Sequence[str], network: Embedding | None = None) -> list[str]:
    """A name per column of ``to_matrix``: family, part and index, such as ``flow.hof[3]``.

    Args:
        network: that of the family ``embedding``, if it is among them.
    """
    return [
        f"{family}.{name}" for family in families for name in features.column_names(family, network)
    ]


def family_columns(
    families: Sequence[str], network: Embedding | None = None
) -> dict[str, NDArray[np.int64]]:
    """Family -> its columns of ``to_matrix``; ``network`` as of ``feature_names``."""
    lengths = [features.get_family(family, network).length for family in families]
    ends = np.cumsum(lengths)
    return {
        family: np.arange(end - length, end)
        for family, length, end in zip(families, lengths, ends, strict=True)
    }


def metadata_matrix(table: pa.Table) -> Matrix:
    """Metadata as ``float32 (N, 5)``, in the order of METADATA_COLUMNS.

    A model of metadata alone is the baseline: it knows how the clips were collected, not what they
    show. Nulls become NaN.
    """
    columns = [table.column(name).cast(pa.float32()) for name in METADATA_COLUMNS]
    return np.column_stack([column.to_numpy() for column in columns]).astype(np.float32)
