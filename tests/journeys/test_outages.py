"""Parts of the office die in the middle of a sale; nothing accepted is lost."""

import uuid

import pytest
import requests

from payments.models import WebhookEvent
from reservations.models import Order, Reservation
from tests.factories import ProductFactory
from tests.journeys.letters import letters_to, wait_for_letter
from tests.journeys.shopper import Shopper
from tests.office import Office

pytestmark = pytest.mark.office


def buyer(office: Office) -> Shopper:
    return Shopper(office, email=f"{uuid.uuid4().hex}@example.org")


@pytest.mark.row("HC-E8", "HC-E1", "P8")
def test_redis_dead_a_purchase_still_completes(office: Office):
    office.redis.kill()
    shopper = buyer(office)
    placed = shopper.buy(ProductFactory())
    assert requests.get(placed["order"]["url"], timeout=10).status_code == 200
    ready = requests.get(f"{office.base_url}/readyz/", timeout=10)
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert requests.get(f"{office.base_url}/readyz/?strict=1", timeout=10).status_code == 503
    wait_for_letter(office.mailbox, shopper.email)
    office.redis.start()
    again = buyer(office)
    again.buy(ProductFactory())
    wait_for_letter(office.mailbox, again.email)


@pytest.mark.row("HC-E1", "P7", "P8")
def test_worker_dead_the_webhook_is_answered_and_waits(office: Office):
    office.kill("worker")
    shopper = buyer(office)
    placed = shopper.order(ProductFactory())
    shopper.pay(placed)
    office.stripe.control.wait_for_webhooks(seconds=30)
    intent = placed["payment"]["stripe_payment_intent_id"]
    event = WebhookEvent.objects.get(type="payment_intent.succeeded", object_id=intent)
    assert event.status == WebhookEvent.Status.RECEIVED
    assert shopper.status(placed)["order"] == "awaiting_payment"
    office.start("worker")
    assert shopper.wait_until_done(placed)["tickets"] == 1


@pytest.mark.row("HC-E4", "P5")
@pytest.mark.parametrize("place", ["webhook_after_retrieve", "in_settle_0", "in_settle_2", "before_webhook_commit"])
def test_worker_killed_in_the_middle_of_settling_the_next_one_settles(office: Office, place: str):
    """SIGKILL at a failpoint inside the one transaction: nothing of it is seen, and a healthy worker does it all."""
    office.kill("worker")
    # Sweeps of the sick worker run in its main process too, so its pool and its fallback loop both die at the failpoint.
    office.start("worker", FAILPOINTS=f"{place}=kill", DEBUG="on")
    shopper = buyer(office)
    placed = shopper.order(ProductFactory(), 2)
    shopper.pay(placed)
    office.stripe.control.wait_for_webhooks(seconds=30)
    intent = placed["payment"]["stripe_payment_intent_id"]
    event = WebhookEvent.objects.get(type="payment_intent.succeeded", object_id=intent)
    _wait_for_an_attempt(event)
    assert shopper.status(placed)["tickets"] == 0
    office.kill("worker")
    WebhookEvent.objects.filter(pk=event.pk).update(next_attempt_at="2020-01-01T00:00:00Z")
    office.start("worker")
    assert shopper.wait_until_done(placed)["tickets"] == 2
    wait_for_letter(office.mailbox, shopper.email)
    assert len(letters_to(office.mailbox, shopper.email)) == 1


@pytest.mark.row("H4", "H10")
def test_every_worker_dead_a_hold_past_its_time_is_taken_by_the_next_buyer(office: Office):
    office.kill("worker")
    office.kill("beat")
    shopper, product = buyer(office), ProductFactory(quotas__capacity=1)
    hold = shopper.hold(product).json()
    assert shopper.hold(product).status_code == 409
    Reservation.objects.filter(pk=hold["id"]).update(expires_at="2020-01-01T00:00:00Z")
    free = requests.get(f"{shopper.call}/events/{product.event.slug}/availability/", timeout=10).json()
    assert free["products"][0]["available"] == 1
    assert shopper.hold(product).status_code == 201
    assert requests.get(f"{shopper.call}/reservations/{hold['id']}/", timeout=10).json()["status"] == "expired"


@pytest.mark.row("HC-B2", "P3", "P4")
@pytest.mark.parametrize("place", ["before_stripe", "after_stripe_before_commit"])
def test_web_killed_around_the_call_to_stripe_leaves_one_intent(office: Office, place: str):
    shopper = buyer(office)
    hold = shopper.hold(ProductFactory()).json()
    office.restart("web", FAILPOINTS=f"{place}=kill", DEBUG="on")
    office.wait_until_ready()
    with pytest.raises(requests.RequestException):
        shopper.checkout(hold["id"])
    office.kill("web")
    office.start("web")
    office.wait_until_ready()
    placed = shopper.checkout(hold["id"])
    assert placed.status_code == 200
    order = Order.objects.get(email=shopper.email)
    made = [
        row for row in office.stripe.control.ledger()["payment_intents"] if row["metadata"].get("order") == order.code
    ]
    assert len(made) == 1
    shopper.pay(placed.json())
    assert shopper.wait_until_done(placed.json())["tickets"] == 1


def _wait_for_an_attempt(event: WebhookEvent) -> None:
    import time

    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        event.refresh_from_db()
        if event.attempts:
            return
        time.sleep(0.1)
    raise AssertionError("no worker tried the event")
