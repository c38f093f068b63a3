"""Broker, workers and letters fail (HC-E): what was accepted is in the database, and from there it is done once."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

import pytest
from celery import current_app
from django.core import mail
from django.db.models import F
from django.db.models.functions import Now

from config import nudges
from config.beat import SCHEDULE
from config.failpoints import FailpointReached
from payments import expiry, inbox, webhooks
from payments.models import Payment, WebhookEvent
from reservations.models import Order, Reservation
from tests.factories import ProductFactory
from tests.payments.posting import deliver, events_of, made_up, post, stored
from tests.purchases import check_out, end_time, hold, order_of, ordered, recount, stock_of
from tests.races import at_once
from ticketing import emails
from ticketing.models import OutgoingEmail, Ticket

pytestmark = pytest.mark.django_db(transaction=True)


def paid_event(client, sandbox, product, quantity: int = 1) -> tuple[Order, dict]:
    """A paid order of which nobody has told us, and the event that would."""
    order, payment = ordered(client, product, quantity)
    sandbox.control.pay(payment.stripe_payment_intent_id)
    return order, events_of(sandbox, payment, "payment_intent.succeeded")[0]


@pytest.fixture
def announcements(monkeypatch) -> list[str]:
    """The names of the tasks that were handed to the broker."""
    sent: list[str] = []
    monkeypatch.setattr(nudges.app, "send_task", lambda name, **options: sent.append(name))
    return sent


@pytest.mark.row("HC-E2")
def test_hc_e2_the_order_stands_when_hurrying_a_worker_raises(client, sandbox, monkeypatch):
    """HC-E2: whatever the transport raises, and wherever: webhook, settlement, letter."""

    def explode(*args, **options):
        raise MemoryError("the transport's own trouble")

    monkeypatch.setattr(nudges.app, "send_task", explode)
    product = ProductFactory()
    order, event = paid_event(client, sandbox, product)
    assert deliver(client, event).status == "PROCESSED"
    order.refresh_from_db()
    letter = OutgoingEmail.objects.get()
    assert (order.status, Ticket.objects.count(), stock_of(product)) == ("PAID", 1, (0, 1))
    assert (letter.status, len(mail.outbox)) == ("PENDING", 0)
    assert emails.send_due() == 1
    assert [message.to for message in mail.outbox] == [[order.email]]


@pytest.mark.row("HC-E3")
def test_hc_e3_a_request_that_fails_at_its_end_has_announced_nothing(client, settings, announcements):
    """HC-E3: the letter's row and its announcement are one commit with the order, and go with it."""
    client.raise_request_exception = False
    held = hold(product := ProductFactory(free=True), 2)
    settings.FAILPOINTS = {"in_settle_3": "raise"}
    assert check_out(client, held.id).status_code == 500
    assert announcements == []
    assert (Order.objects.count(), OutgoingEmail.objects.count(), Ticket.objects.count()) == (0, 0, 0)
    assert (stock_of(product), Reservation.objects.get().status) == ((2, 0), "ACTIVE")
    settings.FAILPOINTS = {}
    assert check_out(client, held.id).status_code == 201
    assert announcements == ["ticketing.send_email"]


class _HangsUp(threading.Thread):
    """An SMTP server that takes each letter and, for the first of them, never says so."""

    def __init__(self, server: socket.socket) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.letters: list[str] = []

    def run(self) -> None:
        while True:
            try:
                call, _address = self.server.accept()
            except OSError:
                return
            with call, call.makefile("rwb") as line:
                self._talk(line)

    def _talk(self, line) -> None:
        def say(text: str) -> None:
            line.write(f"{text}\r\n".encode())
            line.flush()

        say("220 ready")
        while order := line.readline():
            if order.upper().startswith(b"DATA"):
                say("354 go on")
                self.letters.append(b"".join(iter(line.readline, b".\r\n")).decode().replace("\r\n", "\n"))
                if len(self.letters) == 1:
                    return
            say("221 bye" if order.upper().startswith(b"QUIT") else "250 ok")


