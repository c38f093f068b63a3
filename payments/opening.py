"""A payment becomes known to Stripe: once, whatever happens to the answer.

The key and the exact parameters were committed before. A lost answer is asked for again under the same key. An answered
5xx is kept by Stripe under the key and would be repeated for a day (docs.stripe.com/api/idempotent_requests): then the
payment is looked up by its metadata, and only if there is none does it get a new key.
"""

import secrets
from datetime import timedelta

import structlog
from django.db.models.functions import Now

from config.failpoints import failpoint
from config.state_machine import MoveRefused, move
from payments import stripe_gateway, truth
from payments.models import Payment
from payments.stripe_gateway import Facts

logger = structlog.get_logger(__name__)


KEY_LIVES = timedelta(hours=23)  # Stripe forgets keys after 24; sent later, the same key would make a second payment


class PaymentClosed(Exception):
    """The payment was cancelled while it was being opened."""


class NeverMade(Exception):
    """The key is too old to be sent again, and Stripe has nothing for this payment."""


def open_payment(payment: Payment) -> Facts:
    """How `payment` stands at Stripe: fetched if it is known, else found or made. No transaction is open.

    Raises PaymentClosed, NeverMade, and the gateway's exceptions; StripeRefused of a NEW payment means that nothing was made.
    """
    if payment.status != Payment.Status.NEW:
        return truth.fetch(payment)
    facts = _found_or_made(payment)
    failpoint("after_stripe_before_commit")
    _adopt(payment, facts)
    return facts


def _found_or_made(payment: Payment) -> Facts:
    was_sent = payment.sent_at is not None
    Payment.objects.filter(pk=payment.pk, sent_at=None).update(sent_at=Now())
    if was_sent and (found := truth.find(payment)):
        return found
    if was_sent and Payment.objects.filter(pk=payment.pk, sent_at__lte=Now() - KEY_LIVES).exists():
        raise NeverMade
    try:
        return truth.make(payment)
    except stripe_gateway.StripeUnavailable as failure:
        if not failure.was_answered:  # it may still be under way: only the same key is safe
            raise
        if found := truth.find(payment):
            return found
        _renew_key(payment)
        raise


def _renew_key(payment: Payment) -> None:
    """The key is spent on a failure; the next call uses a fresh one. Nothing if somebody else was first."""
    stem, _colon, _old = payment.idempotency_key.rpartition(":")
    fresh = Payment.objects.filter(
        pk=payment.pk, status=Payment.Status.NEW, idempotency_key=payment.idempotency_key
    ).update(idempotency_key=f"{stem}:{secrets.token_hex(8)}")
    if fresh:
        logger.warning("idempotency key renewed after a failure at Stripe", payment=payment.pk)


def _adopt(payment: Payment, facts: Facts) -> None:
    try:
        move(
            payment,
            Payment.Status.OPEN,
            by="checkout",
            why="made at Stripe",
            stripe_payment_intent_id=facts.intent_id,
            stripe_session_id=facts.session_id,
            is_livemode=facts.is_livemode,
        )
    except MoveRefused:  # a second tab was quicker; the key makes its payment and ours the same one
        payment.refresh_from_db()
        if payment.status not in (*Payment.UNDECIDED, Payment.Status.SUCCEEDED):
            raise PaymentClosed from None
