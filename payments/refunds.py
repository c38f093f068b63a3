"""Money that goes back: asked for in the commit of its cause, submitted to Stripe by whoever comes first, followed to its end.

The row is the job. Its key is committed before it is sent; before a refund is sent a second time, it is looked up at
Stripe by its metadata, so a lost answer never pays twice. A refund that failed for good is tried again as a new row.
"""

from datetime import timedelta
from typing import Any

import structlog
from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from config import features
from config.database import retried_on_conflict
from config.failpoints import failpoint
from config.money import Money
from config.nudges import nudge
from config.state_machine import move
from payments import breaker, stripe_gateway
from payments.models import Payment, Refund
from payments.stripe_gateway import RefundFacts
from reservations import orders
from reservations.models import Order

logger = structlog.get_logger(__name__)

LEASE = timedelta(seconds=30)  # no sweep tries the same refund for so long; doubled each time
LONGEST_WAIT = timedelta(hours=1)
LOOK_AGAIN_AFTER = timedelta(hours=1)  # at one that Stripe has and that is not done; its webhook normally tells
TRY_AGAIN_AFTER = timedelta(minutes=10)
REFUSED_WAIT = timedelta(days=1)  # a refusal is for staff; asking every hour would only repeat it
TRIES = 3  # rows for one payment before it is left to staff


class NotOpen(Exception):
    """The refund is done, or Stripe has it already."""


def give_back(
    payment: Payment, order: Order, *, reason: str, by: str, note: str, currency: str | None = None
) -> Refund | None:
    """Everything left of what `payment` received goes back, in the caller's transaction, the payment's row locked.

    With the refund the buyer's letter is written. `currency` where another than the payment's was received. None when
    nothing is left.
    """
    left = payment.amount_received_minor - payment.refunded_minor
    if left <= 0:
        return None
    amount = Money(left, currency or payment.currency)
    refund = _write_down(payment, amount, reason=reason, by=by, note=note, attempt=payment.refunds.count() + 1)
    orders.queue_refund_notice(order, amount=amount, why=reason.lower(), dedupe_key=f"refund:{order.code}:{payment.pk}")
    logger.critical("payment goes back", order=order.code, payment=payment.pk, refund=refund.pk, reason=reason)
    return refund


def _write_down(payment: Payment, amount: Money, *, reason: str, by: str, note: str, attempt: int) -> Refund:
    Payment.objects.filter(pk=payment.pk).update(refunded_minor=F("refunded_minor") + amount.amount_minor)
    payment.refunded_minor += amount.amount_minor
    stem = payment.stripe_payment_intent_id or payment.stripe_session_id
    refund = Refund.objects.create(
        payment=payment,
        attempt=attempt,
        idempotency_key=f"refund:{reason.lower()}:{stem}:{attempt}",
        amount_minor=amount.amount_minor,
        currency=amount.currency,
        reason=reason,
        note=note[:250],
        by=by,
        next_attempt_at=Now() + (TRY_AGAIN_AFTER if attempt > 1 else timedelta()),
    )
    nudge("payments.submit_refund", queue="checkout", refund_id=refund.pk)
    return refund


def submit(refund_id: int, *, by: str = "refunds") -> None:
    """Sends one refund to Stripe if it is due, or asks how it stands. What Stripe cannot say now is asked again later."""
    refund = _take(refund_id)
    if refund is None or _waits_for_staff(refund, by=by):
        return
    try:
        facts = _sent(refund) if refund.status == Refund.Status.REQUESTED else _asked(refund)
    except stripe_gateway.StripeRefused as refusal:
        _refused(refund.pk, str(refusal), by=by)
    except stripe_gateway.StripePaused:
        Refund.objects.filter(pk=refund.pk).update(attempts=F("attempts") - 1, next_attempt_at=Now() + LEASE)
    except (stripe_gateway.StripeUnavailable, stripe_gateway.StripeMisconfigured) as error:
        logger.warning("refund not certain, tried again", refund=refund.pk, error=str(error))
        Refund.objects.filter(pk=refund.pk).update(last_error=str(error)[:250])
    else:
        failpoint("after_refund_before_commit")
        follow(refund.pk, facts=facts, by=by)


def submit_due(*, limit: int = 50) -> int:
    """Refunds that no task picked up, or whose end is not known yet, oldest first; how many were tried."""
    if breaker.is_open():
        return 0
    due = Refund.objects.filter(status__in=Refund.OWED, next_attempt_at__lte=Now()).order_by("next_attempt_at", "id")
    ids = list(due.values_list("pk", flat=True)[:limit])
    for refund_id in ids:
        try:
            submit(refund_id)
        except SoftTimeLimitExceeded:
            raise  # the task's time is over: what is left is found again
        except Exception:
            logger.exception("refund could not be submitted", refund=refund_id)
    return len(ids)


@retried_on_conflict
@transaction.atomic
def follow(refund_id: int, *, facts: RefundFacts, by: str) -> Refund:
    """Makes our row agree with what Stripe says of the refund; a second call finds nothing to do.

    Locks the order, the payment and the refund, in that order. One that failed is tried again as a new row, and its
    order is marked for staff.
    """
    order_id, payment_id = Refund.objects.values_list("payment__order_id", "payment_id").get(pk=refund_id)
    order = orders.lock(order_id)
    payment = Payment.objects.select_for_update(of=("self",)).get(pk=payment_id)
    refund = Refund.objects.select_for_update(of=("self",)).get(pk=refund_id)
    if facts.status not in Refund.TRANSITIONS or refund.status not in Refund.TRANSITIONS[facts.status]:
        return refund
    known: dict[str, Any] = {"stripe_refund_id": facts.id, "last_error": facts.error[:250]}
    why = f"Stripe says {facts.stripe_status}"
    if facts.status == Refund.Status.SUCCEEDED:
        move(refund, Refund.Status.SUCCEEDED, by=by, why=why, succeeded_at=Now(), **known)
    elif facts.status == Refund.Status.SUBMITTED:
        move(refund, Refund.Status.SUBMITTED, by=by, why=why, next_attempt_at=Now() + LOOK_AGAIN_AFTER, **known)
    else:
        _fail(refund, payment, order, by=by, why=why, **known)
    return refund


