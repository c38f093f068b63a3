"""The dashboard's numbers, each set of them in one statement whose cost depends on what is live or in the period, never
on how many orders and holds there ever were.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any
from zoneinfo import ZoneInfo

from django.core.cache import cache
from django.db import connection
from django.db.models import Q, Sum
from django.db.models.functions import Coalesce
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from config.dates import span_in_words
from reservations import availability
from reservations.models import Claim, Conflict, LimitHit, Reservation, ReservationLine
from ticketing.admin.columns import stock_bar
from ticketing.models import Event, Product, Quota

SOON = timedelta(minutes=2)
# An order is paid or closed at most this long after it was made; lets payments be found by the index on created_at.
LONGEST_ORDER = timedelta(days=2)
EVENTS_OFFERED, EVENTS_SHOWN = 200, 10
QUOTAS_AT_ONCE = 6
HOLDS_SHOWN = 50
TOP_CONFLICTS = 8
STATES = {
    "available": _("on sale"),
    "low": _("few left"),
    "sold_out": _("sold out"),
    "not_on_sale": _("not on sale"),
    "ended": _("ended"),
    "stopped": _("stopped"),
}


@dataclass(frozen=True, slots=True)
class Period:
    """A stretch of time until now, cut into steps on the clock: the last step is the running one."""

    name: str
    title: Any
    step: timedelta
    steps: int
    kept_seconds: int = 0  # long periods are counted anew only so often: a busy week may be millions of rows

    def start(self, now: datetime, zone: ZoneInfo) -> datetime:
        """Steps begin where a clock in `zone` shows a whole one."""
        there = now.astimezone(zone)
        since_midnight = there - there.replace(hour=0, minute=0, second=0, microsecond=0)
        return now.astimezone(UTC) - since_midnight % self.step - (self.steps - 1) * self.step


PERIODS = {
    period.name: period
    for period in (
        Period("hour", _("last hour"), timedelta(minutes=5), 12),
        Period("day", _("last 24 hours"), timedelta(hours=1), 24, kept_seconds=20),
        Period("week", _("last 7 days"), timedelta(hours=6), 28, kept_seconds=120),
    )
}


@dataclass(slots=True)
class Live:
    """What keeps stock from other buyers: ACTIVE holds within their time, and ORDERED ones until their order ends."""

    holds: int = 0
    ordered: int = 0
    units: int = 0
    soon: int = 0
    next_end: datetime | None = None

    def add(self, other: "Live") -> None:
        self.holds += other.holds
        self.ordered += other.ordered
        self.units += other.units
        self.soon += other.soon
        ends = [end for end in (self.next_end, other.next_end) if end is not None]
        self.next_end = min(ends, default=None)


# One arm per status, so that each can use its partial index. The units are added up row by row: the planner must not be
# tempted to read all lines ever held.
_LIVE = """
SELECT r.event_id, count(*), 0, sum(units.n)::bigint, count(*) FILTER (WHERE r.expires_at <= %(soon)s), min(r.expires_at)
FROM reservations_reservation r
CROSS JOIN LATERAL (
    SELECT COALESCE(sum(l.quantity), 0) AS n FROM reservations_reservationline l WHERE l.reservation_id = r.id
) units
WHERE r.status = 'ACTIVE' AND r.expires_at > %(now)s GROUP BY r.event_id
UNION ALL
SELECT r.event_id, count(*), count(*), sum(units.n)::bigint, 0, NULL
FROM reservations_reservation r
CROSS JOIN LATERAL (
    SELECT COALESCE(sum(l.quantity), 0) AS n FROM reservations_reservationline l WHERE l.reservation_id = r.id
) units
WHERE r.status = 'ORDERED' GROUP BY r.event_id
"""


def live_by_event(now: datetime) -> dict[int, Live]:
    with connection.cursor() as cursor:
        cursor.execute(_LIVE, {"now": now, "soon": now + SOON})
        rows = cursor.fetchall()
    found: dict[int, Live] = {}
    for event_id, *numbers in rows:
        found.setdefault(event_id, Live()).add(Live(*numbers))
    return found


def added_up(live: dict[int, Live]) -> Live:
    total = Live()
    for part in live.values():
        total.add(part)
    return total


@dataclass(slots=True)
class HoldNow:
    """A live hold with what is held, for one row of the table."""

    reservation: Reservation
    time_left: str
    lines: list[ReservationLine] = field(default_factory=list)

    @property
    def units(self) -> int:
        return sum(line.quantity for line in self.lines)


def soonest(now: datetime, event: Event | None) -> list[HoldNow]:
    """Live holds, those that end first at the top; one look per status, each by its partial index."""
    of_event = Q(event=event) if event else Q()
    found = Reservation.objects.filter(of_event).select_related("event", "order").order_by("expires_at")
    active = found.filter(status=Reservation.Status.ACTIVE, expires_at__gt=now)[:HOLDS_SHOWN]
    ordered = found.filter(status=Reservation.Status.ORDERED)[:HOLDS_SHOWN]
    chosen = sorted([*active, *ordered], key=lambda reservation: reservation.expires_at)[:HOLDS_SHOWN]
    holds = {reservation.pk: HoldNow(reservation, time_left(reservation.expires_at, now)) for reservation in chosen}
    for line in ReservationLine.objects.filter(reservation__in=list(holds)).select_related("product", "slot__event"):
        holds[line.reservation_id].lines.append(line)
    return list(holds.values())


def time_left(end: datetime, now: datetime) -> str:
    """`04:59`, as the browser goes on counting; empty once it is over."""
    seconds = ceil((end - now).total_seconds())
    return f"{seconds // 60:02}:{seconds % 60:02}" if seconds > 0 else ""


@dataclass(slots=True)
class Bucket:
    """What happened in one step of the period."""

    starts_at: datetime
    taken: int = 0
    confirmed: int = 0
    released: int = 0
    expired: int = 0
    refused: int = 0
    units_refused: int = 0


@dataclass(slots=True)
class History:
    buckets: list[Bucket] = field(default_factory=list)

    def total(self, name: str) -> int:
        return sum(getattr(bucket, name) for bucket in self.buckets)

    @property
    def conversion(self) -> float | None:
        """Of the holds that came to an end in the period, the share that was paid; None when none did."""
        confirmed = self.total("confirmed")
        ended = confirmed + self.total("released") + self.total("expired")
        return confirmed / ended if ended else None


_HISTORY = """
SELECT 'taken', floor(extract(epoch FROM r.created_at - %(start)s) / %(step)s)::int AS bucket, count(*)
FROM reservations_reservation r
WHERE r.created_at >= %(start)s AND (%(event)s::bigint IS NULL OR r.event_id = %(event)s) GROUP BY bucket
UNION ALL
SELECT lower(r.status), floor(extract(epoch FROM r.ended_at - %(start)s) / %(step)s)::int AS bucket, count(*)
FROM reservations_reservation r
WHERE r.status IN ('RELEASED', 'EXPIRED') AND r.ended_at >= %(start)s
  AND (%(event)s::bigint IS NULL OR r.event_id = %(event)s) GROUP BY r.status, bucket
