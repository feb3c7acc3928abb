"""Train, validation and test: derived by a stable hash, checked for leaks.

Every group (one source recording), or every video without one, is hashed on its own, and the hash
alone decides. So an added video never moves another one, and the order, the number and the place
of the files do not matter. The price: fractions are met in expectation, not to the row. With n
groups a fraction p is off by about sqrt(p (1 - p) / n): 4 points for 100 groups and p = 0.2. Each
class meets the fractions on its own, because its groups are its own draws; a group whose videos
have several labels stays whole, which no rule that counts within a class could promise.
"""

import hashlib
import itertools
import logging
import math
from collections.abc import Iterator, Sequence
from typing import cast

import pyarrow as pa

from vidray import schema
from vidray.errors import UserError

logger = logging.getLogger(__name__)


def derive_splits(
    table: pa.Table,
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    seed: int = 0,
    *,
    root: str | None = None,
) -> pa.Table:
    """The same table with ``split`` filled in for every row, whatever it was.

    Args:
        table: VIDEOS.
        fractions: of groups, for train, val and test; they sum to 1.
        seed: another seed, another split.
        root: the source's folder. A video without a group is hashed by its path below it, so that
            a folder and its copy in a bucket give the same split. Default: the longest folder that
            all videos share, which may change when videos are added.

    Raises:
        UserError: the fractions are not three shares of 1.
    """
    shares = _checked(fractions)
    uris = cast(list[str], table.column("uri").to_pylist())
    groups = cast(list[str | None], table.column("group").to_pylist())
    folder = _shared_folder(uris) if root is None else root.rstrip("/") + "/"
    keys = (
        f"group {group}" if group else f"path {uri.removeprefix(folder)}"
        for uri, group in zip(uris, groups, strict=True)
    )
    splits = [_split_of(key, shares, seed) for key in keys]
    index = table.schema.get_field_index("split")
    result = table.set_column(index, schema.VIDEOS.field("split"), pa.array(splits, pa.string()))
    _warn_of_empty(result, shares)
    return result


def check_splits(table: pa.Table) -> None:
    """Make sure that no group is in two splits; videos without a group or split cannot leak.

    Raises:
        UserError: names up to three groups and the splits that each is in.
    """
    seen: dict[str, set[str]] = {}
    for group, split in _pairs(table, "group", "split"):
        if group and split:
            seen.setdefault(group, set()).add(split)
    leaks = sorted(group for group, splits in seen.items() if len(splits) > 1)
    if leaks:
        examples = "; ".join(
            f"{group!r} in {' and '.join(sorted(seen[group], key=schema.SPLITS.index))}"
            for group in leaks[:3]
        )
        raise UserError(
            f"{len(leaks)} of {len(seen)} groups are in more than one split ({examples}): scores "
            "would be too good; give each group one split, or let splits be derived"
        )


def _checked(fractions: Sequence[float]) -> tuple[float, float, float]:
    good = len(fractions) == 3 and all(math.isfinite(share) and share >= 0 for share in fractions)
    if not good or abs(sum(fractions) - 1) > 1e-6:
        raise UserError(
            f"split fractions {tuple(fractions)}: three numbers for train, val and test that sum "
            "to 1, for example 0.7 0.15 0.15"
        )
    train, val, test = fractions
    return train, val, test


def _split_of(key: str, shares: tuple[float, float, float], seed: int) -> str:
    digest = hashlib.blake2b(f"{seed} {key}".encode(), digest_size=8).digest()
    draw = int.from_bytes(digest, "big") / 2**64  # [0, 1)
    if draw < shares[0]:
        return "train"
    # Compared with the rest, not with a sum: a share of 0 stays empty whatever the rounding.
    return "val" if shares[2] == 0 or draw < shares[0] + shares[1] else "test"


def _shared_folder(uris: list[str]) -> str:
    """Up to and with the last slash that all have in common."""
    if not uris:
        return ""
    # What the first and the last in order share, all between them share too.
    ends = (uri.split("/")[:-1] for uri in (min(uris), max(uris)))
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*ends, strict=False))
    return "".join(f"{first}/" for first, _ in same)


def _pairs(table: pa.Table, first: str, second: str) -> Iterator[tuple[str | None, str | None]]:
    return zip(*(table.column(name).to_pylist() for name in (first, second)), strict=True)


def _warn_of_empty(table: pa.Table, shares: tuple[float, float, float]) -> None:
    found = set(_pairs(table, "label", "split"))
    labels = sorted({label for label, _ in found if label})
    for split, share in zip(schema.SPLITS, shares, strict=True):
        lacking = [label for label in labels if (label, split) not in found]
        if share > 0 and lacking:
            examples = ", ".join(lacking[:3])
            logger.warning("no video of %d classes is in %s: %s", len(lacking), split, examples)
