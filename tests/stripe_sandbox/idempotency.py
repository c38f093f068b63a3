"""Idempotency-Key as Stripe documents it (docs.stripe.com/api/idempotent_requests, /error-low-level).

1. The first request whose endpoint began to execute owns the key; its status and body are stored,
   whatever they are, 402 and 500 included.
2. The same key again, same endpoint and parameters: the stored answer, with Idempotent-Replayed.
3. Other endpoint or other parameters: 400 idempotency_error.
4. While the first is still running: 409.
5. What fails before execution (401, unknown or malformed parameters, 429) stores nothing.
6. After 24 hours the key is forgotten and means a new request.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from .clock import Clock
from .errors import StripeError, invalid_request
from .state import State

KEYS = "_idempotency_key"
LONGEST_KEY = 255
KEPT_FOR_SECONDS = 24 * 3600


@dataclass(frozen=True)
class StoredAnswer:
    status: int
    body: str
    request_id: str


class Idempotency:
    def __init__(self, state: State, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self._running: dict[str, tuple[str, str]] = {}

    def begin(self, scope: str, key: str, endpoint: str, params: dict[str, Any]) -> StoredAnswer | None:
        """None: go on and execute, then `finish` or `release`. Otherwise: this is your answer."""
        if len(key) > LONGEST_KEY:
            raise invalid_request(
                f"Invalid idempotency key: keys must be at most {LONGEST_KEY} characters long (yours is {len(key)})."
            )
        name, fingerprint = f"{scope} {key}", _fingerprint(params)
        if name in self._running:
            _must_match(key, self._running[name], (endpoint, fingerprint))
            raise _in_use(key)
        stored = self._state.get(KEYS, name)
        if stored and self._clock.time() - stored["created"] >= KEPT_FOR_SECONDS:
            self._state.delete(KEYS, name)
            stored = None
        if stored:
            _must_match(key, (stored["endpoint"], stored["fingerprint"]), (endpoint, fingerprint))
            return StoredAnswer(stored["status"], stored["body"], stored["request_id"])
        self._running[name] = (endpoint, fingerprint)
        return None

    def finish(self, scope: str, key: str, answer: StoredAnswer) -> None:
        name = f"{scope} {key}"
        endpoint, fingerprint = self._running.pop(name)
        self._state.save(
            KEYS,
            {
                "id": name,
                "endpoint": endpoint,
                "fingerprint": fingerprint,
                "created": self._clock.time(),
                "status": answer.status,
                "body": answer.body,
                "request_id": answer.request_id,
            },
        )

    def release(self, scope: str, key: str) -> None:
        self._running.pop(f"{scope} {key}", None)


def _fingerprint(params: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()


def _must_match(key: str, first: tuple[str, str], now: tuple[str, str]) -> None:
    hint = f"Try using a key other than '{key}' if you meant to execute a different request."
    if first[0] != now[0]:
        raise StripeError(
            400,
            "idempotency_error",
            "Keys for idempotent requests can only be used for the same endpoint they were first used for "
            f"('{now[0].split()[1]}' vs '{first[0].split()[1]}'). {hint}",
        )
    if first[1] != now[1]:
        raise StripeError(
            400,
            "idempotency_error",
            f"Keys for idempotent requests can only be used with the same parameters they were first used with. {hint}",
        )


def _in_use(key: str) -> StripeError:
    return StripeError(
        409,
        "idempotency_error",
        "There is currently another in-progress request using this Idempotent Key (that probably means you submitted "
        f"twice, and the other request is still going through): {key}. Please try again later.",
        code="idempotency_key_in_use",
        should_retry=True,
    )