UNION ALL
SELECT 'confirmed', floor(extract(epoch FROM o.paid_at - %(start)s) / %(step)s)::int AS bucket, count(*)
FROM reservations_order o
WHERE o.status = 'PAID' AND o.paid_at >= %(start)s AND o.created_at >= %(made)s
  AND (%(event)s::bigint IS NULL OR o.event_id = %(event)s) GROUP BY bucket
"""

_REFUSED = """
SELECT floor(extract(epoch FROM c.minute - %(start)s) / %(step)s)::int AS bucket, sum(c.requests), sum(c.units)
FROM reservations_conflict c JOIN ticketing_product p ON p.id = c.product_id
WHERE c.minute >= %(start)s AND (%(event)s::bigint IS NULL OR p.event_id = %(event)s) GROUP BY bucket
"""


def history(period: Period, start: datetime, event: Event | None) -> History:
    """What happened since `start`, in each step; as old as the period allows."""
    if not period.kept_seconds:
        return _counted(period, start, event)
    key = f"holds-history:{period.name}:{event.pk if event else 'all'}:{start.timestamp():.0f}"
    kept: History | None = cache.get(key)
    if kept is None:
        kept = _counted(period, start, event)
        cache.set(key, kept, period.kept_seconds)
    return kept


def _counted(period: Period, start: datetime, event: Event | None) -> History:
    buckets = [Bucket(start + number * period.step) for number in range(period.steps)]
    values: dict[str, Any] = {
        "start": start,
        "step": period.step.total_seconds(),
        "made": start - LONGEST_ORDER,
        "event": event.pk if event else None,
    }
    with connection.cursor() as cursor:
        cursor.execute(_HISTORY, values)
        for name, number, count in cursor.fetchall():
            if 0 <= number < period.steps:  # a commit of this very moment may be a step ahead of `now`
                setattr(buckets[number], name, count)
        cursor.execute(_REFUSED, values)
        for number, requests, units in cursor.fetchall():
            if 0 <= number < period.steps:
                buckets[number].refused, buckets[number].units_refused = requests, units
    return History(buckets)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A product, at a slot if it is sold by slot, that buyers wanted in vain."""

    product: str
    event: str
    slot_when: str
    requests: int
    units: int


