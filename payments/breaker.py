"""The circuit breaker of the calls to Stripe, one for all processes (docs/decisions/0009).

Whoever calls Stripe enters first and reports each try. While Stripe is down nobody waits for it: calls are turned away,
and every half minute exactly one goes through to see whether it is back. Two rows decide: "stripe" moves by itself,
"staff" is the pause that staff make and only staff end. All times are the database's. When the database cannot be
asked, calls go through: the breaker saves waiting, it guards nothing.
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.db import Error as DatabaseFailure
from django.db import connection, transaction
from django.db.models import Q, Sum
from django.db.models.functions import Now

from config import features
from config.state_machine import move
from payments.models import Breaker, StatusChange, StripeCalls
from payments.models.stripe_calls import BreakerStatus

logger = structlog.get_logger(__name__)

FLAG = "stripe-breaker"
BY_ITSELF = "stripe"
BY_STAFF = "staff"

REST = timedelta(seconds=30)  # without any call, before one tries
PROBE_TIME = timedelta(seconds=30)  # then its process is taken for dead, and another may try
WINDOW = timedelta(seconds=30)
TRIES_AT_LEAST = 6  # so that one call that fails at each of its tries stops nobody else
FAILURES_AT_LEAST = 0.5
STAFF_RETRY_SECONDS = 60
CALLS_KEPT_FOR = timedelta(days=30)
CONFIG = "config"  # why, when Stripe refuses our key

Outcome = StripeCalls.Outcome
Status = BreakerStatus


class BreakerOpen(Exception):
    """No call is made now. `why` is "config", "unavailable: …", or what staff wrote."""

    def __init__(self, why: str, retry_after_seconds: int) -> None:
        super().__init__(why)
        self.why = why
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class Pass:
    """Leave for one try. `is_probe`: of all processes this alone tries, so it is not worth repeating at once."""

    probe_until: datetime | None = None  # tells this probe from the one that replaces it
    is_watched: bool = True  # its outcome may move the breaker

    @property
    def is_probe(self) -> bool:
        return self.probe_until is not None


@dataclass(frozen=True, slots=True)
class State:
    """The breaker as people see it. `status` is OPEN while staff pause payments."""

    status: str
    why: str
    since: datetime | None  # of the outage, not of its last probe; None while nothing ever happened
    seconds_to_probe: int | None  # None: no probe is due (closed, or paused by staff)
    is_paused_by_staff: bool
    is_in_use: bool  # its flag is on, at least for a share of the calls

    @property
    def is_closed(self) -> bool:
        """Calls go through, be it because the flag is off."""
        return self.status == Status.CLOSED or not self.is_in_use


def enter() -> Pass:
    """Leave for one try. Raises BreakerOpen, with the seconds after which asking again makes sense."""
    if not features.is_on(FLAG):
        return Pass(is_watched=False)
    try:
        return _enter()
    except DatabaseFailure as error:
        _shrug("asked", error)
        return Pass()


def _enter() -> Pass:
    rows = _rows()
    if (pause := rows.get(BY_STAFF)) is not None and pause.status == Status.OPEN:
        raise BreakerOpen(pause.why, STAFF_RETRY_SECONDS)
    row = rows.get(BY_ITSELF)
    if row is None or row.status == Status.CLOSED:
        return Pass()
    if (left := _seconds_to_probe(row)) > 0:
        raise BreakerOpen(row.why, left)
    if (until := _become_the_probe()) is None:
        raise BreakerOpen(row.why, 1)  # another process was quicker
    return Pass(probe_until=until)


def report(operation: str, outcome: str, milliseconds: float, *, passed: Pass) -> None:
    """Counts one try and lets the breaker draw its conclusions. Never raises for the database's sake.

    For autocommit only: in somebody's transaction the counters would be locked until its end.
    """
    try:
        _count(operation, outcome, milliseconds)
        if passed.is_watched:
            _judge(outcome, passed)
    except DatabaseFailure as error:
        _shrug("told", error)


def is_open() -> bool:
    """Whether a call would be turned away now. One query. False while a probe is due: somebody has to make it."""
    if features.share(FLAG) <= 0:
        return False
    try:
        rows = _rows()
    except DatabaseFailure as error:
        _shrug("asked", error)
        return False
    paused, row = rows.get(BY_STAFF), rows.get(BY_ITSELF)
    if paused is not None and paused.status == Status.OPEN:
        return True
    return row is not None and row.status != Status.CLOSED and _seconds_to_probe(row) > 0


def state() -> State:
    """For pages: unlike the rest it raises when the database cannot be asked."""
    rows, in_use = _rows(), features.share(FLAG) > 0
    row = rows.get(BY_ITSELF)
    if (pause := rows.get(BY_STAFF)) is not None and pause.status == Status.OPEN:
        return State(pause.status, pause.why, pause.changed_at, None, is_paused_by_staff=True, is_in_use=in_use)
    if row is None:
        return State(Status.CLOSED, "", None, None, is_paused_by_staff=False, is_in_use=in_use)
    is_closed = row.status == Status.CLOSED
    return State(
        row.status,
        row.why,
        row.changed_at if is_closed else _began_at(row),
        None if is_closed else _seconds_to_probe(row),
        is_paused_by_staff=False,
        is_in_use=in_use,
    )


def open(*, by: str, why: str) -> bool:  # noqa: A001 - breaker.open(…) says what it does
    """Staff pause payments: no call to Stripe until staff close it. No probe is made, and nothing closes it by itself.

    False when it was paused already; the first reason stays.
    """
    return _move(BY_STAFF, Status.OPEN, sources={Status.CLOSED}, by=by, why=why)


def close(*, by: str) -> bool:
    """Staff let calls through at once, whether it opened by itself or by their hand. False when it was closed."""
    sources = {Status.OPEN, Status.HALF_OPEN}
    was_paused = _move(BY_STAFF, Status.CLOSED, sources=sources, by=by, why="closed by hand")
    was_open = _move(BY_ITSELF, Status.CLOSED, sources=sources, by=by, why="closed by hand")
    return was_paused or was_open


def forget_old_calls() -> int:
    """Deletes statistics that nobody looks at any more."""
    return StripeCalls.objects.filter(at__lt=Now() - CALLS_KEPT_FOR).delete()[0]


def _rows() -> dict[str, Breaker]:
    """With `asked_at`, the database's time, on each."""
    return {row.name: row for row in Breaker.objects.annotate(asked_at=Now())}


