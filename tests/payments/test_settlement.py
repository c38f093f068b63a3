"""Our books follow the money: what each answer of Stripe means, and what is not believed."""

from functools import partial

import pytest

from payments import expiry, settlement, stripe_gateway, webhooks
from payments.models import Payment, Refund, StatusChange
from reservations.models import Order, Reservation
from tests.factories import ProductFactory
from tests.payments.posting import deliver, events_of, post, stored
from tests.purchases import end_time, ordered, stock_of
from tests.races import at_once
from ticketing.models import OutgoingEmail, Ticket

pytestmark = pytest.mark.django_db(transaction=True)


def sync(order: Order, *, by: str = "poll") -> None:
    """Asks Stripe without waiting for the next two seconds."""
    Payment.objects.filter(order=order).update(asked_at=None)
    settlement.sync(order.pk, by=by)
    order.refresh_from_db()


def intent_of(payment: Payment) -> stripe_gateway.Facts:
    return stripe_gateway.retrieve_payment_intent(payment.stripe_payment_intent_id)


@pytest.mark.row("T3", "P9", "HC-C2")
def test_hc_c2_a_success_ends_as_tickets(client, sandbox):
    """HC-C2: no webhook at all: asking Stripe settles payment, order, reservation, tickets, letter and counters."""
    product = ProductFactory()
    order, payment = ordered(client, product, 3)
    sandbox.control.pay(payment.stripe_payment_intent_id)
    sync(order)
    payment.refresh_from_db()
    assert (payment.status, payment.amount_received_minor, payment.settled_by) == ("SUCCEEDED", 7500, "poll")
    assert (order.status, Reservation.objects.get().status) == ("PAID", "CONFIRMED")
    assert sorted(Ticket.objects.values_list("serial", flat=True)) == [1, 2, 3]
    assert OutgoingEmail.objects.get().dedupe_key == f"confirmation:{order.code}"
    assert stock_of(product) == (0, 3)


@pytest.mark.row("HC-C8", "P9")
def test_hc_c8_settling_again_finds_nothing_to_do(client, sandbox):
    order, payment = ordered(client, ProductFactory())
    sandbox.control.pay(payment.stripe_payment_intent_id)
    for by in ("webhook", "poll", "staff", "expiry"):
        settlement.settle(payment.pk, facts=intent_of(payment), by=by)
    assert Ticket.objects.count() == OutgoingEmail.objects.count() == 1
    assert Payment.objects.get().settled_by == "webhook"
    assert StatusChange.objects.filter(to_status="SUCCEEDED").count() == 1
    assert stock_of(order.lines.get().product) == (0, 1)


@pytest.mark.row("HC-C3", "HC-C8", "T3")
def test_hc_c3_twenty_settlements_at_once_are_one(client, sandbox):
    """HC-C3: one order, its tickets and its letter once."""
    product = ProductFactory()
    _order, payment = ordered(client, product, 2)
    sandbox.control.pay(payment.stripe_payment_intent_id)
    intent = intent_of(payment)
    results = at_once([partial(settlement.settle, payment.pk, facts=intent, by="race")] * 20)
    assert [type(result) for result in results] == [Payment] * 20
    assert Ticket.objects.count() == 2
    assert OutgoingEmail.objects.count() == 1
    assert StatusChange.objects.filter(to_status="SUCCEEDED").count() == 1
    assert stock_of(product) == (0, 2)


@pytest.mark.row("HC-C13", "P1")
def test_hc_c13_a_declined_card_changes_nothing_and_the_next_one_pays(client, sandbox):
    """HC-C13: the bank's words are kept for staff; one charge in the end."""
    order, payment = ordered(client, ProductFactory())
    sandbox.control.pay(payment.stripe_payment_intent_id, "4000000000009995")
    sync(order)
    payment.refresh_from_db()
    assert (payment.status, order.status) == ("OPEN", "AWAITING_PAYMENT")
    assert "insufficient funds" in payment.last_error
    sandbox.control.pay(payment.stripe_payment_intent_id)
    sync(order)
    assert order.status == "PAID"
    assert sandbox.control.ledger()["payment_intents"][0]["charges_succeeded"] == 1