def top_conflicts(since: datetime, event: Event | None) -> list[Wanted]:
    """What buyers wanted most in vain."""
    found = Conflict.objects.filter(minute__gte=since)
    if event is not None:
        found = found.filter(product__event=event)
    sums = (
        found.values_list(
            "product__name", "product__event__name", "slot__starts_at", "slot__ends_at", "product__event__time_zone"
        )
        .annotate(requests_in_all=Sum("requests"), units_in_all=Sum("units"))
        .order_by("-requests_in_all", "product__name")
    )
    return [
        Wanted(product, of_event, span_in_words(starts_at, ends_at, zone) if starts_at else "", requests, units)
        for product, of_event, starts_at, ends_at, zone, requests, units in sums[:TOP_CONFLICTS]
    ]


def limit_hits(since: datetime) -> int:
    """How often anybody ran into a rate limit."""
    return LimitHit.objects.filter(minute__gte=since).aggregate(n=Coalesce(Sum("hits"), 0))["n"]


@dataclass(slots=True)
class QuotaNow:
    """A quota as buyers meet it: claims of holds past their time are free, whoever has or has not taken them back."""

    name: str
    slot_when: str
    capacity: int
    sold: int
    held: int

    @property
    def bar(self) -> SafeString:
        return stock_bar(sold=self.sold, held=self.held, capacity=self.capacity)


@dataclass(slots=True)
class ProductNow:
    """`state`: as buyers see it (reservations.availability), or "stopped", which they are not told."""

    product: Product
    state: str

    @property
    def state_in_words(self) -> Any:
        return STATES[self.state]


@dataclass(slots=True)
class EventNow:
    event: Event
    live: Live
    quotas: list[QuotaNow] = field(default_factory=list)
    products: list[ProductNow] = field(default_factory=list)
    next_left: str = ""

    @property
    def first_quotas(self) -> list[QuotaNow]:
        return self.quotas[:QUOTAS_AT_ONCE]

    @property
    def other_quotas(self) -> list[QuotaNow]:
        return self.quotas[QUOTAS_AT_ONCE:]

    @property
    def is_any_selling(self) -> bool:
        return any(not entry.product.is_stopped for entry in self.products)

    @property
    def is_any_stopped(self) -> bool:
        return any(entry.product.is_stopped for entry in self.products)


def events_offered(live: dict[int, Live], now: datetime) -> list[Event]:
    """To choose from: what is on sale or has holds, soonest first."""
    on_sale = Q(status=Event.Status.PUBLISHED, ends_at__gt=now)
    return list(Event.objects.filter(on_sale | Q(pk__in=list(live))).order_by("starts_at", "pk")[:EVENTS_OFFERED])


def events_now(events: list[Event], live: dict[int, Live], now: datetime) -> list[EventNow]:
    found = {event.pk: _event_now(event, live.get(event.pk, Live()), now) for event in events}
    over = dict(_over_by_quota(list(found), now))
    for quota in Quota.objects.filter(event__in=list(found)).select_related("slot__event"):
        held = max(0, quota.held - over.get(quota.pk, 0))
        slot_when = quota.slot.when if quota.slot else ""
        found[quota.event_id].quotas.append(QuotaNow(quota.name, slot_when, quota.capacity, quota.sold, held))
    free, _as_of = availability.of_events(list(found))
    for product in Product.objects.filter(event__in=list(found)):
        of_product = (entry for entry in free[product.event_id] if entry.product_id == product.pk)
        state = "stopped" if product.is_stopped else availability.state_of(of_product)
        found[product.event_id].products.append(ProductNow(product, state))
    return list(found.values())


def _event_now(event: Event, live: Live, now: datetime) -> EventNow:
    return EventNow(event, live, next_left=time_left(live.next_end, now) if live.next_end else "")


def _over_by_quota(event_ids: list[int], now: datetime) -> Iterator[tuple[int, int]]:
    over = Claim.objects.filter(
        line__reservation__event__in=event_ids,
        line__reservation__status=Reservation.Status.ACTIVE,
        line__reservation__expires_at__lte=now,
    )
    for row in over.values("quota").annotate(n=Sum("quantity")).order_by():
        yield row["quota"], row["n"]


def busiest(events: list[Event], live: dict[int, Live]) -> list[Event]:
    """Those to show when nobody chose one: with the most live holds first, then the next to begin."""
    return sorted(events, key=lambda event: -live[event.pk].holds if event.pk in live else 0)[:EVENTS_SHOWN]
