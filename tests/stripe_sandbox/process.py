"""Start the offline Stripe beside a test, and steer it.

with SandboxProcess(webhook_url=url, webhook_secret="whsec_x") as sandbox:
    client = stripe.StripeClient(sandbox.secret_key, base_addresses={"api": sandbox.api_base}, ...)
    sandbox.control.pay(intent_id)
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 15.0
STOP_SECONDS = 5.0
CONTROL_SECONDS = 30.0


class SandboxProcess:
    def __init__(
        self,
        *,
        port: int = 0,
        state: Path | None = None,
        secret_key: str = "sk_test_offline",
        publishable_key: str = "pk_test_offline",
        webhook_url: str | None = None,
        webhook_secret: str | None = None,
        extra_arguments: tuple[str, ...] = (),
    ) -> None:
        self.secret_key = secret_key
        self.publishable_key = publishable_key
        self._arguments = {
            "--port": str(port),
            "--state": str(state) if state else None,
            "--secret-key": secret_key,
            "--publishable-key": publishable_key,
            "--webhook-url": webhook_url,
            "--webhook-secret": webhook_secret,
        }
        self._extra_arguments = extra_arguments
        self._process: subprocess.Popen[str] | None = None
        self.api_base = self.stripe_js_url = self.dashboard_url = self.control_url = ""
        self.control = Control("")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self._process, "not started"
        return self._process.pid

    def start(self) -> Self:
        given = [part for name, value in self._arguments.items() if value is not None for part in (name, value)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.stripe_sandbox", *given, "--stop-with-parent", *self._extra_arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("STRIPE_SANDBOX_")},
        )
        ready = self._wait_until_ready(self._process)
        self.api_base = ready["api_base"]
        self.stripe_js_url = ready["stripe_js_url"]
        self.dashboard_url = ready["dashboard_url"]
        self.control_url = ready["control_url"]
        self.control = Control(self.control_url)
        return self

    def stop(self) -> None:
        self._end(kill=False)

    def kill(self) -> None:
        """As a power cut would, for tests of what survives."""
        self._end(kill=True)

    def _end(self, *, kill: bool) -> None:
        process, self._process = self._process, None
        if not process:
            return
        if process.poll() is None:
            process.kill() if kill else process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()

    def _wait_until_ready(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        assert process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            deadline = time.monotonic() + START_SECONDS
            while time.monotonic() < deadline:
                if selector.select(timeout=0.2):
                    line = process.stdout.readline()
                    if line:
                        ready: dict[str, Any] = json.loads(line)
                        return ready
                if process.poll() is not None:
                    break
        self.kill()
        raise RuntimeError("the offline Stripe did not start; its complaint is on stderr")


class Control:
    """Typed client of `/_control/`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        response = self._session.request(
            method, self.url + path, json=None if method == "GET" else body or {}, timeout=CONTROL_SECONDS
        )
        if response.status_code >= 400:
            raise ControlError(f"{method} {path}: {response.status_code} {response.text}")
        return response.json()

    def reset(self) -> None:
        self.call("POST", "reset")

    # Money

    def ledger(self) -> dict[str, Any]:
        return self.call("GET", "ledger")

    def payment(self, intent_id: str) -> dict[str, Any]:
        """`{"payment_intent", "charges", "refunds", "events"}` as the account sees them."""
        return self.call("GET", f"payment_intents/{intent_id}")

    def pay(self, intent_id: str, card: str = "pm_card_visa", *, complete: bool | None = True) -> dict[str, Any]:
        """Confirm as the buyer's browser would; `complete` answers 3-D Secure, None leaves it open."""
        return self.call("POST", f"payment_intents/{intent_id}/pay", {"card": card, "complete": complete})

    def authenticate(self, intent_id: str, *, complete: bool = True) -> dict[str, Any]:
        return self.call("POST", f"payment_intents/{intent_id}/authenticate", {"complete": complete})

    def settle(self, intent_id: str, *, succeeded: bool = True) -> dict[str, Any]:
        """The bank's answer to a debit that is processing."""
        return self.call("POST", f"payment_intents/{intent_id}/settle", {"succeeded": succeeded})

    def modify(self, intent_id: str, **changes: Any) -> dict[str, Any]:
        return self.call("POST", f"payment_intents/{intent_id}/modify", changes)

    # Checkout Sessions

    def sessions(self) -> list[dict[str, Any]]:
        """Newest first, each with its line items."""
        return self.call("GET", "checkout_sessions")["data"]

    def session(self, session_id: str) -> dict[str, Any]:
        """`{"checkout_session", "payment_intent"}`; the latter is None until the buyer has tried to pay."""
        return self.call("GET", f"checkout_sessions/{session_id}")

    def pay_session(
        self, session_id: str, card: str = "pm_card_visa", *, complete: bool | None = True, **billing: Any
    ) -> dict[str, Any]:
        """As the buyer on the hosted page; returns the session. `card` may be a bank debit such as pm_success_de.

        `complete` answers 3-D Secure, None leaves it open; `billing`: email, name, address.
        """
        body = {"card": card, "complete": complete, "billing": billing}
        return self.call("POST", f"checkout_sessions/{session_id}/pay", body)

    def expire_session(self, session_id: str) -> dict[str, Any]:
        return self.call("POST", f"checkout_sessions/{session_id}/expire")

    # Refunds

    def refunds(self, intent_id: str = "") -> list[dict[str, Any]]:
        """Oldest first."""
        return self.call("GET", f"refunds?payment_intent={intent_id}")["data"]

    def refund_from_dashboard(self, intent_id: str, amount: int | None = None, **more: Any) -> dict[str, Any]:
        """What is left, or `amount`; the office hears of it by webhook only. `more`: reason."""
        return self.call("POST", f"payment_intents/{intent_id}/refund", {"amount": amount} | more)

    def finish_refund(self, refund_id: str, status: str = "succeeded") -> dict[str, Any]:
        """`status`: succeeded, failed or canceled, for a refund that is pending."""
        return self.call("POST", f"refunds/{refund_id}/finish", {"status": status})

    def fail_refund(self, refund_id: str, reason: str = "expired_or_canceled_card") -> dict[str, Any]:
        """The bank sends it back, whether it was pending or had succeeded."""
        return self.call("POST", f"refunds/{refund_id}/finish", {"status": "failed", "failure_reason": reason})

    def set_refund_seconds(self, seconds: float) -> None:
        """How long the test cards with slow refunds take."""
        self.call("PUT", "settings", {"refund_settles_after_seconds": seconds})

    def set_balance(self, *, sufficient: bool) -> None:
        """Without money, refunds wait as `pending`; with money again, they succeed."""
        self.call("PUT", "settings", {"balance_is_insufficient": not sufficient})

    # Time

    def now(self) -> int:
        return int(self.call("GET", "clock")["now"])

    def advance(self, seconds: float) -> int:
        return int(self.call("POST", "clock/advance", {"seconds": seconds})["now"])

    def set_debit_seconds(self, seconds: float) -> None:
        self.call("PUT", "settings", {"debit_settles_after_seconds": seconds})

    # Events and webhooks

    def events(self, *, event_type: str = "", subject: str = "", limit: int = 100) -> list[dict[str, Any]]:
        """Newest first, each with its deliveries."""
        return self.call("GET", f"events?type={event_type}&object={subject}&limit={limit}")["data"]

    def deliveries(self, *, event_id: str = "", state: str = "") -> list[dict[str, Any]]:
        query = f"state={state}" + (f"&event={event_id}" if event_id else "")
        return self.call("GET", f"deliveries?{query}")["data"]

    def resend(self, event_id: str, *, copies: int = 1) -> list[str]:
        return self.call("POST", f"events/{event_id}/resend", {"copies": copies})["deliveries"]

    def pause_webhooks(self) -> None:
        self.call("POST", "webhooks/pause")

    def resume_webhooks(self, *, order: str = "due", seed: int = 0) -> None:
        """`order`: due, reverse, or shuffle by `seed`."""
        self.call("POST", "webhooks/resume", {"order": order, "seed": seed})

    def wait_for_webhooks(self, *, seconds: float = 10.0) -> None:
        self.call("POST", "webhooks/wait", {"seconds": seconds})

    def set_webhook(self, url: str | None, *secrets: str, endpoint: str = "we_default", **more: Any) -> None:
        """`more`: enabled_events, is_enabled, api_version. A url of None removes the endpoint."""
        self.call("PUT", f"webhooks/endpoints/{endpoint}", {"url": url, "secrets": list(secrets)} | more)

    def roll_secret(self, endpoint: str = "we_default", *, overlap_seconds: float = 0) -> str:
        """The new signing secret; the old one goes on signing for so many virtual seconds, a day at most."""
        rolled = self.call("POST", f"webhooks/endpoints/{endpoint}/roll", {"overlap_seconds": overlap_seconds})
        return str(rolled["secrets"][0])

    def disable_webhook(self, endpoint: str = "we_default") -> None:
        """As Stripe does with an endpoint that has not answered for days; over the API it is enabled again."""
        self.call("POST", f"webhooks/endpoints/{endpoint}/disable")

    def disrupt_webhooks(self, kind: str, **more: Any) -> dict[str, Any]:
        """`kind`: drop, delay, duplicate, wrong_signature; `more`: event_type, count, seconds, copies."""
        return self.call("POST", "webhooks/disruptions", {"kind": kind} | more)

    def clear_disruptions(self) -> None:
        self.call("DELETE", "webhooks/disruptions")

    # Faults of the API

    def add_fault(self, kind: str, **more: Any) -> dict[str, Any]:
        """`kind`: see faults.py; `more`: method, path, count (0: until cleared), skip, seconds."""
        return self.call("POST", "faults", {"kind": kind} | more)

    def refuse_connections(self, *, seconds: float = 0, path: str = "*") -> None:
        """An outage, for so many virtual seconds or until the faults are cleared."""
        self.add_fault("refuse", seconds=seconds, path=path)

    def faults(self) -> list[dict[str, Any]]:
        return self.call("GET", "faults")["data"]

    def clear_faults(self) -> None:
        self.call("DELETE", "faults")

    def requests(self, *, method: str = "", path: str = "") -> list[dict[str, Any]]:
        """API requests so far, oldest first; `path` may be the beginning of one."""
        return [
            entry
            for entry in self.call("GET", "requests")["data"]
            if (not method or entry["method"] == method) and entry["path"].startswith(path)
        ]

    def clear_requests(self) -> None:
        self.call("DELETE", "requests")


class ControlError(AssertionError):
    """The offline Stripe refused a control call."""
