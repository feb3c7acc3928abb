"""The house: each folder of ``vidray`` imports only from folders on floors below its own."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# From the ground up; folders of one floor know nothing of each other.
FLOORS = (
    ("vidray",),  # errors, the command line: what every folder needs
    ("vidray.storage",),
    ("vidray.tables",),
    ("vidray.sources", "vidray.video"),
    ("vidray.features",),
    ("vidray.models",),
    ("vidray.learning",),
    ("vidray.distributed",),
    ("vidray.evaluation", "vidray.labelling"),
    ("vidray.search",),
    ("jobs", "tune"),
)
FLOOR_OF = {folder: number for number, floor in enumerate(FLOORS) for folder in floor}
# They only hand on what is upstairs, under the names that users know.
FRONT_DOORS = ("vidray", "vidray.decode", "vidray.sampling")


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    name_of(path): path for top in ("vidray", "jobs", "tune") for path in (ROOT / top).rglob("*.py")
}


def folder_of(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[:2]) if ".".join(parts[:2]) in FLOOR_OF else parts[0]


def imports_of(module: str) -> Iterator[str]:
    """Modules of ours that are imported anywhere in the file, for type checkers too."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if full in MODULES or node.module in MODULES:
                    yield full if full in MODULES else str(node.module)


@pytest.mark.parametrize("module", sorted(set(MODULES) - set(FRONT_DOORS)))
def test_imports_go_down(module: str) -> None:
    here = folder_of(module)
    for imported in imports_of(module):
        if imported == "vidray":  # its version
            continue
        there = folder_of(imported)
        assert imported not in FRONT_DOORS, f"{module}: import {imported} from vidray.video"
        assert there == here or FLOOR_OF[there] < FLOOR_OF[here], f"{module} imports {imported}"


def test_no_import_goes_in_a_circle() -> None:
    inside = set(MODULES) - set(FRONT_DOORS)
    arrows = {module: set(imports_of(module)) & inside - {module} for module in inside}
    TopologicalSorter(arrows).prepare()


def test_every_folder_has_a_floor_and_every_module_a_screen_or_ten() -> None:
    folders = {folder_of(module) for module in MODULES}
    assert folders == set(FLOOR_OF)
    long = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert not {name: lines for name, lines in long.items() if lines > 400}
