"""Train, validation and test: derived by a stable hash, checked for leaks.

Every group (one source recording), or every video without one, is hashed on its own, and the hash
alone decides. So an added video never moves another one, and the order, the number and the place
of the files do not matter. The price: fractions are met in expectation, not to the row. With n
groups a fraction p is off by about sqrt(p (1 - p) / n): 4 points for 100 groups and p = 0.2. Each
class meets the fractions on its own, because its groups are its own draws; a group whose videos
have several labels stays whole, which no rule that counts within a class could promise.
``shortcomings`` says what that left too little of.
"""

import hashlib
import itertools
import logging
import math
import posixpath
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import cast

import pyarrow as pa

from vidray import storage
from vidray.errors import UserError
from vidray.tables import schema

logger = logging.getLogger(__name__)

DEFAULT_FRACTIONS = (0.7, 0.15, 0.15)  # of recordings, for train, val and test

Fractions = tuple[float, float, float]
# Label -> split -> (videos, recordings); null for videos that have none.
Counts = Mapping[str | None, Mapping[str | None, tuple[int, int]]]


def derive_splits(
    table: pa.Table,
    fractions: Sequence[float] = DEFAULT_FRACTIONS,
    seed: int = 0,
    *,
    root: str | None = None,
) -> pa.Table:
    """The same table with ``split`` filled in for every row, whatever it was; logs shortcomings.

    Args:
        table: VIDEOS, or any table with its columns.
        fractions: of recordings, for train, val and test; they sum to 1.
        seed: another seed, another split.
        root: the source's folder. A video without a group is hashed by its path below it, so that
            a folder and its copy in a bucket give the same split. Default: the longest folder that
            all videos share, which may change when videos are added.

    Raises:
        UserError: the fractions are not three shares of 1.
    """
    result = assign(table, fractions, seed, root=root)
    for sentence in shortcomings(result, fractions):
        logger.warning("%s", sentence)
    return result


def assign(
    table: pa.Table, fractions: Sequence[float], seed: int = 0, *, root: str | None = None
) -> pa.Table:
    """``derive_splits`` without a word: for who derives a split again that was told of before."""
    shares = checked(fractions)
    uris = cast(list[str], table.column("uri").to_pylist())
    groups = cast(list[str | None], table.column("group").to_pylist())
    folder = _shared_folder(uris) if root is None else root.rstrip("/") + "/"
    keys = (
        f"group {group}" if group else f"path {uri.removeprefix(folder)}"
        for uri, group in zip(uris, groups, strict=True)
    )
    splits = [_split_of(key, shares, seed) for key in keys]
    index = table.schema.get_field_index("split")
    return table.set_column(index, schema.VIDEOS.field("split"), pa.array(splits, pa.string()))


def source_folder(source: str, uris: Collection[str]) -> str:
    """The ``root`` that ``sources.list_videos(source)`` takes, told without the source being there.

    Args:
        source: a folder, a list, a glob or one video, as run.json has it.
        uris: videos that were found in it.
    """
    folder = source.rstrip("/")
    if any(uri.startswith(f"{folder}/") for uri in uris):
        return folder
    if re.search(r"[*?\[]", folder):
        return re.split(r"/(?=[^/]*[*?\[])", folder, maxsplit=1)[0]
    return storage.parent_of(folder) if posixpath.splitext(folder)[1] else folder


def check_splits(table: pa.Table) -> None:
    """Make sure that no recording is in two splits: no group, and no file of several stretches.

    Raises:
        UserError: names up to three recordings and the splits that each is in.
    """
    seen: dict[str, set[str]] = {}
    for recording, split in zip(_recordings(table), table["split"].to_pylist(), strict=True):
        if split:
            seen.setdefault(recording, set()).add(split)
    leaks = sorted(recording for recording, splits in seen.items() if len(splits) > 1)
    if leaks:
        examples = "; ".join(
            f"{storage.without_secrets(recording)!r} in "
            f"{' and '.join(sorted(seen[recording], key=_place))}"
            for recording in leaks[:3]
        )
        raise UserError(
            f"{len(leaks)} of {len(seen)} groups are in more than one split ({examples}): scores "
            "would be too good; give each group one split, or let splits be derived"
        )


def known_recordings(table: pa.Table) -> list[str | None]:
    """The source recording of each row, null where nothing tells: the row may be one of its own.

    Stretches of one file are of one recording, also where no group says so.
    """
    uris, ids = (cast(list[str], table[name].to_pylist()) for name in ("uri", "video_id"))
    videos_of = defaultdict(set)
    for uri, video in zip(uris, ids, strict=True):
        videos_of[uri].add(video)
    return [
        group or (uri if len(videos_of[uri]) > 1 else None)
        for group, uri in zip(table["group"].to_pylist(), uris, strict=True)
    ]


def count(table: pa.Table) -> Counts:
    """Videos and recordings of each label in each split; a video without a group is a recording."""
    videos: dict[tuple[str | None, str | None], set[str]] = defaultdict(set)
    recordings: dict[tuple[str | None, str | None], set[str]] = defaultdict(set)
    for pair, video, recording in zip(
        _pairs(table, "label", "split"),
        table["video_id"].to_pylist(),
        _recordings(table),
        strict=True,
    ):
        videos[pair].add(video)
        recordings[pair].add(recording)
    found: dict[str | None, dict[str | None, tuple[int, int]]] = defaultdict(dict)
    for (label, split), own in videos.items():
        found[label][split] = (len(own), len(recordings[label, split]))
    return found


def shortcomings(table: pa.Table, fractions: Sequence[float]) -> list[str]:
    """What derived splits left too little of, a sentence each."""
    sentences = []
    counts = count(table)
    labels = sorted(label for label in counts if label)
    for split, share in zip(schema.SPLITS, fractions, strict=True):
        lacking = [label for label in labels if split not in counts[label]]
        if share > 0 and lacking:
            examples = ", ".join(lacking[:3]) + (", ..." if len(lacking) > 3 else "")
            cannot = "learnt" if split == "train" else "judged there"
            sentences.append(
                f"split {split} has no video of {len(lacking)} of {len(labels)} classes: "
                f"{examples} (such a class cannot be {cannot}; more recordings of it would help)"
            )
    unknown = table.filter(table["group"].is_null())["uri"].unique()
    if labels and len(unknown):
        every = len(table["uri"].unique())
        known = (
            "no recordings known" if len(unknown) == every
            else f"no recording known of {len(unknown)} of {every} videos"
        )  # fmt: skip
        sentences.append(
            f"{known}: each video counts as its own. If several were cut from one recording, say "
            "which in a column group of a list of them, and extract or cut that list"
        )
    return sentences


def _recordings(table: pa.Table) -> Iterable[str]:
    """The recording of each row; a file that nothing is known of is one of its own."""
    return (group or uri for group, uri in _pairs(table, "group", "uri"))  # type: ignore[misc]


def checked(fractions: Sequence[float]) -> Fractions:
    """The same as three numbers; UserError unless they are shares of 1."""
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


def _place(split: str) -> tuple[bool, int]:
    return (True, 0) if split not in schema.SPLITS else (False, schema.SPLITS.index(split))


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
