"""Train, validation and test: derived by a stable hash, balanced by class, checked for leaks.

Every recording (a group, or a video without one) draws a number from 0 to 1: a hash of its name,
so the order and the place of the files do not matter. In the order of these numbers the first
recordings of a class are train, the next val, the last test, as many of each as its fractions come
to (largest remainders). A class of 4 recordings or more is in all three splits.

Where that puts the two bounds between draws is kept (``Bounds``), and a split that is derived again
is derived by the same bounds: videos that were added since move no other one. A recording with
videos of several classes stays whole: it goes to the earliest split that one of them says.
``shortcomings`` says what that left too little of.
"""

import hashlib
import itertools
import logging
import math
import operator
import posixpath
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import cast

import pyarrow as pa

from vidray import storage
from vidray.errors import UserError
from vidray.sources.shares import DEFAULT_FRACTIONS, Fractions, checked
from vidray.tables import schema

logger = logging.getLogger(__name__)

# Label -> the draws at which its train and its val end.
Bounds = Mapping[str, tuple[float, float]]
_LEAST = (2, 1, 1)  # recordings of a class in train, val and test, if it has so many
_ROUNDING = 1e-9  # 0.7 * 10 is below 7 in floats
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
    result = assign(table, fractions, balance(table, fractions, seed, root=root), seed, root=root)
    for sentence in shortcomings(result, fractions):
        logger.warning("%s", sentence)
    return result


def balance(
    table: pa.Table, fractions: Sequence[float], seed: int = 0, *, root: str | None = None
) -> dict[str, tuple[float, float]]:
    """Bounds by which every class meets the fractions; none of classes that do so without.

    Arguments as of ``derive_splits``.
    """
    shares = checked(fractions)
    draws: dict[str, dict[str, float]] = defaultdict(dict)
    for label, key in zip(table["label"].to_pylist(), _keys(table, root), strict=True):
        if label:
            draws[label][key] = _draw(key, seed)
    plain, found = _plain(shares), {}
    for label in sorted(draws):
        own = sorted(draws[label].values())
        # Val and test often want as much; which is served first differs from class to class.
        train, val, _ = apportion(len(own), shares, test_first=_draw(f"label {label}", seed) < 0.5)
        bounds = _nearest(own, train, plain[0]), _nearest(own, train + val, plain[1])
        if bounds != plain:
            found[label] = bounds
    return found


def assign(
    table: pa.Table,
    fractions: Sequence[float],
    bounds: Bounds,
    seed: int = 0,
    *,
    root: str | None = None,
) -> pa.Table:
    """The same table with ``split`` by ``bounds``.

    Args:
        bounds: from ``balance``, for these videos or those from which the split was first derived.
            A class without is split at the fractions: they are met in expectation only.
        table, fractions, seed, root: as of ``derive_splits``.
    """
    plain = _plain(checked(fractions))
    keys = list(_keys(table, root))
    place_of: dict[str, int] = {}
    for key, label in zip(keys, table["label"].to_pylist(), strict=True):
        train_end, val_end = bounds.get(label or "", plain)
        draw = _draw(key, seed)
        place = 0 if draw < train_end else 1 if draw < val_end else 2
        place_of[key] = min(place, place_of.get(key, 2))
    splits = pa.array([schema.SPLITS[place_of[key]] for key in keys], pa.string())
    index = table.schema.get_field_index("split")
    return table.set_column(index, schema.VIDEOS.field("split"), splits)


def apportion(number: int, shares: Fractions, *, test_first: bool) -> tuple[int, int, int]:
    """Number of a class's recordings for train, val and test, by largest remainders.

    A class with enough for all three is in all three, and keeps two to learn from, since a
    calibration leaves recordings out.

    Args:
        test_first: of val and test with the same remainder.
    """
    wanted = [number * share for share in shares]
    counts = [math.floor(count + _ROUNDING) for count in wanted]
    while sum(counts) < number:
        order = (0, 2, 1) if test_first else (0, 1, 2)
        counts[max(order, key=lambda k: round(wanted[k] - counts[k], 9))] += 1
    least = [few if share else 0 for few, share in zip(_LEAST, shares, strict=True)]
    while sum(least) <= number and any(map(operator.lt, counts, least)):
        can_give = [k for k in range(3) if counts[k] > least[k]]
        counts[max(can_give, key=lambda k: counts[k] - wanted[k])] -= 1
        counts[next(k for k in range(3) if counts[k] < least[k])] += 1
    train, val, test = counts
    return train, val, test


