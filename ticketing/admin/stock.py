"""Quotas: staff set the capacity; what is held and sold is only shown."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db import IntegrityError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminSelectWidget

from config.database import retried_on_conflict
from ticketing import quotas
from ticketing.admin.bases import OfficeAdmin
from ticketing.admin.columns import stock_bar
from ticketing.admin.decorators import display
from ticketing.models import Quota, Slot

NEVER_OVERSOLD = "quota_is_never_oversold"


class QuotaForm(forms.ModelForm):
    """Saves what was typed and nothing else: the counters may have moved since the page was opened."""

    class Meta:
        model = Quota
        fields = ["event", "name", "slot", "capacity"]

    def clean_capacity(self) -> int:
        capacity: int = self.cleaned_data["capacity"]
        lowest = quotas.lowest_capacity(self.instance.pk) if self.instance.pk else 0
        if capacity < lowest:
            raise ValidationError(
                _("%(lowest)s are sold or held right now: the capacity cannot be lower than %(lowest)s."),
                params={"lowest": lowest},
            )
        return capacity

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        slot, event = cleaned.get("slot"), cleaned.get("event") or self.instance.event_id
        if slot and event and slot.event_id != getattr(event, "pk", event):
            self.add_error("slot", _("This slot belongs to another event."))
        return cleaned

    def save(self, commit: bool = True) -> Quota:
        quota: Quota = super().save(commit=False)
        if commit and quota.pk:
            quota.save(update_fields=sorted(set(self.changed_data) & set(self._meta.fields or [])))
        elif commit:
            quota.save()
        return quota


def offer_slots_of(event_id: int | None, field: Any) -> None:
    """Makes a form's field offer this event's slots, read once for all the forms on a page."""
    if not isinstance(field, forms.ModelChoiceField):
        return
    slots = Slot.objects.filter(event=event_id).select_related("event") if event_id else Slot.objects.none()
    field.queryset = slots
    field.widget = UnfoldAdminSelectWidget()
    field.choices = [("", _("all slots")), *((slot.pk, slot.when) for slot in slots)]


class CapacityGuard(ModelAdmin):
    """For forms with limits that buyers use up: losing the race against a buyer is answered by the form, not by an
    error page.

    The database refuses the lower limit and nothing is saved; validating once more then finds the buyer's hold and
    says how low one may go.
    """

    guarded_by: tuple[str, ...] = (NEVER_OVERSOLD,)  # names of the constraints

    @retried_on_conflict
    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except IntegrityError as error:
            if not any(name in str(error) for name in self.guarded_by):
                raise
        return super().changeform_view(request, *args, **kwargs)


def shown_stock(quota: Quota | None) -> SafeString | str:
    if quota is None or quota.pk is None:
        return "–"
    bar = stock_bar(sold=quota.sold, held=quota.held, capacity=quota.capacity)
    lowest = _("Lowest capacity now: %(lowest)s") % {"lowest": quota.sold + quota.held}
    return format_html('{}<span style="display: block; font-size: 0.75rem">{}</span>', bar, lowest)


@admin.register(Quota)
class QuotaAdmin(CapacityGuard, OfficeAdmin):
    form = QuotaForm
    list_display = ["name", "event", "slot_when", "stock"]
    list_filter = [("event", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["event", "slot__event"]
    search_fields = ["name", "event__name"]
    autocomplete_fields = ["event", "slot"]
    readonly_fields = ["stock"]
    fieldsets = [
        (None, {"fields": ["event", "name", "slot"]}),
        (
            _("Stock"),
            {
                "fields": ["capacity", "stock"],
                "description": _(
                    "The capacity can be changed while tickets are being sold, down to what is sold and held."
                ),
            },
        ),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Quota]:
        return super().get_queryset(request).select_related("event", "slot__event")

    def get_readonly_fields(self, request: HttpRequest, obj: Quota | None = None) -> list[str]:
        return ["event", "stock"] if obj else ["stock"]

    def get_form(self, request: HttpRequest, obj: Quota | None = None, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, **kwargs)
        if obj:
            offer_slots_of(obj.event_id, form.base_fields.get("slot"))
        return form

    def save_model(self, request: HttpRequest, obj: Quota, form: QuotaForm, change: bool) -> None:
        form.save()

    @display(description=_("slot"), ordering="slot__starts_at")
    def slot_when(self, quota: Quota) -> str:
        return quota.slot.when if quota.slot else str(_("all slots"))

    @display(description=_("stock"))
    def stock(self, quota: Quota | None) -> SafeString | str:
        return shown_stock(quota)
