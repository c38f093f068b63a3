from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import stripe
from playwright.sync_api import Browser, Page, expect

from tests.browsing import challenge
from tests.stripe_sandbox.process import Control, SandboxProcess

from .host_page import HostPage

pytestmark = pytest.mark.browser

IBAN, FAILING_IBAN = "DE89 3704 0044 0532 0130 00", "DE62 3704 0044 0532 0130 01"


def _session(api: stripe.StripeClient, host: HostPage, **more: Any) -> stripe.checkout.Session:
    stalls = {
        "price_data": {
            "currency": "eur",
            "unit_amount": 2100,
            "product_data": {"name": "Stalls", "description": "Row 4, seats 7 <and> 8"},
        },
        "quantity": 2,
    }
    given: Any = {
        "mode": "payment",
        "line_items": [stalls],
        "success_url": f"{host.url}/return?session={{CHECKOUT_SESSION_ID}}",
        "cancel_url": f"{host.url}/return?gone=back",
        "customer_email": "ada@example.org",
    }
    return api.v1.checkout.sessions.create(given | more)


@pytest.fixture
def session(api: stripe.StripeClient, host: HostPage) -> stripe.checkout.Session:
    return _session(api, host)


def _open(page: Page, session: stripe.checkout.Session) -> None:
    page.goto(str(session.url))
    expect(page.get_by_role("button", name=re.compile("Pay|Book|Complete"))).to_be_visible()


def _fill(page: Page, number: str) -> None:
    page.get_by_label("Name on card").fill("Ada Lovelace")
    page.get_by_label("Card number").fill(number)
    page.get_by_label("Expiration date").fill("12 / 34")
    page.get_by_label("Security code").fill("123")


def _pay(page: Page) -> None:
    page.get_by_role("button", name="Pay €42.00").click()


def _back_at_the_shop(page: Page, session: stripe.checkout.Session) -> None:
    page.wait_for_url(re.compile(rf"/return\?session={session.id}$"))


def _now(api: stripe.StripeClient, session: stripe.checkout.Session) -> tuple[str | None, str]:
    found = api.v1.checkout.sessions.retrieve(session.id)
    return found.status, found.payment_status


def test_paying_leads_back_to_the_shop(
    page: Page, session: stripe.checkout.Session, api: stripe.StripeClient, control: Control
) -> None:
    _open(page, session)
    expect(page.get_by_role("heading", level=1)).to_have_text("Pay Counterfoil")
    expect(page.get_by_text("Row 4, seats 7 <and> 8")).to_be_visible()
    expect(page.get_by_text("2 × €21.00")).to_be_visible()
    expect(page.get_by_label("Email")).to_have_value("ada@example.org")
    _fill(page, "4242424242424242")
    _pay(page)
    _back_at_the_shop(page, session)
    paid = api.v1.checkout.sessions.retrieve(session.id)
    assert (paid.status, paid.payment_status) == ("complete", "paid")
    assert paid.customer_details and paid.customer_details.name == "Ada Lovelace"
    assert control.ledger()["totals"]["eur"]["received"] == 4200
    page.goto(str(session.url))
    expect(page.get_by_role("heading", level=1)).to_have_text("You’re all done here")
    page.get_by_role("link", name="See your order").click()
    _back_at_the_shop(page, session)


def test_a_decline_is_told_and_another_card_pays(
    page: Page, session: stripe.checkout.Session, api: stripe.StripeClient
) -> None:
    _open(page, session)
    _fill(page, "4000000000009995")
    _pay(page)
    expect(page.get_by_text("Your card has insufficient funds.")).to_be_visible()
    assert _now(api, session) == ("open", "unpaid")
    _fill(page, "4242424242424242")
    _pay(page)
    _back_at_the_shop(page, session)


def test_three_d_secure_refused_and_then_approved(
    page: Page, session: stripe.checkout.Session, api: stripe.StripeClient
) -> None:
    _open(page, session)
    _fill(page, "4000002760003184")
    _pay(page)
    challenge(page).get_by_role("button", name="Fail authentication").click()
    expect(page.get_by_text("We are unable to authenticate your payment method.")).to_be_visible()
    assert _now(api, session) == ("open", "unpaid")
    _pay(page)
    challenge(page).get_by_role("button", name="Complete authentication").click()
    _back_at_the_shop(page, session)
    assert _now(api, session) == ("complete", "paid")


