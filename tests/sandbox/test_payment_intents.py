from __future__ import annotations

import time
from typing import Any

import pytest
import stripe

from tests.stripe_sandbox.process import Control, SandboxProcess

RETURN_URL = "https://tickets.example/return/"
CREATE = {
    "amount": 4200,
    "currency": "eur",
    "automatic_payment_methods": {"enabled": True},
    "metadata": {"order": "A1B2C3"},
    "description": "Order A1B2C3",
    "receipt_email": "ada@example.org",
}


def _create(api: stripe.StripeClient, **more: object) -> stripe.PaymentIntent:
    return api.v1.payment_intents.create(CREATE | more)  # type: ignore[arg-type]


def test_a_new_intent_waits_for_a_payment_method(api: stripe.StripeClient) -> None:
    intent = _create(api)
    assert intent.status == "requires_payment_method"
    assert (intent.amount, intent.currency, intent.amount_received) == (4200, "eur", 0)
    assert intent.client_secret and intent.client_secret.startswith(f"{intent.id}_secret_")
    assert intent.metadata["order"] == "A1B2C3"
    assert intent.automatic_payment_methods and intent.automatic_payment_methods.allow_redirects == "always"
    assert intent.payment_method_types == ["card"]


@pytest.mark.live
def test_paying_with_a_card(api: stripe.StripeClient) -> None:
    intent = _create(api)
    paid = api.v1.payment_intents.confirm(
        intent.id, {"payment_method": "pm_card_visa", "return_url": RETURN_URL, "expand": ["latest_charge"]}
    )
    assert (paid.status, paid.amount_received) == ("succeeded", 4200)
    assert isinstance(paid.latest_charge, stripe.Charge)
    assert (paid.latest_charge.status, paid.latest_charge.amount_captured) == ("succeeded", 4200)
    assert api.v1.payment_intents.retrieve(intent.id).status == "succeeded"
    assert [charge.id for charge in api.v1.charges.list({"payment_intent": intent.id}).data] == [paid.latest_charge.id]
    assert api.v1.charges.retrieve(paid.latest_charge.id).payment_intent == intent.id


@pytest.mark.live
def test_creating_and_confirming_in_one_call(api: stripe.StripeClient) -> None:
    intent = _create(api, confirm=True, payment_method="pm_card_mastercard", return_url=RETURN_URL)
    assert intent.status == "succeeded"


@pytest.mark.live
def test_choosing_a_method_first_asks_for_confirmation(api: stripe.StripeClient) -> None:
    intent = _create(api, payment_method="pm_card_visa")
    assert intent.status == "requires_confirmation"
    assert api.v1.payment_intents.confirm(intent.id, {"return_url": RETURN_URL}).status == "succeeded"


@pytest.mark.live
def test_a_decline_leaves_the_intent_open_for_another_card(api: stripe.StripeClient) -> None:
    intent = _create(api)
    with pytest.raises(stripe.CardError) as refusal:
        api.v1.payment_intents.confirm(
            intent.id, {"payment_method": "pm_card_chargeDeclinedInsufficientFunds", "return_url": RETURN_URL}
        )
    error: dict[str, Any] = refusal.value.json_body["error"]  # type: ignore[index]
    assert refusal.value.http_status == 402
    assert (error["type"], error["code"], error["decline_code"]) == (
        "card_error",
        "card_declined",
        "insufficient_funds",
    )
    assert error["payment_intent"]["status"] == "requires_payment_method"
    now = api.v1.payment_intents.retrieve(intent.id)
    assert now.last_payment_error and now.last_payment_error.decline_code == "insufficient_funds"
    paid = api.v1.payment_intents.confirm(intent.id, {"payment_method": "pm_card_visa", "return_url": RETURN_URL})
    assert paid.status == "succeeded" and paid.last_payment_error is None
    outcomes = [charge.status for charge in api.v1.charges.list({"payment_intent": intent.id}).data]
    assert outcomes == ["succeeded", "failed"]


def test_three_d_secure_redirects_when_confirmed_by_the_server(api: stripe.StripeClient, control: Control) -> None:
    intent = _create(api, confirm=True, payment_method="pm_card_authenticationRequired", return_url=RETURN_URL)
    assert intent.status == "requires_action"
    assert intent.next_action and intent.next_action.type == "redirect_to_url"
    assert intent.next_action.redirect_to_url and intent.next_action.redirect_to_url.return_url == RETURN_URL
    control.authenticate(intent.id)
    paid = api.v1.payment_intents.retrieve(intent.id, {"expand": ["latest_charge"]})
    assert paid.status == "succeeded" and paid.next_action is None
    assert isinstance(paid.latest_charge, stripe.Charge)
    details = paid.latest_charge.payment_method_details
    assert details and details.card and details.card.three_d_secure
    assert details.card.three_d_secure.result == "authenticated"


