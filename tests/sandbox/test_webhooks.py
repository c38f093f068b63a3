from __future__ import annotations

import time

import pytest
import stripe

from tests.stripe_sandbox.process import Control

from .conftest import WEBHOOK_SECRET
from .contract import Contract
from .receiver import Received, Receiver

PAID = ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded"]


def _paid(api: stripe.StripeClient, control: Control, card: str = "pm_card_visa") -> str:
    intent = api.v1.payment_intents.create(
        {"amount": 4200, "currency": "eur"}, {"idempotency_key": f"k{time.time_ns()}"}
    )
    control.pay(intent.id, card)
    return intent.id


def _verify(received: Received, secret: str = WEBHOOK_SECRET) -> stripe.Event:
    return stripe.Webhook.construct_event(received.body, received.signature, secret)


def test_a_payment_is_told_signed_and_as_stripe_describes_it(
    api: stripe.StripeClient, control: Control, receiver: Receiver, contract: Contract
) -> None:
    intent = _paid(api, control)
    receiver.wait_for(lambda seen: len(seen.received) == 3)
    assert sorted(receiver.types) == sorted(PAID)
    for received in receiver.received:
        assert _verify(received).id == received.event["id"]
        contract.check_event(received.event)
        assert received.event["livemode"] is False
        assert received.event["api_version"] == "2026-05-27.dahlia"
    created = next(one.event for one in receiver.received if one.event["type"] == "payment_intent.created")
    assert created["request"]["id"].startswith("req_") and created["request"]["idempotency_key"].startswith("k")
    assert created["data"]["object"]["status"] == "requires_payment_method", "as it was, not as it is"
    assert created["data"]["object"]["id"] == intent


@pytest.mark.parametrize(
    ("card", "complete", "expected"),
    [
        ("pm_card_chargeDeclined", None, ["charge.failed", "payment_intent.payment_failed"]),
        ("pm_card_authenticationRequired", None, ["payment_intent.requires_action"]),
        (
            "pm_card_authenticationRequired",
            True,
            ["payment_intent.requires_action", "charge.succeeded", "payment_intent.succeeded"],
        ),
        ("pm_card_authenticationRequired", False, ["payment_intent.requires_action", "payment_intent.payment_failed"]),
    ],
)
def test_events_in_their_order(
    card: str,
    complete: bool | None,
    expected: list[str],
    api: stripe.StripeClient,
    control: Control,
    contract: Contract,
) -> None:
    intent = api.v1.payment_intents.create({"amount": 4200, "currency": "eur"})
    control.pay(intent.id, card, complete=complete)
    listed = api.v1.events.list({"limit": 50}).data
    assert [event.type for event in reversed(listed)] == ["payment_intent.created", *expected]
    for event in listed:
        contract.check_event(event.to_dict())


def test_debit_and_cancel_events(api: stripe.StripeClient, control: Control, contract: Contract) -> None:
    intent = api.v1.payment_intents.create(
        {"amount": 4200, "currency": "eur", "payment_method_types": ["sepa_debit", "card"]}
    )
    control.pay(intent.id, "pm_success_de")
    control.settle(intent.id)
    other = api.v1.payment_intents.create({"amount": 4200, "currency": "eur"})
    api.v1.payment_intents.cancel(other.id)
    events = control.events()
    assert [event["type"] for event in reversed(events)] == [
        "payment_intent.created",
        "payment_intent.processing",
        "charge.pending",
        "charge.succeeded",
        "payment_intent.succeeded",
        "payment_intent.created",
        "payment_intent.canceled",
    ]
    for event in api.v1.events.list({"limit": 50}).data:
        contract.check_event(event.to_dict())


def test_filtering_events(api: stripe.StripeClient, control: Control) -> None:
    _paid(api, control)
    assert [event.type for event in api.v1.events.list({"type": "charge.*"}).data] == ["charge.succeeded"]
    wanted = ["payment_intent.succeeded", "payment_intent.created"]
    assert [event.type for event in api.v1.events.list({"types": wanted}).data] == wanted
    control.advance(31 * 24 * 3600)
    assert api.v1.events.list().data == [], "Stripe lists 30 days"


def test_a_refused_delivery_is_repeated_until_accepted(
    api: stripe.StripeClient, control: Control, receiver: Receiver
) -> None:
    receiver.answers[:] = [500, 404, 302]
    intent = api.v1.payment_intents.create({"amount": 4200, "currency": "eur"})
    receiver.wait_for(lambda seen: len(seen.received) == 4)
    control.wait_for_webhooks()
    assert len({one.event["id"] for one in receiver.received}) == 1
    [event] = control.events(subject=intent.id)
    [delivery] = event["deliveries"]
    assert [attempt["status"] for attempt in delivery["attempts"]] == [500, 404, 302, 200]
    assert delivery["state"] == "delivered"
    assert api.v1.events.retrieve(event["id"]).pending_webhooks == 0


