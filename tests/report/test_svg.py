"""Drawings of Vega as figures of the page."""

from xml.etree import ElementTree

from vidray.report import svg

DRAWING = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"
 class="marks" width="300" height="200" viewBox="0 0 300 200">
<defs><clipPath id="clip0"><rect width="9" height="9"/></clipPath></defs>
<g clip-path="url(#clip0)"><path class="background" aria-hidden="true" d="M0,0h1"/>
<path class="background" fill="red" d="M0,0h1"/>
<a xlink:href="https://vega.github.io/vega-datasets/#video-3" target="_blank">
<path aria-label="a &lt;b&gt;" style="cursor: pointer" d="M1.23456,0L-0.0049,1e-7"/></a>
<a href="https://example.org/"><path d="M0,0"/></a>
<text>translate(1.23456)</text></g></svg>"""


def _drawn(text: str = DRAWING) -> ElementTree.Element:
    return ElementTree.fromstring(svg.finished(text, name="c-1", title='"T" <i>'))


def _all(root: ElementTree.Element, tag: str) -> list[ElementTree.Element]:
    return list(root.iter(f"{{http://www.w3.org/2000/svg}}{tag}"))


def test_a_figure_has_a_name_a_role_and_the_keyboard() -> None:
    root = _drawn()
    assert root.get("aria-label") == '"T" <i>'
    assert root.get("role") == "graphics-document"
    assert root.get("tabindex") == "0"
    assert root.get("viewBox") == "0 0 300 200"


def test_links_stay_in_the_page_and_are_no_stops_of_the_tab_key() -> None:
    inside, outside = _all(_drawn(), "a")
    assert inside.attrib == {"href": "#video-3", "tabindex": "-1"}
    assert outside.attrib == {}


def test_ids_are_the_figures_own() -> None:
    root = _drawn()
    assert _all(root, "clipPath")[0].get("id") == "c-1-clip0"
    assert _all(root, "g")[0].get("clip-path") == "url(#c-1-clip0)"


def test_what_the_policy_forbids_and_what_shows_nothing_is_gone() -> None:
    paths = _all(_drawn(), "path")
    assert [path.get("class") for path in paths].count("background") == 1
    assert all("style" not in path.attrib for path in paths)


def test_numbers_are_short_and_texts_stay() -> None:
    root = _drawn()
    assert _all(root, "a")[0][0].get("d") == "M1.2,0L-0,1e-7"
    assert _all(root, "a")[0][0].get("aria-label") == "a <b>"
    assert _all(root, "text")[0].text == "translate(1.23456)"


def test_the_width_is_that_of_the_drawing() -> None:
    assert svg.width_of(svg.finished(DRAWING, name="c", title='width="9"')) == 300
    assert svg.width_of(svg.nothing("T")) == 320
    assert svg.width_of("no figure") == 0
