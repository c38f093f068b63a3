"""Integers of minor units, in every currency there is."""

import re
from decimal import Decimal

import pytest
from babel.numbers import list_currencies, parse_decimal
from django.conf import settings
from django.utils import translation

from config import money
from config.money import Money, exponent

# docs.stripe.com/currencies, beside which everything has two digits.
ZERO_DECIMAL = {
    *("BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"),
}
THREE_DECIMAL = {"BHD", "JOD", "KWD", "OMR", "TND"}


def digits_shown(amount: Money) -> Decimal:
    """The number that a person reads."""
    number = re.search(r"\d[\d.,]*", str(amount)).group()
    return parse_decimal(number.strip(), locale="en_GB")


@pytest.mark.row("HC-L1", "P11")
@pytest.mark.parametrize("currency", sorted(list_currencies()))
def test_hc_l1_every_currency_says_what_stripe_charges(currency):
    """HC-L1: minor units → text → the same number, in Stripe's unit, nothing rounded away."""
    unit = Decimal(10) ** -(0 if currency in ZERO_DECIMAL else 3 if currency in THREE_DECIMAL else 2)
    with translation.override("en-gb"):
        for amount_minor in (0, 1, 5, 50, 99, 100, 2500, 123_456_789):
            amount = Money(amount_minor, currency)
            assert amount.amount == amount_minor * unit
            assert digits_shown(amount) == amount_minor * unit


@pytest.mark.row("HC-L1")
@pytest.mark.parametrize(
    ("amount_minor", "currency", "language", "text"),
    [
        (2500, "EUR", "en-gb", "€25.00"),
        (2500, "EUR", "de", "25,00\xa0€"),
        (500, "JPY", "en-gb", "JP¥500"),
        (1250, "KWD", "en-gb", "KWD1.250"),
        (1000, "ISK", "en-gb", "ISK10"),
        (100_000, "UGX", "en-gb", "UGX1,000"),
        (1050, "ISK", "en-gb", "ISK10.5"),
        (123_456_789, "USD", "en-gb", "US$1,234,567.89"),
        (0, "EUR", "en-gb", "€0.00"),
    ],
)
def test_hc_l1_special_currencies_as_people_write_them(amount_minor, currency, language, text):
    with translation.override(language):
        assert str(Money(amount_minor, currency)) == text


@pytest.mark.row("HC-L1")
def test_hc_l1_the_pages_script_counts_as_the_server_does():
    """HC-L1: the two lists in money.js are those of config.money."""
    script = (settings.BASE_DIR / "config/static/counterfoil/money.js").read_text()
    listed = {name: set(words.split()) for name, words in re.findall(r'const (\w+) = new Set\("([A-Z ]+)"', script)}
    assert listed == {"ZERO_DECIMAL": set(money._ZERO_DECIMAL), "THREE_DECIMAL": set(money._THREE_DECIMAL)}
    assert listed == {"ZERO_DECIMAL": ZERO_DECIMAL, "THREE_DECIMAL": THREE_DECIMAL}


def test_currencies_do_not_mix():
    with pytest.raises(ValueError, match="do not add up"):
        Money(1, "EUR") + Money(1, "USD")
    assert Money(1, "EUR") + Money(2, "EUR") == Money(3, "EUR")
    assert Money(150, "EUR") * 3 == Money(450, "EUR")
    assert Money(1, "EUR") != Money(1, "USD")
    assert not Money(0, "EUR")
    assert Money(1, "EUR").as_json() == {"amount_minor": 1, "currency": "EUR"}


def test_small_letters_are_the_same_currency():
    assert exponent("jpy") == exponent("JPY") == 0
