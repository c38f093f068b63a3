"""Stripe's own command-line client takes the offline Stripe for Stripe.

Its fixtures were written by Stripe against the real API, so that what they send and read is no guess of ours.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import stripe

from deploy.local import stripe_cli
from tests.stripe_sandbox.process import Control, SandboxProcess

from .contract import Contract

PAID = ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded"]
REFUNDED = [*PAID, "refund.created", "charge.refunded"]
TRIGGERED = {
    "payment_intent.created": ["payment_intent.created"],
    "payment_intent.succeeded": PAID,
    "payment_intent.payment_failed": ["payment_intent.created", "charge.failed", "payment_intent.payment_failed"],
    "payment_intent.requires_action": ["payment_intent.created", "payment_intent.requires_action"],
    "payment_intent.canceled": ["payment_intent.created", "payment_intent.canceled"],
    "charge.succeeded": PAID,
    "charge.failed": ["payment_intent.created", "charge.failed", "payment_intent.payment_failed"],
    "charge.refunded": REFUNDED,
    "charge.refund.updated": [*REFUNDED, "refund.updated", "charge.refund.updated"],
    "customer.created": ["customer.created"],
}


@pytest.fixture(scope="module")
def program() -> Path:
    try:
        return stripe_cli.ensure()
    except stripe_cli.Unavailable as error:
        if os.environ.get("CI"):
            pytest.fail(f"Stripe's CLI: {error}")
        pytest.skip(f"Stripe's CLI: {error}")


def _run(
    program: Path, home: Path, sandbox: SandboxProcess, *arguments: str, key: str | None = None
) -> subprocess.CompletedProcess[str]:
    """With a home of its own: the real one may be logged in to a real account."""
    return subprocess.run(
        [program, *arguments, "--api-base", sandbox.api_base, "--api-key", key or sandbox.secret_key],
        env={"HOME": str(home), "PATH": os.environ["PATH"], "STRIPE_CLI_TELEMETRY_OPTOUT": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("event", TRIGGERED)
def test_stripes_own_fixtures_trigger_their_events(
    event: str,
    program: Path,
    tmp_path: Path,
    sandbox: SandboxProcess,
    api: stripe.StripeClient,
    contract: Contract,
) -> None:
    done = _run(program, tmp_path, sandbox, "trigger", event)
    assert (done.returncode, "Trigger succeeded!" in done.stdout + done.stderr) == (0, True), done.stdout + done.stderr
    events = [one.to_dict() for one in reversed(api.v1.events.list({"limit": 50}).data)]
    assert [one["type"] for one in events] == TRIGGERED[event]
    for one in events:
        contract.check_event(one)


def test_a_wrong_key_triggers_nothing(program: Path, tmp_path: Path, sandbox: SandboxProcess, control: Control) -> None:
    done = _run(program, tmp_path, sandbox, "trigger", "payment_intent.created", key="sk_test_of_somebody_else")
    assert "Invalid API Key provided" in done.stdout + done.stderr
    assert control.ledger()["payment_intents"] == []
