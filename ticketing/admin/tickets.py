"""Tickets and what numbers and signs them. All of it is written by `ticketing.issuing` alone."""

import re
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from ticketing.admin.bases import RecordAdmin
from ticketing.admin.columns import (
    BAD,
    GOOD,
    PLAIN,
    WAITING,
    breakable,
    clipped,
    event_column,
    link_out,
    list_url,
    moment_column,
    side_by_side,
    status_column,
    timeline,
    two_lines,
)
from ticketing.admin.decorators import display
from ticketing.admin.history import StatusChangeAdmin
from ticketing.models import EventKey, SerialCounter, StatusChange, Ticket

_NUMBER = re.compile(r"(?:(?P<event>\d{1,9})-)?(?P<serial>\d{1,9})")


def by_number(term: str) -> Q | None:
    """Tickets by what is printed on them: `7-000017`, or only the serial, `17`; None when it is no such number."""
    number = _NUMBER.fullmatch(term)
    if number is None:
        return None
    return Q(serial=int(number["serial"])) & (Q(event=int(number["event"])) if number["event"] else Q())


@admin.register(Ticket)
class TicketAdmin(RecordAdmin):
    list_display = ["number_shown", "status_label", "holder", "event_name", "product_name", "slot_when", "issued"]
    list_display_links = ["number_shown"]
    list_filter = ["status", ("event", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["event", "product", "slot__event"]
    search_fields = ["serial"]
    search_help_text = _("Serial (17 or 7-000017), holder's name or e-mail address")
    fieldsets = [
        (None, {"fields": [("number_shown", "status"), ("event", "product"), "slot_when", "pages"]}),
        (_("Holder"), {"fields": [("holder_name", "holder_email")]}),
        (_("Use"), {"fields": [("entries_used", "entries_total"), ("valid_from", "valid_until")]}),
        (_("History"), {"fields": ["issued_at", "issue_key", "history"]}),
    ]

    event_name = event_column
    issued = moment_column("issued_at", _("issued at"))
    status_label = status_column({"VALID": GOOD, "USED": PLAIN, "BLOCKED": WAITING, "VOID": BAD, "REFUNDED": BAD})

    def get_queryset(self, request: HttpRequest) -> QuerySet[Ticket]:
        return super().get_queryset(request).select_related("event", "product", "slot__event")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Ticket], search_term: str
    ) -> tuple[QuerySet[Ticket], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        return queryset.filter(by_number(term) or Q(holder_email__iexact=term) | Q(holder_name__icontains=term)), False

    @display(description=_("holder"), ordering="holder_name")
    def holder(self, ticket: Ticket) -> SafeString:
        return two_lines(ticket.holder_name, ticket.holder_email)

    @display(description=_("number"), ordering="serial")
    def number_shown(self, ticket: Ticket) -> SafeString:
        return clipped(ticket.number)

    @display(description=_("product"), ordering="product")
    def product_name(self, ticket: Ticket) -> SafeString:
        return clipped(ticket.product, 20)

    @display(description=_("slot"))
    def slot_when(self, ticket: Ticket) -> SafeString | str:
        return clipped(ticket.slot.when) if ticket.slot else ""

    @display(description=_("see also"))
    def pages(self, ticket: Ticket) -> SafeString:
        page = link_out(ticket.get_absolute_url(), _("the buyer's page"))
        return side_by_side(page, link_out(list_url("reservations_order", q=ticket.number), _("its order")))

    @display(description=_("status changes"))
    def history(self, ticket: Ticket) -> SafeString:
        return timeline(StatusChange.objects.filter(kind="ticket", object_id=str(ticket.pk)))


@admin.register(SerialCounter)
class SerialCounterAdmin(RecordAdmin):
    list_display = ["event", "last_serial"]
    list_select_related = ["event"]
    fields = ["event", "last_serial"]


@admin.register(EventKey)
class EventKeyAdmin(RecordAdmin):
    """The private half is never shown: whoever has it can forge tickets."""

    list_display = ["event", "public_half", "created_at"]
    list_select_related = ["event"]
    fields = ["event", "public_half", "created_at"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[EventKey]:
        return super().get_queryset(request).select_related("event").defer("private_key")

    @display(description=_("public key"))
    def public_half(self, key: Any) -> SafeString:
        return breakable(bytes(key.public_key).hex())


admin.site.register(StatusChange, StatusChangeAdmin)
