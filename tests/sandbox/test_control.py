from __future__ import annotations

import pytest
import requests
import stripe

from tests.stripe_sandbox.process import Control, ControlError, SandboxProcess

from .receiver import Receiver


def _new(api: stripe.StripeClient, amount: int = 4200, currency: str = "eur") -> str:
    return api.v1.payment_intents.create({"amount": amount, "currency": currency, "metadata": {"order": "A1"}}).id


def test_the_ledger_counts_only_money_that_came(api: stripe.StripeClient, control: Control) -> None:
    control.pay(_new(api))
    control.pay(_new(api, 900))
    control.pay(_new(api), "pm_card_chargeDeclined")
    control.pay(_new(api, 700, "usd"))
    _new(api)
    ledger = control.ledger()
    assert ledger["totals"]["eur"] == {"received": 5100, "refunded": 0, "net": 5100, "succeeded": 2}
    assert ledger["totals"]["usd"]["received"] == 700
    assert {line["metadata"]["order"] for line in ledger["payment_intents"]} == {"A1"}


def test_tampering_with_an_amount(api: stripe.StripeClient, control: Control) -> None:
    intent = _new(api)
    control.pay(intent)
    control.modify(intent, amount=1)
    seen = api.v1.payment_intents.retrieve(intent, {"expand": ["latest_charge"]})
    assert (seen.amount, seen.amount_received) == (1, 1)
    assert isinstance(seen.latest_charge, stripe.Charge) and seen.latest_charge.amount_captured == 1


def test_money_that_came_after_all(api: stripe.StripeClient, control: Control) -> None:
    """A canceled intent that has succeeded: impossible at Stripe, and what an office must survive all the same."""
    intent = _new(api)
    api.v1.payment_intents.cancel(intent)
    events = len(control.events())
    control.modify(intent, status="succeeded")
    seen = api.v1.payment_intents.retrieve(intent, {"expand": ["latest_charge"]})
    assert (seen.status, seen.amount_received) == ("succeeded", 4200)
    assert isinstance(seen.latest_charge, stripe.Charge) and seen.latest_charge.paid
    assert control.ledger()["totals"]["eur"]["received"] == 4200 and len(control.events()) == events
    assert api.v1.refunds.create({"payment_intent": intent}).amount == 4200
    with pytest.raises(ControlError, match="can only be made succeeded"):
        control.modify(intent, status="canceled")


def test_paying_what_cannot_be_paid_is_an_error(api: stripe.StripeClient, control: Control) -> None:
    intent = _new(api)
    control.pay(intent)
    with pytest.raises(ControlError, match="already succeeded"):
        control.pay(intent)


def test_one_payment_with_all_that_belongs_to_it(api: stripe.StripeClient, control: Control) -> None:
    intent = _new(api)
    control.pay(intent)
    found = control.payment(intent)
    assert found["payment_intent"]["status"] == "succeeded"
    assert [charge["status"] for charge in found["charges"]] == ["succeeded"]
    assert len(found["events"]) == 3


def test_time_only_moves_forward(control: Control) -> None:
    before = control.now()
    assert control.advance(3600) >= before + 3600
    with pytest.raises(ControlError, match="backwards"):
        control.advance(-1)


def test_the_request_log_counts_calls_and_hides_secrets(api: stripe.StripeClient, control: Control) -> None:
    intent = api.v1.payment_intents.create({"amount": 4200, "currency": "eur"}, {"idempotency_key": "order-1"})
    api.v1.payment_intents.retrieve(intent.id, {"client_secret": str(intent.client_secret)})
    log = control.requests()
    assert [(entry["method"], entry["status"], entry["idempotency_key"]) for entry in log] == [
        ("POST", 200, "order-1"),
        ("GET", 200, None),
    ]
    assert log[0]["params"] == {"amount": "4200", "currency": "eur"}
    assert str(intent.client_secret) not in str(log)
    assert len(control.requests(method="GET", path="/v1/payment_intents/")) == 1


def test_another_sites_page_cannot_steer(sandbox: SandboxProcess) -> None:
    url = f"{sandbox.control_url}reset"
    assert requests.post(url, data="{}", headers={"Content-Type": "text/plain"}, timeout=5).status_code == 415
    answer = requests.options(url, timeout=5)
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert answer.status_code >= 400


def test_reset_forgets_everything_but_the_endpoints(
    api: stripe.StripeClient, control: Control, receiver: Receiver
) -> None:
    intent = _new(api)
    control.add_fault("http_429", count=9)
    control.advance(1000)
    control.reset()
    assert control.ledger() == {"payment_intents": [], "refunds": [], "totals": {}}
    assert control.faults() == [] and control.requests() == []
    with pytest.raises(stripe.InvalidRequestError):
        api.v1.payment_intents.retrieve(intent)
    receiver.clear()
    _new(api)
    receiver.wait_for(lambda seen: seen.types == ["payment_intent.created"])
