"""API.md's buying calls, walked over HTTP against the running office, with Stripe's own SDK as the card form."""

import json
import time
import uuid
from collections.abc import Callable

import pytest
import requests
import stripe

from reservations.models import Order, Reservation
from tests.factories import EventFactory, ProductFactory, QuotaFactory, SlotFactory
from tests.journeys.letters import letters_to, wait_for_letter
from tests.journeys.shopper import Shopper
from tests.office import Office
from ticketing.models import Quota

pytestmark = pytest.mark.office


def address() -> str:
    return f"{uuid.uuid4().hex}@example.org"


@pytest.mark.row("P1", "P3", "P7", "T3", "T4", "H1")
def test_two_tickets_are_paid_ticketed_and_mailed(office: Office):
    shopper = Shopper(office, email=address())
    product = ProductFactory(quotas__capacity=5)
    placed = shopper.buy(product, 2)
    tickets = shopper.tickets(placed)
    assert [ticket["serial"] for ticket in tickets] == [1, 2]
    assert len({ticket["qr"] for ticket in tickets}) == 2
    assert all(requests.get(ticket["url"], timeout=10).status_code == 200 for ticket in tickets)
    letter = wait_for_letter(office.mailbox, shopper.email)
    text = letter.get_body(("plain",)).get_content()
    assert placed["order"]["code"] in text
    assert all(ticket["url"] in text for ticket in tickets)
    assert (quota := Quota.objects.get(products=product)).sold == 2
    assert quota.held == 0


@pytest.mark.row("P3", "H1")
def test_calls_repeated_by_an_impatient_client_make_one_order_and_one_intent(office: Office):
    shopper = Shopper(office, email=address())
    product, key = ProductFactory(), str(uuid.uuid4())
    first, second = shopper.hold(product, key=key), shopper.hold(product, key=key)
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.headers["Idempotent-Replayed"] == "true"
    assert first.json()["id"] == second.json()["id"]
    placed, again = shopper.checkout(first.json()["id"]), shopper.checkout(first.json()["id"])
    assert (placed.status_code, again.status_code) == (201, 200)
    assert placed.json() == again.json()
    assert Order.objects.filter(email=shopper.email).count() == 1


@pytest.mark.row("P1")
def test_a_declined_card_keeps_the_hold_and_another_card_pays(office: Office):
    shopper = Shopper(office, email=address())
    placed = shopper.order(ProductFactory())
    with pytest.raises(stripe.CardError):
        shopper.pay(placed, "pm_card_chargeDeclined")
    assert shopper.status(placed)["order"] == "awaiting_payment"
    shopper.pay(placed)
    assert shopper.wait_until_done(placed)["tickets"] == 1


@pytest.mark.row("T2")
def test_a_free_order_is_ticketed_in_the_same_answer(office: Office):
    shopper = Shopper(office, email=address())
    placed = shopper.order(ProductFactory(free=True), 3)
    assert placed["payment"] is None
    assert placed["order"]["status"] == "paid"
    assert shopper.status(placed) | {"message": ""} == {
        "order": "paid",
        "payment": "none",
        "tickets": 3,
        "refund": "none",
        "done": True,
        "next_poll_ms": 0,
        "sync_now": False,
        "message": "",
    }
    wait_for_letter(office.mailbox, shopper.email)


@pytest.mark.row("H2", "H1")
def test_crossed_quotas_and_slots_refuse_with_what_is_left(office: Office):
    """VIP 2 and slot 3: neither can be passed; the refusal names what is left and takes nothing."""
    event = EventFactory()
    slot = SlotFactory(event=event)
    group, vip = QuotaFactory(event=event, slot=slot, capacity=3), QuotaFactory(event=event, capacity=2)
    everyone = ProductFactory(event=event, quotas=[group])
    special = ProductFactory(event=event, quotas=[group, vip])
    shopper = Shopper(office)
    assert shopper.hold(everyone, 2, slot=slot.pk).status_code == 201
    refusal = shopper.hold(special, 2, slot=slot.pk)
    assert refusal.status_code == 409
    assert refusal.json()["code"] == "sold_out"
    assert refusal.json()["lines"] == [{"product": special.pk, "slot": slot.pk, "requested": 2, "available": 1}]
    vip.refresh_from_db()
    assert vip.held == 0


