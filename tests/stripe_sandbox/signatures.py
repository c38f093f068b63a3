"""`Stripe-Signature: t=…,v1=…` (docs.stripe.com/webhooks/signature)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence


def header(body: bytes, secrets: Sequence[str], *, timestamp: int) -> str:
    """One v1 for each secret: while a secret is rolled, receivers that know either accept."""
    signatures = [f"v1={_sign(body, secret, timestamp)}" for secret in secrets]
    return ",".join([f"t={timestamp}", *signatures])


def _sign(body: bytes, secret: str, timestamp: int) -> str:
    return hmac.new(secret.encode(), str(timestamp).encode() + b"." + body, hashlib.sha256).hexdigest()
