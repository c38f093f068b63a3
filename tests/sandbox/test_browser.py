from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

import pytest
import stripe
from playwright.sync_api import Page, expect

from tests.browsing import card_form, challenge, fill_card
from tests.stripe_sandbox.process import Control, SandboxProcess

from .host_page import HostPage

pytestmark = pytest.mark.browser


@pytest.fixture
def intent(api: stripe.StripeClient) -> stripe.PaymentIntent:
    return api.v1.payment_intents.create(
        {"amount": 4200, "currency": "eur", "automatic_payment_methods": {"enabled": True}}
    )


def _open(page: Page, host: HostPage, intent: stripe.PaymentIntent, *, redirect: str = "always") -> None:
    page.goto(f"{host.url}/?client_secret={intent.client_secret}&redirect={redirect}")
    expect(page.locator("body[data-ready]")).to_be_attached()


def _status(api: stripe.StripeClient, intent: stripe.PaymentIntent) -> str:
    return api.v1.payment_intents.retrieve(intent.id).status


def test_paying_leads_to_the_return_page(
    page: Page, host: HostPage, intent: stripe.PaymentIntent, api: stripe.StripeClient
) -> None:
    _open(page, host, intent)
    fill_card(page, "4242424242424242")
    page.click("#pay")
    page.wait_for_url(re.compile("/return"))
    query = parse_qs(urlsplit(page.url).query)
    assert query == {
        "order": ["A1"],
        "payment_intent": [intent.id],
        "payment_intent_client_secret": [intent.client_secret],
        "redirect_status": ["succeeded"],
    }
    assert _status(api, intent) == "succeeded"


def test_paying_in_place(page: Page, host: HostPage, intent: stripe.PaymentIntent) -> None:
    _open(page, host, intent, redirect="if_required")
    fill_card(page, "4242424242424242")
    page.click("#pay")
    expect(page.locator("#message")).to_have_text("In place: succeeded")


def test_a_decline_is_told_and_another_card_pays(
    page: Page, host: HostPage, intent: stripe.PaymentIntent, api: stripe.StripeClient
) -> None:
    _open(page, host, intent, redirect="if_required")
    fill_card(page, "4000000000009995")
    page.click("#pay")
    expect(page.locator("#message")).to_have_text("Your card has insufficient funds.")
    assert _status(api, intent) == "requires_payment_method"
    fill_card(page, "4242424242424242")
    page.click("#pay")
    expect(page.locator("#message")).to_have_text("In place: succeeded")


def test_three_d_secure_complete(page: Page, host: HostPage, intent: stripe.PaymentIntent) -> None:
    _open(page, host, intent)
    fill_card(page, "4000002760003184")
    page.click("#pay")
    challenge(page).get_by_role("button", name="Complete authentication").click()
    page.wait_for_url(re.compile("/return.*redirect_status=succeeded"))


def test_three_d_secure_fail(page: Page, host: HostPage, intent: stripe.PaymentIntent) -> None:
    _open(page, host, intent)
    fill_card(page, "4000002760003184")
    page.click("#pay")
    challenge(page).get_by_role("button", name="Fail authentication").click()
    expect(page.locator("#message")).to_contain_text("We are unable to authenticate your payment method.")
    expect(page.locator("dialog")).to_have_count(0)


def test_three_d_secure_by_keyboard_stays_inside(page: Page, host: HostPage, intent: stripe.PaymentIntent) -> None:
    _open(page, host, intent)
    fill_card(page, "4000002760003184")
    page.click("#pay")
    frame = challenge(page)
    expect(frame.get_by_role("heading")).to_be_focused()
    for name in ("Complete", "Fail", "Complete"):
        page.keyboard.press("Tab")
        expect(frame.get_by_role("button", name=name)).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#message")).to_contain_text("unable to authenticate")


def test_canceled_while_authenticating(
    page: Page, host: HostPage, intent: stripe.PaymentIntent, api: stripe.StripeClient
) -> None:
    _open(page, host, intent)
    fill_card(page, "4000002760003184")
    page.click("#pay")
    approve = challenge(page).get_by_role("button", name="Complete authentication")
    expect(approve).to_be_visible()
    api.v1.payment_intents.cancel(intent.id)
    approve.click()
    expect(page.locator("#message")).to_contain_text("Your card was not charged")


def test_full_page_three_d_secure_returns_to_the_shop(
    page: Page, host: HostPage, intent: stripe.PaymentIntent, api: stripe.StripeClient
) -> None:
    confirmed = api.v1.payment_intents.confirm(
        intent.id, {"payment_method": "pm_card_authenticationRequired", "return_url": f"{host.url}/return?order=A1"}
    )
    assert confirmed.next_action and confirmed.next_action.redirect_to_url
    page.goto(str(confirmed.next_action.redirect_to_url.url))
    page.get_by_role("button", name="Complete authentication").click()
    page.wait_for_url(re.compile("/return.*redirect_status=succeeded"))
    page.goto(str(confirmed.next_action.redirect_to_url.url))
    expect(page.get_by_role("heading")).to_have_text("Nothing to approve any more")


