"""What is watched of the videos and labels of each night: numbers, names and vectors, one a video.

The rows of a history, the videos that its model learnt from and those it was tested on stand in one
row of M videos, so that each variable is cut into the same steps for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vidray.errors import UserError
from vidray.evaluation import drift
from vidray.evaluation.drift import Codes, Masks, Vectors
from vidray.evaluation.intervals import Floats, Integers
from vidray.labelling import commit_files
from vidray.report.nights.origin import LabelOrigin
from vidray.report.nights.rows import NightRows, floats, recordings, words
from vidray.report.runs import ExtractRun
from vidray.tables import runs as run_tables

# Where a video of no night stands.
TRAINING, TESTED = -1, -2
# The smallest differences that matter: of the distributions of numbers and of shares of labels; of
# shares of videos that are damaged or fail, where a fiftieth more is much; and of pairs told apart.
LEAST, LEAST_DAMAGE, LEAST_TOLD_APART = 0.10, 0.02, 0.60
# Column -> title and unit.
_MEASURED = {
    "size": ("frame size", "pixels"),
    "frames_per_second": ("frame rate", "frames a second"),
    "sharpness": ("sharpness", ""),
    "noise": ("noise", ""),
    "blockiness": ("blockiness", ""),
    "brightness": ("brightness", ""),
    "contrast": ("contrast", ""),
}
_MOST_FAMILIES = 8
# What reading a damaged file may raise: it costs its own vectors only.
_DAMAGE = (UserError, OSError, KeyError, ValueError, pa.ArrowException)
# Videos whose vectors are looked at: of a night, and of the videos that the model learnt from.
_MOST_OF_NIGHT, _MOST_OF_TRAINING = 600, 2000


@dataclass(frozen=True, kw_only=True)
class NightVariable:
    """Something that is watched.

    Attributes:
        title: in words.
        against: whether it can be compared with the training videos or with the tested ones; with
            the nights before it always is.
        column: its value of each of M videos.
        least: the smallest effect that matters.
        numbers: ``float64 (M,)`` of a number.
        names: of the codes of names.
        unit: of the numbers.
    """

    title: str
    against: Literal["training", "tested", "nothing"]
    column: Codes | Vectors
    least: float = LEAST
    numbers: Floats | None = None
    names: tuple[str, ...] = ()
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class WatchedNights:
    """M videos: rows of the history, then videos learnt from, then tested ones.

    Attributes:
        night: ``int64 (M,)``: the night, ``TRAINING`` or ``TESTED``.
        recording: ``int64 (M,)``.
        is_new: ``bool (M,)``: the first row of its video; others are not compared.
        is_learnt: ``bool (M,)``: a row of a video that the model learnt from.
        problems: what could not be read, a sentence each.
    """

    night: Integers
    recording: Integers
    is_new: Masks
    is_learnt: Masks
    variables: tuple[NightVariable, ...]
    problems: tuple[str, ...]


def watch(found: NightRows, origin: LabelOrigin, *, most_nights: int, seed: int) -> WatchedNights:
    """All that can be watched of a history with what the folders hold.

    Args:
        most_nights: the newest nights whose vectors are wanted.
        seed: of the vectors that are drawn.
    """
    training, judged = origin.training, origin.judged
    num_training = 0 if training is None else len(training)
    num_tested = 0 if judged is None else len(judged.video_ids)
    sizes = (len(found.rows), num_training, num_tested)
    night = np.concatenate(
        [found.night, np.full(num_training, TRAINING), np.full(num_tested, TESTED)]
    )
    ids = found.rows["video_id"].combine_chunks()
    learnt = np.zeros(len(ids), np.bool_)
    if training is not None:
        learnt = pc.is_in(ids, training["video_id"].combine_chunks()).to_numpy(False)
    no = np.zeros(num_training + num_tested, np.bool_)
    problems: list[str] = []
    variables = [
        *_of_labels(found, origin, sizes),
        *_of_features(found, origin, sizes),
        *_families(found, origin, night, problems, seed=seed, most_nights=most_nights),
    ]
    return WatchedNights(
        night=night,
        recording=_recordings(found, origin),
        is_new=np.concatenate([found.is_new, ~no]),
        is_learnt=np.concatenate([learnt, no]),
        variables=tuple(variables),
        problems=tuple(problems),
    )


def _recordings(found: NightRows, origin: LabelOrigin) -> Integers:
    """``int64 (M,)``: a number for each recording; the same in all three parts."""
    columns = [found.recording.combine_chunks()]
    if origin.training is not None:
        columns.append(recordings(origin.training).combine_chunks())
    if origin.judged is not None:
        of_judged = zip(origin.judged.groups, origin.judged.uris, strict=True)
        columns.append(pa.array([group or uri for group, uri in of_judged], pa.string()))
    codes = pa.concat_arrays(columns).dictionary_encode().indices
    return np.asarray(codes.to_numpy(), np.int64)


Sizes = tuple[int, int, int]


def _number(
    title: str, parts: Sequence[Floats | None], sizes: Sizes, **more: Any
) -> NightVariable | None:
    """A number of the three parts; None where no row of the history has it."""
    if parts[0] is None or not np.isfinite(parts[0]).any():
        return None
    filled = [
        np.full(size, np.nan) if part is None else part
        for part, size in zip(parts, sizes, strict=True)
    ]
    values = np.concatenate(filled)
    return NightVariable(title=title, column=drift.numbers(values), numbers=values, **more)


def _of_labels(found: NightRows, origin: LabelOrigin, sizes: Sizes) -> Iterator[NightVariable]:
    """What the rows of the labels have themselves."""
    training, judged = origin.training, origin.judged

    def trained(name: str) -> Floats | None:
        has_it = training is not None and name in training.column_names
        return floats(training[name]) if training is not None and has_it else None

    for title, name, unit, least in (
        ("duration", "duration_seconds", "s", LEAST),
        ("corrupt frames", "corrupt_share", "", LEAST_DAMAGE),
    ):
        parts = (floats(found.rows[name]), trained(name), None)
        one = _number(title, parts, sizes, against="training", least=least, unit=unit)
        if one is not None:
            yield one
    ok = found.labels.codes >= 0
    if ok.any():
        yield _labels(found, origin, sizes)
        probability = np.where(ok, floats(found.rows["probability"]), np.nan)
        tested = None if judged is None else judged.probabilities.max(axis=1)
        parts = (probability, None, tested)
        one = _number("probability of the label", parts, sizes, against="tested")
        if one is not None:
            yield one
    yield _failures(found, sizes)


def _labels(found: NightRows, origin: LabelOrigin, sizes: Sizes) -> NightVariable:
    predicted = () if origin.judged is None else origin.judged.predicted
    names = sorted({*found.labels.names, *predicted})
    own = np.array([names.index(name) for name in found.labels.names])
    codes = np.where(found.labels.codes >= 0, own[found.labels.codes], -1)
    tested = words(pa.array(predicted, pa.string()))
    number_of = {name: k for k, name in enumerate(names)}
    of_tested = np.array([number_of[name] for name in tested.names], np.int64)
    everything = np.concatenate(
        [codes, np.full(sizes[1], -1), of_tested[tested.codes] if len(of_tested) else []]
    ).astype(np.int64)
    return NightVariable(
        title="label",
        against="tested",
        column=Codes(everything, len(names), is_ordered=False),
        names=tuple(names),
    )


def _failures(found: NightRows, sizes: Sizes) -> NightVariable:
    """Whether, and how, videos failed. Nights of which rows are gone are left out: what failed for
    a reason that passed is missing there.
    """
    codes = np.where(found.kinds.codes >= 0, found.kinds.codes + 1, 0)
    codes = np.where(found.is_whole[found.night], codes, -1)
    everything = np.concatenate([codes, np.full(sizes[1] + sizes[2], -1)]).astype(np.int64)
    names = ("opened", *found.kinds.names)
    return NightVariable(
        title="failures",
        against="nothing",
        column=Codes(everything, len(names), is_ordered=False),
        least=LEAST_DAMAGE,
        names=names,
    )


# Joined from jobs/extract.py, by video


def _wanted(found: NightRows, origin: LabelOrigin) -> pa.Array:
    """video_id of the history's rows and of the videos learnt from."""
    ids = [found.rows["video_id"].combine_chunks()]
    if origin.training is not None:
        ids.append(origin.training["video_id"].combine_chunks())
    return pa.concat_arrays(ids)


