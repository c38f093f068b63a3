"""What Stripe's events mean to us. Only an event's type and its object's id are believed: the object is fetched anew,
so the outcome depends on the state at Stripe, not on the order, number or age of the events.
"""

import time
import traceback
from collections.abc import Callable

import structlog
from celery.exceptions import SoftTimeLimitExceeded
from django.db import transaction

from config.database import retried_on_conflict
from config.failpoints import failpoint
from payments import breaker, inbox, matching, rebuilding, refunds, settlement, stripe_gateway, truth
from payments.matching import NoMatch
from payments.models import Payment, WebhookEvent
from payments.stripe_gateway import Facts, RefundFacts

logger = structlog.get_logger(__name__)


def process(event_id: int, *, only_if_due: bool = False) -> None:
    """Deals with one stored event; whatever goes wrong is written on its row, and tried again later.

    1. Count the attempt. 2. Fetch the object from Stripe, no transaction open. 3. One commit: the event PROCESSED and
    its effect. Two workers with the same event meet at the event's row; the second finds it done.
    """
    event = inbox.take(event_id, only_if_due=only_if_due)
    if event is None:
        return
    began = time.monotonic()
    try:
        _handle(event)
    except SoftTimeLimitExceeded:
        raise  # the task's time is over, not the event's fault: its lease ends and the sweep finds it
    except (NoMatch, settlement.WrongMode) as reason:
        inbox.park(event, str(reason))
    except stripe_gateway.StripePaused as pause:
        inbox.rest(event, str(pause))
    except Exception:  # any bug or fault: the event must not be lost, nor stop the others
        logger.exception("webhook event failed", webhook_event=event.pk, type=event.type, attempt=event.attempts)
        inbox.put_off(event, traceback.format_exc(limit=-8))
    finally:
        inbox.note_time(event.pk, milliseconds=round((time.monotonic() - began) * 1000))


def sweep(*, limit: int = 200) -> int:
    """Processes events that no task picked up (broker down, worker killed); how many were tried."""
    waiting = [] if breaker.is_open() else inbox.due(limit=limit)
    for event_id in waiting:
        process(event_id, only_if_due=True)
    return len(waiting)


def _handle(event: WebhookEvent) -> None:
    handle = HANDLERS.get(event.type)
    if handle is None:
        with transaction.atomic():
            inbox.finish(event.pk, WebhookEvent.Status.IGNORED, why="a type we do not handle")
        return
    if event.is_livemode != stripe_gateway.is_livemode():
        raise NoMatch("it is from the other mode (live and test)")
    try:
        handle(event)
    except NoMatch as reason:
        if reason.facts is None or not inbox.is_old(event):
            raise
        _settle(event, _rebuilt(reason.facts, reason))


def _rebuilt(facts: Facts, reason: NoMatch) -> Payment:
    try:
        return rebuilding.rebuild(facts)
    except rebuilding.CannotRebuild as error:
        raise NoMatch(f"{reason}; it cannot be rebuilt: {error}") from error


def _intent_changed(event: WebhookEvent) -> None:
    _settle(event, matching.of_intent(event.object_id))


def _session_changed(event: WebhookEvent) -> None:
    _settle(event, matching.of_session(event.object_id))


def _settle(event: WebhookEvent, payment: Payment) -> None:
    facts = _fetch(payment, event)
    failpoint("webhook_after_retrieve")
    settlement.make_room(payment.pk, facts=facts)
    _apply(event.pk, payment.pk, facts)


def _fetch(payment: Payment, event: WebhookEvent) -> Facts:
    """The payment as a whole; while our row does not name it, the event's own object is all there is."""
    if payment.stripe_id and not (payment.mode == Payment.Mode.HOSTED and not payment.stripe_session_id):
        return truth.fetch(payment)
    if event.type.startswith("checkout.session."):
        return stripe_gateway.retrieve_session(event.object_id)
    if payment.mode == Payment.Mode.HOSTED and (found := truth.find(payment)):
        return found
    return stripe_gateway.retrieve_payment_intent(event.object_id)


@retried_on_conflict
def _apply(event_id: int, payment_id: int, facts: Facts) -> None:
    with transaction.atomic():
        if inbox.finish(event_id, WebhookEvent.Status.PROCESSED, why=f"Stripe says {facts.stripe_status}"):
            settlement.settle_in(payment_id, facts=facts, by="webhook")
            failpoint("before_webhook_commit")


def _refund_changed(event: WebhookEvent) -> None:
    facts = stripe_gateway.retrieve_refund(event.object_id)
    refund = matching.of_refund(facts)
    _apply_refund(event.pk, refund.pk, facts)


@retried_on_conflict
def _apply_refund(event_id: int, refund_id: int, facts: RefundFacts) -> None:
    with transaction.atomic():
        if inbox.finish(event_id, WebhookEvent.Status.PROCESSED, why=f"Stripe says {facts.stripe_status}"):
            refunds.follow(refund_id, facts=facts, by="webhook")
            failpoint("before_webhook_commit")


HANDLERS: dict[str, Callable[[WebhookEvent], None]] = {
    "payment_intent.processing": _intent_changed,
    "payment_intent.succeeded": _intent_changed,
    "payment_intent.payment_failed": _intent_changed,
    "payment_intent.canceled": _intent_changed,
    "checkout.session.completed": _session_changed,
    "checkout.session.expired": _session_changed,
    "checkout.session.async_payment_succeeded": _session_changed,
    "checkout.session.async_payment_failed": _session_changed,
    "refund.created": _refund_changed,
    "refund.updated": _refund_changed,
    "refund.failed": _refund_changed,
}
