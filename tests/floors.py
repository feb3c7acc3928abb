"""The house, measured: who imports whom, and how long things are.

python -m tests.floors      # draws the floors from the imports, with the sizes of each folder
"""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median

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
    ("vidray.search", "vidray.export", "vidray.planning"),
    ("vidray.report",),
    ("jobs", "tune"),
)
FLOOR_OF = {folder: number for number, floor in enumerate(FLOORS) for folder in floor}
# They only hand on what is upstairs, under the names that users know.
FRONT_DOORS = {"vidray", "vidray.decode", "vidray.sampling"}


def _name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    _name_of(path): path
    for top in ("vidray", "jobs", "tune")
    for path in sorted((ROOT / top).rglob("*.py"))
}


def folder_of(module: str) -> str:
    """The folder with a floor that a module stands in."""
    first_two = ".".join(module.split(".")[:2])
    return first_two if first_two in FLOOR_OF else module.split(".", maxsplit=1)[0]


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


def num_lines(module: str) -> int:
    """Lines of its file."""
    return len(MODULES[module].read_text().splitlines())


def functions_of(module: str) -> Iterator[tuple[str, int]]:
    """Name and lines of each function and method, its docstring left out."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = node.end_lineno or node.lineno
            yield f"{module}:{node.name}", lines - (body[0].lineno if body else lines) + 1


def arrows() -> Counter[tuple[str, str]]:
    """(importing folder, imported folder) -> imports between modules of the two."""
    return Counter(
        (folder_of(module), folder_of(imported))
        for module in MODULES
        if module not in FRONT_DOORS
        for imported in set(imports_of(module)) - FRONT_DOORS
        if folder_of(imported) != folder_of(module)
    )


def picture() -> Iterator[str]:
    """A line for each folder, from the roof down: its size, and how often it imports from where."""
    all_arrows = arrows()
    for floor in reversed(FLOORS):
        for folder in floor:
            own = [module for module in MODULES if folder_of(module) == folder]
            lines = [num_lines(module) for module in own]
            down = sorted(
                ((there, count) for (here, there), count in all_arrows.items() if here == folder),
                key=lambda arrow: -FLOOR_OF[arrow[0]],
            )
            below = ", ".join(f"{there.removeprefix('vidray.')} {count}" for there, count in down)
            size = f"{len(own):3} modules, median {median(lines):3.0f} lines"
            yield f"{FLOOR_OF[folder]:2}  {folder:20} {size}   -> {below or '-'}"


def main() -> None:
    """Print the picture, and the longest module and functions."""
    print("\n".join(picture()))
    longest = max(MODULES, key=num_lines)
    print(f"{len(MODULES)} modules, {sum(arrows().values())} imports between folders")
    print(f"longest module: {longest}, {num_lines(longest)} lines")
    functions = [found for module in MODULES for found in functions_of(module)]
    print(f"{len(functions)} functions, median {median(size for _, size in functions):.0f} lines")
    for name, size in sorted(functions, key=lambda found: -found[1])[:3]:
        print(f"longest function: {name}, {size} lines")


if __name__ == "__main__":
    main()
