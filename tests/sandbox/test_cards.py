"""Stripe's test cards, from docs.stripe.com/testing."""

from __future__ import annotations

import pytest
import requests
import stripe

from tests.stripe_sandbox.process import Control, SandboxProcess

from .contract import Contract

OUTCOMES = {
    "4242424242424242": ("succeeded", None, None),
    "5555555555554444": ("succeeded", None, None),
    "378282246310005": ("succeeded", None, None),
    "4000000000000002": ("requires_payment_method", "card_declined", "generic_decline"),
    "4000000000009995": ("requires_payment_method", "card_declined", "insufficient_funds"),
    "4000000000009987": ("requires_payment_method", "card_declined", "lost_card"),
    "4000000000009979": ("requires_payment_method", "card_declined", "stolen_card"),
    "4000000000006975": ("requires_payment_method", "card_declined", "card_velocity_exceeded"),
    "4100000000000019": ("requires_payment_method", "card_declined", "fraudulent"),
    "4000000000000069": ("requires_payment_method", "expired_card", None),
    "4000000000000127": ("requires_payment_method", "incorrect_cvc", None),
    "4000000000000119": ("requires_payment_method", "processing_error", None),
    "4012888888881881": ("requires_payment_method", "card_declined", "test_mode_live_card"),
    "4000002500003155": ("requires_action", None, None),
    "4000002760003184": ("requires_action", None, None),
    "4000000000003220": ("requires_action", None, None),
    "4000008400001629": ("requires_action", None, None),
}
MISTYPED = {
    "number": ("4242424242424241", 12, 2034, "123", "incorrect_number"),
    "letters": ("4242 abcd", 12, 2034, "123", "incorrect_number"),
    "month": ("4242424242424242", 13, 2034, "123", "invalid_expiry_month"),
    "year": ("4242424242424242", 12, 2020, "123", "invalid_expiry_year"),
    "cvc": ("4242424242424242", 12, 2034, "12", "invalid_cvc"),
    "amex cvc": ("378282246310005", 12, 2034, "12345", "invalid_cvc"),
}


@pytest.mark.parametrize("number", OUTCOMES)
def test_what_a_card_does(number: str, api: stripe.StripeClient, control: Control) -> None:
    status, code, decline_code = OUTCOMES[number]
    intent = api.v1.payment_intents.create({"amount": 4200, "currency": "eur"})
    control.pay(intent.id, number, complete=None)
    now = api.v1.payment_intents.retrieve(intent.id, {"expand": ["latest_charge"]}).to_dict()
    error = now["last_payment_error"] or {}
    assert (now["status"], error.get("code"), error.get("decline_code")) == (status, code, decline_code)
    if code:
        assert now["latest_charge"]["status"] == "failed"
        assert now["latest_charge"]["failure_code"] == code
        assert error["payment_method"]["card"]["last4"] == number[-4:]


@pytest.mark.parametrize("name", MISTYPED)
def test_a_mistyped_card(name: str, sandbox: SandboxProcess, contract: Contract) -> None:
    number, month, year, cvc, code = MISTYPED[name]
    answer = _tokenise(sandbox, number, month, year, cvc)
    assert (answer.status_code, answer.json()["error"]["code"]) == (402, code)
    assert answer.json()["error"]["type"] == "card_error"
    contract.check_object("error", answer.json())


def test_a_card_expires_with_the_virtual_clock(sandbox: SandboxProcess, control: Control) -> None:
    assert _tokenise(sandbox, "4242424242424242", 12, 2034, "123").status_code == 200
    control.advance(20 * 366 * 24 * 3600)
    assert _tokenise(sandbox, "4242424242424242", 12, 2034, "123").json()["error"]["code"] == "invalid_expiry_year"


def test_a_tokenised_card_shows_only_its_end(sandbox: SandboxProcess, contract: Contract) -> None:
    made = _tokenise(sandbox, "4000 0000 0000 9995", 12, 34, "123").json()
    contract.check_object("payment_method", made)
    assert made["card"]["last4"] == "9995" and made["card"]["exp_year"] == 2034
    assert "400000" not in str(made)


def _tokenise(sandbox: SandboxProcess, number: str, month: int, year: int, cvc: str) -> requests.Response:
    typed = {
        "type": "card",
        "card[number]": number,
        "card[exp_month]": str(month),
        "card[exp_year]": str(year),
        "card[cvc]": cvc,
    }
    headers = {"Authorization": f"Bearer {sandbox.publishable_key}"}
    return requests.post(f"{sandbox.api_base}/v1/payment_methods", data=typed, headers=headers, timeout=5)
