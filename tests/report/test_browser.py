"""The page in a real Chromium: nothing runs or leaves that should not, all can be read and used."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.report import folders, made
from tests.report.browsers import chromium, opened
from vidray.report import page as pages
from vidray.report.settings import ReportSettings

pytestmark = pytest.mark.slow
SIZES = pytest.mark.parametrize("width", [1280, 390])
SCHEMES = pytest.mark.parametrize("scheme", ["light", "dark"])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("page") / "report.html"
    found.write_text(made.html(made.every_part()), encoding="utf-8")
    return found


def _open_all(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")


@SIZES
@SCHEMES
def test_nothing_runs_nothing_leaves_nothing_is_too_wide(
    browser: Browser, path: Path, width: int, scheme: str
) -> None:
    with opened(browser, path, width=width, color_scheme=scheme) as found:
        assert not found.is_wider_than_its_window()
        _open_all(found.page)
        assert not found.is_wider_than_its_window()
        assert found.page.locator("script").count() == 1
        assert found.page.locator("img[src=x]").count() == 0
        assert found.page.evaluate(
            "[...document.querySelectorAll('*')].filter((one) => [...one.attributes]"
            ".some((it) => /^on|^style$/.test(it.name))).length"
        ) == 0  # fmt: skip
        for mark in found.page.locator("[role=graphics-symbol]").all()[:30]:
            mark.dispatch_event("pointerover")
        assert found.said == []
        assert found.outside == []


def test_the_policy_stops_what_an_escape_would_have_missed(browser: Browser, path: Path) -> None:
    with opened(browser, path) as found:
        found.page.evaluate(
            """() => {
                const put = (tag, more) => document.body.append(
                    Object.assign(document.createElement(tag), more));
                put('script', { textContent: 'window.ran = true' });
                put('img', { src: 'https://example.org/a.png' });
                const html = '<b onclick="window.ran = true" style="color: red">x</b>';
                put('div', { innerHTML: html });
                document.querySelector('b[onclick]').click();
            }"""
        )
        assert found.page.evaluate("window.ran") is None
        assert found.page.evaluate("document.querySelector('b[onclick]').style.color") == ""
        assert found.outside == []
        assert len(found.said) >= 4  # The browser tells of each.


@SIZES
@SCHEMES
def test_axe_finds_nothing(browser: Browser, path: Path, width: int, scheme: str) -> None:
    with opened(browser, path, width=width, color_scheme=scheme) as found:
        assert found.violations() == []
        _open_all(found.page)
        assert found.violations() == []


def test_names_that_nobody_should_have_to_read_are_read_as_they_are(
    browser: Browser, path: Path
) -> None:
    with opened(browser, path) as found:
        page = found.page
        assert page.title() == f"Fights {made.SCRIPT}"
        _open_all(page)
        cards = page.locator(".card .name").all_inner_texts()
        plain = [name for name in made.HOSTILE if name.isprintable()]
        assert set(plain) < set(cards)
        assert {"photo_\\u202egpj.exe", "nul\\x00 bell\\x07.mp4", "\\udce4 not UTF-8.avi"} < set(
            cards
        )
        first_cells = page.locator("#hostile tbody th").all_inner_texts()
        assert first_cells[: len(plain)][:4] == list(made.HOSTILE[:4])


def test_a_long_message_is_cut_and_there_on_a_click(browser: Browser, path: Path) -> None:
    with opened(browser, path) as found:
        message = found.page.locator("#problems details.rest").first
        box = message.bounding_box()
        assert box is not None
        assert box["height"] < 120
        assert "10,004 characters" in message.inner_text()
        message.locator("summary").click()
        assert message.inner_text().endswith("the end.")
        assert not found.is_wider_than_its_window()


def _column(page: Page, number: int) -> list[str]:
    cells = page.locator(f"#videos tbody tr :nth-child({number})").locator(
        "xpath=self::td|self::th"
    )
    return cells.all_inner_texts()


def test_tables_sort_by_click_and_by_keyboard(browser: Browser, path: Path) -> None:
    with opened(browser, path) as found:
        page = found.page
        head = page.locator("#videos thead th").nth(1)
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == "descending"
        falling = [int(text) for text in _column(page, 2)]
        assert falling == sorted(falling, reverse=True)
        page.keyboard.press("Enter")  # The button has the focus.
        assert head.get_attribute("aria-sort") == "ascending"
        assert [int(text) for text in _column(page, 2)] == falling[::-1]
        share = page.locator("#videos thead th").nth(2)
        missing = _column(page, 3).count("\u2013")
        for _ in range(2):
            share.locator("button").press("Space")
            assert _column(page, 3)[-missing:] == missing * ["\u2013"]
            assert "\u2013" not in _column(page, 3)[:-missing]
        assert head.get_attribute("aria-sort") is None
        page.locator("#videos thead th").first.locator("button").click()
        assert _column(page, 1) == sorted(_column(page, 1))


def test_a_filter_leaves_the_rows_with_all_its_words(browser: Browser, path: Path) -> None:
    with opened(browser, path) as found:
        box = found.page.get_by_label("Filter")
        box.fill("CLIP_01")
        assert found.page.locator("#videos tbody tr:visible").count() == 10
        assert found.page.locator("#videos [role=status]").inner_text() == "10 of 100"
        box.fill("")
        assert found.page.locator("#videos tbody tr:visible").count() == 100


def test_a_mark_under_the_pointer_says_its_values_and_shows_its_video(
    browser: Browser, path: Path
) -> None:
    with opened(browser, path) as found:
        page = found.page
        mark = page.locator("#scatter a [aria-label]").nth(1)
        mark.scroll_into_view_if_needed()
        mark.hover()
        tip = page.locator("#tip")
        assert tip.inner_text() == mark.get_attribute("aria-label")
        assert tip.locator("img").get_attribute("src", timeout=1000) == (
            page.locator("#video-1 img").first.get_attribute("src")
        )
        page.mouse.move(1, 1)
        assert not tip.is_visible()


def test_arrow_keys_go_from_mark_to_mark_and_enter_to_the_video(
    browser: Browser, path: Path
) -> None:
    with opened(browser, path) as found:
        page = found.page
        page.locator("#scatter svg").focus()
        names = [mark.get_attribute("aria-label") for mark in page.locator("#scatter a path").all()]
        tip = page.locator("#tip")
        for key, number in [("ArrowRight", 0), ("ArrowDown", 1), ("End", -1), ("ArrowRight", -1),
                            ("ArrowLeft", -2), ("Home", 0), ("ArrowUp", 0)]:  # fmt: skip
            page.keyboard.press(key)
            assert tip.inner_text() == names[number], key
            assert page.locator("#scatter .current").count() == 1
        page.keyboard.press("Escape")
        assert not tip.is_visible()
        page.keyboard.press("End")
        assert not page.locator("#video-4").is_visible()  # In a fold that is closed.
        page.keyboard.press("Enter")
        expect(page.locator("#video-4")).to_be_in_viewport()
        assert page.url.endswith("#video-4")


def test_a_link_into_a_closed_fold_opens_it(browser: Browser, path: Path) -> None:
    with opened(browser, path) as found:
        page = found.page
        assert not page.locator("#video-0").is_visible()
        page.get_by_role("link", name="extra_trees", exact=True).click()
        expect(page.locator("#video-0")).to_be_in_viewport()


def test_the_keyboard_reaches_the_content_the_chapters_and_the_folds(
    browser: Browser, path: Path
) -> None:
    with opened(browser, path, width=390) as found:
        page = found.page
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile("#content$"))
        page.locator("nav a").nth(1).focus()
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile("#models-it$"))
        page.locator("nav a[aria-current]", has_text="Models").wait_for()
        page.get_by_text("In detail").first.click()
        assert page.locator("#hostile").is_visible()


def test_all_folds_open_and_close_at_once(browser: Browser, path: Path) -> None:
    with opened(browser, path) as found:
        for name, is_open in (("Open all", True), ("Close all", False)):
            found.page.get_by_role("button", name=name).click()
            folds = found.page.locator("details.fold").all()
            assert [fold.get_attribute("open") is not None for fold in folds] == 2 * [is_open]


def test_dark_is_dark(browser: Browser, path: Path) -> None:
    seen = []
    for scheme in ("light", "dark"):
        with opened(browser, path, color_scheme=scheme) as found:
            seen.append(
                found.page.evaluate(
                    "[getComputedStyle(document.body).backgroundColor, getComputedStyle("
                    "document.querySelector('#scatter [aria-label][fill]')).fill]"
                )
            )
    (paper, series), (dark_paper, dark_series) = seen
    assert (paper, dark_paper) == ("rgb(255, 255, 255)", "rgb(21, 23, 26)")
    assert series != dark_series


def test_without_its_script_the_page_is_whole(browser: Browser, path: Path) -> None:
    with opened(browser, path, java_script_enabled=False) as found:
        page = found.page
        assert page.locator("#videos tbody tr:visible").count() == 100
        assert page.locator("main button").count() == 0
        page.get_by_text("In detail").first.click()
        assert page.locator("#video-0").is_visible()


def test_printed_it_is_pages_without_navigation_and_nothing_is_cut(
    browser: Browser, path: Path
) -> None:
    with opened(browser, path, color_scheme="dark") as found:
        page = found.page
        printed = page.pdf(prefer_css_page_size=True)
        assert len(re.findall(rb"/Type\s*/Page\b", printed)) >= 3
        page.set_viewport_size({"width": 1032, "height": 700})  # A4 across, within its margins
        page.emulate_media(media="print")
        assert not page.locator("nav").is_visible()
        assert not page.locator("label.search").first.is_visible()
        assert (
            page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        )
        assert page.locator("#videos tbody tr").last.is_visible()
        hidden = page.evaluate(
            "[...document.querySelectorAll('.scroll')].filter((box) => box.offsetParent &&"
            "getComputedStyle(box).overflow !== 'visible').length"
        )
        assert hidden == 0
        cut = page.evaluate(
            "[...document.querySelectorAll('.scroll')].filter((box) => box.offsetParent &&"
            "box.scrollWidth > box.clientWidth + 1).map((box) => box.parentElement.id)"
        )
        assert cut == []
        assert not found.is_wider_than_its_window()


@pytest.fixture(scope="module")
def of_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of finished runs, with all chapters that they have something for."""
    root = folders.all_kinds(tmp_path_factory.mktemp("runs"))
    out = root / "report.html"
    pages.write([str(root)], str(out), ReportSettings())
    return out


@SIZES
@SCHEMES
def test_the_page_of_finished_runs(
    browser: Browser, of_runs: Path, width: int, scheme: str
) -> None:
    with opened(browser, of_runs, width=width, color_scheme=scheme) as found:
        _open_all(found.page)
        assert not found.is_wider_than_its_window()
        assert found.said == []
        assert found.outside == []
        empty = found.page.evaluate(
            "[...document.querySelectorAll('svg.drawing')].filter((one) => one.checkVisibility() &&"
            "one.getBoundingClientRect().width < 60).map((one) => one.getAttribute('aria-label'))"
        )
        assert empty == []
        anchors = found.page.evaluate(
            "[...document.querySelectorAll('a[href]')].map((one) => one.getAttribute('href'))"
            ".filter((to) => !document.getElementById(to.slice(1)))"
        )
        assert anchors == []
        assert found.violations() == []
