"""Money that comes when nobody waits for it any more ends as tickets or goes back, by itself."""

from functools import partial

import pytest

from payments import expiry, refunds, settlement, truth, webhooks
from payments.models import Payment, Refund
from reservations.models import Order, PromoCode, Reservation
from tests.factories import ProductFactory
from tests.payments.posting import deliver, events_of
from tests.purchases import end_time, hold, ordered, recount, stock_of
from tests.races import at_once
from ticketing.models import Event, OutgoingEmail, Product, Ticket

pytestmark = pytest.mark.django_db(transaction=True)


def released(client, product: Product, quantity: int = 1) -> tuple[Order, Payment]:
    """An order whose end Stripe would not confirm, and whose seats staff gave back all the same."""
    order, payment = ordered(client, product, quantity)
    end_time(order.reservation_id, seconds=700)
    expiry.force_release(order.pk, by="staff:1", why="a test")
    order.refresh_from_db()
    assert (order.status, Reservation.objects.get(pk=order.reservation_id).status) == ("CANCELLED", "EXPIRED")
    return order, payment


def pay_late(sandbox, payment: Payment) -> None:
    sandbox.control.pay(payment.stripe_payment_intent_id)
    settlement.settle(payment.pk, facts=truth.fetch(payment), by="webhook")


def letters() -> list[tuple[str, str]]:
    return list(OutgoingEmail.objects.order_by("id").values_list("kind", "reference"))


@pytest.mark.row("P10", "HC-D1")
def test_hc_d1_late_success_with_seats_free_gets_its_tickets(client, sandbox):
    """HC-D1: the seats are taken again under lock; the letter says that the hold had run out."""
    product = ProductFactory(quotas__capacity=2)
    order, payment = released(client, product, 2)
    pay_late(sandbox, payment)
    order.refresh_from_db()
    assert (order.status, Reservation.objects.get(pk=order.reservation_id).status) == ("PAID", "CONFIRMED")
    assert (Ticket.objects.count(), stock_of(product), recount(product.quotas.get())) == (2, (0, 2), (0, 2))
    assert letters() == [("confirmation", order.code)]
    assert OutgoingEmail.objects.get().context["is_late"] is True
    assert not Refund.objects.exists()


@pytest.mark.row("P10", "HC-D2")
def test_hc_d2_late_success_when_sold_out_is_refunded(client, sandbox):
    """HC-D2: the order stays closed, all of the money goes back once, the buyer is written to."""
    product = ProductFactory(quotas__capacity=1)
    order, payment = released(client, product)
    hold(product)
    pay_late(sandbox, payment)
    order.refresh_from_db()
    refund = Refund.objects.get()
    assert (order.status, refund.reason, refund.status) == ("CANCELLED", "LATE", "REQUESTED")
    assert refund.idempotency_key.startswith("refund:late:")
    assert (Ticket.objects.count(), stock_of(product)) == (0, (1, 0))
    assert letters() == [("refund", order.code)]
    for _ in range(3):
        refunds.submit_due()
    refund.refresh_from_db()
    assert refund.status == "SUCCEEDED"
    assert sandbox.control.ledger()["payment_intents"][0]["amount_refunded"] == payment.amount_minor
    assert len(sandbox.control.refunds()) == 1
    body = client.get(order.address_of("payments:api-status")).json()
    assert (body["refund"], body["done"]) == ("full", True)


@pytest.mark.row("P10", "HC-D1")
def test_hc_d1_a_hold_past_its_time_keeps_no_late_buyer_out(client, sandbox):
    """HC-D1: what counts against the quota only because nobody has swept it yet is free."""
    product = ProductFactory(quotas__capacity=1)
    order, payment = released(client, product)
    other = hold(product)
    end_time(other.id)
    pay_late(sandbox, payment)
    order.refresh_from_db()
    assert (order.status, stock_of(product)) == ("PAID", (0, 1))


