"""A drawing of Vega -> a figure for the page: named, small, and with no way out of the page."""

from __future__ import annotations

import re
from xml.etree import ElementTree

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
ElementTree.register_namespace("", _SVG)
_LONG_NUMBER = re.compile(r"-?\d+\.\d{2,}")
_GEOMETRY = ("transform", "d", "x", "y", "x2", "y2", "width", "height")
_WIDTH = re.compile(r'<svg [^>]*?width="([\d.]+)"')


def finished(drawing: str, *, name: str, title: str) -> str:
    """The figure: it can be focused, has a name, and scales to the width it is given.

    Args:
        drawing: well-formed SVG from ``vl_convert``.
        name: begins all its ids, so that charts of one page do not share them.
        title: what a screen reader says of the whole.
    """
    root = ElementTree.fromstring(drawing)  # noqa: S314  Our own library wrote it.
    for parent in list(root.iter()):
        for child in list(parent):
            if _is_empty(child):
                parent.remove(child)
    for element in root.iter():
        _tidy(element, name)
    root.attrib = _attributes(root.attrib["width"], root.attrib["height"], title)
    return ElementTree.tostring(root, encoding="unicode")


def nothing(title: str) -> str:
    """A figure that says that there are no values."""
    root = ElementTree.Element(f"{{{_SVG}}}svg", _attributes("320", "40", title))
    text = ElementTree.SubElement(root, f"{{{_SVG}}}text", {"x": "10", "y": "24"})
    text.attrib |= {"fill": "currentColor", "font-size": "12px"}
    text.text = "No values."
    return ElementTree.tostring(root, encoding="unicode")


def _attributes(width: str, height: str, title: str) -> dict[str, str]:
    return {
        "class": "drawing",
        "viewBox": f"0 0 {width} {height}",
        "width": width,
        "height": height,
        "role": "graphics-document",
        "aria-label": title,
        "tabindex": "0",
    }


def width_of(figure: str) -> float:
    """The width that a figure is drawn for, in pixels."""
    found = _WIDTH.match(figure)
    return float(found[1]) if found else 0.0


def _is_empty(element: ElementTree.Element) -> bool:
    """Whether it is a frame that Vega puts around each group and that shows nothing."""
    is_frame = element.get("class") in ("background", "foreground")
    return is_frame and "fill" not in element.attrib and "stroke" not in element.attrib


def _tidy(element: ElementTree.Element, name: str) -> None:
    attributes = element.attrib
    attributes.pop("style", None)  # The page's policy allows none.
    for key in _GEOMETRY:
        if key in attributes:
            attributes[key] = _LONG_NUMBER.sub(_rounded, attributes[key])
    for key, value in attributes.items():
        if key == "id":
            attributes[key] = f"{name}-{value}"
        elif value.startswith("url(#"):
            attributes[key] = f"url(#{name}-{value[5:]}"
    if element.tag == f"{{{_SVG}}}a":
        _stay_inside(element)


def _rounded(number: re.Match[str]) -> str:
    return f"{float(number[0]):.1f}".removesuffix(".0")


def _stay_inside(link: ElementTree.Element) -> None:
    """A link to an anchor of the page: Vega puts an address of its own before it.

    The arrow keys go from mark to mark; were each link a stop of the tab key, thousands of points
    would stand between a reader and the next chapter.
    """
    attributes = link.attrib
    address = attributes.get(f"{{{_XLINK}}}href", attributes.get("href", ""))
    attributes.clear()
    _, is_anchor, anchor = address.partition("#")
    if is_anchor and anchor:
        attributes |= {"href": f"#{anchor}", "tabindex": "-1"}
