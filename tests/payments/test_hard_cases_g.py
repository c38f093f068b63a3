"""Stripe is away, slow, busy, refuses us or talks nonsense, and buyers hammer (HC-G)."""

import uuid
from collections.abc import Iterator
from datetime import timedelta
from functools import partial

import pytest
from django.core.cache import caches
from django.db.models import Sum
from django.db.models.functions import Now
from django.test import Client
from django.utils.dateparse import parse_datetime

from config import rate_limits
from payments import breaker, expiry, outage, refunds, settlement, stripe_gateway, webhooks
from payments.models import Breaker, Payment, Refund, StripeCalls, WebhookEvent
from reservations.models import Order, Reservation
from tests.factories import ProductFactory, UserFactory
from tests.payments.posting import deliver, events_of, stored
from tests.purchases import ask, check_out, end_time, hold, line, order_of, ordered, stock_of
from tests.races import at_once, of_type
from tests.redis_faults import forget, nobody
from ticketing.models import OutgoingEmail, Ticket

pytestmark = pytest.mark.django_db(transaction=True)

INTENTS = "/v1/payment_intents"


@pytest.fixture(autouse=True)
def _flags_as_they_are() -> Iterator[None]:
    caches["switches"].clear()
    yield
    caches["switches"].clear()


def calls_made() -> int:
    return StripeCalls.objects.aggregate(n=Sum("calls", default=0))["n"]


def half_a_minute_passes() -> None:
    Breaker.objects.update(changed_at=Now() - breaker.REST)


def minutes_left(reservation_id) -> float:
    left = Reservation.objects.annotate(left=Now()).get(pk=reservation_id)
    return (left.expires_at - left.left).total_seconds() / 60


def one_second_to_go(reservation_id) -> None:
    Reservation.objects.filter(pk=reservation_id).update(expires_at=Now() + timedelta(seconds=30))


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(UserFactory(staff=True))
    return client


@pytest.mark.row("HC-G1")
def test_hc_g1_an_outage_stops_calls_keeps_holds_once_and_ends_by_itself(client, sandbox, staff):
    """HC-G1: from the first refused connection to the first sale after it."""
    product = ProductFactory(quotas__capacity=5)
    held = [hold(product).id for _ in range(3)]
    open_order, payment = ordered(client, product)
    sandbox.control.refuse_connections()
    told = check_out(client, held[0]).json()
    check_out(client, held[1])
    assert (told["code"], told["retryable"]) == ("payment_unavailable", True)
    assert parse_datetime(told["expires_at"]) > parse_datetime(told["server_time"]) + timedelta(minutes=20)
    assert breaker.is_open()
    before = calls_made()
    for reservation in held:
        assert check_out(client, reservation).status_code == 503
    assert (webhooks.sweep(), expiry.close_due(), refunds.submit_due(), settlement.sweep_unheard_of()) == (0, 0, 0, 0)
    assert calls_made() == before, "nothing is asked of Stripe any more"
    assert [round(minutes_left(reservation)) for reservation in held] == [25, 25, 25], "ten minutes more, once"
    one_second_to_go(open_order.reservation_id)
    outage.tend()
    assert round(minutes_left(open_order.reservation_id)) in (10, 11), "whose time is about to end gets them too"
    for reservation in (open_order.reservation_id, held[0]):
        one_second_to_go(reservation)
    outage.tend()
    assert all(minutes_left(each) < 1 for each in (open_order.reservation_id, held[0])), "and no second time"
    assert hold(product), "holding goes on"
    assert client.get(f"/events/{product.event.slug}/").status_code == 200
    assert "Payments are paused" in staff.get("/admin/").content.decode()
    assert client.get("/readyz/").json()["checks"]["stripe"]["ok"] is False
    page = client.get(f"/reservations/{held[1]}/checkout/").content.decode()
    assert "Payment is paused" in page
    assert not sandbox.control.ledger()["payment_intents"][1:], "no new payment"
    sandbox.control.clear_faults()
    half_a_minute_passes()
    outage.tend()
    assert breaker.state().is_closed, "noticed without a buyer"
    again = check_out(client, held[1])
    assert (again.status_code, again.json()["order"]["code"]) == (200, order_of(held[1]).code)
    sandbox.control.pay(payment.stripe_payment_intent_id)
    deliver(client, events_of(sandbox, payment, "payment_intent.succeeded")[0])
    open_order.refresh_from_db()
    assert open_order.status == "PAID"
    assert "Payments are paused" not in staff.get("/admin/").content.decode()


