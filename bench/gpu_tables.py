"""The Markdown tables of ``gpu.json``, as they stand in docs/gpu.md."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from bench.gpu_plan import PARTS
from bench.gpu_results import Figures, GpuResults

_LABELLING = ("label", "again", "compile", "tensorrt", "exits", "job-label")
_TRAINING = ("train", "networks")
_TESTS = ("tests", "job-tests", "transfer")
_NONE = "-"


def markdown(results: GpuResults) -> str:
    """All tables that there are figures for, and which parts are not there."""
    made = [
        "# Figures of a GPU\n\n" + _machine(results),
        _titled("Labelling", _labelling(results)),
        _titled("Training steps", _training(results)),
        *(_titled(part.name, _plain(results, part.name)) for part in PARTS if _is_plain(part.name)),
        _titled("Tests", _tests(results)),
        _titled("Parts", _parts(results)),
    ]
    return "\n".join(text for text in made if text)


def _is_plain(name: str) -> bool:
    return name not in (*_LABELLING, *_TRAINING, *_TESTS)


def _titled(title: str, table: str) -> str:
    return f"## {title}\n\n{table}" if table else ""


def _machine(results: GpuResults) -> str:
    said = ", ".join(f"{name} {value}" for name, value in results.machine.items())
    sizes = ", ".join(f"{name} {results.settings[name]}" for name in ("clips", "decoders"))
    return f"{said}; {sizes}{', tiny: no figures' if results.settings['tiny'] else ''}.\n"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; none without rows."""
    if not rows:
        return ""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [heads, ["---"] * len(heads), *cells]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _labelling(results: GpuResults) -> str:
    """A row per way: medians over its rounds."""
    rounds: dict[str, list[Figures]] = {}
    failed: dict[str, str] = {}
    for part in _LABELLING:
        for key, row in results.rows(part).items():
            if "error" in row:
                failed[key] = row["error"]
            else:
                rounds.setdefault(row["way"], []).append(row)
    speed = {way: _median(rows, "videos_per_second") or 0.0 for way, rows in rounds.items()}
    plain, decoding = speed.get("plain loop, float32"), speed.get("decoding alone")
    heads = ("way", "videos/s", "times plain", "of decoding alone", "GPU busy", "GPU memory, GiB",
             "labels as float32", "left early", "seconds to start", "rounds")  # fmt: skip
    rows = [
        [
            way, _number(speed[way]), _ratio(speed[way], plain, "{:.2f}"),
            _ratio(speed[way], decoding, "{:.0%}"), _shown(_median(found, "busy"), "{:.0%}"),
            _gib(_median(found, "peak_gpu_bytes")),
            _shown(_median(found, "same_labels"), "{:.1%}"),
            _shown(_median(found, "left_early"), "{:.0%}"),
            _shown(_median(found, "start_seconds"), "{:.0f}"), str(len(found)),
        ]
        for way, found in rounds.items()
    ]  # fmt: skip
    rows += [[key, f"failed: {why}", *[_NONE] * 8] for key, why in failed.items()]
    return table(heads, rows)


def _training(results: GpuResults) -> str:
    """A row per network and way; speeds against the network's own in float32."""
    heads = ("network, clips of a step", "way", "clips/s", "times float32", "peak GiB", "spread")
    found = {key: row for part in _TRAINING for key, row in results.rows(part).items()}
    base = {row["network"]: row["clips_per_second"]
            for row in found.values() if row.get("way") == "float32"}  # fmt: skip
    rows = []
    for key, row in found.items():
        if "error" in row:
            rows.append([key, f"failed: {row['error']}", *[_NONE] * 4])
            continue
        of = "{batch} of {frames}x{size_px}x{size_px}".format(**row)
        rows.append([
            f"{row['network']}, {of}", row["way"], _number(row["clips_per_second"]),
            _ratio(row["clips_per_second"], base.get(row["network"]), "{:.2f}"),
            _gib(row["peak_gpu_bytes"]), f"{row['spread']:.0%}",
        ])  # fmt: skip
    return table(heads, rows)


def _plain(results: GpuResults, part: str) -> str:
    """The rows as they are: a column for each number that a row has."""
    rows = results.rows(part)
    numbers = [
        name
        for name in dict.fromkeys(name for row in rows.values() for name in row)
        if any(isinstance(row.get(name), int | float) for row in rows.values())
    ]
    heads = [part, *(name.replace("_", " ") for name in numbers), "failed"]
    return table(heads, [
        [key, *(_any(row.get(name)) for name in numbers), str(row.get("error", _NONE))]
        for key, row in rows.items()
    ])  # fmt: skip


def _tests(results: GpuResults) -> str:
    """Counts by part, and why tests failed or were left out."""
    rows = []
    for part in _TESTS:
        found = {key: row for key, row in results.rows(part).items() if "::" in key}
        if not found:
            continue
        counts = [sum(row["outcome"] == outcome for row in found.values())
                  for outcome in ("passed", "failed", "left out")]  # fmt: skip
        reasons = [f"{key.partition('::')[2]}: {row.get('error', row.get('why'))}"
                   for key, row in found.items() if row["outcome"] != "passed"]  # fmt: skip
        rows.append([part, *map(str, counts), "; ".join(reasons)[:1000] or _NONE])
    return table(("part", "passed", "failed", "left out", "why"), rows)


def _parts(results: GpuResults) -> str:
    rows = []
    for part in PARTS:
        found = results.parts.get(part.name, {})
        state = str(found.get("state", "not asked for"))
        seconds = _shown(found.get("seconds") or None, "{:.0f}")
        rows.append([part.name, part.shows, state, seconds, str(found.get("why") or _NONE)])
    return table(("part", "shows", "state", "seconds", "why"), rows)


# Cells


def _median(rows: list[Figures], name: str) -> float | None:
    found = [row[name] for row in rows if row.get(name) is not None]
    return statistics.median(found) if found else None


def _shown(value: float | None, form: str) -> str:
    return _NONE if value is None else form.format(value)


def _ratio(value: float, of: float | None, form: str) -> str:
    return form.format(value / of) if of else _NONE


def _gib(value: float | None) -> str:
    return _shown(None if value is None else value / 2**30, "{:.1f}")


def _number(value: float) -> str:
    """Three digits that count, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _any(value: object) -> str:
    forms: dict[type, Callable[[float], str]] = {int: str, float: _number, bool: str}
    form = forms.get(type(value))
    return _NONE if value is None else form(value) if form else str(value)  # type: ignore[arg-type]
