"""A plan on stdout, as tables that a person can read."""

from __future__ import annotations

from rich.console import Console

from vidray.planning.plan import CapacityPlan, Option, Range
from vidray.tables.summary import Table

WIDTH = 160


def show(plan: CapacityPlan) -> None:
    """Print what was measured, the plan, the traffic, and how it grows."""
    console = Console(width=WIDTH)
    for title, table in (
        (f"measured: {plan.rates.run}", _measured(plan)),
        (_question(plan), _options(plan)),
        ("traffic of a night, were all of it in a bucket", _traffic(plan)),
        ("how it grows, with the same deadline", _growth(plan)),
    ):
        console.print(f"\n{title}", markup=False, highlight=False)
        console.print(table)
    for line in _notes(plan):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _measured(plan: CapacityPlan) -> Table:
    rates, timing, driver = plan.rates, plan.rates.timing, plan.driver
    table = Table("what", "measured", box=None)
    table.add_row("videos timed", f"{timing.videos:,} by {timing.workers} workers")
    table.add_row("a worker's seconds for a video", f"{timing.seconds_per_video:.3g} s")
    spent = timing.seconds_per_video * timing.videos
    for name, seconds in sorted(rates.stages.items(), key=lambda item: -item[1]):
        table.add_row(f"  of it {name}", f"{seconds / spent:.0%}")
    table.add_row("  of it waiting for a CPU", f"{rates.waiting_share:.0%}")
    if plan.settings.without_waiting:
        own = timing.seconds_per_video * (1 - rates.waiting_share)
        table.add_row("  without that, as planned with", f"{own:.3g} s")
    table.add_row("size of a video", size(rates.bytes_per_video))
    table.add_row("size of its row, stored", size(rates.table_bytes))
    table.add_row("start of Ray and workers", f"{rates.startup_seconds:.1f} s")
    for name, line in (
        ("listing", driver.listing), ("comparing", driver.comparing),
        ("checking", driver.checking), ("committing", driver.committing),
    ):  # fmt: skip
        low, each, high = (1e6 * value for value in (line.low, line.each, line.high))
        told = f"{each:.0f} s for a million ({low:.0f} to {high:.0f}), and {line.fixed:.1f} s"
        table.add_row(f"{name}, one driver", told)
    return table


def _question(plan: CapacityPlan) -> str:
    asked = plan.settings
    fewest = "" if asked.nodes else f" with a chance of {asked.sureness:.0%}"
    return (
        f"{asked.videos_per_day:,} videos in a night of at most {asked.deadline_hours:g} h{fewest}"
    )


def _options(plan: CapacityPlan) -> Table:
    money = f"{plan.currency} a night" if plan.currency else "money"
    table = Table(
        "node", "nodes", "workers", "hours (10 to 90 %)", "in time", "working h, bounds", "busy",
        "lost", "redone", money, "what limits it", box=None,
    )  # fmt: skip
    for column in table.columns[:-1]:
        column.no_wrap = True
    for option in plan.options:
        table.add_row(
            f"{option.kind}{' *' if option.kind == plan.best else ''}",
            f"{option.nodes:,}",
            f"{option.workers:,}" + (f" + {option.predictors}" if option.predictors else ""),
            _hours(option.whole_seconds),
            f"{option.chance:.0%}",
            _bounds(option),
            f"{option.busy_share:.0%}",
            f"{option.lost_nodes:g}",
            f"{option.redone_share:.1%}",
            "no price" if option.money is None else f"{option.money:,.2f}",
            option.limit,
        )
    for kind, why in plan.refused.items():
        table.add_row(kind, *["-"] * 9, why)
    return table


def _hours(seconds: Range) -> str:
    low, median, high = (value / 3600 for value in (seconds.low, seconds.median, seconds.high))
    return f"{median:.3g} ({low:.3g} to {high:.3g})"


def _bounds(option: Option) -> str:
    most = "" if option.most_seconds is None else f" to {option.most_seconds / 3600:.3g}"
    return f"{option.least_seconds / 3600:.3g}{most}"


def _traffic(plan: CapacityPlan) -> Table:
    traffic, currency = plan.traffic, plan.currency or ""
    table = Table("what", "a night", "money", box=None)

    def money(name: str) -> str:
        found = traffic.money.get(name)
        return "no price" if found is None else f"{found:,.2f} {currency}"

    table.add_row("videos read, at most", size(traffic.read_bytes), money("egress"))
    table.add_row("GET and HEAD requests", f"{traffic.reads:,.0f}", money("read"))
    table.add_row("PUT and LIST requests", f"{traffic.writes:,.0f}", money("write"))
    table.add_row("rows written", size(traffic.table_bytes), f"{money('storage')} a month")
    table.add_row("rows after a year", size(traffic.year_table_bytes), "")
    return table


def _growth(plan: CapacityPlan) -> Table:
    table = Table(
        "videos a day", "nodes", "workers", "hours", "one driver: before + after, h",
        "memory", "after a year: before, h", "memory", "rows a day", "what limits it", box=None,
    )  # fmt: skip
    for step in plan.growth:
        option = step.option
        table.add_row(
            f"{step.videos_per_day:,}",
            f"{option.nodes:,}" if option else "-",
            f"{option.workers:,}" if option else "-",
            f"{option.whole_seconds.median / 3600:.3g}" if option else "-",
            f"{step.before_seconds / 3600:.2g} + {step.after_seconds / 3600:.2g}",
            size(step.driver_bytes),
            f"{step.year_before_seconds / 3600:.2g}",
            size(step.year_driver_bytes),
            size(step.table_bytes),
            step.limit,
        )
    return table


def _notes(plan: CapacityPlan) -> list[str]:
    notes = []
    first = next((a for a in plan.options if a.kind == plan.best), plan.options[0])
    if plan.wrong_seconds is not None:
        notes.append(
            f"\nthe plain sum, videos times the run's seconds by {first.workers:,} workers: "
            f"{plan.wrong_seconds / 3600:.3g} h; simulated {_hours(first.whole_seconds)} h"
        )
    if plan.best is None:
        notes.append("no kind of node meets the deadline as surely as asked")
    elif len(plan.options) > 1:
        notes.append(f"* {'the cheapest' if plan.currency else 'the fastest'} that meets it")
    if plan.rates.waiting_share > 0.1:
        notes.append(
            f"workers of the run waited for a CPU {plan.rates.waiting_share:.0%} of their time: "
            "other work held it. Nodes without such are faster: --without-waiting leaves it out"
        )
    if plan.rates.listing_seconds is None:
        notes.append("the run was gone on with: what its listing took beside its rows is unknown")
    return notes


def size(number: float) -> str:
    """``1234567`` -> ``1.23 MB``; a MB is 1e6 bytes."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if number < 999.5:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.3g} PB"
