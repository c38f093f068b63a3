"""The pages up to the payment, as a browser without JavaScript walks them."""

import pytest
from django.db.models.functions import Now

from reservations.models import Order, Reservation
from tests.factories import EventFactory, ProductFactory, QuotaFactory, SlotFactory
from tests.purchases import BUYER, end_time, hold, order_of, stock_of

pytestmark = pytest.mark.django_db


def choose(client, product, quantity: object = 1, **more):
    form = {f"quantity-{product.pk}": str(quantity)} | more
    return client.post(f"/events/{product.event.slug}/hold/", form)


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