def _of_features(found: NightRows, origin: LabelOrigin, sizes: Sizes) -> Iterator[NightVariable]:
    """Sizes, rates and quality, of videos that were looked at."""
    if not origin.looked:
        return
    names = ["video_id", "width_px", "height_px", *list(_MEASURED)[1:], "codec", "status"]
    table = pa.concat_tables([run.rows.select(names) for run in origin.looked])
    table = table.filter(pc.fill_null(pc.equal(table["status"], "ok"), False))
    wanted = _wanted(found, origin)
    at = pc.index_in(wanted, table["video_id"].combine_chunks())
    joined = table.take(at)
    size = pc.multiply(joined["width_px"].cast(pa.float64()), joined["height_px"])
    split = len(found.rows)
    for name, (title, unit) in _MEASURED.items():
        values = floats(size if name == "size" else joined[name])
        parts = (values[:split], values[split:], None)
        one = _number(title, parts, sizes, against="training", unit=unit)
        if one is not None:
            yield one
    codec = words(joined["codec"])
    if len(codec.names) > 1:
        codes = np.concatenate([codec.codes, np.full(sizes[2], -1)])
        column = Codes(codes, len(codec.names), is_ordered=False)
        yield NightVariable(title="codec", against="training", column=column, names=codec.names)


def _families(
    found: NightRows,
    origin: LabelOrigin,
    night: Integers,
    problems: list[str],
    *,
    seed: int,
    most_nights: int,
) -> Iterator[NightVariable]:
    """Features of each family, and the embeddings of the labels, as a whole; what cannot be read
    is added to ``problems``.
    """
    drawn = _drawn(found, night, seed, most_nights)
    wanted = _wanted(found, origin)
    have = dict.fromkeys(name for run in origin.looked for name in run.families)
    used = origin.model.info.get("families") if origin.model is not None else None
    # What the model takes comes first.
    first = [name for name in used if name in have] if isinstance(used, list) else []
    for name in list(dict.fromkeys([*first, *have]))[:_MOST_FAMILIES]:
        of_id = wanted.take(pa.array(drawn[drawn < len(wanted)]))
        values = _read(problems, f"{name} features", partial(_family, origin.looked, name, of_id))
        one = _vectors(f"{name} features", values, drawn, len(night), "training", seed)
        if one is not None:
            yield one
    of_history = drawn[drawn < len(found.rows)]
    values = _read(problems, "embeddings", partial(_embeddings, found, of_history))
    one = _vectors("embedding", values, of_history, len(night), "nothing", seed)
    if one is not None:
        yield one


