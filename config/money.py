"""Money as integer minor units beside its currency. Never a float, never a bare number on a page."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from babel.core import get_global
from babel.numbers import format_currency
from django.utils import translation

# Stripe counts these in units of their own: docs.stripe.com/currencies#zero-decimal and #special-cases.
# Babel has the customary digits; where Stripe's minor unit differs from custom, Stripe's is what our integers mean.
_STRIPE_EXPONENTS = {"ISK": 2, "UGX": 2, "HUF": 2, "TWD": 2}


def exponent(currency: str) -> int:
    """How many decimal digits one minor unit stands for: 2 for EUR, 0 for JPY, 3 for KWD."""
    code = currency.upper()
    if code in _STRIPE_EXPONENTS:
        return _STRIPE_EXPONENTS[code]
    fractions = get_global("currency_fractions")
    return fractions.get(code, fractions["DEFAULT"])[0]


@dataclass(frozen=True, slots=True)
class Money:
    """`amount_minor` of `currency` (ISO 4217, capitals). Adds and compares only with its own currency."""

    amount_minor: int
    currency: str

    def __add__(self, other: "Money") -> "Money":
        if self.currency != other.currency:
            raise ValueError(f"{self.currency} and {other.currency} do not add up")
        return Money(self.amount_minor + other.amount_minor, self.currency)

    def __mul__(self, times: int) -> "Money":
        return Money(self.amount_minor * times, self.currency)

    def __bool__(self) -> bool:
        return self.amount_minor != 0

    @property
    def amount(self) -> Decimal:
        """In major units, exact."""
        return Decimal(self.amount_minor).scaleb(-exponent(self.currency))

    def __str__(self) -> str:
        locale = translation.to_locale(translation.get_language() or "en")
        return format_currency(self.amount, self.currency, locale=locale)

    def as_json(self) -> dict[str, Any]:
        """The shape of the public contract."""
        return {"amount_minor": self.amount_minor, "currency": self.currency}
