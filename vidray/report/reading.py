"""Reads the given folders into ``Runs``; a folder that cannot be read becomes a ``Problem``.

    runs = read(["runs/features", "runs/judged", "runs/labels"])

A folder is input: anybody may have changed it. Nothing that a folder names (the model of an
evaluation, the data of a model) is opened unless it is among the folders that were given.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from vidray import storage
from vidray.errors import UserError
from vidray.evaluation import answers
from vidray.labelling import commits
from vidray.models.importance import Importance
from vidray.models.model_files import name_and_digest, read_info
from vidray.report.cleaning import cleaned_json, cleaned_table, cut, cut_throughout
from vidray.report.runs import (
    ClipsRun,
    ExtractRun,
    JudgedModel,
    LabelHistory,
    Problem,
    Runs,
    SearchResult,
    StudyResult,
    TrainedModel,
    find_stated,
    number_in,
)
from vidray.storage import checked_json, join, json_file, parquet
from vidray.storage.addresses import local_path
from vidray.tables import run_folder, schema
from vidray.tables.run_folder import Kind

T = TypeVar("T")

# A folder of run folders is looked into so deep.
_MOST_DEPTH = 2
_MOST_FOLDERS = 1000
# Of all models of a search together.
_MOST_SETTINGS = 200
# What reading what a stranger wrote may raise; each becomes a Problem.
_DAMAGE = (
    UserError, OSError, KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError,
    RecursionError, pa.ArrowException,
)  # fmt: skip


def read(folders: Sequence[str]) -> Runs:
    """The runs in these folders, and in the folders directly in them.

    Raises:
        UserError: none of them is there.
    """
    shown = tuple(storage.without_secrets(folder) for folder in folders)
    by_place: dict[str, Problem] = {}
    every: list[tuple[str, Kind, Mapping[str, Any]]] = []
    for given in dict.fromkeys(map(storage.canonical, folders)):
        every += _find(given, by_place)
    problems = list(by_place.values())
    if not every and problems:
        raise UserError(f"--runs gives no run of vidray: {problems[0].folder} {problems[0].why}")
    # A folder may be there twice: itself, in the one around it, and behind a link ("latest").
    first = {_place(one[0]): at for at, one in reversed([*enumerate(every)])}
    found = [every[at] for at in sorted(first.values())]
    names = _short_names([out for out, _, _ in found])
    read_as: dict[str, list[Any]] = {}
    for (out, kind, report), name in zip(found, names, strict=True):
        place, reader = _READERS.get(kind, ("", None))
        if reader is None:
            problems.append(
                _problem(out, f"holds {run_folder.described(report)}, which has no page")
            )
            continue
        try:
            read_as.setdefault(place, []).extend(reader(out, name, report))
        except _DAMAGE as error:
            problems.append(_problem(out, _reason(error)))
    judged = [_with_model(one, read_as.get("models", [])) for one in read_as.pop("judged", [])]
    return Runs(
        folders=shown,
        judged=tuple(judged),
        problems=tuple(problems),
        **{place: tuple(some) for place, some in read_as.items()},
    )


def _place(out: str) -> str:
    """What a folder is known by: links to it lead to the same."""
    return out if storage.is_bucket(out) else os.path.realpath(local_path(out))


def _problem(out: str, why: str) -> Problem:
    return Problem(folder=storage.without_secrets(out), why=why)


def _reason(error: BaseException) -> str:
    """Why a folder cannot be read, in one line."""
    text = " ".join(str(error).split())[:300]
    if isinstance(error, UserError):
        return text
    return f"is damaged ({type(error).__name__}: {text}): run its job again"


def _find(
    folder: str, problems: dict[str, Problem], depth: int = 0
) -> Iterator[tuple[str, Kind, Mapping[str, Any]]]:
    """The run in a folder, or those in the folders in it; what is none is a problem."""
    try:
        if not storage.exists(folder):
            problems.setdefault(_place(folder), _problem(folder, "is not there: check the path"))
            return
        report = _run_json(folder)
    except FileNotFoundError:
        found = list(_find_inside(folder, problems, depth))
        if not found and depth == 0:
            why = "holds no run of vidray: give the folder of a job's --out"
            problems.setdefault(_place(folder), _problem(folder, why))
        yield from found
        return
    except _DAMAGE as error:
        problems.setdefault(_place(folder), _problem(folder, _reason(error)))
        return
    kind = run_folder.kind_of(report)
    if kind is None:
        problems.setdefault(
            _place(folder), _problem(folder, f"holds {run_folder.described(report)}")
        )
        return
    if kind != "label" and not storage.exists(join(folder, run_folder.SUCCESS)):
        why = "is not finished (no _SUCCESS): run the same command again to finish it"
        problems.setdefault(_place(folder), _problem(folder, why))
        return
    yield folder, kind, report
    if kind == "search":  # The best models, and how they were judged.
        for name in ("best", "test"):
            if storage.is_folder(join(folder, name)):
                yield from _find(join(folder, name), problems, depth + 1)


def _run_json(folder: str) -> Any:
    try:
        return cleaned_json(run_folder.read_json(folder))
    except NotADirectoryError:
        raise UserError("is a file: give the folder that a job wrote it into") from None


def _find_inside(
    folder: str, problems: dict[str, Problem], depth: int
) -> Iterator[tuple[str, Kind, Mapping[str, Any]]]:
    """The runs in the folders of a folder that is none itself."""
    names = sorted(storage.list_names(folder))[:_MOST_FOLDERS]
    if run_folder.MODEL in names:  # A model that somebody passed on without its run.json.
        yield folder, "model", {}
        return
    if depth == _MOST_DEPTH:
        return
    for name in names:
        path = join(folder, name)
        if not name.startswith((".", "_")) and storage.is_folder(path):
            yield from _find(path, problems, depth + 1)


def _short_names(outs: Sequence[str]) -> list[str]:
    """The last names of folders, and as many before them as it takes to tell them apart."""
    parts = [out.rstrip("/").split("/") for out in outs]
    lengths = [1] * len(outs)
    while True:
        names = ["/".join(p[-n:]) for p, n in zip(parts, lengths, strict=True)]
        counts = Counter(names)
        longer = [
            n + 1 if counts[name] > 1 and n < len(p) else n
            for name, p, n in zip(names, parts, lengths, strict=True)
        ]
        if longer == lengths:
            return names
        lengths = longer


def _with_model(judged: JudgedModel, models: Sequence[TrainedModel]) -> JudgedModel:
    """An evaluation with its model: the folder it names, or one of its name that was moved."""
    model = find_stated(models, judged.config.get("model"))
    if model is None or tuple(model.info["class_names"]) != judged.class_names:
        return judged
    digest = judged.report.get("model_digest")  # Not of older evaluations.
    try:
        is_the_same = digest is None or name_and_digest(model.out)[1] == digest
    except _DAMAGE:
        return judged
    # With another digest it was trained again since.
    return dataclasses.replace(judged, model=model) if is_the_same else judged


# Readers: folder, name, run.json -> runs


def _read_features(out: str, name: str, report: Mapping[str, Any]) -> list[ExtractRun]:
    first = next(iter(_parts(out, "features")), None)
    there = parquet.read_schema(first) if first else pa.schema([])
    plain = schema.features_schema({})
    lengths = {
        field.name: field.type.list_size
        for field in there
        if pa.types.is_fixed_size_list(field.type) and field.name not in plain.names
    }
    rows = _rows(out, "features", plain)
    return [ExtractRun(out=out, name=name, report=report, rows=rows, families=lengths)]


def _read_clips(out: str, name: str, report: Mapping[str, Any]) -> list[ClipsRun]:
    plain = schema.clips_schema((1, 1, 1, 3))
    plain = plain.remove(plain.get_field_index("pixels"))
    return [ClipsRun(out=out, name=name, report=report, rows=_rows(out, "clips", plain))]


def _parts(out: str, table: str) -> list[str]:
    uris = sorted(info.uri for info in storage.list_files(join(out, table)))
    return [uri for uri in uris if uri.endswith(".parquet")]


def _rows(out: str, table: str, wanted: pa.Schema) -> pa.Table:
    """The table of a run with the columns ``wanted``; those that it lacks are null."""
    tables = [conform(parquet.read_parquet(uri, [], if_there=wanted.names), wanted)
              for uri in _parts(out, table)]  # fmt: skip
    return cleaned_table(pa.concat_tables([nullable(wanted).empty_table(), *tables]))


def conform(table: pa.Table, wanted: pa.Schema) -> pa.Table:
    """The columns ``wanted`` of a table, of their types; those that it lacks are null.

    Raises:
        pa.ArrowInvalid, pa.ArrowNotImplementedError: a column holds something else.
    """
    columns = [
        table[field.name].cast(field.type)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in wanted
    ]
    return pa.table(columns, schema=nullable(wanted))


def nullable(wanted: pa.Schema) -> pa.Schema:
    """A schema without promises: older versions wrote fewer columns."""
    return pa.schema([field.with_nullable(True) for field in wanted])


def _read_model(out: str, name: str, report: Mapping[str, Any]) -> list[TrainedModel]:
    history = _if_there(f"{out}/history.json", lambda values: [dict(row) for row in values])
    importance = _if_there(
        f"{out}/importance.json",
        lambda values: {
            kind: [_importance(row) for row in values[kind]] for kind in ("families", "features")
        },
    )
    return [
        TrainedModel(
            out=out,
            name=name,
            report=report,
            info=cut_throughout(read_info(out)),
            history=history or (),
            importance=importance,
        )
    ]


def _importance(row: Mapping[str, Any]) -> Importance:
    names = ("log_loss_rise", "log_loss_rise_std", "accuracy_drop", "accuracy_drop_std")
    return Importance(name=cut(str(row["name"])), **{key: float(row[key]) for key in names})


def _if_there(uri: str, parse: Callable[[Any], T]) -> T | None:
    try:
        return parse(checked_json.loads(storage.read_bytes(uri)))
    except FileNotFoundError:
        return None


def _read_judged(out: str, name: str, report: Mapping[str, Any]) -> list[JudgedModel]:
    metrics = json_file.read(join(out, "metrics.json"))
    names = tuple(cut(str(name)) for name in metrics["per_class"])
    uri = join(out, "predictions.parquet")
    columns = ["video_id", "uri", "true_label", "label", "probabilities"]
    table = cleaned_table(parquet.read_parquet(uri, columns, if_there=("group",)))
    probabilities = np.array(table["probabilities"].to_pylist(), np.float64)
    if not len(table) or probabilities.shape != (len(table), len(names)):
        raise storage.damaged(uri, f"no probabilities of {len(names)} classes in each row")
    truth, predicted = (tuple(map(str, table[c].to_pylist())) for c in ("true_label", "label"))
    if unknown := sorted({*truth, *predicted} - set(names)):
        raise storage.damaged(uri, f"{unknown[0]!r} is no class of metrics.json")
    try:
        answers.checked(truth, probabilities, names)
    except ValueError as error:
        raise storage.damaged(uri, str(error)) from None
    groups = table["group"].to_pylist() if "group" in table.column_names else [None] * len(table)
    cost, baselines = metrics.get("cost"), metrics.get("baselines")
    numbers = {key: number_in(cost, key) for key in cost} if isinstance(cost, Mapping) else {}
    return [
        JudgedModel(
            out=out,
            name=name,
            report=report,
            class_names=names,
            video_ids=tuple(map(str, table["video_id"].to_pylist())),
            uris=tuple(map(str, table["uri"].to_pylist())),
            truth=truth,
            predicted=predicted,
            groups=tuple(groups),
            probabilities=probabilities,
            cost={key: value for key, value in numbers.items() if value is not None},
            baselines=baselines if isinstance(baselines, Mapping) else {},
        )
    ]


def _read_study(out: str, name: str, report: Mapping[str, Any]) -> list[StudyResult]:
    rows = parquet.read_parquet(join(out, "study.parquet"))
    return [StudyResult(out=out, name=name, report=report, rows=conform(rows, schema.STUDY))]


def _read_search(out: str, name: str, report: Mapping[str, Any]) -> list[SearchResult]:
    from vidray.search.proposals import TRIALS  # It imports Optuna.

    uri = join(out, "trials.parquet")
    trials = parquet.read_parquet(uri)
    lacks = [f.name for f in TRIALS if not f.nullable and f.name not in trials.column_names]
    if lacks:
        raise storage.damaged(uri, f"it has no column {lacks[0]}")
    # A setting is a number or a name; there are a dozen of each model.
    own = [field for field in trials.schema if field.name not in TRIALS.names
           and (pa.types.is_primitive(field.type) or pa.types.is_string(field.type))]  # fmt: skip
    wanted = pa.schema([*TRIALS, *own[:_MOST_SETTINGS]])
    whole = cleaned_table(conform(trials, wanted))
    return [SearchResult(out=out, name=name, report=report, trials=whole)]


# What a night's rows are read for. Embeddings are large, and read where they are needed.
LABEL_COLUMNS = (
    "video_id", "uri", "group", "status", "error_kind", "error_message", "label", "true_label",
    "probability", "probabilities", "class_names", "begin_seconds", "end_seconds",
    "duration_seconds", "corrupt_share", "attempts", "model_digest", "labelled_at", "commit",
)  # fmt: skip


def _read_labels(out: str, name: str, report: Mapping[str, Any]) -> list[LabelHistory]:
    names = commits.list_sets(out)
    if not names:
        raise UserError("holds no labels yet: no night has committed any")
    last = number_in(report, "commit")
    nights = ({} if last is None else {int(last): report}) | _nights(out)
    return [
        LabelHistory(
            out=out,
            name=name if len(names) == 1 else f"{name}: {set_name}",
            report=report,
            set_name=set_name,
            rows=cleaned_table(commits.read_history(out, set_name=set_name, columns=LABEL_COLUMNS)),
            nights=nights,
        )
        for set_name in names
    ]


def _nights(out: str) -> dict[int, Mapping[str, Any]]:
    """run.json of each night by its commit; older versions kept only the last one's."""
    found: dict[int, Mapping[str, Any]] = {}
    for info in storage.list_files(join(out, "nights")):
        if number := re.fullmatch(r"commit-(\d{6,9})\.json", storage.name_of(info.uri)):
            with contextlib.suppress(*_DAMAGE):  # One night's seconds less.
                found[int(number[1])] = cleaned_json(json_file.read(info.uri))
    return found


# Kind -> where its runs stand in ``Runs``, and who reads one.
_READERS: dict[Kind, tuple[str, Callable[[str, str, Mapping[str, Any]], list[Any]]]] = {
    "features": ("features", _read_features),
    "clips": ("clips", _read_clips),
    "model": ("models", _read_model),
    "evaluation": ("judged", _read_judged),
    "study": ("studies", _read_study),
    "search": ("searches", _read_search),
    "label": ("labels", _read_labels),
}
