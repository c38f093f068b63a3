from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import stripe

from tests.stripe_sandbox.process import Control, ControlError, SandboxProcess

from .clients import client
from .contract import Contract

HOUR = 3600
SUCCESS_URL = "https://tickets.example/orders/A1/?session={CHECKOUT_SESSION_ID}"
ITEMS = [
    {
        "price_data": {
            "currency": "eur",
            "unit_amount": 1900,
            "product_data": {"name": "Stalls", "description": "Row 4, seats 7 and 8"},
        },
        "quantity": 2,
    },
    {"price_data": {"currency": "eur", "unit_amount": 400, "product_data": {"name": "Fee"}}, "quantity": 1},
]
CREATE: dict[str, Any] = {
    "mode": "payment",
    "line_items": ITEMS,
    "success_url": SUCCESS_URL,
    "cancel_url": "https://tickets.example/checkout/",
    "customer_email": "ada@example.org",
    "client_reference_id": "A1",
    "metadata": {"order": "A1"},
    "payment_intent_data": {"description": "Order A1", "metadata": {"order": "A1", "kind": "tickets"}},
    "submit_type": "book",
    "locale": "en",
}


def _create(api: stripe.StripeClient, **more: object) -> stripe.checkout.Session:
    return api.v1.checkout.sessions.create(CREATE | more)  # type: ignore[arg-type]


def _again(api: stripe.StripeClient, session: stripe.checkout.Session) -> stripe.checkout.Session:
    return api.v1.checkout.sessions.retrieve(session.id, {"expand": ["payment_intent"]})


def _intent(session: stripe.checkout.Session) -> stripe.PaymentIntent:
    assert isinstance(session.payment_intent, stripe.PaymentIntent)
    return session.payment_intent


def _types(api: stripe.StripeClient) -> list[str]:
    return [event.type for event in reversed(api.v1.events.list({"limit": 50}).data)]


def test_a_new_session_is_open_and_has_no_payment_yet(api: stripe.StripeClient, control: Control) -> None:
    session = _create(api)
    assert (session.status, session.payment_status, session.amount_total) == ("open", "unpaid", 4200)
    assert session.id.startswith("cs_test_") and session.url and session.id in session.url
    assert session.payment_intent is None and "line_items" not in session.to_dict()
    assert session.expires_at - session.created == 24 * HOUR
    assert (session.client_reference_id, session.submit_type, session.locale) == ("A1", "book", "en")
    assert session.customer_details and session.customer_details.email == "ada@example.org"
    assert control.ledger()["payment_intents"] == [] and control.events() == []


def test_paying_completes_the_session(api: stripe.StripeClient, control: Control) -> None:
    session = _create(api)
    address = {"line1": "Hauptstr. 1", "postal_code": "10115", "city": "Berlin", "country": "DE"}
    control.pay_session(session.id, name="Ada L.", email="lovelace@example.org", address=address)
    paid = _again(api, session)
    assert (paid.status, paid.payment_status, paid.url) == ("complete", "paid", None)
    assert paid.customer_details
    assert (paid.customer_details.email, paid.customer_details.name) == ("lovelace@example.org", "Ada L.")
    assert paid.customer_details.address and paid.customer_details.address.city == "Berlin"
    intent = _intent(paid)
    assert (intent.status, intent.amount_received, intent.description) == ("succeeded", 4200, "Order A1")
    assert intent.metadata.to_dict() == {"order": "A1", "kind": "tickets"}
    line = control.ledger()["payment_intents"][0]
    assert (line["id"], line["amount_received"], line["metadata"]["order"]) == (intent.id, 4200, "A1")


def test_events_of_a_paid_session(api: stripe.StripeClient, control: Control, contract: Contract) -> None:
    session = _create(api)
    control.pay_session(session.id)
    assert _types(api) == [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
        "checkout.session.completed",
    ]
    event = control.events(event_type="checkout.session.completed")[0]
    told = event["data"]["object"]
    assert (told["id"], told["payment_status"], told["metadata"]) == (session.id, "paid", {"order": "A1"})
    for listed in api.v1.events.list({"limit": 50}).data:
        contract.check_event(listed.to_dict())


def test_a_declined_card_keeps_the_session_and_the_same_payment(api: stripe.StripeClient, control: Control) -> None:
    session = _create(api)
    control.pay_session(session.id, "pm_card_chargeDeclinedInsufficientFunds")
    declined = _again(api, session)
    assert (declined.status, declined.payment_status) == ("open", "unpaid") and declined.url
    assert _intent(declined).status == "requires_payment_method"
    control.pay_session(session.id, "4242 4242 4242 4242")
    paid = _again(api, session)
    assert paid.payment_status == "paid" and _intent(paid).id == _intent(declined).id
    charges = api.v1.charges.list({"payment_intent": _intent(paid).id}).data
    assert [charge.status for charge in charges] == ["succeeded", "failed"]


