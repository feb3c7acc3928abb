"""Examples: labelled rows of a finished run, by split, for both kinds of models."""

from __future__ import annotations

import dataclasses
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vidray import features, storage
from vidray.errors import UserError, closest_name
from vidray.features.embedding import NAME, Embedding
from vidray.features.extraction import Settings
from vidray.learning.selection import Selection
from vidray.models.class_map import ClassMap
from vidray.models.matrices import METADATA_COLUMNS, to_matrix
from vidray.sources import shares, splits
from vidray.storage import parquet
from vidray.tables import digests, run_folder, runs
from vidray.tables.shards import Clips
from vidray.video.clips import ClipSettings

HEAD = ("video_id", "uri", "fingerprint", "label", "split", "group", "status")
_SHARES_TO_TRY = (
    shares.DEFAULT_FRACTIONS,
    (0.6, 0.2, 0.2),
    (0.8, 0.1, 0.1),
    (0.5, 0.25, 0.25),
    (0.9, 0.05, 0.05),
)


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Labelled videos with the features or clips that a model takes.

    Attributes:
        table: FEATURES or CLIPS, ok and labelled rows only; ``row`` of CLIPS is for ``clips``.
        families: feature families of a FEATURES table; none for clips.
        settings: how the rows were made, as run.json says.
        clips: where the pixels are; None for features.
        source: where the videos were found, as run.json says.
        selection: how ``table`` was made of what the run holds.
        listed: VIDEOS of the run, those that could not be read too; None where they are not known.
        network_folder: the model folder of the network of the family ``embedding``, as run.json
            says.
    """

    table: pa.Table
    families: tuple[str, ...]
    settings: dict[str, Any]
    clips: Clips | None = None
    source: str | None = None
    selection: Selection = dataclasses.field(default_factory=Selection)
    listed: pa.Table | None = None
    network_folder: str | None = None

    @property
    def network(self) -> Embedding | None:
        """The network of the family ``embedding``; None if it is not among the families."""
        if NAME not in self.families:
            return None
        return Settings.from_json(self.settings).embedding

    @property
    def class_names(self) -> tuple[str, ...]:
        """Labels of split train, sorted.

        Raises:
            UserError: fewer than two, or a class that only the other splits have.
        """
        counts = splits.count(self.table)
        labels = sorted(label for label, own in counts.items() if label and "train" in own)
        if len(counts) < 2:
            named = f"of one class, {next(iter(counts))!r}" if counts else "of no class"
            raise UserError(
                f"the labelled videos are {named}, and 2 or more are needed: add videos of others"
            )
        if len(labels) < 2:
            raise UserError(
                f"split train holds {len(labels)} of the {len(counts)} classes, and 2 or more are "
                f"needed: {self.other_fractions()}add recordings"
            )
        judged = [label for label, own in counts.items() if label and own.keys() & {"val", "test"}]
        if absent := sorted(set(judged) - set(labels)):
            where = "; ".join(f"{label!r} is {_placed(counts[label])}" for label in absent[:3])
            left_out = shlex.join([*self.selection.without_classes, *absent])
            raise UserError(
                f"{len(absent)} of {len(counts)} classes are in no video of split train ({where}): "
                f"leave them out with --without-classes {left_out}, {self.other_fractions()}"
                "or add recordings"
            )
        return tuple(labels)

    def other_fractions(self) -> str:
        """Advice that works: shares with every class in train and videos in val and test, if any.

        Ends with a comma and a space: something else that helps comes after it.
        """
        for fractions in _SHARES_TO_TRY:
            other = apply(self, _derived(self, self.selection, fractions))
            counts = splits.count(other.table)
            found = {split for own in counts.values() for split in own}
            if all("train" in own for own in counts.values()) and found >= {"val", "test"}:
                shares = " ".join(map(str, fractions))
                return f"derive other splits with --split-fractions {shares}, "
        return ""

    @property
    def digest(self) -> str:
        """Twelve hex digits that change with the videos, their labels, their splits, and with how
        the rows were made.
        """
        columns = [self.table[name].to_pylist() for name in HEAD[:6]]
        return digests.of([columns, self.settings])

    @property
    def gives_splits(self) -> bool:
        """Whether any video is in a split."""
        return bool(self.table["split"].null_count < len(self.table))

    @property
    def assigned_splits(self) -> dict[str, str] | None:
        """video_id -> split of videos that are in one; None where the data have them."""
        if self.selection == Selection():
            return None
        ids, of_row = (self.table[name].to_pylist() for name in ("video_id", "split"))
        return {video: split for video, split in zip(ids, of_row, strict=True) if split}

    def of_split(self, split: str) -> Examples:
        """The rows of one split."""
        chosen = pc.equal(self.table["split"], split)
        return dataclasses.replace(self, table=self.table.filter(chosen))

    def targets(self, class_names: Sequence[str]) -> NDArray[np.int64]:
        """``int64 (N,)``: each row's label as an index.

        Raises:
            UserError: a label that is not among ``class_names``.
        """
        number = {name: k for k, name in enumerate(class_names)}
        labels = self.table["label"].to_pylist()
        if unknown := sorted(set(labels) - set(number)):
            raise UserError(
                f"label {unknown[0]!r} is in no video of split train: leave the class out with "
                f"--without-classes {shlex.join([*self.selection.without_classes, unknown[0]])}, "
                "or add recordings of it"
            )
        return np.array([number[label] for label in labels], np.int64)

    @property
    def groups(self) -> list[str | None]:
        """The source recording of each row, null where none is known."""
        return splits.known_recordings(self.table)

    def matrix(self) -> NDArray[np.float32]:
        """``float32 (N, D)`` of a FEATURES table."""
        return to_matrix(self.table, self.families)


def read_features(data: str, families: Sequence[str] = ()) -> Examples:
    """The labelled rows of a finished run of ``jobs/extract.py``.

    Args:
        families: the ones wanted; all there are if none is named.

    Raises:
        UserError: no such run, no such family in it, or no labelled row.
    """
    uri = storage.canonical(data)
    report = _report(uri, "features", "jobs/extract.py")
    made_with = _settings(uri, report, "extraction", Settings.from_json)
    there = Settings.from_json(made_with).families
    if missing := [name for name in families if name not in there]:
        features.get_family(missing[0])
        raise UserError(f"{data} has no family {missing[0]}, only {' '.join(there)}")
    chosen = tuple(families) or there
    columns = [*HEAD, *METADATA_COLUMNS, *chosen]
    table = _labelled(runs.read_table(uri, "features", columns), data)
    return Examples(
        table=table,
        families=chosen,
        settings=made_with,
        source=_source(report),
        listed=_listed(uri),
        network_folder=_text(report["config"].get("embed")),
    )


def with_families(examples: Examples, families: Sequence[str]) -> Examples:
    """Features of some families only, and the settings by which just these are extracted."""
    chosen = tuple(families)
    settings = {**examples.settings, "families": list(chosen)}
    if NAME not in chosen:
        settings.pop(NAME, None)  # Nothing is to ask its network.
    return dataclasses.replace(examples, families=chosen, settings=settings)


def read_clips(data: str, *, labelled: bool = True) -> Examples:
    """The labelled clips of a finished run of ``jobs/clips.py``; all of them if not ``labelled``.

    Raises:
        UserError: no such run, or no such clip in it.
    """
    uri = storage.canonical(data)
    report = _report(uri, "clips", "jobs/clips.py")
    clips = Clips(uri)
    table = clips.table.append_column("row", pa.array(np.arange(len(clips))))
    table = _labelled(table, data) if labelled else table.filter(pc.equal(table["status"], "ok"))
    made_with = _settings(uri, report, "clip", ClipSettings.from_json)
    return Examples(
        table=table,
        families=(),
        settings=made_with,
        clips=clips,
        source=_source(report),
        listed=_listed(uri),
    )


def relabelled(examples: Examples, labels: ClassMap) -> Examples:
    """The same videos under the labels that their classes count as; some may be left out.

    Raises:
        UserError: a listed class is no video's, or no video is left.
    """

    def changed(table: pa.Table) -> pa.Table:
        given = table["label"].to_pylist()
        new = [None if label is None else labels.label_of(label) for label in given]
        column = pa.array(new, table.schema.field("label").type)
        return table.set_column(table.schema.get_field_index("label"), "label", column)

    labels.check(examples.table["label"].unique().to_pylist())
    table = changed(examples.table)
    table = table.filter(pc.is_valid(table["label"]))
    if not len(table):
        raise UserError("the list of labels leaves out every class of the data: no video is left")
    listed = None if examples.listed is None else changed(examples.listed)
    return dataclasses.replace(examples, table=table, listed=listed)


def select(
    examples: Examples, selection: Selection, *, recorded: Mapping[str, Any] | None = None
) -> Examples:
    """The selected examples; splits are derived where the data give none, or where asked for.

    Args:
        recorded: what a job of before, which this one goes on with, holds under ``selection``: its
            splits are derived as they were.

    Raises:
        UserError: a class to leave out that there is not, or a recording in two given splits.
    """
    there = sorted(examples.table["label"].unique().to_pylist())
    for name in selection.without_classes:
        if name not in there:
            meant = closest_name(name, there)
            hint = f"; did you mean {meant}?" if meant else f", only {', '.join(there[:10])}"
            raise UserError(f"--without-classes names {name!r}, which no labelled video is{hint}")
    fractions = selection.split_fractions
    if fractions is None and not examples.gives_splits:
        fractions = shares.DEFAULT_FRACTIONS
    if fractions is None:
        return apply(examples, selection)
    if recorded is not None:
        before = Selection.from_info(recorded, of="run.json")
        if before.split_fractions == fractions:
            return apply(
                examples, dataclasses.replace(before, without_classes=selection.without_classes)
            )
    return apply(examples, _derived(examples, selection, fractions))


def _derived(examples: Examples, selection: Selection, fractions: shares.Fractions) -> Selection:
    """The selection with these shares, balanced over all videos that were listed.

    Not over those that could be read: features and clips of the same videos are split alike.
    """
    listed = examples.table if examples.listed is None else examples.listed
    bounds = splits.balance(listed, fractions, root=_root(examples))
    return dataclasses.replace(selection, split_fractions=fractions, split_bounds=bounds)


def _root(examples: Examples) -> str | None:
    uris = examples.table["uri"].to_pylist()
    return examples.source and splits.source_folder(examples.source, uris)


def apply(examples: Examples, selection: Selection) -> Examples:
    """The selection of an earlier training, applied to these data; nothing is decided anew.

    Raises:
        UserError: a recording is in two given splits.
    """
    table = examples.table
    if selection.split_fractions is None:
        splits.check_splits(table)
    else:
        fractions, bounds = selection.split_fractions, selection.split_bounds
        table = splits.assign(table, fractions, bounds, root=_root(examples))
    if selection.without_classes:
        left_out = pa.array(selection.without_classes, pa.string())
        table = table.filter(pc.invert(pc.is_in(table["label"], left_out)))
    return dataclasses.replace(examples, table=table, selection=selection)


def _placed(own: Mapping[str | None, tuple[int, int]]) -> str:
    """A text such as ``2 recordings in test``."""
    parts = [
        f"{number} recording{'s' * (number != 1)} in {split or 'no split'}"
        for split, (_, number) in own.items()
    ]
    return " and ".join(parts)


def _listed(uri: str) -> pa.Table | None:
    where = storage.join(uri, "videos.parquet")
    return parquet.read_parquet(where) if storage.exists(where) else None


def _source(report: Mapping[str, Any]) -> str | None:
    return _text(report.get("videos"))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _report(uri: str, table: str, job: str) -> dict[str, Any]:
    if not storage.exists(storage.join(uri, "run.json")):
        raise UserError(f"{uri} is not a run folder (no run.json): make one with {job}")
    report = run_folder.read_json(uri)
    if run_folder.kind_of(report) != table:
        raise UserError(
            f"{uri} holds {run_folder.described(report)}, and this model learns from {table}: "
            f"give a run folder of {job}"
        )
    return report


def _settings(
    uri: str, report: dict[str, Any], name: str, read: Callable[[dict[str, Any]], object]
) -> dict[str, Any]:
    """The settings of the rows, from run.json; UserError where they are impossible."""
    try:
        values: dict[str, Any] = report["config"][name]
        read(values)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise storage.damaged(storage.join(uri, "run.json"), f"config.{name}: {error}") from None
    return values


def _labelled(table: pa.Table, data: str) -> pa.Table:
    kept = pc.and_(pc.equal(table["status"], "ok"), pc.is_valid(table["label"]))
    labelled = table.filter(kept)
    if not len(labelled):
        counts = Counter(table["status"].to_pylist())
        listed = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
        unlabelled = f"{table['label'].null_count} of {len(table)} rows have no label"
        raise UserError(
            f"{storage.without_secrets(data)} has no video that is both ok and labelled "
            f"({listed or 'no row'}; {unlabelled}): see error_message of the failed ones, and give "
            "the others labels by a folder each class or a column label"
        )
    return labelled