@pytest.mark.row("HC-G1")
def test_hc_g1_an_event_told_during_the_outage_waits_without_losing_a_try(client, sandbox):
    """HC-G1: it rests while calls are paused, and settles with its first try afterwards."""
    _order, payment = ordered(client, ProductFactory())
    sandbox.control.pay(payment.stripe_payment_intent_id)
    event = events_of(sandbox, payment, "payment_intent.succeeded")[0]
    assert breaker.open(by="staff:1", why="a test")
    for _ in range(12):
        row = deliver(client, event)
    assert (row.status, row.attempts) == ("RECEIVED", 0)
    assert "paused" in row.last_error
    assert breaker.close(by="staff:1")
    WebhookEvent.objects.update(next_attempt_at=Now())
    webhooks.sweep()
    assert (stored(event).status, stored(event).attempts, Ticket.objects.count()) == ("PROCESSED", 1, 1)


@pytest.mark.row("HC-G2")
def test_hc_g2_of_four_who_come_back_one_reaches_stripe(sandbox):
    """HC-G2: counted at Stripe: while the one that tries waits, the others are turned away; then the next one succeeds."""
    for _ in range(breaker.TRIES_AT_LEAST):
        breaker.report("retrieve", "UNAVAILABLE", 12, passed=breaker.Pass())
    half_a_minute_passes()
    sandbox.control.add_fault("hang_before", path="/v1/balance", seconds=1)
    sandbox.control.clear_requests()
    results = at_once([stripe_gateway.ping] * 4)
    assert len(sandbox.control.requests()) == 1
    assert len(of_type(results, stripe_gateway.StripePaused)) == 3
    assert breaker.is_open(), "the one was answered 500"
    half_a_minute_passes()
    stripe_gateway.ping()
    assert breaker.state().is_closed
    assert len(sandbox.control.requests()) == 2


@pytest.mark.row("HC-G3")
def test_hc_g3_a_hanging_stripe_costs_each_try_its_time_and_nobody_a_seat(client, sandbox, settings):
    """HC-G3: every try is given up, the last one too; the buyer is told, the thread is free, the same key pays later."""
    settings.STRIPE_READ_TIMEOUT_SECONDS = 0.2
    stripe_gateway.calls.client.cache_clear()
    product = ProductFactory(quotas__capacity=1)
    held = hold(product)
    sandbox.control.add_fault("hang_before", method="POST", path=INTENTS, seconds=1, count=settings.STRIPE_TRIES)
    answer = check_out(client, held.id)
    assert (answer.status_code, answer.json()["code"]) == (503, "payment_unavailable")
    assert "kept" in answer.json()["message"]
    tries = StripeCalls.objects.get(operation="payment_intents.create")
    assert (tries.outcome, tries.calls) == ("UNAVAILABLE", settings.STRIPE_TRIES)
    assert (order_of(held.id).status, stock_of(product)) == ("AWAITING_PAYMENT", (1, 0))
    assert stripe_gateway.calls._free_lines._value == stripe_gateway.calls.CALLS_AT_ONCE
    settings.STRIPE_READ_TIMEOUT_SECONDS = 10
    stripe_gateway.calls.client.cache_clear()
    sandbox.control.clear_faults()
    assert check_out(client, held.id).status_code in (200, 503)
    assert check_out(client, held.id).status_code == 200
    assert len(sandbox.control.ledger()["payment_intents"]) == 1


@pytest.mark.row("HC-G4")
def test_hc_g4_five_times_too_many_requests_is_no_outage(client, sandbox, settings):
    """HC-G4: the SDK would not repeat a 429; here the same key is sent again and the sixth try makes the one payment."""
    held = hold(ProductFactory())
    sandbox.control.add_fault("http_429", method="POST", path=INTENTS, count=5)
    sandbox.control.clear_requests()
    assert [check_out(client, held.id).status_code for _ in range(2)] == [503, 200]
    sent = sandbox.control.requests(method="POST", path=INTENTS)
    assert (len(sent), len({request["idempotency_key"] for request in sent})) == (6, 1)
    assert len(sandbox.control.ledger()["payment_intents"]) == 1
    assert StripeCalls.objects.get(operation="payment_intents.create", outcome="LIMITED").calls == 5
    assert breaker.state().is_closed