@contextmanager
def _post_office(settings) -> Iterator[_HangsUp]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        clerk = _HangsUp(server)
        clerk.start()
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", server.getsockname()[1]
        settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
        settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""
        yield clerk
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.row("HC-E6")
def test_hc_e6_a_letter_whose_receipt_was_lost_comes_as_a_copy_of_itself(client, settings):
    """HC-E6: a real SMTP server accepts the letter and hangs up: one more copy, with the same id and the same tickets."""
    check_out(client, hold(ProductFactory(free=True), 2).id)
    letter = OutgoingEmail.objects.get()
    with _post_office(settings) as clerk:
        assert emails.send(letter.pk) is False
        letter.refresh_from_db()
        assert (letter.status, "Disconnected" in letter.last_error) == ("PENDING", True)
        OutgoingEmail.objects.update(next_attempt_at=Now())
        assert emails.send_due() == 1
        assert emails.send_due() == 0
    first, second = ([line for line in text.splitlines() if "Message-ID" in line] for text in clerk.letters)
    assert first == second != []
    for address in (ticket.get_absolute_url() for ticket in Ticket.objects.all()):
        assert all(address in text.replace("=\n", "").replace("=3D", "=") for text in clerk.letters)
    assert Ticket.objects.count() == 2


@pytest.mark.row("HC-E7")
def test_hc_e7_a_task_delivered_again_while_it_still_runs_has_one_effect(client, sandbox, settings):
    """HC-E7: the first is slow within its transaction; the others wait at the event's row and find it done."""
    product = ProductFactory()
    _order, event = paid_event(client, sandbox, product, 2)
    post(client, event)
    settings.FAILPOINTS = {"in_settle_1": "sleep:0.5"}
    at_once([partial(webhooks.process, stored(event).pk)] * 3)
    assert (stored(event).status, stored(event).attempts) == ("PROCESSED", 3)
    assert (Ticket.objects.count(), OutgoingEmail.objects.count(), stock_of(product)) == (2, 1, (0, 2))


@pytest.mark.row("HC-E9")
def test_hc_e9_after_an_hour_without_a_schedule_everything_is_caught_up(client, sandbox, dead_broker):
    """HC-E9: events, orders and holds past their time, payments nobody told of, refunds, letters: one run of each task."""
    current_app.loader.import_default_modules()
    told, event = paid_event(client, sandbox, ProductFactory())
    untold, _event = paid_event(client, sandbox, ProductFactory())
    products = [ProductFactory() for _ in range(4)]
    late = [ordered(client, product)[0] for product in products[:3]]
    forgotten = hold(products[3])
    post(client, event)
    for minutes, reservation in zip((50, 60, 55), late, strict=True):
        end_time(reservation.reservation_id, seconds=60 * minutes)
    end_time(forgotten.id, seconds=3000)
    an_hour_ago = Now() - timedelta(hours=1)
    WebhookEvent.objects.update(received_at=an_hour_ago, next_attempt_at=an_hour_ago)
    Payment.objects.update(created_at=an_hour_ago, next_attempt_at=an_hour_ago)
    for name in ("payments", "ticketing", "reservations"):
        for line in SCHEDULE.values():
            if line["task"].startswith(name):
                current_app.tasks[line["task"]].run()
    statuses = {order.pk: order.status for order in Order.objects.all()}
    assert statuses == {told.pk: "PAID", untold.pk: "PAID"} | {order.pk: "CANCELLED" for order in late}
    assert [stock_of(product) for product in products] == [(0, 0)] * 4
    assert not WebhookEvent.objects.filter(status="RECEIVED").exists()
    assert set(OutgoingEmail.objects.values_list("status", flat=True)) == {"SENT"}
    closed = Order.objects.filter(status="CANCELLED").order_by("cancelled_at")
    assert list(closed.values_list("pk", flat=True)) == [late[longest].pk for longest in (1, 2, 0)]


