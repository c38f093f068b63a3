"""Runs of the periodic clean-ups: when, by whom, how many rows, and what went wrong."""

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest
from django.utils.timezone import now
from django.utils.translation import gettext_lazy as _

from reservations.models import SweepRun
from ticketing.admin.bases import RecordAdmin
from ticketing.admin.columns import BAD, GOOD, WAITING, moment_column
from ticketing.admin.decorators import display

# A run works for a minute or two at most; one that has said nothing for longer died with its process.
DIED_AFTER = timedelta(minutes=10)

OUTCOMES = {"done": _("done"), "running": _("running"), "died": _("died"), "failed": _("failed")}


class OutcomeFilter(admin.SimpleListFilter):
    title = _("outcome")
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(OUTCOMES.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[SweepRun]) -> QuerySet[SweepRun]:
        is_open = Q(finished_at__isnull=True, error="")
        is_old = Q(started_at__lt=Now() - DIED_AFTER)
        chosen = {
            "done": Q(finished_at__isnull=False, error=""),
            "running": is_open & ~is_old,
            "died": is_open & is_old,
            "failed": ~Q(error=""),
        }.get(self.value() or "")
        return queryset.filter(chosen) if chosen else queryset


@admin.register(SweepRun)
class SweepRunAdmin(RecordAdmin):
    list_display = ["started", "name", "outcome", "dealt_with", "took", "by"]
    list_display_links = ["started"]
    list_filter = ["name", OutcomeFilter]
    fields = ["name", "by", "started_at", "finished_at", "outcome_in_words", "took", "dealt_with", "error"]

    started = moment_column("started_at", _("started at"))

    @display(description=_("outcome"), label={"done": GOOD, "running": WAITING, "died": BAD, "failed": BAD})
    def outcome(self, run: SweepRun) -> tuple[str, Any]:
        return outcome_of(run), OUTCOMES[outcome_of(run)]

    @display(description=_("outcome"))
    def outcome_in_words(self, run: SweepRun) -> Any:
        return OUTCOMES[outcome_of(run)]

    @display(description=_("took"))
    def took(self, run: SweepRun) -> str:
        return f"{(run.finished_at - run.started_at).total_seconds():.1f} s" if run.finished_at else "–"


def outcome_of(run: SweepRun) -> str:
    if run.error:
        return "failed"
    if run.finished_at is not None:
        return "done"
    return "died" if now() - run.started_at > DIED_AFTER else "running"
