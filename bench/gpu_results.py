"""The file ``gpu.json``: what has been measured, row by row, as it comes."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vidray.errors import UserError

Figures = dict[str, Any]
State = Literal["begun", "done", "failed", "ended", "left out"]
_NAME = "gpu.json"
LEFT_OUT = 3
"""Exit status of a part that cannot run here."""


class LeftOutError(Exception):
    """A part cannot run here, and that is no failure; says why."""


@dataclass
class GpuResults:
    """What one machine gave under one set of settings.

    Attributes:
        folder: where gpu.json is.
        machine: GPU, driver, versions.
        settings: those that decide what is measured.
        parts: name -> ``state``, ``seconds``, ``why`` it has not all, ``rows`` by their names.
    """

    folder: Path
    machine: Figures
    settings: Figures
    parts: dict[str, Figures] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> GpuResults:
        """The file's results.

        Raises:
            UserError: it is not what this class writes.
        """
        file = folder / _NAME
        try:
            found = json.loads(file.read_text())
            parts = {str(name): {"rows": {}, **part} for name, part in found["parts"].items()}
            return cls(folder, dict(found["machine"]), dict(found["settings"]), parts)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            problem = f"{file} is not what bench/gpu.py writes ({type(error).__name__}: {error})"
            raise UserError(f"{problem}: give another --out") from None

    @classmethod
    def opened(cls, folder: Path, machine: Figures, settings: Figures) -> GpuResults:
        """Those of before, if they are of this machine and these settings.

        Others are kept beside, as ``gpu.before-1.json`` and so on: figures of two machines are not
        to be compared.
        """
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / _NAME
        if file.exists():
            before = cls.read(folder)
            # Children add what only PyTorch knows of the machine.
            same = before.machine.items() >= machine.items() and before.settings == settings
            if same:
                return before
            number = 1 + sum(1 for _ in folder.glob("gpu.before-*.json"))
            kept = file.rename(folder / f"gpu.before-{number}.json")
            print(f"{file} is of another machine or other settings: kept as {kept.name}")
        results = cls(folder, machine, settings)
        results.write()
        return results

    def write(self) -> None:
        """Replace the file at once: whoever is killed here leaves the one of before."""
        values = {"machine": self.machine, "settings": self.settings, "parts": self.parts}
        draft = self.folder / f"{_NAME}.draft"
        draft.write_text(json.dumps(values, indent=1) + "\n")
        os.replace(draft, self.folder / _NAME)

    def part(self, name: str) -> Figures:
        """What there is of a part."""
        return self.parts.setdefault(name, {"rows": {}})

    def rows(self, name: str) -> dict[str, Figures]:
        """A part's rows by their names, in the order in which they came."""
        rows: dict[str, Figures] = self.part(name)["rows"]
        return rows

    def measured(self, name: str) -> set[str]:
        """The names of a part's rows that need not be measured again."""
        return {key for key, row in self.rows(name).items() if "error" not in row}

    def add(self, name: str, key: str, row: Figures) -> None:
        """Keep a row."""
        self.rows(name)[key] = row
        self.write()

    def mark(self, name: str, state: State, *, seconds: float = 0.0, why: str = "") -> None:
        """Keep how a part stands; ``seconds`` come to those of its earlier starts."""
        part = self.part(name)
        part["state"] = state
        part["seconds"] = round(part.get("seconds", 0.0) + seconds, 1)
        part["why"] = why
        self.write()
