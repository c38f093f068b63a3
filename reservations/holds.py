"""Holds: taking stock for a buyer, extending, releasing, and giving back what nobody paid for.

The rules live in database functions (migrations/sql): one round trip takes a hold, so a hot quota is locked for
microseconds. This module words the requests and reads the answers.
"""

import hashlib
import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now

from config.database import retried_on_conflict
from config.money import Money
from reservations.models import Reservation

logger = structlog.get_logger(__name__)

ONE_BY_ONE_AT_MOST = 2_000
TRIES = 3  # when the stock is just being given back by somebody else


@dataclass(frozen=True, slots=True)
class Wanted:
    """One line of a request. `slot_id` is None for products that are not sold by slot."""

    product_id: int
    slot_id: int | None
    quantity: int


@dataclass(frozen=True, slots=True)
class HeldLine:
    product_id: int
    slot_id: int | None
    quantity: int
    unit_price: Money
    discount: Money

    @property
    def total(self) -> Money:
        return Money(
            self.unit_price.amount_minor * self.quantity - self.discount.amount_minor, self.unit_price.currency
        )


@dataclass(frozen=True, slots=True)
class Hold:
    """A reservation as its buyer sees it, read by the database's clock at `server_time`."""

    id: uuid.UUID
    event_slug: str
    status: str  # an ACTIVE one past its time reads EXPIRED here: it no longer counts
    currency: str
    expires_at: datetime
    server_time: datetime
    is_live: bool
    can_extend: bool
    extension_minutes: int
    lines: list[HeldLine]

    @property
    def total(self) -> Money:
        return sum((line.total for line in self.lines), Money(0, self.currency))


class SoldOut(Exception):
    """Not enough left. `lines`: dicts of product, slot, requested, available. Nothing was taken."""

    def __init__(self, lines: list[dict[str, Any]]) -> None:
        super().__init__("Not enough tickets are left.")
        self.lines = lines


class NotOnSale(Exception):
    """Something asked for is not on sale now. `lines`: dicts of product and slot."""

    def __init__(self, lines: list[dict[str, Any]]) -> None:
        super().__init__("This is not on sale at the moment.")
        self.lines = lines


class LimitExceeded(Exception):
    """More than one order may hold. `lines`: dicts of product, requested, max_per_order."""

    def __init__(self, lines: list[dict[str, Any]]) -> None:
        super().__init__("That is more than one order may contain.")
        self.lines = lines


class KeyReused(Exception):
    """The Idempotency-Key was used for another request."""


class InvalidLines(Exception):
    """`mistakes`: dicts of line (index), field ("product" or "slot"), mistake ("unknown" or "required")."""

    def __init__(self, mistakes: list[dict[str, Any]]) -> None:
        super().__init__("The request names something that does not exist.")
        self.mistakes = mistakes


class UnknownEvent(Exception):
    """There is no such event."""


class NotExtendable(Exception):
    """`code`: already_extended, ended or not_extendable."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class NotReleasable(Exception):
    """`status`: ORDERED (its order must be cancelled) or CONFIRMED (paid)."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status


def reserve(
    event_slug: str, *, lines: Sequence[Wanted], key: str | None = None, buyer_key: str = ""
) -> tuple[Hold, bool]:
    """Takes all of `lines` or nothing; the hold, and whether `key` had been granted it before.

    Raises SoldOut, NotOnSale, LimitExceeded, KeyReused, InvalidLines, UnknownEvent.
    """
    merged = _merged(lines)
    answer: dict[str, Any] = {}
    for attempt in range(1, TRIES + 1):
        answer = _reserve_once(event_slug, merged, key, buyer_key)
        if answer["result"] != "retry":
            break
        time.sleep(0.002 * attempt)
    if answer["result"] not in {"granted", "replayed"}:
        raise _refusal(answer, merged)
    return _hold(answer["reservation"]), answer["result"] == "replayed"


def _refusal(answer: dict[str, Any], lines: list[Wanted]) -> Exception:
    match answer["result"]:
        case "sold_out":
            return SoldOut(answer["lines"])
        case "retry":  # still being given back by others: from this buyer's place it is taken
            return SoldOut([_nothing_left(line) for line in lines])
        case "not_on_sale":
            return NotOnSale(answer["lines"])
        case "limit_exceeded":
            return LimitExceeded(answer["lines"])
        case "invalid":
            return InvalidLines(answer["mistakes"])
        case "key_reused":
            return KeyReused()
        case "unknown_event":
            return UnknownEvent()
    return AssertionError(f"reservations_reserve answered {answer['result']}")