def test_failing_three_d_secure(api: stripe.StripeClient, control: Control) -> None:
    intent = _create(api)
    control.pay(intent.id, "4000 0027 6000 3184", complete=False)
    failed = api.v1.payment_intents.retrieve(intent.id)
    assert failed.status == "requires_payment_method"
    assert failed.last_payment_error
    assert failed.last_payment_error.code == "payment_intent_authentication_failure"
    assert control.ledger()["totals"]["eur"]["received"] == 0


def test_authenticated_and_then_declined(api: stripe.StripeClient, control: Control) -> None:
    intent = _create(api)
    control.pay(intent.id, "4000008400001629", complete=True)
    declined = api.v1.payment_intents.retrieve(intent.id)
    assert declined.last_payment_error and declined.last_payment_error.code == "card_declined"
    assert declined.status == "requires_payment_method"


@pytest.mark.live
def test_off_session_cannot_authenticate(api: stripe.StripeClient) -> None:
    with pytest.raises(stripe.CardError) as refusal:
        _create(api, confirm=True, payment_method="pm_card_authenticationRequired", off_session=True)
    assert refusal.value.code == "authentication_required"


@pytest.mark.live
def test_canceling(api: stripe.StripeClient) -> None:
    intent = _create(api)
    canceled = api.v1.payment_intents.cancel(intent.id, {"cancellation_reason": "abandoned"})
    assert canceled.status == "canceled" and canceled.canceled_at
    assert canceled.cancellation_reason == "abandoned"
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        api.v1.payment_intents.confirm(intent.id, {"payment_method": "pm_card_visa", "return_url": RETURN_URL})
    assert refusal.value.code == "payment_intent_unexpected_state"


@pytest.mark.live
def test_a_paid_intent_cannot_be_canceled_and_the_refusal_carries_it(api: stripe.StripeClient) -> None:
    intent = _create(api, confirm=True, payment_method="pm_card_visa", return_url=RETURN_URL)
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        api.v1.payment_intents.cancel(intent.id)
    error: dict[str, Any] = refusal.value.json_body["error"]  # type: ignore[index]
    assert (refusal.value.http_status, error["code"]) == (400, "payment_intent_unexpected_state")
    assert error["payment_intent"]["id"] == intent.id
    assert error["payment_intent"]["status"] == "succeeded"


def test_canceling_while_the_buyer_authenticates(api: stripe.StripeClient, control: Control) -> None:
    """Whoever answers the bank's page after that changes nothing."""
    intent = _create(api, confirm=True, payment_method="pm_card_authenticationRequired", return_url=RETURN_URL)
    api.v1.payment_intents.cancel(intent.id)
    with pytest.raises(AssertionError, match="waits for no authentication"):
        control.authenticate(intent.id)
    assert api.v1.payment_intents.retrieve(intent.id).status == "canceled"


@pytest.mark.live
def test_updating_until_paid(api: stripe.StripeClient) -> None:
    intent = _create(api)
    changed = api.v1.payment_intents.update(intent.id, {"amount": 5000, "metadata": {"order": "", "seat": "4"}})
    assert changed.amount == 5000 and changed.metadata.to_dict() == {"seat": "4"}
    api.v1.payment_intents.confirm(intent.id, {"payment_method": "pm_card_visa", "return_url": RETURN_URL})
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        api.v1.payment_intents.update(intent.id, {"amount": 1000})
    assert refusal.value.code == "payment_intent_unexpected_state"
    assert api.v1.payment_intents.update(intent.id, {"metadata": {"seat": "5"}}).metadata["seat"] == "5"


def test_a_bank_debit_takes_its_time(api: stripe.StripeClient, control: Control) -> None:
    control.set_debit_seconds(3 * 24 * 3600)
    intent = api.v1.payment_intents.create(
        {
            "amount": 4200,
            "currency": "eur",
            "payment_method_types": ["sepa_debit"],
            "payment_method": "pm_success_de",
            "confirm": True,
            "mandate_data": {"customer_acceptance": {"type": "offline"}},
        }
    )
    assert intent.status == "processing"
    with pytest.raises(stripe.InvalidRequestError):
        api.v1.payment_intents.cancel(intent.id)
    control.advance(3 * 24 * 3600 + 1)
    assert api.v1.payment_intents.retrieve(intent.id).status == "succeeded"


