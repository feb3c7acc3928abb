"""What a contributor's tools run is what the Makefile runs, on the Pythons that are promised."""

import re
import tomllib
from typing import Any

import yaml

from tests.ray_cluster import ROOT

_MAKEFILE = (ROOT / "Makefile").read_text()


def _yaml(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


def test_the_workflow_calls_make_test_on_each_python() -> None:
    job = _yaml(".github/workflows/test.yml")["jobs"]["test"]
    versions = job["strategy"]["matrix"]["python"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    promised = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))
    assert versions == promised
    assert project["requires-python"] == f">={versions[0]}"
    assert job["steps"][-1]["run"].startswith("make test ")


def test_hooks_are_the_tools_of_make_test() -> None:
    """All of them from ``.venv``: a hook with a version of its own would want other code."""
    (repository,) = _yaml(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    tools = set()
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        program, *words = hook["entry"].split()
        assert program.startswith(".venv/bin/")
        tools.add(" ".join([program.removeprefix(".venv/bin/"), *words[:1]]).removesuffix(" --fix"))
    test = re.search(r"^test:.*?\n\n", _MAKEFILE, re.DOTALL | re.MULTILINE)
    assert test
    assert tools == set(re.findall(r"\$\(BIN\)/((?:ruff \w+|mypy))", test[0]))
