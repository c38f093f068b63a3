"""Stripe's test cards: what each number is, and what happens when it is charged.

Source: docs.stripe.com/testing. A number that is not listed here answers as Stripe's test mode does: the
card is declined because a live card was used in test mode.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

from .errors import StripeError, card_error


@dataclass(frozen=True)
class Decline:
    code: str
    message: str
    decline_code: str | None = None
    blocked: bool = False


@dataclass(frozen=True)
class TestCard:
    number: str
    brand: str = "visa"
    funding: str = "credit"
    country: str = "US"
    decline: Decline | None = None
    authentication: str = "optional"  # optional, required, unsupported
    refund: str = "succeeded"  # succeeded, pending (and then succeeded), fails_later (after having succeeded)


def _declined(decline_code: str, message: str = "Your card was declined.") -> Decline:
    return Decline("card_declined", message, decline_code)


GENERIC = _declined("generic_decline")
INSUFFICIENT_FUNDS = _declined("insufficient_funds", "Your card has insufficient funds.")
LOST = _declined("lost_card")
STOLEN = _declined("stolen_card")
VELOCITY = _declined(
    "card_velocity_exceeded",
    "Your card was declined for making repeated attempts too frequently or exceeding its amount limit.",
)
EXPIRED = Decline("expired_card", "Your card has expired.")
INCORRECT_CVC = Decline("incorrect_cvc", "Your card's security code is incorrect.")
PROCESSING_ERROR = Decline(
    "processing_error", "An error occurred while processing your card. Try again in a little bit."
)
BLOCKED = replace(_declined("fraudulent"), blocked=True)
LIVE_CARD = _declined(
    "test_mode_live_card",
    "Your card was declined. Your request was in test mode, but used a non test (live) card. "
    "For a list of valid test cards, visit: https://stripe.com/docs/testing.",
)

_BY_BRAND = (
    ("4242424242424242", "visa", "credit", "US", "pm_card_visa pm_card_us"),
    ("4000056655665556", "visa", "debit", "US", "pm_card_visa_debit"),
    ("5555555555554444", "mastercard", "credit", "US", "pm_card_mastercard"),
    ("2223003122003222", "mastercard", "credit", "US", ""),
    ("5200828282828210", "mastercard", "debit", "US", "pm_card_mastercard_debit"),
    ("5105105105105100", "mastercard", "prepaid", "US", "pm_card_mastercard_prepaid"),
    ("378282246310005", "amex", "credit", "US", "pm_card_amex"),
    ("371449635398431", "amex", "credit", "US", ""),
    ("6011111111111117", "discover", "credit", "US", "pm_card_discover"),
    ("6011000990139424", "discover", "credit", "US", ""),
    ("3056930009020004", "diners", "credit", "US", "pm_card_diners"),
    ("36227206271667", "diners", "credit", "US", ""),
    ("3566002020360505", "jcb", "credit", "JP", "pm_card_jcb"),
    ("6200000000000005", "unionpay", "credit", "CN", "pm_card_unionpay"),
    ("4000000400000008", "visa", "credit", "AT", "pm_card_at"),
    ("4000000560000004", "visa", "credit", "BE", "pm_card_be"),
    ("4000002760000016", "visa", "credit", "DE", "pm_card_de"),
    ("4000002500000003", "visa", "credit", "FR", "pm_card_fr"),
    ("4000003800000008", "visa", "credit", "IT", "pm_card_it"),
    ("4000005280000002", "visa", "credit", "NL", "pm_card_nl"),
    ("4000007240000007", "visa", "credit", "ES", "pm_card_es"),
    ("4000008260000000", "visa", "credit", "GB", "pm_card_gb"),
    ("4000007560000009", "visa", "credit", "CH", "pm_card_ch"),
)

_BY_OUTCOME = (
    ("4000000000000002", GENERIC, "pm_card_chargeDeclined pm_card_visa_chargeDeclined"),
    (
        "4000000000009995",
        INSUFFICIENT_FUNDS,
        "pm_card_chargeDeclinedInsufficientFunds pm_card_visa_chargeDeclinedInsufficientFunds",
    ),
    ("4000000000009987", LOST, "pm_card_visa_chargeDeclinedLostCard"),
    ("4000000000009979", STOLEN, "pm_card_visa_chargeDeclinedStolenCard"),
    ("4000000000000069", EXPIRED, "pm_card_chargeDeclinedExpiredCard"),
    ("4000000000000127", INCORRECT_CVC, "pm_card_chargeDeclinedIncorrectCvc"),
    ("4000000000000119", PROCESSING_ERROR, "pm_card_chargeDeclinedProcessingError"),
    ("4000000000006975", VELOCITY, "pm_card_visa_chargeDeclinedVelocityLimitExceeded"),
    ("4100000000000019", BLOCKED, "pm_card_radarBlock"),
)

_BY_REFUND = (
    ("4000000000007726", "pending", "pm_card_pendingRefund"),
    ("4000000000005126", "fails_later", "pm_card_refundFail"),
)

_BY_AUTHENTICATION = (
    ("4000002500003155", None, "pm_card_authenticationRequiredOnSetup"),
    ("4000002760003184", None, "pm_card_authenticationRequired"),
    ("4000000000003220", None, "pm_card_threeDSecure2Required"),
    ("4000008260003178", INSUFFICIENT_FUNDS, "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds"),
    ("4000008400001629", GENERIC, "pm_card_threeDSecureRequiredChargeDeclined"),
)

CARDS: dict[str, TestCard] = {
    **{number: TestCard(number, brand, funding, country) for number, brand, funding, country, _ in _BY_BRAND},
    **{number: TestCard(number, decline=decline) for number, decline, _ in _BY_OUTCOME},
    **{
        number: TestCard(number, decline=decline, authentication="required")
        for number, decline, _ in _BY_AUTHENTICATION
    },
    **{number: TestCard(number, refund=refund) for number, refund, _ in _BY_REFUND},
    "4000000000003055": TestCard("4000000000003055"),
    "378282246310005": TestCard("378282246310005", "amex", authentication="unsupported"),
}

TOKENS: dict[str, TestCard] = {
    token: CARDS[row[0]]
    for table in (_BY_BRAND, _BY_OUTCOME, _BY_REFUND, _BY_AUTHENTICATION)
    for row in table
    for token in row[-1].split()
} | {"pm_card_threeDSecureOptional": CARDS["4000000000003055"]}


def look_up(number: str) -> TestCard:
    return CARDS.get(number) or TestCard(number, brand=brand_of(number), decline=LIVE_CARD)


def brand_of(number: str) -> str:
    if number.startswith("4"):
        return "visa"
    if number[:2] in ("34", "37"):
        return "amex"
    if "51" <= number[:2] <= "55" or "2221" <= number[:4] <= "2720":
        return "mastercard"
    if number[:2] in ("60", "64", "65"):
        return "discover"
    if number[:2] in ("30", "36", "38", "39"):
        return "diners"
    if number[:2] == "35":
        return "jcb"
    if number[:2] == "62":
        return "unionpay"
    return "unknown"


def check(card: dict[str, Any], *, year: int, month: int) -> str:
    """The card's digits, or Stripe's complaint about what was typed."""
    number = "".join(character for character in card["number"] if character not in " -")
    if not number.isdigit() or not 12 <= len(number) <= 19 or not _luhn(number):
        raise _typed("Your card number is incorrect.", "incorrect_number", "number")
    if not 1 <= card["exp_month"] <= 12:
        raise _typed("Your card's expiration month is invalid.", "invalid_expiry_month", "exp_month")
    expiry_year = full_year(card["exp_year"])
    if expiry_year < year or expiry_year > year + 50:
        raise _typed("Your card's expiration year is invalid.", "invalid_expiry_year", "exp_year")
    if (expiry_year, card["exp_month"]) < (year, month):
        raise _typed("Your card's expiration month is invalid.", "invalid_expiry_month", "exp_month")
    cvc = card.get("cvc")
    if cvc is not None and not (cvc.isdigit() and len(cvc) in ((4, 3) if brand_of(number) == "amex" else (3,))):
        raise _typed("Your card's security code is invalid.", "invalid_cvc", "cvc")
    return number


def full_year(year: int) -> int:
    return 2000 + year if 0 <= year < 100 else year


def fingerprint(number: str) -> str:
    """The same card always has the same fingerprint, and it does not give the number away."""
    return hashlib.blake2b(number.encode(), digest_size=8).hexdigest()


def _luhn(number: str) -> bool:
    total = 0
    for position, digit in enumerate(reversed(number)):
        value = int(digit) * (2 if position % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _typed(message: str, code: str, param: str) -> StripeError:
    return card_error(message, code=code, param=param)
