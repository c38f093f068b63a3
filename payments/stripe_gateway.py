"""The only module that speaks to Stripe, or imports its SDK.

Answers come back as our own small records, failures as three exceptions that say what is known: StripeRefused (Stripe
understood and said no), StripeUnavailable (nothing is known: it may or may not have happened), StripeMisconfigured
(our keys are wrong). No call is made inside a database transaction; every POST carries an idempotency key that was
committed before.
"""

import json
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Any

import stripe
import structlog
from django.conf import settings
from django.db import connection

logger = structlog.get_logger(__name__)

API_VERSION = "2026-05-27.dahlia"  # the version of the OpenAPI description the tests validate every exchange against
RETRIES = 2  # by the SDK, with the same idempotency key and its own backoff; three tries in all
WEBHOOK_TOLERANCE_SECONDS = 300
CALLS_AT_ONCE = 4
WAIT_FOR_LINE_SECONDS = 2.0
LONGEST_ID = 255
LOOK_THROUGH = 5_000  # intents at most, when one is looked up by its metadata


class StripeUnavailable(Exception):
    """No answer, or one that says nothing (timeout, 5xx, 429): the call may or may not have had its effect.

    `was_answered`: it was a 5xx, so the request has ended, and Stripe repeats this answer under the same key.
    """

    def __init__(self, reason: str, *, was_answered: bool = False) -> None:
        super().__init__(reason)
        self.was_answered = was_answered


class StripeRefused(Exception):
    """Stripe understood the request and refused it. `code` is Stripe's own (docs.stripe.com/error-codes).

    `is_about_the_request`: its parameters were wrong, so nothing was done under its key.
    """

    def __init__(self, code: str, message: str, *, is_about_the_request: bool = False) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.is_about_the_request = is_about_the_request


class StripeMisconfigured(Exception):
    """Stripe does not know our key, or there is none."""


class BadSignature(Exception):
    """The webhook is not from Stripe, too old, or was changed on the way."""


class UnreadableEvent(Exception):
    """Rightly signed, but not an event."""


@dataclass(frozen=True, slots=True)
class Intent:
    """What Stripe says about a PaymentIntent at this moment. Amounts in minor units, currency in capitals."""

    id: str
    status: str  # requires_payment_method, requires_confirmation, requires_action, processing, succeeded, canceled…
    amount_minor: int
    amount_received_minor: int
    currency: str
    is_livemode: bool
    client_secret: str  # for the buyer's browser; never stored, never logged
    metadata: dict[str, str]
    last_error: str

    def __repr__(self) -> str:
        return f"Intent({self.id}, {self.status})"


def create_payment_intent(params: dict[str, Any], *, idempotency_key: str) -> Intent:
    """Makes the intent, or returns the one that this key made before (docs.stripe.com/api/idempotent_requests)."""
    made = _call(lambda client: client.v1.payment_intents.create(params, {"idempotency_key": idempotency_key}))
    return _intent(made)


def retrieve_payment_intent(intent_id: str) -> Intent:
    """The truth about an intent, now."""
    return _intent(_call(lambda client: client.v1.payment_intents.retrieve(intent_id)))


def find_payment_intent(metadata: dict[str, str], *, since: datetime) -> Intent | None:
    """The intent made for this order and attempt, by the metadata we sent, among those made `since` (a look-up by list:
    Stripe's search lags behind). None when there is none.
    """
    params: Any = {"created": {"gte": int((since - timedelta(minutes=5)).timestamp())}, "limit": 100}
    wanted = {name: metadata[name] for name in ("env", "order", "attempt")}

    def look(client: stripe.StripeClient) -> Any:
        listed = client.v1.payment_intents.list(params).auto_paging_iter()
        return next(
            (i for i in islice(listed, LOOK_THROUGH) if wanted.items() <= dict(_plain(i.metadata)).items()), None
        )

    found = _call(look)
    return _intent(found) if found is not None else None


def cancel_payment_intent(intent_id: str, *, idempotency_key: str) -> Intent:
    """Cancels, so that nothing can be charged any more. StripeRefused when it is too late: retrieve and see."""
    options: Any = {"idempotency_key": idempotency_key}
    params: Any = {"cancellation_reason": "abandoned"}
    return _intent(_call(lambda client: client.v1.payment_intents.cancel(intent_id, params, options)))


