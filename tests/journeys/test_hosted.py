"""Paying on Stripe's own page, in a real browser: there, back, away for ever, and too late."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.db.models.functions import Now
from playwright.sync_api import Browser, Page, expect

from payments.models import Payment
from reservations.models import Order, Reservation
from tests.browsing import challenge, look, open_context, open_page
from tests.journeys.buying import (
    ON_STRIPES_PAGE,
    choose,
    concert,
    expect_tickets,
    fill_in_address,
    fill_in_on_stripes_page,
    give_details,
    go_to_stripes_page,
    newest_order,
    order_on,
    wait_until,
)
from tests.journeys.shopper import Shopper
from tests.office import WEBHOOK_SECRET, Office
from tests.stripe_sandbox.process import SandboxProcess

pytestmark = [pytest.mark.office, pytest.mark.browser, pytest.mark.row("P2")]

BUYERS = {"phone": "dark", "desktop": "light"}


@pytest.fixture(params=BUYERS)
def size(request: pytest.FixtureRequest) -> str:
    return request.param


def pay_there(page: Page) -> None:
    page.get_by_role("button", name=re.compile("^Pay ")).click()


def go_back(page: Page) -> None:
    page.get_by_role("link", name=re.compile("Back to")).click()


def end_now(order: Order) -> None:
    Reservation.objects.filter(pk=order.reservation_id).update(expires_at=Now() - timedelta(seconds=1))
    wait_until(lambda: Order.objects.get(pk=order.pk).status == "CANCELLED", "the order is closed by the sweep")


def test_there_declined_back_again_and_to_the_tickets(browser: Browser, office: Office, shots: Path, size: str):
    complaints: list[str] = []
    context = open_context(browser, office.base_url, size, color_scheme=BUYERS[size])
    page, product = open_page(context, complaints), concert(payment_mode="HOSTED")
    go_to_stripes_page(page, product, 2)
    first = page.url
    fill_in_on_stripes_page(page, "4000000000009995")
    pay_there(page)
    expect(page.get_by_text("Your card has insufficient funds.")).to_be_visible()
    go_back(page)
    expect(page.get_by_role("heading", name="We have not seen a payment yet")).to_be_visible()
    expect(page.locator("[data-countdown-left]")).to_contain_text(re.compile(r"1[45]:\d\d"))
    expect(page.get_by_role("button", name=re.compile("Add .* minutes"))).to_have_count(0)
    look(page, f"{size}-hosted-1-back", shots)
    page.goto(page.url.split("?")[0])
    expect(page.get_by_role("heading", name="Next: pay on Stripe’s page")).to_be_visible()
    look(page, f"{size}-hosted-2-next", shots)
    page.get_by_role("button", name="Continue to payment").click()
    page.wait_for_url(ON_STRIPES_PAGE)
    assert page.url == first
    fill_in_on_stripes_page(page)
    pay_there(page)
    expect_tickets(page, 2)
    context.close()
    assert complaints == []
    assert newest_order(product).payments.get().mode == "HOSTED"


@pytest.mark.row("C3")
def test_all_of_our_pages_work_without_javascript(browser: Browser, office: Office, shots: Path):
    """Stripe's page needs scripts: there, somebody else pays."""
    context = open_context(browser, office.base_url, "phone", java_script_enabled=False)
    page, product = context.new_page(), concert(payment_mode="HOSTED")
    go_to_stripes_page(page, product)
    order = newest_order(product)
    page.goto(f"/reservations/{order.reservation_id}/checkout/?back=1")
    assert office.stripe.stripe_js_url not in page.content()
    page.screenshot(path=shots / "phone-hosted-no-script.png", full_page=True)
    page.get_by_role("button", name="Continue to payment").click()
    page.wait_for_url(ON_STRIPES_PAGE)
    session = office.stripe.control.pay_session(order.payments.get().stripe_session_id or "")
    page.goto(session["success_url"])
    wait_until(lambda: Order.objects.get(pk=order.pk).status == "PAID", "the webhook settles it")
    page.reload()
    expect_tickets(page, 1)
    context.close()


@pytest.mark.row("H6")
def test_a_change_of_mind_ends_stripes_page_too(page: Page, office: Office, shots: Path):
    product = concert(payment_mode="HOSTED", capacity=1)
    go_to_stripes_page(page, product)
    address = page.url
    go_back(page)
    page.get_by_role("button", name=re.compile("Cancel this order")).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("cancelled")
    expect(page.get_by_text("You were not charged")).to_be_visible()
    look(page, "desktop-hosted-cancelled", shots)
    page.goto(address)
    expect(page.get_by_role("heading", level=1)).to_contain_text("expired")
    assert Shopper(office).hold(product).status_code == 201


