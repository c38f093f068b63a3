"""Orders whose time to pay is over, orders that their buyers cancel, and payments that nobody needs any more.

Stripe is the referee: it is asked to end the payment first, and only its confirmed end gives the stock back. "Already
succeeded" settles the order instead; "processing" waits for the bank; no answer keeps the seat and tries again. Staff
may force the release of a seat that Stripe says nothing about; what is paid for it later is settled as a late success.
"""

from datetime import timedelta

import structlog
from celery.exceptions import SoftTimeLimitExceeded
from django.db import transaction
from django.db.models import Exists, F, OuterRef, QuerySet
from django.db.models.functions import Now

from config.database import database_now, retried_on_conflict
from config.failpoints import failpoint
from config.state_machine import move
from payments import breaker, opening, settlement, stripe_gateway, truth
from payments.models import Payment
from payments.stripe_gateway import Facts
from reservations import orders
from reservations.models import Order, Reservation

logger = structlog.get_logger(__name__)

LEASE = timedelta(seconds=30)  # no sweep tries the same payment for so long; doubled each time
LONGEST_WAIT = timedelta(minutes=5)
LONGEST_WAIT_FOR_BANK = timedelta(hours=1)
STUCK_AFTER = timedelta(minutes=10)  # staff are told of an order that cannot be closed for so long


class AlreadyPaid(Exception):
    """The order cannot be cancelled: its payment succeeded."""


class CannotTell(Exception):
    """Stripe did not answer, or not clearly: the seats stay kept."""


class BankDecides(CannotTell):
    """The buyer's bank has the payment in hand and has not decided: the seats stay kept until it does."""


class NotStuck(Exception):
    """The order's release need not be forced: its time is not over, or it is closed already."""


