"""Money as integer minor units beside its currency. Never a float, never a bare number on a page."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from babel.core import get_global
from babel.numbers import format_currency
from django.utils import translation

# Our integers mean what Stripe's do: docs.stripe.com/currencies#zero-decimal, #three-decimal and #special-cases (by
# which ISK and UGX have two). Custom differs from this for a dozen currencies; config/static/…/money.js has the same.
_ZERO_DECIMAL = frozenset(
    ["BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"]
)
_THREE_DECIMAL = frozenset(["BHD", "JOD", "KWD", "OMR", "TND"])


def exponent(currency: str) -> int:
    """How many decimal digits one minor unit stands for: 2 for EUR, 0 for JPY, 3 for KWD."""
    code = currency.upper()
    return 0 if code in _ZERO_DECIMAL else 3 if code in _THREE_DECIMAL else 2


def _customary_digits(currency: str) -> int:
    fractions = get_global("currency_fractions")
    return fractions.get(currency.upper(), fractions["DEFAULT"])[0]


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
        # Where people write fewer digits than Stripe counts, nothing is rounded away: 10.50 is not shown as 11.
        is_custom = exponent(self.currency) <= _customary_digits(self.currency)
        return format_currency(self.amount, self.currency, locale=locale, decimal_quantization=is_custom)

    def as_json(self) -> dict[str, Any]:
        """The shape of the public contract."""
        return {"amount_minor": self.amount_minor, "currency": self.currency}
