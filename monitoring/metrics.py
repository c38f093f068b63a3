"""Prometheus metrics, read from the rows at each scrape: the same from whichever process answers.

Names follow prometheus.io/docs/practices/naming. Counts of rows are gauges: rows may be purged.
"""

from collections.abc import Iterator

from django.db.models import Count, Model, Sum
from django.db.models.functions import Now
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from monitoring.models import Heartbeat
from payments.models import Payment, WebhookEvent
from reservations.models import Order, Reservation
from ticketing.models import OutgoingEmail, Quota, Ticket

_BY_STATUS: dict[str, type[Model]] = {
    "orders": Order,
    "payments": Payment,
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


def exposition() -> bytes:
    """The text of `/metrics/`."""
    registry = CollectorRegistry()
    registry.register(RowsCollector())
    return generate_latest(registry)
