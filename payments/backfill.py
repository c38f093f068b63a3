"""Events that Stripe could not deliver are fetched from its list and go the way of all events, through the inbox.

Stripe keeps them for 30 days (docs.stripe.com/api/events). Each run goes back an hour beyond the last one, since events
may be listed late and several have the same second; the inbox keeps each id once.
"""

from datetime import datetime, timedelta

import structlog
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now

from config.database import database_now
from config.locks import run_alone
from payments import inbox, stripe_gateway
from payments.models import Payment, StripeCursor, WebhookEvent
from payments.webhooks import HANDLERS

logger = structlog.get_logger(__name__)

NAME = "events"
OVERLAP = timedelta(hours=1)
FIRST_TIME = timedelta(days=3)  # how long Stripe itself goes on trying
KEPT_BY_STRIPE = timedelta(days=30)
SILENT_AFTER = timedelta(minutes=10)
ALONE_SECONDS = 120


def fetch_missed(*, since: datetime | None = None, everything: bool | None = None) -> int:
    """Stores the events that are not here yet; how many. No transaction is open.

    `since` None: from where the last run ended. `everything` None: all of them while Stripe seems not to reach us, else
    those that Stripe knows it could not deliver. A run that dies is begun anew by the next. Raises the gateway's errors.
    """
    began = database_now()
    cursor = StripeCursor.objects.filter(pk=NAME).first()
    start = since or (cursor.read_to - OVERLAP if cursor else began - FIRST_TIME)
    takes_all = is_silent() if everything is None else everything
    stored = _fetch(max(start, began - KEPT_BY_STRIPE), only_undelivered=not takes_all)
    if since is None:
        StripeCursor.objects.update_or_create(pk=NAME, defaults={"read_to": began, "finished_at": Now()})
    if stored:
        logger.warning("events fetched that were not delivered", count=stored)
    return stored


def fetch_missed_in_turn() -> None:
    """For the schedule: quietly leaves it to another process that is at it, or to the next run while Stripe is away."""
    with run_alone("fetch_missed_events", seconds=ALONE_SECONDS) as is_alone:
        if not is_alone:
            return
        try:
            fetch_missed()
        except stripe_gateway.NO_WORD as error:
            logger.warning("missed events not fetched", error=str(error))


def is_silent() -> bool:
    """Whether payments were decided for minutes without Stripe's telling us of any: its webhooks do not arrive."""
    heard = WebhookEvent.objects.filter(
        Q(object_id=OuterRef("stripe_payment_intent_id")) | Q(object_id=OuterRef("stripe_session_id")),
        source=WebhookEvent.Source.WEBHOOK,
    )
    lately = Payment.objects.filter(
        status=Payment.Status.SUCCEEDED,
        succeeded_at__gt=Now() - timedelta(hours=1),
        succeeded_at__lte=Now() - timedelta(seconds=60),
    )
    if WebhookEvent.objects.filter(source=WebhookEvent.Source.WEBHOOK, received_at__gt=Now() - SILENT_AFTER).exists():
        return False
    return lately.filter(~Exists(heard)).exists()


def _fetch(since: datetime, *, only_undelivered: bool) -> int:
    stored, last = 0, None
    types = sorted(HANDLERS)
    while True:
        events, has_more = stripe_gateway.list_events(types, since=since, only_undelivered=only_undelivered, after=last)
        for event in events:
            stored += inbox.store(event, source=WebhookEvent.Source.BACKFILL)
        if not has_more or not events:
            return stored
        last = events[-1]["id"]
