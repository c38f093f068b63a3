"""The buyer's pages in a real browser while others buy: what is left, what this browser holds, codes, and codes' prices."""

import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import requests
from django.db.models.functions import Now
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from reservations.models import PromoCode, Reservation
from tests.browsing import look, open_context, open_page
from tests.factories import EventFactory, ProductFactory, QuotaFactory, SlotFactory
from tests.journeys.shopper import Shopper
from tests.office import Office
from ticketing.models import Event, Product

pytestmark = [pytest.mark.office, pytest.mark.browser]

SOON_MS = 10_000  # three polls


@pytest.fixture
def windows(browser: Browser, office: Office) -> Iterator[Callable[..., BrowserContext]]:
    """Opens browsers of different buyers; closes them all."""
    opened: list[BrowserContext] = []

    def window(size: str = "desktop", **more) -> BrowserContext:
        opened.append(open_context(browser, office.base_url, size, **more))
        return opened[-1]

    yield window
    for context in opened:
        context.close()


@pytest.fixture
def page(windows) -> Iterator[Page]:
    complaints: list[str] = []
    yield open_page(windows(), complaints)
    assert complaints == []


@pytest.fixture
def others(office: Office) -> Shopper:
    """Everybody else."""
    return Shopper(office)


def visit(page: Page, product: Product, query: str = "") -> None:
    page.goto(f"/events/{product.event.slug}/{query}")
    page.evaluate("window.isSamePage = true")


def was_not_reloaded(page: Page) -> bool:
    return page.evaluate("window.isSamePage === true")


def offer(page: Page, product: Product) -> Locator:
    return page.locator(f"[data-offer='{product.pk}']")


def quantity(page: Page, product: Product) -> Locator:
    return page.locator(f"input[name=quantity-{product.pk}]")


def press_hold(page: Page) -> None:
    page.get_by_role("button", name="Hold these tickets").click()


def hold(page: Page, product: Product, count: int = 1) -> str:
    """Chooses and holds in the page that is open; the basket's address."""
    quantity(page, product).fill(str(count))
    press_hold(page)
    page.wait_for_url("**/reservations/*/")
    return page.url


def give_back(others: Shopper, held: requests.Response) -> None:
    requests.delete(f"{others.call}/reservations/{held.json()['id']}/", timeout=30).raise_for_status()


