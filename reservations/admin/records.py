"""What reservations and orders are made of: lines, claims, keys, signatures and status changes. Look, don't touch."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from reservations.models import Claim, OrderLine, ReservationKey, ReservationLine, StatusChange, UsedSignature
from ticketing.admin.bases import RecordAdmin
from ticketing.admin.columns import breakable, link_to, moment_column
from ticketing.admin.decorators import display
from ticketing.admin.history import StatusChangeAdmin


@admin.register(ReservationLine)
class ReservationLineAdmin(RecordAdmin):
    list_display = ["id", "reservation", "product", "slot_when", "quantity", "total_in_words"]
    list_select_related = ["reservation", "product", "slot__event"]
    fields = ["reservation", "product", "slot", "quantity", "unit_price_minor", "discount_minor"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[ReservationLine]:
        return super().get_queryset(request).select_related("reservation", "product", "slot__event")

    @display(description=_("slot"))
    def slot_when(self, line: ReservationLine) -> str:
        return line.slot_when

    @display(description=_("total"))
    def total_in_words(self, line: ReservationLine) -> str:
        return str(line.total)


@admin.register(Claim)
class ClaimAdmin(RecordAdmin):
    list_display = ["id", "quota", "quantity", "reservation_link"]
    list_select_related = ["quota__slot__event", "line"]
    fields = ["quota", "quantity", "reservation_link"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Claim]:
        return super().get_queryset(request).select_related("quota__slot__event", "line")

    @display(description=_("reservation"))
    def reservation_link(self, claim: Claim) -> SafeString:
        reservation_id = claim.line.reservation_id
        return link_to("reservations_reservation_change", reservation_id, reservation_id)


@admin.register(ReservationKey)
class ReservationKeyAdmin(RecordAdmin):
    list_display = ["key", "reservation", "created_at"]
    list_select_related = ["reservation"]
    search_fields = ["key"]
    fields = ["key", "hash_in_full", "reservation", "created_at"]

    @display(description=_("request hash"))
    def hash_in_full(self, key: ReservationKey) -> SafeString:
        return breakable(key.request_hash)


@admin.register(UsedSignature)
class UsedSignatureAdmin(RecordAdmin):
    """Of the maintenance endpoint; a list to look at when a scheduler's calls are refused as replays."""

    list_display = ["__str__", "used"]
    fields = ["used_at"]

    used = moment_column("used_at", _("used at"))


@admin.register(OrderLine)
class OrderLineAdmin(RecordAdmin):
    list_display = ["id", "order", "position", "product", "price_in_words", "is_sold", "ticket"]
    list_select_related = ["order", "product", "ticket"]
    search_fields = ["order__code"]
    fields = ["order", "position", "product", "slot", "price_minor", "discount_minor", "is_sold", "ticket"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[OrderLine]:
        return super().get_queryset(request).select_related("order", "product", "slot__event", "ticket")

    @display(description=_("price"))
    def price_in_words(self, line: OrderLine) -> str:
        return str(line.price)


admin.site.register(StatusChange, StatusChangeAdmin)
