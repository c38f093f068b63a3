"""Promo codes: staff set what a code takes off, for what, when and how often; how often it was used is only shown."""

from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Case, CharField, F, QuerySet, Value, When
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _
from unfold.dataclasses import UnfoldAction
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminDecimalFieldWidget

from config.money import Money
from reservations.models import PromoCode
from ticketing.admin.actions import carry_out, carry_out_one, dialog, edit_next
from ticketing.admin.bases import InTheEventsTimeZone, OfficeAdmin
from ticketing.admin.catalogue import zone_of_event
from ticketing.admin.columns import BAD, GOOD, WAITING, clipped, event_column, moment, two_lines, use_bar
from ticketing.admin.decorators import action, display
from ticketing.admin.forms import choose_many, in_minor_units
from ticketing.admin.stock import CapacityGuard
from ticketing.models import Event, Product

STATES = {
    "valid": _("valid"),
    "not_yet": _("not yet"),
    "over": _("over"),
    "used_up": _("used up"),
    "stopped": _("stopped"),
}


def in_state() -> Case:
    """The first of these that is true, by the database's clock."""
    return Case(
        When(is_stopped=True, then=Value("stopped")),
        When(ends_at__lte=Now(), then=Value("over")),
        When(max_uses__lte=F("uses"), then=Value("used_up")),
        When(starts_at__gt=Now(), then=Value("not_yet")),
        default=Value("valid"),
        output_field=CharField(),
    )


class PromoCodeForm(forms.ModelForm):
    """`amount_off` is typed as people say it, 5.00, and kept in minor units of the event's currency.

    Saves what was typed and nothing else: `uses` may have moved since the page was opened.
    """

    amount_off = forms.DecimalField(
        label=_("Amount off each ticket"),
        required=False,
        max_digits=14,
        decimal_places=4,
        widget=UnfoldAdminDecimalFieldWidget(attrs={"step": "any", "min": "0"}),
        help_text=_("In the event's currency, like 5.00. Either this or a percentage."),
    )

    class Meta:
        model = PromoCode
        exclude = ["amount_off_minor"]  # noqa: DJ006 - the admin's fieldsets choose

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.amount_off_minor is not None:
            self.initial["amount_off"] = Money(self.instance.amount_off_minor, self.instance.event.currency).amount
        if self.instance.pk and "max_uses" in self.fields:
            self.fields["max_uses"].help_text = _(
                "Orders, not tickets. Empty: no limit. Lowest value now: %(lowest)s."
            ) % {"lowest": self.instance.uses}

    def clean_code(self) -> str:
        return str(self.cleaned_data["code"]).strip().upper()

    def clean_max_uses(self) -> int | None:
        most: int | None = self.cleaned_data["max_uses"]
        lowest = _uses_now(self.instance.pk)
        if most is not None and most < lowest:
            raise ValidationError(
                _("It is used %(lowest)s times right now: the limit cannot be lower than %(lowest)s."),
                params={"lowest": lowest},
            )
        return most

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        event = cleaned.get("event") or (self.instance.event if self.instance.event_id else None)
        if event is not None:
            self._set_amount(cleaned.get("amount_off"), event)
            if any(product.event_id != event.pk for product in cleaned.get("products") or ()):
                self.add_error("products", _("Choose products of the same event."))
        starts_at, ends_at = cleaned.get("starts_at"), cleaned.get("ends_at")
        if starts_at and ends_at and ends_at <= starts_at:
            self.add_error("ends_at", _("It must end after it starts."))
        return cleaned

    def _set_amount(self, amount: Decimal | None, event: Event) -> None:
        self.instance.amount_off_minor = None
        if amount is None:
            return
        try:
            minor = in_minor_units(amount, event.currency)
        except ValidationError as mistake:
            self.add_error("amount_off", mistake)
            return
        if minor <= 0:
            self.add_error("amount_off", _("It must take something off."))
        else:
            self.instance.amount_off_minor = minor

    def _get_validation_exclusions(self) -> set[str]:
        """The event is not typed again, but with it two codes of an event must still differ."""
        return super()._get_validation_exclusions() - {"event"}  # type: ignore[misc]  # not in the stubs

    def save(self, commit: bool = True) -> PromoCode:
        code: PromoCode = super().save(commit=False)
        if not commit:
            return code
        if code.pk:
            typed = {"amount_off_minor" if name == "amount_off" else name for name in self.changed_data}
            code.save(update_fields=sorted(typed - {"products"}))
        else:
            code.save()
        return code


def _uses_now(promo_code_id: int | None) -> int:
    if promo_code_id is None:
        return 0
    return PromoCode.objects.filter(pk=promo_code_id).values_list("uses", flat=True).first() or 0


def offer_products_of(event_id: int, field: Any) -> None:
    """Makes a form's field offer this event's products; none chosen means all of them."""
    if not isinstance(field, forms.ModelMultipleChoiceField):
        return
    field.queryset = Product.objects.filter(event=event_id)
    choose_many(field, [(product.pk, product.name) for product in field.queryset], help_text=_("None: all."))


