"""Work that one process at a time may as well do alone: sweeps, reconciliation (docs/decisions/0008).

A courtesy, never a safeguard: it saves double work. Whoever runs under it must be correct with any number of others at
the same work, because the lock lets them in when Redis is gone, when its time is over, and when its flag is off.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from django.conf import settings
from django.db import connection
from redis.exceptions import LockNotOwnedError
from redis.lock import Lock

from config import features, redis_client

FLAG = "redis-locks"

logger = structlog.get_logger(__name__)
_reach = redis_client.Reach("locks", without="nobody waits for another's turn")


@contextmanager
def run_alone(name: str, *, seconds: float) -> Iterator[bool]:
    """True: go on. False: another process is at it, come back another time. Waits for nobody.

    After `seconds` the next one is let in even if this one is still at work. A process that dies keeps the others out
    for as long, so `seconds` should be little more than the work may take.
    """
    if not features.is_on(FLAG, subject=name):
        yield True
        return
    lock, may_go_on = _try_to_take(name, seconds)
    try:
        yield may_go_on
    finally:
        if lock is not None:
            _give_back(lock, name)


def _try_to_take(name: str, seconds: float) -> tuple[Lock | None, bool]:
    """The lock, when it became ours, and whether to go on."""
    if not _reach.is_worth_a_try():
        return None, True
    try:
        lock = redis_client.client().lock(_key(name), timeout=seconds, blocking=False, thread_local=False)
        is_ours = lock.acquire()
    except redis_client.Unusable as error:
        _reach.failed(error)
        return None, True
    _reach.worked()
    return (lock, True) if is_ours else (None, False)


def _give_back(lock: Lock, name: str) -> None:
    try:
        lock.release()  # by its token: what has become another's stays another's
    except LockNotOwnedError:
        logger.warning("lock ran out during the work", lock=name)
    except redis_client.Unusable as error:
        _reach.failed(error)  # it ends with its time


def _key(name: str) -> str:
    """A lock is about the rows of one database, whoever else uses this Redis."""
    of_whom = f"{settings.SECRET_KEY} {connection.settings_dict['NAME']}"
    return f"counterfoil:lock:{hashlib.sha256(of_whom.encode()).hexdigest()[:16]}:{name}"
