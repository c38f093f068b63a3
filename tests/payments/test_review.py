"""Money that does not fit its order: staff end it, and nothing false is said meanwhile."""

import hashlib
import hmac
import time

import pytest

from payments import expiry, refunds, settlement, stripe_gateway
from payments.models import Payment, WebhookEvent
from reservations.models import Order
from tests.factories import ProductFactory
from tests.purchases import end_time, ordered, stock_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.row("P11", "HC-B8")]


def test_after_review_the_mark_is_gone(client, sandbox):
    product = ProductFactory()
    order, payment = ordered(client, product)
    sandbox.control.modify(payment.stripe_payment_intent_id, amount=payment.amount_minor - 1)
    sandbox.control.pay(payment.stripe_payment_intent_id)
    settlement.sync(order.pk, by="sync")
    order.refresh_from_db()
    assert order.needs_review
    assert refunds.submit_due() == 1
    expiry.review_done(order.pk, by="staff:1")
    order.refresh_from_db()
    assert (order.status, order.needs_review) == (Order.Status.CANCELLED, "")
    assert stock_of(product) == (0, 0)
    status = client.get(order.address_of("payments:api-status")).json()
    assert (status["done"], status["refund"]) == (True, "full")
    assert "refunded" in status["message"]


def test_an_answer_grown_old_does_not_reopen_what_the_bank_decides(client, sandbox):
    """The intent was fetched before the buyer's bank took it: "open" after "processing" changes nothing."""
    _order, payment = ordered(client, ProductFactory())
    old = stripe_gateway.retrieve_payment_intent(payment.stripe_payment_intent_id)
    Payment.objects.filter(pk=payment.pk).update(status=Payment.Status.PROCESSING)
    assert settlement.settle(payment.pk, facts=old, by="poll").status == Payment.Status.PROCESSING


def test_the_page_is_told_to_ask_at_once_when_an_event_is_stuck(client, sandbox):
    """T8: Stripe has told us something that we could not deal with."""
    order, payment = ordered(client, ProductFactory())
    address = order.address_of("payments:api-status")
    told = {"type": "payment_intent.succeeded", "object_id": payment.stripe_payment_intent_id, "payload": {}}
    event = WebhookEvent.objects.create(stripe_id="evt_stuck", **told)
    assert client.get(address).json()["sync_now"] is False
    WebhookEvent.objects.filter(pk=event.pk).update(last_error="boom")
    assert client.get(address).json()["sync_now"] is True


def test_a_bank_that_decides_is_asked_and_not_interfered_with(client, sandbox):
    """HC-D6: no cancel is sent for a payment we know to be processing."""
    order, payment = ordered(client, ProductFactory())
    Payment.objects.filter(pk=payment.pk).update(status=Payment.Status.PROCESSING)
    sandbox.control.pay(payment.stripe_payment_intent_id)
    end_time(order.reservation_id)
    sandbox.control.clear_requests()
    expiry.close_due()
    assert [(request["method"], request["path"]) for request in sandbox.control.requests()] == [
        ("GET", f"/v1/payment_intents/{payment.stripe_payment_intent_id}")
    ]
    order.refresh_from_db()
    assert order.status == Order.Status.PAID


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ('{"id": "evt_1", "type": "x", "note": "a\\u0000b"}', 200),
        ('{"id": "evt_2", "type": "x", "note": "\\ud800"}', 200),
        ('{"id": "evt_3", "type": "x", "note": NaN}', 400),
        ('{"id": "", "type": "x"}', 400),
        ('{"id": "%s", "type": "x"}' % ("e" * 256), 400),
        ('{"id": "evt_4", "type": "x", "data": {"object": {"id": "%s"}}}' % ("o" * 250), 200),
    ],
    ids=["NUL", "half a character", "NaN", "no id", "endless id", "long object id"],
)
def test_a_rightly_signed_oddity_is_kept_or_refused_for_good(client, settings, text: str, status: int):
    """Never a 503 that Stripe would repeat for days."""
    at = int(time.time())
    secret = settings.STRIPE_WEBHOOK_SECRETS[0]
    signature = hmac.new(secret.encode(), f"{at}.{text}".encode(), hashlib.sha256).hexdigest()
    headers = {"Stripe-Signature": f"t={at},v1={signature}"}
    answer = client.post("/webhooks/stripe/", text, content_type="application/json", headers=headers)
    assert answer.status_code == status
    assert WebhookEvent.objects.count() == (1 if status == 200 else 0)
