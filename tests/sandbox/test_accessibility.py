"""Every page of the sandbox, in both colour schemes and both sizes, against axe-core."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import stripe
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests.stripe_sandbox.process import Control, SandboxProcess

pytestmark = pytest.mark.browser

HOST_BACKGROUND = {"light": "#ffffff", "dark": "#16181f"}
SIZES = {"phone": (390, 844), "desktop": (1200, 860)}


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=list(SIZES))
def sized(browser: Browser, scheme: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    width, height = SIZES[request.param]
    # The policy forbids foreign scripts, and axe is one.
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,  # type: ignore[arg-type]
        bypass_csp=True,
    )
    yield context.new_page()
    context.close()


def _violations(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['html'][:120]} {node['failureSummary'][:200]}" for one in found for node in one["nodes"]
    ]


def test_pages_have_no_violations(
    sized: Page, scheme: str, sandbox: SandboxProcess, api: stripe.StripeClient, control: Control
) -> None:
    control.set_webhook("http://127.0.0.1:9/", "whsec_x")
    intent = api.v1.payment_intents.create({"amount": 4200, "currency": "eur", "metadata": {"order": "A1"}})
    control.pay(intent.id, "pm_card_chargeDeclined")
    waiting = control.pay(intent.id, "pm_card_authenticationRequired", complete=None)
    bank = waiting["next_action"]["use_stripe_sdk"]["stripe_js"]
    event = control.events()[0]["id"]
    control.pay(api.v1.payment_intents.create({"amount": 900, "currency": "eur"}).id)
    dashboard = sandbox.dashboard_url
    pages = {
        f"{sandbox.api_base}/v3/payment-element": "input",
        bank: "button",
        f"{dashboard}#/payments": "table",
        f"{dashboard}#/payments/{intent.id}": "table",
        f"{dashboard}#/events": "table",
        f"{dashboard}#/events/{event}": "h2",
        f"{dashboard}#/requests": "table",
    }
    wrong: dict[str, list[str]] = {}
    for url, landmark in pages.items():
        sized.goto(url)
        sized.wait_for_selector(landmark)
        if "payment-element" in url:
            # It is a part of a page: its background and its headings are the host's.
            sized.add_style_tag(content=f"html {{ background: {HOST_BACKGROUND[scheme]} }}")
            sized.get_by_text("Test cards").click()
            sized.fill("input[name=number]", "4242424242424241")
        violations = _violations(sized)
        if "payment-element" in url:
            violations = [text for text in violations if not text.startswith("page-has-heading-one")]
        if violations:
            wrong[url] = violations
        assert sized.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{url} scrolls sideways"
    assert wrong == {}
