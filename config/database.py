"""PostgreSQL habits that every app shares."""

import functools
import random
import time
from collections.abc import Callable
from datetime import datetime
from typing import ParamSpec, TypeVar

import structlog
from django.db import OperationalError, connection
from psycopg import errors

logger = structlog.get_logger(__name__)
P = ParamSpec("P")
R = TypeVar("R")

_TRANSIENT = (errors.DeadlockDetected, errors.SerializationFailure)


def retried_on_conflict(unit: Callable[P, R], tries: int = 3) -> Callable[P, R]:
    """Runs a whole unit again when PostgreSQL chose its transaction as the victim of a deadlock or serialization failure.

    Only for functions that own their transaction: inside another one the failure is passed on to its owner.
    """

    @functools.wraps(unit)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        for attempt in range(1, tries + 1):
            try:
                return unit(*args, **kwargs)
            except OperationalError as error:
                is_victim = isinstance(error.__cause__, _TRANSIENT)
                if not is_victim or attempt == tries or connection.in_atomic_block:
                    raise
                logger.warning("transaction retried", unit=unit.__qualname__, attempt=attempt)
                time.sleep(random.uniform(0.005, 0.05) * attempt)  # noqa: S311 - jitter, no secret
        raise AssertionError("unreachable")

    return run


def database_now() -> datetime:
    """The database's clock, which decides every expiry: never the web server's."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]