def _seconds_to_probe(row: Breaker) -> int:
    ends = row.probe_until if row.status == Status.HALF_OPEN else row.changed_at + REST
    asked_at: datetime = row.asked_at  # type: ignore[attr-defined]  # by _rows
    return math.ceil((ends - asked_at).total_seconds()) if ends is not None else 0


def _began_at(row: Breaker) -> datetime:
    """When calls were last going through, past all probes that failed since."""
    opened = StatusChange.objects.filter(kind="breaker", object_id=row.name, from_status=Status.CLOSED)
    return opened.order_by("-id").values_list("at", flat=True).first() or row.changed_at


@transaction.atomic
def _become_the_probe() -> datetime | None:
    """Until when this process alone may try, or None: by the row's lock, one of all processes gets it."""
    has_rested = Q(status=Status.OPEN, changed_at__lte=Now() - REST)
    has_died = Q(status=Status.HALF_OPEN) & (Q(probe_until__lte=Now()) | Q(probe_until=None))
    row = Breaker.objects.select_for_update().filter(has_rested | has_died, name=BY_ITSELF).first()
    if row is None:
        return None
    until = Now() + PROBE_TIME
    if row.status == Status.OPEN:
        move(row, Status.HALF_OPEN, by="breaker", why="one call tries", changed_at=Now(), probe_until=until)
    else:
        Breaker.objects.filter(pk=row.pk).update(probe_until=until)
    row.refresh_from_db(fields=["probe_until"])
    return row.probe_until


