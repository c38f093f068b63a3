"""Money that does not fit its order: staff end it, and nothing false is said meanwhile."""

import pytest

from payments import expiry, settlement
from reservations.models import Order
from tests.factories import ProductFactory
from tests.purchases import ordered, stock_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.row("P11", "HC-B8")]


def test_after_review_the_seats_are_free_and_the_mark_is_gone(client, sandbox):
    product = ProductFactory()
    order, payment = ordered(client, product)
    sandbox.control.modify(payment.stripe_payment_intent_id, amount=payment.amount_minor - 1)
    sandbox.control.pay(payment.stripe_payment_intent_id)
    settlement.sync(order.pk, by="sync")
    order.refresh_from_db()
    assert order.needs_review
    assert stock_of(product) == (1, 0)
    expiry.review_done(order.pk, by="staff:1")
    order.refresh_from_db()
    assert (order.status, order.needs_review) == (Order.Status.CANCELLED, "")
    assert stock_of(product) == (0, 0)
    status = client.get(order.address_of("payments:api-status")).json()
    assert status["done"] is True
    assert "not charged" not in status["message"]


def test_an_answer_grown_old_does_not_reopen_what_the_bank_decides(client, sandbox):
    """The intent was fetched before the buyer's bank took it: "open" after "processing" changes nothing."""
    from payments import stripe_gateway
    from payments.models import Payment

    _order, payment = ordered(client, ProductFactory())
    old = stripe_gateway.retrieve_payment_intent(payment.stripe_payment_intent_id)
    Payment.objects.filter(pk=payment.pk).update(status=Payment.Status.PROCESSING)
    assert settlement.settle(payment.pk, intent=old, by="poll").status == Payment.Status.PROCESSING