@pytest.mark.row("HC-E9")
def test_hc_e9_a_backlog_is_worked_off_in_batches_oldest_first(client, sandbox):
    """HC-E9: each run takes so many and no more, and begins with those who have waited longest."""
    product = ProductFactory(quotas__capacity=9)
    orders = [ordered(client, product)[0] for _ in range(5)]
    for minutes, order in enumerate(reversed(orders), start=1):
        end_time(order.reservation_id, seconds=60 * minutes)
    runs = []
    while expiry.close_due(limit=2):
        runs.append(list(Order.objects.filter(status="CANCELLED").order_by("id").values_list("pk", flat=True)))
    assert runs == [[order.pk for order in orders[:count]] for count in (2, 4, 5)]
    assert stock_of(product) == recount(product.quotas.get()) == (0, 0)
    for number in range(5):
        inbox.store(made_up(id=f"evt_{number}", type="invoice.paid"))
        WebhookEvent.objects.filter(stripe_id=f"evt_{number}").update(next_attempt_at=Now() - timedelta(minutes=number))
    assert [WebhookEvent.objects.get(pk=pk).stripe_id for pk in inbox.due(limit=3)] == ["evt_4", "evt_3", "evt_2"]
    assert [webhooks.sweep(limit=3), webhooks.sweep(limit=3), webhooks.sweep(limit=3)] == [3, 2, 0]


@pytest.mark.row("HC-E10")
def test_hc_e10_a_poisoned_event_is_given_up_and_no_other_waits_for_it(client, sandbox, monkeypatch, log_lines):
    """HC-E10: the handler fails for one object always; another order is paid meanwhile; staff requeue the dead one."""
    _order, poisoned = paid_event(client, sandbox, ProductFactory())
    healthy, event = paid_event(client, sandbox, ProductFactory())
    handle = webhooks.HANDLERS["payment_intent.succeeded"]

    def handle_but_one(told: WebhookEvent) -> None:
        if told.stripe_id == poisoned["id"]:
            raise FailpointReached("poison")
        handle(told)

    monkeypatch.setitem(webhooks.HANDLERS, "payment_intent.succeeded", handle_but_one)
    post(client, poisoned)
    post(client, event)
    for _ in range(len(inbox.WAITS) + 2):
        WebhookEvent.objects.filter(status="RECEIVED").update(next_attempt_at=Now())
        webhooks.sweep()
    healthy.refresh_from_db()
    assert (stored(poisoned).status, stored(event).status, healthy.status) == ("DEAD", "PROCESSED", "PAID")
    assert "poison" in stored(poisoned).last_error
    assert [line["level"] for line in log_lines() if line["event"] == "webhook event given up"] == ["critical"]
    monkeypatch.undo()
    inbox.requeue(stored(poisoned), by="staff:1")
    webhooks.process(stored(poisoned).pk)
    assert (stored(poisoned).status, Ticket.objects.count()) == ("PROCESSED", 2)


@pytest.mark.row("HC-E11")
def test_hc_e11_no_task_is_announced_while_a_transaction_is_open(client, sandbox, monkeypatch):
    """HC-E11: watched over whole purchases: held, ordered, paid, closed, refunded; each announcement names a committed row."""
    from django.db import connection

    seen = []

    def look(name: str, *, kwargs: dict, **options) -> None:
        assert not connection.in_atomic_block, name
        seen.append(name)

    monkeypatch.setattr(nudges.app, "send_task", look)
    product = ProductFactory(quotas__capacity=1)
    order, event = paid_event(client, sandbox, product)
    end_time(order.reservation_id, seconds=700)
    expiry.force_release(order.pk, by="staff:1", why="a test")
    hold(product)
    deliver(client, event)
    check_out(client, (free := hold(ProductFactory(free=True))).id)
    assert order_of(free.id).status == "PAID"
    assert set(seen) == {"payments.process_webhook_event", "payments.submit_refund", "ticketing.send_email"}


@pytest.mark.row("HC-E12")
def test_hc_e12_rows_and_tasks_of_another_release_are_understood(client, sandbox, monkeypatch):
    """HC-E12: an event of an older API version settles; a task that this worker does not know leaves its row to the sweep."""
    order, event = paid_event(client, sandbox, ProductFactory())
    sent = []
    monkeypatch.setattr(nudges.app, "send_task", lambda name, **options: sent.append(name))
    old = event | {"api_version": "2015-10-16", "data": {"object": {"id": event["data"]["object"]["id"]}}}
    post(client, old)
    assert sent == ["payments.process_webhook_event"], "and the worker that knows it is gone"
    WebhookEvent.objects.update(next_attempt_at=F("received_at"))
    assert webhooks.sweep() == 1
    order.refresh_from_db()
    assert (order.status, stored(old).status, stored(old).api_version) == ("PAID", "PROCESSED", "2015-10-16")
    assert sandbox.control.requests(method="GET", path="/v1/payment_intents/"), "the object was fetched anew"
