"""SIGKILL of the office's own web process and worker at some of the failpoints (the others: test_crash_matrix.py)."""

import time
import uuid
from collections.abc import Callable, Iterator

import pytest
import requests
from django.db.models.functions import Now

from payments import expiry
from payments.models import Payment, Refund, WebhookEvent
from reservations.models import Order
from tests import hard_cases
from tests.factories import ProductFactory
from tests.journeys.letters import letters_to, wait_for_letter
from tests.journeys.shopper import Shopper
from tests.office import Office
from tests.purchases import end_time, order_of, stock_of
from ticketing.models import OutgoingEmail

pytestmark = pytest.mark.office


def buyer(office: Office) -> Shopper:
    return Shopper(office, email=f"{uuid.uuid4().hex}@example.org")


def eventually(is_so: Callable[[], object], what: str, seconds: float = 45) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


@pytest.fixture
def sick_worker(office: Office) -> Iterator[Callable[[str], None]]:
    """Gives a function that replaces the worker by one whose processes die at a place; a healthy one comes back after."""

    def start(place: str) -> None:
        office.restart("worker", FAILPOINTS=f"{place}=kill", DEBUG="on")

    yield start
    if "worker" in office.children:
        office.kill("worker")
    office.start("worker")


def cured(office: Office) -> None:
    """A healthy worker, and what the dead one had leased is due."""
    office.kill("worker")
    office.start("worker")
    Payment.objects.filter(status__in=Payment.UNDECIDED).update(next_attempt_at=Now())
    Refund.objects.filter(status__in=Refund.OWED).update(next_attempt_at=Now())
    OutgoingEmail.objects.filter(status="PENDING").update(next_attempt_at=Now())
    WebhookEvent.objects.filter(status="RECEIVED").update(next_attempt_at=Now())


def ledger_of(office: Office, order: Order) -> list[dict]:
    intents = office.stripe.control.ledger()["payment_intents"]
    return [line for line in intents if line["metadata"].get("order") == order.code]


@pytest.mark.row("HC-B2", "P6")
def test_hc_b2_the_web_process_killed_after_opening_a_payment(office: Office, record_property):
    record_property(hard_cases.CELL, "after_opened while the office's web process checks out")
    shopper = buyer(office)
    held = shopper.hold(ProductFactory()).json()
    office.restart("web", FAILPOINTS="after_opened=kill", DEBUG="on")
    office.wait_until_ready()
    with pytest.raises(requests.RequestException):
        shopper.checkout(held["id"])
    office.kill("web")
    office.start("web")
    office.wait_until_ready()
    placed = shopper.checkout(held["id"]).json()
    shopper.pay(placed)
    assert shopper.wait_until_done(placed)["tickets"] == 1
    (line,) = ledger_of(office, order_of(held["id"]))
    assert line["charges_succeeded"] == 1
    wait_for_letter(office.mailbox, shopper.email)


@pytest.mark.row("HC-D4", "HC-E4", "P6")
def test_hc_e4_the_worker_killed_between_ending_a_payment_and_giving_back_its_seat(
    office: Office, sick_worker, record_property
):
    record_property(hard_cases.CELL, "after_cancel_before_commit while the office's worker closes an order")
    shopper, product = buyer(office), ProductFactory(quotas__capacity=1)
    order = Order.objects.get(code=shopper.order(product)["order"]["code"])
    sick_worker("after_cancel_before_commit")
    end_time(order.reservation_id)
    eventually(lambda: ledger_of(office, order)[0]["status"] == "canceled", "nobody tried to close it")
    assert stock_of(product) == (1, 0), "not given back by half"
    cured(office)
    eventually(lambda: stock_of(product) == (0, 0), "the seat was not given back")
    order.refresh_from_db()
    assert order.status == "CANCELLED"
    assert shopper.hold(product).status_code == 201


@pytest.mark.row("HC-D11", "HC-D12", "P10", "P6")
@pytest.mark.parametrize("place", ["before_refund", "after_refund_before_commit"])
def test_hc_d11_the_worker_killed_around_a_refund(office: Office, sick_worker, place, record_property):
    record_property(hard_cases.CELL, f"{place} while the office's worker refunds")
    shopper, product = buyer(office), ProductFactory(quotas__capacity=1)
    placed = shopper.order(product)
    order = Order.objects.get(code=placed["order"]["code"])
    office.kill("worker")  # nobody closes it before it is paid
    end_time(order.reservation_id, seconds=700)
    expiry.force_release(order.pk, by="staff:1", why="a test")
    assert shopper.hold(product).status_code == 201
    office.start("worker", FAILPOINTS=f"{place}=kill", DEBUG="on")
    shopper.pay(placed)
    eventually(lambda: Refund.objects.filter(payment__order=order, sent_at__isnull=False).exists(), "never sent")
    cured(office)
    eventually(lambda: Refund.objects.get(payment__order=order).status == "SUCCEEDED", "never refunded")
    (line,) = ledger_of(office, order)
    assert (line["amount_received"], line["amount_refunded"]) == (order.total_minor, order.total_minor)
    assert len(office.stripe.control.refunds(line["id"])) == 1
    assert shopper.wait_until_done(placed)["refund"] == "full"


@pytest.mark.row("HC-E5", "HC-E6", "P6")
@pytest.mark.parametrize(("place", "copies"), [("before_email", 1), ("after_email_before_mark", 2)])
def test_hc_e5_the_worker_killed_around_a_letter(office: Office, sick_worker, place, copies, record_property):
    record_property(hard_cases.CELL, f"{place} while the office's worker writes")
    sick_worker(place)
    shopper = buyer(office)
    placed = shopper.order(ProductFactory(free=True))
    letter = OutgoingEmail.objects.get(reference=placed["order"]["code"])
    eventually(lambda: OutgoingEmail.objects.get(pk=letter.pk).attempts, "nobody tried to send it")
    eventually(lambda: len(letters_to(office.mailbox, shopper.email)) == copies - 1, "sent before it died")
    cured(office)
    eventually(lambda: OutgoingEmail.objects.get(pk=letter.pk).status == "SENT", "never sent")
    sent = letters_to(office.mailbox, shopper.email)
    assert (len(sent), len({str(each["Message-ID"]) for each in sent})) == (copies, 1)
