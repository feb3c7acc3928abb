"""The plan: for each kind of node how many, how long, for how much, and what limits it.

rates (of a run), driver (rehearsed), prices ──> CapacityPlan ──> console, plan.json
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vidray.distributed.dealing import SECONDS_PER_BLOCK
from vidray.errors import UserError
from vidray.planning import bounds, placing
from vidray.planning.driver import Driver
from vidray.planning.night import Cluster, Worked, simulate
from vidray.planning.placing import Placed
from vidray.planning.prices import NodeKind, Prices
from vidray.planning.rates import Rates
from vidray.planning.settings import MOST_WORKERS, PlanSettings
from vidray.planning.traffic import Traffic, traffic_of

# Nights simulated for a step of the table of growth: one of 1e8 videos takes seconds. And how often
# the number of nodes is raised.
_STEP_NIGHTS, _MOST_RAISES = 3, 8
# More nodes that gain less than this share of a night are not what it needs.
_LEAST_GAIN = 0.002
# A night that takes so many times its deadline, or what it takes if all goes well, is given up.
_GIVE_UP = 4
_A_YEAR = 365


@dataclass(frozen=True, kw_only=True)
class Range:
    """The median of simulated nights, and what a tenth of them are below and above."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Range:
        """The range of values."""
        low, median, high = np.quantile(values, [0.1, 0.5, 0.9]).tolist()
        return cls(low=low, median=median, high=high)


@dataclass(frozen=True, kw_only=True)
class Option:
    """A night on nodes of one kind.

    Attributes:
        kind: of node.
        nodes: their number.
        workers: on all of them.
        predictors: on all of them.
        whole_seconds: from the start of the nodes to the labels.
        working_seconds: of it, from the first video to the last part.
        chance: of the deadline to be met.
        least_seconds: working, were all workers always busy.
        most_seconds: the mean of it is below without slow and lost nodes; None with such.
        busy_share: of the workers' time while they work.
        lost_nodes: in a night.
        redone_share: of the work.
        money: for the nodes of a night; None: no price is known.
        limit: what takes most of a night, or keeps workers waiting.
    """

    kind: str
    nodes: int
    workers: int
    predictors: int
    whole_seconds: Range
    working_seconds: Range
    chance: float
    least_seconds: float
    most_seconds: float | None
    busy_share: float
    lost_nodes: float
    redone_share: float
    money: float | None
    limit: str


@dataclass(frozen=True, kw_only=True)
class Step:
    """A night of another number of videos a day, on the best kind of node.

    Attributes:
        videos_per_day: of this step.
        option: None where no number of nodes meets the deadline.
        before_seconds: in which the driver lists and compares, and
        after_seconds: in which it checks and commits, once all videos are done.
        year_before_seconds: the first of these after a year of nights in one folder.
        driver_bytes: memory of the driver, and
        year_driver_bytes: after a year of nights in one folder.
        table_bytes: that a day adds.
        limit: what limits it.
    """

    videos_per_day: int
    option: Option | None
    before_seconds: float
    after_seconds: float
    year_before_seconds: float
    driver_bytes: float
    year_driver_bytes: float
    table_bytes: float
    limit: str


@dataclass(frozen=True, kw_only=True)
class CapacityPlan:
    """All of it.

    Attributes:
        options: of each kind of node that a plan can be made for.
        best: the kind of the cheapest that meets the deadline (the fastest where no price is
            known); None where none does.
        refused: kind of node -> why no plan can be made for it.
        wrong_seconds: the sum that leaves all out but the mean: the videos, times the run's working
            seconds for each, by as many workers as the best has.
    """

    settings: PlanSettings
    rates: Rates
    driver: Driver
    currency: str | None
    options: tuple[Option, ...]
    best: str | None
    refused: dict[str, str]
    wrong_seconds: float | None
    traffic: Traffic
    growth: tuple[Step, ...]


