"""What the page says of drift: alarms of the last night, a table, and a map of all nights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from vidray.evaluation import drift as tests
from vidray.evaluation.drift import Masks
from vidray.evaluation.intervals import Floats
from vidray.report import charts
from vidray.report.blocks import Chart, Column, DataTable, Fold, Part, Prose
from vidray.report.formats import listing
from vidray.report.nights import drift
from vidray.report.nights.charts_over_nights import over_nights
from vidray.report.nights.drift import BEFORE_NAME, NightDrift
from vidray.report.nights.rows import NightRows
from vidray.report.nights.watched import LEAST, LEAST_DAMAGE, LEAST_TOLD_APART

Level = Literal["alarm", "warning", "note"]
_MOST_SAID = 3
_IN_SIGHT, _FEW_NIGHTS = 30, 3
# Charts of numbers that have drifted, and the bars of each.
_MOST_DRAWN, _BINS = 4, 24
# Shades of the map end where a difference is so many times the smallest one that matters.
_DARKEST, _PALE = 4.0, 0.3


def verdict(found: NightRows, made: Sequence[NightDrift]) -> tuple[Level, str]:
    """What the last night's differences mean: an alarm for what is new, a warning for what was so
    the night before, a note where there is nothing.
    """
    last = [one for one in made if one.night == found.count - 1]
    tested = [one for one in last if one.p is not None]
    name = _capital(found.name(found.count - 1))
    if not tested:
        return "note", f"{name} {_NOTHING if found.count == 1 else _NO_FIGURE}"
    alarms = sorted((one for one in last if one.is_alarm), key=lambda one: -one.size)
    if not alarms:
        return "note", _no_alarm(name, tested)
    standing = _standing(found, made)
    new = [one for one in alarms if _key(one) not in standing]
    shown = listing([drift.said(one) for one in new or alarms], most=_MOST_SAID)
    if new:
        return "alarm", f"{name} is unlike {_references(new)}: {shown}."
    since = min(standing[_key(one)] for one in alarms)
    return "warning", (
        f"{name} is unlike {_references(alarms)}, as every night since night "
        f"{found.numbers[since]}: {shown}."
    )


def _no_alarm(name: str, tested: Sequence[NightDrift]) -> str:
    least = min(one.found.least_p or 1.0 for one in tested) * len(tested)
    if least > tests.LEVEL:
        return (
            f"{name} has too few recordings to tell drift from chance: the smallest p that "
            f"{len(tested)} comparisons of them can come to is {min(1.0, least):.2g}."
        )
    most = max(tested, key=lambda one: one.size)
    return (
        f"{name} shows no drift against {_references(tested)}: of {len(tested)} comparisons none "
        "is beyond chance and large enough to matter. The largest difference is of "
        f"{drift.said(most)}."
    )


def _standing(found: NightRows, made: Sequence[NightDrift]) -> dict[tuple[str, str], int]:
    """Alarms against training or test that the night before had, too -> the night they began."""
    begun: dict[tuple[str, str], int] = {}
    for night in range(found.count - 1):
        now = {_key(one) for one in made if one.night == night and one.is_alarm}
        now = {key for key in now if key[0] != BEFORE_NAME}
        begun = {key: begun.get(key, night) for key in now}
    return begun


def _key(one: NightDrift) -> tuple[str, str]:
    return one.against, one.variable.title


def _references(made: Sequence[NightDrift]) -> str:
    return listing(list(dict.fromkeys(one.reference for one in made)))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def blocks(found: NightRows, made: Sequence[NightDrift], slug: str) -> list[Part]:
    """The parts of the page; none where nothing can be compared."""
    last = [one for one in made if one.night == found.count - 1]
    if not last:
        return []
    parts: list[Part] = []
    drawn = [one for one in _sorted(last) if one.is_alarm and one.variable.numbers is not None]
    parts += [_distribution(one, f"{slug}-drift-{k}") for k, one in enumerate(drawn[:_MOST_DRAWN])]
    if len({one.night for one in made}) > 1:
        parts += _maps(found, made, slug)
    how = Fold(title="How to read it", blocks=[Prose(paragraphs=_HOW)], is_open=False)
    inside: list[Part] = [_table(last, f"{slug}-drift-last"), how]
    # Of few nights no map says more.
    is_open = found.count <= _FEW_NIGHTS or any(one.is_alarm for one in last)
    parts.append(Fold(title="Last night, compared", blocks=inside, is_open=is_open))
    return parts


def _sorted(made: Sequence[NightDrift]) -> list[NightDrift]:
    """Alarms first, then by the size of the difference."""
    return sorted(made, key=lambda one: (not one.is_alarm, -one.size))


_NOTHING = (
    "cannot be compared: there is no night before it, and neither the data that its model learnt "
    "from nor its test are among the folders."
)
_NO_FIGURE = (
    "cannot be compared with the nights before it: no figure of it is known of enough videos, and "
    "of enough of theirs."
)
_HOW = (
    (
        "Numbers are compared by the Kolmogorov-Smirnov distance (KS: 0 the same, 1 wholly "
        "apart), names by the share of videos that would have to change theirs, features and "
        "embeddings as a whole by how well a direction found on half of the recordings tells "
        "videos apart on the other half."
    ),
    (
        "p is how often whole recordings, shuffled between the two sides, come out as far apart, "
        "corrected for all comparisons of the night (Holm): a night like all others raises an "
        "alarm in at most 1 of 20. An alarm also needs a difference that matters: KS or share "
        f"{LEAST:.2f}, for corrupt frames and failures {LEAST_DAMAGE:.2f}, "
        f"{100 * LEAST_TOLD_APART:.0f} of 100 pairs. And where the nights before it are ten or "
        "more, it must differ from them by more than nine of ten of them did from theirs."
    ),
    (
        "Videos labelled again are left out, and so are those that the model learnt from where a "
        "night is compared with its training data or its test. Shares of labels are compared with "
        "those of the model's answers for its test videos, not with true ones: a model that errs "
        "gives other shares to the same videos."
    ),
)


def _table(last: Sequence[NightDrift], name: str) -> DataTable:
    rows = [
        {
            "what": one.variable.title,
            "against": one.reference,
            **dict(zip(("last_night", "others"), drift.sides_in_words(one), strict=True)),
            "difference": drift.difference(one),
            "effect": one.found.effect,
            "p": one.found.p,
            "p_corrected": one.p,
            "verdict": _verdict(one),
            "videos": one.found.night,
            "other_videos": one.found.others,
        }
        for one in _sorted(last)
    ]
    columns = {
        "what": Column(),
        "against": Column(),
        "verdict": Column(),
        "last_night": Column(title="last night"),
        "others": Column(title="the others"),
        "difference": Column(),
        "p_corrected": Column(title="p, corrected", form="number"),
        "videos": Column(form="count"),
        "other_videos": Column(title="other videos", form="count"),
    }
    return DataTable(
        name=name,
        title="Largest differences first",
        frame=pd.DataFrame(rows),
        columns=columns,
        most_rows=_IN_SIGHT,
    )


def _verdict(one: NightDrift) -> str:
    if one.is_alarm:
        return "alarm"
    if one.found.effect is None:
        return "too few recordings"
    if one.p is None:
        return "the same"
    if one.is_beyond_chance:
        return "too small to matter" if one.size < 1 else "nights differ so as a rule"
    return "may be chance" if one.size >= 1 else "alike"


def _maps(found: NightRows, made: Sequence[NightDrift], slug: str) -> list[Part]:
    """A map of variables by nights for each reference."""
    frame = drift.table(found, made)
    frame["verdict"] = [_verdict(one) for one in made]
    maps: list[Part] = []
    for against, rows in frame.groupby("against", sort=False):
        if rows["night"].nunique() < 2:
            continue
        name = f"{slug}-drift-{str(against).replace(' ', '-')}"
        maps.append(_map(rows.reset_index(drop=True), name, f"Each night against the {against}"))
    return maps


def _map(frame: pd.DataFrame, name: str, title: str) -> Chart:
    said = [
        f"night {row['night']}, {row['what']}: {row['verdict']}, "
        f"{row['size']:.2g} times the smallest that matters"
        for row in frame.to_dict("records")
    ]
    # What may be chance stays pale, however large it is: few recordings differ much by chance.
    is_chance = ~(frame["p_corrected"] < tests.LEVEL)
    depth = (frame["size"] / _DARKEST).clip(0, 1) * np.where(is_chance, _PALE, 1.0)
    shade = {"domain": [0, 1], "range": [0.04, 1]}
    place = {
        "x": over_nights(),
        "y": charts.category("what", None),
        "description": {"field": "said"},
    }
    cell = {"type": "rect", "stroke": "var(--line)", "strokeWidth": 0.5, "color": charts.SERIES[0]}
    alarm = {"type": "text", "text": "!", "fontWeight": "bold", "fontSize": 12, "aria": False}
    spec: Mapping[str, Any] = {
        "height": {"step": 18},
        "encoding": place,
        "layer": [
            {
                "mark": cell,
                "encoding": {
                    "opacity": charts.quantity("depth", "", scale=shade, legend=None),
                    "color": {
                        "condition": {"test": "datum.is_alarm", "value": charts.SERIES[1]},
                        "value": charts.SERIES[0],
                    },
                },
            },
            {"transform": [{"filter": "datum.is_alarm"}], "mark": alarm},
        ],
    }
    note = (
        "An exclamation mark is an alarm. The darker, the larger the difference, up to "
        f"{_DARKEST:.0f} times the smallest that matters; what may be chance is pale."
    )
    made = frame.assign(said=said, depth=depth)
    return charts.draw(spec, made, name=name, title=title, note=note)


def _distribution(one: NightDrift, name: str) -> Chart:
    """How a number is distributed in the night and in the others."""
    assert one.variable.numbers is not None
    known = one.variable.column.is_known
    sides: list[Masks] = [side & known for side in one.sides]
    samples: list[Floats] = [one.variable.numbers[side] for side in sides]
    both = np.concatenate(samples)
    # The tails of one night may be far out: they go into the first and the last bar.
    low, high = np.quantile(samples[0], [0.01, 0.99])
    low = min(low, np.quantile(samples[1], 0.01), both.max())
    high = max(high, np.quantile(samples[1], 0.99))
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    rows = [
        {"at": at, "share": share, "of": of}
        for of, some in zip(("last night", one.reference), samples, strict=True)
        for at, share in zip(
            (edges[:-1] + edges[1:]) / 2,
            np.histogram(some.clip(edges[0], edges[-1]), edges)[0] / len(some),
            strict=True,
        )
    ]
    unit = f" ({one.variable.unit})" if one.variable.unit else ""
    return charts.lines(
        pd.DataFrame(rows),
        x="at",
        y="share",
        x_title=f"{one.variable.title}{unit}",
        y_title="share of the videos",
        color="of",
        name=name,
        title=f"{_capital(one.variable.title)}: last night and {one.reference}",
        note=drift.said(one),
        points=False,
    )
