"""Old rows that nobody needs any more: ended holds without an order, used signatures, old statistics, old sweep runs.

Whatever became an order stays, paid or not. Rows are purged in short transactions and skip what somebody else has
locked, so no buyer waits; what is left after the time given is the next run's.
"""

import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import OuterRef, QuerySet, Subquery
from django.db.models.functions import Now

from config.database import database_now, retried_on_conflict
from reservations.models import Conflict, LimitHit, Reservation, SweepRun, Tally, UsedSignature
from reservations.sweep_runs import recorded

logger = structlog.get_logger(__name__)

BATCH = 1_000
TASK_SECONDS = 45.0  # a task's soft time limit is 60
KEEP_SIGNATURES = timedelta(days=1)  # a signature is good for minutes
KEEP_STATISTICS = timedelta(days=90)
KEEP_SWEEP_RUNS = timedelta(days=7)

# Ended holds, oldest first, after the last one looked at: those with an order stay, and are not looked at twice.
_ENDED = """
    SELECT r.id, r.ended_at FROM reservations_reservation r
    WHERE r.status IN ('RELEASED', 'EXPIRED') AND r.ended_at < %(before)s
      AND (r.ended_at, r.id) > (%(last_ended)s, %(last_id)s)
      AND NOT EXISTS (SELECT FROM reservations_order o WHERE o.reservation_id = r.id)
    ORDER BY r.ended_at, r.id LIMIT %(limit)s FOR UPDATE OF r SKIP LOCKED
"""
# Keys that were bound to a newer reservation meanwhile are not theirs any more, and stay.
_WITH_THEM = (
    "DELETE FROM reservations_reservationkey WHERE reservation_id = ANY (%(ids)s)",
    "DELETE FROM reservations_claim c USING reservations_reservationline l WHERE l.id = c.line_id AND l.reservation_id = ANY (%(ids)s)",
    "DELETE FROM reservations_reservationline WHERE reservation_id = ANY (%(ids)s)",
    "DELETE FROM reservations_statuschange WHERE kind = 'reservation' AND object_id = ANY (%(ids)s::text[])",
    "DELETE FROM reservations_reservation WHERE id = ANY (%(ids)s)",
)


def purge_old_rows(*, by: str, for_seconds: float | None = None) -> dict[str, int]:
    """Deletes what is old; how many rows of each kind (a reservation's own rows go with it, uncounted).

    Writes a SweepRun. `by`: beat, command, staff:<id>. Two at once do no harm.
    """
    until = None if for_seconds is None else time.monotonic() + for_seconds
    purged = dict.fromkeys(_old(), 0)
    with recorded(SweepRun.Name.PURGE, by=by) as run:
        for kind, count in _batches():
            purged[kind] += count
            run.dealt_with += count
            if until is not None and time.monotonic() >= until:
                break
    logger.info("old rows purged", by=by, **purged)
    return purged


def count_old_rows() -> dict[str, int]:
    """What a purge would delete now."""
    return {kind: rows.count() for kind, rows in _old().items()}


def _batches() -> Iterator[tuple[str, int]]:
    """Deletes; after each batch, its kind and number."""
    old = _old()
    del old["reservations"]  # many, and with rows of their own: a way of their own
    for count in _purge_reservations():
        yield "reservations", count
    for kind, rows in old.items():
        while deleted := rows.model._default_manager.filter(pk__in=rows.values("pk")[:BATCH]).delete()[0]:
            yield kind, deleted


def _old() -> dict[str, QuerySet[Any]]:
    last_of_its_name = SweepRun.objects.filter(name=OuterRef("name")).order_by("-started_at", "-pk").values("pk")[:1]
    return {
        "reservations": Reservation.objects.filter(
            status__in=[Reservation.Status.RELEASED, Reservation.Status.EXPIRED],
            ended_at__lt=Now() - _keep_holds(),
            order=None,
        ),
        "used_signatures": UsedSignature.objects.filter(used_at__lt=Now() - KEEP_SIGNATURES),
        "conflicts": Conflict.objects.filter(minute__lt=Now() - KEEP_STATISTICS),
        "limit_hits": LimitHit.objects.filter(minute__lt=Now() - KEEP_STATISTICS),
        "tallies": Tally.objects.filter(minute__lt=Now() - KEEP_STATISTICS),
        "sweep_runs": SweepRun.objects.filter(started_at__lt=Now() - KEEP_SWEEP_RUNS).exclude(
            pk=Subquery(last_of_its_name)
        ),
    }


def _keep_holds() -> timedelta:
    return timedelta(days=max(settings.HOLD_KEEP_DAYS, 0))


def _purge_reservations() -> Iterator[int]:
    before = database_now() - _keep_holds()
    last: tuple[datetime, uuid.UUID] = (datetime(1970, 1, 1, tzinfo=UTC), uuid.UUID(int=0))
    while batch := _purge_batch(before, *last):
        yield len(batch)
        last = batch[-1]


@retried_on_conflict
@transaction.atomic
def _purge_batch(before: datetime, last_ended: datetime, last_id: uuid.UUID) -> list[tuple[datetime, uuid.UUID]]:
    with connection.cursor() as cursor:
        cursor.execute(_ENDED, {"before": before, "last_ended": last_ended, "last_id": last_id, "limit": BATCH})
        found = [(ended_at, reservation_id) for reservation_id, ended_at in cursor.fetchall()]
        for statement in _WITH_THEM if found else ():
            cursor.execute(statement, {"ids": [reservation_id for _ended_at, reservation_id in found]})
    return found