def _read(
    problems: list[str], what: str, read: Callable[[], NDArray[np.float32] | None]
) -> NDArray[np.float32] | None:
    """The vectors; None, and a problem, where their files are damaged or gone."""
    try:
        return read()
    except _DAMAGE as error:
        why = " ".join(str(error).split())[:200]
        problems.append(f"The {what} are not compared: they cannot be read ({why}).")
        return None


def _drawn(found: NightRows, night: Integers, seed: int, most_nights: int) -> Integers:
    """Rows whose vectors are read: so many of each of the newest nights, drawn at random."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(night))
    is_new = np.concatenate([found.is_new, np.ones(len(night) - len(found.rows), np.bool_)])
    order = order[is_new[order] & (night[order] != TESTED)]
    order = order[(night[order] == TRAINING) | (night[order] >= found.count - most_nights)]
    order = order[np.argsort(night[order], kind="stable")]
    _, first, counts = np.unique(night[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(first, counts)
    most = np.where(night[order] == TRAINING, _MOST_OF_TRAINING, _MOST_OF_NIGHT)
    return np.sort(order[rank < most])


def _vectors(
    title: str,
    values: NDArray[np.float32] | None,
    drawn: Integers,
    videos: int,
    against: Literal["training", "nothing"],
    seed: int,
) -> NightVariable | None:
    if values is None or not np.isfinite(values).all(axis=1).any():
        return None
    row_of = np.full(videos, -1)
    row_of[drawn] = np.arange(len(drawn))
    column = drift.vectors(values, row_of, seed)
    return NightVariable(title=title, against=against, column=column, least=LEAST_TOLD_APART)


def _family(looked: Sequence[ExtractRun], name: str, ids: pa.Array) -> NDArray[np.float32] | None:
    """``float32 (n, D)`` of the videos ``ids``; NaN where a video has none. Part by part: a family
    of 100,000 videos may be larger than memory.
    """
    lengths = {run.families[name] for run in looked if name in run.families}
    if len(lengths) != 1:
        return None
    found = np.full((len(ids), lengths.pop()), np.nan, np.float32)
    for run in looked:
        if name in run.families:
            for part in run_tables.read_parts(run.out, columns=["video_id", name]):
                _fill(found, part.rename_columns(["video_id", "values"]), ids)
    return found


def _embeddings(found: NightRows, rows: Integers) -> NDArray[np.float32] | None:
    """``float32 (n, D)`` of rows of the history; None where it has no embeddings."""
    history = found.history
    commits = commit_files.standing(commit_files.find(history.out, history.set_name))
    keys = _keys(found.rows["video_id"], found.rows["commit"]).take(pa.array(rows))
    values: NDArray[np.float32] | None = None
    for commit in commits:
        part = commit_files.read(commit, ["video_id", "commit", "embedding"])
        part = part.filter(part["embedding"].is_valid())
        if not len(part):
            continue
        length = pc.max(pc.list_value_length(part["embedding"])).as_py()
        if values is None:
            values = np.full((len(rows), length), np.nan, np.float32)
        table = pa.table(
            {"video_id": _keys(part["video_id"], part["commit"]), "values": part["embedding"]}
        )
        _fill(values, table, keys)
    return values


def _keys(video: pa.ChunkedArray, commit: pa.ChunkedArray) -> pa.Array:
    """One text for a row: its video and its commit."""
    both = pc.binary_join_element_wise(video, commit.cast(pa.string()), " ")
    return both.combine_chunks() if isinstance(both, pa.ChunkedArray) else both


def _fill(found: NDArray[np.float32], part: pa.Table, ids: pa.Array) -> None:
    """Write the vectors of a part into the rows of their videos that have none yet."""
    lengths = pc.fill_null(pc.list_value_length(part["values"]), 0)
    part = part.filter(pc.equal(lengths, found.shape[1]))
    at = pc.fill_null(pc.index_in(ids, part["video_id"].combine_chunks()), -1)
    where = np.asarray(at.to_numpy(zero_copy_only=False), np.int64)
    missing = np.flatnonzero((where >= 0) & np.isnan(found[:, 0]))
    if len(missing):
        rows = part["values"].combine_chunks().take(pa.array(where[missing]))
        flat = rows.flatten().to_numpy(zero_copy_only=False)
        found[missing] = flat.reshape(-1, found.shape[1])
