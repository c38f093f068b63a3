"""Holds: taking stock for a buyer, extending, releasing, and giving back what nobody paid for.

The rules live in database functions (migrations/sql): one round trip takes a hold, so a hot quota is locked for
microseconds. What arrives for the same event meanwhile shares the next round trip (reservations.batching).
This module words the requests and reads the answers.
"""

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import structlog
from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now

from config.database import retried_on_conflict
from config.money import Money
from config.rate_limits import Attempt
from reservations import batching
from reservations.models import Reservation
from reservations.terms import HeldLine, Hold, Wanted

__all__ = [
    "HeldLine",
    "Hold",
    "InvalidLines",
    "InvalidPromoCode",
    "KeyReused",
    "LimitExceeded",
    "NotExtendable",
    "NotOnSale",
    "NotReleasable",
    "PromoCodeUsedUp",
    "Refusal",
    "SoldOut",
    "UnknownEvent",
    "Wanted",
    "end_ordered",
    "extend",
    "extend_by_staff",
    "fix_time",
    "look_up",
    "of_buyer",
    "release",
    "release_expired",
    "reserve",
]

logger = structlog.get_logger(__name__)

ONE_BY_ONE_AT_MOST = 2_000
TRIES = 3  # when the stock is just being given back by somebody else


class Refusal(Exception):
    """Why a hold was not granted; nothing was taken."""


class SoldOut(Refusal):
    """Not enough left. `lines`: dicts of product, slot, requested, available."""

    def __init__(self, lines: list[dict[str, Any]]) -> None:
        super().__init__("Not enough tickets are left.")
        self.lines = lines


class NotOnSale(Refusal):
    """Something asked for is not on sale now. `lines`: dicts of product and slot."""

    def __init__(self, lines: list[dict[str, Any]]) -> None:
        super().__init__("This is not on sale at the moment.")
        self.lines = lines


class LimitExceeded(Refusal):
    """More than one order may hold. `lines`: dicts of product, requested, max_per_order."""

    def __init__(self, lines: list[dict[str, Any]]) -> None:
        super().__init__("That is more than one order may contain.")
        self.lines = lines


class KeyReused(Refusal):
    """The Idempotency-Key was used for another request."""


class InvalidPromoCode(Refusal):
    """`reason`: unknown, not_valid_now, or not_for_these (none of the lines is in the code's scope)."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class PromoCodeUsedUp(Refusal):
    """The code has been used as often as it may be, by all or by this buyer."""


class InvalidLines(Refusal):
    """`mistakes`: dicts of line (index), field ("product" or "slot"), mistake ("unknown" or "required")."""

    def __init__(self, mistakes: list[dict[str, Any]]) -> None:
        super().__init__("The request names something that does not exist.")
        self.mistakes = mistakes


class UnknownEvent(Refusal):
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
    event_slug: str,
    *,
    lines: Sequence[Wanted],
    key: str | None = None,
    buyer_key: str = "",
    promo_code: str = "",
    attempt: Attempt | None = None,
) -> tuple[Hold, bool]:
    """Takes all of `lines` or nothing; the hold, and whether it was there before.

    It was there before where `key` had been granted it, and where the buyer holds this event already: one browser has one
    ACTIVE hold per event, and a second tab joins it, whatever its lines. `attempt` says who tries, for the rate limits.

    Raises RateLimited, SoldOut, NotOnSale, LimitExceeded, KeyReused, InvalidPromoCode, PromoCodeUsedUp, InvalidLines, UnknownEvent.
    """
    if not lines:
        raise InvalidLines([])
    request = batching.Request(_merged(lines), key, buyer_key, promo_code.strip().upper(), attempt)
    answer = batching.ask(event_slug, request)
    for again in range(1, TRIES):
        if answer["result"] != "retry":
            break
        time.sleep(0.002 * again)
        answer = batching.ask(event_slug, replace(request, attempt=None))
    answer = answer.get("otherwise", answer)  # still being given back by others: for this buyer it is taken
    if answer["result"] == "granted":
        return answer["hold"], False
    if answer["result"] in {"replayed", "joined"}:
        return answer.get("hold") or _hold(answer["reservation"]), True
    raise _refusal(answer)


def _refusal(answer: dict[str, Any]) -> Exception:
    match answer["result"]:
        case "sold_out":
            return SoldOut(answer["lines"])
        case "not_on_sale":
            return NotOnSale(answer["lines"])
        case "limit_exceeded":
            return LimitExceeded(answer["lines"])
        case "code_invalid":
            return InvalidPromoCode(answer["reason"])
        case "code_used_up":
            return PromoCodeUsedUp()
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


def of_buyer(buyer_key: str) -> list[Hold]:
    """What this browser holds or has ordered and may still pay, the soonest to end first."""
    if not buyer_key:
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT reservations_describe(id) FROM reservations_reservation
            WHERE buyer_key = %s AND status IN ('ACTIVE', 'ORDERED') AND expires_at > clock_timestamp()
            ORDER BY expires_at LIMIT 50
            """,
            [buyer_key],
        )
        return [_hold(json.loads(row[0])) for row in cursor.fetchall()]


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
              AND NOT r.is_time_fixed
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
        never = hold.extension_minutes == 0 or hold.is_time_fixed
        raise NotExtendable("not_extendable" if never else "already_extended")
    return hold


