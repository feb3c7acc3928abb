"""A real Chromium that opens pages, and what it says of them."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Error, Page, Route, sync_playwright

# Where .ci/run puts axe-core; "npm install --no-save axe-core" beside the checkout does as well.
_AXE = os.environ.get("VIDRAY_AXE") or str(
    Path(__file__).resolve().parents[2] / "node_modules/axe-core/axe.min.js"
)
_NONE = "no Chromium: apt-get install chromium (with VIDRAY_REQUIRE_CHROMIUM=1 this is a failure)"


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium; the test is left out where there is none, unless one is required."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    is_required = os.environ.get("VIDRAY_REQUIRE_CHROMIUM") == "1"
    if path is None:
        (pytest.fail if is_required else pytest.skip)(_NONE)
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except Error as error:
            if is_required:
                raise
            pytest.skip(f"{path} does not start: {str(error)[:200]}")
        yield browser
        browser.close()


@dataclass(kw_only=True)
class Opened:
    """A page that is open.

    Attributes:
        page: Playwright's.
        said: messages of the console, errors of scripts and dialogs.
        outside: addresses that the page asked for beside its own.
    """

    page: Page
    said: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def is_wider_than_its_window(self) -> bool:
        """Whether a reader would have to scroll sideways."""
        return bool(self.page.evaluate("document.scrollingElement.scrollWidth > innerWidth"))

    def violations(self) -> list[str]:
        """What axe-core finds, all of its rules, with the first element of each."""
        if not Path(_AXE).is_file():
            pytest.skip("no axe-core: set VIDRAY_AXE to the axe.min.js of npm's axe-core")
        self.page.evaluate(Path(_AXE).read_text(encoding="utf-8"))
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        assert len(found["passes"]) > 20  # It did look.
        return [
            f"{one['id']} ({len(one['nodes'])}): {one['nodes'][0]['html'][:300]} "
            f"{one['nodes'][0]['failureSummary']}"
            for one in found["violations"]
        ]


@contextmanager
def opened(
    browser: Browser, path: Path, *, width: int = 1280, height: int = 900, **options: Any
) -> Iterator[Opened]:
    """The page of a file, in a window of its own that reaches no other address."""
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    page = context.new_page()
    found = Opened(page=page)

    def answer(route: Route) -> None:
        if route.request.url.split("#")[0] == path.as_uri():
            route.continue_()
        else:
            found.outside.append(route.request.url)
            route.abort()

    page.route("**/*", answer)
    page.on("console", lambda message: found.said.append(message.text))
    page.on("pageerror", lambda error: found.said.append(str(error)))
    page.on("dialog", lambda dialog: (found.said.append(dialog.message), dialog.dismiss()))
    page.goto(path.as_uri())
    try:
        yield found
    finally:
        context.close()
