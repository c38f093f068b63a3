"""Orders past their time, and orders cancelled by their buyers: Stripe decides, and no answer keeps the seats."""

import threading
import time
from functools import partial

import pytest
from django.db import connection, transaction

from payments import checkout, expiry, parameters, settlement, stripe_gateway
from payments.models import Payment
from reservations import holds, orders
from reservations.models import Order, Reservation
from tests.factories import ProductFactory
from tests.purchases import BUYER, end_time, hold, order_of, ordered, stock_of
from tests.races import at_once
from ticketing.models import OutgoingEmail, Ticket

pytestmark = pytest.mark.django_db(transaction=True)

CANCEL = "/v1/payment_intents/*/cancel"
ANY = "/v1/*"
FATAL = 3


def status_at_stripe(sandbox, payment: Payment) -> str:
    return sandbox.control.payment(payment.stripe_payment_intent_id)["payment_intent"]["status"]


def cancel(client, order: Order):
    return client.post(f"/api/v1/orders/{order.code}/cancel/?secret={order.secret}")


def statuses(order: Order) -> tuple[str, str, str]:
    order.refresh_from_db()
    return order.status, Reservation.objects.get(pk=order.reservation_id).status, order.payments.latest("pk").status


@pytest.mark.row("H9", "HC-A8")
def test_hc_a8_an_order_past_its_time_is_cancelled_at_stripe_first(client, sandbox):
    """HC-A8: then its seats go back, its buyer is told, and the card form can no longer pay."""
    product = ProductFactory()
    order, payment = ordered(client, product, 2)
    assert expiry.close_due() == 0
    end_time(order.reservation_id)
    assert expiry.close_due() == 1
    assert statuses(order) == ("CANCELLED", "EXPIRED", "CANCELLED")
    assert status_at_stripe(sandbox, payment) == "canceled"
    assert stock_of(product) == (0, 0)
    assert OutgoingEmail.objects.get().kind == "order_expired"
    body = client.get(f"/api/v1/orders/{order.code}/status/?secret={order.secret}").json()
    assert (body["order"], body["done"], body["next_poll_ms"]) == ("cancelled", True, 0)
    assert expiry.close_due() == 0


@pytest.mark.row("HC-D4")
def test_hc_d4_expiry_finds_the_order_paid_and_settles_it(client, sandbox):
    """HC-D4: Stripe refuses to cancel what succeeded: tickets, not a release."""
    product = ProductFactory()
    order, payment = ordered(client, product)
    sandbox.control.pay(payment.stripe_payment_intent_id)
    end_time(order.reservation_id)
    expiry.close_due()
    assert statuses(order) == ("PAID", "CONFIRMED", "SUCCEEDED")
    assert Payment.objects.get().settled_by == "expiry"
    assert stock_of(product) == (0, 1)
    assert OutgoingEmail.objects.get().kind == "confirmation"


@pytest.mark.row("HC-D4")
def test_hc_d4_the_buyer_pays_while_the_sweep_cancels(client, sandbox):
    """HC-D4: at the same moment: paid with tickets, or cancelled and not charged; Stripe's ledger agrees."""
    for _ in range(6):
        product = ProductFactory()
        order, payment = ordered(client, product)
        end_time(order.reservation_id)
        pay = partial(sandbox.control.pay, payment.stripe_payment_intent_id)
        at_once([expiry.close_due, pay, expiry.close_due])
        Payment.objects.update(next_attempt_at="2026-01-01T00:00Z")
        expiry.close_due()
        ledger = {line["id"]: line for line in sandbox.control.ledger()["payment_intents"]}
        is_charged = ledger[payment.stripe_payment_intent_id]["charges_succeeded"] == 1
        assert statuses(order)[0] == ("PAID" if is_charged else "CANCELLED")
        assert stock_of(product) == ((0, 1) if is_charged else (0, 0))


@pytest.mark.row("HC-D5")
@pytest.mark.parametrize("fault", ["drop_before", "http_500_before", "http_429"])
def test_hc_d5_no_answer_keeps_the_seats(client, sandbox, fault):
    """HC-D5: unknown is not cancelled: the order stands, is left alone for the lease, then tried again."""
    product = ProductFactory(quotas__capacity=1)
    order, _payment = ordered(client, product)
    end_time(order.reservation_id)
    sandbox.control.add_fault(fault, path=ANY, count=4 * FATAL)
    assert expiry.close_due() == 0
    assert statuses(order) == ("AWAITING_PAYMENT", "ORDERED", "OPEN")
    with pytest.raises(holds.SoldOut):
        hold(product)
    sandbox.control.clear_faults()
    sandbox.control.clear_requests()
    assert expiry.close_due() == 0
    assert sandbox.control.requests() == []
    Payment.objects.update(next_attempt_at="2026-01-01T00:00Z")
    assert expiry.close_due() == 1
    assert statuses(order) == ("CANCELLED", "EXPIRED", "CANCELLED")
    hold(product)