@pytest.mark.row("P1")
def test_a_pending_3_d_secure_page_is_still_open(client, sandbox):
    order, payment = ordered(client, ProductFactory())
    sandbox.control.pay(payment.stripe_payment_intent_id, "pm_card_authenticationRequired", complete=None)
    sync(order)
    assert (Payment.objects.get().status, order.status) == ("OPEN", "AWAITING_PAYMENT")
    sandbox.control.authenticate(payment.stripe_payment_intent_id)
    sync(order)
    assert order.status == "PAID"


@pytest.mark.row("HC-D6", "HC-C16")
@pytest.mark.parametrize("is_paid", [True, False])
def test_hc_c16_a_debit_is_processing_until_the_bank_answers(client, debit_sandbox, is_paid):
    """HC-C16: the seat is kept meanwhile, also past its time; then paid, or open again."""
    product = ProductFactory()
    order, payment = ordered(client, product)
    debit_sandbox.control.pay(payment.stripe_payment_intent_id, "pm_success_de")
    sync(order)
    assert Payment.objects.get().status == "PROCESSING"
    end_time(order.reservation_id)
    assert expiry.close_due() == 0
    assert stock_of(product) == (1, 0)
    debit_sandbox.control.settle(payment.stripe_payment_intent_id, succeeded=is_paid)
    sync(order)
    assert (order.status, Payment.objects.get().status) == (
        ("PAID", "SUCCEEDED") if is_paid else ("AWAITING_PAYMENT", "OPEN")
    )


@pytest.mark.row("P9")
def test_a_payment_cancelled_at_stripe_frees_nothing_by_itself(client, sandbox):
    """P9: the order may be paid by another attempt; its time decides."""
    product = ProductFactory()
    order, payment = ordered(client, product)
    stripe_gateway.cancel_payment_intent(payment.stripe_payment_intent_id, idempotency_key="from-the-dashboard")
    sync(order)
    assert (Payment.objects.get().status, order.status) == ("CANCELLED", "AWAITING_PAYMENT")
    assert stock_of(product) == (1, 0)
    end_time(order.reservation_id)
    assert expiry.close_due() == 1
    assert stock_of(product) == (0, 0)


@pytest.mark.row("HC-G8")
def test_hc_g8_a_status_stripe_invents_later_changes_nothing(client, sandbox):
    order, payment = ordered(client, ProductFactory())
    real = intent_of(payment)
    values = {name: getattr(real, name) for name in real.__slots__}
    settlement.settle(payment.pk, facts=stripe_gateway.Facts(**values | {"status": ""}), by="poll")
    assert Payment.objects.get().status == "OPEN"
    assert Order.objects.get(pk=order.pk).status == "AWAITING_PAYMENT"


TAMPERED = {
    "less": ({"amount": 1}, "paid 1 EUR instead of 2500 EUR", (1, "EUR")),
    "more": ({"amount": 9900}, "paid 9900 EUR instead of 2500 EUR", (9900, "EUR")),
    "other currency": ({"currency": "usd"}, "paid 2500 USD instead of 2500 EUR", (2500, "USD")),
}


@pytest.mark.row("P11", "HC-B8")
@pytest.mark.parametrize("case", TAMPERED)
def test_hc_b8_what_was_paid_must_be_what_was_owed(client, sandbox, case):
    """HC-B8: nothing is issued, all of it goes back in the same commit, staff are shown both amounts."""
    changes, reason, back = TAMPERED[case]
    product = ProductFactory(price_minor=2500)
    order, payment = ordered(client, product)
    sandbox.control.pay(payment.stripe_payment_intent_id)
    sandbox.control.modify(payment.stripe_payment_intent_id, **changes)
    sync(order)
    refund = Refund.objects.get()
    assert (order.status, stock_of(product)) == ("CANCELLED", (0, 0))
    assert reason in order.needs_review
    assert (refund.reason, refund.status, (refund.amount_minor, refund.currency)) == ("MISMATCH", "REQUESTED", back)
    assert Payment.objects.get().status == "SUCCEEDED"
    assert not Ticket.objects.exists()
    assert OutgoingEmail.objects.get().kind == "refund"
    body = client.get(f"/api/v1/orders/{order.code}/status/?secret={order.secret}").json()
    assert (body["done"], body["refund"]) == (False, "full")
    assert "on its way" in body["message"]