class StateFilter(admin.SimpleListFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(STATES.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[PromoCode]) -> QuerySet[PromoCode]:
        return queryset.alias(in_state=in_state()).filter(in_state=self.value()) if self.value() in STATES else queryset


@admin.register(PromoCode)
class PromoCodeAdmin(CapacityGuard, InTheEventsTimeZone, OfficeAdmin):
    form = PromoCodeForm
    guarded_by = ("promo_code_is_never_overused", "promo_codes_of_an_event_differ")
    list_display = ["code", "state_label", "event_name", "takes_off", "use", "valid_when"]
    list_filter = [StateFilter, ("event", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["event"]
    search_fields = ["code", "event__name"]
    autocomplete_fields = ["event"]
    actions = ["stop", "resume"]
    actions_detail = ["stop_this", "resume_this"]
    fieldsets = [
        (None, {"fields": ["event", "code", ("percent_off", "amount_off"), "products"]}),
        (_("When"), {"fields": ["starts_at", "ends_at", "is_stopped"]}),
        (_("How often"), {"fields": [("max_uses", "max_uses_per_buyer"), "use"]}),
    ]

    event_name = event_column

    def get_queryset(self, request: HttpRequest) -> QuerySet[PromoCode]:
        return super().get_queryset(request).select_related("event").annotate(state=in_state())

    def get_readonly_fields(self, request: HttpRequest, obj: PromoCode | None = None) -> list[str]:
        return ["event", "use"] if obj else ["use"]

    def get_fieldsets(self, request: HttpRequest, obj: PromoCode | None = None) -> Any:
        """Products belong to an event, so they are chosen once the code has one; a new code has no uses to show."""
        fieldsets = super().get_fieldsets(request, obj)
        if obj:
            return fieldsets
        return [
            (title, {**of, "fields": [name for name in of["fields"] if name not in {"products", "use"}]})
            for title, of in fieldsets
        ]

    def get_form(self, request: HttpRequest, obj: PromoCode | None = None, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, **kwargs)
        if obj:
            offer_products_of(obj.event_id, form.base_fields.get("products"))
        return form

    def save_model(self, request: HttpRequest, obj: PromoCode, form: PromoCodeForm, change: bool) -> None:
        form.save()

    def response_add(self, request: HttpRequest, obj: PromoCode, post_url_continue: str | None = None) -> HttpResponse:
        messages.info(request, _("It is valid for all products of the event; choose some if it is only for those."))
        edit_next(request)
        return super().response_add(request, obj, post_url_continue)

    def get_actions_detail(self, request: HttpRequest, object_id: int) -> list[UnfoldAction]:
        """Stopping is offered for what is not stopped, and the other way round."""
        allowed = super().get_actions_detail(request, object_id)
        if not str(object_id).isdecimal():
            return []  # somebody typed the address
        is_stopped = PromoCode.objects.filter(pk=object_id, is_stopped=True).exists()
        offered = "resume_this" if is_stopped else "stop_this"
        return [action for action in allowed if action.method.original_function_name == offered]

    def zone_name(self, request: HttpRequest, object_id: str | None) -> str | None:
        return zone_of_event(request, PromoCode, object_id)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """A code that somebody used stays: their orders say what was taken off, and why. Says so without collecting
        what may be a hundred thousand reservations.
        """
        used = set(
            PromoCode.objects.filter(pk__in=[code.pk for code in objs], reservations__isnull=False)
            .distinct()
            .values_list("pk", flat=True)
        )
        deletable = [code for code in objs if code.pk not in used]
        deleted, counts, missing, protected = super().get_deleted_objects(deletable, request)
        kept = [
            _now("%(code)s was used, so it stays with its orders. Stop it instead.") % {"code": code.code}
            for code in objs
            if code.pk in used
        ]
        return deleted, counts, missing, [*protected, *kept]

    @display(
        description=_("state"), label={"valid": GOOD, "not_yet": WAITING, "over": "", "used_up": BAD, "stopped": BAD}
    )
    def state_label(self, code: Any) -> tuple[str, Any]:
        return code.state, STATES[code.state]

    @display(description=_("takes off"))
    def takes_off(self, code: PromoCode) -> SafeString:
        return clipped(code.discount)

    @display(description=_("uses"), ordering="uses")
    def use(self, code: PromoCode) -> SafeString:
        return use_bar(used=code.uses, limit=code.max_uses)

    @display(description=_("from and until"), ordering="starts_at")
    def valid_when(self, code: PromoCode) -> SafeString:
        return two_lines(moment(code.starts_at) or _("at once"), moment(code.ends_at) or _("no end"))

    @admin.action(description=_("Stop"), permissions=["act"])
    def stop(self, request: HttpRequest, queryset: QuerySet[PromoCode]) -> None:
        carry_out(self, request, queryset, _stop)

    @admin.action(description=_("Make valid again"), permissions=["act"])
    def resume(self, request: HttpRequest, queryset: QuerySet[PromoCode]) -> None:
        carry_out(self, request, queryset, _resume)

    @action(
        description=_("Stop"),
        permissions=["act"],
        url_path="stop",
        icon="block",
        variant=ActionVariant.DANGER,
        dialog=dialog(
            _("Stop this code?"), _("At once, for new holds. Discounts already given stay."), _("Stop the code")
        ),
    )
    def stop_this(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        return carry_out_one(self, request, object_id, _stop)

    @action(
        description=_("Make valid again"),
        permissions=["act"],
        url_path="resume",
        icon="play_arrow",
        dialog=dialog(_("Make this code valid again?"), _("Within its times and limits."), _("Make valid")),
    )
    def resume_this(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        return carry_out_one(self, request, object_id, _resume)


def _stop(code: PromoCode) -> str:
    PromoCode.objects.filter(pk=code.pk).update(is_stopped=True)
    return str(_("stopped"))


def _resume(code: PromoCode) -> str:
    PromoCode.objects.filter(pk=code.pk).update(is_stopped=False)
    return str(_("valid again"))
