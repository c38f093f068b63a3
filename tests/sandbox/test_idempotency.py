"""docs.stripe.com/api/idempotent_requests, sentence by sentence."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import stripe

from tests.stripe_sandbox.process import Control, SandboxProcess

from .clients import client
from .contract import Contract
from .wire import Wire

NEW = "amount=4200&currency=eur"
PATH = "/v1/payment_intents"
DAY_SECONDS = 24 * 3600


def test_the_first_answer_is_given_again(wire: Wire, control: Control) -> None:
    first = wire.post(PATH, NEW, idempotency_key="k")
    again = wire.post(PATH, NEW, idempotency_key="k")
    assert again.text == first.text
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Original-Request"] == first.headers["Request-Id"] != again.headers["Request-Id"]
    assert "Idempotent-Replayed" not in first.headers
    assert len(control.ledger()["payment_intents"]) == 1
    assert [entry["is_replay"] for entry in control.requests()] == [False, True]


def test_the_order_of_parameters_does_not_matter(wire: Wire) -> None:
    first = wire.post(PATH, "amount=4200&currency=eur", idempotency_key="k")
    assert wire.post(PATH, "currency=eur&amount=4200", idempotency_key="k").json()["id"] == first.json()["id"]


def test_other_parameters_are_refused(wire: Wire) -> None:
    wire.post(PATH, NEW, idempotency_key="k")
    refused = wire.post(PATH, "amount=4300&currency=eur", idempotency_key="k")
    assert refused.status_code == 400
    assert refused.json()["error"]["type"] == "idempotency_error"
    assert "same parameters" in refused.json()["error"]["message"]


def test_another_endpoint_is_refused(wire: Wire) -> None:
    intent = wire.post(PATH, NEW, idempotency_key="k").json()["id"]
    refused = wire.post(f"{PATH}/{intent}/cancel", idempotency_key="k")
    assert (refused.status_code, refused.json()["error"]["type"]) == (400, "idempotency_error")
    assert "same endpoint" in refused.json()["error"]["message"]


def test_while_the_first_still_runs_the_second_conflicts(wire: Wire, control: Control) -> None:
    control.add_fault("hang", path=PATH, seconds=3)  # a busy machine may be late with the second
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: wire.post(PATH, NEW, idempotency_key="k"), range(2)))
    answers.sort(key=lambda answer: answer.status_code)
    assert [answer.status_code for answer in answers] == [200, 409]
    assert answers[1].json()["error"]["code"] == "idempotency_key_in_use"
    assert answers[1].headers["Stripe-Should-Retry"] == "true"
    assert wire.post(PATH, NEW, idempotency_key="k").json()["id"] == answers[0].json()["id"]


def test_the_sdk_waits_out_a_conflict(sandbox: SandboxProcess, contract: Contract, control: Control) -> None:
    api = client(sandbox, contract, retries=4)
    control.add_fault("hang", path=PATH, seconds=0.4)
    with ThreadPoolExecutor(2) as pool:
        made = list(
            pool.map(
                lambda _: (
                    api.v1.payment_intents.create({"amount": 4200, "currency": "eur"}, {"idempotency_key": "k"}).id
                ),
                range(2),
            )
        )
    assert made[0] == made[1]


def test_a_failure_that_was_executed_is_stored_too(wire: Wire) -> None:
    body = f"{NEW}&confirm=true&payment_method=pm_card_chargeDeclined&return_url=https://shop.example/"
    first = wire.post(PATH, body, idempotency_key="k")
    again = wire.post(PATH, body, idempotency_key="k")
    assert first.status_code == again.status_code == 402
    assert again.headers["Idempotent-Replayed"] == "true" and again.text == first.text


def test_a_500_after_the_work_is_replayed_although_the_object_exists(wire: Wire, control: Control) -> None:
    control.add_fault("http_500_after", path=PATH)
    first = wire.post(PATH, NEW, idempotency_key="k")
    again = wire.post(PATH, NEW, idempotency_key="k")
    assert first.status_code == again.status_code == 500
    assert again.headers["Idempotent-Replayed"] == "true"
    assert first.headers["Stripe-Should-Retry"] == again.headers["Stripe-Should-Retry"] == "false"
    assert len(wire.send("GET", PATH).json()["data"]) == 1


@pytest.mark.parametrize("fault", ["http_500_before", "http_429", "drop_before"])
def test_what_fails_before_execution_stores_nothing(wire: Wire, control: Control, fault: str) -> None:
    control.add_fault(fault, path=PATH)
    try:
        assert wire.post(PATH, NEW, idempotency_key="k").status_code in (429, 500)
    except OSError:
        assert fault == "drop_before"
    again = wire.post(PATH, NEW, idempotency_key="k")
    assert again.status_code == 200 and "Idempotent-Replayed" not in again.headers


def test_invalid_parameters_store_nothing(wire: Wire) -> None:
    assert wire.post(PATH, "currency=eur", idempotency_key="k").status_code == 400
    assert wire.post(PATH, NEW, idempotency_key="k").status_code == 200


def test_a_lost_answer_is_found_again(sandbox: SandboxProcess, contract: Contract, control: Control) -> None:
    """The SDK retries a cut connection with the same key, and one intent is all there is."""
    control.add_fault("drop_after", path=PATH)
    made = client(sandbox, contract, retries=2).v1.payment_intents.create({"amount": 4200, "currency": "eur"})
    assert [line["id"] for line in control.ledger()["payment_intents"]] == [made.id]
    log = control.requests(method="POST", path=PATH)
    assert len(log) == 2 and log[0]["idempotency_key"] == log[1]["idempotency_key"]


def test_after_a_day_a_key_is_new(wire: Wire, control: Control) -> None:
    first = wire.post(PATH, NEW, idempotency_key="k").json()["id"]
    control.advance(DAY_SECONDS - 60)
    assert wire.post(PATH, NEW, idempotency_key="k").json()["id"] == first
    control.advance(120)
    assert wire.post(PATH, NEW, idempotency_key="k").json()["id"] != first


def test_keys_have_a_longest_length(wire: Wire) -> None:
    assert wire.post(PATH, NEW, idempotency_key="k" * 255).status_code == 200
    assert wire.post(PATH, NEW, idempotency_key="k" * 256).status_code == 400


def test_reading_ignores_keys(wire: Wire) -> None:
    for _ in range(2):
        assert "Idempotent-Replayed" not in wire.send("GET", PATH, idempotency_key="k").headers


def test_refusals_keep_stripes_shape(lenient: stripe.StripeClient, contract: Contract) -> None:
    lenient.v1.payment_intents.create({"amount": 4200, "currency": "eur"}, {"idempotency_key": "k"})
    with pytest.raises(stripe.IdempotencyError) as refusal:
        lenient.v1.payment_intents.create({"amount": 1, "currency": "usd"}, {"idempotency_key": "k"})
    contract.check_object("error", refusal.value.json_body)
