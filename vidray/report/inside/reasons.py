"""What models look at: importance of features, attention over frames, Grad-CAM."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vidray import storage
from vidray.report.blocks import (
    Card,
    Finding,
    Fold,
    Gallery,
    Part,
    Prose,
    Section,
    Thumbnail,
)
from vidray.report.inside.feature_importance import importance_blocks
from vidray.report.inside.looks import Look, Looks, clips_of, look_into
from vidray.report.inside.overlays import filmstrip
from vidray.report.runs import JudgedModel, Runs
from vidray.report.tools import Tools

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
    blocks = list(importance_blocks(runs.models))
    findings: list[Finding] = []
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
        pictures=_pictures(look),
    )


def _pictures(look: Look) -> list[Thumbnail]:
    """The frames with bars of their weights, or, without such, of their shares of the map."""
    weights, weights_are = look.weights, "of the weight"
    if weights is None:
        weights, weights_are = np.zeros(len(look.frames), np.float32), "of the map"
        if look.maps is not None and look.maps.any():
            weights = look.maps.sum(axis=(1, 2)) / look.maps.sum()
    return filmstrip(look.frames, weights=weights, weights_are=weights_are, maps=look.maps)


def _rules(found: Looks) -> list[str]:
    """What the pictures show."""
    said = []
    if found.maps_are:
        said.append(f"Yellow marks where it looks ({found.maps_are}).")
    if found.weights_are:
        said.append(f"The bar under a frame is {found.weights_are}.")
    elif found.maps_are:
        said.append("The bar under a frame is the share of the map that lies on it.")
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
    mapped = [one for one in looks if one.maps is not None]
    if not mapped:
        return []
    if min(mapped[0].places) < _LEAST_PLACES:
        rows, columns = mapped[0].places
        if rows * columns == 1:
            return [
                (
                    "Its maps have one place a frame, so they do not say where it looks: the clips "
                    "have too few pixels for this network."
                )
            ]
        return [
            f"Its maps have {rows} x {columns} places, too few to tell the edges from the rest."
        ]
    shares = _border_shares(mapped)
    if not shares:
        return ["Nothing in these clips speaks for its labels: its maps are empty."]
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
