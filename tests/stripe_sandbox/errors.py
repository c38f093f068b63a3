"""Stripe's errors: what they are called, which HTTP status they have, how they look on the wire.

Source: docs.stripe.com/api/errors, docs.stripe.com/error-codes, docs.stripe.com/error-low-level.
"""

from __future__ import annotations

from typing import Any

DOC_URL = "https://stripe.com/docs/error-codes/"


class StripeError(Exception):
    """An answer that is not a success. `executed` says whether the endpoint had begun to run."""

    def __init__(
        self,
        status: int,
        error_type: str,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        should_retry: bool | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.should_retry = should_retry
        self.error: dict[str, Any] = {"type": error_type, "message": message}
        if code:
            self.error |= {"code": code, "doc_url": DOC_URL + code.replace("_", "-")}
        if param:
            self.error["param"] = param
        self.error |= {key: value for key, value in extra.items() if value is not None}

    def body(self, request_id: str) -> dict[str, Any]:
        log_url = f"https://dashboard.stripe.com/test/logs/{request_id}"
        return {"error": dict(sorted((self.error | {"request_log_url": log_url}).items()))}


def invalid_request(message: str, *, code: str | None = None, param: str | None = None, **extra: Any) -> StripeError:
    return StripeError(400, "invalid_request_error", message, code=code, param=param, **extra)


def resource_missing(noun: str, record_id: str, *, param: str, in_path: bool = True) -> StripeError:
    """404 when the id is what was asked for, 400 when it is only mentioned."""
    return StripeError(
        404 if in_path else 400,
        "invalid_request_error",
        f"No such {noun}: '{record_id}'",
        code="resource_missing",
        param=param,
    )


def unrecognized_url(method: str, path: str) -> StripeError:
    return StripeError(
        404,
        "invalid_request_error",
        f"Unrecognized request URL ({method}: {path}). If you are trying to list objects, remove the trailing slash. "
        "If you are trying to retrieve an object, make sure you passed a valid (non-empty) identifier in your code. "
        "Please see https://stripe.com/docs or we can help at https://support.stripe.com/.",
    )


def card_error(message: str, *, code: str, param: str | None = None, **extra: Any) -> StripeError:
    return StripeError(402, "card_error", message, code=code, param=param, **extra)


def unexpected_state(message: str, intent: dict[str, Any]) -> StripeError:
    return invalid_request(message, code="payment_intent_unexpected_state", payment_intent=intent)


def key_revoked() -> StripeError:
    return StripeError(401, "invalid_request_error", "Expired API Key provided: sk_test_****", code="api_key_expired")


def permission_missing() -> StripeError:
    return StripeError(
        403,
        "invalid_request_error",
        "The provided key 'sk_test_****' does not have the required permissions for this endpoint.",
    )


def rate_limited() -> StripeError:
    return StripeError(
        429,
        "invalid_request_error",
        "Request rate limit exceeded. You can learn more about rate limits here https://stripe.com/docs/rate-limits.",
        code="rate_limit",
    )


def lock_timeout() -> StripeError:
    return StripeError(
        429,
        "invalid_request_error",
        "This object cannot be accessed right now because another API request or Stripe process is currently "
        "accessing it. If you see this error intermittently, retry the request. If you see this error frequently "
        "and are making multiple concurrent requests to a single object, make your requests serially or at a lower "
        "rate. For more details, see https://stripe.com/docs/rate-limits#object-lock-timeouts.",
        code="lock_timeout",
        should_retry=True,
    )


def server_error(*, should_retry: bool | None) -> StripeError:
    return StripeError(
        500,
        "api_error",
        "An unknown error occurred. We've been notified of the problem; retry, or contact support.",
        should_retry=should_retry,
    )
