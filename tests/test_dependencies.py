"""Whatever the code imports, pyproject.toml declares: nothing comes by way of another package."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions

import pytest

from tests.ray_cluster import ROOT

_OURS = {"vidray", "jobs", "tune", "bench", "tests"}


def _declared(*, dev: bool) -> set[str]:
    """Distributions, in lower case."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lists = [project["dependencies"], *(extras[name] for name in extras if dev or name != "dev")]
    wanted = [re.match(r"[\w.-]+", line) for lines in lists for line in lines]
    return {match[0].lower() for match in wanted if match}


def _imported(folder: str) -> Iterator[tuple[str, str]]:
    """File and top-level name of each import."""
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            else:
                continue
            yield from ((str(path.relative_to(ROOT)), name.split(".")[0]) for name in names)


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["vidray", "jobs", "tune", "tests"])
def test_every_import_is_declared(folder: str) -> None:
    declared = _declared(dev=folder == "tests")
    distributions = packages_distributions()
    others = [
        (path, name)
        for path, name in _imported(folder)
        if name not in sys.stdlib_module_names and name not in _OURS
    ]
    assert others
    undeclared = {
        (path, name)
        for path, name in others
        if not declared & {one.lower() for one in distributions.get(name, [name])}
    }
    assert undeclared == set()
