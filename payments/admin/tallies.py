"""What came more than once, and what was turned away at the door (P16): the last hour, the last day, every minute."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _

from config.database import database_now
from payments import repeats
from reservations.admin.charts import Chart, Series, chart
from reservations.models import Tally
from ticketing.admin.bases import RecordAdmin
from ticketing.admin.columns import moment_column
from ticketing.admin.decorators import display

STEP, STEPS = timedelta(minutes=3), 20
SERIES = tuple(Series(name, title) for name, title in repeats.TALLIES.items())


@dataclass(slots=True)
class Bucket:
    """One step of the chart, with a number for each name in `repeats.TALLIES`."""

    starts_at: datetime
    hold_replayed: int = 0
    hold_key_reused: int = 0
    webhook_refused_signature: int = 0
    webhook_refused_timestamp: int = 0
    webhook_refused_unreadable: int = 0


class NameFilter(admin.SimpleListFilter):
    title = _("what")
    parameter_name = "name"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(repeats.TALLIES.items())

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(name=self.value()) if self.value() else queryset


@admin.register(Tally)
class TallyAdmin(RecordAdmin):
    list_display = ["in_minute", "what", "count"]
    list_display_links = ["in_minute"]
    list_filter = [NameFilter]
    list_before_template = "admin/tallies_before.html"
    date_hierarchy = "minute"
    fields = ["minute", "what", "name", "count"]

    in_minute = moment_column("minute", _("minute"))

    class Media:
        css = {"all": ["counterfoil/reservation-dashboard.css"]}

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        context = {
            **(extra_context or {}),
            "title": _("Repeats and refusals"),
            "totals": _totals(),
            "chart": last_hour(database_now()),
        }
        return super().changelist_view(request, context)

    @display(description=_("what"), ordering="name")
    def what(self, tally: Tally) -> str:
        return str(repeats.TALLIES.get(tally.name, tally.name))


def _totals() -> list[tuple[str, int]]:
    names = {**repeats.ON_ROWS, **repeats.TALLIES}
    return [(str(names.get(name, name)), count) for name, count in repeats.in_a_day().items()]


def last_hour(now: datetime) -> Chart:
    step = STEP.total_seconds()
    newest = datetime.fromtimestamp(now.timestamp() // step * step, tz=UTC)
    start = newest - (STEPS - 1) * STEP
    buckets = [Bucket(start + number * STEP) for number in range(STEPS)]
    for tally in Tally.objects.filter(minute__gte=start, name__in=repeats.TALLIES).order_by():
        number = int((tally.minute - start) / STEP)
        if number < STEPS:
            setattr(buckets[number], tally.name, getattr(buckets[number], tally.name) + tally.count)
    return chart(buckets, SERIES, step=STEP, zone=ZoneInfo("UTC"))