@pytest.mark.row("HC-D5")
def test_hc_d5_a_cancel_whose_answer_was_lost_is_found_done(client, sandbox):
    """HC-D5: Stripe cancelled and we did not hear it; it refuses to do it again, and what it shows then is believed."""
    product = ProductFactory()
    order, _payment = ordered(client, product)
    end_time(order.reservation_id)
    sandbox.control.add_fault("drop_after", method="POST", path=CANCEL, count=FATAL)
    assert expiry.close_due() == 0
    assert statuses(order)[0] == "AWAITING_PAYMENT"
    sandbox.control.clear_faults()
    Payment.objects.update(next_attempt_at="2026-01-01T00:00Z")
    assert expiry.close_due() == 1
    assert stock_of(product) == (0, 0)
    keys = {
        request["idempotency_key"] for request in sandbox.control.requests(method="POST") if "cancel" in request["path"]
    }
    assert len(keys) == 2, "one for each attempt; the SDK's own repeats share it"


@pytest.mark.row("HC-D5", "P5")
def test_a_crash_between_the_cancel_and_our_commit_is_made_good(client, sandbox, settings):
    product = ProductFactory()
    order, payment = ordered(client, product)
    end_time(order.reservation_id)
    settings.FAILPOINTS = {"after_cancel_before_commit": "raise"}
    assert expiry.close_due() == 0
    assert status_at_stripe(sandbox, payment) == "canceled"
    assert stock_of(product) == (1, 0)
    settings.FAILPOINTS = {}
    Payment.objects.update(next_attempt_at="2026-01-01T00:00Z")
    assert expiry.close_due() == 1
    assert stock_of(product) == (0, 0)


@pytest.mark.row("HC-B2", "HC-D5")
@pytest.mark.parametrize("is_paid", [False, True])
def test_hc_b2_a_new_payment_whose_intent_exists_is_found_by_its_key(client, sandbox, settings, is_paid):
    """HC-B2: the answer that named the intent was lost, and then the time ran out."""
    product = ProductFactory()
    held = hold(product)
    settings.FAILPOINTS = {"after_stripe_before_commit": "raise"}
    with pytest.raises(RuntimeError):
        checkout.start(held.id, **BUYER)
    settings.FAILPOINTS = {}
    intent_id = sandbox.control.ledger()["payment_intents"][0]["id"]
    if is_paid:
        sandbox.control.pay(intent_id)
    end_time(held.id)
    expiry.close_due()
    assert len(sandbox.control.ledger()["payment_intents"]) == 1
    expected = ("PAID", "CONFIRMED", "SUCCEEDED") if is_paid else ("CANCELLED", "EXPIRED", "CANCELLED")
    assert statuses(order_of(held.id)) == expected
    assert stock_of(product) == ((0, 1) if is_paid else (0, 0))


@pytest.mark.row("HC-B1")
def test_hc_b1_a_payment_that_never_reached_stripe_is_closed_too(client, sandbox, settings):
    """HC-B1: so that a late request under its key cannot be paid: the intent is made and cancelled."""
    held = hold(ProductFactory())
    settings.FAILPOINTS = {"before_stripe": "raise"}
    with pytest.raises(RuntimeError):
        checkout.start(held.id, **BUYER)
    settings.FAILPOINTS = {}
    end_time(held.id)
    assert expiry.close_due() == 1
    assert [line["status"] for line in sandbox.control.ledger()["payment_intents"]] == ["canceled"]


@pytest.mark.row("H6")
def test_a_buyer_cancels_an_order(client, sandbox):
    """H6: closed at Stripe, then released; pressing again says the same, and no letter is written."""
    product = ProductFactory()
    order, payment = ordered(client, product)
    for _ in range(2):
        answer = cancel(client, order)
        assert (answer.status_code, answer.json()["order"], answer.json()["payment"]) == (200, "cancelled", "cancelled")
    assert statuses(order) == ("CANCELLED", "RELEASED", "CANCELLED")
    assert status_at_stripe(sandbox, payment) == "canceled"
    assert stock_of(product) == (0, 0)
    assert not OutgoingEmail.objects.exists()


@pytest.mark.row("H6", "HC-D4")
def test_a_paid_order_is_not_cancelled_by_its_buyer(client, sandbox):
    """H6: 409 `paid`, also when the payment succeeded without our having heard of it."""
    product = ProductFactory()
    order, payment = ordered(client, product)
    sandbox.control.pay(payment.stripe_payment_intent_id)
    for _ in range(2):
        answer = cancel(client, order)
        assert (answer.status_code, answer.json()["code"]) == (409, "paid")
        assert statuses(order) == ("PAID", "CONFIRMED", "SUCCEEDED")
    assert Ticket.objects.count() == 1