@pytest.mark.row("HC-G4")
def test_hc_g4_a_refund_waits_its_turn_with_its_key(client, sandbox, settings):
    settings.STRIPE_TRIES = 1
    product = ProductFactory(quotas__capacity=1)
    order, payment = ordered(client, product)
    end_time(order.reservation_id, seconds=700)
    expiry.force_release(order.pk, by="staff:1", why="a test")
    hold(product)
    sandbox.control.pay(payment.stripe_payment_intent_id)
    settlement.sync(order.pk, by="poll")
    sandbox.control.add_fault("http_429", method="POST", path="/v1/refunds", count=2)
    for _ in range(3):
        Refund.objects.update(next_attempt_at=Now())
        refunds.submit_due()
    sent = sandbox.control.requests(method="POST", path="/v1/refunds")
    assert {request["idempotency_key"] for request in sent} == {Refund.objects.get().idempotency_key}
    assert (len(sent), Refund.objects.get().status, len(sandbox.control.refunds())) == (3, "SUCCEEDED", 1)
    assert breaker.state().is_closed


@pytest.mark.row("HC-G5")
@pytest.mark.parametrize("count", [1, 2])
def test_hc_g5_a_lock_at_stripe_is_waited_for_with_the_same_key(client, sandbox, count):
    held = hold(ProductFactory())
    sandbox.control.add_fault("lock_timeout", method="POST", path=INTENTS, count=count)
    assert check_out(client, held.id).status_code == 201
    sent = sandbox.control.requests(method="POST", path=INTENTS)
    assert (len(sent), len({request["idempotency_key"] for request in sent})) == (count + 1, 1)
    assert len(sandbox.control.ledger()["payment_intents"]) == 1
    assert breaker.state().is_closed


@pytest.mark.row("HC-G5")
def test_hc_g5_a_key_in_use_by_another_tab_makes_one_payment(client, sandbox, settings):
    """HC-G5: the first call is slow at Stripe, the second is told 409, and tries again under the same key."""
    settings.STRIPE_TRIES = 8
    held = hold(ProductFactory())
    sandbox.control.add_fault("hang", method="POST", path=INTENTS, seconds=0.4)
    answers = at_once([partial(check_out, client, held.id)] * 2)
    assert {answer.status_code for answer in answers} <= {200, 201}
    (made,) = sandbox.control.ledger()["payment_intents"]
    assert {answer.json()["payment"]["stripe_payment_intent_id"] for answer in answers} == {made["id"]}
    keys = {request["idempotency_key"] for request in sandbox.control.requests(method="POST", path=INTENTS)}
    assert keys == {Payment.objects.get().idempotency_key}


@pytest.mark.row("HC-G6")
@pytest.mark.parametrize("fault", ["http_401", "http_403"])
def test_hc_g6_a_revoked_key_is_tried_once_and_pauses_the_sale(client, sandbox, fault, log_lines, staff):
    """HC-G6: no second try, staff are paged once and told why, and after the next look with a good key it goes on."""
    product = ProductFactory()
    held = [hold(product).id, hold(product).id]
    sandbox.control.add_fault(fault, count=0)
    sandbox.control.clear_requests()
    answers = [check_out(client, reservation) for reservation in held]
    assert [answer.status_code for answer in answers] == [503, 503]
    assert len(sandbox.control.requests()) == 1
    assert breaker.state().why == breaker.CONFIG
    paged = [text for text in log_lines() if text["event"] == "stripe breaker opened" and text["level"] == "critical"]
    assert len(paged) == 1
    assert "Stripe refuses our key" in staff.get("/admin/").content.decode()
    assert stock_of(product) == (2, 0)
    sandbox.control.clear_faults()
    half_a_minute_passes()
    assert check_out(client, held[0]).status_code == 200
    assert breaker.state().is_closed


