"""Can this process serve? Ready is "ok" or "degraded" as long as buyers can buy; only the database decides that."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from django.db import DEFAULT_DB_ALIAS, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models.functions import Now

from monitoring import fallback, heartbeats
from payments import attention, breaker
from payments.models import WebhookEvent
from reservations.models import SweepRun
from ticketing.models import OutgoingEmail

BACKLOG_AT_MOST = 1_000
SWEEP_LATE_AFTER = timedelta(minutes=3)  # it runs each minute


@dataclass(frozen=True, slots=True)
class Check:
    is_ok: bool
    detail: str


def checks() -> dict[str, Check]:
    """Each part by name. `database` and `migrations` failing mean not ready; any other failing means degraded."""
    database = _guarded(_database)
    found = {"database": database}
    found["migrations"] = _guarded(_migrations) if database.is_ok else _unknown()
    found["broker"] = _guarded(_broker)
    found["beat"] = _guarded(_beat) if database.is_ok else _unknown()
    found["sweep"] = _guarded(_sweep) if database.is_ok else _unknown()
    found["webhooks"] = _guarded(_webhooks) if database.is_ok else _unknown()
    found["backlog"] = _guarded(_backlog) if database.is_ok else _unknown()
    found["stripe"] = _guarded(_stripe) if database.is_ok else _unknown()
    return found


def _guarded(check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:  # a health check reports, it never raises
        return Check(False, type(error).__name__)


def _unknown() -> Check:
    return Check(False, "unknown without the database")


def _database() -> Check:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return Check(True, "answers")


_applied: set[str] = set()  # a process that has seen its own migrations applied need not look again


def _migrations() -> Check:
    if DEFAULT_DB_ALIAS in _applied:
        return Check(True, "all applied")
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if not missing:
        _applied.add(DEFAULT_DB_ALIAS)
    return Check(not missing, f"{len(missing)} to apply" if missing else "all applied")


def _broker() -> Check:
    answers = fallback.broker_answers()
    return Check(answers, "answers" if answers else "unreachable: sales go on, the worker sweeps by itself")


def _beat() -> Check:
    is_fresh = heartbeats.is_fresh("beat")
    return Check(is_fresh, "fresh" if is_fresh else "silent: schedule, broker or workers are down")


def _sweep() -> Check:
    """Expired holds cost nobody a seat without it, but their buyers' rows pile up."""
    runs = SweepRun.objects.filter(name=SweepRun.Name.EXPIRED_HOLDS)
    lately = runs.filter(started_at__gt=Now() - 2 * SWEEP_LATE_AFTER, finished_at__gt=Now() - SWEEP_LATE_AFTER)
    last = lately.order_by("-finished_at").first()
    if last is not None and last.error:  # its words are for staff, this page is for everybody
        return Check(
            False, "the last sweep of expired holds did not do all of its work: the admin's sweep runs say why"
        )
    if last is not None:
        return Check(True, f"{last.dealt_with} expired holds released by the last")
    begun = runs.order_by("-started_at").first()
    if begun is None:
        return Check(False, "no sweep of expired holds yet: schedule or workers are down")
    at = f"{begun.started_at:%Y-%m-%d %H:%M} UTC"
    if begun.finished_at is None:
        return Check(False, f"no sweep of expired holds has finished for minutes; that of {at} began and did not end")
    return Check(False, f"no sweep of expired holds since {at}: schedule or workers are down")


def _webhooks() -> Check:
    """Sales go on without them, minutes late."""
    return Check(*attention.webhooks())


def _backlog() -> Check:
    events = WebhookEvent.objects.filter(status=WebhookEvent.Status.RECEIVED, next_attempt_at__lte=Now()).count()
    letters = OutgoingEmail.objects.filter(status=OutgoingEmail.Status.PENDING, next_attempt_at__lte=Now()).count()
    return Check(events + letters <= BACKLOG_AT_MOST, f"{events} webhook events and {letters} e-mails waiting")


def _stripe() -> Check:
    """Browsing and holds go on without Stripe. Why staff paused it is theirs to know: this page is for everybody."""
    found = breaker.state()
    if not found.is_in_use:
        return Check(True, "the circuit breaker is switched off: every call goes through")
    if found.is_closed:
        return Check(True, "calls go through")
    if found.is_paused_by_staff:
        return Check(False, "staff have paused payments")
    if found.why == breaker.CONFIG:
        return Check(False, "payments are paused: Stripe refuses our key")
    return Check(False, "payments are paused: Stripe does not answer")