def read_webhook(body: bytes, signature: str) -> dict[str, Any]:
    """The event in `body`, once its signature fits one of our secrets and it is at most 5 minutes old.

    Raises BadSignature, UnreadableEvent. Reads nothing before the signature is checked.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadSignature from error
    if not signature.isascii():  # the SDK's comparison would raise
        raise BadSignature
    for secret in settings.STRIPE_WEBHOOK_SECRETS:
        try:
            stripe.WebhookSignature.verify_header(text, signature, secret, tolerance=WEBHOOK_TOLERANCE_SECONDS)
        except stripe.SignatureVerificationError:
            continue
        return _event(text)
    raise BadSignature


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


# Half of a web process's threads: while Stripe hangs, pages and webhooks still find a free one.
_free_lines = threading.BoundedSemaphore(CALLS_AT_ONCE)


@lru_cache(maxsize=1)
def _client() -> stripe.StripeClient:
    timeouts = (settings.STRIPE_CONNECT_TIMEOUT_SECONDS, settings.STRIPE_READ_TIMEOUT_SECONDS)
    return stripe.StripeClient(
        settings.STRIPE_SECRET_KEY,
        stripe_version=API_VERSION,
        base_addresses={"api": settings.STRIPE_API_BASE},
        http_client=stripe.RequestsClient(timeout=timeouts),
        max_network_retries=RETRIES,
    )


def _call(request: Any) -> Any:
    if connection.in_atomic_block:
        raise RuntimeError("Stripe must not be called inside a database transaction (DESIGN: no network under locks)")
    if not settings.STRIPE_SECRET_KEY:
        raise StripeMisconfigured("STRIPE_SECRET_KEY is not set")
    if not _free_lines.acquire(timeout=WAIT_FOR_LINE_SECONDS):
        raise StripeUnavailable("too many calls under way")
    try:
        if "pool" in connection.settings_dict["OPTIONS"]:
            connection.close()  # back to the pool: nobody else should wait for it while Stripe thinks
        return request(_client())
    except (stripe.AuthenticationError, stripe.PermissionError) as error:
        logger.critical("stripe key refused", request_id=error.request_id)
        raise StripeMisconfigured(str(error.code)) from error
    except (stripe.APIConnectionError, stripe.RateLimitError) as error:
        logger.warning("stripe unavailable", error=type(error).__name__)
        raise StripeUnavailable(type(error).__name__) from error
    except (stripe.InvalidRequestError, stripe.CardError, stripe.IdempotencyError) as error:
        if error.http_status == 409:  # lock_timeout, or the key is in use by a parallel request: nothing is known
            raise StripeUnavailable("conflict") from error
        logger.warning("stripe refused", code=error.code, param=getattr(error, "param", None))
        raise StripeRefused(
            error.code or type(error).__name__,
            error.user_message or "",
            is_about_the_request=isinstance(error, stripe.InvalidRequestError),
        ) from error
    except stripe.StripeError as error:  # 5xx and whatever else Stripe may invent
        logger.warning("stripe unavailable", error=type(error).__name__, status=error.http_status)
        raise StripeUnavailable(type(error).__name__, was_answered=(error.http_status or 0) >= 500) from error
    finally:
        _free_lines.release()


def _plain(answer: Any) -> dict[str, Any]:
    """A StripeObject is no dict."""
    return answer.to_dict() if hasattr(answer, "to_dict") else dict(answer or {})


def _intent(answer: Any) -> Intent:
    found = _plain(answer)
    error = found.get("last_payment_error") or {}
    try:
        return Intent(
            id=found["id"],
            status=found["status"],
            amount_minor=found["amount"],
            amount_received_minor=found.get("amount_received") or 0,
            currency=found["currency"].upper(),
            is_livemode=bool(found["livemode"]),
            client_secret=found.get("client_secret") or "",
            metadata=dict(found.get("metadata") or {}),
            last_error=str(error.get("message") or ""),
        )
    except (KeyError, TypeError, AttributeError) as malformed:
        raise StripeUnavailable("malformed answer") from malformed