def look_up(reservation_id: uuid.UUID) -> Hold | None:
    """The hold with this id, by the database's clock; None when there is none."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT reservations_describe(%s)", [reservation_id])
        described = cursor.fetchone()[0]
    return _hold(json.loads(described)) if described else None


def extend(reservation_id: uuid.UUID) -> Hold | None:
    """Adds the event's extension, once in a hold's life; None when there is no such hold. Raises NotExtendable."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE reservations_reservation AS r
            SET expires_at = r.expires_at + make_interval(mins => e.extension_minutes), extended_at = clock_timestamp()
            FROM ticketing_event e
            WHERE e.id = r.event_id AND r.id = %s AND r.status IN ('ACTIVE', 'ORDERED')
              AND r.extended_at IS NULL AND r.expires_at > clock_timestamp() AND e.extension_minutes > 0
            """,
            [reservation_id],
        )
        is_extended = cursor.rowcount == 1
    hold = look_up(reservation_id)
    if hold is not None and not is_extended:
        if hold.status == Reservation.Status.CONFIRMED:
            raise NotExtendable("not_extendable")
        if not hold.is_live:
            raise NotExtendable("ended")
        raise NotExtendable("not_extendable" if hold.extension_minutes == 0 else "already_extended")
    return hold


@retried_on_conflict
def release(reservation_id: uuid.UUID, *, by: str = "buyer") -> bool:
    """Gives the stock back; False when there is no such reservation. Doing it twice gives back once.

    Raises NotReleasable when the reservation was ordered or confirmed meanwhile.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT status, expires_at <= clock_timestamp() FROM reservations_reservation WHERE id = %s FOR NO KEY UPDATE",
            [reservation_id],
        )
        row = cursor.fetchone()
        if row is None:
            return False
        if row[0] in (Reservation.Status.ORDERED, Reservation.Status.CONFIRMED):
            raise NotReleasable(row[0])
        ended = Reservation.Status.EXPIRED if row[1] else Reservation.Status.RELEASED  # as it was told to have ended
        cursor.execute(
            "SELECT reservations_end(ARRAY[%s]::uuid[], 'ACTIVE', %s, %s, 'released')", [reservation_id, ended, by]
        )
    return True


def end_ordered(reservation_id: uuid.UUID, *, to: str, by: str, why: str) -> None:
    """Gives back what an ORDERED reservation holds; its row must be locked, and its order be closed in the same commit."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT reservations_end(ARRAY[%s]::uuid[], 'ORDERED', %s, %s, %s)", [reservation_id, to, by, why]
        )


def release_expired(*, batch: int | None = None, at_most: int = 1_000_000) -> int:
    """Ends ACTIVE holds past their time, a short transaction per batch; how many it ended."""
    size = batch or settings.HOLD_SWEEP_BATCH
    released = 0
    while released < at_most:
        try:
            ended = _release_batch(min(size, at_most - released))
        except IntegrityError:
            # A hold whose books are wrong must not keep everybody else's stock: one by one, leaving it to staff.
            logger.critical("expired holds cannot be released together", batch=size)
            return released + _release_singly()
        released += ended
        if ended == 0:
            break
    if released:
        logger.info("expired holds released", count=released)
    return released


def _release_singly() -> int:
    over = Reservation.objects.filter(status=Reservation.Status.ACTIVE, expires_at__lte=Now())
    released = 0
    for reservation_id in over.order_by("expires_at").values_list("pk", flat=True)[:ONE_BY_ONE_AT_MOST]:
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(
                    "SELECT reservations_end(ARRAY[%s]::uuid[], 'ACTIVE', 'EXPIRED', 'sweep', 'time is over')",
                    [reservation_id],
                )
                released += cursor.fetchone()[0]
        except IntegrityError:
            logger.critical("expired hold cannot be released: recount its quotas", reservation=str(reservation_id)[:8])
    return released


@retried_on_conflict
def _release_batch(size: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT reservations_release_expired(%s)", [size])
        return cursor.fetchone()[0]


@retried_on_conflict
def _reserve_once(event_slug: str, lines: list[Wanted], key: str | None, buyer_key: str) -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT reservations_reserve(%s, %s, %s::bigint[], %s::bigint[], %s::int[], %s, %s, %s)",
            [
                uuid.uuid4(),
                event_slug,
                [line.product_id for line in lines],
                [line.slot_id or 0 for line in lines],
                [line.quantity for line in lines],
                key,
                _request_hash(event_slug, lines),
                buyer_key,
            ],
        )
        return json.loads(cursor.fetchone()[0])


def _merged(lines: Sequence[Wanted]) -> list[Wanted]:
    """One line per product and slot, in the order of ids, so that the same wish is always the same request."""
    quantities: dict[tuple[int, int], int] = {}
    for line in lines:
        place = (line.product_id, line.slot_id or 0)
        quantities[place] = quantities.get(place, 0) + line.quantity
    return [Wanted(product, slot or None, quantity) for (product, slot), quantity in sorted(quantities.items())]


def _request_hash(event_slug: str, lines: list[Wanted]) -> str:
    request = [event_slug, [[line.product_id, line.slot_id, line.quantity] for line in lines]]
    return hashlib.sha256(json.dumps(request).encode()).hexdigest()


def _nothing_left(line: Wanted) -> dict[str, Any]:
    return {"product": line.product_id, "slot": line.slot_id, "requested": line.quantity, "available": 0}


def _hold(described: dict[str, Any]) -> Hold:
    status, is_over = described["status"], described["is_over"]
    currency = described["currency"]
    is_active = status == Reservation.Status.ACTIVE
    is_live = not is_over and status in (Reservation.Status.ACTIVE, Reservation.Status.ORDERED)
    return Hold(
        id=uuid.UUID(described["id"]),
        event_slug=described["event_slug"],
        status=Reservation.Status.EXPIRED.value if is_active and is_over else status,
        currency=currency,
        expires_at=datetime.fromisoformat(described["expires_at"]),
        server_time=datetime.fromisoformat(described["server_time"]),
        is_live=is_live,
        can_extend=is_live and not described["is_extended"] and described["extension_minutes"] > 0,
        extension_minutes=described["extension_minutes"],
        lines=[
            HeldLine(
                product_id=line["product"],
                slot_id=line["slot"],
                quantity=line["quantity"],
                unit_price=Money(line["unit_price_minor"], currency),
                discount=Money(line["discount_minor"], currency),
            )
            for line in described["lines"] or []
        ],
    )
