"""What came more than once, or was turned away at the door, in the last day (P16)."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.db.models import Sum
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from payments.models import Payment, WebhookEvent
from reservations.models import Tally

A_DAY = timedelta(hours=24)

# The tallies' names, which `reservations.demand.tally` is called with, and what they mean to staff.
TALLIES: Mapping[str, Any] = {
    "hold_replayed": _("holds asked for again under their Idempotency-Key"),
    "hold_key_reused": _("Idempotency-Keys refused: used for another hold"),
    "webhook_refused_signature": _("webhooks refused: wrong signature"),
    "webhook_refused_timestamp": _("webhooks refused: too old"),
    "webhook_refused_unreadable": _("webhooks refused: unreadable"),
}
# These are kept on the rows that were repeated.
ON_ROWS: Mapping[str, Any] = {
    "checkout_replayed": _("checkouts repeated"),
    "webhook_duplicate": _("webhook events that came again"),
}


def in_a_day() -> dict[str, int]:
    """Each of the names above, and any other tally, with its number."""
    lately = Tally.objects.filter(minute__gt=Now() - A_DAY).order_by().values_list("name")
    events = WebhookEvent.objects.filter(received_at__gt=Now() - A_DAY)
    checkouts = Payment.objects.filter(order__created_at__gt=Now() - A_DAY)
    return {
        **dict.fromkeys(TALLIES, 0),
        **dict(lately.annotate(n=Sum("count"))),
        "checkout_replayed": checkouts.aggregate(n=Sum("replays", default=0))["n"],
        "webhook_duplicate": events.aggregate(n=Sum("duplicates", default=0))["n"],
    }
