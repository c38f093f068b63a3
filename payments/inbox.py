"""The webhook inbox: every event is a row before it is answered, and stays one until somebody has dealt with it."""

from datetime import timedelta
from typing import Any

import structlog
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from config.nudges import nudge
from config.state_machine import MoveRefused, move
from payments.models import WebhookEvent

logger = structlog.get_logger(__name__)

# A nudged event is normally done within milliseconds; the sweep leaves it alone for this long.
PATIENCE = timedelta(seconds=2)
LEASE = timedelta(seconds=30)
# Three tries within a minute, then slower for a day (FEATURES P8).
WAITS = [timedelta(seconds=s) for s in (5, 20, 60, 300, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600)]
# An event that matches nothing of ours may be early by a commit; after an hour it is somebody else's.
PARK_AFTER = timedelta(hours=1)


@transaction.atomic
def store(event: dict[str, Any], *, is_handled: bool = True, source: str = WebhookEvent.Source.WEBHOOK) -> bool:
    """Keeps an event and nudges a worker; False when it was stored before (nothing happens again, but it is counted).

    One of a type that we do not handle is IGNORED from the start: Stripe sends several of those with each payment.
    """
    event = _storable(event)
    data = event.get("data")
    told = data.get("object") if isinstance(data, dict) else None
    object_id = told.get("id") if isinstance(told, dict) else None
    row, is_new = WebhookEvent.objects.get_or_create(
        stripe_id=event["id"],
        defaults={
            "type": event["type"][:80],
            "object_id": object_id if isinstance(object_id, str) else "",
            "api_version": str(event.get("api_version") or "")[:40],
            "is_livemode": bool(event.get("livemode")),
            "payload": event,
            "source": source,
            "status": WebhookEvent.Status.RECEIVED if is_handled else WebhookEvent.Status.IGNORED,
            "processed_at": None if is_handled else Now(),
            "next_attempt_at": Now() + PATIENCE,
        },
    )
    if is_new and is_handled:
        nudge("payments.process_webhook_event", queue="checkout", webhook_event_id=row.pk)
    elif not is_new and source == WebhookEvent.Source.WEBHOOK:
        WebhookEvent.objects.filter(pk=row.pk).update(duplicates=F("duplicates") + 1)
    return is_new


def _storable(value: Any) -> Any:
    """Without client secrets, which let their holder pay and are never stored, and without NUL, which PostgreSQL refuses."""
    if isinstance(value, str):
        return value.replace("\x00", "").encode("utf-8", "replace").decode()  # nor half characters
    if isinstance(value, dict):
        return {_storable(name): _storable(inner) for name, inner in value.items() if name != "client_secret"}
    return [_storable(inner) for inner in value] if isinstance(value, list) else value


def take(event_id: int, *, only_if_due: bool = False) -> WebhookEvent | None:
    """Counts an attempt and keeps the sweeps away for a while; None when the event needs nothing (any more).

    `only_if_due`: for sweeps, so that two of them with the same list do not both count.
    """
    waiting = WebhookEvent.objects.filter(pk=event_id, status=WebhookEvent.Status.RECEIVED)
    if only_if_due:
        waiting = waiting.filter(next_attempt_at__lte=Now())
    taken = waiting.update(attempts=F("attempts") + 1, next_attempt_at=Now() + LEASE)
    return WebhookEvent.objects.get(pk=event_id) if taken else None


def due(*, limit: int) -> list[int]:
    """Ids of events nobody has dealt with, oldest first."""
    waiting = WebhookEvent.objects.filter(status=WebhookEvent.Status.RECEIVED, next_attempt_at__lte=Now())
    return list(waiting.order_by("next_attempt_at", "id").values_list("pk", flat=True)[:limit])


def finish(event_id: int, status: str, *, why: str) -> bool:
    """PROCESSED or IGNORED, in the transaction of the event's effect; False when another worker was first.

    The event's row is the first lock of that transaction, so the second worker waits here until the first has
    committed, and then has nothing to do.
    """
    event = WebhookEvent.objects.select_for_update(of=("self",)).get(pk=event_id)
    if event.status != WebhookEvent.Status.RECEIVED:
        return False
    move(event, status, by="webhook", why=why, processed_at=Now(), last_error="")
    return True


def put_off(event: WebhookEvent, error: str) -> None:
    """Tried in vain: again later, and after a day the event is DEAD."""
    if event.attempts > len(WAITS):
        if _give_up(event, WebhookEvent.Status.DEAD, why="tried in vain", error=error):
            logger.critical("webhook event given up", webhook_event=event.pk, type=event.type)
        return
    WebhookEvent.objects.filter(pk=event.pk, status=WebhookEvent.Status.RECEIVED).update(
        next_attempt_at=Now() + WAITS[event.attempts - 1], last_error=error
    )


def rest(event: WebhookEvent, why: str) -> None:
    """Nothing was asked of Stripe, because calls are paused: soon again, and the attempt does not count."""
    WebhookEvent.objects.filter(pk=event.pk, status=WebhookEvent.Status.RECEIVED).update(
        next_attempt_at=Now() + LEASE, attempts=F("attempts") - 1, last_error=why
    )


def park(event: WebhookEvent, why: str) -> None:
    """Nothing of ours matches: tried again for an hour, then left to staff."""
    if is_old(event):
        if _give_up(event, WebhookEvent.Status.PARKED, why=why, error=why):
            logger.error("webhook event parked", webhook_event=event.pk, type=event.type, why=why)
        return
    wait = min(WAITS[min(event.attempts, len(WAITS)) - 1], timedelta(minutes=10))
    waiting = WebhookEvent.objects.filter(pk=event.pk, status=WebhookEvent.Status.RECEIVED)
    waiting.update(next_attempt_at=Now() + wait, last_error=why)


def is_old(event: WebhookEvent) -> bool:
    """Whether it has waited so long that what it is about cannot merely be late."""
    return WebhookEvent.objects.filter(pk=event.pk, received_at__lte=Now() - PARK_AFTER).exists()


def note_time(event_id: int, *, milliseconds: int) -> None:
    """How long the last attempt took."""
    WebhookEvent.objects.filter(pk=event_id).update(processing_ms=milliseconds)


def _give_up(event: WebhookEvent, status: str, *, why: str, error: str) -> bool:
    try:
        move(event, status, by="webhook", why=why, last_error=error)
    except MoveRefused:
        return False  # another worker has dealt with it meanwhile
    return True


def requeue(event: WebhookEvent, *, by: str) -> None:
    """For staff: a dead or parked event is tried once more, at once."""
    with transaction.atomic():
        move(event, WebhookEvent.Status.RECEIVED, by=by, why="requeued", attempts=0, next_attempt_at=Now())
        nudge("payments.process_webhook_event", queue="checkout", webhook_event_id=event.pk)
