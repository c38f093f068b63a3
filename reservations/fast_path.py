"""The two calls of a rush, for config.fast_path: taking a hold, and asking what is left.

Only requests of exactly the contract's form are recognised here; whatever else it is, Django's view answers it.
"""

import json
import uuid
from functools import cache
from typing import Any

from django.urls import reverse

from config.fast_path import Answer, Call, as_json
from reservations import availability, taking
from reservations.holds import Wanted
from reservations.serializers import reservation_as_json

MOST_LINES = 50
LARGEST_ID = 2**63 - 1
_ANY = str(uuid.UUID(int=0))


def reserve(call: Call) -> Answer | None:
    """`POST /api/v1/reservations/`, as `api.Reservations` answers it."""
    key = call.header("Idempotency-Key")
    if key is not None and not 16 <= len(key) <= 255:
        return None
    try:
        asked = json.loads(call.body)
    except (ValueError, RecursionError):
        return None
    lines = _lines(asked)
    if lines is None:
        return None
    promo_code = asked.get("promo_code") or ""
    hold, is_replayed = taking.take(asked["event"], lines=lines, key=key, promo_code=promo_code, meta=call.environ)
    checkout_url = call.base_url + _checkout_path().replace(_ANY, str(hold.id))
    headers = {"Idempotent-Replayed": "true"} if is_replayed else {}
    return as_json(200 if is_replayed else 201, reservation_as_json(hold, checkout_url=checkout_url), headers)


@cache
def _checkout_path() -> str:
    return reverse("payments:checkout", args=[_ANY])


def event_availability(call: Call) -> Answer | None:
    """`GET /api/v1/events/{slug}/availability/`, as `api.EventAvailability` answers it."""
    now = availability.now(call.found["slug"])
    if now is None:
        return None
    if now.is_known_to(call.header("If-None-Match") or ""):
        return Answer(304, b"", {"ETag": now.etag})
    return Answer(200, now.body, {"ETag": now.etag})


def _lines(asked: Any) -> list[Wanted] | None:
    """The lines of a request in its ordinary form; None for any other."""
    if type(asked) is not dict or not asked.keys() <= {"event", "lines", "promo_code"}:
        return None
    event, lines, code = asked.get("event"), asked.get("lines"), asked.get("promo_code")
    if type(event) is not str or not 0 < len(event) <= 80 or event.strip() != event or "\0" in event:
        return None
    if code is not None and (type(code) is not str or len(code) > 40 or code.strip() != code or "\0" in code):
        return None
    if type(lines) is not list or not 0 < len(lines) <= MOST_LINES:
        return None
    wanted = []
    for line in lines:
        if type(line) is not dict or not line.keys() <= {"product", "slot", "quantity"}:
            return None
        product, slot, quantity = line.get("product"), line.get("slot"), line.get("quantity")
        if type(product) is not int or not 0 < product <= LARGEST_ID:
            return None
        if slot is not None and (type(slot) is not int or not 0 < slot <= LARGEST_ID):
            return None
        if type(quantity) is not int or not 0 < quantity <= 1_000:
            return None
        wanted.append(Wanted(product, slot, quantity))
    return wanted
