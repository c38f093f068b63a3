"""Refunds over the API, from the dashboard, and what the bank makes of them."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from tests.stripe_sandbox.process import Control, ControlError

from .contract import Contract


def _paid(api: stripe.StripeClient, card: str = "pm_card_visa") -> str:
    return api.v1.payment_intents.create(
        {
            "amount": 4200,
            "currency": "eur",
            "payment_method_types": ["card"],
            "payment_method": card,
            "confirm": True,
        }
    ).id


def _typed(api: stripe.StripeClient, control: Control, card: str) -> str:
    """A card number can only come from a browser."""
    intent = api.v1.payment_intents.create({"amount": 4200, "currency": "eur"}).id
    control.pay(intent, card)
    return intent


def _charge(api: stripe.StripeClient, intent: str) -> stripe.Charge:
    return api.v1.charges.list({"payment_intent": intent}).data[0]


def _told(api: stripe.StripeClient, contract: Contract) -> list[tuple[str, dict[str, Any]]]:
    """What became known after the payment, oldest first, each as Stripe describes it."""
    events = [event.to_dict() for event in reversed(api.v1.events.list({"limit": 50}).data)]
    for event in events:
        contract.check_event(event)
    return [(event["type"], event["data"]) for event in events[3:]]


@pytest.mark.live
def test_what_is_left_is_given_back_when_no_amount_is_named(api: stripe.StripeClient) -> None:
    intent = _paid(api)
    first = api.v1.refunds.create(
        {"payment_intent": intent, "amount": 1200, "reason": "requested_by_customer", "metadata": {"order": "A1"}}
    )
    assert (first.status, first.amount, first.currency, first.payment_intent) == ("succeeded", 1200, "eur", intent)
    assert (first.reason, first.metadata and first.metadata.to_dict()) == ("requested_by_customer", {"order": "A1"})
    assert (_charge(api, intent).amount_refunded, _charge(api, intent).refunded) == (1200, False)
    rest = api.v1.refunds.create({"charge": _charge(api, intent).id, "expand": ["charge", "balance_transaction"]})
    assert rest.amount == 3000
    assert isinstance(rest.charge, stripe.Charge) and rest.charge.refunded and rest.charge.amount_refunded == 4200
    assert isinstance(rest.balance_transaction, stripe.BalanceTransaction) and rest.balance_transaction.net == -3000


def test_the_ledger_knows_what_was_given_back(api: stripe.StripeClient, control: Control) -> None:
    refund = api.v1.refunds.create({"payment_intent": _paid(api), "amount": 1200, "metadata": {"order": "A1"}})
    ledger = control.ledger()
    assert ledger["totals"]["eur"] == {"received": 4200, "refunded": 1200, "net": 3000, "succeeded": 1}
    [line] = ledger["refunds"]
    assert (line["id"], line["payment_intent"], line["amount"]) == (refund.id, refund.payment_intent, 1200)
    assert (line["status"], line["metadata"]) == ("succeeded", {"order": "A1"})


@pytest.mark.live
def test_reading_changing_and_listing(api: stripe.StripeClient) -> None:
    intent, other = _paid(api), _paid(api)
    ids = [api.v1.refunds.create({"payment_intent": intent, "amount": 100}).id for _ in range(3)][::-1]
    foreign = api.v1.refunds.create({"payment_intent": other}).id
    api.v1.refunds.update(ids[0], {"metadata": {"request": "7"}})
    assert api.v1.refunds.retrieve(ids[0]).to_dict()["metadata"] == {"request": "7"}
    page = api.v1.refunds.list({"payment_intent": intent, "limit": 2})
    assert [refund.id for refund in page.data] == ids[:2] and page.has_more
    assert [refund.id for refund in page.auto_paging_iter()] == ids
    assert [refund.id for refund in api.v1.refunds.list({"charge": _charge(api, other).id}).data] == [foreign]
    long_past = {"payment_intent": intent, "created": {"lt": 1_500_000_000}}
    assert api.v1.refunds.list(long_past).data == []  # type: ignore[arg-type]


def test_more_than_is_left_is_refused(api: stripe.StripeClient, lenient: stripe.StripeClient, control: Control) -> None:
    intent = _paid(api)
    api.v1.refunds.create({"payment_intent": intent, "amount": 4000})
    for amount in (201, 0, -5):
        with pytest.raises(stripe.InvalidRequestError) as refusal:
            lenient.v1.refunds.create({"payment_intent": intent, "amount": amount})
        assert refusal.value.param == "amount"
    assert control.ledger()["totals"]["eur"]["refunded"] == 4000


@pytest.mark.live
def test_one_cent_more_than_is_left(api: stripe.StripeClient) -> None:
    intent = _paid(api)
    api.v1.refunds.create({"payment_intent": intent, "amount": 4000})
    with pytest.raises(stripe.InvalidRequestError, match=r"2\.01\) is greater than unrefunded .*2\.00\)") as refusal:
        api.v1.refunds.create({"payment_intent": intent, "amount": 201})
    assert refusal.value.param == "amount"


@pytest.mark.live
def test_a_charge_is_given_back_once(api: stripe.StripeClient) -> None:
    intent = _paid(api)
    api.v1.refunds.create({"payment_intent": intent})
    with pytest.raises(stripe.InvalidRequestError, match="has already been refunded") as refusal:
        api.v1.refunds.create({"payment_intent": intent})
    assert refusal.value.code == "charge_already_refunded"


@pytest.mark.live
def test_the_same_key_refunds_once(api: stripe.StripeClient) -> None:
    intent = _paid(api)
    key: stripe.RequestOptions = {"idempotency_key": f"refund:{intent}"}
    made = [api.v1.refunds.create({"payment_intent": intent, "amount": 500}, key).id for _ in range(3)]
    assert len(set(made)) == 1
    assert [refund.id for refund in api.v1.refunds.list({"payment_intent": intent}).data] == made[:1]


@pytest.mark.live
def test_nothing_to_refund(api: stripe.StripeClient) -> None:
    unpaid = api.v1.payment_intents.create({"amount": 4200, "currency": "eur"}).id
    with pytest.raises(stripe.InvalidRequestError, match="does not have a successful charge to refund"):
        api.v1.refunds.create({"payment_intent": unpaid})
    for unknown in ({"payment_intent": "pi_no"}, {"charge": "ch_no"}):
        with pytest.raises(stripe.InvalidRequestError) as refusal:
            api.v1.refunds.create(unknown)  # type: ignore[arg-type]
        assert refusal.value.code == "resource_missing"


def test_a_declined_charge_has_nothing_to_refund(api: stripe.StripeClient, control: Control) -> None:
    intent = api.v1.payment_intents.create({"amount": 4200, "currency": "eur"}).id
    control.pay(intent, "pm_card_chargeDeclined")
    with pytest.raises(stripe.InvalidRequestError, match="does not have a successful charge to refund"):
        api.v1.refunds.create({"charge": _charge(api, intent).id})
    assert control.refunds() == []


def test_a_refund_names_one_payment(api: stripe.StripeClient, lenient: stripe.StripeClient) -> None:
    paid = _paid(api)
    for params in ({}, {"charge": _charge(api, paid).id, "payment_intent": paid}):
        with pytest.raises(stripe.InvalidRequestError, match="these parameters: charge, payment_intent"):
            lenient.v1.refunds.create(params)  # type: ignore[arg-type]


def test_a_refund_is_told_by_two_events(api: stripe.StripeClient, contract: Contract) -> None:
    refund = api.v1.refunds.create({"payment_intent": _paid(api), "amount": 200})
    (created, about_refund), (refunded, about_charge) = _told(api, contract)
    assert (created, refunded) == ("refund.created", "charge.refunded")
    assert (about_refund["object"]["id"], about_refund["object"]["status"]) == (refund.id, "succeeded")
    assert about_charge["previous_attributes"] == {"amount_refunded": 0}
    assert (about_charge["object"]["amount_refunded"], about_charge["object"]["refunded"]) == (200, False)


@pytest.mark.live
@pytest.mark.parametrize(
    ("card", "status"), [("pm_card_pendingRefund", "pending"), ("pm_card_refundFail", "succeeded")]
)
def test_how_refunds_of_the_test_cards_begin(card: str, status: str, api: stripe.StripeClient) -> None:
    refund = api.v1.refunds.create({"payment_intent": _paid(api, card)})
    assert refund.status == status


@pytest.mark.parametrize("card", ["pm_card_pendingRefund", "4000000000007726"])
def test_the_slow_card_is_refunded_after_a_while(
    card: str, api: stripe.StripeClient, control: Control, contract: Contract
) -> None:
    control.set_refund_seconds(3600)
    refund = api.v1.refunds.create({"payment_intent": _typed(api, control, card)})
    assert (refund.status, refund.pending_reason) == ("pending", "processing")
    control.advance(3601)
    assert api.v1.refunds.retrieve(refund.id).status == "succeeded"
    updates = _told(api, contract)[2:]
    assert [name for name, _ in updates] == ["refund.updated", "charge.refund.updated"]
    assert updates[0][1]["previous_attributes"] == {"pending_reason": "processing", "status": "pending"}


@pytest.mark.parametrize("card", ["pm_card_refundFail", "4000000000005126"])
def test_the_closed_card_sends_its_refund_back(
    card: str, api: stripe.StripeClient, control: Control, contract: Contract
) -> None:
    """It succeeds at first; when it fails, the charge is as unrefunded as before and can be refunded again."""
    control.set_refund_seconds(3600)
    intent = _typed(api, control, card)
    refund = api.v1.refunds.create({"payment_intent": intent})
    assert refund.status == "succeeded" and _charge(api, intent).refunded
    control.advance(3601)
    failed = api.v1.refunds.retrieve(refund.id, {"expand": ["failure_balance_transaction"]})
    assert (failed.status, failed.failure_reason) == ("failed", "expired_or_canceled_card")
    assert isinstance(failed.failure_balance_transaction, stripe.BalanceTransaction)
    assert failed.failure_balance_transaction.amount == 4200
    assert (_charge(api, intent).amount_refunded, _charge(api, intent).refunded) == (0, False)
    assert [name for name, _ in _told(api, contract)[2:]] == [
        "refund.updated", "charge.refund.updated", "refund.failed",
    ]  # fmt: skip
    assert control.ledger()["totals"]["eur"]["refunded"] == 0
    assert api.v1.refunds.create({"payment_intent": intent}).amount == 4200


def test_refunds_wait_for_money_in_the_balance(api: stripe.StripeClient, control: Control) -> None:
    control.set_balance(sufficient=False)
    intent = _paid(api)
    refund = api.v1.refunds.create({"payment_intent": intent})
    assert (refund.status, refund.pending_reason, refund.balance_transaction) == ("pending", "insufficient_funds", None)
    with pytest.raises(stripe.InvalidRequestError, match="already been refunded"):
        api.v1.refunds.create({"payment_intent": intent})
    control.set_balance(sufficient=True)
    paid = api.v1.refunds.retrieve(refund.id)
    assert paid.status == "succeeded" and paid.balance_transaction


def test_deciding_what_becomes_of_a_refund(api: stripe.StripeClient, control: Control, contract: Contract) -> None:
    control.set_balance(sufficient=False)
    intent = _paid(api)
    pending = [api.v1.refunds.create({"payment_intent": intent, "amount": 1000}).id for _ in range(3)]
    control.finish_refund(pending[0])
    control.fail_refund(pending[1], "lost_or_stolen_card")
    control.finish_refund(pending[2], "canceled")
    assert [api.v1.refunds.retrieve(refund).status for refund in pending] == ["succeeded", "failed", "canceled"]
    assert api.v1.refunds.retrieve(pending[1]).failure_reason == "lost_or_stolen_card"
    control.fail_refund(pending[0])
    assert _charge(api, intent).amount_refunded == 0
    assert [line["status"] for line in control.ledger()["refunds"]] == ["failed", "failed", "canceled"]
    with pytest.raises(ControlError, match="cannot become succeeded"):
        control.finish_refund(pending[0])
    assert len(_told(api, contract)) == 3 * 2 + 2 + 3 + 2 + 3


def test_a_refund_from_the_dashboard_arrives_by_event_only(
    api: stripe.StripeClient, control: Control, contract: Contract
) -> None:
    intent = _paid(api)
    control.clear_requests()
    part = control.refund_from_dashboard(intent, 1234)
    rest = control.refund_from_dashboard(intent, reason="duplicate")
    assert (part["amount"], rest["amount"], rest["reason"]) == (1234, 4200 - 1234, "duplicate")
    assert control.requests() == []
    listed = api.v1.events.list({"type": "refund.created"}).data
    assert [event.to_dict()["data"]["object"]["id"] for event in listed] == [rest["id"], part["id"]]
    with pytest.raises(ControlError, match="already been refunded"):
        control.refund_from_dashboard(intent)


def test_a_bank_debit_is_refunded_too(api: stripe.StripeClient, control: Control, contract: Contract) -> None:
    intent = api.v1.payment_intents.create({"amount": 900, "currency": "eur", "payment_method_types": ["sepa_debit"]})
    control.pay(intent.id, "pm_success_de")
    control.settle(intent.id)
    refund = api.v1.refunds.create({"payment_intent": intent.id, "expand": ["balance_transaction"]})
    assert refund.id.startswith("pyr_") and refund.status == "succeeded"
    assert isinstance(refund.balance_transaction, stripe.BalanceTransaction)
    assert refund.balance_transaction.type == "payment_refund"


def test_a_payment_shows_its_refunds(api: stripe.StripeClient, control: Control) -> None:
    intent = _paid(api)
    refund = api.v1.refunds.create({"payment_intent": intent, "amount": 300})
    found = control.payment(intent)
    assert [line["id"] for line in found["refunds"]] == [refund.id]
    assert [event["type"] for event in found["events"]][:2] == ["charge.refunded", "refund.created"]