def close_due(*, limit: int = 100) -> int:
    """Closes orders whose reservation's time is over, oldest first; how many were cancelled. Rests while calls are paused."""
    if breaker.is_open():
        return 0
    payments = Payment.objects.filter(order=OuterRef("pk"))
    undecided = payments.filter(status__in=Payment.UNDECIDED)
    due = _over().filter(
        ~Exists(undecided) | Exists(undecided.filter(next_attempt_at__lte=Now())),
        # Paid, but not what was owed: settlement has decided.
        ~Exists(payments.filter(status=Payment.Status.SUCCEEDED)),
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


def close_left_over(*, limit: int = 50) -> int:
    """Ends payments whose order no longer waits for them (paid by another, or released by force); how many."""
    if breaker.is_open():
        return 0
    left_over = Payment.objects.filter(
        status__in=Payment.UNDECIDED,
        next_attempt_at__lte=Now(),
        order__status__in=[Order.Status.PAID, Order.Status.CANCELLED],
    )
    ended = 0
    for payment in left_over.order_by("next_attempt_at")[:limit]:
        try:
            end_payment(payment, by="expiry", why="its order does not wait for it")
            ended += 1
        except (AlreadyPaid, CannotTell):
            continue
        except SoftTimeLimitExceeded:
            raise
        except Exception:
            logger.exception("payment could not be ended", payment=payment.pk)
    return ended


def stuck() -> QuerySet[Order]:
    """Orders past their time that nobody could close for minutes, unless a bank is deciding: for staff to see."""
    at_bank = Payment.objects.filter(order=OuterRef("pk"), status=Payment.Status.PROCESSING)
    return _over().filter(~Exists(at_bank), reservation__expires_at__lte=Now() - STUCK_AFTER)


def close(order_id: int, *, to: str, by: str, why: str) -> None:
    """Ends the order's payment at Stripe, then the order, its reservation ending `to` EXPIRED or RELEASED.

    Raises AlreadyPaid (the order is settled by then), CannotTell (nothing changed). Calling again is harmless.
    """
    payment = Payment.objects.filter(order=order_id, status__in=Payment.UNDECIDED).first()
    if payment is not None:
        ended_as = _end_at_stripe(payment, by=by)
        failpoint("after_cancel_before_commit")
        _cancel_in_our_books(order_id, payment_id=payment.pk, ended_as=ended_as, to=to, by=by, why=why)
    else:
        _cancel_in_our_books(order_id, payment_id=None, ended_as="", to=to, by=by, why=why)


def end_payment(payment: Payment, *, by: str, why: str) -> None:
    """Ends one payment at Stripe and in our books, its order left as it is. Raises AlreadyPaid, CannotTell."""
    ended_as = _end_at_stripe(payment, by=by)
    _end_in_our_books(payment.pk, ended_as=ended_as, by=by, why=why)


@retried_on_conflict
@transaction.atomic
def force_release(order_id: int, *, by: str, why: str) -> None:
    """For staff: gives the seats of an order past its time back although Stripe has not confirmed that it is unpaid.

    The payment stays undecided, and `close_left_over` goes on asking: if it turns out to be paid, that is a late
    success, which ends as tickets or as a refund. Raises NotStuck, AlreadyPaid.
    """
    order = orders.lock(order_id)
    if order.status == Order.Status.PAID or order.payments.filter(status=Payment.Status.SUCCEEDED).exists():
        raise AlreadyPaid
    if order.status != Order.Status.AWAITING_PAYMENT or order.reservation.expires_at > database_now():
        raise NotStuck
    orders.cancel(order, to=Reservation.Status.EXPIRED, by=by, why=why, is_told=False)
    logger.critical("seats released by force", order=order.code, by=by)


@retried_on_conflict
@transaction.atomic
def review_done(order_id: int, *, by: str) -> None:
    """Staff have dealt with what an order was marked for: the mark goes. Nothing is sent to the buyer.

    An order whose money was dealt with by hand, and that was never confirmed, is closed, its stock given back.
    """
    order = orders.lock(order_id)
    if order.status == Order.Status.AWAITING_PAYMENT and order.payments.filter(status="SUCCEEDED").exists():
        orders.cancel(order, to=Reservation.Status.RELEASED, by=by, why="closed after review")
    Order.objects.filter(pk=order.pk).update(needs_review="")


def _over() -> QuerySet[Order]:
    return Order.objects.filter(
        status=Order.Status.AWAITING_PAYMENT,
        reservation__status=Reservation.Status.ORDERED,
        reservation__expires_at__lte=database_now(),
    )


def _end_at_stripe(payment: Payment, *, by: str) -> str:
    """Returns only when nothing can be charged any more, with the status it ends in; what Stripe says instead is
    settled. No transaction is open.
    """
    try:
        facts = _ended(payment)
    except opening.NeverMade:  # its key is too old to be sent, and Stripe knows nothing of it
        return Payment.Status.ORPHANED
    if facts is None:
        return Payment.Status.CANCELLED
    if facts.status in {Payment.Status.CANCELLED, Payment.Status.FAILED}:
        return facts.status
    try:
        settlement.settle(payment.pk, facts=facts, by=by)
    except settlement.WrongMode as error:  # told critically there; nothing of it is believed
        raise CannotTell from error
    if facts.status == Payment.Status.SUCCEEDED:
        raise AlreadyPaid
    raise BankDecides if facts.status == Payment.Status.PROCESSING else CannotTell


def _ended(payment: Payment) -> Facts | None:
    """How it stands after our attempt to end it; None when Stripe would not even make it. Raises opening.NeverMade."""
    _lease(payment)
    try:
        if payment.status == Payment.Status.PROCESSING:  # the bank's to decide: ask, do not interfere
            facts = truth.fetch(payment)
            return facts if facts.status != Payment.Status.OPEN else truth.end(payment)  # or the bank has refused
        # A NEW payment may or may not exist at Stripe: it is found by its key, or made and then ended.
        if payment.status == Payment.Status.NEW:
            return truth.end(payment, opening.open_payment(payment))
        return truth.end(payment)
    except stripe_gateway.StripeRefused as refusal:
        if payment.status == Payment.Status.NEW and refusal.is_about_the_request:
            return None  # Stripe would not even make it (a price below its minimum, say): nothing can be charged
        raise CannotTell from refusal
    except (stripe_gateway.StripeUnavailable, stripe_gateway.StripeMisconfigured, opening.PaymentClosed) as error:
        logger.warning("end not certain, seats stay kept", payment=payment.pk, error=str(error))
        raise CannotTell from error


def _lease(payment: Payment) -> None:
    """Counts the attempt and keeps the sweep away from it: longer each time, and for long while a bank decides."""
    most = LONGEST_WAIT_FOR_BANK if payment.status == Payment.Status.PROCESSING else LONGEST_WAIT
    wait = min(LEASE * 2 ** min(payment.close_attempts, 10), most)
    Payment.objects.filter(pk=payment.pk).update(next_attempt_at=Now() + wait, close_attempts=F("close_attempts") + 1)
    payment.refresh_from_db()


@retried_on_conflict
@transaction.atomic
def _cancel_in_our_books(order_id: int, *, payment_id: int | None, ended_as: str, to: str, by: str, why: str) -> None:
    """`payment_id` is the payment that Stripe has just ended, if there was one to end, and `ended_as` its status now."""
    order = orders.lock(order_id)
    payment = Payment.objects.select_for_update(of=("self",)).filter(order=order, status__in=Payment.UNDECIDED).first()
    if order.status == Order.Status.PAID or order.payments.filter(status=Payment.Status.SUCCEEDED).exists():
        raise AlreadyPaid
    if payment is not None and payment.pk != payment_id:
        raise CannotTell  # another attempt began meanwhile, which Stripe has not been asked to end
    if payment is not None:
        _move(payment, ended_as, by=by, why=why)
    if order.status == Order.Status.AWAITING_PAYMENT:
        orders.cancel(order, to=to, by=by, why=why)
        logger.info("order closed", order=order.code, by=by)


@retried_on_conflict
@transaction.atomic
def _end_in_our_books(payment_id: int, *, ended_as: str, by: str, why: str) -> None:
    orders.lock(Payment.objects.values_list("order_id", flat=True).get(pk=payment_id))
    payment = Payment.objects.select_for_update(of=("self",)).get(pk=payment_id)
    if payment.status == Payment.Status.SUCCEEDED:
        raise AlreadyPaid
    if payment.status in Payment.UNDECIDED:
        _move(payment, ended_as, by=by, why=why)


def _move(payment: Payment, ended_as: str, *, by: str, why: str) -> None:
    """An ORPHANED one that somebody found meanwhile is CANCELLED after all."""
    fits = payment.status in payment.TRANSITIONS[ended_as]
    move(payment, ended_as if fits else Payment.Status.CANCELLED, by=by, why=why)