def make(
    rates: Rates, driver: Driver, prices: Prices | None, settings: PlanSettings
) -> CapacityPlan:
    """The plan for what is asked.

    Raises:
        UserError: no kind of node can do the work at all.
    """
    kinds = prices.nodes if prices else (placing.kind_of_run(rates),)
    found = {kind.name: placing.why_not(kind, rates) for kind in kinds}
    refused = {name: why for name, why in found.items() if why}
    usable = [kind for kind in kinds if kind.name not in refused]
    if not usable:
        name, why = next(iter(refused.items()))
        raise UserError(f"no kind of node can do this; {name}: {why}")
    planner = _Planner(rates, driver, settings)
    every = [(kind, planner.option(kind, settings.videos_per_day)) for kind in usable]
    met = [pair for pair in every if pair[1].chance >= settings.sureness]
    best = min(met, key=_cost, default=None)
    growing, first = best or min(every, key=_cost)
    return CapacityPlan(
        settings=settings,
        rates=rates,
        driver=driver,
        currency=prices.currency if prices else None,
        options=tuple(option for _, option in every),
        best=best[0].name if best else None,
        refused=refused,
        wrong_seconds=_wrong(rates, settings, first.workers),
        traffic=traffic_of(rates, settings, prices.shared if prices else {}),
        growth=tuple(planner.step(growing, videos) for videos in _sizes(settings)),
    )


def _cost(pair: tuple[NodeKind, Option]) -> tuple[float, float]:
    option = pair[1]
    return option.money or 0.0, option.whole_seconds.median


def _wrong(rates: Rates, settings: PlanSettings, workers: int) -> float:
    """The usual sum: videos times what the run took for each, by the workers."""
    each = rates.working_seconds * rates.timing.workers / rates.timing.videos
    kept = 1 - rates.waiting_share if settings.without_waiting else 1.0
    return settings.videos_per_day * each * kept / workers


def _sizes(settings: PlanSettings) -> list[int]:
    found = [settings.videos_per_day]
    while found[-1] * 10 <= settings.grow_to:
        found.append(found[-1] * 10)
    return found


