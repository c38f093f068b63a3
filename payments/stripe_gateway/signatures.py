"""Is this webhook from Stripe? (docs.stripe.com/webhooks#verify-events)"""

import json
from typing import Any

import stripe
from django.conf import settings

from payments.stripe_gateway.errors import BadSignature, StaleSignature, UnreadableEvent

WEBHOOK_TOLERANCE_SECONDS = 300
LONGEST_ID = 255


def read_webhook(body: bytes, signature: str) -> dict[str, Any]:
    """The event in `body`, once its signature fits one of our secrets and it is at most 5 minutes old.

    Raises BadSignature, StaleSignature, UnreadableEvent. Reads nothing before the signature is checked.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadSignature from error
    if not signature.isascii():  # the SDK's comparison would raise
        raise BadSignature
    if not _fits(text, signature, tolerance=WEBHOOK_TOLERANCE_SECONDS):
        raise StaleSignature if _fits(text, signature, tolerance=None) else BadSignature
    return _event(text)


def _fits(text: str, signature: str, *, tolerance: int | None) -> bool:
    for secret in settings.STRIPE_WEBHOOK_SECRETS:
        try:
            stripe.WebhookSignature.verify_header(text, signature, secret, tolerance=tolerance)
        except stripe.SignatureVerificationError:
            continue
        return True
    return False


def _event(text: str) -> dict[str, Any]:
    try:
        event = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:  # no JSON, or nested without end
        raise UnreadableEvent from error
    if not isinstance(event, dict) or not isinstance(event.get("id"), str) or not isinstance(event.get("type"), str):
        raise UnreadableEvent
    if not 0 < len(event["id"]) <= LONGEST_ID:
        raise UnreadableEvent
    return event


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")  # Python reads NaN and Infinity, PostgreSQL's jsonb does not
