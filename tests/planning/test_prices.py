"""Price files: what is read, and that anything else is one line which says where."""

from pathlib import Path

import pytest

from tests.command_lines import ROOT
from vidray.errors import UserError
from vidray.planning import prices
from vidray.planning.prices import COLUMNS, NodeKind

HEADER = ",".join(COLUMNS)
SMALL = "node,small,0.20,EUR,4,0,16,5,1,0,60"


def written(tmp_path: Path, *lines: str, header: str = HEADER) -> str:
    file = tmp_path / "prices.csv"
    file.write_text("\n".join([header, *lines]) + "\n")
    return str(file)


def test_nodes_and_prices_are_read(tmp_path: Path) -> None:
    spot = "node,small spot,0.07,EUR,4,1,16,,,0.05,"
    found = prices.read(written(tmp_path, SMALL, spot, "", "storage,GB-month,0.02,EUR" + 7 * ","))
    assert found.currency == "EUR"
    assert found.shared == {"storage": 0.02}
    assert found.nodes == (
        NodeKind(name="small", price=0.2, cpus=4, gpus=0, memory_gib=16.0, network_gbit=5.0,
                 start_seconds=60.0),
        NodeKind(name="small spot", price=0.07, cpus=4, gpus=1, memory_gib=16.0,
                 losses_per_hour=0.05),
    )  # fmt: skip


def test_columns_may_stand_in_any_order(tmp_path: Path) -> None:
    turned = ",".join(reversed(SMALL.split(",")))
    file = written(tmp_path, turned, header=",".join(reversed(COLUMNS)))
    assert prices.read(file).nodes == prices.read(written(tmp_path, SMALL)).nodes


def test_the_example_of_the_docs_is_one(tmp_path: Path) -> None:
    example = ROOT / "docs" / "examples" / "prices.csv"
    found = prices.read(str(example))
    assert {*found.shared} == {"storage", "egress", "read", "write"}
    assert min(node.losses_per_hour for node in found.nodes) == 0
    assert max(node.losses_per_hour for node in found.nodes) > 0


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (SMALL.replace("0.20", "-1"), "line 2: price is \"-1\": it must be a number from 0"),
        (SMALL.replace("0.20", ""), "price is \"\""),
        (SMALL.replace("0.20", "nan"), "price is \"nan\""),
        (SMALL.replace("0.20", "1e999"), "price is \"1e999\""),
        (SMALL.replace("0.20", "1_0"), "price is \"1_0\""),
        (SMALL.replace("0.20", "--1"), "price is \"--1\""),
        (SMALL.replace(",4,", ",4.5,"), "cpus is \"4.5\": it must be a whole number"),
        (SMALL.replace(",4,", ",0,"), "cpus is \"0\": it must be a whole number from 1"),
        (SMALL.replace(",5,1,", ",0,1,"), "network_gbit is \"0\""),
        (SMALL.replace(",5,1,", ",5,0,"), "speed is \"0\""),
        (SMALL.replace("small", ""), "needs a name"),
        (SMALL.replace("node", "=cmd()"), "item '=cmd()' is unknown"),
        (SMALL.replace("node", "nod"), "did you mean node?"),
        (SMALL.replace("EUR", "euro"), "three letters"),
        (SMALL.replace("small", "x" * 61), "name is \"xxxxx"),
        (SMALL.replace("small", "a\x1b[31m"), "name is "),
        (SMALL + ",7", "has 12 cells: it must have 11"),
        ("storage,GB-month,0.02,EUR,4,,,,,,", "storage has one line, with a price"),
        ("storage,GB-month,0.02,EUR,,,,,,,", "has no line whose item is node"),
        ("", "has no line whose item is node"),
        ('"' + SMALL, "is no CSV file"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(line: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        prices.read(written(tmp_path, line))
    assert told in str(error.value)
    assert str(error.value).isprintable()


def test_two_of_a_name_two_currencies_too_many_rows(tmp_path: Path) -> None:
    for lines, told in (
        ([SMALL, SMALL], "that no other node has"),
        ([SMALL, SMALL.replace("small", "b").replace("EUR", "USD")], "three letters in all"),
        ([SMALL.replace("small", f"n{k}") for k in range(1001)], "1000 at the most"),
    ):
        with pytest.raises(UserError, match=told):
            prices.read(written(tmp_path, *lines))


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="it is not there"):
        prices.read(str(tmp_path / "gone.csv"))
    with pytest.raises(UserError, match="must have the columns item, name, price"):
        prices.read(written(tmp_path, SMALL, header=HEADER.replace("speed", "price")))
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe" * 9)
    with pytest.raises(UserError, match="UTF-8"):
        prices.read(str(tmp_path / "b.csv"))
    with (tmp_path / "large.csv").open("wb") as file:
        file.truncate(2 << 20)
    with pytest.raises(UserError, match="larger than 1 MiB"):
        prices.read(str(tmp_path / "large.csv"))
