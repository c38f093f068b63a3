"""A buyer's hands in the browser: choosing, giving details, paying on our page or on Stripe's."""

import re
import time
import uuid
from collections.abc import Callable

from playwright.sync_api import Page, expect

from reservations.models import Order
from tests.browsing import card_form
from tests.factories import EventFactory, ProductFactory, QuotaFactory
from ticketing.models import Product


def concert(*, capacity: int = 100, **event_facts: object) -> Product:
    event = EventFactory(
        name=f"Night of strings {uuid.uuid4().hex[:6]}",
        summary="An evening of slow light.",
        description="With an interval.",
        venue_name="Harbour Hall",
        venue_address="Kaistrasse 4, Hamburg",
        **event_facts,
    )
    hall = QuotaFactory(event=event, name="Hall", capacity=capacity)
    ProductFactory(event=event, name="Balcony", price_minor=4500, quotas=[hall], position=1)
    return ProductFactory(
        event=event, name="Floor", price_minor=3200, quotas=[hall, QuotaFactory(event=event, capacity=60)]
    )


def choose(page: Page, product: Product, quantity: int = 1) -> None:
    page.goto(f"/events/{product.event.slug}/")
    page.locator(f"input[name=quantity-{product.pk}]").fill(str(quantity))
    page.locator("form[action$='/hold/'] button:not([type=button])").last.click()
    page.wait_for_url("**/reservations/**")


def give_details(page: Page) -> None:
    page.get_by_label("Name").fill("Ada Lovelace")
    page.get_by_label("E-mail address").fill("ada@example.org")
    page.get_by_role("button", name=re.compile("Continue to payment|Get tickets")).click()


def go_to_payment(page: Page, product: Product, quantity: int = 1) -> None:
    choose(page, product, quantity)
    page.get_by_role("link", name="Continue to details").click()
    give_details(page)
    card_form(page).locator("input[name=number]").wait_for()


def pay(page: Page) -> None:
    page.get_by_role("button", name=re.compile("^Pay ")).click()


def expect_tickets(page: Page, count: int) -> None:
    page.wait_for_url("**/orders/**")
    expect(page.get_by_role("heading", level=1)).to_contain_text(
        re.compile("Your tickets? (is|are) here"), timeout=60_000
    )
    expect(page.locator("ol.order-tickets > li")).to_have_count(count, timeout=60_000)


ON_STRIPES_PAGE = re.compile("/c/pay/cs_")


def go_to_stripes_page(page: Page, product: Product, quantity: int = 1) -> None:
    """For events that are paid there."""
    choose(page, product, quantity)
    page.get_by_role("link", name="Continue to details").click()
    give_details(page)
    page.wait_for_url(ON_STRIPES_PAGE)


def fill_in_on_stripes_page(page: Page, number: str = "4242424242424242") -> None:
    page.get_by_label(re.compile("Name on card|Full name")).fill("Ada Lovelace")
    page.get_by_label("Card number").fill(number)
    page.get_by_label("Expiration date").fill("12 / 34")
    page.get_by_label("Security code").fill("123")
    fill_in_address(page)


def fill_in_address(page: Page) -> None:
    page.get_by_label("Street and number").fill("Kaistrasse 4")
    page.get_by_label("Postal code").fill("20457")
    page.get_by_label("City").fill("Hamburg")
    page.get_by_label("Country or region").select_option("DE")


def order_on(page: Page) -> Order:
    """The order of a reservation's page or of an order's own."""
    parts = page.url.split("?")[0].strip("/").split("/")
    if "orders" in parts:
        return Order.objects.get(code=parts[parts.index("orders") + 1])
    return Order.objects.get(reservation_id=parts[parts.index("reservations") + 1])


def newest_order(product: Product) -> Order:
    return Order.objects.filter(event=product.event).latest("pk")


def wait_until(is_so: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not in {seconds} s: {what}"
        time.sleep(0.2)
