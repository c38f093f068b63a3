"""The pages up to the payment, as a browser without JavaScript walks them."""

import math
import re
import uuid
from datetime import datetime, timedelta

import pytest
from django.db import transaction
from django.db.models.functions import Now
from django.test import Client

from reservations import demand, placement
from reservations.models import Conflict, LimitHit, Order, PromoCode, Reservation
from tests.factories import EventFactory, ProductFactory, QuotaFactory, SlotFactory
from tests.purchases import BUYER, end_time, hold, order_of, stock_of
from ticketing.models import Product

pytestmark = pytest.mark.django_db


def choose(client, product, quantity: object = 1, **more):
    form = {f"quantity-{product.pk}": str(quantity)} | more
    return client.post(f"/events/{product.event.slug}/hold/", form)


def place_order(reservation_id) -> Order:
    with transaction.atomic():
        return placement.place(reservation_id, **BUYER)[0]


@pytest.mark.row("H1")
def test_choosing_leads_to_the_basket(client):
    product = ProductFactory(price_minor=1250)
    answer = choose(client, product, 2)
    held = Reservation.objects.get()
    assert (answer.status_code, answer["Location"]) == (303, f"/reservations/{held.pk}/")
    assert len(held.buyer_key) == 22
    page = client.get(answer["Location"]).content.decode()
    assert "€25.00" in page
    assert product.name in page


@pytest.mark.row("H1", "H2")
def test_choosing_a_time(client):
    event = EventFactory()
    slot = SlotFactory(event=event)
    product = ProductFactory(event=event, quotas=[QuotaFactory(event=event, slot=slot)])
    without = choose(client, product)
    assert without.status_code == 400
    assert "choose a time" in without.content.decode()
    chosen = choose(client, product, **{f"slot-{product.pk}": str(slot.pk)})
    assert chosen.status_code == 303
    assert slot.when in client.get(chosen["Location"]).content.decode()


REFUSALS = {
    "sold out": ({"quotas__capacity": 2}, 3, "You asked for 3; there are 2 left."),
    "not on sale": ({"sale_ends_at": Now()}, 1, "not on sale now"),
    "limit": ({"max_per_order": 2}, 3, "At most 2"),
}


@pytest.mark.row("H1")
@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_shows_the_page_again_with_the_reason(client, case):
    """H1: 409, nothing taken, and no cookie, since nothing is held."""
    attributes, quantity, reason = REFUSALS[case]
    product = ProductFactory(**attributes)
    answer = choose(client, product, quantity)
    assert answer.status_code == 409
    assert reason in answer.content.decode()
    assert answer.cookies == {}
    assert stock_of(product) == (0, 0)


@pytest.mark.row("H5", "H6")
def test_the_baskets_buttons_extend_once_and_give_back_once(client):
    product = ProductFactory()
    held = hold(product)
    basket = f"/reservations/{held.id}/"
    assert "more time now" in client.post(f"{basket}extend/", follow=True).content.decode()
    assert "works once" in client.post(f"{basket}extend/", follow=True).content.decode()
    for _ in range(2):
        assert client.post(f"{basket}release/", follow=True).status_code == 200
    assert Reservation.objects.get().status == "RELEASED"
    assert stock_of(product) == (0, 0)


@pytest.mark.row("H5")
def test_looking_changes_nothing(client):
    """GET neither extends nor releases."""
    held = hold(ProductFactory())
    for action in ("extend", "release"):
        assert client.get(f"/reservations/{held.id}/{action}/").status_code == 405
    assert Reservation.objects.get().extended_at is None
    assert Reservation.objects.get().status == "ACTIVE"