def test_it_can_be_paid_by_keyboard_alone(page: Page, session: stripe.checkout.Session) -> None:
    _open(page, session)
    page.get_by_label("Email").focus()
    for typed in ("Ada Lovelace", None, "4242424242424242"):
        page.keyboard.press("Tab")
        if typed:
            page.keyboard.type(typed)
    expect(page.get_by_label("Expiration date")).to_be_focused()
    page.keyboard.type("1234")
    page.keyboard.type("123")
    page.keyboard.press("Enter")
    _back_at_the_shop(page, session)


def test_mistakes_are_explained_beside_their_fields(page: Page, session: stripe.checkout.Session) -> None:
    _open(page, session)
    page.get_by_label("Email").fill("ada")
    page.get_by_label("Card number").fill("4242424242424241")
    _pay(page)
    for complaint in ("Your email address is invalid.", "Your name is incomplete.", "Your card number is invalid."):
        expect(page.get_by_text(complaint)).to_be_visible()
    expect(page.get_by_label("Email")).to_be_focused()
    expect(page.get_by_label("Email")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Email")).to_have_accessible_description("Your email address is invalid.")


def test_the_billing_address_is_asked_for_and_kept(page: Page, api: stripe.StripeClient, host: HostPage) -> None:
    session = _session(api, host, billing_address_collection="required")
    _open(page, session)
    _fill(page, "4242424242424242")
    _pay(page)
    expect(page.get_by_text("Your street is incomplete.")).to_be_visible()
    page.get_by_label("Street and number").fill("Hauptstr. 1")
    page.get_by_label("Postal code").fill("10115")
    page.get_by_label("City").fill("Berlin")
    page.get_by_label("Country or region").select_option("Germany")
    _pay(page)
    _back_at_the_shop(page, session)
    details = api.v1.checkout.sessions.retrieve(session.id).customer_details
    assert details and details.address
    assert (details.address.line1, details.address.city, details.address.country) == ("Hauptstr. 1", "Berlin", "DE")


def test_the_way_back_to_the_shop_leaves_the_session_open(
    page: Page, session: stripe.checkout.Session, api: stripe.StripeClient
) -> None:
    _open(page, session)
    page.get_by_role("link", name="Back to Counterfoil").click()
    page.wait_for_url(re.compile(r"/return\?gone=back"))
    assert _now(api, session) == ("open", "unpaid")


def test_an_expired_session_says_so_and_takes_no_money(
    page: Page, session: stripe.checkout.Session, api: stripe.StripeClient, control: Control
) -> None:
    """Also where the page stood open while it expired."""
    _open(page, session)
    _fill(page, "4242424242424242")
    api.v1.checkout.sessions.expire(session.id)
    _pay(page)
    expect(page.get_by_role("heading", level=1)).to_have_text("This session has expired")
    expect(page.get_by_text("You were not charged.")).to_be_visible()
    expect(page.get_by_role("link", name="Back to the shop")).to_be_visible()
    assert control.ledger()["payment_intents"] == []


def test_expired_while_the_bank_asks(
    page: Page, session: stripe.checkout.Session, api: stripe.StripeClient, control: Control
) -> None:
    _open(page, session)
    _fill(page, "4000002760003184")
    _pay(page)
    approve = challenge(page).get_by_role("button", name="Complete authentication")
    expect(approve).to_be_visible()
    api.v1.checkout.sessions.expire(session.id)
    approve.click()
    expect(page.get_by_text("Your card was not charged.")).to_be_visible()
    assert control.ledger()["totals"]["eur"]["received"] == 0


def test_nothing_to_pay_needs_no_card(page: Page, api: stripe.StripeClient, host: HostPage) -> None:
    free = {"price_data": {"currency": "eur", "unit_amount": 0, "product_data": {"name": "Child"}}, "quantity": 1}
    session = _session(api, host, line_items=[free])
    _open(page, session)
    expect(page.get_by_label("Card number")).to_have_count(0)
    page.get_by_label("Full name").fill("Ada Lovelace")
    page.get_by_role("button", name="Complete order").click()
    _back_at_the_shop(page, session)
    assert _now(api, session) == ("complete", "no_payment_required")


def test_other_sites_cannot_pay(session: stripe.checkout.Session, api: stripe.StripeClient) -> None:
    answer = requests.post(str(session.url), json={}, headers={"Origin": "https://other.example"}, timeout=5)
    assert answer.status_code == 403
    assert requests.post(str(session.url), json={"email": "a@b.example"}, timeout=5).status_code == 400
    assert _now(api, session) == ("open", "unpaid")


# Bank debits: an account that has them switched on


@pytest.fixture(scope="module")
def running_with_debits() -> Iterator[SandboxProcess]:
    with SandboxProcess(extra_arguments=("--payment-method-types", "card,sepa_debit")) as process:
        yield process


@pytest.fixture
def debits(running_with_debits: SandboxProcess) -> stripe.StripeClient:
    running_with_debits.control.reset()
    running_with_debits.control.set_debit_seconds(3 * 24 * 3600)
    addresses: Any = {"api": running_with_debits.api_base}
    return stripe.StripeClient(running_with_debits.secret_key, base_addresses=addresses)


@pytest.mark.parametrize(("iban", "payment_status"), [(IBAN, "paid"), (FAILING_IBAN, "unpaid")])
def test_a_bank_debit_on_the_hosted_page(
    iban: str,
    payment_status: str,
    page: Page,
    host: HostPage,
    debits: stripe.StripeClient,
    running_with_debits: SandboxProcess,
) -> None:
    session = _session(debits, host)
    _open(page, session)
    page.get_by_label("Bank debit").check()
    page.get_by_label("Full name").fill("Ada Lovelace")
    page.get_by_label("IBAN").fill("DE89 3704 0044 0532 0130 99")
    _pay(page)
    expect(page.get_by_text("Your IBAN is invalid.")).to_be_visible()
    page.get_by_label("IBAN").fill(iban)
    _pay(page)
    _back_at_the_shop(page, session)
    assert _now(debits, session) == ("complete", "unpaid")
    running_with_debits.control.advance(3 * 24 * 3600 + 1)
    assert _now(debits, session) == ("complete", payment_status)


def test_a_bank_debit_in_the_payment_element(
    browser: Browser, debits: stripe.StripeClient, running_with_debits: SandboxProcess
) -> None:
    intent = debits.v1.payment_intents.create({"amount": 4200, "currency": "eur"})
    with HostPage(running_with_debits.api_base, running_with_debits.publishable_key) as shop:
        page = browser.new_page()
        page.goto(f"{shop.url}/?client_secret={intent.client_secret}")
        form = page.frame_locator('iframe[title="Secure payment input frame"]')
        form.get_by_label("Bank debit").check()
        expect(form.get_by_label("Card number")).to_be_hidden()
        form.get_by_label("Full name").fill("Ada Lovelace")
        form.get_by_label("Email").fill("ada@example.org")
        expect(page.locator("#pay")).to_be_disabled()
        form.get_by_label("IBAN").press_sequentially("DE89370400440532013000")
        expect(form.get_by_label("IBAN")).to_have_value(IBAN)
        page.click("#pay")
        page.wait_for_url(re.compile("/return.*redirect_status=pending"))
        page.close()
    waiting = debits.v1.payment_intents.retrieve(intent.id, {"expand": ["payment_method"]})
    assert waiting.status == "processing"
    assert isinstance(waiting.payment_method, stripe.PaymentMethod)
    assert waiting.payment_method.billing_details.email == "ada@example.org"
    running_with_debits.control.settle(intent.id)
    assert debits.v1.payment_intents.retrieve(intent.id).status == "succeeded"


def test_a_card_only_account_offers_no_choice(page: Page, session: stripe.checkout.Session) -> None:
    _open(page, session)
    expect(page.get_by_label("Bank debit")).to_be_hidden()


def test_the_dashboard_lists_sessions_and_expires_one(
    page: Page, sandbox: SandboxProcess, session: stripe.checkout.Session, api: stripe.StripeClient
) -> None:
    page.goto(sandbox.dashboard_url)
    page.get_by_role("link", name="Checkout").click()
    expect(page.get_by_role("row", name="2 × Stalls")).to_contain_text("Open")
    page.get_by_role("link", name="Open the hosted page").click()
    expect(page.get_by_role("button", name="Pay €42.00")).to_be_visible()
    page.go_back()
    page.get_by_role("button", name="Expire the Checkout Session").click()
    expect(page.get_by_role("row", name="2 × Stalls")).to_contain_text("Expired")
    assert _now(api, session) == ("expired", "unpaid")
