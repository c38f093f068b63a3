"""What would leave for Sentry, captured on its way."""

import pytest
import sentry_sdk

from config import sentry

pytestmark = [pytest.mark.row("M3")]


def test_no_secret_and_no_address_leaves(settings):
    """An error whose message, breadcrumbs and address carry private things: none of them is in the event."""
    settings.SENTRY_DSN = "http://key@127.0.0.1:9/1"
    captured: list[dict] = []
    sentry.start()
    client = sentry_sdk.get_client()
    client.options["before_send"] = lambda event, hint: captured.append(sentry.scrubbed(event))
    try:
        sentry_sdk.add_breadcrumb(message="GET /tickets/5yT0psecretQ/ for ada@example.org")
        raise ValueError("order?secret=5yT0psecretQ of ada@example.org")
    except ValueError as error:
        sentry_sdk.capture_exception(error)
    finally:
        sentry_sdk.get_client().close(timeout=0)
        sentry_sdk.get_global_scope().set_client(None)
    [event] = captured
    text = str(event)
    assert "ValueError" in text
    assert "5yT0psecretQ" not in text
    assert "ada@example.org" not in text
