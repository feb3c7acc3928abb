"""A finished run -> nodes, hours, money and traffic for more videos, simulated.

    python jobs/plan.py --run runs/labels --videos-per-day 1000000 --price prices.csv

Needs a folder that jobs/label.py, extract.py or clips.py has finished: of some hundred videos such
as those to come, on a node such as those to be used. Takes a minute or two, on one core. Prints
tables; nothing is written unless --out is given.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from vidray import cli
from vidray.flags import Flat
from vidray.planning.settings import PlanSettings


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """Plan the capacity for many videos a day from a run of some."""

    run: str
    """Finished run of label, extract or clips that was timed; local or in a bucket."""
    price: str | None = None
    """CSV file of nodes and prices; if not given, nodes as in the run, and no money."""
    out: str | None = None
    """JSON file to write the plan to, local or in a bucket."""
    settings: Annotated[PlanSettings, Flat] = field(default_factory=PlanSettings)


def main(config: PlanConfig) -> None:
    """Read what the run measured, rehearse the driver's part, simulate, print."""
    # These take a second to import: not before the arguments are known to be right.
    from vidray.planning import console, driver, plan, prices, rates
    from vidray.storage import canonical, check_file, json_file

    if config.out is not None:
        check_file(canonical(config.out), "a JSON file")
    measured = rates.read(config.run)
    priced = None if config.price is None else prices.read(config.price)
    rehearsed = driver.rehearse(measured, canonical(config.run))
    made = plan.make(measured, rehearsed, priced, config.settings)
    console.show(made)
    if config.out is not None:
        json_file.write_json(canonical(config.out), made)
        print(f"plan: {config.out}")


if __name__ == "__main__":
    cli.run(PlanConfig, main)
