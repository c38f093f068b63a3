"""Promo codes at checkout: the buyer has an address now."""

from functools import partial

import pytest
from django.test import Client

from reservations.models import Order, PromoCode, Reservation
from tests.factories import ProductFactory, PromoCodeFactory
from tests.purchases import ask, check_out, line, order_of
from tests.races import at_once
from ticketing.models import Ticket

pytestmark = pytest.mark.django_db


def held_with(code: PromoCode, product, quantity: int = 1) -> str:
    answer = ask(Client(), product.event.slug, [line(product, quantity)], promo_code=code.code.lower())
    assert answer.status_code == 201, answer.content
    return answer.json()["id"]


@pytest.mark.row("T15", "H17")
def test_gross_discount_and_net_stand_on_each_line_of_the_order(client):
    """H17: 15 % of 3 x 24.99, unit by unit, and frozen: the code may change afterwards."""
    product = ProductFactory(price_minor=2499, free=False)
    code = PromoCodeFactory(event=product.event, percent_off=15)
    reservation = held_with(code, product, 3)
    PromoCode.objects.filter(pk=code.pk).update(percent_off=99, is_stopped=True)
    shown = client.get(f"/api/v1/reservations/{reservation}/").json()
    assert shown["promo_code"] == code.code
    assert shown["lines"][0]["discount"]["amount_minor"] == 3 * 375
    assert shown["total"]["amount_minor"] == 3 * (2499 - 375)
    assert ask(client, product.event.slug, [line(product)], promo_code=code.code).status_code == 400  # stopped now


@pytest.mark.row("T15")
def test_a_code_for_everything_makes_the_order_free_and_the_tickets_come_at_once(client):
    product = ProductFactory(price_minor=2499)
    code = PromoCodeFactory(event=product.event, percent_off=100)
    reservation = held_with(code, product, 2)
    answer = check_out(client, reservation)
    assert (answer.status_code, answer.json()["payment"]) == (201, None)
    order = order_of(reservation)
    assert (order.total_minor, order.status) == (0, Order.Status.PAID)
    assert [(entry.price_minor, entry.discount_minor) for entry in order.lines.all()] == [(2499, 2499)] * 2
    assert Ticket.objects.filter(order_line__order=order).count() == 2
    code.refresh_from_db()
    assert code.uses == 1


@pytest.mark.row("T15")
def test_the_limit_per_buyer_counts_by_address_at_checkout(client):
    """T15: whatever the case of the letters; the hold stays, so that another address, or none of the code, still works."""
    product = ProductFactory(price_minor=1000)
    code = PromoCodeFactory(event=product.event, percent_off=100, max_uses_per_buyer=1)
    assert check_out(client, held_with(code, product), email="ada@example.org").status_code == 201
    second = held_with(code, product)
    refused = check_out(client, second, email="ADA@example.org")
    assert (refused.status_code, refused.json()["code"]) == (409, "limit_exceeded")
    assert Reservation.objects.get(pk=second).status == "ACTIVE"
    assert check_out(client, second, email="grace@example.org").status_code == 201
    code.refresh_from_db()
    assert code.uses == 2


@pytest.mark.row("T15")
def test_the_page_says_so_too(client):
    product = ProductFactory(price_minor=1000)
    code = PromoCodeFactory(event=product.event, percent_off=100, max_uses_per_buyer=1)
    check_out(client, held_with(code, product), email="ada@example.org")
    second = held_with(code, product)
    page = client.post(f"/reservations/{second}/checkout/", {"email": "ada@example.org", "name": "Ada Lovelace"})
    assert page.status_code == 409
    assert code.code in page.content.decode()


@pytest.mark.row("T15")
@pytest.mark.django_db(transaction=True)
def test_two_orders_of_one_buyer_at_once_use_the_code_once():
    product = ProductFactory(price_minor=1000)
    code = PromoCodeFactory(event=product.event, percent_off=100, max_uses_per_buyer=1)
    reservations = [held_with(code, product) for _ in range(4)]
    answers = at_once([partial(check_out, Client(), reservation) for reservation in reservations])
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    assert Order.objects.count() == 1


@pytest.mark.row("T15")
def test_a_hold_that_is_given_back_frees_the_use(client):
    """T15: of the code in all, and of this buyer."""
    product = ProductFactory(price_minor=1000)
    code = PromoCodeFactory(event=product.event, percent_off=100, max_uses=1, max_uses_per_buyer=1)
    reservation = held_with(code, product)
    assert ask(client, product.event.slug, [line(product)], promo_code=code.code).json()["code"] == "limit_exceeded"
    assert client.delete(f"/api/v1/reservations/{reservation}/").status_code == 204
    assert check_out(client, held_with(code, product)).status_code == 201