def test_typing_is_formatted_and_mistakes_are_explained(
    page: Page, host: HostPage, intent: stripe.PaymentIntent
) -> None:
    _open(page, host, intent)
    form = card_form(page)
    number, expiry, cvc = (form.locator(f"input[name={name}]") for name in ("number", "expiry", "cvc"))
    number.click()
    page.keyboard.type("4242424242424242")
    expect(number).to_have_value("4242 4242 4242 4242")
    expect(expiry).to_be_focused()
    page.keyboard.type("534")
    expect(expiry).to_have_value("05 / 34")
    expect(cvc).to_be_focused()
    page.keyboard.type("12")
    expect(page.locator("#pay")).to_be_disabled()
    number.fill("4242424242424241")
    expect(form.get_by_text("Your card number is invalid.")).to_be_visible()
    expect(number).to_have_attribute("aria-invalid", "true")
    expiry.fill("01 / 20")
    cvc.focus()
    expect(form.get_by_text("Your card's expiration year is in the past.")).to_be_visible()


def test_enter_in_the_card_form_submits_the_page(page: Page, host: HostPage, intent: stripe.PaymentIntent) -> None:
    _open(page, host, intent, redirect="if_required")
    fill_card(page, "4242424242424242")
    card_form(page).locator("input[name=cvc]").press("Enter")
    expect(page.locator("#message")).to_have_text("In place: succeeded")


def test_test_cards_are_one_click_away(page: Page, host: HostPage, intent: stripe.PaymentIntent) -> None:
    _open(page, host, intent)
    form = card_form(page)
    form.get_by_text("Test cards").click()
    form.get_by_role("button", name="Insufficient funds").click()
    expect(form.locator("input[name=number]")).to_have_value("4000 0000 0000 9995")
    expect(page.locator("#pay")).to_be_enabled()


def test_a_canceled_intent_cannot_be_paid(
    page: Page, host: HostPage, intent: stripe.PaymentIntent, api: stripe.StripeClient
) -> None:
    api.v1.payment_intents.cancel(intent.id)
    page.goto(f"{host.url}/?client_secret={intent.client_secret}")
    expect(page.locator("#message")).to_contain_text("cannot be used")


def test_card_numbers_stay_in_the_frame(
    page: Page, host: HostPage, intent: stripe.PaymentIntent, control: Control
) -> None:
    """The shop's page never sees them, and neither does the log."""
    _open(page, host, intent)
    fill_card(page, "4242424242424242")
    assert page.evaluate("document.querySelector('iframe').contentDocument") is None
    page.click("#pay")
    page.wait_for_url(re.compile("/return"))
    assert "4242" not in str(control.requests())


def test_the_dashboard_shows_payments_and_resends(
    page: Page, sandbox: SandboxProcess, intent: stripe.PaymentIntent, control: Control
) -> None:
    page.goto(sandbox.dashboard_url)
    expect(page.get_by_role("link", name="€42.00")).to_be_visible()
    expect(page.get_by_text("Incomplete")).to_be_visible()
    control.pay(intent.id)
    expect(page.get_by_role("table").get_by_text("Succeeded")).to_be_visible()
    page.get_by_role("link", name="€42.00").click()
    page.get_by_role("link", name="payment_intent.succeeded").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("payment_intent.succeeded")
    page.get_by_role("button", name="Resend").click()
    expect(page.get_by_text("no webhook endpoint")).to_be_visible()


def test_refunding_from_the_dashboard(
    page: Page, sandbox: SandboxProcess, intent: stripe.PaymentIntent, control: Control
) -> None:
    control.pay(intent.id)
    page.goto(f"{sandbox.dashboard_url}#/payments/{intent.id}")
    page.get_by_label("Amount (EUR)").fill("12.34")
    page.get_by_role("button", name="Refund", exact=True).click()
    expect(page.get_by_text("€12.34 refunded.")).to_be_visible()
    expect(page.get_by_label("Amount (EUR)")).to_have_value("29.66")
    page.get_by_role("button", name="Refund", exact=True).click()
    expect(page.get_by_role("button", name="Refund", exact=True)).to_have_count(0)
    expect(page.get_by_role("table", name="Refunds").get_by_text("Succeeded")).to_have_count(2)
    assert [refund["amount"] for refund in control.refunds(intent.id)] == [1234, 2966]