def hide(page: Page, *, is_hidden: bool) -> None:
    page.evaluate(
        """(value) => {
            Object.defineProperty(document, "hidden", { configurable: true, get: () => value });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        is_hidden,
    )


def let_pass(page: Page, seconds: int) -> None:
    """On the page's clock, second by second, so that answers arrive when they would."""
    for _unused in range(seconds):
        page.clock.run_for(1_000)
        page.wait_for_timeout(30)


@pytest.mark.row("H11")
def test_the_page_follows_what_others_do(page: Page, others: Shopper, shots: Path):
    """Few left, sold out, back again: without a reload, and without taking anything away."""
    product = ProductFactory(name="Floor", quotas__capacity=40, max_per_order=40)
    visit(page, product)
    here = offer(page, product)
    expect(quantity(page, product)).to_have_attribute("max", "40")
    others.hold(product, 35)
    expect(here.get_by_text("Only 5 left")).to_be_visible(timeout=SOON_MS)
    expect(quantity(page, product)).to_have_attribute("max", "5")
    held = others.hold(product, 5)
    expect(here.get_by_text("Sold out")).to_be_visible(timeout=SOON_MS)
    expect(quantity(page, product)).to_be_hidden()
    expect(page.get_by_role("button", name="Hold these tickets")).to_be_hidden()
    expect(page.get_by_role("heading", name="No tickets to buy at the moment")).to_be_visible()
    expect(page.locator("[data-choice-voice]")).to_have_text("Floor: Sold out.")
    look(page, "live-sold-out", shots)
    give_back(others, held)
    expect(quantity(page, product)).to_be_visible(timeout=SOON_MS)
    expect(page.get_by_role("heading", name="No tickets to buy at the moment")).to_be_hidden()
    assert was_not_reloaded(page)
    hold(page, product, 5)


@pytest.mark.row("H11", "C3")
def test_what_the_buyer_typed_is_kept_and_spoken_about(page: Page, others: Shopper, shots: Path):
    product = ProductFactory(name="Floor", quotas__capacity=6)
    ProductFactory(name="Balcony", event=product.event)
    visit(page, product)
    quantity(page, product).fill("4")
    others.hold(product, 4)
    problem = offer(page, product).get_by_role("status")
    expect(problem).to_have_text("You asked for 4; there are 2 left.", timeout=SOON_MS)
    expect(quantity(page, product)).to_have_value("4")
    look(page, "live-too-many", shots)
    others.hold(product, 2)
    expect(problem).to_have_text("None left just now.", timeout=SOON_MS)
    expect(quantity(page, product)).to_have_value("4")
    expect(quantity(page, product)).to_be_enabled()
    look(page, "live-none-left", shots)
    quantity(page, product).fill("0")
    expect(problem).to_have_text("")
    page.wait_for_timeout(4_000)
    expect(quantity(page, product)).to_be_focused()  # closing it now would throw the keyboard out of the form
    page.get_by_role("heading", level=1).click()
    expect(quantity(page, product)).to_be_hidden(timeout=SOON_MS)
    assert was_not_reloaded(page)


@pytest.mark.row("H11", "H16")
def test_times_sell_out_and_come_back(page: Page, others: Shopper, shots: Path):
    event = EventFactory()
    slots = [SlotFactory(event=event) for _unused in range(3)]
    product = ProductFactory(
        event=event, name="Adult", quotas=[QuotaFactory(event=event, slot=slot, capacity=5) for slot in slots]
    )
    visit(page, product)
    times = [page.locator(f"input[name=slot-{product.pk}][value='{slot.pk}']") for slot in slots]
    times[1].check(force=True)
    expect(quantity(page, product)).to_have_value("1")
    quantity(page, product).fill("2")
    held = [others.hold(product, 5, slot=slot.pk) for slot in slots[:2]]
    expect(times[0]).to_be_disabled(timeout=SOON_MS)
    expect(times[1]).to_be_checked()
    expect(offer(page, product).get_by_role("status")).to_have_text(f"{slots[1].when}: None left just now.")
    look(page, "live-times", shots)
    times[2].check(force=True)
    expect(offer(page, product).get_by_role("status")).to_have_text("")
    expect(times[1]).to_be_disabled()
    give_back(others, held[0])
    expect(times[0]).to_be_enabled(timeout=SOON_MS)
    expect(quantity(page, product)).to_have_value("2")
    assert was_not_reloaded(page)


@pytest.mark.row("H11", "H15")
def test_sales_that_open_or_stop_change_the_page_in_place(page: Page):
    product = ProductFactory(sale_starts_at=Now() + timedelta(hours=1))
    visit(page, product)
    expect(page.get_by_role("heading", name="Sales have not started yet")).to_be_visible()
    expect(offer(page, product).get_by_text("Not on sale yet")).to_be_visible()
    Product.objects.filter(pk=product.pk).update(sale_starts_at=None)
    expect(quantity(page, product)).to_be_visible(timeout=SOON_MS)
    Product.objects.filter(pk=product.pk).update(is_stopped=True)
    expect(offer(page, product).get_by_text("Not on sale")).to_be_visible(timeout=SOON_MS)
    expect(quantity(page, product)).to_be_hidden()
    Product.objects.filter(pk=product.pk).update(is_stopped=False)
    ProductFactory(event=product.event)
    expect(page.get_by_role("link", name="Show the new choice")).to_be_visible(timeout=SOON_MS)
    assert was_not_reloaded(page)
    page.get_by_role("link", name="Show the new choice").click()
    expect(page.locator("[data-offer]")).to_have_count(2)


@pytest.mark.row("H11")
def test_an_event_that_is_taken_off_is_not_asked_about_any_more(windows):
    page, product = windows().new_page(), ProductFactory()
    visit(page, product)
    Event.objects.filter(pk=product.event_id).update(status=Event.Status.DRAFT)
    expect(page.get_by_text("The tickets on offer have changed.")).to_be_visible(timeout=SOON_MS)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(4_000)
    assert asked == []


@pytest.mark.row("H11")
def test_what_has_not_changed_costs_an_empty_answer(page: Page):
    """The browser's own cache sends the tag along."""
    answers: list[int] = []
    asked_with: list[str] = []
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.on(
        "Network.responseReceivedExtraInfo",
        lambda seen: (
            answers.append(seen["statusCode"]) if "etag" in {name.lower() for name in seen["headers"]} else None
        ),
    )
    session.on(
        "Network.requestWillBeSentExtraInfo",
        lambda seen: (
            asked_with.append(seen["headers"].get("Cookie", "")) if seen["headers"].get("If-None-Match") else None
        ),
    )
    visit(page, ProductFactory())
    page.wait_for_timeout(11_000)
    assert answers.count(304) >= 2, answers
    assert set(asked_with) == {""}


@pytest.mark.row("H11")
def test_a_hidden_tab_does_not_ask_and_asks_at_once_when_it_is_shown(page: Page):
    asked: list[float] = []
    page.on("request", lambda request: asked.append(time.monotonic()) if "availability" in request.url else None)
    visit(page, ProductFactory())
    page.wait_for_timeout(4_000)
    assert len(asked) == 1
    hide(page, is_hidden=True)
    page.wait_for_timeout(7_000)
    assert len(asked) == 1
    hide(page, is_hidden=False)
    page.wait_for_timeout(500)
    assert len(asked) == 2


@pytest.mark.row("H11")
def test_errors_make_it_ask_less_often_and_then_it_goes_on(page: Page):
    asked: list[str] = []
    page.clock.install()
    page.route("**/availability/", lambda route: (asked.append(route.request.url), route.fulfill(status=503))[1])
    product = ProductFactory(quotas__capacity=40)
    visit(page, product)
    for seconds, count in ((2, 0), (2, 1), (4, 1), (4, 2), (7, 2), (7, 3), (19, 3), (7, 4)):
        let_pass(page, seconds)
        assert len(asked) == count, (seconds, count, asked)
    page.unroute("**/availability/")
    Product.objects.filter(pk=product.pk).update(is_stopped=True)
    let_pass(page, 34)
    expect(offer(page, product).get_by_text("Not on sale")).to_be_visible()


@pytest.mark.row("C2")
@pytest.mark.parametrize("size", ["phone", "desktop"])
def test_who_comes_back_finds_the_hold_with_the_time_it_really_has(windows, shots: Path, size: str):
    product = ProductFactory(name="Floor", event__name="Night of strings")
    first = windows(size)
    page = first.new_page()
    visit(page, product)
    address = hold(page, product, 2)
    Reservation.objects.filter(pk=address.rstrip("/").rpartition("/")[2]).update(
        expires_at=Now() + timedelta(minutes=4, seconds=30)
    )
    kept = first.storage_state()
    first.close()
    complaints: list[str] = []
    page = open_page(windows(size, storage_state=kept, color_scheme="dark"), complaints)
    for path in ("/", f"/events/{product.event.slug}/"):
        page.goto(path)
        banner = page.get_by_role("region", name="Your holds")
        expect(banner).to_contain_text("You are holding 2 tickets for Night of strings")
        expect(banner.get_by_role("timer")).to_have_text(re.compile(r"04:[12]\d"))
        look(page, f"{size}-returning-{'event' if 'events' in path else 'list'}", shots)
    expect(page.locator("[data-your-holds-voice]")).to_contain_text("Minutes left: 5")
    page.get_by_role("link", name=re.compile("^Continue")).click()
    assert page.url == address
    page.goto("/")
    page.get_by_role("link", name="My holds").click()
    expect(page.get_by_role("link", name=re.compile("^Continue"))).to_be_visible()
    look(page, f"{size}-my-holds", shots)
    assert complaints == []


@pytest.mark.row("C2")
def test_who_holds_nothing_is_not_asked_about(page: Page):
    """A stranger on a hot page costs no private request."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    visit(page, ProductFactory())
    page.wait_for_timeout(500)
    assert not any("/reservations/mine/" in url for url in asked)


@pytest.mark.row("C2")
def test_the_banner_says_when_the_time_is_over(page: Page):
    product = ProductFactory(event__name="Night of strings")
    visit(page, product)
    address = hold(page, product)
    Reservation.objects.filter(pk=address.rstrip("/").rpartition("/")[2]).update(
        expires_at=Now() + timedelta(seconds=4)
    )
    visit(page, product)
    banner = page.get_by_role("region", name="Your holds")
    expect(banner).to_contain_text("Your hold for Night of strings has ended. Nothing was charged.")
    expect(banner.get_by_role("link")).to_have_count(0)
    visit(page, product)
    expect(page.locator("[data-offer]")).to_be_visible()
    expect(banner).to_be_hidden()


@pytest.mark.row("HC-A7")
def test_a_second_tab_joins_the_hold_and_is_told_the_rule(windows, shots: Path):
    product = ProductFactory(name="Floor")
    context = windows()
    one, two, three = (context.new_page() for _unused in range(3))
    for tab in (one, two, three):
        visit(tab, product)
    address = hold(one, product, 2)
    assert hold(two, product, 2) == address
    expect(two.get_by_text("You already hold these")).to_have_count(0)
    assert hold(three, product, 3) == address
    expect(three.get_by_text("You already hold these for this event.")).to_be_visible()
    look(three, "desktop-joined", shots)
    assert Reservation.objects.filter(event=product.event).count() == 1
    three.get_by_role("button", name="Choose again").click()
    three.wait_for_url(f"**/events/{product.event.slug}/")
    assert hold(three, product, 3) != address
    statuses = Reservation.objects.filter(event=product.event).order_by("created_at").values_list("status", flat=True)
    assert list(statuses) == ["RELEASED", "ACTIVE"]


@pytest.mark.row("HC-A7")
def test_a_double_click_holds_once_and_the_way_back_is_open(page: Page):
    product = ProductFactory()
    visit(page, product)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    quantity(page, product).fill("2")
    page.get_by_role("button", name="Hold these tickets").dblclick()
    page.wait_for_url("**/reservations/*/")
    address = page.url
    assert len(sent) == 1
    assert Reservation.objects.filter(event=product.event).count() == 1
    page.go_back()
    expect(page.get_by_role("region", name="Your holds")).to_be_visible()
    press_hold(page)
    page.wait_for_url("**/reservations/*/")
    assert page.url == address


@pytest.mark.row("T15", "H17", "C3")
@pytest.mark.parametrize("size", ["phone", "desktop"])
def test_a_code_from_a_newsletter_takes_its_discount_all_the_way(windows, shots: Path, size: str):
    complaints: list[str] = []
    page = open_page(windows(size, color_scheme="dark" if size == "phone" else "light"), complaints)
    product = ProductFactory(name="Floor", price_minor=3200, event__name="Night of strings")
    PromoCode.objects.create(event=product.event, code="SUMMER", percent_off=25)
    visit(page, product, "?code=summer")
    expect(page.get_by_label("Promo code")).to_have_value("summer")
    quantity(page, product).fill("2")
    expect(page.get_by_text("Before the discount, which you see on the next page.")).to_be_visible()
    look(page, f"{size}-code-event", shots)
    hold(page, product, 2)
    for place in ("basket", "details", "pay"):
        summary = page.get_by_role("region", name="Night of strings")
        for amount in ("€64.00", "−€16.00", "€48.00", "SUMMER"):
            expect(summary.get_by_text(amount).first).to_be_visible()
        look(page, f"{size}-code-{place}", shots)
        if place == "basket":
            page.get_by_role("link", name="Continue to details").click()
        elif place == "details":
            page.get_by_label("Name").fill("Ada Lovelace")
            page.get_by_label("E-mail address").fill("ada@example.org")
            page.get_by_role("button", name="Continue to payment").click()
            expect(page.get_by_role("button", name="Pay €48.00")).to_be_visible()
    assert complaints == []


@pytest.mark.row("T15", "T2")
def test_a_code_for_everything_makes_the_order_free(page: Page, shots: Path):
    product = ProductFactory(name="Floor", price_minor=3200)
    PromoCode.objects.create(event=product.event, code="GUEST", percent_off=100, max_uses=1)
    visit(page, product)
    page.get_by_text("I have a promo code").click()
    page.get_by_label("Promo code").fill("guest")
    hold(page, product)
    page.get_by_role("link", name="Continue to details").click()
    page.get_by_label("Name").fill("Ada Lovelace")
    page.get_by_label("E-mail address").fill("ada@example.org")
    page.get_by_role("button", name="Get tickets").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Your ticket is here")
    look(page, "desktop-code-free", shots)
    expect(page.locator(".summary").get_by_text("GUEST")).to_be_visible()


@pytest.mark.row("T15", "HC-K4", "C3")
def test_a_code_that_does_not_work_says_so_at_its_field(page: Page, shots: Path):
    product = ProductFactory(name="Floor", price_minor=3200)
    PromoCode.objects.create(event=product.event, code="LAST", amount_off_minor=500, max_uses=0)
    visit(page, product)
    page.get_by_text("I have a promo code").click()
    page.get_by_label("Promo code").fill("LAST")
    quantity(page, product).fill("2")
    press_hold(page)
    expect(page.get_by_role("alert")).to_contain_text("used up")
    field = page.get_by_role("textbox", name="Promo code")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_value("LAST")
    expect(quantity(page, product)).to_have_value("2")
    look(page, "desktop-code-used-up", shots)
    page.get_by_role("alert").get_by_role("link").click()
    expect(field).to_be_focused()


@pytest.mark.row("H11", "C1")
def test_when_the_time_is_over_it_says_whether_the_tickets_are_still_there(page: Page, others: Shopper, shots: Path):
    product = ProductFactory(name="Floor", quotas__capacity=2)
    visit(page, product)
    address = hold(page, product, 2)
    Reservation.objects.filter(pk=address.rstrip("/").rpartition("/")[2]).update(
        expires_at=Now() + timedelta(seconds=3)
    )
    page.reload()
    expect(page.get_by_text("Right now they are still there.")).to_be_visible()
    others.hold(product, 1)
    expect(page.get_by_text("some of them are still there")).to_be_visible(timeout=SOON_MS)
    others.hold(product, 1)
    expect(page.get_by_text("Right now they are gone.")).to_be_visible(timeout=SOON_MS)
    look(page, "desktop-ended-and-gone", shots)


@pytest.mark.row("H13", "C3")
def test_too_many_tries_are_told_how_long_to_wait(windows, office: Office, shots: Path):
    office.restart("web", RATE_LIMITS="on", HOLD_LIMIT_PER_ADDRESS="1/m")
    try:
        office.wait_until_ready()
        page, product = windows("phone").new_page(), ProductFactory(name="Floor")
        visit(page, product)
        hold(page, product, 2)
        visit(page, product)
        quantity(page, product).fill("2")
        press_hold(page)
        expect(page.get_by_role("alert")).to_contain_text("Please wait a moment")
        expect(page.get_by_role("alert")).to_contain_text(re.compile(r"try again in \d+ seconds?"))
        expect(quantity(page, product)).to_have_value("2")
        look(page, "phone-too-often", shots)
    finally:
        office.restart("web")
        office.wait_until_ready()
