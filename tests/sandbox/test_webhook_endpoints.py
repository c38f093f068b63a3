"""Webhook endpoints made and changed over the API, and what the Dashboard does with their secrets."""

from __future__ import annotations

import pytest
import stripe

from tests.stripe_sandbox.process import Control, ControlError

from .conftest import WEBHOOK_SECRET
from .receiver import Received, Receiver


@pytest.fixture
def receiver(running_receiver: Receiver, control: Control) -> Receiver:
    """Nobody has told the account of it yet."""
    running_receiver.clear()
    return running_receiver


def _is_signed_with(received: Received, secret: str) -> bool:
    try:
        stripe.Webhook.construct_event(received.body, received.signature, secret)
    except stripe.SignatureVerificationError:
        return False
    return True


def _happen(api: stripe.StripeClient) -> str:
    return api.v1.payment_intents.create({"amount": 4200, "currency": "eur"}).id


def _next(receiver: Receiver, control: Control, api: stripe.StripeClient) -> Received:
    receiver.clear()
    _happen(api)
    receiver.wait_for(lambda seen: len(seen.received) == 1)
    control.wait_for_webhooks()
    return receiver.received[0]


def test_an_endpoint_gets_what_it_asked_for_signed_with_its_secret(
    api: stripe.StripeClient, control: Control, receiver: Receiver
) -> None:
    made = api.v1.webhook_endpoints.create(
        {
            "url": receiver.url,
            "enabled_events": ["charge.succeeded", "refund.created"],
            "api_version": "2026-05-27.dahlia",
            "description": "the office",
            "metadata": {"installation": "1"},
        }
    )
    assert made.status == "enabled" and made.secret and made.secret.startswith("whsec_")
    control.pay(_happen(api))
    receiver.wait_for(lambda seen: len(seen.received) == 1)
    control.wait_for_webhooks()
    assert receiver.types == ["charge.succeeded"]
    assert _is_signed_with(receiver.received[0], made.secret)


@pytest.mark.live
def test_the_secret_is_told_once(api: stripe.StripeClient) -> None:
    url = "https://tickets.example.org/webhooks/stripe/"
    made = api.v1.webhook_endpoints.create({"url": url, "enabled_events": ["*"]})
    for seen in (api.v1.webhook_endpoints.retrieve(made.id), api.v1.webhook_endpoints.list().data[0]):
        assert seen.id == made.id and "secret" not in seen.to_dict()
    changed = api.v1.webhook_endpoints.update(made.id, {"description": "other"})
    assert changed.description == "other" and "secret" not in changed.to_dict()
    assert api.v1.webhook_endpoints.delete(made.id).deleted


def test_switched_off_and_on_and_deleted(api: stripe.StripeClient, control: Control, receiver: Receiver) -> None:
    made = api.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["*"]})
    assert api.v1.webhook_endpoints.update(made.id, {"disabled": True}).status == "disabled"
    _happen(api)
    assert control.deliveries() == []
    api.v1.webhook_endpoints.update(made.id, {"disabled": False, "enabled_events": ["payment_intent.created"]})
    _next(receiver, control, api)
    assert api.v1.webhook_endpoints.delete(made.id).deleted
    assert api.v1.webhook_endpoints.list().data == []
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        api.v1.webhook_endpoints.retrieve(made.id)
    assert refusal.value.code == "resource_missing"
    receiver.clear()
    _happen(api)
    control.wait_for_webhooks()
    assert receiver.received == []


def test_an_endpoint_is_switched_off_by_stripe(api: stripe.StripeClient, control: Control, receiver: Receiver) -> None:
    control.set_webhook(receiver.url, WEBHOOK_SECRET)
    receiver.answers[:] = [500] * 100
    _happen(api)
    receiver.wait_for(lambda seen: len(seen.received) >= 1)
    control.disable_webhook()
    assert api.v1.webhook_endpoints.retrieve("we_default").status == "disabled"
    control.advance(3600)
    control.wait_for_webhooks()
    assert [delivery["state"] for delivery in control.deliveries()] == ["dropped"]
    api.v1.webhook_endpoints.update("we_default", {"disabled": False})
    control.resend(control.events()[0]["id"])
    receiver.answers.clear()
    receiver.wait_for(lambda seen: len(seen.received) >= 2)


def test_both_secrets_sign_while_one_is_rolled(api: stripe.StripeClient, control: Control, receiver: Receiver) -> None:
    made = api.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["*"]})
    old = str(made.secret)
    new = control.roll_secret(made.id, overlap_seconds=3600)
    meanwhile = _next(receiver, control, api)
    assert meanwhile.signature.count("v1=") == 2
    assert _is_signed_with(meanwhile, new) and _is_signed_with(meanwhile, old)
    control.advance(3601)
    after = _next(receiver, control, api)
    assert _is_signed_with(after, new) and not _is_signed_with(after, old)
    newest = control.roll_secret(made.id)
    at_once = _next(receiver, control, api)
    assert _is_signed_with(at_once, newest) and not _is_signed_with(at_once, new)
    with pytest.raises(ControlError, match="0 to 86400 seconds"):
        control.roll_secret(made.id, overlap_seconds=90_000)


def test_what_cannot_be_an_endpoint(lenient: stripe.StripeClient) -> None:
    for wrong in (
        {"url": "office", "enabled_events": ["*"]},
        {"url": "http://127.0.0.1:9/", "enabled_events": ["ticket.sold"]},
        {"url": "http://127.0.0.1:9/"},
    ):
        with pytest.raises(stripe.InvalidRequestError):
            lenient.v1.webhook_endpoints.create(wrong)  # type: ignore[arg-type]
    for _ in range(16):
        lenient.v1.webhook_endpoints.create({"url": "http://127.0.0.1:9/", "enabled_events": ["*"]})
    with pytest.raises(stripe.InvalidRequestError, match="maximum of 16"):
        lenient.v1.webhook_endpoints.create({"url": "http://127.0.0.1:9/", "enabled_events": ["*"]})


def test_endpoints_of_the_api_are_forgotten_with_the_account(api: stripe.StripeClient, control: Control) -> None:
    control.set_webhook("http://127.0.0.1:9/", WEBHOOK_SECRET)
    api.v1.webhook_endpoints.create({"url": "http://127.0.0.1:9/", "enabled_events": ["*"]})
    control.reset()
    assert [endpoint.id for endpoint in api.v1.webhook_endpoints.list().data] == ["we_default"]
