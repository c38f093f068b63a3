from __future__ import annotations

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


def test_an_unknown_fault_is_refused(control: Control) -> None:
    with pytest.raises(ControlError, match="kind must be one of"):
        control.add_fault("earthquake")
