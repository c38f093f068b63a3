from __future__ import annotations

import base64

import pytest
import requests

from tests.stripe_sandbox.process import SandboxProcess

from .contract import Contract
from .wire import Wire

INTENTS = "/v1/payment_intents"
OK = "amount=4200&currency=eur"

REFUSALS = {
    "amount missing": ("currency=eur", "parameter_missing", "amount"),
    "currency missing": ("amount=4200", "parameter_missing", "currency"),
    "amount no integer": ("amount=4.2&currency=eur", "parameter_invalid_integer", "amount"),
    "amount zero": ("amount=0&currency=eur", "parameter_invalid_integer", "amount"),
    "amount too small": ("amount=49&currency=eur", "amount_too_small", "amount"),
    "pounds too small": ("amount=29&currency=gbp", "amount_too_small", "amount"),
    "amount too large": ("amount=100000000&currency=eur", "amount_too_large", "amount"),
    "currency unknown": ("amount=4200&currency=xxx", None, "currency"),
    "currency empty": ("amount=4200&currency=", "parameter_invalid_empty", "currency"),
    "unknown parameter": (f"{OK}&colour=red", "parameter_unknown", "colour"),
    "unknown inner parameter": (
        f"{OK}&automatic_payment_methods[enabled]=true&automatic_payment_methods[x]=1",
        "parameter_unknown",
        "automatic_payment_methods[x]",
    ),
    "inner parameter missing": (
        f"{OK}&automatic_payment_methods[allow_redirects]=never",
        "parameter_missing",
        "automatic_payment_methods[enabled]",
    ),
    "no boolean": (f"{OK}&confirm=yes", None, "confirm"),
    "no hash": (f"{OK}&automatic_payment_methods=1", None, "automatic_payment_methods"),
    "no list": (f"{OK}&payment_method_types=card", None, "payment_method_types"),
    "not one of": (f"{OK}&capture_method=never", None, "capture_method"),
    "method type unknown": (f"{OK}&payment_method_types[]=shells", "payment_intent_invalid_parameter", None),
    "two ways to choose types": (
        f"{OK}&automatic_payment_methods[enabled]=true&payment_method_types[]=card",
        None,
        "automatic_payment_methods",
    ),
    "metadata key long": (f"{OK}&metadata[{'k' * 41}]=v", None, "metadata"),
    "metadata value long": (f"{OK}&metadata[k]={'v' * 501}", None, "metadata[k]"),
    "metadata too many": (f"{OK}&" + "&".join(f"metadata[k{n}]=v" for n in range(51)), "too_many_keys", "metadata"),
    "customer missing": (f"{OK}&customer=cus_none", "resource_missing", "customer"),
    "method missing": (f"{OK}&payment_method=pm_none", "resource_missing", "payment_method"),
    "return url missing": (f"{OK}&confirm=true&payment_method=pm_success_de", None, None),
    "nothing to confirm": (f"{OK}&confirm=true&return_url=https://x.example", "payment_intent_unexpected_state", None),
    "bad expansion": (f"{OK}&expand[]=amount", None, "expand"),
    "value and hash": (f"{OK}&metadata=1&metadata[a]=2", None, "metadata[a]"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_bad_request_is_refused_in_stripes_shape(name: str, wire: Wire, contract: Contract) -> None:
    body, code, param = REFUSALS[name]
    answer = wire.post(INTENTS, body)
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert (error["type"], error.get("code")) == ("invalid_request_error", code)
    assert param is None or error["param"] == param
    assert error["request_log_url"].endswith(answer.headers["Request-Id"])
    contract.check_object("error", answer.json())


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/payment_intents/"),
        ("DELETE", "/v1/payment_intents"),
        ("GET", "/v1/unicorns"),
        ("POST", "/v1/products"),
        ("GET", "/v2/payments"),
    ],
)
def test_what_is_not_supported_says_so(method: str, path: str, wire: Wire, contract: Contract) -> None:
    answer = wire.send(method, path)
    assert answer.status_code == 404
    assert answer.json()["error"]["message"].startswith(f"Unrecognized request URL ({method}: {path})")
    contract.check_object("error", answer.json())


