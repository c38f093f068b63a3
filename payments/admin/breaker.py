"""The circuit breaker: how calls to Stripe go, why they are paused, and what staff may do about it.

Its list is a page of its own: there is one breaker, with a row for itself and one for the pause that staff make.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from config.database import database_now
from payments import breaker
from payments.models import Breaker, StatusChange, StripeCalls
from reservations.admin.charts import Series, chart
from ticketing.admin.actions import staff_name
from ticketing.admin.bases import RecordAdmin
from ticketing.admin.columns import BAD, GOOD, PLAIN, WAITING, list_url, moment, moment_column, timeline
from ticketing.admin.decorators import display

STEP, STEPS = timedelta(minutes=3), 20
CHANGES_SHOWN = 20
LONGEST_REASON = 250
OUTCOMES = tuple(
    Series(outcome.value.lower(), title)
    for outcome, title in (
        (StripeCalls.Outcome.OK, gettext_lazy("answered")),
        (StripeCalls.Outcome.REFUSED, gettext_lazy("refused")),
        (StripeCalls.Outcome.LIMITED, gettext_lazy("too many requests")),
        (StripeCalls.Outcome.UNAVAILABLE, gettext_lazy("no answer")),
        (StripeCalls.Outcome.MISCONFIGURED, gettext_lazy("key refused")),
    )
)
FAILURES = {StripeCalls.Outcome.UNAVAILABLE, StripeCalls.Outcome.MISCONFIGURED}
HEADINGS = {
    Breaker.Status.CLOSED: gettext_lazy("Calls go through"),
    Breaker.Status.OPEN: gettext_lazy("Payments are paused"),
    Breaker.Status.HALF_OPEN: gettext_lazy("One call tries whether Stripe is back"),
}


@dataclass(slots=True)
class Bucket:
    """One step of the chart, with a number for each outcome."""

    starts_at: datetime
    ok: int = 0
    refused: int = 0
    limited: int = 0
    unavailable: int = 0
    misconfigured: int = 0


@dataclass(slots=True)
class Operation:
    """One kind of call in the last hour."""

    name: str
    calls: int = 0
    failures: int = 0
    milliseconds: int = 0

    @property
    def average(self) -> str:
        return f"{self.milliseconds / self.calls:.0f} ms"


@admin.register(Breaker)
class BreakerAdmin(RecordAdmin):
    fields = ["name", "status", "why", "changed_at", "probe_until", "history"]

    def get_urls(self) -> list[URLPattern]:
        return [
            path("pause/", self.admin_site.admin_view(self.pause_view), name="payments_breaker_pause"),
            path("close/", self.admin_site.admin_view(self.close_view), name="payments_breaker_close"),
            *super().get_urls(),
        ]

    @display(description=gettext_lazy("status changes"))
    def history(self, row: Breaker) -> SafeString:
        return timeline(_changes().filter(object_id=row.pk))

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        found = breaker.state()
        context = {
            **self.admin_site.each_context(request),
            "title": _("Circuit breaker"),
            "opts": self.opts,
            "state": found,
            "heading": HEADINGS[Breaker.Status.CLOSED if found.is_closed else Breaker.Status(found.status)],
            "words": _in_words(found),
            "since": moment(found.since),
            "changes": timeline(_changes().order_by("-id")[:CHANGES_SHOWN]),
            "calls_url": list_url("payments_stripecalls"),
            "may_act": self.has_act_permission(request),
            **_calls(database_now()),
        }
        return TemplateResponse(request, "admin/breaker.html", context)

    def pause_view(self, request: HttpRequest) -> HttpResponse:
        """Asks for the reason, which staff read on the index and buyers do not."""
        self._require_act(request)
        why = request.POST.get("why", "").strip()
        if request.method == "POST" and 0 < len(why) <= LONGEST_REASON:
            return self._answer(
                request,
                is_done=breaker.open(by=staff_name(request), why=why),
                done=_("Payments are paused until somebody lets calls through again."),
                idle=_("Payments were paused already."),
            )
        return self._ask(request, "pause", error=_("Say why, in at most 250 characters.") if request.POST else "")

    def close_view(self, request: HttpRequest) -> HttpResponse:
        self._require_act(request)
        if request.method == "POST":
            return self._answer(
                request,
                is_done=breaker.close(by=staff_name(request)),
                done=_("Calls to Stripe go through again."),
                idle=_("It was closed already."),
            )
        return self._ask(request, "close")

    def _require_act(self, request: HttpRequest) -> None:
        if not self.has_act_permission(request):
            raise PermissionDenied

    def _ask(self, request: HttpRequest, deed: str, *, error: str = "") -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": _("Are you sure?"),
            "opts": self.opts,
            "deed": deed,
            "error": error,
            "why": request.POST.get("why", ""),
            "longest": LONGEST_REASON,
            "back": _page(),
            "is_in_use": breaker.state().is_in_use,
        }
        return TemplateResponse(request, "admin/breaker_ask.html", context, status=422 if error else 200)

    def _answer(self, request: HttpRequest, *, is_done: bool, done: str, idle: str) -> HttpResponse:
        messages.add_message(request, messages.SUCCESS if is_done else messages.WARNING, done if is_done else idle)
        return HttpResponseRedirect(_page())


def _page() -> str:
    return reverse("admin:payments_breaker_changelist")


def _changes() -> QuerySet[StatusChange]:
    return StatusChange.objects.filter(kind="breaker")


def _in_words(found: breaker.State) -> str:
    if not found.is_in_use:
        return _("The flag stripe-breaker is off: every call goes through, whatever stands here.")
    if found.is_paused_by_staff:
        return _("By staff: “%(why)s”. It stays so until staff let calls through.") % {"why": found.why}
    if found.is_closed:
        return _("Stripe is called whenever there is a reason to.")
    why = _("Stripe refuses our key: see STRIPE_SECRET_KEY") if found.why == breaker.CONFIG else found.why
    return _("%(why)s. Next look in %(seconds)s s.") % {
        "why": why[:1].upper() + why[1:],
        "seconds": max(0, found.seconds_to_probe or 0),
    }


def _calls(now: datetime) -> dict[str, Any]:
    """The last hour: over time by outcome, and by operation."""
    step = STEP.total_seconds()
    newest = datetime.fromtimestamp(now.timestamp() // step * step, tz=UTC)
    start = newest - (STEPS - 1) * STEP
    buckets = [Bucket(start + number * STEP) for number in range(STEPS)]
    operations: dict[str, Operation] = {}
    for row in StripeCalls.objects.filter(at__gte=start).order_by():
        number = int((row.at - start) / STEP)
        if number >= STEPS:  # begun this very moment
            continue
        name = row.outcome.lower()
        setattr(buckets[number], name, getattr(buckets[number], name) + row.calls)
        operation = operations.setdefault(row.operation, Operation(row.operation))
        operation.calls += row.calls
        operation.milliseconds += row.milliseconds
        operation.failures += row.calls if row.outcome in FAILURES else 0
    drawn = chart(buckets, OUTCOMES, step=STEP, zone=ZoneInfo("UTC"))
    return {"chart": drawn, "operations": sorted(operations.values(), key=lambda one: (-one.calls, one.name))}


@admin.register(StripeCalls)
class StripeCallsAdmin(RecordAdmin):
    """Statistics, in steps of ten seconds."""

    list_display = ["in_step", "operation", "outcome_label", "calls", "average"]
    list_display_links = ["in_step"]
    list_filter = ["outcome"]
    search_fields = ["operation"]
    fields = ["at", "operation", "outcome", "calls", "milliseconds", "average"]

    in_step = moment_column("at", gettext_lazy("ten seconds from"))

    @display(
        description=gettext_lazy("outcome"),
        ordering="outcome",
        label={"OK": GOOD, "REFUSED": PLAIN, "LIMITED": WAITING, "UNAVAILABLE": BAD, "MISCONFIGURED": BAD},
    )
    def outcome_label(self, row: StripeCalls) -> tuple[str, str]:
        return row.outcome, row.get_outcome_display()

    @display(description=gettext_lazy("average"))
    def average(self, row: StripeCalls) -> str:
        return f"{row.milliseconds / row.calls:.0f} ms"
