"""Checkout, asking Stripe and cancelling are limited, in the contract's words and on pages in people's (H13)."""

import uuid

import pytest
from django.test import Client

from config import rate_limits
from reservations.models import Order
from tests.factories import ProductFactory
from tests.payments.posting import deliver, events_of
from tests.purchases import BUYER, check_out, hold, order_of, ordered
from tests.redis_faults import forget, nobody

pytestmark = [pytest.mark.row("H13"), pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def _limits(settings):
    """Two a day of everything; counters of this test's own."""
    settings.RATE_LIMITS = True
    settings.SECRET_KEY = uuid.uuid4().hex
    settings.CHECKOUT_LIMIT_PER_BUYER = settings.SYNC_LIMIT_PER_ADDRESS = "2/d"
    settings.CHECKOUT_LIMIT_PER_ADDRESS = "3/d"
    forget()
    yield
    forget()


def browser(number: int, **more: str) -> Client:
    client = Client(**more)
    client.cookies[rate_limits.BUYER_COOKIE] = f"{number:022d}"
    return client


def test_the_third_checkout_is_refused(client, sandbox):
    held = hold(ProductFactory())
    assert [check_out(client, held.id).status_code for _ in range(2)] == [201, 200]
    answer = check_out(client, held.id)
    assert answer.status_code == 429
    assert answer.json() == {
        "code": "rate_limited",
        "message": "That was too often in a short time. Please try again in 24 hours.",
    }
    assert 86_000 < int(answer["Retry-After"]) <= 86_400
    assert answer["X-Request-ID"]


def test_a_refused_checkout_changes_nothing_and_others_are_served(client, sandbox):
    held = hold(ProductFactory())
    for _ in range(3):
        check_out(client, uuid.uuid4())
    assert check_out(client, held.id).status_code == 429
    assert not Order.objects.exists()
    assert check_out(Client(REMOTE_ADDR="192.0.2.9"), held.id).status_code == 201


def test_buyers_behind_one_address_have_limits_of_their_own_and_share_the_addresss(sandbox):
    held = [hold(ProductFactory()).id for _ in range(4)]
    one, two = browser(1), browser(2)
    assert [check_out(one, of).status_code for of in held[:3]] == [201, 201, 429]
    assert [check_out(two, of).status_code for of in held[2:]] == [201, 429]


def test_a_forged_address_does_not_help(client, sandbox):
    held = hold(ProductFactory())
    address = f"/api/v1/reservations/{held.id}/checkout/"
    answers = [
        client.post(address, BUYER, content_type="application/json", headers={"X-Forwarded-For": f"192.0.2.{number}"})
        for number in range(3)
    ]
    assert [answer.status_code for answer in answers] == [201, 200, 429]


def test_the_page_keeps_what_was_typed_and_says_how_long_to_wait(client, sandbox):
    held = hold(ProductFactory())
    address = f"/reservations/{held.id}/checkout/"
    for _ in range(2):
        assert client.post(address, {"name": "", "email": ""}).status_code == 400
    answer = client.post(address, BUYER)
    assert answer.status_code == 429
    assert answer["Retry-After"]
    text = answer.content.decode()
    assert "Please try again in 24 hours." in text
    assert f'value="{BUYER["email"]}"' in text
    assert client.get(address).status_code == 200, "looking is not limited"
    assert not Order.objects.exists()


def test_asking_stripe_is_limited_by_address(client, sandbox):
    order, _payment = ordered(client, ProductFactory())
    address = order.address_of("payments:api-sync")
    answers = [client.post(address, content_type="application/json") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json()["code"] == "rate_limited"
    assert client.get(order.address_of("payments:api-status")).status_code == 200, "the status may be polled"
    cancelled = client.post(order.address_of("payments:api-cancel"), content_type="application/json")
    assert cancelled.status_code == 429
    order.refresh_from_db()
    assert order.status == "AWAITING_PAYMENT"


def test_the_cancel_button_answers_with_a_page(client, sandbox):
    order, _payment = ordered(client, ProductFactory())
    for _ in range(2):
        client.post(order.address_of("payments:api-sync"), content_type="application/json")
    answer = client.post(order.address_of("payments:cancel"))
    assert answer.status_code == 429
    assert answer["Retry-After"]
    text = answer.content.decode()
    assert "Please wait a moment" in text
    assert "Please try again in 24 hours." in text
    assert answer["X-Request-ID"] in text
    order.refresh_from_db()
    assert order.status == "AWAITING_PAYMENT"


def test_stripes_webhooks_are_never_limited(client, sandbox):
    """Whoever pays is paid, whatever the limits."""
    order, payment = ordered(client, ProductFactory())
    for _ in range(5):
        check_out(client, order.reservation_id)
    sandbox.control.pay(payment.stripe_payment_intent_id)
    for event in events_of(sandbox, payment) * 2:
        deliver(client, event)
    assert order_of(order.reservation_id).status == "PAID"


def test_without_redis_the_checkout_goes_on_and_is_still_limited(client, sandbox, settings):
    held = hold(ProductFactory())
    settings.REDIS_URL = nobody()
    assert [check_out(client, held.id).status_code for _ in range(3)] == [201, 200, 429]


def test_switched_off(client, sandbox, settings):
    settings.RATE_LIMITS = False
    held = hold(ProductFactory())
    assert {check_out(client, held.id).status_code for _ in range(5)} == {201, 200}
