"""What is free, per product and slot, by the database's clock."""

import hashlib
import json
import time
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.db import OperationalError, connection

from config.combining import Combiner, Overloaded
from config.database import database_now
from config.dates import rfc3339
from ticketing.models import Event, Product, Slot

CROWD = 5  # askers of one event in one process within CROWD_SECONDS
CROWD_SECONDS = 0.02
REMEMBERED_AT_MOST = 1_000  # events
LOW_AT_MOST = 10  # "few left" below this many and below a fifth of the stock


@dataclass(frozen=True, slots=True)
class Free:
    """`slot_id` is None for products that are not sold by slot. `state`: available, low, sold_out, not_on_sale, ended."""

    product_id: int
    slot_id: int | None
    available: int
    state: str


@dataclass(slots=True)
class SlotOffer:
    slot: Slot
    state: str
    available: int


@dataclass(slots=True)
class Offer:
    """One product of an event as buyers may choose it: its state over all slots, and each slot's own."""

    product: Product
    state: str
    available: int
    slots: list[SlotOffer] = field(default_factory=list)


_QUERY = """
WITH moment AS (SELECT clock_timestamp() AS now),
over AS (  -- what holds past their time still keep, counted once for all quotas
    SELECT c.quota_id, sum(c.quantity) AS quantity FROM moment, reservations_reservation r
    JOIN reservations_reservationline l ON l.reservation_id = r.id
    JOIN reservations_claim c ON c.line_id = l.id
    WHERE r.event_id = ANY (%(events)s) AND r.status = 'ACTIVE' AND r.expires_at <= moment.now
    GROUP BY c.quota_id
),
quota AS (
    SELECT q.id, q.slot_id, q.capacity, q.capacity - q.held - q.sold + COALESCE(over.quantity, 0) AS free
    FROM ticketing_quota q LEFT JOIN over ON over.quota_id = q.id WHERE q.event_id = ANY (%(events)s)
),
draw AS (
    SELECT p.id AS product_id, quota.slot_id, quota.capacity, quota.free
    FROM ticketing_product p
    LEFT JOIN ticketing_product_quotas pq ON pq.product_id = p.id LEFT JOIN quota ON quota.id = pq.quota_id
    WHERE p.event_id = ANY (%(events)s)
),
place AS (
    SELECT product_id, slot_id FROM draw WHERE slot_id IS NOT NULL GROUP BY product_id, slot_id
    UNION ALL
    SELECT product_id, NULL FROM draw GROUP BY product_id HAVING bool_and(slot_id IS NULL)
)
SELECT e.id, place.product_id, place.slot_id, GREATEST(COALESCE(min(draw.free), 0), 0), COALESCE(min(draw.capacity), 0),
    CASE
        WHEN moment.now >= LEAST(p.sale_ends_at, COALESCE(s.ends_at, e.ends_at)) THEN 'ended'
        WHEN e.status <> 'PUBLISHED' OR p.is_stopped OR moment.now < p.sale_starts_at OR min(draw.capacity) IS NULL
            THEN 'not_on_sale'
    END,
    moment.now
FROM moment, place
JOIN ticketing_product p ON p.id = place.product_id
JOIN ticketing_event e ON e.id = p.event_id
LEFT JOIN ticketing_slot s ON s.id = place.slot_id
LEFT JOIN draw ON draw.product_id = place.product_id AND (draw.slot_id IS NULL OR draw.slot_id = place.slot_id)
GROUP BY place.product_id, place.slot_id, p.id, e.id, s.id, moment.now
ORDER BY p.position, p.id, s.starts_at
"""


def of_events(event_ids: Sequence[int]) -> tuple[dict[int, list[Free]], datetime | None]:
    """What is free now, by event id, in one statement, and the moment it was true (None without any product).

    Holds past their time count as free although nobody may have taken them back yet.
    """
    with connection.cursor() as cursor:
        cursor.execute(_QUERY, {"events": list(event_ids)})
        rows = cursor.fetchall()
    free: dict[int, list[Free]] = {event_id: [] for event_id in event_ids}
    for event_id, product_id, slot_id, available, capacity, closed, _now in rows:
        free[event_id].append(Free(product_id, slot_id, available, closed or _state(available, capacity)))
    return free, rows[0][6] if rows else None


