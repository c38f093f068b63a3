"""What Stripe sent is for people who look into a matter; long after it was dealt with, it is only personal data."""

import time
from datetime import timedelta

import structlog
from django.db.models import QuerySet
from django.db.models.functions import Now

from payments.models import WebhookEvent

logger = structlog.get_logger(__name__)

KEEP_PAYLOADS = timedelta(days=90)
BATCH = 1_000
TASK_SECONDS = 45.0  # a task's soft time limit is 60


def empty_old_payloads(*, for_seconds: float | None = None) -> int:
    """Empties the payloads of events dealt with long ago; how many. The events stay: Stripe may send one twice.

    Parked and dead ones keep theirs, because staff have not dealt with them.
    """
    until = None if for_seconds is None else time.monotonic() + for_seconds
    emptied = 0
    while batch := WebhookEvent.objects.filter(pk__in=_old().values("pk")[:BATCH]).update(payload={}):
        emptied += batch
        if until is not None and time.monotonic() >= until:
            break
    if emptied:
        logger.info("old payloads emptied", count=emptied)
    return emptied


def _old() -> QuerySet[WebhookEvent]:
    status = WebhookEvent.Status
    done = WebhookEvent.objects.filter(status__in=[status.PROCESSED, status.IGNORED])
    return done.exclude(payload={}).filter(processed_at__lt=Now() - KEEP_PAYLOADS).order_by("processed_at")