def _fail(refund: Refund, payment: Payment, order: Order, *, by: str, why: str, **known: Any) -> None:
    """The money is ours again, and the buyer's due: tried again by itself, and staff know."""
    move(refund, Refund.Status.FAILED, by=by, why=why, **known)
    Payment.objects.filter(pk=payment.pk).update(refunded_minor=F("refunded_minor") - refund.amount_minor)
    payment.refunded_minor -= refund.amount_minor
    Order.objects.filter(pk=order.pk).update(needs_review=f"refund of {refund.amount} failed: {why}"[:250])
    logger.critical("refund failed", order=order.code, refund=refund.pk, error=refund.last_error, why=why)
    if refund.reason in Refund.AUTOMATIC and refund.attempt < TRIES:
        again = refund.attempt + 1
        _write_down(payment, refund.amount, reason=refund.reason, by=refund.by, note=refund.note, attempt=again)


def submit_now(refund: Refund, *, by: str) -> None:
    """For staff: sends a refund that waits, whatever the flag says. Raises NotOpen."""
    if refund.status not in Refund.OWED:
        raise NotOpen
    Refund.objects.filter(pk=refund.pk).update(next_attempt_at=Now())
    submit(refund.pk, by=by)


@transaction.atomic
def try_again(refund: Refund, *, by: str) -> Refund:
    """For staff: a refund that failed is asked for anew. Raises NotOpen when it did not fail, or its money has gone back since."""
    order = orders.lock(refund.payment.order_id)
    payment = Payment.objects.select_for_update(of=("self",)).get(pk=refund.payment_id)
    refund.refresh_from_db()
    left = payment.amount_received_minor - payment.refunded_minor
    if refund.status != Refund.Status.FAILED or left < refund.amount_minor:
        raise NotOpen
    logger.info("refund asked for anew", order=order.code, refund=refund.pk, by=by)
    attempt = payment.refunds.count() + 1
    return _write_down(payment, refund.amount, reason=refund.reason, by=by, note=refund.note, attempt=attempt)


def _take(refund_id: int) -> Refund | None:
    """Counts the attempt and keeps the sweep away for a while; None when nothing is due."""
    due = Refund.objects.filter(pk=refund_id, status__in=Refund.OWED, next_attempt_at__lte=Now())
    attempts = due.values_list("attempts", flat=True).first()
    if attempts is None:
        return None
    wait = min(LEASE * 2 ** min(attempts, 10), LONGEST_WAIT)
    if not due.filter(attempts=attempts).update(attempts=F("attempts") + 1, next_attempt_at=Now() + wait):
        return None  # another worker was first
    return Refund.objects.select_related("payment").get(pk=refund_id)


def _waits_for_staff(refund: Refund, *, by: str) -> bool:
    if refund.reason not in Refund.AUTOMATIC or refund.status != Refund.Status.REQUESTED or by.startswith("staff"):
        return False
    return not features.is_on("auto-refund", subject=str(refund.payment_id))


def _sent(refund: Refund) -> RefundFacts:
    intent_id = refund.payment.stripe_payment_intent_id or ""
    metadata = {"env": settings.STRIPE_METADATA_ENV[:500], "refund": str(refund.pk)}
    was_sent = refund.sent_at is not None
    Refund.objects.filter(pk=refund.pk, sent_at=None).update(sent_at=Now())
    if was_sent and (found := stripe_gateway.find_refund(intent_id, metadata)):
        return found  # the answer was lost, or was a 500 that Stripe would repeat under the key
    failpoint("before_refund")
    params = {"payment_intent": intent_id, "amount": refund.amount_minor, "metadata": metadata}
    try:
        return stripe_gateway.create_refund(params, idempotency_key=refund.idempotency_key)
    except stripe_gateway.StripeUnavailable as failure:
        if not failure.was_answered:
            raise
        if found := stripe_gateway.find_refund(intent_id, metadata):
            return found
        _renew_key(refund)
        raise


def _renew_key(refund: Refund) -> None:
    """The key is spent on a failure at Stripe, which made nothing; the next call uses a fresh one."""
    fresh = f"{refund.idempotency_key.split('/')[0]}/{refund.attempts}"
    Refund.objects.filter(pk=refund.pk, status=Refund.Status.REQUESTED).update(idempotency_key=fresh)


def _asked(refund: Refund) -> RefundFacts:
    return stripe_gateway.retrieve_refund(refund.stripe_refund_id or "")


@retried_on_conflict
@transaction.atomic
def _refused(refund_id: int, error: str, *, by: str) -> None:
    """Stripe will not do it (it was refunded there by hand, or disputed): staff decide."""
    order = orders.lock(Refund.objects.values_list("payment__order_id", flat=True).get(pk=refund_id))
    refund = Refund.objects.select_for_update(of=("self",)).select_related("payment").get(pk=refund_id)
    if refund.status != Refund.Status.REQUESTED:
        return
    Refund.objects.filter(pk=refund.pk).update(next_attempt_at=Now() + REFUSED_WAIT, last_error=error[:250])
    Order.objects.filter(pk=order.pk).update(needs_review=f"refund refused by Stripe: {error}"[:250])
    logger.critical("refund refused", order=order.code, refund=refund.pk, error=error, by=by)
