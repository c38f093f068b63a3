"""Reservations: look, extend and release, one by one or from the dashboard."""

import uuid
from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery, Sum
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _
from unfold.enums import ActionVariant

from reservations.admin import dashboard, deeds
from reservations.models import Reservation, ReservationLine, StatusChange
from ticketing.admin.actions import ask_first, carry_out, carry_out_one, dialog
from ticketing.admin.bases import RecordAdmin, RecordInline
from ticketing.admin.columns import (
    BAD,
    GOOD,
    PLAIN,
    WAITING,
    clipped,
    event_column,
    link_out,
    link_to,
    moment_column,
    status_column,
    timeline,
)
from ticketing.admin.decorators import action, display


def uuid_in(term: str) -> uuid.UUID | None:
    """The reservation id that somebody pasted; None when it is something else."""
    try:
        return uuid.UUID(term)
    except ValueError:
        return None


class LineInline(RecordInline):
    model = ReservationLine
    fields = ["product", "slot_when", "quantity", "unit_price", "discount_minor", "total", "claimed"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[ReservationLine]:
        found = super().get_queryset(request).select_related("product", "slot__event", "reservation")
        return found.prefetch_related("claims__quota")

    @display(description=_("unit price"))
    def unit_price(self, line: ReservationLine) -> str:
        return str(line.unit_price)

    @display(description=_("total"))
    def total(self, line: ReservationLine) -> str:
        return str(line.total)

    @display(description=_("slot"))
    def slot_when(self, line: ReservationLine) -> str:
        return line.slot_when

    @display(description=_("taken from"))
    def claimed(self, line: ReservationLine) -> str:
        return ", ".join(f"{claim.quantity} × {claim.quota.name}" for claim in line.claims.all())


@admin.register(Reservation)
class ReservationAdmin(RecordAdmin):
    list_display = ["short_id", "status_label", "event_name", "units", "created", "expires", "order_link"]
    list_filter = ["status", "event"]
    list_select_related = ["event", "order", "promo_code"]
    search_fields = ["id"]
    search_help_text = _("Reservation id, order code or e-mail address")
    actions = ["release"]
    actions_detail = ["release_this"]
    offered_in_status = {"release_this": (Reservation.Status.ACTIVE,)}
    inlines = [LineInline]
    fieldsets = [
        (None, {"fields": [("id", "status"), ("event", "order_link"), "promo_code", "basket"]}),
        (_("Times"), {"fields": [("created_at", "expires_at"), ("extended_at", "ended_at")]}),
        (_("History"), {"fields": ["history"]}),
    ]

    event_name = event_column
    created = moment_column("created_at", _("created at"))
    expires = moment_column("expires_at", _("expires at"))
    status_label = status_column(
        {"ACTIVE": WAITING, "ORDERED": PLAIN, "CONFIRMED": GOOD, "RELEASED": "", "EXPIRED": BAD}
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Reservation]:
        found = super().get_queryset(request).select_related("event", "order", "promo_code")
        # Row by row for the page that is shown: a join with GROUP BY would add up the whole table first.
        lines = ReservationLine.objects.filter(reservation=OuterRef("pk")).order_by().values("reservation")
        return found.annotate(quantity_in_all=Subquery(lines.values(total=Sum("quantity"))))

    def get_urls(self) -> list[URLPattern]:
        """The dashboard's own pages come first: what follows takes every path for a reservation's id."""
        return [*dashboard.urls(self), *super().get_urls()]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Reservation], search_term: str
    ) -> tuple[QuerySet[Reservation], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        if reservation_id := uuid_in(term):
            return queryset.filter(pk=reservation_id), False
        of_buyer = {"order__email__iexact": term} if "@" in term else {"order__code": term.upper()}
        return queryset.filter(**of_buyer), False

    @display(description=_("reservation"), ordering="id")
    def short_id(self, reservation: Reservation) -> SafeString:
        return clipped(reservation.pk, 9)

    @display(description=_("units"))
    def units(self, reservation: Any) -> int:
        return reservation.quantity_in_all or 0

    @display(description=_("order"))
    def order_link(self, reservation: Reservation) -> SafeString | str:
        order = getattr(reservation, "order", None)
        return link_to("reservations_order_change", order.pk, order.code) if order else ""

    @display(description=_("see also"))
    def basket(self, reservation: Reservation) -> SafeString:
        return link_out(reservation.get_absolute_url(), _("the buyer's page"))

    @display(description=_("status changes"))
    def history(self, reservation: Reservation) -> SafeString:
        return timeline(StatusChange.objects.filter(kind="reservation", object_id=str(reservation.pk)))

    @admin.action(description=_("Release"), permissions=["act"])
    def release(self, request: HttpRequest, queryset: QuerySet[Reservation]) -> HttpResponse | None:
        question = _now("Release these? Their buyers lose what they hold, and it can be bought by others at once.")
        page = ask_first(self, request, queryset, action="release", question=question, button=_now("Yes, release"))
        if page is None:
            carry_out(self, request, queryset, lambda reservation: deeds.release(reservation, request))
        return page

    @action(
        description=_("Release"),
        permissions=["act"],
        url_path="release",
        icon="lock_open",
        variant=ActionVariant.DANGER,
        dialog=dialog(
            _("Release this reservation?"),
            _("Its buyer loses what is held, and others can buy it at once."),
            _("Release"),
        ),
    )
    def release_this(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        return carry_out_one(self, request, object_id, lambda reservation: deeds.release(reservation, request))
