"""Forms of the catalogue: prices in major units, times that make sense, quotas of the same event."""

from decimal import Decimal
from typing import Any
from zoneinfo import available_timezones

from babel.numbers import is_currency
from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminSelect2MultipleWidget, UnfoldAdminSelect2Widget

from config.money import exponent
from ticketing.models import Event, Product, Quota, Slot

# docs.stripe.com/currencies: cents that only exist in writing, and thousandths of which cards take hundredths.
WITHOUT_CENTS = ("ISK", "UGX")


def in_minor_units(amount: Decimal, currency: str) -> int:
    """What was typed as people say it; refuses what the currency has no coin for, or what no card is charged."""
    minor, digits = amount.scaleb(exponent(currency)), exponent(currency)
    if minor != minor.to_integral_value():
        text = _("%(currency)s has %(digits)s decimal places.")
        raise ValidationError(text, params={"currency": currency, "digits": digits})
    step = 100 if currency in WITHOUT_CENTS else 10 if digits == 3 else 1
    if minor % step:
        text = _("Cards are charged in steps of %(step)s %(currency)s.")
        raise ValidationError(text, params={"step": Decimal(step).scaleb(-digits).normalize(), "currency": currency})
    return int(minor)


class TimesForm(forms.ModelForm):
    """Something that starts and ends."""

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        starts_at, ends_at = cleaned.get("starts_at"), cleaned.get("ends_at")
        if starts_at and ends_at and ends_at <= starts_at:
            self.add_error("ends_at", _("It must end after it starts."))
        return cleaned


class EventForm(TimesForm):
    class Meta:
        model = Event
        fields = "__all__"  # noqa: DJ007 - the admin's fieldsets choose
        widgets = {
            "time_zone": UnfoldAdminSelect2Widget(choices=[(name, name) for name in sorted(available_timezones())]),
        }
        help_texts = {"currency": _("Settled with the first product: prices, holds and orders are in it.")}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "payment_mode" in self.fields:
            self.fields["payment_mode"].required = False  # who does not say leaves it as it is

    def clean(self) -> dict[str, Any]:
        """A page that was opened before the first product still offers the currency: what it sends is not just ignored."""
        cleaned = super().clean()
        asked = str(self.data.get("currency", "")).strip().upper()
        is_settled = self.instance.pk is not None and "currency" not in self.fields
        if is_settled and asked and asked != self.instance.currency:
            text = _("The currency stays %(currency)s: this event has products, and holds and orders may be in it.")
            raise ValidationError(text, params={"currency": self.instance.currency})
        return cleaned

    def clean_payment_mode(self) -> str:
        mode: str = self.cleaned_data["payment_mode"] or self.instance.payment_mode
        return mode

    def clean_currency(self) -> str:
        currency: str = self.cleaned_data["currency"].strip().upper()
        if not is_currency(currency):
            raise ValidationError(
                _("%(currency)s is not a currency; write it like EUR."), params={"currency": currency}
            )
        return currency


class SlotForm(TimesForm):
    class Meta:
        model = Slot
        fields = ["event", "starts_at", "ends_at"]


class ProductForm(forms.ModelForm):
    """`price` is typed as people say it, 25.00, and kept in minor units of the event's currency."""

    price = forms.DecimalField(
        label=_("Price"),
        min_value=0,
        max_digits=14,
        decimal_places=4,
        widget=UnfoldAdminDecimalFieldWidget(attrs={"step": "any", "min": "0"}),
        help_text=_(
            "In the event's currency, like 25.00; 0 is free. Holds and orders keep the price they were made at."
        ),
    )

    class Meta:
        model = Product
        exclude = ["price_minor"]  # noqa: DJ006 - the admin's fieldsets choose

    def __init__(self, *args: Any, event: Event | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.event = event  # given by the inline; else chosen in the form, or the product's own
        if self.instance.pk and event is not None:
            self.instance.event = event
        if self.instance.pk:
            self.initial["price"] = self.instance.price.amount

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        event = self.event or cleaned.get("event") or (self.instance.event if self.instance.event_id else None)
        if event is not None:
            self._set_price(cleaned.get("price"), event.currency)
            self._check_quotas(cleaned.get("quotas"), event)
        starts_at, ends_at = cleaned.get("sale_starts_at"), cleaned.get("sale_ends_at")
        if starts_at and ends_at and ends_at <= starts_at:
            self.add_error("sale_ends_at", _("The sale must end after it starts."))
        return cleaned

    def _set_price(self, price: Decimal | None, currency: str) -> None:
        if price is None:
            return
        try:
            self.instance.price_minor = in_minor_units(price, currency)
        except ValidationError as mistake:
            self.add_error("price", mistake)

    def _check_quotas(self, quotas: Any, event: Event) -> None:
        if any(quota.event_id != event.pk for quota in quotas or ()):
            self.add_error("quotas", _("Choose quotas of the same event."))


class ProductFormSet(forms.BaseInlineFormSet):
    """Tells each product's form the event, whose currency the prices are in."""

    def get_form_kwargs(self, index: int | None) -> dict[str, Any]:
        return {**super().get_form_kwargs(index), "event": self.instance}


def choose_many(field: Any, choices: Any, *, help_text: Any = "") -> None:
    """Makes a form's field a list of chosen ones with a search box, for what may be many."""
    field.widget = UnfoldAdminSelect2MultipleWidget()
    field.choices = field.widget.choices = choices
    field.help_text = help_text


def offer_quotas_of(event_id: int | None, field: Any) -> None:
    """Makes a form's field offer this event's quotas, read once for all the forms on a page."""
    if not isinstance(field, forms.ModelMultipleChoiceField):
        return
    field.queryset = Quota.objects.filter(event=event_id) if event_id else Quota.objects.none()
    text = _("What it draws its stock from: all of them must have room. Without one it cannot be bought.")
    choose_many(
        field, [(quota.pk, str(quota)) for quota in field.queryset.select_related("slot__event")], help_text=text
    )
