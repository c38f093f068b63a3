"""Currencies, smallest amounts, and how an amount is written (docs.stripe.com/currencies)."""

from __future__ import annotations

from .errors import StripeError, invalid_request

ZERO_DECIMAL = frozenset(
    ["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "ugx", "vnd", "vuv", "xaf", "xof", "xpf"]
)
THREE_DECIMAL = frozenset(["bhd", "jod", "kwd", "omr", "tnd"])
MINIMUM_MINOR = {
    "usd": 50, "aed": 200, "aud": 50, "bgn": 100, "brl": 50, "cad": 50, "chf": 50, "czk": 1500, "dkk": 250,
    "eur": 50, "gbp": 30, "hkd": 400, "huf": 17500, "inr": 50, "jpy": 50, "mxn": 1000, "myr": 200, "nok": 300,
    "nzd": 50, "pln": 200, "ron": 200, "sek": 300, "sgd": 50, "thb": 1000,
}  # fmt: skip
SUPPORTED = frozenset(MINIMUM_MINOR) | ZERO_DECIMAL | THREE_DECIMAL | frozenset(["ils", "isk", "php", "twd", "zar"])
MAXIMUM_MINOR = 99_999_999
SYMBOLS = {"usd": "$", "eur": "€", "gbp": "£", "jpy": "¥", "cad": "$", "aud": "$", "nzd": "$", "chf": "CHF "}


def check(amount: int, currency: str) -> None:
    if currency not in SUPPORTED:
        raise invalid_request(
            f"Invalid currency: {currency}. Stripe currently supports these currencies: {', '.join(sorted(SUPPORTED))}",
            param="currency",
        )
    if amount < 1:
        raise _amount("This value must be greater than or equal to 1.", "parameter_invalid_integer")
    minimum = MINIMUM_MINOR.get(currency, 1)
    if amount < minimum:
        raise _amount(f"Amount must be at least {write(minimum, currency)} {currency}", "amount_too_small")
    if amount > MAXIMUM_MINOR:
        raise _amount(f"Amount must be no more than {write(MAXIMUM_MINOR, currency)}", "amount_too_large")


def write(amount_minor: int, currency: str) -> str:
    digits = 0 if currency in ZERO_DECIMAL else 3 if currency in THREE_DECIMAL else 2
    return f"{SYMBOLS.get(currency, '')}{amount_minor / 10**digits:,.{digits}f}"


def _amount(message: str, code: str) -> StripeError:
    return invalid_request(message, code=code, param="amount")