@pytest.mark.row("HC-D3")
def test_hc_d3_late_success_with_room_for_some_is_refunded_whole(client, sandbox):
    product = ProductFactory(quotas__capacity=2)
    order, payment = released(client, product, 2)
    hold(product)
    pay_late(sandbox, payment)
    order.refresh_from_db()
    assert (order.status, Refund.objects.get().amount_minor) == ("CANCELLED", payment.amount_minor)
    assert (Ticket.objects.count(), stock_of(product)) == (0, (1, 0))


CLOSED = {
    "event cancelled": lambda product: Event.objects.update(status="CANCELLED"),
    "selling stopped": lambda product: Product.objects.update(is_stopped=True),
    "sale over": lambda product: Product.objects.update(sale_ends_at="2020-01-01T00:00:00Z"),
}


@pytest.mark.row("HC-D9")
@pytest.mark.parametrize("case", CLOSED)
def test_hc_d9_late_success_of_what_is_no_longer_sold_is_refunded(client, sandbox, case):
    product = ProductFactory(quotas__capacity=5)
    order, payment = released(client, product)
    CLOSED[case](product)
    pay_late(sandbox, payment)
    order.refresh_from_db()
    assert (order.status, Refund.objects.get().reason, Ticket.objects.count()) == ("CANCELLED", "LATE", 0)


@pytest.mark.row("HC-D1", "T15")
@pytest.mark.parametrize("is_left", [True, False])
def test_hc_d1_a_promo_code_must_have_a_use_left_for_the_late_buyer(client, sandbox, is_left):
    product = ProductFactory(quotas__capacity=5)
    order, payment = released(client, product)
    code = PromoCode.objects.create(
        event=product.event, code="ONCE", percent_off=10, max_uses=1, uses=0 if is_left else 1
    )
    Reservation.objects.update(promo_code=code)
    pay_late(sandbox, payment)
    order.refresh_from_db()
    code.refresh_from_db()
    assert order.status == ("PAID" if is_left else "CANCELLED")
    assert (code.uses, stock_of(product)) == (1, (0, 1) if is_left else (0, 0))
    assert Refund.objects.count() == (0 if is_left else 1)


@pytest.mark.row("P10", "HC-C8")
def test_a_late_success_that_many_notice_at_once_is_one(client, sandbox):
    product = ProductFactory(quotas__capacity=1)
    _order, payment = released(client, product)
    hold(product)
    sandbox.control.pay(payment.stripe_payment_intent_id)
    facts = truth.fetch(payment)
    at_once([partial(settlement.settle, payment.pk, facts=facts, by="race")] * 12)
    at_once([partial(refunds.submit, Refund.objects.get().pk)] * 6)
    assert (Refund.objects.count(), len(sandbox.control.refunds()), len(letters())) == (1, 1, 1)


@pytest.mark.row("P10", "HC-D1", "HC-D2")
def test_two_late_buyers_of_the_last_seat_get_one_ticket_and_one_refund(client, sandbox):
    """The counters' own constraint decides between them."""
    product = ProductFactory(quotas__capacity=1)
    late = [released(client, product) for _ in range(2)]
    for _order, payment in late:
        sandbox.control.pay(payment.stripe_payment_intent_id)
    facts = [(payment.pk, truth.fetch(payment)) for _order, payment in late]
    results = at_once([partial(settlement.settle, pk, facts=fact, by="race") for pk, fact in facts])
    assert [type(result) for result in results] == [Payment, Payment]
    assert sorted(Order.objects.values_list("status", flat=True)) == ["CANCELLED", "PAID"]
    assert (Ticket.objects.count(), Refund.objects.count(), stock_of(product)) == (1, 1, (0, 1))


