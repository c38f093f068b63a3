"""Orders whose time to pay is over, and orders that their buyers cancel.

Stripe is the referee: it is asked to cancel first, and only a confirmed cancel gives the stock back. "Already
succeeded" settles the order instead; "processing" waits for the bank; no answer keeps the seat and tries again.
"""

from datetime import timedelta

import structlog
from celery.exceptions import SoftTimeLimitExceeded
from django.db import transaction
from django.db.models import Exists, F, OuterRef
from django.db.models.functions import Now

from config.database import database_now, retried_on_conflict
from config.failpoints import failpoint
from config.state_machine import move
from payments import opening, settlement, stripe_gateway
from payments.models import Payment
from payments.stripe_gateway import Intent
from reservations import orders
from reservations.models import Order, Reservation

logger = structlog.get_logger(__name__)

LEASE = timedelta(seconds=30)  # no sweep tries the same payment for so long; doubled each time
LONGEST_WAIT = timedelta(minutes=5)
LONGEST_WAIT_FOR_BANK = timedelta(hours=1)


class AlreadyPaid(Exception):
    """The order cannot be cancelled: its payment succeeded."""


class CannotTell(Exception):
    """Stripe did not answer, or not clearly: the seats stay kept."""


class BankDecides(CannotTell):
    """The buyer's bank has the payment in hand and has not decided: the seats stay kept until it does."""


def close_due(*, limit: int = 100) -> int:
    """Closes orders whose reservation's time is over, oldest first; how many were cancelled."""
    payments = Payment.objects.filter(order=OuterRef("pk"))
    undecided = payments.filter(status__in=Payment.UNDECIDED)
    due = Order.objects.filter(
        ~Exists(undecided) | Exists(undecided.filter(next_attempt_at__lte=Now())),
        # Paid, but not what was owed: staff decide (needs_review).
        ~Exists(payments.filter(status=Payment.Status.SUCCEEDED)),
        status=Order.Status.AWAITING_PAYMENT,
        reservation__status=Reservation.Status.ORDERED,
        reservation__expires_at__lte=database_now(),
    )
    closed = 0
    for order_id in due.order_by("reservation__expires_at").values_list("pk", flat=True)[:limit]:
        try:
            close(order_id, to=Reservation.Status.EXPIRED, by="expiry", why="time to pay is over")
            closed += 1
        except (AlreadyPaid, CannotTell):
            continue
        except SoftTimeLimitExceeded:
            raise  # the task's time is over: what is left is found again
        except Exception:
            logger.exception("order could not be closed", order_id=order_id)
    return closed


def close(order_id: int, *, to: str, by: str, why: str) -> None:
    """Cancels the order's payment at Stripe, then the order, its reservation ending `to` EXPIRED or RELEASED.

    Raises AlreadyPaid (the order is settled by then), CannotTell (nothing changed). Calling again is harmless.
    """
    payment = Payment.objects.filter(order=order_id, status__in=Payment.UNDECIDED).first()
    if payment is not None:
        intent = _ended_at_stripe(payment)
        failpoint("after_cancel_before_commit")
        if intent is not None and intent.status != "canceled":
            settlement.settle(payment.pk, intent=intent, by=by)
            if intent.status == "succeeded":
                raise AlreadyPaid
            raise BankDecides if intent.status == "processing" else CannotTell
    _cancel_in_our_books(order_id, payment_id=payment.pk if payment else None, to=to, by=by, why=why)


@retried_on_conflict
def review_done(order_id: int, *, by: str) -> None:
    """Staff have dealt with the money of an order that needed review, at Stripe or by hand: the mark goes, and an order
    that was never confirmed is closed, its stock given back. Nothing is sent to the buyer.
    """
    with transaction.atomic():
        order = orders.lock(order_id)
        if order.status == Order.Status.AWAITING_PAYMENT and order.payments.filter(status="SUCCEEDED").exists():
            orders.cancel(order, to=Reservation.Status.RELEASED, by=by, why="closed after review")
        Order.objects.filter(pk=order.pk).update(needs_review="")


def _ended_at_stripe(payment: Payment) -> Intent | None:
    """The intent after our attempt to cancel it; None when Stripe has none and will have none. No transaction is open."""
    _lease(payment)
    try:
        if payment.status == Payment.Status.PROCESSING:  # the bank's to decide: ask, do not interfere
            intent = stripe_gateway.retrieve_payment_intent(payment.stripe_payment_intent_id or "")
            if intent.status in {"processing", "succeeded", "canceled"}:
                return intent
            return _cancelled(intent.id, payment)  # the bank refused
        # A NEW payment may or may not exist at Stripe: it is found by its key, or made and then cancelled.
        if payment.status == Payment.Status.NEW:
            return _cancelled(opening.open_payment(payment).id, payment)
        return _cancelled(payment.stripe_payment_intent_id or "", payment)
    except opening.NeverMade:
        return None
    except stripe_gateway.StripeRefused as refusal:
        if payment.status == Payment.Status.NEW and refusal.is_about_the_request:
            return None  # Stripe would not even make it (a price below its minimum, say): nothing can be charged
        raise CannotTell from refusal
    except (stripe_gateway.StripeUnavailable, stripe_gateway.StripeMisconfigured, opening.PaymentClosed) as error:
        logger.warning("cancelling not certain, seats stay kept", payment=payment.pk, error=str(error))
        raise CannotTell from error


def _cancelled(intent_id: str, payment: Payment) -> Intent:
    # A key of its own for each attempt, committed before it is sent: Stripe would repeat a refusal ("it is processing")
    # under the same key for a day, whatever became of the intent meanwhile. Cancelling twice does no harm.
    key = f"cancel:{payment.idempotency_key}:{payment.close_attempts}"
    try:
        return stripe_gateway.cancel_payment_intent(intent_id, idempotency_key=key)
    except stripe_gateway.StripeRefused:  # too late to cancel: see what became of it
        return stripe_gateway.retrieve_payment_intent(intent_id)


def _lease(payment: Payment) -> None:
    """Counts the attempt and keeps the sweep away from it: longer each time, and for long while a bank decides."""
    most = LONGEST_WAIT_FOR_BANK if payment.status == Payment.Status.PROCESSING else LONGEST_WAIT
    wait = min(LEASE * 2 ** min(payment.close_attempts, 10), most)
    Payment.objects.filter(pk=payment.pk).update(next_attempt_at=Now() + wait, close_attempts=F("close_attempts") + 1)
    payment.refresh_from_db()


@retried_on_conflict
@transaction.atomic
def _cancel_in_our_books(order_id: int, *, payment_id: int | None, to: str, by: str, why: str) -> None:
    """`payment_id` is the payment that Stripe has just cancelled, if there was one to cancel."""
    order = orders.lock(order_id)
    payment = Payment.objects.select_for_update(of=("self",)).filter(order=order, status__in=Payment.UNDECIDED).first()
    if order.status == Order.Status.PAID or order.payments.filter(status=Payment.Status.SUCCEEDED).exists():
        raise AlreadyPaid
    if payment is not None and payment.pk != payment_id:
        raise CannotTell  # another attempt began meanwhile, which Stripe has not been asked to cancel
    if payment is not None:
        move(payment, Payment.Status.CANCELLED, by=by, why=why)
    if order.status == Order.Status.AWAITING_PAYMENT:
        orders.cancel(order, to=to, by=by, why=why)
        logger.info("order closed", order=order.code, by=by)