@pytest.mark.parametrize(("approves", "status"), [(True, "complete"), (False, "open")])
def test_three_d_secure(approves: bool, status: str, api: stripe.StripeClient, control: Control) -> None:
    session = _create(api)
    control.pay_session(session.id, "pm_card_authenticationRequired", complete=None)
    waiting = _again(api, session)
    assert (waiting.status, _intent(waiting).status) == ("open", "requires_action")
    control.authenticate(_intent(waiting).id, complete=approves)
    assert _again(api, session).status == status


def test_a_paid_session_cannot_be_paid_again(api: stripe.StripeClient, control: Control) -> None:
    session = _create(api)
    control.pay_session(session.id)
    with pytest.raises(ControlError, match="not charged again"):
        control.pay_session(session.id)
    assert control.ledger()["totals"]["eur"]["received"] == 4200


def test_expiring_an_open_session(api: stripe.StripeClient, control: Control, contract: Contract) -> None:
    session = _create(api)
    expired = api.v1.checkout.sessions.expire(session.id)
    assert (expired.status, expired.payment_status, expired.url) == ("expired", "unpaid", None)
    with pytest.raises(ControlError, match="has expired"):
        control.pay_session(session.id)
    assert _types(api) == ["checkout.session.expired"]
    contract.check_event(api.v1.events.list().data[0].to_dict())


@pytest.mark.parametrize("end", ["complete", "expired"])
def test_only_an_open_session_can_be_expired(end: str, api: stripe.StripeClient, control: Control) -> None:
    session = _create(api)
    control.pay_session(session.id) if end == "complete" else control.expire_session(session.id)
    with pytest.raises(stripe.InvalidRequestError, match=f"has a status of `{end}`") as refusal:
        api.v1.checkout.sessions.expire(session.id)
    assert refusal.value.http_status == 400
    assert _again(api, session).status == end


def test_expiring_while_the_buyer_authenticates_takes_no_money(api: stripe.StripeClient, control: Control) -> None:
    session = _create(api)
    control.pay_session(session.id, "pm_card_authenticationRequired", complete=None)
    intent = _intent(_again(api, session)).id
    api.v1.checkout.sessions.expire(session.id)
    with pytest.raises(ControlError, match="waits for no authentication"):
        control.authenticate(intent)
    assert api.v1.payment_intents.retrieve(intent).status == "canceled"
    assert control.ledger()["totals"]["eur"]["received"] == 0


def test_a_session_expires_by_itself(api: stripe.StripeClient, control: Control) -> None:
    session = _create(api, expires_at=control.now() + HOUR)
    control.advance(HOUR - 120)
    assert _again(api, session).status == "open"
    control.advance(120)
    assert _again(api, session).status == "expired"
    assert _types(api) == ["checkout.session.expired"]


