"""The machine's own Chromium (CHROMIUM names another): buyers' windows, a look at a page, Stripe's card form."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, FrameLocator, Page, sync_playwright

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SIZES = {"phone": {"width": 390, "height": 844}, "desktop": {"width": 1280, "height": 900}}
PATIENCE_MS = 30_000
ELEMENT_FRAME = 'iframe[title="Secure payment input frame"]'
CHALLENGE_FRAME = 'iframe[title="3D Secure"]'


def chromium() -> str:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    assert found, "no Chromium found: install it (make test does), or name it in CHROMIUM"
    return found


@contextmanager
def launch() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield browser
        browser.close()


def open_context(browser: Browser, base_url: str, size: str = "desktop", **more) -> BrowserContext:
    """A buyer's browser: cookies and cache of its own."""
    context = browser.new_context(viewport=SIZES[size], base_url=base_url, **more)
    context.set_default_timeout(PATIENCE_MS)
    return context


def open_page(context: BrowserContext, complaints: list[str]) -> Page:
    """A tab; what its console and scripts complain about is added to `complaints`."""
    page = context.new_page()
    page.on("console", lambda line: complaints.append(line.text) if _is_fault(line) else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return page


def _is_fault(line: ConsoleMessage) -> bool:
    """Refusals are HTTP errors by contract (a declined card, sold out, a wrong code …) and Chromium notes each."""
    is_refusal = re.search(r"the server responded with a status of (400|402|409|429|503)", line.text)
    return line.type == "error" and not is_refusal


def look(page: Page, name: str, shots: Path) -> None:
    """A picture for people, and axe for those who do not see it: no violation of WCAG 2.2 AA."""
    page.screenshot(path=shots / f"{name}.png", full_page=True)
    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]})
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "the page scrolls sideways"


def card_form(page: Page) -> FrameLocator:
    return page.frame_locator(ELEMENT_FRAME)


def challenge(page: Page) -> FrameLocator:
    return page.frame_locator(CHALLENGE_FRAME)


def fill_card(page: Page, number: str, *, expiry: str = "12 / 34", cvc: str = "123") -> None:
    form = card_form(page)
    form.locator("input[name=number]").fill(number)
    form.locator("input[name=expiry]").fill(expiry)
    form.locator("input[name=cvc]").fill(cvc)