def source_folder(source: str, uris: Collection[str]) -> str:
    """The ``root`` that ``sources.list_videos(source)`` takes, also if the source is gone.

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
    """Check that no recording is in two splits: no group, and no file of several stretches.

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
    """The source recording of each row, null where it is unknown.

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


def shortcomings(table: pa.Table, fractions: Sequence[float] | None = None) -> list[str]:
    """What the splits lack, a sentence each.

    Args:
        table: VIDEOS, or any table with its columns.
        fractions: of derived splits; None for given ones, where a split may be left out.
    """
    sentences = []
    counts = count(table)
    labels = sorted(label for label in counts if label)
    if fractions is None:
        there = set(table["split"].to_pylist())
        fractions = [float(split in there) for split in schema.SPLITS]
    for split, share in zip(schema.SPLITS, fractions, strict=True):
        recordings = {label: counts[label].get(split, (0, 0))[1] for label in labels}
        lacking = [label for label, number in recordings.items() if not number]
        alone = [label for label, number in recordings.items() if number == 1]
        if share > 0 and lacking:
            cannot = "learnt" if split == "train" else "judged there"
            sentences.append(
                f"split {split} has no video of {len(lacking)} of {len(labels)} classes: "
                f"{_some(lacking)} (such a class cannot be {cannot}; more recordings of it would "
                "help)"
            )
        if split != "train" and alone:
            sentences.append(
                f"split {split} has only one recording of {len(alone)} of {len(labels)} classes: "
                f"{_some(alone)} (what is said of such a class there rests on it)"
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


def _some(labels: Sequence[str]) -> str:
    return ", ".join(labels[:3]) + (", ..." if len(labels) > 3 else "")


def _recordings(table: pa.Table) -> Iterable[str]:
    """The recording of each row; a file that nothing is known of is one of its own."""
    return (group or uri for group, uri in _pairs(table, "group", "uri"))  # type: ignore[misc]


def _keys(table: pa.Table, root: str | None) -> Iterator[str]:
    """The key that is hashed for each row: its recording, or its path below the source's folder."""
    uris = cast(list[str], table.column("uri").to_pylist())
    groups = cast(list[str | None], table.column("group").to_pylist())
    folder = _shared_folder(uris) if root is None else root.rstrip("/") + "/"
    for uri, group in zip(uris, groups, strict=True):
        yield f"group {group}" if group else f"path {uri.removeprefix(folder)}"


def _draw(key: str, seed: int) -> float:
    """A number from 0 up to, and without, 1."""
    digest = hashlib.blake2b(f"{seed} {key}".encode(), digest_size=8).digest()
    return min(int.from_bytes(digest, "big") / 2**64, math.nextafter(1, 0))


def _plain(shares: Fractions) -> tuple[float, float]:
    """The ends of train and val without balancing; a share of 0 stays empty."""
    train, val, test = shares
    return train, min(train + val, 1.0) if test else 1.0


def _nearest(draws: Sequence[float], below: int, wanted: float) -> float:
    """The bound nearest to ``wanted`` that has ``below`` of the sorted ``draws`` below it."""
    if below and wanted <= draws[below - 1]:
        return math.nextafter(draws[below - 1], 1)
    return min(wanted, draws[below]) if below < len(draws) else wanted


def _place(split: str) -> tuple[bool, int]:
    return (True, 0) if split not in schema.SPLITS else (False, schema.SPLITS.index(split))


def _shared_folder(uris: list[str]) -> str:
    """The common part of all URIs, up to and with its last slash."""
    if not uris:
        return ""
    # What the first and the last in order share, all between them share too.
    ends = (uri.split("/")[:-1] for uri in (min(uris), max(uris)))
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*ends, strict=False))
    return "".join(f"{first}/" for first, _ in same)


def _pairs(table: pa.Table, first: str, second: str) -> Iterator[tuple[str | None, str | None]]:
    return zip(*(table.column(name).to_pylist() for name in (first, second)), strict=True)
