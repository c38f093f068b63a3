"""Sentry, off unless SENTRY_DSN is set. Its defaults send local variables and request bodies: both stay here."""

import sentry_sdk
from django.conf import settings


def start() -> None:
    """Errors with release and environment; no personal data, no local variables, no request bodies."""
    sentry_sdk.init(
        dsn=settings.SENTRY_DSN,
        environment=settings.SENTRY_ENVIRONMENT,
        release=f"counterfoil@{settings.VERSION}",
        traces_sample_rate=0.1,
        send_default_pii=False,
        include_local_variables=False,
        max_request_body_size="never",
    )
