"""Calls signed with a shared secret: `X-Signature: t=<unix time>,v1=<hex hmac-sha256 of "t.body">`, as Stripe does it."""

import hashlib
import hmac
import re

TOLERANCE_SECONDS = 300
_FORM = re.compile(r"t=(\d{1,12}),v1=([0-9a-f]{64})")


class SignatureRefused(Exception):
    """Missing, malformed, wrong or stale; the caller is not told which."""


def sign(body: bytes, *, secret: str, at: int) -> str:
    """The header for a call made at Unix time `at`."""
    return f"t={at},v1={_digest(body, secret=secret, at=str(at))}"


def verify(header: str, body: bytes, *, secret: str, now: float) -> str:
    """The signature, for the caller to remember against replay. Raises SignatureRefused; an empty secret fits nothing."""
    found = _FORM.fullmatch(header.strip())
    if found is None or not secret:
        raise SignatureRefused
    at, signature = found.groups()
    if not hmac.compare_digest(_digest(body, secret=secret, at=at), signature):
        raise SignatureRefused
    if abs(now - int(at)) > TOLERANCE_SECONDS:
        raise SignatureRefused
    return signature


def _digest(body: bytes, *, secret: str, at: str) -> str:
    return hmac.new(secret.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()
