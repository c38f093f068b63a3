"""Sentry, off unless SENTRY_DSN is set. Its defaults send local variables and request bodies: both stay here, and every
text of an event passes the same filter as our log lines.
"""

from typing import Any

import sentry_sdk
from django.conf import settings

from config.logs import without_secrets


def start() -> None:
    """Errors with release and environment; no personal data (the SDK's default), no local variables, no request bodies."""
    sentry_sdk.init(
        dsn=settings.SENTRY_DSN,
        environment=settings.SENTRY_ENVIRONMENT,
        release=f"counterfoil@{settings.VERSION}",
        traces_sample_rate=0.1,
        include_local_variables=False,
        max_request_body_size="never",
        before_send=scrubbed,
        before_send_transaction=scrubbed,
        before_breadcrumb=scrubbed,
    )


def scrubbed(value: Any, hint: Any = None) -> Any:
    """An event, transaction or breadcrumb with every text in it freed of secrets and e-mail addresses."""
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, dict):
        return {key: scrubbed(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [scrubbed(inner) for inner in value]
    return value
