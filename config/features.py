"""Feature flags: the risky mechanisms that staff can switch off, or on for a share, without a deploy (docs/decisions/0010).

A flag is a row of django-waffle, which each process remembers for ten seconds: asking costs no query and no Redis. Each
has a fallback that is as correct, so asking never fails: without its row, or without the database, its default counts.
What guards the stock has no flag.
"""

import hashlib
import os
import random
import threading
import time
from dataclasses import dataclass
from typing import Any

import structlog
from django.db import Error as DatabaseFailure
from django.db.models.signals import post_delete, post_save
from waffle import get_waffle_flag_model
from waffle.utils import get_cache

logger = structlog.get_logger(__name__)

EVERYONE = 100.0
SHARE_KEPT_SECONDS = 1  # a row out of waffle's memory costs more than all else that a hold does in Python


@dataclass(frozen=True, slots=True)
class Feature:
    """What a flag switches. Staff read `does` and `fallback` beside it."""

    name: str
    does: str
    fallback: str  # what happens while it is off
    is_on_by_default: bool = True

    @property
    def note(self) -> str:
        return f"{self.does} Off: {self.fallback}"


_FEATURES = (
    Feature(
        "redis-locks",
        "Sweeps take turns by a lock in Redis.",
        "they run side by side, which is as correct and costs more.",
    ),
    Feature(
        "hold-combining",
        "Holds of one event that arrive together share a round trip to the database.",
        "each hold goes by itself, which is as correct and slower in a rush.",
    ),
    Feature(
        "hosted-checkout",
        "Events may send their buyers to Stripe's own payment page.",
        "every buyer pays in the form on our page.",
    ),
    Feature(
        "stripe-breaker",
        "Calls to Stripe stop while Stripe is down or refuses our key, and while staff pause payments.",
        "every call goes through and waits for its own timeout; calls are still counted.",
    ),
    Feature(
        "auto-refund",
        "Money that nothing can be given for is refunded at once.",
        "the refund waits for staff.",
    ),
    Feature(
        "self-service-sync",
        "Buyers who wait for their tickets can have Stripe asked.",
        "they are answered from our books, which webhooks and sweeps keep up to date.",
    ),
)
REGISTRY = {feature.name: feature for feature in _FEATURES}


def is_on(name: str, *, subject: object = None) -> bool:
    """Whether the feature is on, for `subject` when it is on for a share.

    The same subject always falls on the same side, and a share that grows only adds subjects. Without one it is decided
    by chance, for this call alone.
    """
    on_for = share(name)
    if on_for <= 0 or on_for >= EVERYONE:
        return on_for > 0
    return (_place(name, subject) if subject is not None else random.random()) * EVERYONE < on_for  # noqa: S311 - no secret


def share(name: str) -> float:
    """The percentage it is on for: 0 for nobody, 100 for everyone.

    One thread at a time reads it anew, and the others go on with what was known: in a rush none of them takes a
    database connection for it, nor waits.
    """
    feature = REGISTRY[name]  # an unknown name is a mistake of ours
    known = get_cache().get(f"share-{name}")
    if known is not None and known[1] > time.monotonic():
        return known[0]
    if not _reading.acquire(blocking=known is None):
        return known[0]
    try:
        known = get_cache().get(f"share-{name}")
        if known is None or known[1] <= time.monotonic():
            known = _share(feature), time.monotonic() + SHARE_KEPT_SECONDS
            get_cache().set(f"share-{name}", known, timeout=None)
        return known[0]
    finally:
        _reading.release()


_reading = threading.Lock()


def _begin() -> None:
    """In a forked process nobody is reading yet."""
    global _reading  # noqa: PLW0603 - a lock that was taken in the parent would never be given back
    _reading = threading.Lock()


os.register_at_fork(after_in_child=_begin)


def _share(feature: Feature) -> float:
    try:
        flag = get_waffle_flag_model().get(feature.name)
    except DatabaseFailure as error:
        logger.warning("feature flag unreadable, its default counts", flag=feature.name, error=type(error).__name__)
        return EVERYONE * feature.is_on_by_default
    if flag.pk is None:
        return EVERYONE * feature.is_on_by_default
    if flag.everyone is not None:
        return EVERYONE * flag.everyone
    return float(flag.percent or 0)


def _forget(instance: Any, **kwargs: Any) -> None:
    """Whoever turns a flag in this process sees it at once."""
    get_cache().delete(f"share-{instance.name}")


for _signal in (post_save, post_delete):
    _signal.connect(_forget, sender="waffle.Flag", dispatch_uid="config.features.forget")


def _place(name: str, subject: object) -> float:
    """Where the subject stands between 0 and 1: elsewhere for each flag, and always the same."""
    digest = hashlib.sha256(f"{name}:{subject}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64