@pytest.mark.row("H6", "HC-D5")
def test_cancelling_while_stripe_is_away_changes_nothing(client, sandbox):
    product = ProductFactory()
    order, _payment = ordered(client, product)
    sandbox.control.add_fault("drop_before", path=ANY, count=FATAL)
    answer = cancel(client, order)
    assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (503, "payment_unavailable", True)
    assert statuses(order) == ("AWAITING_PAYMENT", "ORDERED", "OPEN")
    assert stock_of(product) == (1, 0)


@pytest.mark.row("HC-C14")
def test_hc_c14_a_3_d_secure_page_left_open_cannot_pay_later(client, sandbox):
    """HC-C14: the intent was cancelled with the hold; approving hours later charges nothing."""
    order, payment = ordered(client, ProductFactory())
    sandbox.control.pay(payment.stripe_payment_intent_id, "pm_card_authenticationRequired", complete=None)
    end_time(order.reservation_id)
    assert expiry.close_due() == 1
    with pytest.raises(AssertionError):
        sandbox.control.authenticate(payment.stripe_payment_intent_id)
    assert sandbox.control.ledger()["payment_intents"][0]["charges_succeeded"] == 0
    assert statuses(order)[0] == "CANCELLED"


@pytest.mark.row("HC-A9")
def test_hc_a9_three_sweeps_at_once_close_each_order_once(client, sandbox):
    """HC-A9: stock given back once, one letter each."""
    product = ProductFactory()
    for _ in range(3):
        order, _payment = ordered(client, product)
        end_time(order.reservation_id)
    at_once([expiry.close_due] * 3)
    assert stock_of(product) == (0, 0)
    assert set(Order.objects.values_list("status", flat=True)) == {"CANCELLED"}
    assert OutgoingEmail.objects.count() == 3


@pytest.mark.row("HC-E10")
def test_one_order_that_cannot_be_closed_does_not_stop_the_others(client, sandbox):
    """HC-E10: the oldest is beyond repair (its claim is gone from the counter); the next is closed all the same."""
    broken, healthy = ProductFactory(), ProductFactory()
    for product, seconds in ((broken, 100), (healthy, 1)):
        order, _payment = ordered(client, product)
        end_time(order.reservation_id, seconds=seconds)
    broken.quotas.update(held=0)
    assert expiry.close_due() == 1
    assert stock_of(healthy) == (0, 0)


@pytest.mark.row("P5", "P9")
def test_an_attempt_that_began_meanwhile_is_not_cancelled_in_our_books_alone(client, sandbox):
    """P5: the buyer cancels while another tab opens a second attempt: its intent must not stay payable.

    The cancel has seen that no payment is open, and waits for the order's lock; the second attempt is committed then.
    """
    order, first = ordered(client, ProductFactory())
    stripe_gateway.cancel_payment_intent(first.stripe_payment_intent_id, idempotency_key="from-the-dashboard")
    settlement.sync(order.pk, by="poll")
    answers = []
    with transaction.atomic():
        orders.lock(order.pk)
        waiting = threading.Thread(target=lambda: answers.append(at_once([partial(cancel, client, order)])[0]))
        waiting.start()
        wait_for_somebody_to_wait()
        parameters.new_payment(order, attempt=2, mode=Payment.Mode.ELEMENTS)
    waiting.join()
    assert answers[0].status_code == 503
    assert statuses(order) == ("AWAITING_PAYMENT", "ORDERED", "NEW")
    assert cancel(client, order).status_code == 200
    assert {line["status"] for line in sandbox.control.ledger()["payment_intents"]} == {"canceled"}


def wait_for_somebody_to_wait() -> None:
    """Until another connection to this database is held up by a lock."""
    with connection.cursor() as cursor:
        for _ in range(500):
            cursor.execute(
                "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)"
                " WHERE NOT granted AND datname = current_database()"
            )
            if cursor.fetchone()[0]:
                return
            time.sleep(0.01)
    raise AssertionError("nobody waits")


@pytest.mark.row("HC-D6")
def test_hc_d6_a_bank_that_refuses_after_days_frees_the_seat(client, debit_sandbox):
    """HC-D6: Stripe refused to cancel while the bank decided; asked again afterwards it does, and the seat goes back."""
    product = ProductFactory()
    order, payment = ordered(client, product)
    debit_sandbox.control.pay(payment.stripe_payment_intent_id, "pm_failed_de")
    end_time(order.reservation_id)
    for _ in range(2):
        Payment.objects.update(next_attempt_at="2026-01-01T00:00Z")
        assert expiry.close_due() == 0
        assert statuses(order) == ("AWAITING_PAYMENT", "ORDERED", "PROCESSING")
    debit_sandbox.control.settle(payment.stripe_payment_intent_id, succeeded=False)
    Payment.objects.update(next_attempt_at="2026-01-01T00:00Z")
    assert expiry.close_due() == 1
    assert statuses(order) == ("CANCELLED", "EXPIRED", "CANCELLED")
    assert stock_of(product) == (0, 0)
