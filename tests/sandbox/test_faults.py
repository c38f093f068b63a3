from __future__ import annotations

import contextlib
import time

import pytest
import requests
import stripe

from tests.stripe_sandbox.process import Control, ControlError, SandboxProcess

from .clients import client
from .contract import Contract
from .wire import Wire

PATH = "/v1/payment_intents"
NEW = "amount=4200&currency=eur"


def test_faults_match_skip_and_count(wire: Wire, control: Control) -> None:
    control.add_fault("http_500_before", method="post", path=f"{PATH}/*/cancel", skip=1, count=2)
    ids = [wire.post(PATH, NEW).json()["id"] for _ in range(4)]
    assert [wire.post(f"{PATH}/{intent}/cancel").status_code for intent in ids] == [200, 500, 500, 200]
    assert control.faults() == []


def test_dropped_before_does_nothing_and_after_does_everything(wire: Wire, control: Control) -> None:
    for fault, made in (("drop_before", 0), ("drop_after", 1)):
        control.add_fault(fault, method="POST", path=PATH)
        with pytest.raises(requests.ConnectionError):
            wire.post(PATH, NEW)
        assert len(control.ledger()["payment_intents"]) == made


def test_malformed_answers_hide_work_that_was_done(lenient: stripe.StripeClient, control: Control) -> None:
    control.add_fault("malformed", path=PATH)
    with pytest.raises(stripe.APIError):
        lenient.v1.payment_intents.create({"amount": 4200, "currency": "eur"})
    assert len(control.ledger()["payment_intents"]) == 1


def test_rate_limits_are_not_retried_by_the_sdk(sandbox: SandboxProcess, contract: Contract, control: Control) -> None:
    control.add_fault("http_429", path=PATH, count=5)
    with pytest.raises(stripe.RateLimitError):
        client(sandbox, contract, retries=3).v1.payment_intents.create({"amount": 4200, "currency": "eur"})
    assert len(control.requests(method="POST")) == 1


def test_lock_timeouts_are_retried_by_the_sdk(sandbox: SandboxProcess, contract: Contract, control: Control) -> None:
    control.add_fault("lock_timeout", path=PATH)
    made = client(sandbox, contract, retries=2).v1.payment_intents.create({"amount": 4200, "currency": "eur"})
    assert made.status == "requires_payment_method"


def test_hanging(wire: Wire, control: Control) -> None:
    control.add_fault("hang", path=PATH, seconds=0.4)
    started = time.monotonic()
    assert wire.post(PATH, NEW).status_code == 200
    assert time.monotonic() - started >= 0.4


def test_a_client_that_gave_up_does_not_stop_the_work(sandbox: SandboxProcess, control: Control) -> None:
    control.add_fault("hang", path=PATH, seconds=0.5)
    headers = {"Authorization": f"Bearer {sandbox.secret_key}"}
    with pytest.raises(requests.Timeout):
        requests.post(sandbox.api_base + PATH, data={"amount": 4200, "currency": "eur"}, headers=headers, timeout=0.2)
    time.sleep(0.6)
    assert len(control.ledger()["payment_intents"]) == 1


@pytest.mark.row("HC-G1")
def test_an_outage_refuses_everything_until_it_is_over(wire: Wire, sandbox: SandboxProcess, control: Control) -> None:
    control.refuse_connections()
    for path in ("/v1/balance", "/v3/stripe.js", "/v1/refunds"):
        with pytest.raises(requests.ConnectionError):
            wire.send("GET", path)
    assert requests.get(sandbox.dashboard_url, timeout=5).status_code == 200
    assert [entry["fault"] for entry in control.requests(path="/v1/")] == ["refuse", "refuse"]
    control.clear_faults()
    assert wire.send("GET", "/v1/balance").status_code == 200


