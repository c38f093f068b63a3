"""What Stripe's events mean to us. Only an event's type and its object's id are believed: the object is fetched anew,
so the outcome depends on the state at Stripe, not on the order, number or age of the events.
"""

import traceback
from collections.abc import Callable

import structlog
from celery.exceptions import SoftTimeLimitExceeded
from django.db import transaction

from config.database import retried_on_conflict
from config.failpoints import failpoint
from payments import inbox, settlement, stripe_gateway
from payments.models import Payment, WebhookEvent
from payments.stripe_gateway import Intent

logger = structlog.get_logger(__name__)


class NoMatch(Exception):
    """The event is about an object that is not ours, or not yet."""


def process(event_id: int, *, only_if_due: bool = False) -> None:
    """Deals with one stored event; whatever goes wrong is written on its row, and tried again later.

    1. Count the attempt. 2. Fetch the object from Stripe, no transaction open. 3. One commit: the event PROCESSED and
    its effect. Two workers with the same event meet at the event's row; the second finds it done.
    """
    event = inbox.take(event_id, only_if_due=only_if_due)
    if event is None:
        return
    handle = HANDLERS.get(event.type)
    try:
        if handle is None:
            with transaction.atomic():
                inbox.finish(event.pk, WebhookEvent.Status.IGNORED, why="a type we do not handle")
        else:
            handle(event)
    except SoftTimeLimitExceeded:
        raise  # the task's time is over, not the event's fault: its lease ends and the sweep finds it
    except NoMatch as reason:
        inbox.park(event, str(reason))
    except Exception:  # any bug or fault: the event must not be lost, nor stop the others
        logger.exception("webhook event failed", webhook_event=event.pk, type=event.type, attempt=event.attempts)
        inbox.put_off(event, traceback.format_exc(limit=-8))


def sweep(*, limit: int = 200) -> int:
    """Processes events that no task picked up (broker down, worker killed); how many were tried."""
    waiting = inbox.due(limit=limit)
    for event_id in waiting:
        process(event_id, only_if_due=True)
    return len(waiting)


def _payment_intent_changed(event: WebhookEvent) -> None:
    payment = Payment.objects.filter(stripe_payment_intent_id=event.object_id).first()
    if payment is None:
        raise NoMatch(f"no payment with PaymentIntent {event.object_id}")
    intent = stripe_gateway.retrieve_payment_intent(event.object_id)
    failpoint("webhook_after_retrieve")
    _apply(event.pk, payment.pk, intent)


@retried_on_conflict
def _apply(event_id: int, payment_id: int, intent: Intent) -> None:
    with transaction.atomic():
        if inbox.finish(event_id, WebhookEvent.Status.PROCESSED, why=f"PaymentIntent is {intent.status}"):
            settlement.settle(payment_id, intent=intent, by="webhook")
            failpoint("before_webhook_commit")


HANDLERS: dict[str, Callable[[WebhookEvent], None]] = {
    "payment_intent.processing": _payment_intent_changed,
    "payment_intent.succeeded": _payment_intent_changed,
    "payment_intent.payment_failed": _payment_intent_changed,
    "payment_intent.canceled": _payment_intent_changed,
}
