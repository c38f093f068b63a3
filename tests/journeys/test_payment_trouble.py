"""Payments that go wrong, as their buyer sees them: outages, ends in the middle of something, money that goes back."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.db.models.functions import Now
from playwright.sync_api import Browser, Page, expect

from payments import expiry
from payments.models import Refund
from reservations.models import Order, Reservation
from tests.browsing import card_form, challenge, fill_card, look, open_context, open_page
from tests.factories import ProductFactory
from tests.journeys.buying import (
    choose,
    concert,
    expect_tickets,
    give_details,
    go_to_payment,
    newest_order,
    order_on,
    pay,
    wait_until,
)
from tests.journeys.shopper import Shopper
from tests.office import Office

pytestmark = [pytest.mark.office, pytest.mark.browser]

CANCELLING = "/v1/payment_intents/*/cancel"


def end(order: Order) -> None:
    Reservation.objects.filter(pk=order.reservation_id).update(expires_at=Now() - timedelta(seconds=1))


@pytest.mark.row("HC-C14", "HC-A8", "H9")
def test_hc_c14_the_hold_ends_while_the_bank_asks(page: Page, office: Office, shots: Path):
    """HC-C14: not charged, the seat is the next buyer's, and the page says so by itself."""
    product = concert(capacity=1)
    go_to_payment(page, product)
    order = order_on(page)
    fill_card(page, "4000 0025 0000 3155")
    pay(page)
    challenge(page).get_by_role("button", name=re.compile("Complete")).wait_for()
    end(order)
    wait_until(lambda: Order.objects.get(pk=order.pk).status == "CANCELLED", "the sweep closes it")
    challenge(page).get_by_role("button", name=re.compile("Complete")).click()
    expect(page.get_by_role("heading", name="This order is closed")).to_be_visible()
    expect(page.get_by_text("You were not charged")).to_be_visible()
    look(page, "desktop-trouble-closed", shots)
    page.get_by_role("link", name="See my order").last.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("The time to pay is over")
    expect(page.get_by_role("heading", name="You were not charged")).to_be_visible()
    look(page, "desktop-trouble-too-late", shots)
    payment = order.payments.get()
    assert (
        office.stripe.control.payment(payment.stripe_payment_intent_id or "")["payment_intent"]["status"] == "canceled"
    )
    assert Shopper(office).hold(product).status_code == 201


@pytest.mark.row("HC-C14", "HC-A8")
def test_hc_a8_the_time_runs_out_before_the_banks_window_is_answered(page: Page, office: Office):
    """HC-A8: nobody presses anything: the page itself goes where the buyer is told."""
    product = concert(capacity=1)
    go_to_payment(page, product)
    order = order_on(page)
    Reservation.objects.filter(pk=order.reservation_id).update(expires_at=Now() + timedelta(seconds=20))
    page.reload()
    card_form(page).locator("input[name=number]").wait_for()
    fill_card(page, "4000 0025 0000 3155")
    pay(page)
    challenge(page).get_by_role("button", name=re.compile("Complete")).wait_for()
    page.wait_for_url("**/orders/**", timeout=90_000)
    expect(page.get_by_role("heading", name="You were not charged")).to_be_visible()
    assert Shopper(office).hold(product).status_code == 201


@pytest.mark.row("HC-B7")
def test_hc_b7_the_basket_was_given_back_in_another_tab(page: Page, shots: Path):
    """HC-B7: the first tab says so, and that nothing was charged."""
    go_to_payment(page, concert())
    fill_card(page, "4242 4242 4242 4242")
    second = page.context.new_page()
    second.goto(page.url)
    second.get_by_role("button", name=re.compile("Cancel this order")).click()
    expect(second.get_by_role("heading", level=1)).to_contain_text("cancelled")
    pay(page)
    expect(page.get_by_role("heading", name="This order is closed")).to_be_visible()
    expect(page.get_by_text("in another tab")).to_be_visible()
    expect(page.get_by_text("You were not charged")).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("^Pay "))).not_to_be_visible()
    look(page, "desktop-trouble-other-tab", shots)


