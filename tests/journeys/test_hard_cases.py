"""Hard cases that only real processes can show: Redis emptied, one database connection, a flood, PostgreSQL killed."""

import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
import requests
from django.db import connection, connections

from deploy.local.services import EmbeddedPostgres
from payments.models import WebhookEvent
from reservations.models import Order
from tests.factories import ProductFactory
from tests.journeys.letters import letters_to, wait_for_letter
from tests.journeys.shopper import Shopper
from tests.office import WEBHOOK_SECRET, Office
from tests.payments.posting import made_up
from tests.purchases import recount, stock_of
from tests.stripe_sandbox import signatures

pytestmark = pytest.mark.office


def buyer(office: Office) -> Shopper:
    return Shopper(office, email=f"{uuid.uuid4().hex}@example.org")


def send(office: Office, event: dict[str, Any]) -> requests.Response:
    """As Stripe would."""
    body = json.dumps(event).encode()
    headers = {
        "Stripe-Signature": signatures.header(body, [WEBHOOK_SECRET], timestamp=int(time.time())),
        "Content-Type": "application/json",
    }
    return requests.post(f"{office.base_url}/webhooks/stripe/", data=body, headers=headers, timeout=60)


def eventually(is_so: Callable[[], object], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


@pytest.mark.row("HC-E8")
def test_hc_e8_redis_emptied_in_the_middle_of_sales_costs_time_only(office: Office):
    """HC-E8: FLUSHALL between payment and settling, again and again: queue, locks, counters gone; every sale is completed."""
    product = ProductFactory(quotas__capacity=3)
    memory = redis.Redis.from_url(office.redis.url)
    sales = []
    for _ in range(3):
        shopper = buyer(office)
        placed = shopper.order(product)
        memory.flushall()
        shopper.pay(placed)
        memory.flushall()
        sales.append((shopper, placed))
    for shopper, placed in sales:
        assert shopper.wait_until_done(placed, seconds=60)["tickets"] == 1
    for shopper, _placed in sales:
        wait_for_letter(office.mailbox, shopper.email)
        assert len(letters_to(office.mailbox, shopper.email)) == 1
    assert stock_of(product) == recount(product.quotas.get()) == (0, 3)
    assert buyer(office).hold(product).status_code == 409


@pytest.mark.row("HC-F12")
def test_hc_f12_five_hundred_events_at_once_are_stored_and_worked_off(office: Office):
    """HC-F12: more senders than database connections, a sale in the middle: all answered 200, all dealt with."""
    shopper = buyer(office)
    run = uuid.uuid4().hex
    events = [made_up(id=f"evt_{run}_{number}", type="invoice.paid") for number in range(500)]
    with ThreadPoolExecutor(32) as senders:
        answers = [senders.submit(send, office, event) for event in events]
        placed = shopper.order(ProductFactory())
        shopper.pay(placed)
        assert Counter(answer.result().status_code for answer in answers) == {200: 500}
    mine = WebhookEvent.objects.filter(stripe_id__startswith=f"evt_{run}")
    eventually(lambda: mine.filter(status="IGNORED").count() == 500, "not worked off")
    assert shopper.wait_until_done(placed)["tickets"] == 1


@pytest.fixture
def narrow(office: Office) -> Iterator[Office]:
    """One connection to the database for the whole web process."""
    office.restart("web", DATABASE_POOL_SIZE="1")
    office.wait_until_ready()
    yield office
    office.restart("web")
    office.wait_until_ready()


@pytest.mark.row("HC-M5")
def test_hc_m5_without_a_free_connection_an_event_is_stored_or_sent_again(narrow: Office):
    """HC-M5: the only connection waits for a lock: 503 or stored, never half; then Stripe's next delivery is taken."""
    run = uuid.uuid4().hex
    events = [made_up(id=f"evt_{run}_{number}", type="invoice.paid") for number in range(12)]
    with psycopg.connect(narrow.database_url) as blocker, ThreadPoolExecutor(12) as senders:
        blocker.execute("LOCK TABLE payments_webhookevent IN ACCESS EXCLUSIVE MODE")
        answers = list(senders.map(partial(send, narrow), events))
        blocker.rollback()
    assert {answer.status_code for answer in answers} == {503}
    assert {answer.json()["code"] for answer in answers} == {"not_stored"}
    stored = WebhookEvent.objects.filter(stripe_id__startswith=f"evt_{run}")
    assert not stored.exists()
    assert [send(narrow, event).json() for event in events] == [{"received": True, "duplicate": False}] * 12
    assert stored.count() == 12
    shopper = buyer(narrow)
    placed = shopper.buy(ProductFactory(), 2)
    assert len(shopper.tickets(placed)) == 2


@pytest.fixture
def fragile(tmp_path: Path, django_db_blocker) -> Iterator[tuple[Office, EmbeddedPostgres]]:
    """An office on a PostgreSQL of its own, as durable as in production, that a test may kill."""
    with EmbeddedPostgres(tmp_path / "postgres", durable=True) as postgres:
        own = urlsplit(postgres.url)
        place = {
            "NAME": own.path.lstrip("/"),
            "USER": own.username,
            "PASSWORD": own.password,
            "HOST": own.hostname,
            "PORT": own.port,
        }
        before = {name: connection.settings_dict[name] for name in place}
        connections.close_all()
        try:
            with Office(tmp_path / "office", database_url=postgres.url) as office:
                connection.settings_dict.update(place)
                with django_db_blocker.unblock():
                    yield office, postgres
                    connections.close_all()
        finally:
            connection.settings_dict.update(before)


@pytest.mark.row("HC-M1")
def test_hc_m1_postgresql_killed_in_the_middle_of_a_sale_comes_back_with_all_that_was_committed(fragile):
    """HC-M1: SIGKILL after the payment, before it was noticed: webhooks wait, and after crash recovery the sale is done."""
    office, postgres = fragile
    product = ProductFactory(quotas__capacity=3)
    done, shopper = buyer(office).buy(product), buyer(office)
    office.stripe.control.pause_webhooks()
    placed = shopper.order(product)
    shopper.pay(placed)
    connections.close_all()
    postgres.kill()
    assert requests.get(f"{office.base_url}/readyz/", timeout=60).status_code == 503
    assert send(office, made_up(id="evt_while_it_is_dead", type="invoice.paid")).status_code >= 500
    office.stripe.control.resume_webhooks()
    postgres.start()
    assert shopper.wait_until_done(placed, seconds=90)["tickets"] == 1
    assert len(shopper.tickets(done)) == 1, "what had been sold is there"
    assert stock_of(product) == recount(product.quotas.get()) == (0, 2)
    assert set(Order.objects.values_list("status", flat=True)) == {"PAID"}
    wait_for_letter(office.mailbox, shopper.email, seconds=90)
    assert len(letters_to(office.mailbox, shopper.email)) == 1
    paid = office.stripe.control.ledger()["payment_intents"]
    assert [line["charges_succeeded"] for line in paid] == [1, 1]
    assert shopper.buy(product), "and selling goes on"
