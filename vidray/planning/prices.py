"""A price file: which nodes there are, what they and the storage cost. Input, checked as such.

    item,name,price,currency,cpus,gpus,memory_gib,network_gbit,speed,losses_per_hour,start_seconds
    node,small,0.20,EUR,4,0,16,5,1,0,60
    node,small spot,0.07,EUR,4,0,16,5,1,0.05,60
    storage,GB-month,0.02,EUR,,,,,,,
    egress,GB,0.01,EUR,,,,,,,
    read,1000 requests,0.0004,EUR,,,,,,,
    write,1000 requests,0.005,EUR,,,,,,,

All of these figures are made up. ``storage`` is for what the job writes, kept for a month; a GB is
1e9 bytes; ``read`` is for a thousand GET and HEAD requests, ``write`` for a thousand PUT and LIST.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vidray.errors import UserError, unknown_name
from vidray.masking import without_secrets
from vidray.storage import checked_json, text_file

_MOST_BYTES = 1 << 20
_MOST_ROWS = 1000
_MOST_CHARACTERS = 60
_LARGEST = 1e9
_MOST_LOSSES_PER_HOUR = 60.0
COLUMNS = (
    "item", "name", "price", "currency", "cpus", "gpus", "memory_gib", "network_gbit", "speed",
    "losses_per_hour", "start_seconds",
)  # fmt: skip
_OF_NODE = COLUMNS[4:]
_SHARED = ("storage", "egress", "read", "write")


@dataclass(frozen=True, kw_only=True)
class NodeKind:
    """A kind of node.

    Attributes:
        name: as the price file has it.
        price: for an hour; None: not known.
        cpus: that workers can have.
        gpus: that predictors can have.
        memory_gib: all of it.
        network_gbit: gigabits a second; None: not known, so never a limit.
        speed: times as fast as a CPU, or a GPU, of the run.
        losses_per_hour: how often one is taken away.
        start_seconds: from asking for one until Ray runs on it.
    """

    name: str
    price: float | None
    cpus: int
    gpus: int
    memory_gib: float
    network_gbit: float | None = None
    speed: float = 1.0
    losses_per_hour: float = 0.0
    start_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Prices:
    """A price file.

    Attributes:
        currency: of all prices.
        nodes: kinds of node, as ordered there.
        shared: ``storage``, ``egress``, ``read``, ``write`` -> price; those that it has.
    """

    currency: str
    nodes: tuple[NodeKind, ...]
    shared: Mapping[str, float]


def read(uri: str) -> Prices:
    """The prices in a CSV file, local or in a bucket.

    Raises:
        UserError: it is not there, too large, no such table, or a value is not what it must be.
    """
    text = text_file.read_text(
        uri,
        most_bytes=_MOST_BYTES,
        give="give a CSV file of prices, see docs/capacity.md",
        other="is no text in UTF-8: save it as CSV",
    )
    shown = without_secrets(uri)
    try:
        rows = list(csv.reader(io.StringIO(text), strict=True))
    except csv.Error as error:
        raise UserError(f"{shown} is no CSV file ({error}): see docs/capacity.md") from None
    header, *rows = rows or [[]]
    header = [name.strip() for name in header]
    if sorted(header) != sorted(COLUMNS):
        raise UserError(f"{shown} must have the columns {', '.join(COLUMNS)}, each once")
    lines = [(number, row) for number, row in enumerate(rows, start=2) if any(row)]
    if len(lines) > _MOST_ROWS:
        raise UserError(f"{shown} has {len(lines)} rows: {_MOST_ROWS} at the most")
    return _prices([_Line.of(shown, number, header, row) for number, row in lines], shown)


@dataclass(frozen=True)
class _Line:
    """A row: where it is, and its cells by column."""

    where: str
    cells: Mapping[str, str]

    @classmethod
    def of(cls, shown: str, number: int, header: Sequence[str], row: Sequence[str]) -> _Line:
        where = f"{shown}, line {number}"
        if len(row) != len(header):
            raise UserError(f"{where} has {len(row)} cells: it must have {len(header)}")
        cells = {name: cell.strip() for name, cell in zip(header, row, strict=True)}
        for name, cell in cells.items():
            if len(cell) > _MOST_CHARACTERS or not cell.isprintable():
                told = checked_json.shown(cell)
                raise UserError(
                    f"{where}: {name} is {told}: one line of {_MOST_CHARACTERS} letters"
                )
        return cls(where, cells)

    def number(self, column: str, *, least: float = 0.0, whole: bool = False) -> float:
        """A finite number that is not too large."""
        cell = self.cells[column]
        try:
            # Python takes 1_000 and digits of any script, which no spreadsheet writes.
            found = float(cell) if re.fullmatch(r"[0-9.eE+-]+", cell) else math.nan
        except ValueError:
            found = math.nan
        if not least <= found <= _LARGEST or (whole and found % 1):
            kind = "a whole number" if whole else "a number"
            raise UserError(
                f"{self.where}: {column} is {checked_json.shown(cell)}: it must be {kind} from "
                f"{least:g} to {_LARGEST:g}"
            )
        return found

    def optional(self, column: str, default: float, *, least: float = 0.0) -> float:
        """The same, or what an empty cell means."""
        return self.number(column, least=least) if self.cells[column] else default


def _prices(lines: Sequence[_Line], shown: str) -> Prices:
    nodes: dict[str, NodeKind] = {}
    shared: dict[str, float] = {}
    for line in lines:
        item, name = line.cells["item"], line.cells["name"]
        if item == "node":
            if not name or name in nodes:
                raise UserError(f"{line.where}: a node needs a name that no other node has")
            nodes[name] = _node(line, name)
        elif item in _SHARED:
            if item in shared or any(line.cells[column] for column in _OF_NODE):
                raise UserError(f"{line.where}: {item} has one line, with a price and no more")
            shared[item] = line.number("price")
        else:
            raise UserError(f"{line.where}: {unknown_name('item', item, ('node', *_SHARED))}")
    currencies = {line.cells["currency"] for line in lines}
    if not nodes:
        raise UserError(f"{shown} has no line whose item is node")
    if len(currencies) != 1 or not re.fullmatch(r"[A-Z]{3}", next(iter(currencies))):
        raise UserError(f"{shown}: currency must be the same three letters in all lines, as EUR")
    return Prices(currency=currencies.pop(), nodes=tuple(nodes.values()), shared=shared)


def _node(line: _Line, name: str) -> NodeKind:
    speed = line.optional("speed", 1.0, least=0.001)
    network = line.cells["network_gbit"]
    return NodeKind(
        name=name,
        price=line.number("price"),
        cpus=int(line.number("cpus", least=1, whole=True)),
        gpus=int(line.number("gpus", whole=True)) if line.cells["gpus"] else 0,
        memory_gib=line.number("memory_gib", least=0.1),
        network_gbit=line.number("network_gbit", least=0.001) if network else None,
        speed=speed,
        losses_per_hour=_losses(line),
        start_seconds=line.optional("start_seconds", 0.0),
    )


def _losses(line: _Line) -> float:
    found = line.optional("losses_per_hour", 0.0)
    if found > _MOST_LOSSES_PER_HOUR:
        raise UserError(
            f"{line.where}: losses_per_hour is {found:g}: it must be {_MOST_LOSSES_PER_HOUR:g} "
            "at the most"
        )
    return found