def test_a_silent_receiver_times_out_and_is_tried_again(
    api: stripe.StripeClient, control: Control, receiver: Receiver
) -> None:
    receiver.pause_seconds = 1.3
    api.v1.payment_intents.create({"amount": 4200, "currency": "eur"})
    receiver.wait_for(lambda seen: len(seen.received) >= 1)
    receiver.pause_seconds = 0.0
    receiver.wait_for(lambda seen: len(seen.received) >= 2)
    control.wait_for_webhooks()
    [delivery] = control.deliveries()
    assert "Timed out" in delivery["attempts"][0]["error"] and delivery["state"] == "delivered"


def test_after_three_days_it_gives_up(api: stripe.StripeClient, control: Control) -> None:
    control.set_webhook("http://127.0.0.1:9/", "whsec_x")
    api.v1.payment_intents.create({"amount": 4200, "currency": "eur"})
    control.advance(3 * 24 * 3600)
    for _ in range(50):
        [delivery] = control.deliveries()
        if delivery["state"] == "failed":
            break
        time.sleep(0.1)
    assert delivery["state"] == "failed" and delivery["attempts"][-1]["error"]


def test_deliveries_are_bounded(api: stripe.StripeClient, control: Control, receiver: Receiver) -> None:
    receiver.pause_seconds = 0.1
    for _ in range(20):
        api.v1.payment_intents.create({"amount": 4200, "currency": "eur"})
    receiver.wait_for(lambda seen: len(seen.received) == 20)
    assert 1 < receiver.busiest <= 8


def test_resending_many_copies_at_once(api: stripe.StripeClient, control: Control, receiver: Receiver) -> None:
    api.v1.payment_intents.create({"amount": 4200, "currency": "eur"})
    receiver.wait_for(lambda seen: len(seen.received) == 1)
    event = receiver.received[0].event["id"]
    control.resend(event, copies=5)
    receiver.wait_for(lambda seen: len(seen.received) == 6)
    assert {one.event["id"] for one in receiver.received} == {event}


def test_pausing_and_reordering(api: stripe.StripeClient, control: Control, receiver: Receiver) -> None:
    control.pause_webhooks()
    control.set_webhook(receiver.url, WEBHOOK_SECRET)
    _paid(api, control)
    time.sleep(0.2)
    assert receiver.received == []
    receiver.pause_seconds = 0.05
    control.resume_webhooks(order="reverse")
    receiver.wait_for(lambda seen: len(seen.received) == 3)
    assert receiver.types[0] in PAID[::-1][:2], "the newest go first; concurrency may swap neighbours"


def test_dropped_doubled_delayed_and_wrongly_signed(
    api: stripe.StripeClient, control: Control, receiver: Receiver
) -> None:
    control.disrupt_webhooks("drop", event_type="charge.*")
    control.disrupt_webhooks("duplicate", event_type="payment_intent.created", copies=3)
    control.disrupt_webhooks("wrong_signature", event_type="payment_intent.succeeded")
    intent = _paid(api, control)
    receiver.wait_for(lambda seen: len(seen.received) == 4)
    control.wait_for_webhooks()
    assert sorted(receiver.types) == ["payment_intent.created"] * 3 + ["payment_intent.succeeded"]
    forged = next(one for one in receiver.received if one.event["type"] == "payment_intent.succeeded")
    with pytest.raises(stripe.SignatureVerificationError):
        _verify(forged)
    charge = next(event for event in control.events(subject=intent) if event["type"] == "charge.succeeded")
    assert [delivery["state"] for delivery in charge["deliveries"]] == ["dropped"]
    control.disrupt_webhooks("delay", seconds=3600)
    receiver.clear()
    api.v1.payment_intents.create({"amount": 4200, "currency": "eur"})
    time.sleep(0.2)
    assert receiver.received == []
    control.advance(3601)
    receiver.wait_for(lambda seen: len(seen.received) == 1)


def test_rolling_a_secret_signs_with_both(api: stripe.StripeClient, control: Control, receiver: Receiver) -> None:
    control.set_webhook(receiver.url, "whsec_new", WEBHOOK_SECRET)
    api.v1.payment_intents.create({"amount": 4200, "currency": "eur"})
    receiver.wait_for(lambda seen: len(seen.received) == 1)
    assert receiver.received[0].signature.count("v1=") == 2
    for secret in ("whsec_new", WEBHOOK_SECRET):
        assert _verify(receiver.received[0], secret)


def test_two_endpoints_and_another_api_version(api: stripe.StripeClient, control: Control, receiver: Receiver) -> None:
    control.set_webhook(
        receiver.url, "whsec_b", endpoint="we_b", api_version="2020-08-27", enabled_events=["payment_intent.succeeded"]
    )
    try:
        _paid(api, control)
        receiver.wait_for(lambda seen: len(seen.received) == 4)
        versions = {one.event["api_version"] for one in receiver.received}
        assert versions == {"2026-05-27.dahlia", "2020-08-27"}
    finally:
        control.set_webhook(None, endpoint="we_b")
