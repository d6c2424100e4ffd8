"""The chatbot in a real headless Chromium: `make test-browser`, where none of these is skipped."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from homing_server.local import Edge, EdgeSettings

from ..serving import serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

ROOT = Path(__file__).resolve().parents[2]
PICTURES = Path(os.environ.get("HOMING_PICTURES", ROOT / ".cache" / "pictures"))
"""`scripts/browser.py --publish` points this at docs/images/chatbot."""

DESKTOP = {"width": 1100, "height": 760}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 760},
    "is_mobile": True,
    "has_touch": True,
    "device_scale_factor": 1,
}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    # Playwright is here only where these tests are asked for.
    asked = re.search(r"(?<!not )\bbrowser\b", str(config.getoption("markexpr")))
    return True if collection_path.name.startswith("test_") and not asked else None


@dataclass
class Site:
    """The edge, and two workers in front of it that share a store. A cookie is good for both."""

    edge: Edge
    workers: list[str]


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    from chatbot.app import make_app

    place = tmp_path_factory.mktemp("chatbot") / "chats.db"
    with ExitStack() as stack:
        edge = stack.enter_context(Edge(EdgeSettings.instant()))
        yield Site(edge, [stack.enter_context(serving(make_app(str(place), edge.url))) for _ in range(2)])


@pytest.fixture
def site(running: Site) -> Site:
    running.edge.reset()
    return running


@pytest.fixture
def edge(site: Site) -> Edge:
    return site.edge


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("HOMING_CHROMIUM") or shutil.which("chromium")
    assert chromium, "no Chromium here: run `make test-browser`, which installs it"
    # Root, as in containers of CI, has no sandbox; the pages are our own.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def new_context(browser: Browser, site: Site) -> Iterator[Callable[..., BrowserContext]]:
    """Make browsers of one person each. At the end their pages must have nothing to complain about."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        # Chromium reports every answer above 399 as an error of the page; the tests look at those themselves.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            complaints.append(message.text)

    def new(**options: Any) -> BrowserContext:
        context = browser.new_context(**{"viewport": DESKTOP, "reduced_motion": "reduce", **options})
        context.set_default_timeout(20_000)
        context.on("console", heard)
        context.on("weberror", lambda error: complaints.append(str(error.error)))
        contexts.append(context)
        return context

    yield new
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def page(new_context: Callable[..., BrowserContext], site: Site) -> Page:
    page = new_context().new_page()
    page.goto(site.workers[0])
    return page


@pytest.fixture
def picture() -> Callable[[Page, str], None]:
    """Keep what a page looks like, for docs/chatbot.md."""

    def take(page: Page, name: str) -> None:
        PICTURES.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=PICTURES / f"{name}.png", animations="disabled", caret="hide")

    return take
