"""Unmet demand, and who runs into the rate limits: counted per minute, shown as they are."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from reservations.models import Conflict, LimitHit
from ticketing.admin.bases import RecordAdmin
from ticketing.admin.columns import breakable, clipped, moment_column
from ticketing.admin.decorators import display


@admin.register(Conflict)
class ConflictAdmin(RecordAdmin):
    list_display = ["in_minute", "event_name", "product_name", "slot_when", "requests", "units"]
    list_display_links = ["in_minute"]
    list_filter = [("product__event", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["product__event", "slot__event"]
    date_hierarchy = "minute"
    search_fields = ["product__name"]
    search_help_text = _("Product's name")
    fields = ["minute", "event_name", "product", "slot_when", "requests", "units"]

    in_minute = moment_column("minute", _("minute"))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Conflict]:
        return super().get_queryset(request).select_related("product__event", "slot__event")

    @display(description=_("event"), ordering="product__event")
    def event_name(self, conflict: Conflict) -> SafeString:
        return clipped(conflict.product.event, 24)

    @display(description=_("product"), ordering="product")
    def product_name(self, conflict: Conflict) -> SafeString:
        return clipped(conflict.product, 24)

    @display(description=_("slot"))
    def slot_when(self, conflict: Conflict) -> SafeString | str:
        return clipped(conflict.slot.when) if conflict.slot else ""


class LimitFilter(admin.SimpleListFilter):
    """By the limits that were ever hit; few, although the rows may be many."""

    title = _("limit")
    parameter_name = "limit"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        names = LimitHit.objects.order_by("limit").values_list("limit", flat=True).distinct()
        return [(name, name) for name in names]

    def queryset(self, request: HttpRequest, queryset: QuerySet[LimitHit]) -> QuerySet[LimitHit]:
        return queryset.filter(limit=self.value()) if self.value() else queryset


@admin.register(LimitHit)
class LimitHitAdmin(RecordAdmin):
    list_display = ["in_minute", "limit", "whom", "hits"]
    list_display_links = ["in_minute"]
    list_filter = [LimitFilter]
    date_hierarchy = "minute"
    search_fields = ["=who"]
    search_help_text = _("An address, or the digest of a browser or e-mail address")
    fields = ["minute", "limit", "whom", "hits"]

    in_minute = moment_column("minute", _("minute"))

    @display(description=_("who"), ordering="who")
    def whom(self, hit: LimitHit) -> SafeString:
        return breakable(hit.who)