def state_of(free: Iterable[Free]) -> str:
    """One word for a whole event: the best state among its products; "not_on_sale" when it has none."""
    return _best([entry.state for entry in free] or ["not_on_sale"])


def offers(event: Event) -> list[Offer]:
    """The event's products with their slots and states, in the order staff gave them."""
    free, _as_of = of_events([event.pk])
    products = {product.pk: product for product in event.products.all()}
    slots = {slot.pk: slot for slot in event.slots.all()}
    for product in products.values():
        product.event = event
    for slot in slots.values():
        slot.event = event
    found: dict[int, Offer] = {}
    for entry in free[event.pk]:
        offer = found.setdefault(entry.product_id, Offer(products[entry.product_id], entry.state, 0))
        offer.available += entry.available
        if entry.slot_id is not None:
            offer.slots.append(SlotOffer(slots[entry.slot_id], entry.state, entry.available))
            offer.state = _best(slot.state for slot in offer.slots)
    return list(found.values())


@dataclass(frozen=True, slots=True)
class Now:
    """The contract's answer about one event, encoded; the tag changes with what is free, not with the time."""

    body: bytes
    etag: str

    def is_known_to(self, if_none_match: str) -> bool:
        tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
        return self.etag in tags or "*" in tags


def now(slug: str) -> Now | None:
    """What is free at a published event; None when there is no such event.

    Those who ask while a query is under way share the next one (config.combining), so they are never told what was true
    before they asked. Only in a crowd, more than a few askers within CROWD_SECONDS, may an answer be that old.
    """
    if connection.in_atomic_block:
        return _now(slug)
    last = _last.get(slug)
    if last is not None and time.monotonic() - last.since < CROWD_SECONDS:
        last.askers += 1
        if last.askers > CROWD:
            return last.answer
    try:
        return _askers.ask(slug, None)[0]
    except Overloaded as error:
        raise OperationalError("availability is waited for too long") from error


def _now(slug: str) -> Now | None:
    event_id = Event.objects.filter(slug=slug, status=Event.Status.PUBLISHED).values_list("pk", flat=True).first()
    if event_id is None:
        return None
    free, as_of = of_events([event_id])
    products = [
        {"id": entry.product_id, "slot": entry.slot_id, "available": entry.available, "state": entry.state}
        for entry in free[event_id]
    ]
    etag = f'"{hashlib.sha256(json.dumps(products).encode()).hexdigest()[:32]}"'
    content = {"as_of": rfc3339(as_of or database_now()), "products": products}
    return Now(json.dumps(content, separators=(",", ":")).encode(), etag)


@dataclass(slots=True)
class _Last:
    answer: Now | None
    since: float  # when its question was put, by the monotonic clock
    askers: int


_last: dict[str, _Last] = {}


def _now_for_all(slug: Hashable, askers: Sequence[None]) -> list[tuple[Now | None]]:
    since = time.monotonic()
    answer = _now(str(slug))
    if len(_last) >= REMEMBERED_AT_MOST:
        _last.clear()
    _last[str(slug)] = _Last(answer, since, len(askers))
    return [(answer,)] * len(askers)


_askers: Combiner[None, tuple[Now | None]] = Combiner(_now_for_all, at_most=1_000, patience_seconds=10.0)

_RANKING = ("available", "low", "sold_out", "not_on_sale", "ended")


def _best(states: Iterable[str]) -> str:
    return min(states, key=_RANKING.index)


def _state(available: int, capacity: int) -> str:
    if available <= 0:
        return "sold_out"
    return "low" if available <= LOW_AT_MOST and available * 5 <= capacity else "available"
