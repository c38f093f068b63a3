"""Balance transactions: what a bookkeeper compares the office's books with."""

from __future__ import annotations

import pytest
import stripe

from tests.stripe_sandbox.process import Control


def _paid(api: stripe.StripeClient, control: Control, amount: int = 4200) -> str:
    intent = api.v1.payment_intents.create({"amount": amount, "currency": "eur"}).id
    control.pay(intent)
    return intent


def test_a_charge_books_its_amount_and_its_fee(api: stripe.StripeClient, control: Control) -> None:
    _paid(api, control)
    charge = api.v1.charges.list({"expand": ["data.balance_transaction"]}).data[0]
    booked = charge.balance_transaction
    assert isinstance(booked, stripe.BalanceTransaction)
    assert (booked.type, booked.amount, booked.fee, booked.net) == ("charge", 4200, 152, 4048)
    assert [(part.type, part.amount) for part in booked.fee_details] == [("stripe_fee", 152)]
    assert booked.source == charge.id
    source = api.v1.balance_transactions.retrieve(booked.id, {"expand": ["source"]}).source
    assert isinstance(source, stripe.Charge) and source.id == charge.id


def test_a_refund_and_its_failure_are_booked(api: stripe.StripeClient, control: Control) -> None:
    intent = _paid(api, control)
    refund = api.v1.refunds.create({"payment_intent": intent, "amount": 1000})
    control.fail_refund(refund.id)
    booked = api.v1.balance_transactions.list({"source": refund.id}).data
    assert [(line.type, line.amount, line.fee) for line in booked] == [
        ("refund_failure", 1000, 0),
        ("refund", -1000, 0),
    ]


def test_a_declined_charge_books_nothing(api: stripe.StripeClient, control: Control) -> None:
    intent = api.v1.payment_intents.create({"amount": 4200, "currency": "eur"}).id
    control.pay(intent, "pm_card_chargeDeclined")
    assert api.v1.balance_transactions.list().data == []
    assert api.v1.charges.list({"payment_intent": intent}).data[0].balance_transaction is None


def test_narrowing_and_the_sum_of_it_all(api: stripe.StripeClient, control: Control) -> None:
    old = _paid(api, control, 900)
    control.advance(3600)
    cut = control.now() - 1800
    api.v1.refunds.create({"payment_intent": old})
    _paid(api, control, 5000)
    every = api.v1.balance_transactions.list({"limit": 100}).data
    assert [line.amount for line in every] == [5000, -900, 900]
    assert [line.amount for line in api.v1.balance_transactions.list({"type": "refund"}).data] == [-900]
    assert [line.amount for line in api.v1.balance_transactions.list({"created": {"lt": cut}}).data] == [900]
    assert [part.amount for part in api.v1.balance.retrieve().pending] == [sum(line.net for line in every)]


def test_a_tampered_charge_is_booked_as_tampered(api: stripe.StripeClient, control: Control) -> None:
    control.modify(_paid(api, control), amount=100)
    assert [line.amount for line in api.v1.balance_transactions.list().data] == [100]


def test_an_unknown_one_does_not_exist(api: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        api.v1.balance_transactions.retrieve("txn_no")
    assert (refusal.value.http_status, refusal.value.code) == (404, "resource_missing")
