"""Stripe's bad hours, the whole office running: no webhook arrives for an hour, or Stripe does not answer at all."""

import itertools
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import requests
import stripe
from django.db import connection
from django.utils.dateparse import parse_datetime

from payments.models import Breaker, Payment, StripeCalls, StripeCursor, WebhookEvent
from reservations.models import Order, Reservation
from tests.factories import ProductFactory
from tests.journeys.shopper import Shopper
from tests.ledger import differences, rows_of, without_an_end
from tests.office import Office
from tests.purchases import counters, recount
from ticketing.models import Product

pytestmark = [pytest.mark.office, pytest.mark.timeout(300)]

BUYERS = 50
AT_ONCE = 6
HOUR = 3600
TEN_MINUTES = timedelta(minutes=10)


@pytest.fixture
def unlimited(office: Office) -> Iterator[Office]:
    """All buyers come from one address here."""
    office.restart("web", RATE_LIMITS="off")
    office.wait_until_ready()
    yield office
    office.stripe.control.clear_disruptions()
    office.stripe.control.clear_faults()
    Breaker.objects.all().delete()
    office.restart("web")
    office.wait_until_ready()


class Buyer(Shopper):
    def __init__(self, office: Office) -> None:
        super().__init__(office, email=f"{uuid.uuid4().hex}@example.org")
        self.placed: dict[str, Any] = {}

    def begin(self, product: Product, mode: str) -> None:
        held = self.hold(product).json()["id"]
        details = {"email": self.email, "name": self.name, "mode": mode}
        answer = requests.post(f"{self.call}/reservations/{held}/checkout/", json=details, timeout=60)
        assert answer.status_code == 201, answer.text
        self.placed = answer.json()

    @property
    def code(self) -> str:
        return str(self.placed["order"]["code"])

    def pay_here(self, *cards: str) -> None:
        """In the form on our page, with one card after another; the bank's question is answered at once."""
        for card in cards:
            try:
                if self.pay(self.placed, card) == "requires_action":
                    self.office.stripe.control.authenticate(self.placed["payment"]["stripe_payment_intent_id"])
            except stripe.CardError:
                continue

    def pay_there(self, *cards: str) -> None:
        """On Stripe's page."""
        session = Payment.objects.get(order__code=self.code).stripe_session_id or ""
        for card in cards:
            self.office.stripe.control.pay_session(session, card, complete=True)

    def wait_here(self) -> None:
        """Stays on the order's page, which asks to have Stripe asked after a while."""
        address = self.placed["order"]["status_url"].replace("/status/", "/sync/")
        assert requests.post(address, timeout=60).status_code == 200
        assert self.wait_until_done(self.placed)["tickets"] == 1


def _declined_first(buyer: Buyer, pay: Callable[..., None]) -> None:
    pay("pm_card_chargeDeclinedInsufficientFunds", "pm_card_visa")


def _asked_by_the_bank(buyer: Buyer, pay: Callable[..., None]) -> None:
    pay("pm_card_threeDSecure2Required")


def _at_once(buyer: Buyer, pay: Callable[..., None]) -> None:
    pay("pm_card_visa")


HABITS = [_at_once, _declined_first, _asked_by_the_bank]
WAYS = list(
    itertools.product(["elements", "hosted"], HABITS, [False, True])
)  # the last: stays until the tickets are there


def shop(office: Office, product: Product, number: int) -> str:
    """One of the buyers, from the hold to the payment; the order's code."""
    mode, habit, stays = WAYS[number % len(WAYS)]
    buyer = Buyer(office)
    try:
        buyer.begin(product, mode)
        habit(buyer, buyer.pay_here if mode == "elements" else buyer.pay_there)
        if stays:
            buyer.wait_here()
    finally:
        connection.close()
    return buyer.code


