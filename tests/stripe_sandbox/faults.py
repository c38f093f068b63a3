"""Scripted faults of the API itself, so that every bad minute of Stripe can be replayed in a test.

refuse          every connection is cut before anything is read, pages and stripe.js too; only the dashboard and the
                control go on. It lasts `seconds` of virtual time, or until it is cleared
drop_before     connection cut, nothing was done
drop_after      connection cut after the work was done and stored
http_401        the key was revoked
http_403        the key may not do this
http_500_before 500 before the endpoint began: nothing stored under the idempotency key
http_500_after  the work was done, yet 500 is answered, stored, and replayed
hang            the endpoint takes `seconds`; its idempotency key stays in use meanwhile
hang_before     `seconds` of silence first, and then nothing has been done: 500
http_429        rate limited; the limiter runs before the idempotency layer
lock_timeout    429 with code lock_timeout and Stripe-Should-Retry: true
malformed       the work was done, the answer is cut off in the middle of its JSON
unknown_status  the work was done, the answer names a status that no SDK has heard of; the stored one is right
"""

from __future__ import annotations

import fnmatch
from typing import Any

from .clock import Clock
from .identifiers import new_id
from .state import State

Record = dict[str, Any]
KINDS = (
    "refuse", "drop_before", "drop_after", "http_401", "http_403", "http_500_before", "http_500_after", "hang",
    "hang_before", "http_429", "lock_timeout", "malformed", "unknown_status",
)  # fmt: skip
UNLIMITED = 0
FAULTS = "_fault"


class Faults:
    def __init__(self, state: State, clock: Clock) -> None:
        self._state = state
        self._clock = clock

    def add(
        self, kind: str, *, method: str = "*", path: str = "*", count: int = 1, skip: int = 0, seconds: float = 0.0
    ) -> Record:
        """`path` is a shell pattern over the whole path, such as `/v1/payment_intents/*/cancel`; a count of 0 never
        runs out.
        """
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}")
        if count < 0 or skip < 0 or seconds < 0:
            raise ValueError("count, skip and seconds cannot be negative")
        fault = {
            "id": new_id("fault"),
            "kind": kind,
            "method": method.upper(),
            "path": path,
            "remaining": int(count),
            "skip": int(skip),
            "seconds": float(seconds),
            "until": self._clock.time() + seconds if kind == "refuse" and seconds else None,
        }
        return self._state.save(FAULTS, fault)

    def refuses(self, method: str, path: str) -> bool:
        """An outage is a stretch of time, not a number of requests."""
        for fault in self._state.all(FAULTS):
            if fault["kind"] != "refuse":
                continue
            if fault["until"] and fault["until"] <= self._clock.time():
                self._state.delete(FAULTS, fault["id"])
            elif _matches(fault, method, path):
                return True
        return False

    def take(self, method: str, path: str) -> Record | None:
        """The first matching fault that is not still letting requests pass."""
        for fault in self._state.all(FAULTS):
            if fault["kind"] == "refuse" or not _matches(fault, method, path):
                continue
            if fault["skip"] > 0:
                fault["skip"] -= 1
                self._state.save(FAULTS, fault)
                continue
            if fault["remaining"] == 1:
                self._state.delete(FAULTS, fault["id"])
            elif fault["remaining"] != UNLIMITED:
                fault["remaining"] -= 1
                self._state.save(FAULTS, fault)
            return fault
        return None

    def all(self) -> list[Record]:
        return self._state.all(FAULTS)

    def clear(self) -> None:
        for fault in self.all():
            self._state.delete(FAULTS, fault["id"])


def _matches(fault: Record, method: str, path: str) -> bool:
    return fnmatch.fnmatchcase(method, fault["method"]) and fnmatch.fnmatchcase(path, fault["path"])
