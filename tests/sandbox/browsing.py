"""The machine's own Chromium, and how a test fills the card form in its frame."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from playwright.sync_api import FrameLocator, Page

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
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    assert found and Path(found).exists(), "no Chromium found: install it, or name it in CHROMIUM"
    return found


def card_form(page: Page) -> FrameLocator:
    return page.frame_locator(ELEMENT_FRAME)


def challenge(page: Page) -> FrameLocator:
    return page.frame_locator(CHALLENGE_FRAME)


def fill_card(page: Page, number: str, *, expiry: str = "12 / 34", cvc: str = "123") -> None:
    form = card_form(page)
    form.locator("input[name=number]").fill(number)
    form.locator("input[name=expiry]").fill(expiry)
    form.locator("input[name=cvc]").fill(cvc)