@pytest.mark.row("HC-G1")
def test_an_outage_ends_by_itself(wire: Wire, control: Control) -> None:
    control.refuse_connections(seconds=600, path="/v1/*")
    with pytest.raises(requests.ConnectionError):
        wire.post(PATH, NEW)
    control.advance(601)
    assert wire.post(PATH, NEW).status_code == 200
    assert control.faults() == []


@pytest.mark.row("HC-G6")
@pytest.mark.parametrize(
    ("kind", "error"), [("http_401", stripe.AuthenticationError), ("http_403", stripe.PermissionError)]
)
def test_a_revoked_key(
    kind: str, error: type[Exception], sandbox: SandboxProcess, contract: Contract, control: Control
) -> None:
    control.add_fault(kind, count=0)
    for _ in range(2):
        with pytest.raises(error):
            client(sandbox, contract, retries=2).v1.refunds.list()
    assert len(control.requests()) == 2, "not retried"
    control.clear_faults()
    assert client(sandbox, contract).v1.refunds.list().data == []


@pytest.mark.row("HC-G8")
def test_a_status_that_no_sdk_knows(api: stripe.StripeClient, control: Control) -> None:
    intent = api.v1.payment_intents.create({"amount": 4200, "currency": "eur"}).id
    control.pay(intent)
    control.add_fault("unknown_status", path="/v1/refunds")
    refund = api.v1.refunds.create({"payment_intent": intent})
    assert refund.status == "status_of_a_later_version"
    assert api.v1.refunds.retrieve(refund.id).status == "succeeded", "the stored one is right"
    control.add_fault("unknown_status", method="GET", path="/v1/refunds")
    assert api.v1.refunds.list().data[0].status == "status_of_a_later_version"


@pytest.mark.parametrize(
    ("kind", "is_done"),
    [
        ("drop_before", False), ("http_500_before", False), ("http_429", False), ("http_401", False),
        ("drop_after", True), ("http_500_after", True), ("malformed", True), ("hang", True),
    ],
)  # fmt: skip
def test_faults_strike_refunds(kind: str, is_done: bool, sandbox: SandboxProcess, wire: Wire, control: Control) -> None:
    intent = wire.post(PATH, NEW).json()["id"]
    control.pay(intent)
    control.add_fault(kind, method="POST", path="/v1/refunds", seconds=0.1)
    with contextlib.suppress(requests.ConnectionError):
        wire.post("/v1/refunds", f"payment_intent={intent}", idempotency_key="refund:1")
    assert len(control.refunds(intent)) == is_done
    again = wire.post("/v1/refunds", f"payment_intent={intent}", idempotency_key="refund:1")
    assert again.status_code == (500 if kind == "http_500_after" else 200), "a stored 500 is replayed"
    assert len(control.refunds(intent)) == 1


@pytest.mark.parametrize(("kind", "is_made"), [("drop_before", False), ("drop_after", True)])
def test_faults_strike_checkout_sessions(kind: str, is_made: bool, wire: Wire, control: Control) -> None:
    session = (
        "mode=payment&success_url=https://tickets.example/&line_items[0][quantity]=1"
        "&line_items[0][price_data][currency]=eur&line_items[0][price_data][unit_amount]=1900"
        "&line_items[0][price_data][product_data][name]=Stalls"
    )
    control.add_fault(kind, path="/v1/checkout/*", count=2)
    for _ in range(2):
        with pytest.raises(requests.ConnectionError):
            wire.post("/v1/checkout/sessions", session, idempotency_key="session:1")
    assert len(wire.send("GET", "/v1/checkout/sessions").json()["data"]) == is_made
    assert wire.post("/v1/checkout/sessions", session, idempotency_key="session:1").status_code == 200
    assert len(wire.send("GET", "/v1/checkout/sessions").json()["data"]) == 1


def test_an_unknown_fault_is_refused(control: Control) -> None:
    with pytest.raises(ControlError, match="kind must be one of"):
        control.add_fault("earthquake")
    with pytest.raises(ControlError, match="cannot be negative"):
        control.add_fault("http_429", count=-1)
