"""What models look at: importance of features, attention over frames, Grad-CAM."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vidray import storage
from vidray.models.importance import Importance
from vidray.report import charts
from vidray.report.blocks import Card, Chart, Finding, Fold, Gallery, Part, Prose, Section
from vidray.report.looks import Look, Looks, clips_of, look_into
from vidray.report.overlays import filmstrip
from vidray.report.runs import JudgedModel, Runs, TrainedModel
from vidray.report.tools import Tools

_MOST_FEATURES = 15
# Networks that are looked into, the most accurate first: each takes up to a minute, and 0.3 MB.
_MOST_NETWORKS = 8
# The outer tenth on each side is 36 % of a square.
_BORDER = 0.1
_EVEN = 1 - (1 - 2 * _BORDER) ** 2
_SUSPICIOUS = 0.6
# Of fewer rows, not even the outer ones alone put this much of a map on the border.
_LEAST_PLACES = 6


def section(runs: Runs, tools: Tools) -> Section | None:
    """The chapter; None where no run has anything for it."""
    blocks: list[Part] = []
    findings: list[Finding] = []
    classical = [model for model in runs.models if model.importance]
    for number, model in enumerate(classical, start=1):
        blocks.append(_importance(model, number))
    networks = _networks(runs)
    for number, judged in enumerate(networks[:_MOST_NETWORKS]):
        block, found = _network(judged, runs, tools, is_open=number == 0)
        blocks.append(block)
        findings += found
    if len(networks) > _MOST_NETWORKS:
        left = ", ".join(judged.title for judged in networks[_MOST_NETWORKS:])
        blocks.append(
            Prose(paragraphs=[f"Not looked into, as less accurate than {_MOST_NETWORKS}: {left}."])
        )
    if not blocks:
        return None
    return Section(
        name="reasons",
        title="What models look at",
        lead=(
            "Which features the classical models rely on, and which frames and places of a video "
            "the networks look at. It shows what an answer hangs on, not that the answer is right."
        ),
        blocks=blocks,
        findings=findings[:3],
    )


# Feature importance


def _importance(model: TrainedModel, number: int) -> Fold:
    assert model.importance is not None
    families, features = (model.importance[kind] for kind in ("families", "features"))
    blocks: list[Part] = [Prose(paragraphs=[importance_sentence(families, features)])]
    if len(families) > 1:
        name = f"importance-families-{number}"
        blocks.append(_dots(families, name, f"{model.name}: families of features"))
    if features:
        shown = f"the {min(_MOST_FEATURES, len(features))} most important features"
        blocks.append(
            _dots(
                features[:_MOST_FEATURES],
                f"importance-features-{number}",
                f"{model.name}: {shown}",
            )
        )
    return Fold(title=f"{model.name}: importance of features", blocks=blocks, is_open=number == 1)


def _dots(rows: Sequence[Importance], name: str, title: str) -> Chart:
    frame = pd.DataFrame(
        {
            "name": row.name,
            "log_loss_rise": row.log_loss_rise,
            "low": row.log_loss_rise - row.log_loss_rise_std,
            "high": row.log_loss_rise + row.log_loss_rise_std,
            "accuracy_drop": row.accuracy_drop,
            "said": f"{row.name}: log loss rises by {row.log_loss_rise:.4f} "
            f"(± {row.log_loss_rise_std:.4f}), accuracy falls by {100 * row.accuracy_drop:.1f} %",
        }
        for row in rows
    )
    return charts.dots(
        frame,
        label="name",
        value="log_loss_rise",
        low="low",
        high="high",
        value_title="rise of log loss if shuffled",
        name=name,
        title=title,
        note="The line is one standard deviation over the shuffles to either side.",
    )


def importance_sentence(families: Sequence[Importance], features: Sequence[Importance]) -> str:
    """What the importances say, with their figures."""
    how = "Each is shuffled among the held-out videos; the more the log loss rises, the more the "
    said = [f"{how}model relies on it."]
    if families:
        said.append(_families_sentence(families))
    if features:
        clear = sum(row.log_loss_rise > 2 * row.log_loss_rise_std for row in features)
        said.append(
            f"Of {len(features)} single features, {clear} matter by more than twice the spread of "
            f"the shuffles; the first is {features[0].name} ({_rise(features[0])})."
        )
    return " ".join(said)


def _families_sentence(families: Sequence[Importance]) -> str:
    best, idle = families[0], [row.name for row in families if not _matters(row)]
    if len(families) == 1:
        verdict = "" if _matters(best) else ", no more than from one shuffle to the next"
        return f"All its features are of one family, {best.name} ({_rise(best)}{verdict})."
    if not _matters(best):
        return (
            f"No family matters by more than the spread of the shuffles, {best.name} most "
            f"({_rise(best)}): the model needs none of them alone, or the videos are too few."
        )
    said = (
        f"It relies most on {best.name} ({_rise(best)}): without it accuracy falls by "
        f"{100 * best.accuracy_drop:.1f} points."
    )
    return f"{said} It can do without {', '.join(idle)}." if idle else said


def _matters(row: Importance) -> bool:
    """Whether a family's rise is more than the spread of its ten shuffles: t = 3, p < 0.01.

    Of single features there are five shuffles and fifty of them: there it takes twice as much
    (t = 4, p < 0.01 each).
    """
    return row.log_loss_rise > row.log_loss_rise_std


def _rise(row: Importance) -> str:
    return f"{row.log_loss_rise:+.4f} ± {row.log_loss_rise_std:.4f}"


# Networks


def _networks(runs: Runs) -> list[JudgedModel]:
    """One evaluation of each network, that of split test if there are several; best first."""
    found: dict[str, JudgedModel] = {}
    for judged in sorted(runs.judged, key=lambda one: one.split != "test"):
        if judged.model is not None and judged.model.is_deep:
            found.setdefault(judged.model.out, judged)
    return sorted(found.values(), key=_error_rate)


def _error_rate(judged: JudgedModel) -> float:
    return float(np.mean([a != b for a, b in zip(judged.truth, judged.predicted, strict=True)]))


def _network(
    judged: JudgedModel, runs: Runs, tools: Tools, *, is_open: bool
) -> tuple[Fold, list[Finding]]:
    assert judged.model is not None
    name = judged.model.name
    title = f"{name}: what it looks at"

    def only(text: str) -> tuple[Fold, list[Finding]]:
        return Fold(title=title, blocks=[Prose(paragraphs=[text])], is_open=False), []

    if not tools.settings.frames:
        return only("Frames are turned off (--no-frames).")
    run = clips_of(judged, runs)
    if run is None:
        return only(
            "The clips that it was judged on are not among the folders of this page: add the "
            f"folder {storage.without_secrets(str(judged.config.get('data')))} to --runs."
        )
    found = look_into(judged, run)
    if not found.looks:
        return only(found.problem)
    sentences = [*_rules(found), *_attention_sentences(found), *_border_sentences(found.looks)]
    if found.problem:
        sentences.append(found.problem)
    blocks: list[Part] = [Prose(paragraphs=sentences)]
    for heading, right in (("Its surest errors", False), ("Its surest right answers", True)):
        cards = [_card(look) for look in found.looks if look.is_right == right]
        if cards:
            blocks.append(Gallery(title=heading, cards=cards))
    return Fold(title=title, blocks=blocks, is_open=is_open), _border_findings(name, found.looks)


def _card(look: Look) -> Card:
    facts = {
        "true label": look.truth,
        "the model says": f"{look.label}, {look.probability:.3f}",
        "clip": look.clip,
    }
    if look.maps is not None and not look.maps.any():
        facts["map"] = "empty: nothing in this clip speaks for the label"
    elif shares := _border_shares([look]):
        facts["of the map on the border"] = f"{100 * shares[0]:.0f} %"
    return Card(
        title=storage.name_of(look.uri),
        facts=facts,
        pictures=filmstrip(look.frames, weights=look.weights, maps=look.maps),
    )


def _rules(found: Looks) -> list[str]:
    """What the pictures show."""
    said = []
    if found.weights_are:
        said.append(f"The bar under a frame is its weight: {found.weights_are}.")
    if found.maps_are:
        said.append(f"Yellow marks where it looks ({found.maps_are}).")
    if not said:
        said.append(
            "This network has neither attention over frames nor maps that could be shown: here "
            "are only the frames that it saw."
        )
    return [" ".join(said)]


def _attention_sentences(found: Looks) -> list[str]:
    if not found.frames_seen:
        return []
    total = len(found.looks[0].frames)
    mean = float(np.mean(found.frames_seen))
    kind = (
        "hardly prefers any" if mean > 0.9 * total
        else "looks at few" if mean < 0.5 * total
        else "prefers some"
    )  # fmt: skip
    said = f"In these {len(found.looks)} clips it {kind} of the {total} frames: its weights are as "
    spread = f"({min(found.frames_seen):.1f} to {max(found.frames_seen):.1f})"
    return [f"{said}spread as {mean:.1f} frames that count alike {spread}."]


def border_share(maps: NDArray[np.float32]) -> float:
    """The share of a map ``(T, h, w)`` on the outer tenth of each side, by area."""
    height, width = maps.shape[1:]
    inside = np.outer(_inner(height), _inner(width))
    total = float(maps.sum())
    return 1 - float((maps * inside).sum()) / total if total > 0 else 0.0


def _inner(length: int) -> NDArray[np.float64]:
    """Of each of ``length`` cells, the part that is not on the outer tenths."""
    edges = np.clip(np.arange(length + 1) / length, _BORDER, 1 - _BORDER)
    return np.asarray(np.diff(edges) * length)


def _border_sentences(looks: Sequence[Look]) -> list[str]:
    shares = _border_shares(looks)
    if not shares:
        rows, columns = looks[0].places
        coarse = (
            f"Its maps have {rows} x {columns} places, too few to tell the edges from the rest."
        )
        return [coarse] if rows else []
    mean = float(np.mean(shares))
    verdict = (
        "it looks at the edges: is there a letterbox, a caption or a logo?"
        if mean > _SUSPICIOUS
        else "it does not look for the edges"
        if mean < _EVEN
        else "it looks at the edges a little more than at the rest"
    )
    said = f"{100 * mean:.0f} % of its maps lies on the outer tenth of each side, which is "
    return [f"{said}{100 * _EVEN:.0f} % of the area: {verdict}."]


def _border_shares(looks: Sequence[Look]) -> list[float]:
    """Of the maps that are fine enough, and not empty."""
    return [
        border_share(look.maps)
        for look in looks
        if look.maps is not None and min(look.places) >= _LEAST_PLACES and look.maps.any()
    ]


def _border_findings(name: str, looks: Sequence[Look]) -> list[Finding]:
    """A warning where all maps but one at the most lie on the border."""
    shares = _border_shares(looks)
    on_border = sum(share > _SUSPICIOUS for share in shares)
    if len(shares) < 4 or on_border < len(shares) - 1:
        return []
    text = (
        f"{name} looks at the edges of the frame: in {on_border} of {len(shares)} clips more than "
        f"{100 * _SUSPICIOUS:.0f} % of its map lies on {100 * _EVEN:.0f} % of the area. It may "
        "have learnt a letterbox, a caption or a logo."
    )
    return [Finding(level="warning", text=text, section="reasons")]