@pytest.mark.parametrize(
    ("seconds", "complaint"), [(29 * 60, "at least 30 minutes"), (24 * HOUR + 60, "less than 24 hours")]
)
def test_expiry_is_half_an_hour_to_a_day_away(seconds: int, complaint: str, api: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError, match=complaint) as refusal:
        _create(api, expires_at=int(time.time()) + seconds)
    assert refusal.value.param == "expires_at"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"mode": "subscription"}, "mode"),
        ({"success_url": "orders/A1"}, "success_url"),
        ({"customer_email": "ada"}, "customer_email"),
        ({"line_items": [ITEMS[0], {"price": "price_1", "quantity": 1}]}, "line_items[1][price]"),
        ({"payment_method_types": ["ideal"]}, "payment_method_types"),
        ({"automatic_tax": {"enabled": True}}, "automatic_tax"),
        ({"shipping_address_collection": {"allowed_countries": ["DE"]}}, "shipping_address_collection"),
    ],
)
def test_what_is_refused(change: dict[str, Any], param: str, lenient: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        _create(lenient, **change)
    assert refusal.value.param == param


def test_a_total_too_small_and_two_currencies_are_refused(api: stripe.StripeClient) -> None:
    cheap = {"price_data": {"currency": "eur", "unit_amount": 20, "product_data": {"name": "Sweet"}}, "quantity": 1}
    with pytest.raises(stripe.InvalidRequestError, match=r"must add up to at least €0\.50 eur"):
        _create(api, line_items=[cheap])
    dollars = {"price_data": {"currency": "usd", "unit_amount": 900, "product_data": {"name": "Cap"}}, "quantity": 1}
    with pytest.raises(stripe.InvalidRequestError, match="one currency"):
        _create(api, line_items=[ITEMS[0], dollars])


def test_nothing_to_pay(api: stripe.StripeClient, control: Control) -> None:
    free = {"price_data": {"currency": "eur", "unit_amount": 0, "product_data": {"name": "Child"}}, "quantity": 1}
    session = _create(api, line_items=[free])
    assert session.payment_status == "no_payment_required"
    control.pay_session(session.id)
    done = _again(api, session)
    assert (done.status, done.payment_status, done.payment_intent) == ("complete", "no_payment_required", None)


def test_line_items(api: stripe.StripeClient) -> None:
    session = _create(api, expand=["line_items"])
    assert session.line_items
    assert [(item.description, item.quantity, item.amount_total) for item in session.line_items.data] == [
        ("Stalls", 2, 3800),
        ("Fee", 1, 400),
    ]
    first = api.v1.checkout.sessions.line_items.list(session.id, {"limit": 1})
    assert first.has_more and first.data[0].price and first.data[0].price.unit_amount == 1900
    rest = api.v1.checkout.sessions.line_items.list(session.id, {"starting_after": first.data[0].id})
    assert [item.description for item in rest.data] == ["Fee"] and not rest.has_more
    back = api.v1.checkout.sessions.line_items.list(session.id, {"ending_before": rest.data[0].id})
    assert [item.description for item in back.data] == ["Stalls"]


def test_listing(api: stripe.StripeClient, control: Control) -> None:
    opened, paid, other = _create(api).id, _create(api), _create(api, customer_email="bob@example.org").id
    control.pay_session(paid.id)
    intent = _intent(_again(api, paid)).id

    def found(**params: Any) -> list[str]:
        return [session.id for session in api.v1.checkout.sessions.list(params).data]  # type: ignore[arg-type]

    assert found() == [other, paid.id, opened]
    assert found(status="open") == [other, opened]
    assert found(payment_intent=intent) == [paid.id]
    assert found(customer_details={"email": "bob@example.org"}) == [other]
    assert found(limit=1, starting_after=other) == [paid.id]
    assert found(created={"gt": control.now() + 10}) == []


def test_metadata_can_change(api: stripe.StripeClient) -> None:
    session = _create(api)
    changed = api.v1.checkout.sessions.update(session.id, {"metadata": {"seat": "4"}})
    assert changed.metadata and changed.metadata.to_dict() == {"order": "A1", "seat": "4"}


def test_nobody_but_checkout_steers_its_payment(api: stripe.StripeClient, control: Control) -> None:
    session = _create(api)
    control.pay_session(session.id, "pm_card_chargeDeclined")
    intent = _intent(_again(api, session)).id
    steps = (
        lambda: api.v1.payment_intents.cancel(intent),
        lambda: api.v1.payment_intents.confirm(intent, {"payment_method": "pm_card_visa"}),
        lambda: api.v1.payment_intents.update(intent, {"amount": 100}),
    )
    for step in steps:
        with pytest.raises(stripe.InvalidRequestError, match="created by Checkout"):
            step()
    assert api.v1.payment_intents.update(intent, {"metadata": {"seat": "4"}}).metadata["seat"] == "4"
    api.v1.checkout.sessions.expire(session.id)
    assert api.v1.payment_intents.retrieve(intent).status == "canceled"


@pytest.mark.parametrize(
    ("succeeds", "payment_status", "event"),
    [
        (True, "paid", "checkout.session.async_payment_succeeded"),
        (False, "unpaid", "checkout.session.async_payment_failed"),
    ],
)
def test_a_bank_debit_is_answered_later(
    succeeds: bool, payment_status: str, event: str, api: stripe.StripeClient, control: Control
) -> None:
    control.set_debit_seconds(3 * 24 * HOUR)
    session = _create(api, payment_method_types=["card", "sepa_debit"])
    control.pay_session(session.id, "pm_success_de" if succeeds else "pm_failed_de")
    waiting = _again(api, session)
    assert (waiting.status, waiting.payment_status) == ("complete", "unpaid")
    assert _intent(waiting).status == "processing"
    control.advance(3 * 24 * HOUR + 1)
    assert _again(api, session).payment_status == payment_status
    assert _types(api)[-1] == event


def test_a_session_and_its_expiry_survive_a_kill(tmp_path: Path, contract: Contract) -> None:
    state = tmp_path / "stripe.sqlite3"
    with SandboxProcess(state=state) as first:
        session = _create(client(first, contract), expires_at=first.control.now() + HOUR)
        first.kill()
    with SandboxProcess(state=state) as second:
        second.control.advance(HOUR + 1)
        assert _again(client(second, contract), session).status == "expired"