@pytest.mark.row("T2")
def test_details_of_a_free_order_lead_to_its_tickets(client):
    held = hold(ProductFactory(free=True))
    address = f"/reservations/{held.id}/checkout/"
    for form in ({}, {"name": "Ada"}, BUYER | {"email": "nobody"}, BUYER | {"name": "x" * 151}):
        assert client.post(address, form).status_code == 400
    assert not Order.objects.exists()
    answer = client.post(address, BUYER)
    order = order_of(held.id)
    assert (answer.status_code, answer["Location"]) == (303, order.get_absolute_url())
    assert "Your ticket is here" in client.get(answer["Location"]).content.decode()
    assert client.get(address)["Location"] == order.get_absolute_url()


@pytest.mark.row("H4")
def test_an_ended_hold_leads_back_to_the_basket_that_says_so(client):
    held = hold(ProductFactory())
    end_time(held.id)
    address = f"/reservations/{held.id}/checkout/"
    for answer in (client.get(address), client.post(address, BUYER)):
        assert (answer.status_code, answer["Location"]) == (302, f"/reservations/{held.id}/")
    assert not Order.objects.exists()
    assert client.get(f"/reservations/{held.id}/").status_code == 200


@pytest.mark.row("H1")
@pytest.mark.parametrize("action", ["", "checkout/"])
def test_an_unknown_reservation_is_404(client, action):
    assert client.get(f"/reservations/00000000-0000-4000-8000-000000000000/{action}").status_code == 404


def test_names_are_escaped_wherever_they_are_shown(client):
    script = "<script>alert(1)</script>"
    product = ProductFactory(name=script, event__name=script, event__description=script, description=script)
    held = hold(product)
    for address in (
        "/",
        product.event.get_absolute_url(),
        f"/reservations/{held.id}/",
        f"/reservations/{held.id}/checkout/",
    ):
        assert script not in client.get(address).content.decode()


@pytest.mark.row("H1")
@pytest.mark.parametrize("quantity", ["1_0", "٣", "+1", "1.0", "-1", "9" * 30])
def test_only_plain_digits_are_a_quantity(client, quantity):
    product = ProductFactory()
    answer = client.post(f"/events/{product.event.slug}/hold/", {f"quantity-{product.pk}": quantity})
    assert answer.status_code == 400
    assert Reservation.objects.count() == 0


