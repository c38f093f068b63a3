"""Holds: taking stock for a buyer, extending, releasing, and giving back what nobody paid for.

The rules live in database functions (migrations/sql): one round trip takes a hold, so a hot quota is locked for
microseconds. What arrives for the same event meanwhile shares the next round trip (config.combining), its locks and its
commit. This module words the requests and reads the answers.
"""

import hashlib
import json
import time
import uuid
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import structlog
from django.conf import settings
from django.db import DataError, IntegrityError, InternalError, OperationalError, connection, transaction
from django.db.models.functions import Now

from config import rate_limits
from config.combining import Combiner, Overloaded
from config.database import retried_on_conflict
from config.money import Money
from config.rate_limits import Attempt
from reservations.models import Reservation
from reservations.sold_out_gate import SoldOutGate

logger = structlog.get_logger(__name__)

ONE_BY_ONE_AT_MOST = 2_000
TRIES = 3  # when the stock is just being given back by somebody else
PATIENCE_SECONDS = 10.0  # beyond the database's own lock_timeout


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
    promo_code: str  # empty: none
    lines: list[HeldLine]

    @property
    def total(self) -> Money:
        return sum((line.total for line in self.lines), Money(0, self.currency))

    @property
    def discount(self) -> Money:
        return sum((line.discount for line in self.lines), Money(0, self.currency))


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
    request = _Request(_merged(lines), key, buyer_key, promo_code.strip().upper(), attempt)
    answer = _ask(event_slug, request)
    for again in range(1, TRIES):
        if answer["result"] != "retry":
            break
        time.sleep(0.002 * again)
        answer = _ask(event_slug, replace(request, attempt=None))
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


@dataclass(frozen=True, slots=True)
class _Request:
    """What one buyer asks of one event. The id is made here: asking again with it can never hold twice."""

    lines: list[Wanted]
    key: str | None
    buyer_key: str
    promo_code: str
    attempt: Attempt | None = field(default=None, compare=False)  # None: not counted
    id: uuid.UUID = field(default_factory=uuid.uuid4, compare=False)

    @property
    def turns(self) -> set[tuple[str, str]]:
        """Two requests that share one of these must not be decided in one call: the second finds what the first got."""
        return {(name, value) for name, value in (("key", self.key), ("buyer", self.buyer_key)) if value}


def _ask(event_slug: str, request: _Request) -> dict[str, Any]:
    """The database's answer. Inside somebody's transaction, or with HOLD_BATCH=1, the request goes alone."""
    if settings.HOLD_BATCH <= 1 or connection.in_atomic_block:
        answer = _reserve_together(event_slug, [request])[0]
        if isinstance(answer, Exception):
            raise answer
        return answer
    wish = None if request.turns else (event_slug, request.promo_code, *request.lines)
    if wish and _combiner.is_busy(event_slug) and (left := _gate.refusal(wish)):
        return {"result": "sold_out", "lines": left}
    try:
        answer = _combiner.ask(event_slug, request)
    except Overloaded as error:
        raise OperationalError("holds of this event are waited for too long") from error
    if wish and answer["result"] == "sold_out":
        _gate.remember(wish, answer["lines"])
    return answer


def _reserve_together(event_slug: Hashable, requests: Sequence[_Request]) -> list[dict[str, Any] | Exception]:
    """Answers in order. Twins (a double click, a repeated key) share one answer; others who share a turn come next."""
    answers: dict[uuid.UUID, dict[str, Any] | Exception] = _too_many(requests)
    waiting = [request for request in requests if request.id not in answers]
    while waiting:
        taken: set[tuple[str, str]] = set()
        now: list[_Request] = []
        later: list[_Request] = []
        for request in waiting:
            (now if taken.isdisjoint(request.turns) else later).append(request)
            taken |= request.turns
        for request, answer in zip(now, _answers(str(event_slug), now), strict=True):
            answers[request.id] = answer
        waiting = []
        for request in later:
            if request in now:
                answers[request.id] = _as_twin(answers[now[now.index(request)].id])
            else:
                waiting.append(request)
    return [answers[request.id] for request in requests]


def _too_many(requests: Sequence[_Request]) -> dict[uuid.UUID, dict[str, Any] | Exception]:
    """Whom the rate limits refuse: counted for all of a batch at once, before any transaction begins."""
    counted = [request for request in requests if request.attempt]
    refusals = rate_limits.take_many([request.attempt for request in counted if request.attempt])
    return {request.id: refusal for request, refusal in zip(counted, refusals, strict=True) if refusal}


