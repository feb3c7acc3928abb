"""The data of a search: a finished run for each kind, with the same splits, checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vidray import storage
from vidray.errors import UserError
from vidray.learning import recordings, split_report
from vidray.learning.examples import (
    Examples,
    read_clips,
    read_features,
    select,
)
from vidray.learning.recordings import Demand
from vidray.models.carried_network import check_network
from vidray.models.names import ModelKind
from vidray.search.settings import SearchSettings
from vidray.tables import run_folder

_LEARNS_FROM: dict[ModelKind, tuple[str, str]] = {
    "classical": ("features", "jobs/extract.py"),
    "deep": ("clips", "jobs/clips.py"),
}


@dataclass(frozen=True, kw_only=True)
class LabelledRun:
    """The data of one kind of models: a run folder and its labelled rows."""

    uri: str
    examples: Examples


def read_runs(
    folders: Sequence[str],
    settings: SearchSettings,
    *,
    recorded: Mapping[str, Any] | None = None,
) -> dict[ModelKind, LabelledRun]:
    """Read the run of each kind; print how it is split where the data do not say.

    Args:
        folders: run folders, or folders that hold them as ``features`` and ``clips``.
        settings: kinds, feature families, videos and splits, folds.
        recorded: what a search of before, which this one goes on with, holds under ``selection``.

    Raises:
        UserError: a kind has no run, or what would make every trial fail.
    """
    where = _by_table(folders)
    found: dict[ModelKind, LabelledRun] = {}
    gives_splits = False
    for kind in dict.fromkeys(settings.kinds):
        table, job = _LEARNS_FROM[kind]
        if table not in where:
            raise UserError(f"{kind} models learn from {table}: add a run of {job} to --data")
        examples = (
            read_features(where[table], settings.learning.classical.families)
            if kind == "classical"
            else read_clips(where[table])
        )
        gives_splits |= examples.gives_splits
        selected = select(examples, settings.selection, recorded=recorded)
        recorded = {"selection": selected.selection.to_json()}  # The next is split by it too.
        found[kind] = LabelledRun(uri=where[table], examples=selected)
        _check_splits(found[kind])
    _refuse_two_splits([run.examples for run in found.values()])
    split_report.print_splits(next(iter(found.values())).examples, given=gives_splits)
    if "classical" in found:
        _check_recordings(found["classical"].examples, settings)
    return found


def _by_table(folders: Sequence[str]) -> Mapping[str, str]:
    """``features`` and ``clips`` -> run folder."""
    found: dict[str, str] = {}
    for uri in _run_folders(folders):
        report = run_folder.read_json(uri)
        kind = run_folder.kind_of(report)
        if kind not in ("features", "clips") or kind in found:
            raise UserError(
                f"{storage.without_secrets(uri)} holds {run_folder.described(report)}: "
                "--data takes one run of jobs/extract.py and one of jobs/clips.py"
            )
        found[kind] = uri
    return found


def _run_folders(folders: Sequence[str]) -> list[str]:
    found = []
    for uri in map(storage.canonical, folders):
        inside = [storage.join(uri, name) for name in ("features", "clips")]
        if storage.exists(storage.join(uri, "run.json")):
            found.append(uri)
        elif there := [path for path in inside if storage.exists(storage.join(path, "run.json"))]:
            found += there
        else:
            raise UserError(
                f"{storage.without_secrets(uri)} is not a run folder (no run.json), nor does it "
                "hold one as features or clips: give the --out of jobs/extract.py or jobs/clips.py"
            )
    return found


def _check_splits(run: LabelledRun) -> None:
    """Check, before the first trial, that the splits the search needs are there."""
    _ = run.examples.class_names
    for split in ("val", "test"):
        if not len(run.examples.of_split(split).table):
            raise UserError(
                f"{storage.without_secrets(run.uri)} has no labelled video in split {split}: "
                f"{run.examples.other_fractions()}or add recordings"
            )


def _refuse_two_splits(kinds: Sequence[Examples]) -> None:
    """Refuse kinds with different splits: one would learn from videos that judge the other."""
    first, *others = (
        dict(zip(*(one.table[name].to_pylist() for name in ("uri", "split")), strict=True))
        for one in kinds
    )
    for other in others:
        for uri, split in first.items():
            if split != other.get(uri, split):
                raise UserError(
                    f"{storage.without_secrets(uri)} is in split {split} of the one run and in "
                    f"{other[uri]} of the other: --split-fractions 0.7 0.15 0.15 derives the same "
                    "for both"
                )


def _check_recordings(examples: Examples, settings: SearchSettings) -> None:
    if examples.network is not None:  # Which the winner carries.
        check_network(examples.network_folder, examples.network)
    demand = Demand(
        folds=settings.folds.folds,
        repeats=settings.folds.repeats,
        calibrated=settings.learning.classical.calibrated,
        seed=settings.seed,
        least_folds=2,
        uncalibrated="--no-calibrated --metric accuracy",
        left_out=settings.selection.without_classes,
    )
    train, names = examples.of_split("train"), examples.class_names
    y = train.targets(names)
    recordings.check(y, train.groups, names, demand)
    # The winner is calibrated whatever its trials were.
    winner = dataclasses.replace(demand, folds=0, calibrated=True, uncalibrated=None)
    recordings.check(y, train.groups, names, winner)
