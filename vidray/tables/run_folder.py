"""The folder that a job fills: its owner, its claim, resuming after a kill, and its end.

    OUT/
      run.json    the kind of job, its state (running, then finished), settings, versions, counts
      ...         what jobs of this kind leave (OWNED)
      _SUCCESS    written last; a folder of labels has none, since every night adds to it

A job goes through its folder in this order:

    check(out, kind)    first of all, before Ray and before data are read: free, or of this kind
    folder.check()      once the settings are known: free, or a run of the same settings
    folder.claim(...)   now it is this job's; what an earlier run has done is kept, or removed
                        (--overwrite)
    folder.path(...)    the work
    folder.finish(...)  run.json, and last of all _SUCCESS

Nothing is removed but what OWNED names, in a folder whose run.json says that this kind of job has
it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

from vidray import storage
from vidray.errors import UserError
from vidray.storage import checked_json, join, json_file, without_secrets
from vidray.tables import versions
from vidray.tables.apart import check_apart
from vidray.tables.changes import as_json, config_changes

T = TypeVar("T")

# "labels" is one night's work inside a folder of "label", until it is committed.
Kind = Literal[
    "features", "clips", "label", "model", "pretraining", "evaluation", "study", "search", "labels"
]
State = Literal["free", "running", "finished"]

# The files of a model folder.
MODEL, WEIGHTS, PIPELINE = "model.json", "weights.safetensors", "pipeline.skops"
# Those of an exported network, by what runs it. TensorRT makes its engine of the graph.
GRAPHS: dict[str, tuple[str, ...]] = {
    "onnx": ("network.onnx",),
    "openvino": ("network.xml", "network.bin"),
    "tensorrt": ("network.onnx",),
    "torch": (WEIGHTS,),
}
# In that of a classical model: the model folder of the network whose embeddings it takes.
EMBEDDING = "embedding"
RUN, SUCCESS = "run.json", "_SUCCESS"

# What a job leaves beside run.json and _SUCCESS: --overwrite removes these names, and no others.
OWNED: dict[Kind, tuple[str, ...]] = {
    "features": ("features", "videos.parquet", "_staging"),
    "clips": ("clips", "videos.parquet", "_staging"),
    "label": ("labels", "nights", "_runs", "_numbers"),
    "model": (
        MODEL, WEIGHTS, PIPELINE, "metrics.json", "history.json", "curve.png", "importance.json",
        EMBEDDING, "tensorboard", "_checkpoints", "network.onnx", "network.xml", "network.bin",
        "parity.json",
    ),
    "pretraining": (
        "config.json", "preprocessor_config.json", "model.safetensors", "history.json",
        "curve.png", "tensorboard", "_checkpoints",
    ),
    "evaluation": (
        "metrics.json", "predictions.parquet", "curves.json", "confusion.png", "roc.png",
        "precision_recall.png", "calibration.png",
    ),
    "study": (
        "study.json", "study.parquet", "learning_curve.json", "learning_curve.png", "units",
        "pareto.png",
        "_work",
    ),
    "search": (
        "trials", "trials.parquet", "search.json", "search.png", "importance.png", "best", "test",
        "classical", "deep", "_work",
    ),
    "labels": ("labels", "videos.parquet", "_staging"),
}  # fmt: skip
# Files that only the work needs; finishing removes them.
_WORK: dict[Kind, str] = {
    "model": "_checkpoints", "pretraining": "_checkpoints", "study": "_work", "search": "_work",
}  # fmt: skip
# Kinds whose settings may be more, or fewer, from run to run: a study with models added goes on.
_GROWING = ("study", "search")
# Between the first and the last file that --overwrite removes.
_REMOVING = "removing"


def check(out: str, kind: Kind, *, videos: str | None = None) -> dict[str, Any] | None:
    """run.json of the run of this kind that has the folder; None where the folder is free.

    Args:
        out: the folder, which need not be there.
        videos: the source that the job lists.

    Returns:
        Nothing in it (``{}``) for a folder of labels whose first run was killed by an older vidray,
        which wrote run.json only after its first commit.

    Raises:
        UserError: it is a file, holds anything else, or lies so that the job would see its output.
    """
    if videos is not None:
        check_apart(out, videos)
    storage.check_folder(out)
    if not storage.exists(join(out, RUN)):
        names = storage.list_names(out) if storage.exists(out) else []
        if not names:
            return None
        if not storage.exists(join(out, RUN)):  # Another start may have claimed it meanwhile.
            return _without_run_json(out, kind, names)
    if storage.is_dead_link(join(out, RUN)):
        raise storage.damaged(join(out, RUN), "it is a link to nothing")
    report = read_json(out)
    if kind_of(report) != kind:
        raise UserError(
            f"{without_secrets(out)} holds {described(report)}, not {_noun(kind)}: "
            "choose another --out"
        )
    return report


def _without_run_json(out: str, kind: Kind, names: list[str]) -> dict[str, Any]:
    """The empty run.json of a folder of labels, if it is one; UserError if not."""
    if kind == "label" and _are_labels(out, names):
        return {}
    found = "a model" if MODEL in names else names[0]
    raise UserError(f"{without_secrets(out)} holds {found} but no {RUN}: choose another --out")


def read_json(out: str) -> dict[str, Any]:
    """The content of a folder's run.json.

    Raises:
        FileNotFoundError: there is none.
        UserError: it is damaged, or something else.
    """
    return json_file.read(join(out, RUN))


def kind_of(report: Mapping[str, Any]) -> Kind | None:
    """The kind of job that wrote a run.json; None if no job did.

    Until November 2026 run.json of features and clips named the table only.
    """
    stated = {report[name] for name in ("kind", "table") if isinstance(report.get(name), str)}
    found = [kind for kind in get_args(Kind) if stated == {kind}]
    is_whole = isinstance(report.get("kind", ""), str)
    return found[0] if found and is_whole else None


def described(report: Mapping[str, Any]) -> str:
    """The content of a folder with this run.json, in words, such as ``a study``."""
    kind = kind_of(report)
    return f"a {RUN} that no job of vidray wrote" if kind is None else _noun(kind)


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """The folder of one run.

    Args:
        out: the folder, local or in a bucket.
        kind: of job.
        same: names and values of run.json that are another run's where they differ.
        settings: flat, of a study or a search: what every part in the folder depends on. What no
            part of this run needs is left out, and claiming adds what earlier ones needed.
        shown: the rest of run.json, which may differ from run to run.
        libraries: that decide the numbers.
    """

    out: str
    kind: Kind
    same: Mapping[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    shown: Mapping[str, Any] = field(default_factory=dict)
    libraries: tuple[str, ...] = ()

    def check(self) -> dict[str, Any] | None:
        """run.json of the run that has the folder; None where there is nothing to go on with.

        Raises:
            UserError: it holds anything but a run of these settings, as far as that is done, and
                of these library versions, if there is work left.
        """
        return self._checked(check(self.out, self.kind))

    def _checked(self, before: dict[str, Any] | None) -> dict[str, Any] | None:
        if not before or before.get("state") == _REMOVING:
            return None
        if self.kind != "label":  # Which holds a set for each model and its settings.
            self._refuse_other_settings(before)
            if before.get("state") != "finished" or self.kind in _GROWING:
                self._refuse_other_versions(before)
        return before

    def start(self) -> dict[str, Any] | None:
        """Claim the folder where it is free; otherwise run.json of the run to go on with.

        Raises:
            UserError: as ``check``.
        """
        before = check(self.out, self.kind)
        if before and before.get("state") == _REMOVING:  # A kill came before all was removed.
            self._remove_owned()
            self.write_run_json("running")
            return None
        if before:
            return self._checked(before)
        values = json_file.to_bytes(self._values("running"))
        # Of two starts at once, one claims the folder.
        return None if storage.write_once(self.path(RUN), values) else self.check()

    def claim(self, *, overwrite: bool = False) -> State:
        """Claim the folder, or resume its run.

        Returns:
            The state it was in. A finished run stays as it is, except for a study or a search,
            which may have been asked for more.

        Raises:
            UserError: as ``check``.
        """
        if overwrite:
            self.overwrite()
        before = self.start()
        if before is None:
            return "free"
        state: State = "finished" if before.get("state") == "finished" else "running"
        if self.kind in _GROWING:
            storage.remove_tree(self.path(SUCCESS), inside=self.out)
            self.settings.update(_settings_in(self.out, before) | as_json(self.settings))
            self.write_run_json("running")
        elif state == "finished":
            self._close()  # Again: a kill may have come between run.json and _SUCCESS.
        return state

    def overwrite(self) -> None:
        """Remove what an earlier run of this kind left; other files in the folder stay.

        Raises:
            UserError: the folder holds anything else.
        """
        before = check(self.out, self.kind)
        if before is None:
            return
        # In this order a kill leaves a folder that is whole, or one known as ours and as removed.
        storage.remove_tree(self.path(SUCCESS), inside=self.out)
        json_file.write_json(self.path(RUN), {"kind": self.kind, "state": _REMOVING})
        self._remove_owned()

    def earlier_settings(self) -> dict[str, Any]:
        """Settings of the study or search that has the folder; none where it is free."""
        before = check(self.out, self.kind)
        if not before or before.get("state") == _REMOVING:
            return {}
        return _settings_in(self.out, before)

    def finish(self, **report: Any) -> None:
        """Remove what only the work needed; write run.json, and last of all _SUCCESS."""
        for name in OWNED[self.kind]:
            storage.remove_drafts(self.path(name))
        self.write_run_json("finished", **report)
        self._close()

    def write_run_json(self, state: Literal["running", "finished"], **report: Any) -> None:
        """Write the state of the run; ``report`` holds its results."""
        json_file.write_json(self.path(RUN), {**self._values(state), **report})

    # Files in it

    def path(self, name: str) -> str:
        """The URI of a file in the folder."""
        return join(self.out, name)

    @property
    def work(self) -> str:
        """A folder for what only the work needs, such as checkpoints; finishing removes it."""
        return self.path(_WORK[self.kind])

    def read(self, name: str) -> dict[str, Any] | None:
        """The JSON of a part; None if it is not there."""
        try:
            return json_file.read(self.path(name))
        except FileNotFoundError:
            return None

    def parsed(self, name: str, parse: Callable[[dict[str, Any]], T]) -> T | None:
        """The result of ``parse`` on a part; None if it is not there.

        Raises:
            UserError: it is damaged, or ``parse`` finds no such values in it.
        """
        values = self.read(name)
        try:
            return None if values is None else parse(values)
        except (KeyError, TypeError, ValueError, OverflowError):
            raise storage.damaged(self.path(name)) from None

    def write(self, name: str, values: Mapping[str, Any]) -> None:
        """Write a part, whole or not at all."""
        storage.write_bytes(self.path(name), json.dumps(values).encode())

    # How it is done

    def _values(self, state: str) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "state": state,
            **self.same,
            **({"settings": self.settings} if self.kind in _GROWING else {}),
            **self.shown,
            "versions": versions.of(self.libraries),
        }

    def _remove_owned(self) -> None:
        for name in (SUCCESS, *OWNED[self.kind]):
            storage.remove_tree(self.path(name), inside=self.out)

    def _close(self) -> None:
        if self.kind == "label":
            return
        if self.kind in _WORK:
            storage.remove_tree(self.work, inside=self.out)
        storage.remove_drafts(self.out)
        if not storage.exists(self.path(SUCCESS)):
            storage.write_bytes(self.path(SUCCESS), b"")

    def _refuse_other_settings(self, before: Mapping[str, Any]) -> None:
        now = as_json(self.same)
        if self.kind in _GROWING:
            then, mine = _settings_in(self.out, before), as_json(self.settings)
            both = sorted(then.keys() & mine.keys())
            changed = [f"{n}: {then[n]} -> {mine[n]}" for n in both if then[n] != mine[n]]
        elif any(before.get(name) != value for name, value in now.items()):
            changed = config_changes(before.get("config"), self.shown.get("config"))
            changed = changed or ["the data or vidray has changed"]
        else:
            return
        if changed:
            raise UserError(
                f"{without_secrets(self.out)} holds {self._found(before)} of other settings "
                f"({'; '.join(changed[:3])}): choose another --out, or give --overwrite to start "
                "afresh"
            )

    def _refuse_other_versions(self, before: Mapping[str, Any]) -> None:
        changed = versions.changes(before.get("versions"), versions.of(self.libraries))
        if changed:
            raise UserError(
                f"{without_secrets(self.out)} holds {self._found(before)} of other library "
                f"versions ({'; '.join(changed[:3])}), and their numbers may differ: go on with "
                "those, or give --overwrite to start afresh"
            )

    def _found(self, before: Mapping[str, Any]) -> str:
        is_finished = before.get("state") == "finished"
        return _noun(self.kind, "finished" if is_finished else "unfinished")


def _noun(kind: Kind, state: str = "") -> str:
    """The content in words, such as ``an unfinished model``."""
    noun = "labels" if kind == "label" else kind
    words = f"{state} {noun}".strip()
    if noun in ("features", "clips", "labels"):
        return words
    return f"{'an' if words[0] in 'aeu' else 'a'} {words}"


def _settings_in(out: str, report: Mapping[str, Any]) -> dict[str, Any]:
    found = report.get("settings")
    if not isinstance(found, dict):
        why = f"settings are {checked_json.shown(found)}"
        raise storage.damaged(join(out, RUN), why)
    return found


def _are_labels(out: str, names: list[str]) -> bool:
    """Whether a folder without run.json holds nothing but what label jobs leave."""
    for name in names:
        folder = join(out, name)
        if name not in OWNED["label"] or not storage.is_folder(folder):
            return False
        sets = storage.list_names(folder) if name not in ("_numbers", "nights") else []
        if not all(inside.startswith("set=") for inside in sets):
            return False
    return True