@pytest.mark.row("H1")
@pytest.mark.parametrize("quantity", ["1", "1_0", 1.0, True, None, [1]])
def test_the_api_takes_whole_json_numbers_only(client, quantity):
    product = ProductFactory()
    body = {"event": product.event.slug, "lines": [{"product": product.pk, "quantity": quantity}]}
    answer = client.post("/api/v1/reservations/", body, content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")


@pytest.mark.row("H6")
def test_what_had_expired_stays_expired_when_it_is_released(client):
    """The buyer was told "expired"; a late DELETE does not rewrite that."""
    held = hold(ProductFactory())
    Reservation.objects.filter(pk=held.id).update(expires_at="2020-01-01T00:00Z")
    assert client.delete(f"/api/v1/reservations/{held.id}/").status_code == 204
    assert client.get(f"/api/v1/reservations/{held.id}/").json()["status"] == "expired"


@pytest.mark.row("H14")
def test_who_is_told_sold_out_is_counted(client):
    product = ProductFactory(quotas__capacity=2)
    choose(client, product, 3)
    demand.flush()
    counted = Conflict.objects.get()
    assert (counted.product, counted.slot, counted.requests, counted.units) == (product, None, 1, 3)


@pytest.mark.row("H11")
def test_what_is_closed_is_on_the_page_but_neither_seen_nor_sent(client):
    """Scripts open it when it comes back; without them it cannot be chosen."""
    product = ProductFactory(quotas__capacity=0)
    page = client.get(product.event.get_absolute_url()).content.decode()
    field = re.search(rf'<input[^>]*name="quantity-{product.pk}"[^>]*>', page)[0]
    assert "disabled" in field
    assert '<div class="quantity" data-while-open hidden>' in page
    assert "Sold out" in page


@pytest.mark.row("C2")
class TestComingBack:
    """C2: the same browser finds what it holds; nobody else does."""

    def test_the_private_address_lists_what_this_browser_holds(self, client):
        product = ProductFactory(price_minor=1250, event__name="Night of strings")
        basket = choose(client, product, 2)["Location"]
        answer = client.get("/reservations/mine/")
        assert {"no-store", "private"} <= set(answer["Cache-Control"].replace(" ", "").split(","))
        (found,) = answer.json()["holds"]
        held = Reservation.objects.get()
        assert datetime.fromisoformat(found["expires_at"]) == held.expires_at
        assert timedelta(minutes=14) < held.expires_at - datetime.fromisoformat(found["server_time"])
        assert (found["event"], found["tickets"], found["status"], found["url"]) == (
            product.event.slug,
            2,
            "active",
            basket,
        )
        assert found["message"] == "You are holding 2 tickets for Night of strings"
        page = client.get("/reservations/").content.decode()
        assert "Night of strings" in page
        assert "€25.00" in page
        assert basket in page

    def test_an_order_that_waits_leads_to_its_payment(self, client):
        choose(client, ProductFactory())
        held = Reservation.objects.get()
        place_order(held.pk)
        (found,) = client.get("/reservations/mine/").json()["holds"]
        assert (found["status"], found["url"]) == ("ordered", f"/reservations/{held.pk}/checkout/")
        assert "not paid yet" in client.get("/reservations/").content.decode()

    @pytest.mark.parametrize("cookie", [None, "A" * 22, "'; DROP TABLE", ""])
    def test_other_browsers_find_nothing_and_need_not_ask_again(self, client, cookie):
        hold(ProductFactory())  # made without a browser: nobody's
        choose(Client(), ProductFactory())
        if cookie is not None:
            client.cookies["buyer"] = cookie
        client.cookies["holding"] = "1"
        answer = client.get("/reservations/mine/")
        assert answer.json() == {"holds": []}
        assert answer.cookies["holding"]["max-age"] == 0
        assert "holding nothing" in client.get("/reservations/").content.decode()

    def test_what_has_ended_is_not_found(self, client):
        choose(client, ProductFactory())
        end_time(Reservation.objects.get().pk)
        assert client.get("/reservations/mine/").json() == {"holds": []}

    def test_looking_costs_the_same_for_one_hold_and_for_three(self, client, django_assert_num_queries):
        for count in (1, 2):
            for _ in range(count):
                choose(client, ProductFactory())
            for address in ("/reservations/", "/reservations/mine/"):
                with django_assert_num_queries(2):
                    assert client.get(address).status_code == 200

    @pytest.mark.parametrize("address", ["/", "/events/{slug}/"])
    def test_pages_for_everybody_carry_the_way_to_ask_and_nothing_of_anybody(self, client, address):
        product = ProductFactory()
        path = address.format(slug=product.event.slug)
        before = Client().get(path).content
        client.cookies["buyer"] = "A" * 22
        client.cookies["holding"] = "1"
        assert client.get(path).content == before
        assert b'data-url="/reservations/mine/"' in before


@pytest.mark.row("HC-A7")
def test_a_second_choice_of_the_same_browser_joins_the_hold(client):
    """The same lines: just the basket. Others: the rule, with a way to choose again."""
    product = ProductFactory()
    other = ProductFactory(event=product.event)
    first = choose(client, product, 2)
    again = choose(client, product, 2)
    assert again["Location"] == first["Location"]
    assert "You already hold" not in client.get(again["Location"]).content.decode()
    for form in ((product, 3), (other, 2)):
        answer = choose(client, *form)
        assert answer["Location"] == first["Location"]
        page = client.get(answer["Location"]).content.decode()
        assert "You already hold these for this event. To choose others, give these back first." in page
        assert "Choose again" in page
    assert "You already hold" not in client.get(first["Location"]).content.decode()
    assert stock_of(product) == (2, 0)
    assert stock_of(other) == (0, 0)
    back = client.post(f"{first['Location']}release/", {"next": "choose"})
    assert (back.status_code, back["Location"]) == (302, product.event.get_absolute_url())
    assert choose(client, other)["Location"] != first["Location"]
    assert (stock_of(product), stock_of(other)) == ((0, 0), (1, 0))


@pytest.mark.row("HC-A7")
def test_another_browser_and_another_event_have_holds_of_their_own(client):
    product = ProductFactory()
    places = {choose(client, product)["Location"], choose(Client(), product)["Location"]}
    places.add(choose(client, ProductFactory())["Location"])
    assert len(places) == 3


def promo(product, code="SUMMER", **terms):
    return PromoCode.objects.create(event=product.event, code=code, **(terms or {"percent_off": 10}))


WRONG_CODES = {
    "unknown": ({}, "NOBODYS", 400, "We do not know this code"),
    "too long": ({}, "S" * 5_000, 400, "We do not know this code"),
    "not yet": ({"percent_off": 10, "starts_at": Now() + timedelta(hours=1)}, "SUMMER", 400, "not valid at the moment"),
    "over": ({"percent_off": 10, "ends_at": Now()}, "SUMMER", 400, "not valid at the moment"),
    "stopped": ({"percent_off": 10, "is_stopped": True}, "SUMMER", 400, "not valid at the moment"),
    "used up": ({"percent_off": 10, "max_uses": 0}, "SUMMER", 409, "used up"),
}


@pytest.mark.row("T15", "HC-K4")
@pytest.mark.parametrize("case", WRONG_CODES)
def test_a_code_that_does_not_work_keeps_the_choice_and_takes_nothing(client, case):
    terms, code, status, reason = WRONG_CODES[case]
    product = ProductFactory()
    promo(product, **terms)
    answer = choose(client, product, 2, code=code)
    page = answer.content.decode()
    assert answer.status_code == status
    assert page.count(reason) == 2  # above, and at its field
    assert 'aria-invalid="true" aria-describedby="promo-code-error promo-code-help"' in page
    assert re.search(rf'name="quantity-{product.pk}" value="2"', page)
    assert f'name="code" value="{code[:41]}"' in page
    assert stock_of(product) == (0, 0)


@pytest.mark.row("T15", "HC-K4")
def test_the_last_use_of_a_code_is_one_buyers(client):
    product = ProductFactory()
    promo(product, percent_off=10, max_uses=1)
    first, second = Client(), Client()
    taken = choose(first, product, code="summer")
    assert taken.status_code == 303
    assert "used up" in choose(second, product, code="summer").content.decode()
    first.post(f"{taken['Location']}release/")
    assert choose(second, product, code="summer").status_code == 303


@pytest.mark.row("T15")
def test_a_code_for_other_tickets_says_so(client):
    product = ProductFactory()
    other = ProductFactory(event=product.event)
    promo(product).products.set([other])
    assert "for other tickets" in choose(client, product, code="SUMMER").content.decode()
    assert choose(client, other, code="SUMMER").status_code == 303


@pytest.mark.row("T15", "H17")
@pytest.mark.parametrize(
    ("terms", "discount", "net"),
    [
        ({"percent_off": 25}, "−€16.00", "€48.00"),
        ({"amount_off_minor": 500}, "−€10.00", "€54.00"),
        ({"percent_off": 100}, "−€64.00", "Free"),
    ],
)
def test_gross_discount_and_net_are_shown_up_to_the_order(client, terms, discount, net):
    product = ProductFactory(price_minor=3200)
    promo(product, **terms)
    basket = choose(client, product, 2, code=" summer ")["Location"]
    held = Reservation.objects.get()
    places = [basket, f"{basket}checkout/"]
    if net == "Free":
        client.post(f"{basket}checkout/", BUYER)
    else:
        place_order(held.pk)
        places.append(f"{basket}checkout/")
    places.append(order_of(held.pk).get_absolute_url())
    for place in places[0 if net != "Free" else 2 :]:
        page = client.get(place).content.decode()
        for shown in ("€64.00", discount, "SUMMER", f'<span class="total__amount">{net}</span>'):
            assert shown in page, (place, shown)


@pytest.mark.row("T15", "T2")
def test_a_code_for_everything_needs_no_payment(client):
    product = ProductFactory(price_minor=3200)
    promo(product, percent_off=100)
    basket = choose(client, product, code="SUMMER")["Location"]
    assert "These tickets are free" in client.get(basket).content.decode()
    answer = client.post(f"{basket}checkout/", BUYER, follow=True)
    assert "Your ticket is here" in answer.content.decode()
    assert order_of(Reservation.objects.get().pk).status == "PAID"


@pytest.mark.row("T15")
def test_a_code_comes_too_late_for_a_hold_and_the_page_says_so(client):
    product = ProductFactory()
    promo(product)
    basket = choose(client, product)["Location"]
    page = client.get(choose(client, product, code="SUMMER")["Location"]).content.decode()
    assert "To use a promo code, give them back first" in page
    client.post(f"{basket}release/", {"next": "choose"})
    again = choose(client, product, code="summer")
    assert again["Location"] != basket
    assert "To use a promo code" not in client.get(choose(client, product, code="summer")["Location"]).content.decode()


@pytest.mark.row("T15", "C5")
def test_a_code_in_the_address_stands_in_the_field_and_the_page_can_be_kept(client):
    product = ProductFactory()
    address = product.event.get_absolute_url()
    assert 'name="code"' not in client.get(address).content.decode()  # no code exists: no field to wonder about
    code = '"><script>alert(1)</script>'
    answer = client.get(address, {"code": code})
    assert "public" in answer["Cache-Control"]
    assert not answer.cookies
    assert code not in answer.content.decode()
    assert "&quot;&gt;&lt;script&gt;" in answer.content.decode()
    promo(product)
    assert '<details class="promo" data-while-selling>' in client.get(address).content.decode()


@pytest.mark.row("HC-K3")
def test_a_price_that_staff_change_meanwhile_changes_no_hold(client):
    product = ProductFactory(price_minor=1250)
    basket = choose(client, product, 2)["Location"]
    Product.objects.update(price_minor=9900)
    for place in (basket, f"{basket}checkout/"):
        page = client.get(place).content.decode()
        assert "€25.00" in page
        assert "€198.00" not in page
    assert place_order(Reservation.objects.get().pk).total_minor == 2500


@pytest.mark.row("H13")
@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"HOLD_LIMIT_PER_BUYER": "2/m"}, "That was too often in a short time."),
        ({"HOLD_LIMIT_PER_ADDRESS": "2/h"}, "That was too often in a short time."),
        ({"HOLD_LIMIT_OVERALL": "2/m"}, "Very many people are here at this moment."),
    ],
)
def test_too_many_tries_are_told_how_long_to_wait(client, settings, limits, words):
    settings.RATE_LIMITS = True
    settings.SECRET_KEY = uuid.uuid4().hex  # counters of our own
    for name, value in ({"HOLD_LIMIT_PER_BUYER": "99/m", "HOLD_LIMIT_PER_ADDRESS": "99/m"} | limits).items():
        setattr(settings, name, value)
    client.cookies["buyer"] = "A" * 22
    product = ProductFactory()
    basket = choose(client, product, 2)["Location"]
    assert choose(client, product, 2)["Location"] == basket
    answer = choose(client, product, 2, code="SUMMER")
    page = answer.content.decode()
    wait = int(answer["Retry-After"])
    assert answer.status_code == 429
    assert words in page
    assert f"in {wait} second" in page or f"in {math.ceil(wait / 60)} minutes" in page
    assert re.search(rf'name="quantity-{product.pk}" value="2"', page)
    assert 'name="code" value="SUMMER"' in page
    demand.flush()
    hit = LimitHit.objects.get()
    assert (hit.limit, hit.hits) == (next(iter(limits)).lower().replace("hold_limit", "hold"), 1)
    assert Reservation.objects.count() == 1
