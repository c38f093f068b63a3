"""Scripted faults of the API itself, so that every bad minute of Stripe can be replayed in a test.

drop_before     connection cut, nothing was done
drop_after      connection cut after the work was done and stored
http_500_before 500 before the endpoint began: nothing stored under the idempotency key
http_500_after  the work was done, yet 500 is answered, stored, and replayed
hang            the endpoint takes `seconds`; its idempotency key stays in use meanwhile
hang_before     `seconds` of silence first, and then nothing has been done: 500
http_429        rate limited; the limiter runs before the idempotency layer
lock_timeout    429 with code lock_timeout and Stripe-Should-Retry: true
malformed       the work was done, the answer is cut off in the middle of its JSON
"""

from __future__ import annotations

import fnmatch
from typing import Any

from .identifiers import new_id
from .state import State

Record = dict[str, Any]
KINDS = (
    "drop_before", "drop_after", "http_500_before", "http_500_after", "hang", "hang_before", "http_429",
    "lock_timeout", "malformed",
)  # fmt: skip
FAULTS = "_fault"


class Faults:
    def __init__(self, state: State) -> None:
        self._state = state

    def add(
        self, kind: str, *, method: str = "*", path: str = "*", count: int = 1, skip: int = 0, seconds: float = 0.0
    ) -> Record:
        """`path` is a shell pattern over the whole path, such as `/v1/payment_intents/*/cancel`."""
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}")
        fault = {
            "id": new_id("fault"),
            "kind": kind,
            "method": method.upper(),
            "path": path,
            "remaining": int(count),
            "skip": int(skip),
            "seconds": float(seconds),
        }
        return self._state.save(FAULTS, fault)

    def take(self, method: str, path: str) -> Record | None:
        """The first matching fault that is not still letting requests pass."""
        for fault in self._state.all(FAULTS):
            if not (fnmatch.fnmatchcase(method, fault["method"]) and fnmatch.fnmatchcase(path, fault["path"])):
                continue
            if fault["skip"] > 0:
                fault["skip"] -= 1
                self._state.save(FAULTS, fault)
                continue
            fault["remaining"] -= 1
            if fault["remaining"] > 0:
                self._state.save(FAULTS, fault)
            else:
                self._state.delete(FAULTS, fault["id"])
            return fault
        return None

    def all(self) -> list[Record]:
        return self._state.all(FAULTS)

    def clear(self) -> None:
        for fault in self.all():
            self._state.delete(FAULTS, fault["id"])
