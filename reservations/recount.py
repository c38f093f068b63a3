"""Do the counters say what the books say? Counted anew from the claims, and set right on demand.

A comparison is one statement, which sees one moment: no buyer's transaction changes counters without claims, so it finds
no drift that is not there. Mending locks the quota (or promo code) first and counts after: whoever counted it up or down
has committed by then, and the next one waits. One lock at a time, so no order of locks is needed.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import structlog
from django.db import connection, transaction
from django.db.models import Q

from config.database import retried_on_conflict
from reservations.models import PromoCode, Reservation
from ticketing import quotas
from ticketing.models import Quota

logger = structlog.get_logger(__name__)

# held: claims of reservations stored ACTIVE or ORDERED, past their time or not. sold: a claim counts for as many of its
# line's units as still count as sold.
_COUNTED = """
    SELECT q.held, q.sold, q.capacity,
        COALESCE((SELECT sum(c.quantity) FROM reservations_claim c
            JOIN reservations_reservationline l ON l.id = c.line_id
            JOIN reservations_reservation r ON r.id = l.reservation_id
            WHERE c.quota_id = q.id AND r.status IN ('ACTIVE', 'ORDERED')), 0)::int,
        COALESCE((SELECT sum(c.quantity / l.quantity) FROM reservations_claim c
            JOIN reservations_reservationline l ON l.id = c.line_id
            JOIN reservations_reservation r ON r.id = l.reservation_id
            JOIN reservations_orderline o ON o.reservation_line_id = l.id
            WHERE c.quota_id = q.id AND r.status = 'CONFIRMED' AND o.is_sold), 0)::int
    FROM ticketing_quota q WHERE q.id = %s
"""


@dataclass(frozen=True, slots=True)
class Count:
    """One counter's row: what it says (`stored`), what the books say (`counted`), by counter."""

    kind: str  # "quota" or "promo_code"
    id: int
    name: str
    event: str  # slug
    stored: dict[str, int]
    counted: dict[str, int]
    limit: int | None  # capacity, or most uses

    @property
    def is_right(self) -> bool:
        return self.stored == self.counted

    @property
    def fits(self) -> bool:
        """Whether the database would take what was counted."""
        return self.limit is None or sum(self.counted.values()) <= self.limit

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def differing(*, event_id: int | None = None) -> Iterator[Count]:
    """The counters that disagree with the books, of one event or of all."""
    of_event = Q() if event_id is None else Q(event=event_id)
    for quota in Quota.objects.filter(of_event).select_related("event").order_by("pk"):
        if not (found := _count_quota(quota)).is_right:
            yield found
    for code in PromoCode.objects.filter(of_event).select_related("event").order_by("pk"):
        if not (found := _count_promo_code(code)).is_right:
            yield found


@retried_on_conflict
@transaction.atomic
def mend(count: Count, *, by: str) -> Count:
    """Counts once more under the lock and sets the counter to that; what it counted, `stored` being what was replaced.

    Where that would be more than the limit (`fits` is False) nothing is changed: the capacity must be raised, or
    somebody must give something back, first.
    """
    if count.kind == "quota":
        quota = Quota.objects.select_related("event").select_for_update(of=("self",), no_key=True).get(pk=count.id)
        found = _count_quota(quota)
        if found.fits and not found.is_right:
            moved = {counter: found.counted[counter] - found.stored[counter] for counter in ("held", "sold")}
            quotas.move_stock({quota.pk: quotas.Move(**moved)})
    else:
        code = PromoCode.objects.select_related("event").select_for_update(of=("self",), no_key=True).get(pk=count.id)
        found = _count_promo_code(code)
        if found.fits and not found.is_right:
            PromoCode.objects.filter(pk=code.pk).update(uses=found.counted["uses"])
    if not found.is_right:
        told = {"kind": found.kind, "id": found.id, "stored": found.stored, "counted": found.counted, "by": by}
        logger.warning("counter mended" if found.fits else "counter cannot be mended", **told)
    return found


def _count_quota(quota: Quota) -> Count:
    with connection.cursor() as cursor:
        cursor.execute(_COUNTED, [quota.pk])
        held, sold, capacity, counted_held, counted_sold = cursor.fetchone()
    return Count(
        kind="quota",
        id=quota.pk,
        name=quota.name,
        event=quota.event.slug,
        stored={"held": held, "sold": sold},
        counted={"held": counted_held, "sold": counted_sold},
        limit=capacity,
    )


def _count_promo_code(code: PromoCode) -> Count:
    counts = [Reservation.Status.ACTIVE, Reservation.Status.ORDERED, Reservation.Status.CONFIRMED]
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT p.uses, p.max_uses,
                (SELECT count(*) FROM reservations_reservation r WHERE r.promo_code_id = p.id AND r.status = ANY (%s))
            FROM reservations_promocode p WHERE p.id = %s
            """,
            [[status.value for status in counts], code.pk],
        )
        uses, max_uses, counted = cursor.fetchone()
    return Count(
        kind="promo_code",
        id=code.pk,
        name=code.code,
        event=code.event.slug,
        stored={"uses": uses},
        counted={"uses": counted},
        limit=max_uses,
    )
