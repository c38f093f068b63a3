"""The only package that speaks to Stripe, or imports its SDK.

Answers come back as our own small records (`records`), failures as three exceptions that say what is known (`errors`):
StripeRefused (Stripe understood and said no), StripeUnavailable (nothing is known: it may or may not have happened),
StripeMisconfigured (our keys are wrong). `calls` keeps every call out of transactions, tries again, counts, and stops
while Stripe is down. Every POST carries an idempotency key that was committed before.
"""

from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import stripe
from django.conf import settings

from payments.stripe_gateway.calls import call
from payments.stripe_gateway.errors import (
    NO_WORD,
    BadSignature,
    StaleSignature,
    StripeMisconfigured,
    StripePaused,
    StripeRefused,
    StripeUnavailable,
    UnreadableEvent,
)
from payments.stripe_gateway.records import (
    Buyer,
    Facts,
    RefundFacts,
    buyer_of,
    of_intent,
    of_refund,
    of_session,
    plain,
)
from payments.stripe_gateway.signatures import read_webhook

__all__ = [
    "NO_WORD",
    "BadSignature",
    "Buyer",
    "Facts",
    "RefundFacts",
    "StaleSignature",
    "StripeMisconfigured",
    "StripePaused",
    "StripeRefused",
    "StripeUnavailable",
    "UnreadableEvent",
    "read_webhook",
]

LOOK_THROUGH = 5_000  # objects at most, when one is looked up by its metadata
CLOCKS_APART = timedelta(minutes=5)
PAGE = 100


def is_livemode() -> bool:
    """Whether our key moves real money."""
    return settings.STRIPE_SECRET_KEY.startswith(("sk_live_", "rk_live_"))


# PaymentIntents


def create_payment_intent(params: dict[str, Any], *, idempotency_key: str) -> Facts:
    """Makes the intent, or returns the one that this key made before (docs.stripe.com/api/idempotent_requests)."""
    return call(
        "payment_intents.create",
        lambda client: of_intent(client.v1.payment_intents.create(_any(params), {"idempotency_key": idempotency_key})),
    )


def retrieve_payment_intent(intent_id: str) -> Facts:
    """The truth about an intent, now."""
    return call("payment_intents.retrieve", lambda client: of_intent(client.v1.payment_intents.retrieve(intent_id)))


def find_payment_intent(metadata: dict[str, str], *, since: datetime) -> Facts | None:
    """The intent made for this order and attempt, by the metadata we sent, among those made `since` (a look-up by list:
    Stripe's search lags behind). None when there is none.
    """

    def look(client: stripe.StripeClient) -> Facts | None:
        listed = client.v1.payment_intents.list(_made_since(since)).auto_paging_iter()
        found = _with_metadata(listed, metadata)
        return of_intent(found) if found is not None else None

    return call("payment_intents.list", look)


def cancel_payment_intent(intent_id: str, *, idempotency_key: str) -> Facts:
    """Cancels, so that nothing can be charged any more. StripeRefused when it is too late: retrieve and see."""
    params: Any = {"cancellation_reason": "abandoned"}
    return call(
        "payment_intents.cancel",
        lambda client: of_intent(
            client.v1.payment_intents.cancel(intent_id, params, {"idempotency_key": idempotency_key})
        ),
    )


def buyer_of_intent(intent_id: str) -> Buyer:
    """Who paid, as told to Stripe with the card."""
    return call(
        "payment_intents.retrieve",
        lambda client: buyer_of(client.v1.payment_intents.retrieve(intent_id, {"expand": ["latest_charge"]})),
    )


# Checkout Sessions


def create_session(params: dict[str, Any], *, idempotency_key: str) -> Facts:
    """Makes the session (`params` expand its intent), or returns the one that this key made before."""
    return call(
        "sessions.create",
        lambda client: of_session(
            client.v1.checkout.sessions.create(_any(params), {"idempotency_key": idempotency_key})
        ),
    )


def retrieve_session(session_id: str) -> Facts:
    """The truth about a session and its payment, now."""
    return call(
        "sessions.retrieve",
        lambda client: of_session(client.v1.checkout.sessions.retrieve(session_id, {"expand": ["payment_intent"]})),
    )


def find_session(metadata: dict[str, str], *, since: datetime) -> Facts | None:
    """As `find_payment_intent`, for sessions."""

    def look(client: stripe.StripeClient) -> Facts | None:
        params = _made_since(since) | {"expand": ["data.payment_intent"]}
        found = _with_metadata(client.v1.checkout.sessions.list(params).auto_paging_iter(), metadata)
        return of_session(found) if found is not None else None

    return call("sessions.list", look)


def expire_session(session_id: str, *, idempotency_key: str) -> Facts:
    """Ends an open session, so that nothing can be charged any more. StripeRefused when it is no longer open."""
    params: Any = {"expand": ["payment_intent"]}
    return call(
        "sessions.expire",
        lambda client: of_session(
            client.v1.checkout.sessions.expire(session_id, params, {"idempotency_key": idempotency_key})
        ),
    )


# Refunds


def create_refund(params: dict[str, Any], *, idempotency_key: str) -> RefundFacts:
    """Gives money back, or returns the refund that this key made before."""
    return call(
        "refunds.create",
        lambda client: of_refund(client.v1.refunds.create(_any(params), {"idempotency_key": idempotency_key})),
    )


def retrieve_refund(refund_id: str) -> RefundFacts:
    return call("refunds.retrieve", lambda client: of_refund(client.v1.refunds.retrieve(refund_id)))


def find_refund(intent_id: str, metadata: dict[str, str]) -> RefundFacts | None:
    """The refund of this payment that carries our metadata; None when there is none."""

    def look(client: stripe.StripeClient) -> RefundFacts | None:
        listed = client.v1.refunds.list({"payment_intent": intent_id, "limit": PAGE}).auto_paging_iter()
        found = _with_metadata(listed, metadata)
        return of_refund(found) if found is not None else None

    return call("refunds.list", look)


# Events


def list_events(
    types: list[str], *, since: datetime, only_undelivered: bool, after: str | None
) -> tuple[list[dict[str, Any]], bool]:
    """A page of events, newest first, and whether there are more; `after` is the last id of the page before.

    Stripe keeps them for 30 days.
    """
    params: Any = {"types": types, "limit": PAGE, "created": {"gte": int(since.timestamp())}}
    if only_undelivered:
        params["delivery_success"] = False
    if after is not None:
        params["starting_after"] = after

    def look(client: stripe.StripeClient) -> tuple[list[dict[str, Any]], bool]:
        page = client.v1.events.list(params)
        return [plain(event) for event in page.data], bool(page.has_more)

    return call("events.list", look)


def ping() -> None:
    """The cheapest question there is, to learn whether Stripe answers."""
    call("balance.retrieve", lambda client: client.v1.balance.retrieve())


def _any(params: dict[str, Any]) -> Any:
    return params  # the SDK's types are exact dicts of literals; ours come from a JSON column


def _made_since(since: datetime) -> Any:
    return {"created": {"gte": int((since - CLOCKS_APART).timestamp())}, "limit": PAGE}


def _with_metadata(listed: Any, metadata: dict[str, str]) -> Any:
    return next(
        (each for each in islice(listed, LOOK_THROUGH) if metadata.items() <= dict(plain(each.metadata)).items()), None
    )