def test_a_bank_debit_can_fail(api: stripe.StripeClient, control: Control) -> None:
    intent = api.v1.payment_intents.create(
        {
            "amount": 900,
            "currency": "eur",
            "payment_method_types": ["sepa_debit"],
            "payment_method": "pm_failed_de",
            "confirm": True,
        }
    )
    control.settle(intent.id, succeeded=False)
    failed = api.v1.payment_intents.retrieve(intent.id, {"expand": ["latest_charge"]})
    assert failed.status == "requires_payment_method"
    assert isinstance(failed.latest_charge, stripe.Charge) and failed.latest_charge.status == "failed"


def test_listing_pages_both_ways(api: stripe.StripeClient) -> None:
    ids = [_create(api).id for _ in range(5)][::-1]
    first = api.v1.payment_intents.list({"limit": 2})
    assert [intent.id for intent in first.data] == ids[:2] and first.has_more
    second = api.v1.payment_intents.list({"limit": 2, "starting_after": ids[1]})
    assert [intent.id for intent in second.data] == ids[2:4] and second.has_more
    back = api.v1.payment_intents.list({"limit": 2, "ending_before": ids[3]})
    assert [intent.id for intent in back.data] == ids[1:3] and back.has_more
    assert [intent.id for intent in api.v1.payment_intents.list({"limit": 2}).auto_paging_iter()] == ids


def test_listing_by_time(api: stripe.StripeClient, control: Control) -> None:
    old = _create(api).id
    control.advance(3600)
    new = _create(api).id
    cut = int(time.time()) + 1800
    assert [intent.id for intent in api.v1.payment_intents.list({"created": {"gte": cut}}).data] == [new]
    assert [intent.id for intent in api.v1.payment_intents.list({"created": {"lt": cut}}).data] == [old]


def test_expanding_inside_a_list(api: stripe.StripeClient) -> None:
    _create(api, confirm=True, payment_method="pm_card_visa", return_url=RETURN_URL)
    listed = api.v1.payment_intents.list({"expand": ["data.latest_charge", "data.payment_method"]}).data[0]
    assert isinstance(listed.latest_charge, stripe.Charge)
    assert isinstance(listed.payment_method, stripe.PaymentMethod)


def test_customers(api: stripe.StripeClient) -> None:
    customer = api.v1.customers.create({"email": "ada@example.org", "name": "Ada", "metadata": {"user": "7"}})
    assert api.v1.customers.retrieve(customer.id).email == "ada@example.org"
    assert _create(api, customer=customer.id).customer == customer.id
    api.v1.customers.update(customer.id, {"name": "Ada L."})
    event = api.v1.events.list({"type": "customer.updated"}).data[0]
    assert event.to_dict()["data"]["previous_attributes"] == {"name": "Ada"}
    assert [found.id for found in api.v1.customers.list({"email": "ada@example.org"}).data] == [customer.id]


def test_balance_is_what_was_received_less_the_fee(api: stripe.StripeClient) -> None:
    _create(api, confirm=True, payment_method="pm_card_visa", return_url=RETURN_URL)
    assert [(part.amount, part.currency) for part in api.v1.balance.retrieve().pending] == [(4200 - 152, "eur")]


def test_a_publishable_key_sees_only_what_its_secret_opens(api: stripe.StripeClient, sandbox: SandboxProcess) -> None:
    import requests

    intent, other = _create(api), _create(api)
    headers = {"Authorization": f"Bearer {sandbox.publishable_key}"}
    url = f"{sandbox.api_base}/v1/payment_intents"

    def get(path: str, **query: str) -> tuple[int, dict[str, object]]:
        response = requests.get(url + path, params=query, headers=headers, timeout=5)
        return response.status_code, response.json()

    status, seen = get(f"/{intent.id}", client_secret=str(intent.client_secret))
    assert status == 200 and "metadata" not in seen and seen["client_secret"] == intent.client_secret
    assert get(f"/{intent.id}")[0] == 400
    assert get(f"/{intent.id}", client_secret=str(other.client_secret))[0] == 400
    assert get("")[0] == 403


@pytest.mark.live
def test_where_things_are_shipped_to(api: stripe.StripeClient) -> None:
    ada = {"name": "Ada", "address": {"line1": "1 Main Street", "city": "Linz", "country": "AT"}}
    intent = _create(api, shipping=ada, confirm=True, payment_method="pm_card_visa", return_url=RETURN_URL)
    assert intent.shipping and intent.shipping.address
    assert (intent.shipping.name, intent.shipping.address.city, intent.shipping.address.state) == ("Ada", "Linz", None)
    charge = api.v1.charges.list({"payment_intent": intent.id}).data[0]
    assert charge.shipping and charge.shipping.name == "Ada"
