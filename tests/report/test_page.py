"""The page: what is in it and what it asks for, and colours that all can read."""

import base64
import hashlib
import itertools
import re

import numpy as np
import pytest

from tests.report import made
from vidray.report import templates


@pytest.fixture(scope="module")
def html() -> str:
    return made.html(made.every_part())


def test_the_policy_names_the_page_s_own_style_and_script_only() -> None:
    html = made.html([])
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy is not None
    said = policy[1].replace("&#39;", "'")
    assert said.startswith("default-src 'none'; ")
    assert "unsafe" not in said
    assert "http" not in said
    for tag, kind in (("style", "style-src"), ("script", "script-src")):
        (inner,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in said


@pytest.mark.slow
def test_the_page_asks_for_nothing(html: str) -> None:
    for attribute in ("src", "href", "action", "xlink:href", "poster", "data"):
        for value in re.findall(rf'[\s]{attribute}="([^"]*)"', html):
            assert value.startswith(("#", "data:")), value
    assert "@import" not in html
    assert "url(" not in re.sub(r"url\(#", "", html)


@pytest.mark.slow
def test_every_id_is_there_once(html: str) -> None:
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    anchors = set(re.findall(r'\shref="#([^"]+)"', html))
    assert anchors <= {*ids, "content"}


@pytest.mark.slow
def test_a_page_can_be_written_whatever_its_names(html: str) -> None:
    html.encode("utf-8")
    assert "\x00" not in html
    assert "\u202e" not in html
    assert html.count("<script>") == 1


def test_a_page_of_nothing_has_its_problems() -> None:
    html = made.html([], title="Nothing")
    assert "<title>Nothing</title>" in html
    assert 'href="#problems"' in html


# Contrast is WCAG 2.2's; colour blindness after Machado, Oliveira and Fernandes (2009).
_BLIND = {
    "none": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
         [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
         [-0.011820, 0.042940, 0.968881]]),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
         [0.004733, 0.691367, 0.303900]]),
}  # fmt: skip
_XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
)  # fmt: skip


def _colors(mode: int) -> dict[str, np.ndarray]:
    """Names of the style's colours, without their dashes -> linear RGB; mode 0 light, 1 dark."""
    found = re.findall(
        r"--([a-z0-9-]+): light-dark\((#\w{6}), (#\w{6})\)", templates.asset("parts.css")
    )
    return {
        name: _linear([int(pair[mode][k : k + 2], 16) / 255 for k in (1, 3, 5)])
        for name, *pair in found
    }


def _linear(srgb: list[float]) -> np.ndarray:
    values = np.asarray(srgb)
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _contrast(one: np.ndarray, other: np.ndarray) -> float:
    low, high = sorted(float(_XYZ[1] @ color) for color in (one, other))
    return (high + 0.05) / (low + 0.05)


def _lab(linear: np.ndarray) -> np.ndarray:
    scaled = _XYZ @ np.clip(linear, 0, 1) / [0.9505, 1, 1.089]
    f = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_texts_and_marks_stand_out(mode: int) -> None:
    colors = _colors(mode)
    assert {f"series-{number}" for number in range(1, 9)} < set(colors)
    for name in ("ink", "muted", "link", "alarm", "warning", "good", "note"):
        assert min(_contrast(colors[name], colors[on]) for on in ("paper", "card")) >= 4.5, name
    for number in range(1, 9):
        assert _contrast(colors[f"series-{number}"], colors["paper"]) >= 3, number
    assert _contrast(colors["on-series"], colors["series-1"]) >= 4.5 or mode == 1


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_text_in_cells_of_any_strength_can_be_read(mode: int) -> None:
    colors = _colors(mode)
    heat, paper = (
        (12.92 * c, 1.055 * c ** (1 / 2.4) - 0.055) for c in (colors["heat"], colors["paper"])
    )
    srgb = [
        np.where(colors[name] <= 0.0031308, low, high)
        for name, (low, high) in (("heat", heat), ("paper", paper))
    ]
    for share in np.linspace(0, 1, 101):
        strength = 0.03 + 0.97 * share
        cell = _linear(list(strength * srgb[0] + (1 - strength) * srgb[1]))
        text = colors["on-series"] if share > 0.74 else colors["on-paper"]
        assert _contrast(cell, text) >= 4.45, share


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_colour_blind_readers_tell_the_first_six_series_apart(mode: int) -> None:
    colors = _colors(mode)
    for kind, sees in _BLIND.items():
        seen = {number: _lab(sees @ colors[f"series-{number}"]) for number in range(1, 7)}
        for one, other in itertools.combinations(seen, 2):
            assert np.linalg.norm(seen[one] - seen[other]) > 12, (kind, one, other)
