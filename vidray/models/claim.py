"""A model folder that is being written: claimed, gone on with after a kill, finished last."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vidray import storage
from vidray.errors import UserError
from vidray.storage.json_file import write_json
from vidray.tables import out_folder, versions
from vidray.tables.out_folder import MODEL, PIPELINE, WEIGHTS

# Ray keeps its checkpoints here until the model is written.
CHECKPOINTS = "_checkpoints"
_OURS = (
    "_SUCCESS", MODEL, WEIGHTS, PIPELINE, "metrics.json", "history.json", "curve.png",
    "importance.json", "tensorboard", CHECKPOINTS, "run.json",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ModelRun:
    """One training and the folder it fills.

    Args:
        out: the model folder.
        digest: changes when the weights may.
        config: the job's settings, as run.json shows them.
        libraries: that decide the weights.
    """

    out: str
    digest: str
    config: dict[str, Any]
    libraries: tuple[str, ...] = versions.DEEP

    def claim(self, *, resume: bool) -> bool:
        """Take the folder, or take it up again; False if this very training is finished already.

        Raises:
            UserError: the folder holds something else.
        """
        before = out_folder.check(self.out, "model")
        if before is not None and not resume:
            self._remove()
        elif before is not None:
            self._refuse_others(before)
            if before.get("state") == "finished":
                self._close()  # Again: a kill may have come between run.json and _SUCCESS.
                return False
            self._refuse_other_versions(before)
        write_json(storage.join(self.out, "run.json"), self._header("running"))
        return True

    def _remove(self) -> None:
        for name in _OURS:
            storage.remove_tree(storage.join(self.out, name), inside=self.out)

    def _refuse_others(self, before: dict[str, Any]) -> None:
        if before.get("digest") != self.digest:
            found = before.get("config")
            old = _flat(found) if isinstance(found, dict) else {}
            new = _flat(json.loads(json.dumps(self.config)))  # As JSON gives it back: no tuples.
            changed = [f"{k}: {old.get(k)} -> {v}" for k, v in new.items() if old.get(k) != v]
            what = "; ".join(changed[:3]) or "the data or vidray has changed"
            raise UserError(
                f"{self.out} holds a training of other settings ({what}): choose another --out, "
                "or give --no-resume to start afresh"
            )

    def _refuse_other_versions(self, before: dict[str, Any]) -> None:
        if changed := versions.changes(before.get("versions"), versions.of(self.libraries)):
            raise UserError(
                f"{self.out} holds an unfinished training of other library versions "
                f"({'; '.join(changed[:3])}), and their numbers may differ: finish it with those, "
                "or give --no-resume to start afresh"
            )

    def _header(self, state: str) -> dict[str, Any]:
        return {
            "kind": "model",
            "state": state,
            "digest": self.digest,
            "config": self.config,
            "versions": versions.of(self.libraries),
        }

    def finish(self, report: dict[str, Any]) -> None:
        """run.json, and last of all _SUCCESS; checkpoints go."""
        write_json(storage.join(self.out, "run.json"), {**self._header("finished"), **report})
        self._close()

    def _close(self) -> None:
        storage.remove_tree(storage.join(self.out, CHECKPOINTS), inside=self.out)
        storage.remove_drafts(self.out)
        if not storage.exists(storage.join(self.out, "_SUCCESS")):
            storage.write_bytes(storage.join(self.out, "_SUCCESS"), b"")


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings within settings by names such as ``training.epochs``."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