def _count(operation: str, outcome: str, milliseconds: float) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO payments_stripecalls AS known (at, operation, outcome, calls, milliseconds)
            VALUES (date_bin('10 seconds', statement_timestamp(), 'epoch'), %s, %s, 1, %s)
            ON CONFLICT (at, operation, outcome) DO UPDATE
            SET calls = known.calls + 1, milliseconds = known.milliseconds + excluded.milliseconds
            """,
            [operation[:40], outcome, max(0, round(milliseconds))],
        )


def _judge(outcome: str, passed: Pass) -> None:
    if passed.is_probe:
        _end_probe(outcome, passed)
    elif outcome == Outcome.MISCONFIGURED:
        _open_by_itself(CONFIG)
    elif outcome == Outcome.UNAVAILABLE and (why := _why_to_open()):
        _open_by_itself(why)


def _open_by_itself(why: str) -> None:
    """From closed only: what was under way when it opened has no say about the probe."""
    _move(BY_ITSELF, Status.OPEN, sources={Status.CLOSED}, by="breaker", why=why)


def _end_probe(outcome: str, passed: Pass) -> None:
    """A probe that was taken for dead, or has reported a try before, no longer has a say."""
    with transaction.atomic():
        mine = Breaker.objects.select_for_update().filter(name=BY_ITSELF, probe_until=passed.probe_until)
        row = mine.filter(status=Status.HALF_OPEN).first()
        if row is None:
            return
        if outcome not in {Outcome.UNAVAILABLE, Outcome.MISCONFIGURED}:
            _change(row, Status.CLOSED, by="breaker", why="Stripe answered")
        else:
            why = CONFIG if outcome == Outcome.MISCONFIGURED else "unavailable: it did not answer the call that tried"
            _change(row, Status.OPEN, by="breaker", why=why)


def _why_to_open() -> str:
    """In words, when enough of the last tries failed; what was counted before it last closed is past."""
    row = Breaker.objects.filter(name=BY_ITSELF).first()
    if row is not None and row.status != Status.CLOSED:
        return ""
    lately = StripeCalls.objects.filter(at__gt=Now() - WINDOW)
    if row is not None:
        lately = lately.filter(at__gte=row.changed_at)
    failed = Sum("calls", filter=Q(outcome=Outcome.UNAVAILABLE), default=0)
    found = lately.aggregate(tries=Sum("calls", default=0), failed=failed)
    if found["tries"] < TRIES_AT_LEAST or found["failed"] < FAILURES_AT_LEAST * found["tries"]:
        return ""
    return f"unavailable: {found['failed']} of {found['tries']} tries failed in {int(WINDOW.total_seconds())} seconds"


def _move(name: str, to: BreakerStatus, *, sources: set[BreakerStatus], by: str, why: str) -> bool:
    """False when it is in none of `sources`."""
    if to == Status.OPEN:
        Breaker.objects.bulk_create([Breaker(name=name)], ignore_conflicts=True)
    with transaction.atomic():
        row = Breaker.objects.select_for_update().filter(name=name, status__in=sources).first()
        if row is not None:
            _change(row, to, by=by, why=why)
    return row is not None


def _change(row: Breaker, to: BreakerStatus, *, by: str, why: str) -> None:
    """Under the row's lock."""
    before, why_before = row.status, row.why
    move(row, to, by=by, why=why, changed_at=Now(), probe_until=None)
    Breaker.objects.filter(pk=row.pk).update(why=why[:250] if to == Status.OPEN else "")
    if to == Status.CLOSED:
        logger.info("stripe breaker closed", breaker=row.name, by=by, why=why)
    elif before == Status.CLOSED or (why == CONFIG) != (why_before == CONFIG):
        logger.critical("stripe breaker opened", breaker=row.name, by=by, why=why)
    else:
        logger.warning("stripe breaker stays open", breaker=row.name, why=why)


def _shrug(what: str, error: DatabaseFailure) -> None:
    """A connection that broke meanwhile is given up, so that the caller's next query gets a new one."""
    logger.warning("stripe breaker cannot be reached, calls go on", what=what, error=type(error).__name__)
    connection.close_if_unusable_or_obsolete()
