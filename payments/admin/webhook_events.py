"""The webhook inbox: what Stripe told us, what became of it, and trying once more."""

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from payments import inbox
from payments.models import StatusChange, WebhookEvent
from ticketing.admin.actions import carry_out, carry_out_one, dialog, staff_name
from ticketing.admin.bases import RecordAdmin
from ticketing.admin.columns import (
    BAD,
    GOOD,
    PLAIN,
    WAITING,
    clipped,
    link_out,
    list_url,
    moment_column,
    scrollable,
    status_column,
    timeline,
)
from ticketing.admin.decorators import action, display


@admin.register(WebhookEvent)
class WebhookEventAdmin(RecordAdmin):
    list_display = ["type", "status_label", "stripe_id", "object_id", "attempts", "received", "error"]
    list_filter = ["status", "is_livemode"]
    readonly_preprocess_fields = {"payload": scrollable}
    search_fields = ["stripe_id"]
    search_help_text = _("evt_…, the object's id (pi_…), or a type like payment_intent.succeeded")
    actions = ["requeue"]
    actions_detail = ["requeue_this"]
    offered_in_status = {"requeue_this": (WebhookEvent.Status.PARKED, WebhookEvent.Status.DEAD)}
    fieldsets = [
        (None, {"fields": [("type", "status"), ("stripe_id", "object_id"), ("api_version", "is_livemode"), "orders"]}),
        (_("Processing"), {"fields": [("received_at", "processed_at"), ("attempts", "next_attempt_at"), "last_error"]}),
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

    @display(description=_("last error"))
    def error(self, event: WebhookEvent) -> SafeString:
        return clipped(event.last_error)

    @display(description=_("see also"))
    def orders(self, event: WebhookEvent) -> SafeString:
        return link_out(list_url("reservations_order", q=event.stripe_id), _("its order"))

    @display(description=_("status changes"))
    def history(self, event: WebhookEvent) -> SafeString:
        return timeline(StatusChange.objects.filter(kind="webhookevent", object_id=str(event.pk)))

    @admin.action(description=_("Requeue"), permissions=["act"])
    def requeue(self, request: HttpRequest, queryset: QuerySet[WebhookEvent]) -> None:
        carry_out(self, request, queryset, lambda event: _requeue(event, request))

    @action(
        description=_("Requeue"),
        permissions=["act"],
        url_path="requeue",
        icon="replay",
        dialog=dialog(_("Requeue this event?"), _("It is tried once more, at once."), _("Requeue")),
    )
    def requeue_this(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        return carry_out_one(self, request, object_id, lambda event: _requeue(event, request))


def _requeue(event: WebhookEvent, request: HttpRequest) -> str:
    inbox.requeue(event, by=staff_name(request))
    return _now("requeued")
