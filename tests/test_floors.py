"""Each folder of ``vidray`` imports only from folders on floors below its own."""

import re
from graphlib import TopologicalSorter

import pytest

from tests import floors
from tests.floors import FLOOR_OF, FLOORS, FRONT_DOORS, MODULES, folder_of, imports_of, num_lines


@pytest.mark.parametrize("module", sorted(set(MODULES) - FRONT_DOORS))
def test_imports_go_down(module: str) -> None:
    here = folder_of(module)
    for imported in set(imports_of(module)) - {"vidray"}:  # its version
        there = folder_of(imported)
        assert imported not in FRONT_DOORS, f"{module}: import {imported} from vidray.video"
        assert there == here or FLOOR_OF[there] < FLOOR_OF[here], f"{module} imports {imported}"


def test_no_import_goes_in_a_circle() -> None:
    inside = set(MODULES) - set(FRONT_DOORS)
    arrows = {module: set(imports_of(module)) & inside - {module} for module in inside}
    TopologicalSorter(arrows).prepare()


def test_every_folder_has_a_floor_and_no_module_is_long() -> None:
    assert {folder_of(module) for module in MODULES} == set(FLOOR_OF)
    assert {name: num_lines(name) for name in MODULES if num_lines(name) > 400} == {}


def test_the_document_draws_the_floors_as_they_are() -> None:
    text = (floors.ROOT / "docs" / "architecture.md").read_text()
    (drawn,) = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    names = [tuple(line[:26].split()) for line in drawn.splitlines() if line]
    expected = [tuple(folder.removeprefix("vidray.") for folder in floor) for floor in FLOORS]
    assert names == expected[::-1]
