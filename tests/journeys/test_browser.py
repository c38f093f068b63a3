"""What a person does, in a real browser: every page on the way looked at by axe and photographed."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.db.models.functions import Now
from playwright.sync_api import Browser, Page, expect

from reservations.models import Order, Reservation
from tests.browsing import card_form, challenge, fill_card, look, open_context, open_page
from tests.factories import EventFactory, ProductFactory, QuotaFactory, SlotFactory
from tests.journeys.buying import choose, concert, expect_tickets, give_details, go_to_payment, pay
from tests.office import Office

pytestmark = [pytest.mark.office, pytest.mark.browser]


@pytest.fixture(params=["phone", "desktop"])
def size(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.row("C1", "P1", "T3", "T4", "C3")
def test_a_stranger_buys_two_tickets(browser: Browser, office: Office, shots: Path, size: str):
    complaints: list[str] = []
    context = open_context(browser, office.base_url, size, color_scheme="dark" if size == "phone" else "light")
    page, product = open_page(context, complaints), concert()
    page.goto("/")
    look(page, f"{size}-1-events", shots)
    page.get_by_role("link", name=re.compile(re.escape(product.event.name))).first.click()
    look(page, f"{size}-2-event", shots)
    choose(page, product, 2)
    expect(page.locator("[data-countdown-left]")).to_contain_text(re.compile(r"1[45]:\d\d"))
    look(page, f"{size}-3-basket", shots)
    page.get_by_role("link", name="Continue to details").click()
    look(page, f"{size}-4-details", shots)
    give_details(page)
    card_form(page).locator("input[name=number]").wait_for()
    look(page, f"{size}-5-pay", shots)
    fill_card(page, "4242 4242 4242 4242")
    pay(page)
    expect_tickets(page, 2)
    look(page, f"{size}-6-tickets", shots)
    page.locator("ol.order-tickets a").first.click()
    page.wait_for_url("**/tickets/**")
    look(page, f"{size}-7-ticket", shots)
    context.close()
    assert complaints == []


@pytest.mark.row("P1")
def test_a_declined_card_says_why_and_another_card_pays(page: Page, shots: Path):
    go_to_payment(page, concert())
    fill_card(page, "4000 0000 0000 9995")
    pay(page)
    expect(page.locator("#payment-error")).to_contain_text("insufficient funds")
    look(page, "desktop-5-declined", shots)
    fill_card(page, "4242 4242 4242 4242")
    pay(page)
    expect_tickets(page, 1)


@pytest.mark.row("P1")
@pytest.mark.parametrize("is_confirmed", [True, False])
def test_three_d_secure(page: Page, shots: Path, is_confirmed: bool):
    go_to_payment(page, concert())
    fill_card(page, "4000 0025 0000 3155")
    pay(page)
    window = challenge(page)
    window.get_by_role("button", name=re.compile("Complete")).wait_for()
    page.screenshot(path=shots / "desktop-5-three-d-secure.png")
    window.get_by_role("button", name=re.compile("Complete" if is_confirmed else "Fail")).click()
    if is_confirmed:
        expect_tickets(page, 1)
    else:
        expect(page.locator("#payment-error")).to_contain_text(re.compile("authenticat", re.IGNORECASE))
        expect(page.get_by_role("button", name=re.compile("^Pay "))).to_be_enabled()


@pytest.mark.row("T2")
def test_a_free_ticket_needs_no_payment(page: Page):
    choose(page, ProductFactory(free=True))
    page.get_by_role("link", name="Continue to details").click()
    give_details(page)
    expect_tickets(page, 1)


@pytest.mark.row("C1", "H4", "HC-A8")
def test_a_hold_that_ends_says_so_and_offers_another_try(page: Page, shots: Path):
    choose(page, concert())
    reservation_id = page.url.rstrip("/").rpartition("/")[2]
    Reservation.objects.filter(pk=reservation_id).update(expires_at="2020-01-01T00:00:00Z")
    page.reload()
    expect(page.get_by_text("Your hold has ended").first).to_be_visible()
    look(page, "desktop-3-ended", shots)
    page.get_by_role("link", name=re.compile("Try again|Choose again")).first.click()
    page.wait_for_url("**/events/**")


@pytest.mark.row("C1", "H5")
def test_the_countdown_runs_out_before_the_buyers_eyes(page: Page):
    """In server time: the page is loaded with two seconds left, and closes by itself."""
    choose(page, concert())
    reservation_id = page.url.rstrip("/").rpartition("/")[2]
    Reservation.objects.filter(pk=reservation_id).update(expires_at=Now() + timedelta(seconds=3))
    page.reload()
    expect(page.get_by_text("Your hold has ended").first).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("Add .* minutes"))).not_to_be_visible()


@pytest.mark.row("C1", "HC-C6")
def test_at_the_end_of_the_time_to_pay_nothing_false_is_said(page: Page, office: Office, shots: Path):
    """Paid in another window, webhook late: the page does not claim that nothing was charged."""
    office.stripe.control.pause_webhooks()
    try:
        go_to_payment(page, concert())
        reservation_id = page.url.rstrip("/").split("/")[-2]
        payment = Order.objects.get(reservation_id=reservation_id).payments.get()
        office.stripe.control.pay(payment.stripe_payment_intent_id or "")
        Reservation.objects.filter(pk=reservation_id).update(expires_at=Now() + timedelta(seconds=3))
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # the buyer comes back to this tab
        expect(page.get_by_role("heading", name="The time to pay is over")).to_be_visible()
        expect(page.get_by_text("nothing was charged")).to_have_count(0)
        page.get_by_role("link", name="See my order").click()
        expect_tickets(page, 1)
    finally:
        office.stripe.control.resume_webhooks()


@pytest.mark.row("H5")
def test_more_time_once(page: Page):
    choose(page, concert())
    page.get_by_role("button", name=re.compile("Add 10 minutes")).click()
    expect(page.locator("[data-countdown-left]")).to_contain_text(re.compile(r"2[45]:\d\d"))
    expect(page.get_by_role("button", name=re.compile("Add 10 minutes"))).to_have_count(0)


@pytest.mark.row("H16")
def test_a_slot_is_chosen(page: Page, shots: Path):
    event = EventFactory(name="Guided tour")
    slots = [SlotFactory(event=event) for _unused in range(3)]
    quotas = [QuotaFactory(event=event, slot=slot, capacity=1 + place * 5) for place, slot in enumerate(slots)]
    product = ProductFactory(event=event, name="Adult", quotas=quotas)
    page.goto(f"/events/{event.slug}/")
    page.locator(f"input[name=slot-{product.pk}][value='{slots[1].pk}']").check(force=True)
    page.locator(f"input[name=quantity-{product.pk}]").fill("2")
    look(page, "desktop-2-slots", shots)
    page.locator("form[action$='/hold/'] button:not([type=button])").last.click()
    page.wait_for_url("**/reservations/**")
    expect(page.locator("main")).to_contain_text(slots[1].when)


@pytest.mark.row("H1")
def test_too_many_keeps_the_choice_and_names_what_is_left(page: Page, shots: Path):
    product = ProductFactory(quotas__capacity=2, max_per_order=10)
    page.goto(f"/events/{product.event.slug}/")
    page.locator(f"input[name=quantity-{product.pk}]").evaluate("box => { box.removeAttribute('max'); box.value = 3 }")
    page.locator("form[action$='/hold/'] button:not([type=button])").last.click()
    expect(page.get_by_role("alert").first).to_contain_text(re.compile("2 .*left|left.* 2|only 2", re.IGNORECASE))
    expect(page.locator(f"input[name=quantity-{product.pk}]")).to_have_value("3")
    page.screenshot(path=shots / "desktop-2-conflict.png", full_page=True)


@pytest.mark.row("P4")
def test_stripe_away_the_page_says_payment_is_paused_and_goes_on_later(page: Page, office: Office, shots: Path):
    choose(page, concert())
    page.get_by_role("link", name="Continue to details").click()
    office.stripe.control.add_fault("http_500_before", method="POST", path="/v1/payment_intents", count=100)
    give_details(page)
    expect(page.get_by_role("heading", name="Payment is paused")).to_be_visible()
    page.screenshot(path=shots / "desktop-5-paused.png", full_page=True)
    office.stripe.control.clear_faults()
    page.get_by_role("button", name="Try again").click()
    # By then the breaker may be open: the page goes on trying.
    card_form(page).locator("input[name=number]").wait_for(timeout=90_000)
    fill_card(page, "4242 4242 4242 4242")
    pay(page)
    expect_tickets(page, 1)


@pytest.mark.row("H6")
def test_an_order_is_cancelled_by_its_buyer(page: Page, shots: Path):
    go_to_payment(page, concert())
    page.get_by_role("button", name=re.compile("Cancel this order")).click()
    page.wait_for_url("**/orders/**")
    expect(page.get_by_role("heading", level=1)).to_contain_text("cancelled")
    look(page, "desktop-6-cancelled", shots)


@pytest.mark.row("T8", "HC-C2")
def test_the_order_page_waits_for_a_late_webhook_and_then_asks_by_itself(page: Page, office: Office):
    """Webhooks held back: the page polls, then syncs, and shows the tickets without anybody pressing anything."""
    office.stripe.control.pause_webhooks()
    try:
        go_to_payment(page, concert())
        fill_card(page, "4242 4242 4242 4242")
        pay(page)
        page.wait_for_url("**/orders/**")
        expect(page.locator("[data-confirming-words]")).to_contain_text(re.compile(r"\(\d+/15\)"))
        expect(page.locator("ol.order-tickets > li")).to_have_count(1, timeout=60_000)
    finally:
        office.stripe.control.resume_webhooks()
    assert Order.objects.order_by("-pk").first().payments.get().settled_by == "sync"


@pytest.mark.row("C3")
def test_up_to_the_payment_it_works_without_javascript(browser: Browser, office: Office):
    context = open_context(browser, office.base_url, "phone", java_script_enabled=False)
    page, product = context.new_page(), concert()
    choose(page, product, 2)
    expect(page.locator("main")).to_contain_text("Held for you until")
    page.get_by_role("link", name="Continue to details").click()
    page.get_by_label("Name").fill("Ada")
    page.get_by_label("E-mail address").fill("not an address")
    page.get_by_role("button", name="Continue to payment").click()
    expect(page.get_by_role("alert").first).to_contain_text("E-mail address")
    expect(page.get_by_label("Name")).to_have_value("Ada")
    give_details(page)
    # Chromium, with scripts off by emulation, parses but does not show <noscript>.
    assert "Card payment needs JavaScript" in page.content()
    free = ProductFactory(free=True)
    choose(page, free)
    page.get_by_role("link", name="Continue to details").click()
    give_details(page)
    expect_tickets(page, 1)
    context.close()


@pytest.mark.row("C4")
def test_a_page_that_is_not_there_says_what_to_do(page: Page, shots: Path, office: Office):
    answer = page.request.get(f"{office.base_url}/tickets/nobody-has-this-secret/")
    assert answer.status == 404
    page.set_content(answer.text())
    assert answer.headers["x-request-id"] in page.content()