@dataclass(frozen=True)
class _Planner:
    """Simulates nights of any size on nodes of any kind."""

    rates: Rates
    driver: Driver
    settings: PlanSettings

    def option(self, kind: NodeKind, videos: int, nights: int | None = None) -> Option:
        """A night with the fewest nodes that meet the deadline, or those that are asked for."""
        asked = self.settings
        placed = placing.place(
            kind, self.rates, videos, self._draws(),
            workers=asked.workers_per_node, without_waiting=asked.without_waiting,
        )  # fmt: skip
        if (asked.nodes or 1) * placed.workers > MOST_WORKERS:
            raise UserError(
                f"{asked.nodes or 1} nodes of {placed.workers} workers are more than the "
                f"{MOST_WORKERS} that are simulated: lower --nodes or --workers-per-node"
            )
        nights = nights or asked.nights
        return self._simulated(placed, asked.nodes or self._fewest(placed, nights), nights)

    def _fewest(self, placed: Placed, nights: int) -> int:
        """The fewest nodes that are sure enough; where none are, as many as help."""
        asked = self.settings
        around = self.driver.before(self._listed(placed)) + self.driver.after(placed.work.videos)
        around += placed.kind.start_seconds + self.rates.startup_seconds
        left = asked.deadline_hours * 3600 - around
        one = self._cluster(placed, 1)
        # Where the driver alone takes too long, nodes that leave the workers a tenth of its time.
        needed = bounds.workers_needed(placed.work, left if left > 0 else around / 10, one)
        nodes = min(math.ceil(needed / placed.workers), self._most_nodes(placed))
        found = self._simulated(placed, nodes, nights) if left > 0 else None
        for _ in range(_MOST_RAISES):
            if found is None or found.chance >= asked.sureness or nodes == self._most_nodes(placed):
                break
            late = found.working_seconds.high / left
            more = min(self._most_nodes(placed), max(nodes + 1, math.floor(nodes * late)))
            before, found = found, self._simulated(placed, more, nights)
            gain = before.whole_seconds.median / found.whole_seconds.median - 1
            if gain < _LEAST_GAIN:
                break
            nodes = more
        return nodes

    def _most_nodes(self, placed: Placed) -> int:
        """With more, some worker would get no part, or more would be simulated than can be."""
        parts = math.ceil(placed.work.videos / placed.work.videos_per_part)
        most = min(math.ceil(parts / placed.workers), MOST_WORKERS // placed.workers)
        return max(1, most)

    def _simulated(self, placed: Placed, nodes: int, nights: int) -> Option:
        draws, cluster = self._draws(), self._cluster(placed, nodes)
        worked, whole = list[Worked](), list[float]()
        least = bounds.least_seconds(placed.work, cluster)
        most = _GIVE_UP * max(least, self.settings.deadline_hours * 3600)
        for _ in range(nights):
            worked.append(simulate(placed.work, cluster, draws, give_up_seconds=most))
            driver = self.driver.drawn(draws)
            around = driver.before(self._listed(placed)) + driver.after(placed.work.videos)
            start = placed.kind.start_seconds + self.rates.startup_seconds
            whole.append(start + around + worked[-1].seconds)
        seconds = Range.of(whole)
        price = placed.kind.price
        busy = sum(one.busy_seconds for one in worked)
        is_calm = not cluster.losses_per_hour and not cluster.slow_share
        return Option(
            kind=placed.kind.name,
            nodes=nodes,
            workers=cluster.workers,
            predictors=nodes * placed.predictors,
            whole_seconds=seconds,
            working_seconds=Range.of([one.seconds for one in worked]),
            chance=float(np.mean(np.array(whole) <= self.settings.deadline_hours * 3600)),
            least_seconds=least,
            most_seconds=bounds.most_seconds(placed.work, cluster) if is_calm else None,
            busy_share=busy / (cluster.workers * sum(one.seconds for one in worked)),
            lost_nodes=float(np.median([one.lost_nodes for one in worked])),
            redone_share=sum(one.lost_seconds for one in worked) / busy if busy else 0.0,
            money=None if price is None else nodes * price * seconds.median / 3600,
            limit=self._limit(placed, worked),
        )

    def _limit(self, placed: Placed, worked: Sequence[Worked]) -> str:
        """What takes the largest part of a night: the workers' limit, or one of the others."""
        if not np.median([one.is_done for one in worked]):
            return "losses: nodes are lost before a part is done"
        working = float(np.median([one.seconds for one in worked]))
        blocks = float(np.median([one.blocks for one in worked]))
        handing = blocks * SECONDS_PER_BLOCK
        parts = {
            placed.limit: working if handing < working / 2 else 0.0,
            "handing out blocks (one driver)": working if handing >= working / 2 else 0.0,
            "listing and comparing (one driver)": self.driver.before(self._listed(placed)),
            "checking and committing (one driver)": self.driver.after(placed.work.videos),
            "starting": placed.kind.start_seconds + self.rates.startup_seconds,
        }
        return max(parts, key=lambda name: parts[name])

    def step(self, kind: NodeKind, videos: int) -> Step:
        """The night when so many videos are new each day."""
        kept = self.settings.days_kept
        before, after = self.driver.before(videos * kept), self.driver.after(videos)
        deadline = self.settings.deadline_hours * 3600
        option = None
        if before + after < deadline and not self.settings.nodes:
            option = self.option(kind, videos, nights=_STEP_NIGHTS)
        driver_first = "one driver: " + (
            "listing and comparing" if before > after else "checking and committing"
        )
        return Step(
            videos_per_day=videos,
            option=option,
            before_seconds=before,
            after_seconds=after,
            year_before_seconds=self.driver.before(videos * _A_YEAR),
            driver_bytes=self.driver.bytes(videos, videos * kept),
            year_driver_bytes=self.driver.bytes(videos, videos * _A_YEAR),
            table_bytes=videos * self.rates.table_bytes,
            limit=option.limit if option else driver_first,
        )

    def _cluster(self, placed: Placed, nodes: int) -> Cluster:
        kind, asked = placed.kind, self.settings
        return Cluster(
            nodes=nodes,
            workers_per_node=placed.workers,
            worker_starts=self.rates.timing.worker_starts_seconds,
            start_seconds=kind.start_seconds,
            losses_per_hour=kind.losses_per_hour,
            slow_share=asked.slow_nodes,
            slow_times=asked.slow_times,
        )

    def _listed(self, placed: Placed) -> int:
        return placed.work.videos * self.settings.days_kept

    def _draws(self) -> np.random.Generator:
        """The same draws for each number of nodes: then more of them are not slower by chance."""
        return np.random.default_rng(self.settings.seed)
