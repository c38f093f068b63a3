"""The sweep of holds past their time: one call for beat, the fallback loop, the command, staff and the signed endpoint.

It only tidies: a hold past its time costs nobody a seat, swept or not. Any number of sweeps may run at once; they share
the work, and each hold is given back once.
"""

import time
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import connection
from django.db.models.functions import Now

from config.locks import run_alone
from reservations import holds
from reservations.models import Reservation, SweepRun
from reservations.sweep_runs import recorded

logger = structlog.get_logger(__name__)

TASK_SECONDS = 45.0  # a task's soft time limit is 60
ENDPOINT_SECONDS = 20.0  # schedulers outside give up after about 30
LATE_AFTER = timedelta(minutes=5)  # no hold is stored as ACTIVE for longer than this after its end (H10)


def sweep_expired_holds(
    *, by: str, batch: int | None = None, for_seconds: float | None = None, in_turn: bool = False
) -> int:
    """Ends the holds past their time, in batches; how many. What is left after `for_seconds` is the next run's.

    Writes a SweepRun. `by`: beat, worker (the fallback loop), command, endpoint, staff:<id>. `in_turn`: does nothing
    while another such run is at it; for runs on a schedule, never for a person who wants it now.
    """
    if not in_turn:
        return _sweep(by, batch, for_seconds)
    with run_alone("release_expired_holds", seconds=int(for_seconds or TASK_SECONDS) + 15) as is_alone:
        if is_alone:
            return _sweep(by, batch, for_seconds)
    logger.info("expired holds left to another sweep", by=by)
    return 0


def holds_over(*, for_at_least: timedelta = timedelta()) -> int:
    """How many holds are stored as ACTIVE though their time ended so long ago."""
    active = Reservation.objects.filter(status=Reservation.Status.ACTIVE)
    return active.filter(expires_at__lte=Now() - for_at_least).count()


def _sweep(by: str, batch: int | None, for_seconds: float | None) -> int:
    size = settings.HOLD_SWEEP_BATCH if batch is None else batch
    until = None if for_seconds is None else time.monotonic() + for_seconds
    with recorded(SweepRun.Name.EXPIRED_HOLDS, by=by) as run:
        if size < 1:
            raise ValueError(f"a batch of {size}")
        while released := holds.release_expired(batch=size, at_most=size):
            run.dealt_with += released
            if until is not None and time.monotonic() >= until:
                logger.info("expired holds: time is up, the next run goes on", by=by, released=run.dealt_with)
                return run.dealt_with
        if stuck := _cannot_be_released(run.started_at):
            run.error = f"{stuck} cannot be released: the books of their quotas are wrong (manage.py recount_quotas)"
    return run.dealt_with


def _cannot_be_released(before: datetime) -> int:
    """Holds that were over when the run began, that nobody else is working on, and that are ACTIVE all the same."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT count(*) FROM (
                SELECT FROM reservations_reservation WHERE status = 'ACTIVE' AND expires_at <= %s
                ORDER BY expires_at LIMIT 1000 FOR SHARE SKIP LOCKED) left_over
            """,
            [before],
        )
        return cursor.fetchone()[0]
