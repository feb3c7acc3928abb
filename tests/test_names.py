"""One name, one thing: no two classes or types of the code share a name."""

import ast
from collections import defaultdict
from collections.abc import Iterator

from tests.floors import MODULES


def _types(tree: ast.Module) -> Iterator[str]:
    """Classes, and names such as ``Pixels = NDArray[np.uint8]``."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name[0].isupper() and not name.isupper():
                yield name


def test_no_two_types_share_a_name() -> None:
    where = defaultdict(list)
    for module, path in MODULES.items():
        for name in _types(ast.parse(path.read_text())):
            if not name.startswith("_"):  # Those are a module's own.
                where[name].append(module)
    assert len(where) > 100
    assert {name: modules for name, modules in where.items() if len(modules) > 1} == {}