@pytest.mark.row("HC-B10")
def test_hc_b10_a_second_payment_of_a_paid_order_goes_back(client, sandbox):
    """HC-B10: two intents for one order, both paid: one order, the second refunded, the buyer told."""
    order, first = ordered(client, ProductFactory())
    Payment.objects.filter(pk=first.pk).update(status="CANCELLED")
    client.post(
        f"/api/v1/reservations/{order.reservation_id}/checkout/",
        {"email": "ada@example.org", "name": "Ada"},
        content_type="application/json",
    )
    second = order.payments.get(attempt=2)
    for payment in (second, first):
        sandbox.control.pay(payment.stripe_payment_intent_id)
        settlement.settle(payment.pk, facts=truth.fetch(payment), by="webhook")
    order.refresh_from_db()
    refund = Refund.objects.get()
    assert (order.status, refund.payment_id, refund.reason) == ("PAID", first.pk, "SURPLUS")
    assert refund.idempotency_key == f"refund:surplus:{first.stripe_payment_intent_id}:1"
    assert [kind for kind, _code in letters()] == ["confirmation", "refund"]
    refunds.submit_due()
    ledger = {line["id"]: line["amount_refunded"] for line in sandbox.control.ledger()["payment_intents"]}
    assert ledger == {first.stripe_payment_intent_id: first.amount_minor, second.stripe_payment_intent_id: 0}
    body = client.get(order.address_of("payments:api-status")).json()
    assert (body["refund"], body["tickets"], body["done"]) == ("none", 1, True)


@pytest.mark.row("P10", "P9")
def test_the_events_of_a_refund_move_our_row(client, sandbox):
    product = ProductFactory(quotas__capacity=1)
    _order, payment = released(client, product)
    hold(product)
    pay_late(sandbox, payment)
    sandbox.control.set_balance(sufficient=False)
    refunds.submit_due()
    refund = Refund.objects.get()
    assert refund.status == "SUBMITTED"
    sandbox.control.finish_refund(refund.stripe_refund_id)
    told = events_of(sandbox, payment, "refund.updated")
    assert deliver(client, told[-1]).status == "PROCESSED"
    refund.refresh_from_db()
    assert refund.status == "SUCCEEDED"


@pytest.mark.row("HC-D11", "HC-D12")
@pytest.mark.parametrize("kind", ["drop_after", "http_500_after", "drop_before", "http_500_before"])
def test_hc_d12_a_lost_answer_never_refunds_twice(client, sandbox, settings, kind):
    """HC-D12: the one answer is lost; before anything is sent again, the refund is looked up by its metadata."""
    settings.STRIPE_TRIES = 1
    product = ProductFactory(quotas__capacity=1)
    _order, payment = released(client, product)
    hold(product)
    pay_late(sandbox, payment)
    sandbox.control.add_fault(kind, method="POST", path="/v1/refunds", count=1)
    refunds.submit_due()
    assert Refund.objects.get().status == ("SUCCEEDED" if kind == "http_500_after" else "REQUESTED")
    for _ in range(3):
        Refund.objects.update(next_attempt_at="2020-01-01T00:00:00Z")
        refunds.submit_due()
    assert Refund.objects.get().status == "SUCCEEDED"
    assert [each["status"] for each in sandbox.control.refunds()] == ["succeeded"]


@pytest.mark.row("HC-D10")
def test_hc_d10_a_refund_that_failed_is_tried_again_and_staff_know(client, sandbox):
    product = ProductFactory(quotas__capacity=1)
    order, payment = released(client, product)
    hold(product)
    pay_late(sandbox, payment)
    refunds.submit_due()
    refund = Refund.objects.get()
    sandbox.control.fail_refund(refund.stripe_refund_id)
    deliver(client, events_of(sandbox, payment, "refund.failed")[-1])
    order.refresh_from_db()
    again = Refund.objects.get(attempt=2)
    assert (Refund.objects.get(attempt=1).status, again.status) == ("FAILED", "REQUESTED")
    assert again.idempotency_key != refund.idempotency_key
    assert "failed" in order.needs_review
    Refund.objects.filter(pk=again.pk).update(next_attempt_at="2020-01-01T00:00:00Z")
    webhooks.sweep()
    refunds.submit_due()
    again.refresh_from_db()
    payment.refresh_from_db()
    assert (again.status, payment.refunded_minor) == ("SUCCEEDED", payment.amount_received_minor)
