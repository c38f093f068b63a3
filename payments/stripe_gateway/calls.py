"""One call to Stripe: never inside a transaction, few at once, tried again while that may help, counted, and stopped
while Stripe is down.
"""

import threading
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import stripe
import structlog
from django.conf import settings
from django.db import connection
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from payments import breaker
from payments.models import StripeCalls
from payments.stripe_gateway.errors import StripeMisconfigured, StripePaused, StripeRefused, StripeUnavailable

logger = structlog.get_logger(__name__)
T = TypeVar("T")
Outcome = StripeCalls.Outcome

API_VERSION = "2026-05-27.dahlia"  # the version of the OpenAPI description the tests validate every exchange against
CALLS_AT_ONCE = 4
WAIT_FOR_LINE_SECONDS = 2.0

# A few of a web process's threads: while Stripe hangs, pages and webhooks still find a free one.
_free_lines = threading.BoundedSemaphore(CALLS_AT_ONCE)


@lru_cache(maxsize=1)
def client() -> stripe.StripeClient:
    timeouts = (settings.STRIPE_CONNECT_TIMEOUT_SECONDS, settings.STRIPE_READ_TIMEOUT_SECONDS)
    return stripe.StripeClient(
        settings.STRIPE_SECRET_KEY,
        stripe_version=API_VERSION,
        base_addresses={"api": settings.STRIPE_API_BASE},
        http_client=stripe.RequestsClient(timeout=timeouts),
        max_network_retries=0,  # tried again here: the SDK never does after a 429, and hides its tries from the breaker
    )


def call(operation: str, request: Callable[[stripe.StripeClient], T]) -> T:
    """What `request` returns, after at most STRIPE_TRIES tries; each is the same request, its idempotency key included.

    Raises StripeUnavailable, StripeRefused, StripeMisconfigured.
    """
    if connection.in_atomic_block:
        raise RuntimeError("Stripe must not be called inside a database transaction (DESIGN: no network under locks)")
    if not settings.STRIPE_SECRET_KEY:
        raise StripeMisconfigured("STRIPE_SECRET_KEY is not set")
    if not _free_lines.acquire(timeout=WAIT_FOR_LINE_SECONDS):
        raise StripeUnavailable("too many calls under way")
    try:
        return _tries()(_try, operation, request)
    finally:
        _free_lines.release()


def _tries() -> Retrying:
    """Waits grow exponentially and are drawn by chance, so that those who failed together do not come back together."""
    shortest, longest = settings.STRIPE_SHORTEST_WAIT_SECONDS, settings.STRIPE_LONGEST_WAIT_SECONDS
    return Retrying(
        stop=stop_after_attempt(settings.STRIPE_TRIES),
        wait=wait_random_exponential(multiplier=2 * shortest, min=shortest, max=longest),
        retry=retry_if_exception(lambda error: isinstance(error, StripeUnavailable) and error.is_transient),
        reraise=True,
    )


def _try(operation: str, request: Callable[[stripe.StripeClient], T]) -> T:
    try:
        passed = breaker.enter()
    except breaker.BreakerOpen as stop:
        raise StripePaused(str(stop)) from stop
    if "pool" in connection.settings_dict["OPTIONS"]:
        connection.close()  # back to the pool: nobody else should wait for it while Stripe thinks
    began = time.monotonic()
    outcome = Outcome.UNAVAILABLE
    try:
        answer = request(client())
        outcome = Outcome.OK
        return answer
    except stripe.StripeError as error:
        outcome, ours = _translated(error, may_repeat=not passed.is_probe)
        logger.log(_LEVELS[outcome], "stripe call failed", operation=operation, outcome=outcome, error=str(ours))
        raise ours from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # an answer that cannot be read
        logger.warning("stripe answer malformed", operation=operation, error=type(error).__name__)
        raise StripeUnavailable("malformed answer", is_transient=not passed.is_probe) from error
    finally:
        taken = round((time.monotonic() - began) * 1000)
        breaker.report(operation, outcome, taken, passed=passed)


_LEVELS = {Outcome.REFUSED: 30, Outcome.LIMITED: 30, Outcome.UNAVAILABLE: 30, Outcome.MISCONFIGURED: 50}


def _translated(error: stripe.StripeError, *, may_repeat: bool) -> tuple[Outcome, Exception]:
    name, status = type(error).__name__, error.http_status or 0
    if isinstance(error, (stripe.AuthenticationError, stripe.PermissionError)):
        return Outcome.MISCONFIGURED, StripeMisconfigured(str(error.code or name))
    if isinstance(error, stripe.RateLimitError):
        return Outcome.LIMITED, StripeUnavailable(name, is_transient=may_repeat)
    if status == 409:  # lock_timeout, or the key is in use by a parallel request: nothing is known
        return Outcome.REFUSED, StripeUnavailable("conflict", is_transient=may_repeat)
    if isinstance(error, (stripe.InvalidRequestError, stripe.CardError, stripe.IdempotencyError)):
        is_about_the_request = isinstance(error, stripe.InvalidRequestError)
        refusal = StripeRefused(error.code or name, error.user_message or "", is_about_the_request=is_about_the_request)
        return Outcome.REFUSED, refusal
    # No connection, 5xx, and whatever else Stripe may invent. It knows best whether to come back.
    may_help = may_repeat and _header(error, "stripe-should-retry") != "false"
    return Outcome.UNAVAILABLE, StripeUnavailable(name, was_answered=status >= 500, is_transient=may_help)


def _header(error: stripe.StripeError, name: str) -> str:
    headers: Any = error.headers or {}
    return str(headers.get(name, "")).lower()