@pytest.mark.row("P11", "HC-F7")
def test_hc_f7_live_money_in_a_test_office_is_not_settled(client, sandbox):
    order, payment = ordered(client, ProductFactory())
    sandbox.control.pay(payment.stripe_payment_intent_id)
    sandbox.control.modify(payment.stripe_payment_intent_id, livemode=True)
    with pytest.raises(settlement.WrongMode):
        settlement.settle(payment.pk, facts=intent_of(payment), by="poll")
    for call in ("sync", "cancel"):
        assert client.post(order.address_of(f"payments:api-{call}")).status_code == 503
    order.refresh_from_db()
    assert (order.status, Payment.objects.get().status) == ("AWAITING_PAYMENT", "OPEN")
    event = deliver(client, events_of(sandbox, payment, "payment_intent.succeeded")[0])
    assert (event.status, "mode" in event.last_error) == ("RECEIVED", True)


@pytest.mark.row("P11", "P9", "HC-D1")
def test_hc_d1_a_success_after_our_books_closed_the_payment_is_a_late_one(client, sandbox):
    """HC-D1: our row says CANCELLED, Stripe says succeeded, and there is room: tickets."""
    product = ProductFactory()
    order, payment = ordered(client, product)
    expiry.close(order.pk, to="EXPIRED", by="expiry", why="a test")
    sandbox.control.modify(payment.stripe_payment_intent_id, status="succeeded", amount_received=payment.amount_minor)
    settlement.settle(payment.pk, facts=intent_of(payment), by="webhook")
    order.refresh_from_db()
    assert (order.status, order.reservation.status, stock_of(product)) == ("PAID", "CONFIRMED", (0, 1))
    assert Ticket.objects.count() == 1


@pytest.mark.row("HC-B2")
def test_hc_b2_a_payment_found_at_stripe_before_its_answer_was_noted_is_settled(client, sandbox):
    """HC-B2: our row is still NEW."""
    order, payment = ordered(client, ProductFactory())
    intent_id = payment.stripe_payment_intent_id
    Payment.objects.update(status="NEW", stripe_payment_intent_id=None)
    sandbox.control.pay(intent_id)
    settlement.settle(payment.pk, facts=stripe_gateway.retrieve_payment_intent(intent_id), by="reconciliation")
    order.refresh_from_db()
    assert (order.status, order.needs_review) == ("PAID", "")
    assert Payment.objects.get().stripe_payment_intent_id == intent_id


@pytest.mark.row("HC-C6")
def test_hc_c6_many_askers_are_one_question_to_stripe(client, sandbox):
    """HC-C6: ten tabs ask within two seconds; Stripe is asked once, and reading the status asks nobody."""
    order, _payment = ordered(client, ProductFactory())
    sandbox.control.clear_requests()
    address = f"/api/v1/orders/{order.code}/sync/?secret={order.secret}"
    answers = at_once([partial(client.post, address)] * 10)
    assert {answer.status_code for answer in answers} == {200}
    for _ in range(3):
        client.get(f"/api/v1/orders/{order.code}/status/?secret={order.secret}")
    assert len(sandbox.control.requests(method="GET")) == 1


@pytest.mark.row("HC-C1", "HC-C3")
def test_hc_c3_webhook_and_returning_buyer_at_the_same_moment(client, sandbox):
    """HC-C3: the event is processed while the page asks: one order, one letter."""
    order, payment = ordered(client, ProductFactory())
    sandbox.control.pay(payment.stripe_payment_intent_id)
    told = events_of(sandbox, payment, "payment_intent.succeeded")[0]
    post(client, told)
    sync_address = f"/api/v1/orders/{order.code}/sync/?secret={order.secret}"
    at_once([partial(webhooks.process, stored(told).pk), partial(client.post, sync_address)] * 3)
    order.refresh_from_db()
    assert order.status == "PAID"
    assert Ticket.objects.count() == OutgoingEmail.objects.count() == 1
    assert stored(told).status == "PROCESSED"
