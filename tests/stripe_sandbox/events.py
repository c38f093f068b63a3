"""Events: what happened, with the object as it was at that moment (docs.stripe.com/api/events)."""

from __future__ import annotations

import copy
from typing import Any

from . import API_VERSION, lists
from .call import Call
from .clock import Clock
from .errors import resource_missing
from .identifiers import new_id
from .state import State
from .webhooks import Webhooks

Record = dict[str, Any]
LISTED_FOR_SECONDS = 30 * 24 * 3600
"""Stripe's Events API goes back 30 days."""


class Events:
    def __init__(self, state: State, clock: Clock, webhooks: Webhooks) -> None:
        self._state = state
        self._clock = clock
        self._webhooks = webhooks

    def emit(self, event_type: str, subject: Record, call: Call, *, previous: Record | None = None) -> Record:
        data: Record = {"object": copy.deepcopy(subject)}
        if previous is not None:
            data["previous_attributes"] = copy.deepcopy(previous)
        event = {
            "id": new_id("evt"),
            "object": "event",
            "api_version": API_VERSION,
            "created": self._clock.now(),
            "data": data,
            "livemode": False,
            "pending_webhooks": 0,
            "request": {"id": call.request_id, "idempotency_key": call.idempotency_key},
            "type": event_type,
        }
        self._state.save("event", event)
        self._webhooks.enqueue(event)
        return event

    def emit_update(self, event_type: str, before: Record, after: Record, call: Call) -> Record | None:
        """No event where nothing changed; otherwise the old values of what did."""
        previous = _changes(before, after)
        return self.emit(event_type, after, call, previous=previous) if previous else None

    def retrieve(self, event_id: str) -> Record:
        event = self._state.get("event", event_id)
        if not event:
            raise resource_missing("event", event_id, param="id")
        return event

    def list_page(self, call: Call) -> Record:
        oldest = self._clock.now() - LISTED_FOR_SECONDS
        wanted = set(call.params.get("types", [])) | ({call.params["type"]} if "type" in call.params else set())
        success = call.params.get("delivery_success")

        def matches(event: Record) -> bool:
            return (
                event["created"] >= oldest
                and (not wanted or any(_type_matches(pattern, event["type"]) for pattern in wanted))
                and (success is None or (event["pending_webhooks"] == 0) is success)
            )

        return lists.page(self._state, "event", call.params, url="/v1/events", matches=matches)


def _type_matches(pattern: str, event_type: str) -> bool:
    """`charge.*` stands for every event of charges."""
    return event_type == pattern or (pattern.endswith(".*") and event_type.startswith(pattern[:-1]))


def _changes(before: Record, after: Record) -> Record:
    changed: Record = {}
    for name, old in before.items():
        new = after.get(name)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            # Keys that are new are shown as null, as Stripe does for metadata.
            changed[name] = {
                key: old.get(key) for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)
            }
        else:
            changed[name] = old
    return changed