@pytest.mark.row("HC-G1", "P4", "PF13")
@pytest.mark.parametrize(("size", "scheme"), [("phone", "dark")])
def test_hc_g1_stripe_out_of_reach_the_seats_are_kept_and_it_goes_on_by_itself(
    browser: Browser, office: Office, shots: Path, size: str, scheme: str
):
    """HC-G1: nobody presses anything between the outage and the card form."""
    context = open_context(browser, office.base_url, size, color_scheme=scheme)
    page, product = open_page(context, []), concert(capacity=1)  # Chromium complains of each refused connection
    choose(page, product)
    page.get_by_role("link", name="Continue to details").click()
    office.stripe.control.refuse_connections()
    give_details(page)
    expect(page.get_by_role("heading", name="Payment is paused")).to_be_visible(timeout=90_000)
    expect(page.locator("#retry-words")).to_contain_text(re.compile(r"again by ourselves in \d+ s"))
    look(page, f"{size}-trouble-paused", shots)
    expect(page.locator("[data-countdown-left]")).to_contain_text(re.compile(r"2[345]:\d\d"))
    order = newest_order(product)
    kept = Reservation.objects.get(pk=order.reservation_id)
    assert kept.kept_at is not None
    assert kept.extended_at is None
    assert Shopper(office).hold(product).status_code == 409
    office.stripe.control.clear_faults()
    card_form(page).locator("input[name=number]").wait_for(timeout=120_000)
    fill_card(page, "4242 4242 4242 4242")
    pay(page)
    expect_tickets(page, 1)
    context.close()
    assert order.payments.count() == 1


@pytest.mark.row("P1")
def test_the_bank_learns_who_pays(page: Page, office: Office):
    """What a lost order is rebuilt from."""
    product = concert()
    go_to_payment(page, product)
    fill_card(page, "4242 4242 4242 4242")
    pay(page)
    expect_tickets(page, 1)
    intent = newest_order(product).payments.get().stripe_payment_intent_id or ""
    told = office.stripe.control.payment(intent)["charges"][0]["billing_details"]
    assert (told["name"], told["email"]) == ("Ada Lovelace", "ada@example.org")


@pytest.mark.row("P10", "HC-D5", "HC-D2", "HC-D10")
@pytest.mark.parametrize(("size", "scheme"), [("phone", "light"), ("desktop", "dark")])
def test_hc_d2_late_money_goes_back_before_the_buyers_eyes(
    browser: Browser, office: Office, shots: Path, size: str, scheme: str
):
    """HC-D2: released by force, sold to another, paid late, refunded: each is said, the page following by itself."""
    complaints: list[str] = []
    context = open_context(browser, office.base_url, size, color_scheme=scheme)
    page, product = open_page(context, complaints), ProductFactory(quotas__capacity=1)
    shopper = Shopper(office)
    office.stripe.control.add_fault("http_500_before", method="POST", path=CANCELLING, count=0)
    office.stripe.control.set_balance(sufficient=False)
    try:
        placed = shopper.order(product)
        order = newest_order(product)
        end(order)
        expiry.force_release(order.pk, by="staff:1", why="a test")
        page.goto(order.get_absolute_url())
        expect(page.get_by_role("heading", level=1)).to_have_text("The time to pay is over")
        expect(page.get_by_role("heading", name="Please do not pay again")).to_be_visible()
        expect(page.get_by_text("not charged")).to_have_count(0)
        look(page, f"{size}-trouble-unheard", shots)
        assert shopper.hold(product).status_code == 201
        shopper.pay(placed)
        wait_until(lambda: Refund.objects.filter(payment__order=order).exists(), "the webhook refunds it")
        page.reload()
        expect(page.get_by_role("heading", level=1)).to_have_text("Your money is on its way back")
        expect(page.get_by_text("after the time to pay")).to_be_visible()
        look(page, f"{size}-trouble-refunding", shots)
        wait_until(lambda: Refund.objects.get(payment__order=order).stripe_refund_id is not None, "Stripe has it")
        office.stripe.control.set_balance(sufficient=True)
        expect(page.get_by_role("heading", level=1)).to_have_text("Your money was sent back", timeout=60_000)
        look(page, f"{size}-trouble-refunded", shots)
    finally:
        office.stripe.control.set_balance(sufficient=True)
    context.close()
    assert complaints == []


@pytest.mark.row("HC-B10", "P10")
def test_hc_b10_who_paid_twice_sees_tickets_and_what_goes_back(page: Page, office: Office, shots: Path):
    """HC-B10: the tickets first, and a word about the second payment."""
    shopper = Shopper(office)
    placed = shopper.buy(concert())
    order = Order.objects.get(code=placed["order"]["code"])
    first = order.payments.get()
    again = shopper.stripe.v1.payment_intents.create(first.request_params)
    office.stripe.control.pay(again.id)
    wait_until(lambda: Refund.objects.filter(payment__order=order, status="SUCCEEDED").exists(), "the second goes back")
    page.goto(order.get_absolute_url())
    expect_tickets(page, 1)
    expect(page.get_by_role("heading", name="You paid twice")).to_be_visible()
    expect(page.get_by_text("Your tickets are not affected")).to_be_visible()
    look(page, "desktop-trouble-twice", shots)
