"""Stripe's test IBANs for SEPA bank debits (docs.stripe.com/testing): what each is, and how its debit ends."""

from __future__ import annotations

import re

from .errors import StripeError, invalid_request

FAILING = frozenset(["DE62370400440532013001", "AT861904300235473202", "FR8420041010050500013M02607"])
"""Any other valid IBAN pays in the end; Stripe's own list of those that do is longer than anyone needs."""
SUCCEEDS, FAILS = "DE89370400440532013000", "DE62370400440532013001"
FORM = re.compile(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}")


def check(typed: str) -> str:
    """The IBAN without spaces, or Stripe's complaint about it."""
    iban = "".join(typed.split()).upper()
    if not FORM.fullmatch(iban) or not _checks_out(iban):
        raise _invalid()
    return iban


def outcome_of(iban: str) -> str:
    return "failed" if iban in FAILING else "succeeded"


def _checks_out(iban: str) -> bool:
    """ISO 13616: letters are 10 to 35, the first four characters go last, and 97 leaves 1."""
    moved = iban[4:] + iban[:4]
    return int("".join(str(int(character, 36)) for character in moved)) % 97 == 1


def _invalid() -> StripeError:
    return invalid_request("The IBAN you entered is invalid.", code="account_number_invalid", param="sepa_debit[iban]")
