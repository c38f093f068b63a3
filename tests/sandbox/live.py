"""The same tests against Stripe itself: `STRIPE_LIVE_TEST_KEY=sk_test_… python -m pytest tests/sandbox -m live`.

A test marked `live` uses nothing but the SDK, so what it says of the offline Stripe it can say of Stripe's test mode
too. Without a key its second half is deselected, which pytest's last line counts.
"""

from __future__ import annotations

import os

import pytest
import stripe

from tests.stripe_sandbox import API_VERSION

from .clients import CheckedHTTPClient
from .contract import Contract

VARIABLE = "STRIPE_LIVE_TEST_KEY"
SIDES = ("offline", "stripe")
OFFLINE_ONLY = frozenset(("control", "lenient", "receiver", "sandbox", "wire"))
TIMEOUT_SECONDS = 30


def key() -> str | None:
    given = os.environ.get(VARIABLE)
    if given and not given.startswith(("sk_test_", "rk_test_")):
        raise pytest.UsageError(f"{VARIABLE} must be a key of test mode (sk_test_…): these tests move money.")
    return given or None


def client(contract: Contract) -> stripe.StripeClient:
    given = key()
    assert given, "deselected without a key"
    http_client = CheckedHTTPClient(contract, is_lenient=False, timeout_seconds=TIMEOUT_SECONDS)
    return stripe.StripeClient(given, stripe_version=API_VERSION, max_network_retries=2, http_client=http_client)


def on_both_sides(metafunc: pytest.Metafunc) -> None:
    if not metafunc.definition.get_closest_marker("live"):
        return
    if offline := OFFLINE_ONLY & set(metafunc.fixturenames):
        raise pytest.UsageError(f"{metafunc.definition.nodeid} is marked live and uses {', '.join(sorted(offline))}.")
    metafunc.parametrize("api", SIDES, indirect=True)


def leave_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselected and not skipped: without a key nobody expects them."""
    if key():
        return
    left_out = [item for item in items if _side(item) == "stripe"]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if _side(item) != "stripe"]


def _side(item: pytest.Item) -> str | None:
    if not (item.get_closest_marker("live") and isinstance(item, pytest.Function) and hasattr(item, "callspec")):
        return None
    side = item.callspec.params.get("api")
    return str(side) if side in SIDES else None
