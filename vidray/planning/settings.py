"""What a plan is asked for, as flags. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from vidray.errors import UserError

# More than these take minutes, and memory, to simulate.
_MOST_VIDEOS = 10**9
MOST_WORKERS = 100_000


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """What the plan is for."""

    videos_per_day: int = 1_000_000
    """Videos that are new each day, all done in one night."""
    deadline_hours: float = 8.0
    """Hours that a night may take, from the start of its nodes to the labels."""
    sureness: float = 0.9
    """Chance with which the deadline is to be met; a plan has the fewest nodes that do."""
    nodes: int | None = None
    """Nodes of each kind; if not given, as many as the deadline needs."""
    workers_per_node: int | None = None
    """Workers of each node; if not given, as many as its CPUs and memory hold."""
    days_kept: int = 1
    """Days whose videos are still listed, and whose labels are in the same folder."""
    slow_nodes: float = 0.0
    """Share of nodes that are slow."""
    slow_times: float = 2.0
    """Times as long that a slow node takes."""
    without_waiting: bool = False
    """Leave out the time in which other work held the run's CPUs: the nodes do nothing else."""
    grow_to: int = 100_000_000
    """Videos a day to which the table of growth goes, in steps of ten."""
    nights: int = 40
    """Nights that are simulated for each kind of node."""
    seed: int = 0
    """Seed of all random draws."""

    def __post_init__(self) -> None:
        ranges: dict[str, tuple[float, float]] = {
            "videos_per_day": (1, _MOST_VIDEOS),
            "deadline_hours": (0.001, 24 * 31),
            "sureness": (0.01, 0.99),
            "nodes": (1, MOST_WORKERS),
            "workers_per_node": (1, 1000),
            "days_kept": (1, 36_525),
            "slow_nodes": (0, 1),
            "slow_times": (1, 1000),
            "grow_to": (1, _MOST_VIDEOS),
            "nights": (10, 10_000),
            "seed": (0, 2**32 - 1),
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:  # Not a number is neither.
                raise UserError(f"{name} is {value:g}: it must be {least:g} to {most:g}")
        if self.slow_times != PlanSettings.slow_times and not self.slow_nodes:
            raise UserError("--slow-times has no effect without --slow-nodes: give both, or none")