def fix_time(reservation_id: uuid.UUID, *, is_fixed: bool) -> None:
    """Whether the buyer may extend it, from now on; in the caller's transaction, its row locked."""
    Reservation.objects.filter(pk=reservation_id).update(is_time_fixed=is_fixed)


@transaction.atomic
def extend_by_staff(reservation_id: uuid.UUID, *, minutes: int, by: str) -> Hold | None:
    """Adds `minutes` to a live hold without using up the buyer's own extension; None when there is no such hold.

    Raises NotExtendable ("ended").
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH extended AS (
                UPDATE reservations_reservation SET expires_at = expires_at + make_interval(mins => %s)
                WHERE id = %s AND status IN ('ACTIVE', 'ORDERED') AND expires_at > clock_timestamp()
                RETURNING id, status
            )
            INSERT INTO reservations_statuschange (kind, object_id, from_status, to_status, by, why, at)
            SELECT 'reservation', id::text, status, status, %s, %s, clock_timestamp() FROM extended
            """,
            [minutes, reservation_id, by, f"{minutes} more minutes"],
        )
        is_extended = cursor.rowcount == 1
    hold = look_up(reservation_id)
    if hold is not None and not is_extended:
        raise NotExtendable("ended")
    return hold


def keep(reservation_ids: Sequence[uuid.UUID], *, minutes: int) -> int:
    """More time for live holds whose payment is out of order, once in a hold's life; how many got it.

    The buyer's own extension is not used up. Rows that somebody is working on are left out.
    """
    with connection.cursor() as cursor:
        cursor.execute(_KEEP.format(which="id = ANY (%(which)s)"), {"which": list(reservation_ids), "minutes": minutes})
        return cursor.rowcount


def keep_ending(*, within_seconds: int, minutes: int) -> int:
    """As `keep`, for all that are about to end."""
    which = "expires_at < clock_timestamp() + make_interval(secs => %(which)s)"
    with connection.cursor() as cursor:
        cursor.execute(_KEEP.format(which=which), {"which": within_seconds, "minutes": minutes})
        return cursor.rowcount


_KEEP = """
    WITH kept AS (
        UPDATE reservations_reservation
        SET expires_at = expires_at + make_interval(mins => %(minutes)s), kept_at = clock_timestamp()
        WHERE id IN (
            SELECT id FROM reservations_reservation
            WHERE status IN ('ACTIVE', 'ORDERED') AND kept_at IS NULL AND expires_at > clock_timestamp() AND {which}
            ORDER BY id LIMIT 10000 FOR NO KEY UPDATE SKIP LOCKED
        ) RETURNING id, status
    )
    INSERT INTO reservations_statuschange (kind, object_id, from_status, to_status, by, why, at)
    SELECT 'reservation', id::text, status, status, 'system', 'kept while payment is paused', clock_timestamp() FROM kept
"""


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


def end_active(reservation_id: uuid.UUID, *, to: str, by: str, why: str) -> None:
    """Gives back what an ACTIVE reservation holds; its row must be locked."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT reservations_end(ARRAY[%s]::uuid[], 'ACTIVE', %s, %s, %s)", [reservation_id, to, by, why]
        )


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


def _merged(lines: Sequence[Wanted]) -> list[Wanted]:
    """One line per product and slot, in the order of ids, so that the same wish is always the same request."""
    quantities: dict[tuple[int, int], int] = {}
    for line in lines:
        place = (line.product_id, line.slot_id or 0)
        quantities[place] = quantities.get(place, 0) + line.quantity
    return [Wanted(product, slot or None, quantity) for (product, slot), quantity in sorted(quantities.items())]


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
        can_extend=is_live
        and not described["is_extended"]
        and described["extension_minutes"] > 0
        and not described["is_time_fixed"],
        is_time_fixed=described["is_time_fixed"],
        extension_minutes=described["extension_minutes"],
        promo_code=described["promo_code"],
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