@pytest.mark.row("H4")
def test_an_abandoned_checkout_gives_its_seats_back_and_can_no_longer_be_paid(office: Office):
    shopper = Shopper(office, email=address())
    product = ProductFactory(quotas__capacity=1)
    placed = shopper.order(product)
    assert shopper.hold(product).status_code == 409
    order = Order.objects.get(code=placed["order"]["code"])
    Reservation.objects.filter(pk=order.reservation_id).update(expires_at="2020-01-01T00:00:00Z")
    assert shopper.wait_until_done(placed)["order"] == "cancelled"
    with pytest.raises(stripe.InvalidRequestError, match="canceled"):
        shopper.pay(placed)
    assert shopper.hold(product).status_code == 201
    letter = wait_for_letter(office.mailbox, shopper.email)
    assert "charged" in letter.get_body(("plain",)).get_content()


@pytest.mark.row("H6")
def test_cancelling_an_order_closes_the_payment_first(office: Office):
    shopper = Shopper(office, email=address())
    product = ProductFactory(quotas__capacity=1)
    hold = shopper.hold(product).json()
    placed = shopper.checkout(hold["id"]).json()
    refusal = requests.delete(f"{shopper.call}/reservations/{hold['id']}/", timeout=10)
    assert (refusal.status_code, refusal.json()["code"]) == (409, "ordered")
    cancelled = requests.post(refusal.json()["cancel_url"], timeout=30)
    assert (cancelled.status_code, cancelled.json()["order"]) == (200, "cancelled")
    with pytest.raises(stripe.InvalidRequestError):
        shopper.pay(placed)
    assert shopper.hold(product).status_code == 201


@pytest.mark.row("P7")
def test_twenty_copies_of_one_webhook_have_one_effect(office: Office):
    shopper = Shopper(office, email=address())
    placed = shopper.buy(ProductFactory())
    intent = placed["payment"]["stripe_payment_intent_id"]
    [event] = office.stripe.control.events(event_type="payment_intent.succeeded", subject=intent)
    office.stripe.control.resend(event["id"], copies=20)
    office.stripe.control.wait_for_webhooks(seconds=30)
    assert shopper.status(placed)["tickets"] == 1
    wait_for_letter(office.mailbox, shopper.email)
    assert len(letters_to(office.mailbox, shopper.email)) == 1


@pytest.mark.row("P4")
def test_stripe_down_then_up_loses_nothing_and_charges_once(office: Office):
    shopper = Shopper(office, email=address())
    hold = shopper.hold(ProductFactory()).json()
    office.stripe.control.add_fault("http_500_before", method="POST", path="/v1/payment_intents", count=3)
    refused = shopper.checkout(hold["id"])
    assert refused.status_code == 503
    told = refused.json()
    assert (told["code"], told["retryable"]) == ("payment_unavailable", True)
    assert told["expires_at"] > hold["expires_at"], "ten more minutes"
    office.stripe.control.clear_faults()
    placed = shopper.checkout(hold["id"]).json()
    assert placed["order"]["code"] == refused.json()["order"]["code"]
    shopper.pay(placed)
    assert shopper.wait_until_done(placed)["tickets"] == 1


@pytest.mark.row("M9")
def test_one_request_id_runs_from_web_to_worker(office: Office):
    """The id of the request that queued the letter stands in the worker's lines about sending it."""
    shopper, request_id = Shopper(office, email=address()), uuid.uuid4().hex
    hold = shopper.hold(ProductFactory(free=True)).json()
    details = {"email": shopper.email, "name": "Ada"}
    answer = requests.post(
        f"{shopper.call}/reservations/{hold['id']}/checkout/",
        json=details,
        headers={"X-Request-ID": request_id},
        timeout=30,
    )
    assert answer.headers["X-Request-ID"] == request_id
    wait_for_letter(office.mailbox, shopper.email)
    assert request_id in office.log("web").read_text()
    assert _eventually(
        lambda: any(
            request_id in line and "e-mail sent" in line for line in office.log("worker").read_text().splitlines()
        )
    )
    assert shopper.email not in office.log("web").read_text() + office.log("worker").read_text()


def test_a_chunked_request_is_read_whole(office: Office):
    """HTTP/1.1 without Content-Length, as some clients and proxies send it."""
    product = ProductFactory()
    body = json.dumps({"event": product.event.slug, "lines": [{"product": product.pk, "quantity": 1}]}).encode()
    parts = (body[start : start + 10] for start in range(0, len(body), 10))
    headers = {"Content-Type": "application/json"}
    answer = requests.post(f"{office.base_url}/api/v1/reservations/", data=parts, headers=headers, timeout=10)
    assert answer.status_code == 201


def _eventually(is_so: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.2)
    return is_so()