@pytest.mark.row("HC-D7", "HC-D8", "HC-C14")
@pytest.mark.parametrize("is_in_challenge", [False, True], ids=["typing", "in 3-D Secure"])
def test_hc_d8_the_hold_ends_while_stripes_page_is_open(page: Page, office: Office, shots: Path, is_in_challenge: bool):
    """HC-D7, HC-D8, HC-C14: nothing is charged, the seat goes to the next buyer, and our page says so."""
    product = concert(payment_mode="HOSTED", capacity=1)
    go_to_stripes_page(page, product)
    order = newest_order(product)
    fill_in_on_stripes_page(page, "4000002760003184" if is_in_challenge else "4242424242424242")
    if is_in_challenge:
        pay_there(page)
        challenge(page).get_by_role("button", name="Complete authentication").wait_for()
    end_now(order)
    if is_in_challenge:
        challenge(page).get_by_role("button", name="Complete authentication").click()
        page.reload()
    else:
        pay_there(page)
    expect(page.get_by_role("heading", level=1)).to_contain_text("expired")
    page.get_by_role("link", name="Back to the shop").click()
    page.wait_for_url("**/orders/**")
    expect(page.get_by_role("heading", level=1)).to_have_text("The time to pay is over")
    expect(page.get_by_role("heading", name="You were not charged")).to_be_visible()
    look(page, "desktop-hosted-too-late", shots)
    assert Shopper(office).hold(product).status_code == 201
    assert order.payments.get().amount_received_minor == 0
    session = office.stripe.control.session(order.payments.get().stripe_session_id or "")
    assert session["checkout_session"]["payment_status"] == "unpaid"


@pytest.mark.row("HC-C2")
def test_back_before_the_webhook_the_page_asks_by_itself(page: Page, office: Office):
    office.stripe.control.pause_webhooks()
    try:
        product = concert(payment_mode="HOSTED")
        go_to_stripes_page(page, product)
        fill_in_on_stripes_page(page)
        pay_there(page)
        page.wait_for_url("**/orders/**")
        expect(page.get_by_role("heading", level=1)).to_have_text("Confirming your purchase")
        expect_tickets(page, 1)
    finally:
        office.stripe.control.resume_webhooks()


@pytest.mark.row("HC-G1", "P4")
def test_stripe_away_the_tickets_are_kept_and_the_buyer_tries_again(page: Page, office: Office, shots: Path):
    product = concert(payment_mode="HOSTED")
    choose(page, product)
    page.get_by_role("link", name="Continue to details").click()
    office.stripe.control.add_fault("http_500_before", method="POST", path="/v1/checkout/sessions", count=0)
    give_details(page)
    expect(page.get_by_role("heading", name="Payment is paused")).to_be_visible(timeout=60_000)
    expect(page.locator("[data-countdown-left]")).to_contain_text(re.compile(r"2[345]:\d\d"))
    look(page, "desktop-hosted-paused", shots)
    assert order_on(page).payments.get().status == Payment.Status.NEW
    office.stripe.control.clear_faults()

    def is_on() -> bool:
        page.get_by_role("button", name=re.compile("Try again|Continue to payment")).click()
        return bool(ON_STRIPES_PAGE.search(page.url))

    wait_until(is_on, "Stripe's page opens again", seconds=120)
    fill_in_on_stripes_page(page)
    pay_there(page)
    expect_tickets(page, 1)


@pytest.fixture
def debit_stripe(office: Office) -> Iterator[SandboxProcess]:
    """The office with an account that takes bank debits."""
    webhooks = {"webhook_url": f"{office.base_url}/webhooks/stripe/", "webhook_secret": WEBHOOK_SECRET}
    with SandboxProcess(**webhooks, extra_arguments=("--payment-method-types", "card,sepa_debit")) as stripe:
        stripe.control.set_debit_seconds(3_600)
        there = {"STRIPE_API_BASE": stripe.api_base, "STRIPE_JS_URL": stripe.stripe_js_url}
        for role in ("web", "worker"):
            office.restart(role, **there)
        office.wait_until_ready()
        yield stripe
    for role in ("web", "worker"):
        office.restart(role)
    office.wait_until_ready()


@pytest.mark.row("HC-C16", "HC-D6")
def test_hc_c16_a_bank_that_takes_its_time(page: Page, office: Office, debit_stripe: SandboxProcess, shots: Path):
    """HC-C16: the page says that the bank decides, keeps the seat, and shows the tickets when it has."""
    product = concert(payment_mode="HOSTED", capacity=1)
    go_to_stripes_page(page, product)
    page.get_by_label("Bank debit").check()
    page.get_by_label(re.compile("Name on card|Full name")).fill("Ada Lovelace")
    page.get_by_label("IBAN").fill("DE89 3704 0044 0532 0130 00")
    fill_in_address(page)
    pay_there(page)
    page.wait_for_url("**/orders/**")
    order = newest_order(product)
    wait_until(lambda: order.payments.get().status == "PROCESSING", "we know that the bank decides")
    expect(page.get_by_text("Your bank is deciding").first).to_be_visible()
    look(page, "desktop-hosted-bank", shots)
    page.goto(f"/reservations/{order.reservation_id}/checkout/")
    page.wait_for_url("**/orders/**")  # there is nothing to pay
    debit_stripe.control.settle(order.payments.get().stripe_payment_intent_id or "")
    expect_tickets(page, 1)
