"""The catalogue: organisers, events with their slots, quotas and products."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin, messages
from django.db.models import Count, Model, QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.admin import StackedInline, TabularInline
from unfold.dataclasses import UnfoldAction
from unfold.enums import ActionVariant

from ticketing.admin import readiness, selling
from ticketing.admin.actions import carry_out, carry_out_one, dialog, edit_next
from ticketing.admin.bases import InTheEventsTimeZone, OfficeAdmin, first
from ticketing.admin.columns import BAD, GOOD, WAITING, status_column, stock_bar
from ticketing.admin.decorators import action, display
from ticketing.admin.forms import (
    EventForm,
    ProductForm,
    ProductFormSet,
    SlotForm,
    TimesForm,
    offer_quotas_of,
)
from ticketing.admin.stock import CapacityGuard, QuotaForm, offer_slots_of, shown_stock
from ticketing.models import Event, Organiser, Product, Quota, Slot


@admin.register(Organiser)
class OrganiserAdmin(OfficeAdmin):
    list_display = ["name", "email", "event_count"]
    search_fields = ["name", "slug", "email"]
    prepopulated_fields = {"slug": ["name"]}
    fields = ["name", "slug", "email"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Organiser]:
        return super().get_queryset(request).annotate(events_in_all=Count("events"))

    @display(description=_("events"), ordering="events_in_all")
    def event_count(self, organiser: Any) -> int:
        return organiser.events_in_all


class SlotInline(TabularInline):
    model = Slot
    form = TimesForm
    extra = 0
    tab = True
    hide_title = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Slot]:
        return super().get_queryset(request).select_related("event")


class QuotaInline(TabularInline):
    model = Quota
    form = QuotaForm
    fields = ["name", "slot", "capacity", "stock"]
    readonly_fields = ["stock"]
    extra = 0
    tab = True
    hide_title = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Quota]:
        return super().get_queryset(request).select_related("slot__event")

    def get_formset(self, request: HttpRequest, obj: Event | None = None, **kwargs: Any) -> Any:
        formset = super().get_formset(request, obj, **kwargs)
        offer_slots_of(obj.pk if obj else None, formset.form.base_fields.get("slot"))
        return formset

    @display(description=_("stock"))
    def stock(self, quota: Quota | None) -> SafeString | str:
        return shown_stock(quota)


class ProductInline(StackedInline):
    model = Product
    form = ProductForm
    formset = ProductFormSet
    fields = [
        ("name", "kind"),
        ("price", "max_per_order"),
        "quotas",
        "sale_starts_at",
        "sale_ends_at",
        "description",
        ("entries", "valid_days"),
        ("position", "is_stopped"),
    ]
    extra = 0
    tab = True
    collapsible = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Product]:
        return super().get_queryset(request).select_related("event").prefetch_related("quotas")

    def get_formset(self, request: HttpRequest, obj: Event | None = None, **kwargs: Any) -> Any:
        formset = super().get_formset(request, obj, **kwargs)
        offer_quotas_of(obj.pk if obj else None, formset.form.base_fields.get("quotas"))
        return formset


@admin.register(Event)
class EventAdmin(selling.MayStopSelling, CapacityGuard, InTheEventsTimeZone, OfficeAdmin):
    form = EventForm
    list_display = ["name", "status_label", "when_in_words", "organiser", "stock"]
    list_filter = ["status", ("organiser", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["organiser"]
    search_fields = ["name", "slug", "venue_name"]
    autocomplete_fields = ["organiser"]
    prepopulated_fields = {"slug": ["name"]}
    readonly_fields = ["readiness"]
    actions = ["stop_selling", "resume_selling"]
    actions_detail = ["stop_everything", "resume_everything"]
    fieldsets = [
        (None, {"fields": [("organiser", "status"), ("name", "slug"), "summary", "description", "readiness"]}),
        (
            _("When and where"),
            {
                "fields": ["starts_at", "ends_at", "time_zone", ("venue_name", "venue_address")],
            },
        ),
        (
            _("Selling"),
            {
                "fields": [
                    "currency",
                    ("hold_window_minutes", "extension_minutes"),
                    ("payment_mode", "accepts_slow_payments"),
                ]
            },
        ),
    ]

    status_label = status_column({"PUBLISHED": GOOD, "DRAFT": WAITING, "CANCELLED": BAD})

    def get_queryset(self, request: HttpRequest) -> QuerySet[Event]:
        stock = {f"stock_{name}": Sum(f"quotas__{name}") for name in ("sold", "held", "capacity")}
        return super().get_queryset(request).annotate(**stock)

    def get_inlines(self, request: HttpRequest, obj: Event | None) -> Sequence[Any]:
        """A new event is saved first: its quotas name its slots, and its products name its quotas."""
        return [SlotInline, QuotaInline, ProductInline] if obj else []

    def get_fieldsets(self, request: HttpRequest, obj: Event | None = None) -> Any:
        if obj:
            return super().get_fieldsets(request, obj)
        about, *others = self.fieldsets
        return [(about[0], {"fields": [name for name in about[1]["fields"] if name != "readiness"]}), *others]

    def get_readonly_fields(self, request: HttpRequest, obj: Event | None = None) -> list[str]:
        """The currency is settled with the first product: its price is in it."""
        return ["readiness", "currency"] if obj and obj.products.exists() else ["readiness"]

    def get_prepopulated_fields(self, request: HttpRequest, obj: Event | None = None) -> dict[str, Sequence[str]]:
        return {} if obj else dict(self.prepopulated_fields)  # an address that was given out stays

    def zone_name(self, request: HttpRequest, object_id: str | None) -> str | None:
        typed = request.POST.get("time_zone")
        if typed or not object_id:
            return typed or str(Event._meta.get_field("time_zone").default)
        return first(Event.objects.filter(pk=object_id), "time_zone") if object_id.isdecimal() else None

    def view_on_site(self, event: Event) -> str | None:
        return event.get_absolute_url() if event.status == Event.Status.PUBLISHED else None

    def response_add(self, request: HttpRequest, obj: Event, post_url_continue: str | None = None) -> HttpResponse:
        """To the event's page, where slots, quotas and products are added next."""
        edit_next(request)
        return super().response_add(request, obj, post_url_continue)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        for text in readiness.missing(form.instance):
            messages.info(request, text)

    @display(description=_("when"), ordering="starts_at")
    def when_in_words(self, event: Event) -> str:
        return event.when

    @display(description=_("sold and held of all quotas"))
    def stock(self, event: Any) -> SafeString | str:
        if not event.stock_capacity:
            return "–"
        return stock_bar(sold=event.stock_sold, held=event.stock_held, capacity=event.stock_capacity)

    @display(description=_("ready to sell?"))
    def readiness(self, event: Event) -> SafeString | str:
        return readiness.shown(event)

    def get_actions_detail(self, request: HttpRequest, object_id: int) -> list[UnfoldAction]:
        """Stopping is offered while something is sold, resuming while something is stopped."""
        allowed = super().get_actions_detail(request, object_id)
        if not str(object_id).isdecimal():
            return []  # somebody typed the address
        is_stopped = set(Product.objects.filter(event=object_id).values_list("is_stopped", flat=True).distinct())
        needed = {"stop_everything": False, "resume_everything": True}
        return [action for action in allowed if needed.get(action.method.original_function_name) in is_stopped]

    @admin.action(description=_("Stop selling everything"), permissions=["sell"])
    def stop_selling(self, request: HttpRequest, queryset: QuerySet[Event]) -> None:
        carry_out(self, request, queryset, selling.stop_everything)

    @admin.action(description=_("Resume selling everything"), permissions=["sell"])
    def resume_selling(self, request: HttpRequest, queryset: QuerySet[Event]) -> None:
        carry_out(self, request, queryset, selling.resume_everything)

    @action(
        description=_("Stop selling"),
        permissions=["sell"],
        url_path="stop",
        icon="block",
        variant=ActionVariant.DANGER,
        dialog=dialog(
            _("Stop selling everything of this event?"),
            _("At once, for new holds. Capacities, holds and orders stay as they are."),
            _("Stop selling"),
        ),
    )
    def stop_everything(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        return carry_out_one(self, request, object_id, selling.stop_everything)

    @action(
        description=_("Resume selling"),
        permissions=["sell"],
        url_path="resume",
        icon="play_arrow",
        dialog=dialog(
            _("Resume selling everything of this event?"), _("Within sale times and stock."), _("Resume selling")
        ),
    )
    def resume_everything(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        return carry_out_one(self, request, object_id, selling.resume_everything)


@admin.register(Slot)
class SlotAdmin(InTheEventsTimeZone, OfficeAdmin):
    form = SlotForm
    list_display = ["when_in_words", "event"]
    list_filter = [("event", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["event"]
    search_fields = ["event__name"]
    autocomplete_fields = ["event"]
    fields = ["event", "starts_at", "ends_at"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Slot]:
        return super().get_queryset(request).select_related("event")

    def get_readonly_fields(self, request: HttpRequest, obj: Slot | None = None) -> list[str]:
        return ["event"] if obj else []

    def zone_name(self, request: HttpRequest, object_id: str | None) -> str | None:
        return zone_of_event(request, Slot, object_id)

    @display(description=_("when"), ordering="starts_at")
    def when_in_words(self, slot: Slot) -> str:
        return slot.when


@admin.register(Product)
class ProductAdmin(InTheEventsTimeZone, OfficeAdmin):
    form = ProductForm
    list_display = ["name", "event", "kind", "price_in_words", "selling", "quota_names"]
    list_filter = ["kind", "is_stopped", ("event", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["event"]
    search_fields = ["name", "event__name"]
    autocomplete_fields = ["event"]
    actions = ["stop_selling", "resume_selling"]
    actions_detail = ["stop_this", "resume_this"]
    fieldsets = [
        (
            None,
            {"fields": ["event", ("name", "kind"), "description", ("price", "max_per_order"), "quotas", "position"]},
        ),
        (
            _("Sale"),
            {
                "fields": ["sale_starts_at", "sale_ends_at", "is_stopped"],
            },
        ),
        (_("Passes only"), {"fields": [("entries", "valid_days")]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Product]:
        return super().get_queryset(request).select_related("event").prefetch_related("quotas__slot__event")

    def get_readonly_fields(self, request: HttpRequest, obj: Product | None = None) -> list[str]:
        return ["event"] if obj else []

    def get_fieldsets(self, request: HttpRequest, obj: Product | None = None) -> Any:
        """Quotas belong to an event, so they are chosen once the product has one."""
        fieldsets = super().get_fieldsets(request, obj)
        if obj:
            return fieldsets
        return [
            (title, {**of, "fields": [name for name in of["fields"] if name != "quotas"]}) for title, of in fieldsets
        ]

    def get_form(self, request: HttpRequest, obj: Product | None = None, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, **kwargs)
        if obj:
            offer_quotas_of(obj.event_id, form.base_fields.get("quotas"))
        return form

    def response_add(self, request: HttpRequest, obj: Product, post_url_continue: str | None = None) -> HttpResponse:
        messages.info(request, _("Now choose the quotas it draws on; without one it cannot be bought."))
        edit_next(request)
        return super().response_add(request, obj, post_url_continue)

    def zone_name(self, request: HttpRequest, object_id: str | None) -> str | None:
        return zone_of_event(request, Product, object_id)

    @display(description=_("price"), ordering="price_minor")
    def price_in_words(self, product: Product) -> str:
        return str(product.price)

    @display(description=_("selling"), ordering="is_stopped", label={"on": GOOD, "stopped": BAD})
    def selling(self, product: Product) -> tuple[str, Any]:
        return ("stopped", _("stopped")) if product.is_stopped else ("on", _("on"))

    @display(description=_("quotas"))
    def quota_names(self, product: Product) -> str:
        names = [quota.name for quota in product.quotas.all()]
        return ", ".join(names[:3]) + (f" + {len(names) - 3}" if len(names) > 3 else "") or str(
            _("none: cannot be bought")
        )

    @admin.action(description=_("Stop selling"), permissions=["act"])
    def stop_selling(self, request: HttpRequest, queryset: QuerySet[Product]) -> None:
        carry_out(self, request, queryset, selling.stop)

    @admin.action(description=_("Resume selling"), permissions=["act"])
    def resume_selling(self, request: HttpRequest, queryset: QuerySet[Product]) -> None:
        carry_out(self, request, queryset, selling.resume)

    @action(
        description=_("Stop selling"),
        permissions=["act"],
        url_path="stop",
        icon="block",
        variant=ActionVariant.DANGER,
        dialog=dialog(_("Stop selling?"), _("At once, for new holds. The capacity stays as it is."), _("Stop selling")),
    )
    def stop_this(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        return carry_out_one(self, request, object_id, selling.stop)

    @action(
        description=_("Resume selling"),
        permissions=["act"],
        url_path="resume",
        icon="play_arrow",
        dialog=dialog(_("Resume selling?"), _("Within its sale times and stock."), _("Resume selling")),
    )
    def resume_this(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        return carry_out_one(self, request, object_id, selling.resume)


def zone_of_event(request: HttpRequest, model: type[Model], object_id: str | None) -> str | None:
    """The zone of the event that the row has, or that was just chosen for a new one."""
    if object_id:
        return first(model._default_manager.filter(pk=object_id), "event__time_zone") if object_id.isdecimal() else None
    chosen = request.POST.get("event") or request.GET.get("event") or ""
    return first(Event.objects.filter(pk=chosen), "time_zone") if chosen.isdecimal() else None
