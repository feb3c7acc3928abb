"""A folder that a job of many parts fills: claimed, gone on with after a kill, finished last.

Each part (an answer of a study, a trial of a search) is a small JSON file of its own, written whole
or not at all, so a job that was killed goes on with the first part that is not there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from vidray import storage
from vidray.errors import UserError
from vidray.storage import checked_json, json_file
from vidray.storage.json_file import write_json
from vidray.tables import out_folder, runs, versions

T = TypeVar("T")

# What parts need while they are made; removed at the end.
WORK = "_work"
_RUN, _SUCCESS = "run.json", "_SUCCESS"


@dataclass(frozen=True, kw_only=True)
class WorkFolder:
    """The folder of one job.

    Args:
        out: the folder, local or in a bucket.
        kind: of job, as run.json tells.
        ours: what the job writes beside run.json, _SUCCESS and WORK.
        settings: flat; what every part in the folder depends on. What a part needs that is not made
            this time is left out.
        asked: the rest of run.json: it may change from run to run.
        libraries: that decide the numbers of every part.
    """

    out: str
    kind: out_folder.Kind
    ours: tuple[str, ...]
    settings: dict[str, Any]
    asked: dict[str, Any]
    libraries: tuple[str, ...] = ()

    def claim(self, *, resume: bool) -> None:
        """Take the folder, or take it up again.

        Raises:
            UserError: it holds something else.
        """
        before = self.earlier_settings()
        if resume:
            self._refuse_other_versions()
        else:
            for name in self._names:
                storage.remove_tree(self.path(name), inside=self.out)
            before = {}
        now = json.loads(json.dumps(self.settings))  # As JSON gives it back, which knows no tuples.
        for name in sorted(now.keys() & before.keys()):
            if now[name] != before[name]:
                raise UserError(
                    f"{self.out} holds a {self.kind} of other settings ({name}: {before[name]} -> "
                    f"{now[name]}): choose another --out, or give --no-resume to start "
                    "afresh"
                )
        self.settings.update(before | now)  # What an earlier run needed more is not forgotten.
        self._write("running")
        storage.remove_tree(self.path(_SUCCESS), inside=self.out)

    def earlier_settings(self) -> dict[str, Any]:
        """Settings of the job that has the folder; none if it is free."""
        report = out_folder.check(self.out, self.kind)
        settings = {} if report is None else report.get("settings")
        if not isinstance(settings, dict):
            raise UserError(
                f"{self.path(_RUN)} is damaged (settings are {checked_json.shown(settings)}): put "
                "back what was there, or choose another --out"
            )
        return settings

    def _refuse_other_versions(self) -> None:
        """Parts of other library versions are not compared with those that are to be made."""
        report = out_folder.check(self.out, self.kind) or {"versions": {}}
        if changed := versions.changes(report.get("versions"), versions.of(self.libraries)):
            raise UserError(
                f"{self.out} holds a {self.kind} of other library versions "
                f"({'; '.join(changed[:3])}), and their numbers may differ: go on with those, or "
                "give --no-resume to start afresh"
            )

    def path(self, name: str) -> str:
        """Of a file in the folder."""
        return storage.join(self.out, name)

    def read(self, name: str) -> dict[str, Any] | None:
        """A part; None if it is not there."""
        try:
            return json_file.read(self.path(name))
        except FileNotFoundError:
            return None

    def parsed(self, name: str, parse: Callable[[dict[str, Any]], T]) -> T | None:
        """What ``parse`` makes of a part; None if it is not there.

        Raises:
            UserError: it is damaged, or ``parse`` finds no such values in it.
        """
        values = self.read(name)
        try:
            return None if values is None else parse(values)
        except (KeyError, TypeError, ValueError, OverflowError):
            raise runs.damaged(self.path(name)) from None

    def write(self, name: str, values: Mapping[str, Any]) -> None:
        """Keep a part, whole or not at all."""
        storage.write_bytes(self.path(name), json.dumps(values).encode())

    def finish(self, **report: Any) -> None:
        """run.json, and last of all _SUCCESS."""
        storage.remove_tree(self.path(WORK), inside=self.out)
        for folder in (self.out, *(self.path(name) for name in self.ours)):
            storage.remove_drafts(folder)
        self._write("finished", **report)
        storage.write_bytes(self.path(_SUCCESS), b"")

    @property
    def _names(self) -> tuple[str, ...]:
        return (_SUCCESS, *self.ours, WORK, _RUN)

    def _write(self, state: str, **report: Any) -> None:
        header = {"kind": self.kind, "state": state, "settings": self.settings, "asked": self.asked}
        write_json(self.path(_RUN), {**header, "versions": versions.of(self.libraries), **report})