@pytest.mark.row("HC-G7", "H13")
@pytest.mark.parametrize("has_redis", [True, False], ids=["with redis", "without redis"])
def test_hc_g7_who_hammers_is_told_to_wait_and_others_are_served(client, sandbox, settings, has_redis):
    """HC-G7: hold, checkout and asking Stripe: 429 with Retry-After; reading the status costs nothing and is not limited."""
    settings.RATE_LIMITS = True
    settings.SECRET_KEY = uuid.uuid4().hex  # the buckets' names: counters of this test's own
    settings.HOLD_LIMIT_PER_BUYER = settings.CHECKOUT_LIMIT_PER_BUYER = "2/d"
    settings.HOLD_LIMIT_PER_ADDRESS = settings.CHECKOUT_LIMIT_PER_ADDRESS = settings.SYNC_LIMIT_PER_ADDRESS = "3/d"
    if not has_redis:
        settings.REDIS_URL = nobody()
    forget()
    product = ProductFactory(quotas__capacity=20)

    def browser(number: int, address: str) -> Client:
        made = Client(REMOTE_ADDR=address)
        made.cookies[rate_limits.BUYER_COOKIE] = f"{number:022d}"
        return made

    def reserve(buyer: Client):
        return ask(buyer, product.event.slug, [line(product)])

    one, neighbour, stranger = browser(1, "192.0.2.1"), browser(2, "192.0.2.1"), browser(3, "192.0.2.2")
    try:
        refused = [reserve(one) for _ in range(3)][-1]
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert int(refused["Retry-After"]) > 0
        assert [reserve(neighbour).status_code for _ in range(2)] == [201, 429], "three from one address"
        mine = reserve(stranger).json()["id"]
        assert [check_out(stranger, mine).status_code for _ in range(3)] == [201, 200, 429]
        order = order_of(mine)
        asked = [stranger.post(order.address_of("payments:api-sync")) for _ in range(4)]
        assert [answer.status_code for answer in asked] == [200, 200, 200, 429]
        assert int(asked[-1]["Retry-After"]) > 0
        polls = [stranger.get(order.address_of("payments:api-status")).status_code for _ in range(10)]
        assert polls == [200] * 10
    finally:
        forget()


@pytest.mark.row("HC-G8")
@pytest.mark.parametrize("fault", ["malformed", "unknown_status"])
def test_hc_g8_an_answer_that_makes_no_sense_changes_nothing_and_is_asked_again(client, sandbox, fault, settings):
    """HC-G8: the event is not lost, the order stays as it is; with a sensible answer it is settled."""
    settings.STRIPE_TRIES = 1
    product = ProductFactory()
    order, payment = ordered(client, product)
    sandbox.control.pay(payment.stripe_payment_intent_id)
    event = events_of(sandbox, payment, "payment_intent.succeeded")[0]
    sandbox.control.add_fault(fault, method="GET", path=f"{INTENTS}/*", count=1)
    deliver(client, event)
    order.refresh_from_db()
    assert (order.status, Payment.objects.get().status, stock_of(product)) == ("AWAITING_PAYMENT", "OPEN", (1, 0))
    assert not Ticket.objects.exists()
    WebhookEvent.objects.update(next_attempt_at=Now())
    webhooks.sweep()
    Payment.objects.update(created_at=Now() - timedelta(minutes=3), asked_at=None)
    settlement.sweep_unheard_of()
    order.refresh_from_db()
    assert (order.status, stored(event).status, Ticket.objects.count()) == ("PAID", "PROCESSED", 1)
    assert OutgoingEmail.objects.count() == Order.objects.count() == 1


@pytest.mark.row("HC-G8")
@pytest.mark.parametrize("fault", ["malformed", "unknown_status"])
def test_hc_g8_a_payment_that_cannot_be_ended_clearly_keeps_its_seat(client, sandbox, fault, settings):
    """HC-G8: nonsense in answer to the cancellation: the seat is not sold until Stripe says a word we know."""
    settings.STRIPE_TRIES = 1
    product = ProductFactory(quotas__capacity=1)
    order, _payment = ordered(client, product)
    end_time(order.reservation_id)
    sandbox.control.add_fault(fault, method="POST", path=f"{INTENTS}/*/cancel", count=1)
    assert expiry.close_due() == 0
    assert stock_of(product) == (1, 0)
    Payment.objects.update(next_attempt_at=Now())
    assert expiry.close_due() == 1
    assert (stock_of(product), Order.objects.get().status) == ((0, 0), "CANCELLED")
