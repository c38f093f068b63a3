"""The machine's own Chromium (CHROMIUM names another), and how a test fills Stripe's card form in its frame."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, FrameLocator, Page, sync_playwright

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


def card_form(page: Page) -> FrameLocator:
    return page.frame_locator(ELEMENT_FRAME)


def challenge(page: Page) -> FrameLocator:
    return page.frame_locator(CHALLENGE_FRAME)


def fill_card(page: Page, number: str, *, expiry: str = "12 / 34", cvc: str = "123") -> None:
    form = card_form(page)
    form.locator("input[name=number]").fill(number)
    form.locator("input[name=expiry]").fill(expiry)
    form.locator("input[name=cvc]").fill(cvc)
