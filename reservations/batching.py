"""Holds of one event that arrive together share a round trip, its locks and its commit (config.combining).

What each is granted or refused, the database function decides (migrations/sql); here its answers find their askers.
"""

import hashlib
import json
import uuid
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog
from django.conf import settings
from django.db import DataError, IntegrityError, InternalError, OperationalError, connection

from config import features, rate_limits
from config.combining import Combiner, Overloaded
from config.database import retried_on_conflict
from config.money import Money
from config.rate_limits import Attempt
from reservations.models import Reservation
from reservations.sold_out_gate import SoldOutGate
from reservations.terms import HeldLine, Hold, Wanted

logger = structlog.get_logger(__name__)

FLAG = "hold-combining"
PATIENCE_SECONDS = 10.0  # beyond the database's own lock_timeout


@dataclass(frozen=True, slots=True)
class Request:
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


def ask(event_slug: str, request: Request) -> dict[str, Any]:
    """The database's answer. Inside somebody's transaction, with HOLD_BATCH=1 or its flag off, the request goes alone."""
    if settings.HOLD_BATCH <= 1 or connection.in_atomic_block or not features.is_on(FLAG, subject=event_slug):
        answer = together(event_slug, [request])[0]
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


def together(event_slug: Hashable, requests: Sequence[Request]) -> list[dict[str, Any] | Exception]:
    """Answers in order. Twins (a double click, a repeated key) share one answer; others who share a turn come next."""
    answers: dict[uuid.UUID, dict[str, Any] | Exception] = _too_many(requests)
    waiting = [request for request in requests if request.id not in answers]
    while waiting:
        taken: set[tuple[str, str]] = set()
        now: list[Request] = []
        later: list[Request] = []
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


def _too_many(requests: Sequence[Request]) -> dict[uuid.UUID, dict[str, Any] | Exception]:
    """Whom the rate limits refuse: counted for all of a batch at once, before any transaction begins."""
    counted = [request for request in requests if request.attempt]
    refusals = rate_limits.take_many([request.attempt for request in counted if request.attempt])
    return {request.id: refusal for request, refusal in zip(counted, refusals, strict=True) if refusal}


def _as_twin(answer: dict[str, Any] | Exception) -> dict[str, Any] | Exception:
    is_granted = isinstance(answer, dict) and answer["result"] == "granted"
    return {**answer, "result": "replayed"} if is_granted else answer  # type: ignore[dict-item]


def _answers(event_slug: str, requests: list[Request]) -> Sequence[dict[str, Any] | Exception]:
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


_combiner: Combiner[Request, dict[str, Any]] = Combiner(
    together, at_most=settings.HOLD_BATCH, patience_seconds=PATIENCE_SECONDS
)
_gate = SoldOutGate()


@retried_on_conflict
def _call(event_slug: str, requests: list[Request]) -> list[dict[str, Any]]:
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
    event_slug: str, request: Request, answer: dict[str, Any], said: dict[str, Any], places: dict[tuple[int, int], int]
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
        is_time_fixed=False,
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


def _request_hash(event_slug: str, request: Request) -> str:
    wish: list[Any] = [event_slug, [[line.product_id, line.slot_id, line.quantity] for line in request.lines]]
    if request.promo_code:
        wish.append(request.promo_code)
    return hashlib.sha256(json.dumps(wish).encode()).hexdigest()
