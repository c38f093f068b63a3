"""Outgoing e-mails: look, and send again."""

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from ticketing import emails
from ticketing.admin.actions import carry_out, carry_out_one, dialog, staff_name
from ticketing.admin.bases import RecordAdmin
from ticketing.admin.columns import (
    BAD,
    GOOD,
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
from ticketing.models import OutgoingEmail, StatusChange


@admin.register(OutgoingEmail)
class OutgoingEmailAdmin(RecordAdmin):
    list_display = ["to", "kind", "status_label", "order_link", "attempts", "created", "sent", "error"]
    list_filter = ["status", "kind"]
    readonly_preprocess_fields = {"context": scrollable}
    search_fields = ["reference"]
    search_help_text = _("Order code or e-mail address")
    actions = ["send_again"]
    actions_detail = ["send_this_again"]
    fieldsets = [
        (None, {"fields": [("to", "kind"), ("status", "order_link")]}),
        (
            _("Sending"),
            {"fields": [("created_at", "sent_at"), ("attempts", "next_attempt_at"), "provider_id", "last_error"]},
        ),
        (_("What it says"), {"fields": ["context"]}),
        (_("History"), {"fields": ["dedupe_key", "history"]}),
    ]

    created = moment_column("created_at", _("created at"))
    sent = moment_column("sent_at", _("sent at"))
    status_label = status_column({"SENT": GOOD, "PENDING": WAITING, "DEAD": BAD})

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[OutgoingEmail], search_term: str
    ) -> tuple[QuerySet[OutgoingEmail], bool]:
        term = search_term.strip()
        return (queryset.filter(Q(reference=term.upper()) | Q(to__iexact=term)) if term else queryset), False

    @display(description=_("order"), ordering="reference")
    def order_link(self, email: OutgoingEmail) -> SafeString:
        return link_out(list_url("reservations_order", q=email.reference), email.reference)

    @display(description=_("last error"))
    def error(self, email: OutgoingEmail) -> SafeString:
        return clipped(email.last_error)

    @display(description=_("status changes"))
    def history(self, email: OutgoingEmail) -> SafeString:
        return timeline(StatusChange.objects.filter(kind="outgoingemail", object_id=str(email.pk)))

    @admin.action(description=_("Send again"), permissions=["act"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[OutgoingEmail]) -> None:
        carry_out(self, request, queryset, lambda email: _send_again(email, request))

    @action(
        description=_("Send again"),
        permissions=["act"],
        url_path="send-again",
        icon="send",
        dialog=dialog(
            _("Send again?"), _("The same letter, to the same address, as soon as a worker takes it."), _("Send")
        ),
    )
    def send_this_again(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        return carry_out_one(self, request, object_id, lambda email: _send_again(email, request))


def _send_again(email: OutgoingEmail, request: HttpRequest) -> str:
    emails.send_again(email, by=staff_name(request))
    return _now("queued to be sent again")
