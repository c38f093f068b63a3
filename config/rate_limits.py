"""How often one buyer, one address and everybody together may try something (the settings *_LIMIT_*).

Fixed windows that begin with the first attempt. An attempt is checked against all its limits at once: it counts in each
of them, or it is refused and counts in none. Counted in Redis; while that is gone, in each process by itself
(docs/decisions/0008). Nobody is refused for want of Redis, and nobody waits for it.
"""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from django.conf import settings

from config import attempt_counters, redis_client
from config.attempt_counters import Answers, Attempts, Counter
from config.limit_windows import Window, windows
from config.proxies import client_address, one_of_many

EVERYBODY = "all"
MOST_IN_MEMORY = 50_000  # counters, about 10 MB
BUYER_COOKIE = "buyer"
_COOKIE = re.compile(rf"(?:^|;)\s*{BUYER_COOKIE}=([A-Za-z0-9_-]{{22}})\s*(?:;|$)")


class RateLimited(Exception):
    """Refused until `retry_after` seconds have passed. `limit`: its name; `who`: an address, a buyer's digest, or all."""

    def __init__(self, limit: str, who: str, retry_after: int) -> None:
        super().__init__(f"{limit} of {who}: {retry_after} s")
        self.limit = limit
        self.who = who
        self.retry_after = retry_after

    @property
    def is_everybody(self) -> bool:
        """The limit is one that all share."""
        return self.who == EVERYBODY


class Attempt(NamedTuple):
    """`action`: hold, checkout or sync. Who does not say which buyer they are is their address."""

    action: str
    address: str
    buyer: str = ""


class _Limit(NamedTuple):
    name: str
    per: str
    setting: str


class _Rule(NamedTuple):
    """One window of a limit."""

    limit: str
    per: str
    window: Window
    prefix: str


_LIMITS = {
    "hold": (
        _Limit("hold_per_buyer", "buyer", "HOLD_LIMIT_PER_BUYER"),
        _Limit("hold_per_address", "address", "HOLD_LIMIT_PER_ADDRESS"),
        _Limit("hold_overall", EVERYBODY, "HOLD_LIMIT_OVERALL"),
    ),
    "checkout": (
        _Limit("checkout_per_buyer", "buyer", "CHECKOUT_LIMIT_PER_BUYER"),
        _Limit("checkout_per_address", "address", "CHECKOUT_LIMIT_PER_ADDRESS"),
    ),
    "sync": (_Limit("sync_per_address", "address", "SYNC_LIMIT_PER_ADDRESS"),),
}


def attempt_of(action: str, meta: Mapping[str, Any]) -> Attempt:
    """By whom: from a request's WSGI environment (`request.META`)."""
    cookie = _COOKIE.search(meta.get("HTTP_COOKIE", ""))
    return Attempt(action, one_of_many(client_address(meta)), cookie[1] if cookie else "")


def take(action: str, *, meta: Mapping[str, Any]) -> None:
    """Counts one attempt. Raises RateLimited."""
    if not settings.RATE_LIMITS:
        return
    (refusal,) = take_many([attempt_of(action, meta)])
    if refusal is not None:
        raise refusal


def take_many(attempts: Sequence[Attempt]) -> list[RateLimited | None]:
    """Decides attempts in their order, as `take` would one after the other, in one round trip. None: it may go on."""
    if not settings.RATE_LIMITS:
        return [None] * len(attempts)
    rules: dict[str, list[_Rule]] = {}
    places: dict[str, int] = {}  # of each counter, by its key
    counters: list[Counter] = []
    meant: list[tuple[str, str]] = []  # by each counter: which limit, and who
    wanted = []
    for attempt in attempts:
        if attempt.action not in rules:
            rules[attempt.action] = _rules(attempt.action)
        of_attempt = []
        whos = _whos(attempt)
        for rule in rules[attempt.action]:
            who, digest = whos[rule.per]
            key = rule.prefix + digest
            if (place := places.get(key)) is None:
                place = places[key] = len(counters)
                counters.append(Counter(key, *rule.window))
                meant.append((rule.limit, who))
            of_attempt.append(place)
        wanted.append(of_attempt)
    if not counters:
        return [None] * len(attempts)
    answers = _count(counters, wanted)
    return [full and RateLimited(*meant[full.place], max(1, math.ceil(full.milliseconds / 1_000))) for full in answers]


_memory = attempt_counters.InMemory(most=MOST_IN_MEMORY)
_reach = redis_client.Reach("rate limits", without="each process counts for itself")


def _count(counters: Sequence[Counter], attempts: Attempts) -> Answers:
    if _reach.is_worth_a_try():
        try:
            answers = attempt_counters.in_redis(counters, attempts)
        except redis_client.Unusable as error:
            _reach.failed(error)
        else:
            _reach.worked()
            return answers
    return _memory.take(counters, attempts)


def _rules(action: str) -> list[_Rule]:
    return [
        _Rule(limit.name, limit.per, window, f"counterfoil:{limit.name}:{window.seconds}:")
        for limit in _LIMITS[action]
        for window in windows(getattr(settings, limit.setting))
    ]


def _whos(attempt: Attempt) -> dict[str, tuple[str, str]]:
    """What is said of who tried, and what stands in Redis: no personal data, and not another installation's."""
    secret = settings.SECRET_KEY
    address = (attempt.address, _digest(attempt.address, secret))
    buyer = address
    if attempt.buyer:
        digest = _digest(f"buyer {attempt.buyer}", secret)
        buyer = (digest, digest)
    return {"buyer": buyer, "address": address, EVERYBODY: (EVERYBODY, _digest(EVERYBODY, secret))}


@lru_cache(maxsize=8_192)
def _digest(text: str, secret: str) -> str:
    return hashlib.blake2b(text.encode(), key=_key(secret), digest_size=12).hexdigest()


@lru_cache(maxsize=2)
def _key(secret: str) -> bytes:
    return hashlib.sha256(f"rate limits {secret}".encode()).digest()
