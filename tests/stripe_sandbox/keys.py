"""Which API key came with a request, and what a publishable one may do (docs.stripe.com/keys)."""

from __future__ import annotations

import base64
import binascii
import hmac

from .errors import StripeError, invalid_request
from .options import Options
from .routes import Route
from .state import Record


def is_publishable(authorization: str | None, options: Options) -> bool:
    """True for the publishable key, False for the secret one, StripeError for anything else."""
    key = _key(authorization)
    if not key:
        raise StripeError(
            401,
            "invalid_request_error",
            "You did not provide an API key. You need to provide your API key in the Authorization header, using "
            "Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See https://stripe.com/docs/api#authentication "
            "for details, or we can help at https://support.stripe.com/.",
        )
    if hmac.compare_digest(key.encode(), options.secret_key.encode()):
        return False
    if hmac.compare_digest(key.encode(), options.publishable_key.encode()):
        return True
    raise StripeError(401, "invalid_request_error", f"Invalid API Key provided: {_mask(key)}")


def check_browser_access(route: Route, params: Record, intent: Record | None) -> None:
    """With a publishable key: only browser endpoints, and an intent only for who holds its secret."""
    if not route.open_to_browsers:
        raise StripeError(
            403,
            "invalid_request_error",
            "This API call cannot be made with a publishable API key. Please use a secret API key. You can find a "
            "list of your API keys at https://dashboard.stripe.com/account/apikeys.",
            code="secret_key_required",
        )
    if intent is None:
        return
    if "client_secret" not in params:
        raise invalid_request("Missing required param: client_secret.", code="parameter_missing", param="client_secret")
    if not hmac.compare_digest(params["client_secret"].encode(), intent["client_secret"].encode()):
        raise invalid_request(
            "The client_secret provided does not match any associated PaymentIntent on this account. Ensure the "
            "publishable key used belongs to the same account that created the PaymentIntent.",
            code="payment_intent_invalid_parameter",
            param="client_secret",
        )


def _key(authorization: str | None) -> str | None:
    scheme, _, value = (authorization or "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip() or None
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[0] or None
        except (binascii.Error, UnicodeDecodeError):
            return None
    return None


def _mask(key: str) -> str:
    return key[:8] + "*" * max(len(key) - 12, 4) + key[-4:] if len(key) > 12 else "*" * len(key)
