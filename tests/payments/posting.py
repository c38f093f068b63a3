"""Stripe's part in this process: its real events, signed and posted to our address, one by one."""

import json
import time
from typing import Any

from django.test import Client

from payments import webhooks
from payments.models import Payment, WebhookEvent
from tests.stripe_sandbox import signatures
from tests.stripe_sandbox.process import SandboxProcess

SECRETS = ("whsec_of_the_tests", "whsec_the_next_one")
ADDRESS = "/webhooks/stripe/"


def events_of(sandbox: SandboxProcess, payment: Payment, event_type: str = "") -> list[dict[str, Any]]:
    """What Stripe has told about the payment so far, oldest first, as it would be sent."""
    found = sandbox.control.events(subject=payment.stripe_payment_intent_id or "", event_type=event_type)
    return [{name: value for name, value in event.items() if name != "deliveries"} for event in reversed(found)]


def post(client: Client, event: Any, *, secret: str = SECRETS[0], sent_at: float | None = None, **headers: str) -> Any:
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    signed = signatures.header(body, [secret], timestamp=int(time.time() if sent_at is None else sent_at))
    given = {"Stripe-Signature": signed} | headers
    return client.generic("POST", ADDRESS, body, content_type="application/json", headers=given)


def stored(event: dict[str, Any]) -> WebhookEvent:
    return WebhookEvent.objects.get(stripe_id=event["id"])


def deliver(client: Client, event: dict[str, Any]) -> WebhookEvent:
    """Posts the event and does what the worker would do with it."""
    answer = post(client, event)
    assert answer.status_code == 200, answer.content
    webhooks.process(stored(event).pk)
    return stored(event)


def made_up(**changes: Any) -> dict[str, Any]:
    """An event of a type and object of one's choice, in Stripe's form."""
    event = {
        "id": "evt_made_up",
        "object": "event",
        "api_version": "2026-05-27.dahlia",
        "created": int(time.time()),
        "livemode": False,
        "type": "payment_intent.succeeded",
        "data": {"object": {"id": "pi_nobody_knows", "object": "payment_intent"}},
    }
    return event | changes