@pytest.mark.parametrize(
    "path", ["payment_intents/pi_none", "charges/ch_none", "customers/cus_none", "events/evt_none"]
)
def test_what_does_not_exist_is_missing(path: str, wire: Wire) -> None:
    answer = wire.send("GET", f"/v1/{path}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "resource_missing")


def test_a_cursor_that_does_not_exist(wire: Wire) -> None:
    answer = wire.send("GET", f"{INTENTS}?starting_after=pi_none")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "starting_after")


@pytest.mark.parametrize("limit", ["0", "101", "ten"])
def test_limits_of_a_page(limit: str, wire: Wire) -> None:
    assert wire.send("GET", f"{INTENTS}?limit={limit}").status_code == 400


def test_keys(wire: Wire, sandbox: SandboxProcess) -> None:
    assert wire.send("GET", INTENTS, key="").status_code == 401
    wrong = wire.send("GET", INTENTS, key="sk_test_of_someone_else")
    assert wrong.status_code == 401
    assert "sk_test_of_someone_else" not in wrong.text and "Invalid API Key provided" in wrong.text
    basic = base64.b64encode(f"{sandbox.secret_key}:".encode()).decode()
    url = sandbox.api_base + INTENTS
    assert requests.get(url, headers={"Authorization": f"Basic {basic}"}, timeout=5).status_code == 200


@pytest.mark.parametrize(
    "call", [("GET", INTENTS), ("POST", INTENTS), ("GET", "/v1/events"), ("POST", "/v1/customers")]
)
def test_a_publishable_key_opens_nothing_else(call: tuple[str, str], wire: Wire, sandbox: SandboxProcess) -> None:
    answer = wire.send(*call, OK if call == ("POST", INTENTS) else "", key=sandbox.publishable_key)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "secret_key_required")


def test_card_numbers_are_not_for_servers(wire: Wire) -> None:
    body = "type=card&card[number]=4242424242424242&card[exp_month]=12&card[exp_year]=2034&card[cvc]=123"
    answer = wire.post("/v1/payment_methods", body)
    assert answer.status_code == 400 and "generally unsafe" in answer.text


@pytest.mark.parametrize(("version", "status"), [("2026-08-26.dahlia", 200), ("latest", 400)])
def test_versions_that_stripe_might_have_released_are_accepted(
    sandbox: SandboxProcess, version: str, status: int
) -> None:
    """Whoever walks the demo with an SDK of another month is served; nonsense is refused."""
    headers = {"Authorization": f"Bearer {sandbox.secret_key}", "Stripe-Version": version}
    assert requests.get(sandbox.api_base + INTENTS, headers=headers, timeout=5).status_code == status


def test_headers_of_every_answer(wire: Wire) -> None:
    answer = wire.post(INTENTS, OK)
    assert answer.headers["Request-Id"].startswith("req_")
    assert answer.headers["Stripe-Version"] == "2026-05-27.dahlia"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_browsers_may_ask_first(sandbox: SandboxProcess) -> None:
    answer = requests.options(sandbox.api_base + INTENTS, timeout=5)
    assert answer.status_code == 204 and "Authorization" in answer.headers["Access-Control-Allow-Headers"]


@pytest.mark.parametrize(
    "body", ["a=1&" * 3000, "[=1", "amount[[=1", "\x00\xff=%ff", "{}", "amount[0][1][2]=3&currency=eur"]
)
def test_nonsense_is_refused_and_breaks_nothing(body: str, wire: Wire) -> None:
    assert wire.post(INTENTS, body).status_code == 400


def test_an_oversized_body_is_refused(wire: Wire) -> None:
    assert wire.post(INTENTS, f"{OK}&description={'x' * 300_000}").status_code == 413
