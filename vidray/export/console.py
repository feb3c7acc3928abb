"""The parity report as a table."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console

from vidray.export.parity import Parity, ParitySide
from vidray.tables.summary import WIDTH, Table


def print_parity(name: str, parity: Parity) -> None:
    """Print what was compared, the two sides, and how far they differ.

    Args:
        name: of the export, such as ``openvino int8``.
    """
    table = Table("", "before", name, box=None)
    for label, shown in _ROWS.items():
        table.add_row(label, shown(parity.before), shown(parity.after))
    kind = "made clips, noise and moving squares" if parity.made else "clips of split val"
    print(f"{parity.clips} {kind}, one thread, by {parity.run_by}")
    Console(width=WIDTH).print(table)
    low, high = parity.agreement_interval
    print(
        f"labels that agree: {parity.agreement:.4f} ({low:.4f} to {high:.4f}); largest change of a "
        f"probability: {parity.largest_change:.2g}"
    )
    if parity.layers_in_float:
        count = len(parity.layers_in_float)
        print(
            f"{count} {'layer is' if count == 1 else 'layers are'} left in float, chosen by these "
            "clips: jobs/evaluate.py --split test says how good it is on others"
        )


def _with_interval(value: float | None, interval: list[float] | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")


def _mib(number: int | None) -> str:
    return "" if number is None else f"{number / 2**20:.1f} MiB"


_ROWS: dict[str, Callable[[ParitySide], str]] = {
    "accuracy": lambda side: _with_interval(side.accuracy, side.accuracy_interval),
    "log loss": lambda side: _with_interval(side.log_loss, side.log_loss_interval),
    "size": lambda side: _mib(side.size_bytes),
    "a clip": lambda side: f"{side.milliseconds:.1f} ms",
    "peak memory": lambda side: _mib(side.peak_bytes),
}
