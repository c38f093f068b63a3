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


def _session(api: stripe.StripeClient) -> stripe.checkout.Session:
    product = {"name": "Stalls", "description": "Row 4, seats 7 and 8"}
    item = {"price_data": {"currency": "eur", "unit_amount": 2100, "product_data": product}, "quantity": 2}
    return api.v1.checkout.sessions.create(
        {
            "mode": "payment",
            "line_items": [item],  # type: ignore[list-item]
            "success_url": "https://tickets.example/",
            "cancel_url": "https://tickets.example/basket/",
            "billing_address_collection": "required",
            "payment_method_types": ["card", "sepa_debit"],
        }
    )


def test_the_hosted_page_has_no_violations(
    sized: Page, scheme: str, api: stripe.StripeClient, control: Control
) -> None:
    def look(state: str) -> list[str]:
        assert sized.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{state} scrolls sideways"
        return [f"{state}: {text}" for text in _violations(sized)]

    opened, expired, paid = _session(api), _session(api), _session(api)
    urls = [str(session.url) for session in (opened, expired, paid)]
    control.expire_session(expired.id)
    control.pay_session(paid.id)
    sized.goto(urls[0])
    wrong = look("open")
    sized.get_by_text("Test cards").click()
    sized.get_by_role("button", name="Pay €42.00").click()
    wrong += look("with complaints")
    sized.get_by_label("Bank debit").check()
    wrong += look("bank debit")
    sized.goto(urls[1])
    wrong += look("expired")
    sized.goto(urls[2])
    wrong += look("complete")
    assert wrong == []


def test_pages_have_no_violations(
    sized: Page, scheme: str, sandbox: SandboxProcess, api: stripe.StripeClient, control: Control
) -> None:
    control.set_webhook("http://127.0.0.1:9/", "whsec_x")
    intent = api.v1.payment_intents.create({"amount": 4200, "currency": "eur", "metadata": {"order": "A1"}})
    control.pay(intent.id, "pm_card_chargeDeclined")
    waiting = control.pay(intent.id, "pm_card_authenticationRequired", complete=None)
    bank = waiting["next_action"]["use_stripe_sdk"]["stripe_js"]
    event = control.events()[0]["id"]
    paid = api.v1.payment_intents.create({"amount": 900, "currency": "eur"}).id
    control.pay(paid)
    api.v1.refunds.create({"payment_intent": paid, "amount": 300})
    _session(api)
    dashboard = sandbox.dashboard_url
    pages = {
        f"{sandbox.api_base}/v3/payment-element": "input[name=number]",
        bank: "button",
        f"{dashboard}#/payments": "table",
        f"{dashboard}#/payments/{intent.id}": "table",
        f"{dashboard}#/payments/{paid}": "form",
        f"{dashboard}#/sessions": "table",
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
