"""The webhook inbox: what Stripe told us, what became of it, trying once more, and fetching what never came."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminSelectWidget

from config.database import database_now
from payments import backfill, inbox, stripe_gateway, webhooks
from payments.admin import links
from payments.models import StatusChange, WebhookEvent
from ticketing.admin.actions import Refused, carry_out, carry_out_one, dialog, staff_name
from ticketing.admin.bases import RecordAdmin
from ticketing.admin.columns import (
    BAD,
    GOOD,
    PLAIN,
    WAITING,
    clipped,
    list_url,
    moment_column,
    scrollable,
    status_column,
    timeline,
)
from ticketing.admin.decorators import action, display

MOST_REQUEUED = 500
OTHERS = "others"
WITHIN = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}
SINCE = {"1": timedelta(hours=1), "24": timedelta(days=1), "72": timedelta(days=3)}


class TypeFilter(admin.SimpleListFilter):
    """The types we act on; what else Stripe may send is one choice, so that no list of all rows is made for it."""

    title = _("type")
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [*((name, name) for name in sorted(webhooks.HANDLERS)), (OTHERS, _("others, which we ignore"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[WebhookEvent]) -> QuerySet[WebhookEvent]:
        if self.value() == OTHERS:
            return queryset.exclude(type__in=webhooks.HANDLERS)
        return queryset.filter(type=self.value()) if self.value() else queryset


class TroubleFilter(admin.SimpleListFilter):
    title = _("not smooth")
    parameter_name = "trouble"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("tries", _("needed more than one try")), ("again", _("came more than once"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[WebhookEvent]) -> QuerySet[WebhookEvent]:
        chosen = {"tries": Q(attempts__gt=1), "again": Q(duplicates__gt=0)}.get(self.value() or "")
        return queryset.filter(chosen) if chosen else queryset


class ReceivedFilter(admin.SimpleListFilter):
    title = _("received in the last")
    parameter_name = "within"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("hour", _("hour")), ("day", _("day")), ("week", _("week"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[WebhookEvent]) -> QuerySet[WebhookEvent]:
        within = WITHIN.get(self.value() or "")
        return queryset.filter(received_at__gt=Now() - within) if within else queryset


class FetchForm(BaseDialogForm):
    since = forms.ChoiceField(
        label=_("From when on"),
        choices=[
            ("", _("where the last look ended")),
            ("1", _("the last hour")),
            ("24", _("the last day")),
            ("72", _("the last three days")),
        ],
        required=False,
        widget=UnfoldAdminSelectWidget,
        help_text=_("Stripe's list is read page by page; three busy days may take a minute."),
    )


@admin.register(WebhookEvent)
class WebhookEventAdmin(RecordAdmin):
    list_display = [
        "type",
        "status_label",
        "attempts",
        "lag",
        "took",
        "source",
        "duplicates",
        "received",
        "object_id",
        "error",
    ]
    list_filter = ["status", TypeFilter, TroubleFilter, ReceivedFilter, "source", "is_livemode"]
    readonly_preprocess_fields = {"payload": scrollable}
    search_fields = ["stripe_id"]
    search_help_text = _("evt_…, the object's id (pi_…), or a type like payment_intent.succeeded")
    actions = ["requeue"]
    actions_list = ["fetch_missed"]
    actions_detail = ["process_now", "requeue_this"]
    offered_in_status = {
        "process_now": (WebhookEvent.Status.RECEIVED,),
        "requeue_this": (WebhookEvent.Status.PARKED, WebhookEvent.Status.DEAD),
    }
    fieldsets = [
        (
            None,
            {
                "fields": [
                    ("type", "status"),
                    ("stripe_id", "object_id"),
                    ("api_version", "is_livemode"),
                    ("source", "duplicates"),
                    "subject",
                ]
            },
        ),
        (
            _("Processing"),
            {
                "fields": [
                    ("received_at", "processed_at"),
                    ("lag", "took"),
                    ("attempts", "next_attempt_at"),
                    "error_in_full",
                ]
            },
        ),
        (_("What Stripe sent"), {"fields": ["payload"]}),
        (_("History"), {"fields": ["history"]}),
    ]

    received = moment_column("received_at", _("received at"))
    status_label = status_column({"PROCESSED": GOOD, "RECEIVED": WAITING, "IGNORED": PLAIN, "PARKED": BAD, "DEAD": BAD})

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookEvent]:
        found = super().get_queryset(request)
        match = request.resolver_match
        is_list = match is not None and str(match.url_name).endswith("_changelist")
        return found.defer("payload") if is_list else found  # the largest column, which no list shows

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[WebhookEvent], search_term: str
    ) -> tuple[QuerySet[WebhookEvent], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        if "." in term:
            return queryset.filter(type__startswith=term), False
        return queryset.filter(Q(stripe_id=term) | Q(object_id=term)), False

    @display(description=_("until done"))
    def lag(self, event: WebhookEvent) -> str:
        if event.processed_at is None:
            return "–"
        return _in_words((event.processed_at - event.received_at).total_seconds())

    @display(description=_("last try took"), ordering="processing_ms")
    def took(self, event: WebhookEvent) -> str:
        return f"{event.processing_ms} ms" if event.processing_ms is not None else "–"

    @display(description=_("last error"))
    def error(self, event: WebhookEvent) -> SafeString:
        """Of a stack trace its last line, which says what went wrong."""
        return clipped(_last_line(event.last_error))

    @display(description=_("last error"))
    def error_in_full(self, event: WebhookEvent) -> SafeString | str:
        if not event.last_error:
            return "–"
        text = format_html('<pre style="font-family: monospace; font-size: 0.8125rem">{}</pre>', event.last_error)
        return scrollable(text)

    @display(description=_("about"))
    def subject(self, event: WebhookEvent) -> SafeString | str:
        return links.subject_of(event)

    @display(description=_("status changes"))
    def history(self, event: WebhookEvent) -> SafeString:
        return timeline(StatusChange.objects.filter(kind="webhookevent", object_id=str(event.pk)))

    @admin.action(description=_("Requeue"), permissions=["act"])
    def requeue(self, request: HttpRequest, queryset: QuerySet[WebhookEvent]) -> None:
        text = _now("Requeue at most %(n)s at a time, so that the workers keep up with them.")
        carry_out(
            self,
            request,
            queryset,
            lambda event: _requeue(event, request),
            at_most=MOST_REQUEUED,
            too_many=text,
        )

    @action(
        description=_("Requeue"),
        permissions=["act"],
        url_path="requeue",
        icon="replay",
        dialog=dialog(_("Requeue this event?"), _("It is tried once more, at once."), _("Requeue")),
    )
    def requeue_this(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        return carry_out_one(self, request, object_id, lambda event: _requeue(event, request))

    @action(
        description=_("Process now"),
        permissions=["act"],
        url_path="process-now",
        icon="play_arrow",
        dialog=dialog(
            _("Process this event now?"), _("Here, without waiting for a worker; Stripe is asked."), _("Process")
        ),
    )
    def process_now(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        return carry_out_one(self, request, object_id, _process)

    @action(
        description=_("Fetch missed events from Stripe"),
        permissions=["act"],
        url_path="fetch-missed",
        icon="cloud_download",
        dialog=dialog(
            _("Fetch missed events from Stripe?"),
            _(
                "Events that Stripe made and that are not here are stored and processed like any other. "
                "Those that are here stay as they are."
            ),
            _("Fetch"),
            form=FetchForm,
        ),
    )
    def fetch_missed(self, request: HttpRequest, form: Any) -> HttpResponse:
        back = SINCE.get(form.cleaned_data["since"])
        try:
            stored = _fetch(back)
        except stripe_gateway.NO_WORD as error:
            messages.error(
                request,
                _now("Stripe could not be asked (%(error)s). Nothing is lost; try again later.") % {"error": error},
            )
        else:
            text = (
                _now("%(n)s missed events stored; they are being processed.") if stored else _now("None was missing.")
            )
            messages.success(request, text % {"n": stored} if stored else text)
        return HttpResponse(headers={"HX-Redirect": list_url("payments_webhookevent")})


def _fetch(back: timedelta | None) -> int:
    """`back` None: as the schedule would do it; else all events since then, also those that Stripe believes it delivered."""
    if back is None:
        return backfill.fetch_missed()
    return backfill.fetch_missed(since=database_now() - back, everything=True)


def _requeue(event: WebhookEvent, request: HttpRequest) -> str:
    inbox.requeue(event, by=staff_name(request))
    return _now("requeued")


def _process(event: WebhookEvent) -> str:
    if event.status != WebhookEvent.Status.RECEIVED:
        raise Refused(_now("It is %(status)s already.") % {"status": event.get_status_display()})
    webhooks.process(event.pk)
    event.refresh_from_db()
    if event.status in {WebhookEvent.Status.PROCESSED, WebhookEvent.Status.IGNORED}:
        return _now("is %(status)s") % {"status": event.get_status_display()}
    words = {"status": event.get_status_display(), "error": _last_line(event.last_error)}
    raise Refused(_now("It is %(status)s: %(error)s") % words)


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


def _in_words(seconds: float) -> str:
    if seconds < 120:
        return f"{max(seconds, 0):.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
