"""The book of the sweeps: every run has a row from its first moment, so one that dies is seen by what is missing in it."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from django.db import connection
from django.db.models.functions import Now

from reservations.models import SweepRun

logger = structlog.get_logger(__name__)


@contextmanager
def recorded(name: str, *, by: str) -> Iterator[SweepRun]:
    """Around a run, which sets `dealt_with` (and `error`, for what it could not do) on the row it is given.

    A run that raises is written down as failed, in a transaction of its own, and its error is raised on.
    """
    run = SweepRun.objects.create(name=name, by=by[:40])
    try:
        yield run
    except BaseException as error:  # a time limit or Ctrl-C too: whatever ended it is what staff want to read
        run.error = _in_one_line(error)
        _finish_if_possible(run)
        raise
    _finish(run)


def _finish_if_possible(run: SweepRun) -> None:
    if not connection.in_atomic_block:
        connection.close_if_unusable_or_obsolete()  # if the failure was that of the connection
    try:
        _finish(run)
    except Exception as error:  # the database may be what failed: the row stays unfinished, which says as much
        logger.warning("sweep run not finished", sweep=run.name, error=type(error).__name__)


def _finish(run: SweepRun) -> None:
    SweepRun.objects.filter(pk=run.pk).update(finished_at=Now(), dealt_with=run.dealt_with, error=run.error)
    if run.dealt_with == 0:
        _replace_the_one_before(run)


def _replace_the_one_before(run: SweepRun) -> None:
    """Runs without work (one every second or two, while the fallback loop sweeps) keep one row, not one each."""
    before = SweepRun.objects.filter(name=run.name, by=run.by, pk__lt=run.pk).order_by("-pk").values("pk")[:1]
    SweepRun.objects.filter(pk__in=before, finished_at__isnull=False, dealt_with=0, error=run.error).delete()


def _in_one_line(error: BaseException) -> str:
    """Without PostgreSQL's DETAIL, which quotes whole rows."""
    told = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {told}"[:250] if told else type(error).__name__