@pytest.mark.row("P9", "P10", "HC-C5", "HC-F6", "HC-E9")
def test_hc_c5_an_hour_without_webhooks_and_every_buyer_has_tickets(unlimited: Office):
    """HC-C5: fifty buyers pay, some after a decline, some through their bank, half of them leave; books and ledger agree."""
    office = unlimited
    office.stripe.control.disrupt_webhooks("drop", count=100_000)
    product = ProductFactory(quotas__capacity=BUYERS, price_minor=1999)
    with ThreadPoolExecutor(AT_ONCE) as crowd:
        codes = list(crowd.map(lambda number: shop(office, product, number), range(BUYERS)))
    assert len(set(codes)) == BUYERS
    assert sum(row["amount_received"] for row in rows_of(office.stripe.control, of_orders=codes)) == BUYERS * 1999

    _an_hour_passes(codes)
    _wait(lambda: Order.objects.filter(code__in=codes, status="PAID").count() == BUYERS)
    assert without_an_end(office.stripe.control, of_orders=codes) == []
    assert differences(office.stripe.control, of_orders=codes) == []
    quota = product.quotas.get()
    assert counters(quota) == recount(quota) == (0, BUYERS)

    settled_by = Counter(Payment.objects.filter(order__code__in=codes).values_list("settled_by", flat=True))
    assert settled_by.pop("sync") >= BUYERS // 2 - len(WAYS)  # those who stayed on the page
    assert set(settled_by) <= {"sweep", "webhook", "expiry"}  # those who left: asked after, or told by Stripe's list
    assert sum(settled_by.values()) >= BUYERS // 2 - len(WAYS)
    told = WebhookEvent.objects.filter(payload__data__object__metadata__order__in=codes)
    assert not told.filter(source=WebhookEvent.Source.WEBHOOK).exists()


def _an_hour_passes(codes: list[str]) -> None:
    """For the payments of these orders, and for what was read from Stripe's list; their holds run out meanwhile."""
    ours = {"codes": codes, "hour": HOUR}
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE payments_payment p SET created_at = p.created_at - make_interval(secs => %(hour)s),
                asked_at = p.asked_at - make_interval(secs => %(hour)s),
                next_attempt_at = p.next_attempt_at - make_interval(secs => %(hour)s)
            FROM reservations_order o WHERE o.id = p.order_id AND o.code = ANY (%(codes)s)
            """,
            ours,
        )
        cursor.execute(
            """
            UPDATE reservations_reservation r SET expires_at = r.expires_at - make_interval(secs => %(hour)s)
            FROM reservations_order o WHERE o.reservation_id = r.id AND r.status = 'ORDERED' AND o.code = ANY (%(codes)s)
            """,
            ours,
        )
    StripeCursor.objects.all().delete()


@pytest.mark.row("P6", "HC-G1", "HC-G2")
def test_hc_g1_two_minutes_without_stripe_keep_every_seat_and_then_sales_go_on(unlimited: Office):
    """HC-G1: buyers are told and keep their seats, ten minutes longer once; calls stop, one asks, then all go through."""
    office = unlimited
    control = office.stripe.control
    product = ProductFactory(quotas__capacity=20)
    held = [Buyer(office).hold(product).json() for _ in range(6)]
    StripeCalls.objects.all().delete()  # the sales of the last half minute would keep the breaker closed for a while
    control.refuse_connections()
    for hold in held:
        _is_told_and_keeps_seats(office, hold)
    _wait(lambda: Breaker.objects.filter(name="stripe", status="OPEN").exists())
    control.clear_requests()
    for hold in held:
        _is_told_and_keeps_seats(office, hold)  # and a second time there are no more minutes
    assert len(control.requests()) <= 1, "calls go on while the breaker is open"

    _rest()
    _wait(lambda: len(control.requests()) >= 1)  # the one that tries; Stripe is still away
    _wait(lambda: Breaker.objects.filter(name="stripe", status="OPEN").exists())
    assert {entry["path"] for entry in control.requests()} <= {"/v1/balance", "/v1/events"}  # whichever task came first

    control.clear_faults()
    _rest()
    _wait(lambda: Breaker.objects.filter(name="stripe", status="CLOSED").exists())
    codes = []
    for hold in held:
        shopper = Buyer(office)
        answer = shopper.checkout(hold["id"])
        assert answer.status_code == 200, answer.text
        shopper.placed = answer.json()
        shopper.pay_here("pm_card_visa")
        assert shopper.wait_until_done(shopper.placed)["tickets"] == 1
        codes.append(shopper.code)
    assert without_an_end(control, of_orders=codes) == []
    assert differences(control, of_orders=codes) == []
    assert counters(product.quotas.get()) == (0, len(held))


def _is_told_and_keeps_seats(office: Office, hold: dict[str, Any]) -> None:
    answer = Buyer(office).checkout(hold["id"])
    assert (answer.status_code, answer.json()["code"]) == (503, "payment_unavailable")
    row = Reservation.objects.get(pk=hold["id"])
    assert (row.status, row.expires_at - (parse_datetime(hold["expires_at"]) or row.expires_at)) == (
        "ORDERED",
        TEN_MINUTES,
    )


def _rest() -> None:
    """The breaker's half minute is over."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE payments_breaker SET changed_at = changed_at - interval '2 minutes' WHERE name = 'stripe'"
        )


def _wait(is_so: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, (
            f"it does not come to that: {list(Breaker.objects.values())}, {list(StripeCalls.objects.values())}"
        )
        time.sleep(0.2)