def _as_twin(answer: dict[str, Any] | Exception) -> dict[str, Any] | Exception:
    is_granted = isinstance(answer, dict) and answer["result"] == "granted"
    return {**answer, "result": "replayed"} if is_granted else answer  # type: ignore[dict-item]


def _answers(event_slug: str, requests: list[_Request]) -> Sequence[dict[str, Any] | Exception]:
    """What the database answers. Where it refuses the whole call, each request goes alone: a bad one harms nobody else."""
    try:
        return _call(event_slug, requests)
    except (IntegrityError, DataError, InternalError) as error:
        if len(requests) == 1:
            return [error]
        logger.warning("holds are taken one by one", together=len(requests), error=type(error).__name__)
        return [_answers(event_slug, [request])[0] for request in requests]
    except Exception as error:  # each asker is told; nobody knows whether this call was committed
        return [error] * len(requests)


_combiner: Combiner[_Request, dict[str, Any]] = Combiner(
    _reserve_together, at_most=settings.HOLD_BATCH, patience_seconds=PATIENCE_SECONDS
)
_gate = SoldOutGate()


@retried_on_conflict
def _call(event_slug: str, requests: list[_Request]) -> list[dict[str, Any]]:
    """One round trip, one transaction (without an outer one: autocommit) for all of `requests`."""
    places: dict[tuple[int, int], int] = {}
    owners, lines, quantities = [], [], []
    for owner, request in enumerate(requests, start=1):
        for line in request.lines:
            owners.append(owner)
            lines.append(places.setdefault((line.product_id, line.slot_id or 0), len(places) + 1))
            quantities.append(line.quantity)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT reservations_reserve(%s, %s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[],"
            " %s::int[], %s::int[], %s::int[], %s::bigint[], %s::bigint[])",
            [
                event_slug,
                _array(request.id for request in requests),
                _array(_quoted(request.key) for request in requests),
                _array(_request_hash(event_slug, request) if request.key else '""' for request in requests),
                _array(_quoted(request.buyer_key) for request in requests),
                _array(_quoted(request.promo_code) for request in requests),
                _array(owners),
                _array(lines),
                _array(quantities),
                _array(product for product, _slot in places),
                _array(slot for _product, slot in places),
            ],
        )
        said = json.loads(cursor.fetchone()[0])
    if said.get("until"):
        said["until"], said["now"] = datetime.fromisoformat(said["until"]), datetime.fromisoformat(said["now"])
    for request, answer in zip(requests, said["answers"], strict=True):
        if answer["result"] == "granted":
            answer["hold"] = _granted(event_slug, request, answer, said, places)
    return said["answers"]


def _array(values: Iterable[object]) -> str:
    """PostgreSQL's own notation: the driver writes a list element by element, which a batch of 64 feels."""
    return "{" + ",".join(map(str, values)) + "}"


def _quoted(text: str | None) -> str:
    return "NULL" if text is None else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _granted(
    event_slug: str, request: _Request, answer: dict[str, Any], said: dict[str, Any], places: dict[tuple[int, int], int]
) -> Hold:
    """The new hold, from what was asked and what all holds of one call have in common."""
    currency = said["currency"]
    discounts = answer.get("discounts") or [0] * len(request.lines)
    return Hold(
        id=request.id,
        event_slug=event_slug,
        status=Reservation.Status.ACTIVE.value,
        currency=currency,
        expires_at=said["until"],
        server_time=said["now"],
        is_live=True,
        can_extend=said["extension_minutes"] > 0,
        extension_minutes=said["extension_minutes"],
        promo_code=request.promo_code,
        lines=[
            HeldLine(
                product_id=line.product_id,
                slot_id=line.slot_id,
                quantity=line.quantity,
                unit_price=Money(said["prices"][places[line.product_id, line.slot_id or 0] - 1], currency),
                discount=Money(discount * line.quantity, currency),
            )
            for line, discount in zip(request.lines, discounts, strict=True)
        ],
    )


def _merged(lines: Sequence[Wanted]) -> list[Wanted]:
    """One line per product and slot, in the order of ids, so that the same wish is always the same request."""
    quantities: dict[tuple[int, int], int] = {}
    for line in lines:
        place = (line.product_id, line.slot_id or 0)
        quantities[place] = quantities.get(place, 0) + line.quantity
    return [Wanted(product, slot or None, quantity) for (product, slot), quantity in sorted(quantities.items())]


def _request_hash(event_slug: str, request: _Request) -> str:
    wish: list[Any] = [event_slug, [[line.product_id, line.slot_id, line.quantity] for line in request.lines]]
    if request.promo_code:
        wish.append(request.promo_code)
    return hashlib.sha256(json.dumps(wish).encode()).hexdigest()


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
