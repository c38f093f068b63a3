"""Prometheus metrics, read from the rows at each scrape: the same from whichever process answers.

Names follow prometheus.io/docs/practices/naming. Counts of rows are gauges: rows may be purged.
"""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta

from django.db.models import Count, Max, Model, Q, Sum
from django.db.models.functions import Now
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from monitoring.models import Heartbeat
from payments import attention, breaker, repeats
from payments.models import Breaker, Payment, Refund, StripeCalls, WebhookEvent
from reservations import sweeping
from reservations.models import Conflict, LimitHit, Order, Reservation, SweepRun
from ticketing.models import OutgoingEmail, Quota, Ticket

A_DAY = timedelta(hours=24)
AN_HOUR = timedelta(hours=1)
MOST_PRODUCTS = 20  # each is a time series of its own in Prometheus

_BY_STATUS: dict[str, type[Model]] = {
    "orders": Order,
    "payments": Payment,
    "refunds": Refund,
    "webhook_events": WebhookEvent,
    "emails": OutgoingEmail,
    "tickets": Ticket,
}


class RowsCollector(Collector):
    """The state of the office, one query per family."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for name, model in _BY_STATUS.items():
            family = GaugeMetricFamily(f"counterfoil_{name}", f"{name.replace('_', ' ')} by status", labels=["status"])
            for status, count in model._default_manager.order_by().values_list("status").annotate(Count("pk")):
                family.add_metric([status.lower()], count)
            yield family
        live = Reservation.objects.filter(status=Reservation.Status.ACTIVE, expires_at__gt=Now()).count()
        yield GaugeMetricFamily("counterfoil_holds_live", "active holds within their time", value=live)
        units = Quota.objects.aggregate(held=Sum("held", default=0), sold=Sum("sold", default=0))
        stock = GaugeMetricFamily("counterfoil_quota_units", "units over all quotas", labels=["state"])
        for state, count in units.items():
            stock.add_metric([state], count)
        yield stock
        beats = GaugeMetricFamily(
            "counterfoil_heartbeat_timestamp_seconds", "last sign of life, Unix time", labels=["part"]
        )
        for part, at in Heartbeat.objects.values_list("part", "at"):
            beats.add_metric([part], at.timestamp())
        yield beats
        yield from _sweeps()
        yield from _demand()
        yield from _stripe()
        yield from _repeats()


def _repeats() -> Iterator[GaugeMetricFamily]:
    family = GaugeMetricFamily("counterfoil_repeats", "what came again or was turned away in 24 hours", labels=["what"])
    for what, count in repeats.in_a_day().items():
        family.add_metric([what], count)
    yield family
    waiting = GaugeMetricFamily("counterfoil_waiting_for_staff", "what about the money needs a person", labels=["what"])
    for what, count in asdict(attention.waiting()).items():
        waiting.add_metric([what], count)
    yield waiting


def _sweeps() -> Iterator[GaugeMetricFamily]:
    success = GaugeMetricFamily(
        "counterfoil_sweep_last_success_timestamp_seconds", "last run without an error, Unix time", labels=["sweep"]
    )
    dealt_with = GaugeMetricFamily(
        "counterfoil_sweep_dealt_with", "rows dealt with by the runs of the last days", labels=["sweep"]
    )
    is_success = Q(finished_at__isnull=False, error="")
    runs = SweepRun.objects.order_by().values_list("name")
    for name, at, count in runs.annotate(at=Max("finished_at", filter=is_success), n=Sum("dealt_with")):
        dealt_with.add_metric([name.lower()], count)
        if at is not None:
            success.add_metric([name.lower()], at.timestamp())
    yield success
    yield dealt_with
    over = GaugeMetricFamily(
        "counterfoil_holds_over", "holds stored as active so many minutes after their end", labels=["minutes"]
    )
    for late in (timedelta(), sweeping.LATE_AFTER):
        over.add_metric([str(int(late.total_seconds() // 60))], sweeping.holds_over(for_at_least=late))
    yield over


def _demand() -> Iterator[GaugeMetricFamily]:
    conflicts = GaugeMetricFamily(
        "counterfoil_conflicts",
        "requests in 24 hours that found too little left, by product id, the most wanted",
        labels=["product"],
    )
    lately = Conflict.objects.filter(minute__gt=Now() - A_DAY).order_by()
    wanted = lately.values_list("product").annotate(n=Sum("requests")).order_by("-n", "product")
    others = lately.aggregate(n=Sum("requests", default=0))["n"]
    for product, count in wanted[:MOST_PRODUCTS]:
        conflicts.add_metric([str(product)], count)
        others -= count
    conflicts.add_metric(["other"], max(others, 0))
    yield conflicts
    hits = GaugeMetricFamily("counterfoil_limit_hits", "rate limit hits in 24 hours", labels=["limit"])
    by_limit = LimitHit.objects.filter(minute__gt=Now() - A_DAY).order_by().values_list("limit")
    for limit, count in by_limit.annotate(Sum("hits")):
        hits.add_metric([limit], count)
    yield hits


def _stripe() -> Iterator[GaugeMetricFamily]:
    labels = ["operation", "outcome"]
    calls = GaugeMetricFamily("counterfoil_stripe_calls", "tries to call Stripe in an hour", labels=labels)
    took = GaugeMetricFamily("counterfoil_stripe_calls_milliseconds", "what those tries took, added up", labels=labels)
    lately = StripeCalls.objects.filter(at__gt=Now() - AN_HOUR).order_by().values_list("operation", "outcome")
    for operation, outcome, count, milliseconds in lately.annotate(n=Sum("calls"), ms=Sum("milliseconds")):
        calls.add_metric([operation, outcome.lower()], count)
        took.add_metric([operation, outcome.lower()], milliseconds)
    yield calls
    yield took
    status = breaker.state().status
    states = GaugeMetricFamily(
        "counterfoil_stripe_breaker_state", "1 for the state it is in; open too while staff pause it", labels=["state"]
    )
    for state in Breaker.Status.values:
        states.add_metric([state.lower()], int(state == status))
    yield states


def exposition() -> bytes:
    """The text of `/metrics/`."""
    registry = CollectorRegistry()
    registry.register(RowsCollector())
    return generate_latest(registry)
