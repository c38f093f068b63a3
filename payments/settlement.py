"""Settlement: our books follow the money. One function, many callers: webhook, status page, expiry, staff.

A caller that has only a hint first fetches the truth from Stripe with no transaction open (`sync`); `settle` then
checks the facts and moves payment, order, reservation, tickets, e-mail and counters together, in one commit. A second
call finds nothing to do.
"""

from datetime import timedelta

import structlog
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from config.database import retried_on_conflict
from config.failpoints import failpoint
from config.state_machine import move
from payments import stripe_gateway
from payments.models import Payment
from payments.stripe_gateway import Intent
from reservations import orders
from reservations.models import Order

logger = structlog.get_logger(__name__)

ASK_AGAIN_AFTER = timedelta(seconds=2)

# What a PaymentIntent's status means for us (docs.stripe.com/payments/paymentintents/lifecycle). A status that Stripe
# invents later is not in the table and changes nothing.
_MEANING = {
    "requires_payment_method": Payment.Status.OPEN,
    "requires_confirmation": Payment.Status.OPEN,
    "requires_action": Payment.Status.OPEN,
    "processing": Payment.Status.PROCESSING,
    "succeeded": Payment.Status.SUCCEEDED,
    "canceled": Payment.Status.CANCELLED,
}


def sync(order_id: int, *, by: str) -> None:
    """Asks Stripe about the order's undecided payment and settles what it says.

    At most once in ASK_AGAIN_AFTER per payment, however often and from wherever it is called: others meanwhile read
    what the first one found. Raises the gateway's exceptions when Stripe cannot be asked.
    """
    payment = Payment.objects.filter(order=order_id, status__in=Payment.UNDECIDED).first()
    if payment is None or not payment.stripe_payment_intent_id:
        return
    ours = Payment.objects.filter(Q(asked_at=None) | Q(asked_at__lte=Now() - ASK_AGAIN_AFTER), pk=payment.pk)
    if ours.update(asked_at=Now()):
        settle(payment.pk, intent=stripe_gateway.retrieve_payment_intent(payment.stripe_payment_intent_id), by=by)


@retried_on_conflict
@transaction.atomic
def settle(payment_id: int, *, intent: Intent, by: str) -> Payment:
    """Makes our books agree with `intent`, freshly fetched. `by` says who noticed: webhook, poll, sync, expiry, staff.

    1. Lock reservation, order, payment, in that order. 2. What Stripe says never moves us backwards: a payment that
    is decided stays so. 3. A success is believed only if amount, currency and mode are the order's; otherwise
    nothing is issued and staff must look. 4. Success confirms the order; cancellation frees nothing by itself:
    whoever cancelled (payments.expiry) closes the order too.
    """
    order_id = Payment.objects.values_list("order_id", flat=True).get(pk=payment_id)
    order = orders.lock(order_id)
    payment = Payment.objects.select_for_update(of=("self",)).get(pk=payment_id)
    if payment.status == Payment.Status.NEW:  # the answer that named the intent was lost; now it is found
        move(
            payment,
            Payment.Status.OPEN,
            by=by,
            why="found at Stripe",
            stripe_payment_intent_id=intent.id,
            is_livemode=intent.is_livemode,
        )
    status = _MEANING.get(intent.status)
    if status == Payment.Status.SUCCEEDED and payment.status not in (*Payment.UNDECIDED, Payment.Status.SUCCEEDED):
        _needs_review(payment, order, reason=f"Stripe says succeeded, our books say {payment.status}")
    # The bank's "no" leaves its error on the intent; without one, "open" after "processing" is an answer grown old.
    is_stale = payment.status == Payment.Status.PROCESSING and status == Payment.Status.OPEN and not intent.last_error
    if status is None or status == payment.status or is_stale or payment.status not in Payment.UNDECIDED:
        return _note_error(payment, intent)
    if status == Payment.Status.SUCCEEDED:
        _succeed(payment, order, intent, by=by)
    elif payment.status in payment.TRANSITIONS[status]:
        move(payment, status, by=by, why=f"Stripe says {intent.status}")
    return _note_error(payment, intent)


def _succeed(payment: Payment, order: Order, intent: Intent, *, by: str) -> None:
    move(
        payment,
        Payment.Status.SUCCEEDED,
        by=by,
        why="Stripe says succeeded",
        amount_received_minor=intent.amount_received_minor,
        settled_by=by,
        succeeded_at=Now(),
    )
    failpoint("in_settle_0")
    difference = _difference(payment, intent)
    if difference or order.status != Order.Status.AWAITING_PAYMENT:
        _needs_review(payment, order, reason=difference or f"paid while the order is {order.status}")
        return
    orders.confirm(order, by=by, why="paid")
    logger.info("order paid", order=order.code, payment=payment.pk, by=by)


def _needs_review(payment: Payment, order: Order, *, reason: str) -> None:
    Order.objects.filter(pk=order.pk).update(needs_review=reason)
    logger.critical("payment does not fit its order", order=order.code, payment=payment.pk, reason=reason)


def _difference(payment: Payment, intent: Intent) -> str:
    """In words, how what was paid differs from what was owed; empty when it fits."""
    if (intent.amount_received_minor, intent.currency) != (payment.amount_minor, payment.currency):
        paid = f"{intent.amount_received_minor} {intent.currency}"
        return f"paid {paid} instead of {payment.amount_minor} {payment.currency} (minor units)"
    if intent.is_livemode != payment.is_livemode:
        return "paid in the other mode (live and test mixed)"
    return ""


def _note_error(payment: Payment, intent: Intent) -> Payment:
    """A declined card changes nothing but what staff can read."""
    if intent.last_error and intent.last_error[:250] != payment.last_error:
        payment.last_error = intent.last_error[:250]
        payment.save(update_fields=["last_error"])
    return payment
