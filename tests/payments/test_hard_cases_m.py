"""The database breaks: a connection is cut in the middle, the server dies, a backup is restored, nothing can be stored (HC-M)."""

import threading
import time
from collections.abc import Callable

import pytest
from django.db import DatabaseError, OperationalError, connection, connections
from django.db.models.functions import Now
from psycopg import errors

from config.database import retried_on_conflict
from payments import attention, backfill, checkout, expiry, inbox, refunds, settlement, webhooks
from payments.models import Payment, Refund, WebhookEvent
from reservations.models import Order, Reservation
from tests.factories import ProductFactory
from tests.payments.posting import deliver, events_of, made_up, post, stored
from tests.payments.test_hard_cases_f import an_hour_passes, process_all
from tests.purchases import BUYER, check_out, end_time, hold, ordered, recount, sql, stock_of
from ticketing import emails
from ticketing.models import OutgoingEmail, Ticket

pytestmark = pytest.mark.django_db(transaction=True)


def paid(client, sandbox, product, quantity: int = 1) -> tuple[Order, Payment]:
    order, payment = ordered(client, product, quantity)
    sandbox.control.pay(payment.stripe_payment_intent_id)
    return order, payment


class _CutOff(threading.Thread):
    """A step of the product in a thread whose database connection PostgreSQL ends while it rests at a failpoint."""

    def __init__(self, step: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self.step = step
        self.error: Exception | None = None
        self.backend = 0
        self.has_begun = threading.Event()

    def run(self) -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                self.backend = cursor.fetchone()[0]
            self.has_begun.set()
            self.step()
        except Exception as error:
            self.error = error
        finally:
            connections.close_all()


def cut_off(step: Callable[[], object], settings, place: str) -> Exception | None:
    """What the step raised, its connection having been ended while it stood at the place."""
    arrived, go_on = threading.Event(), threading.Event()

    class Waits(dict):
        def get(self, name: str, default=None):
            if name == place and threading.current_thread() is victim:
                arrived.set()
                go_on.wait(30)
            return default

    victim = _CutOff(step)
    settings.FAILPOINTS = Waits()
    victim.start()
    assert arrived.wait(30), f"it never came to {place}"
    sql("SELECT pg_terminate_backend(%s)", [victim.backend])
    settings.FAILPOINTS = {}
    deadline = time.monotonic() + 20
    while _is_connected(victim.backend):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    go_on.set()
    victim.join(30)
    assert not victim.is_alive()
    return victim.error


def _is_connected(backend: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [backend])
        return cursor.fetchone() is not None


@pytest.mark.row("HC-M1", "HC-E4")
@pytest.mark.parametrize("place", ["in_settle_0", "in_settle_1", "in_settle_2", "in_settle_3", "before_webhook_commit"])
def test_hc_m1_a_connection_cut_in_the_middle_of_settling_leaves_nothing_half_done(client, sandbox, settings, place):
    """HC-M1: pg_terminate_backend within the one transaction: all of it is gone, and done again by the sweep."""
    product = ProductFactory()
    order, payment = paid(client, sandbox, product, 2)
    event = events_of(sandbox, payment, "payment_intent.succeeded")[0]
    post(client, event)
    cut_off(lambda: webhooks.process(stored(event).pk), settings, place)
    order.refresh_from_db()
    assert (order.status, Payment.objects.get().status, stored(event).status) == (
        "AWAITING_PAYMENT",
        "OPEN",
        "RECEIVED",
    )
    assert (Ticket.objects.count(), OutgoingEmail.objects.count(), stock_of(product)) == (0, 0, (2, 0))
    process_all()
    order.refresh_from_db()
    assert (order.status, Ticket.objects.count(), OutgoingEmail.objects.count()) == ("PAID", 2, 1)
    assert stock_of(product) == recount(product.quotas.get()) == (0, 2)
    assert stored(event).status == "PROCESSED"


@pytest.mark.row("HC-M1", "HC-B2")
@pytest.mark.parametrize("place", ["before_stripe", "after_stripe_before_commit", "after_opened"])
def test_hc_m1_a_connection_cut_around_the_call_to_stripe_makes_one_payment(client, sandbox, settings, place):
    """HC-M1: the answer may be lost with the connection; the same key, or its metadata, finds the same payment."""
    held = hold(ProductFactory())
    cut_off(lambda: checkout.start(held.id, **BUYER), settings, place)
    assert check_out(client, held.id).status_code == 200
    (made,) = sandbox.control.ledger()["payment_intents"]
    payment = Payment.objects.get()
    assert (payment.status, payment.stripe_payment_intent_id) == ("OPEN", made["id"])
    sandbox.control.pay(made["id"])
    settlement.sync(payment.order_id, by="poll")
    assert (Order.objects.get().status, Ticket.objects.count()) == ("PAID", 1)


@pytest.mark.row("HC-M1", "HC-D5", "HC-D11")
def test_hc_m1_a_connection_cut_while_closing_and_refunding(client, sandbox, settings):
    """HC-M1: Stripe has ended the payment, or given the money back, and we could not write it down: found out later."""
    product = ProductFactory(quotas__capacity=1)
    order, _payment = ordered(client, product)
    end_time(order.reservation_id)
    cut_off(expiry.close_due, settings, "after_cancel_before_commit")
    assert (stock_of(product), sandbox.control.ledger()["payment_intents"][0]["status"]) == ((1, 0), "canceled")
    Payment.objects.update(next_attempt_at=Now())
    assert expiry.close_due() == 1
    assert stock_of(product) == (0, 0)

    late, payment = ordered(client, product)
    end_time(late.reservation_id, seconds=700)
    expiry.force_release(late.pk, by="staff:1", why="a test")
    hold(product)
    sandbox.control.pay(payment.stripe_payment_intent_id)
    settlement.sync(late.pk, by="poll")
    cut_off(refunds.submit_due, settings, "after_refund_before_commit")
    assert Refund.objects.get().status == "REQUESTED"
    Refund.objects.update(next_attempt_at=Now())
    refunds.submit_due()
    assert (Refund.objects.get().status, len(sandbox.control.refunds())) == ("SUCCEEDED", 1)


@pytest.mark.row("HC-M2", "HC-F10")
def test_hc_m2_sales_made_after_the_restored_backup_come_back(client, sandbox):
    """HC-M2: what was sold before the backup stays; what was sold since is rebuilt from Stripe, with new tickets."""
    product = ProductFactory(quotas__capacity=5)
    before, payment = paid(client, sandbox, product)
    deliver(client, events_of(sandbox, payment, "payment_intent.succeeded")[0])
    kept = _everything()
    since = []
    for quantity in (2, 1):
        order, payment = paid(client, sandbox, product, quantity)
        deliver(client, events_of(sandbox, payment, "payment_intent.succeeded")[0])
        since.append(order.code)
    unpaid, _payment = ordered(client, product)
    assert stock_of(product) == (1, 4)
    _restore(kept)
    assert list(Order.objects.values_list("code", "status")) == [(before.code, "PAID")]
    assert stock_of(product) == (0, 1)
    assert backfill.fetch_missed(everything=True) > 0
    process_all()
    for row in WebhookEvent.objects.filter(status="RECEIVED"):
        an_hour_passes(row)
    orders = {order.code: order for order in Order.objects.all()}
    assert set(orders) == {before.code, *since}, "nothing was paid for the other"
    assert {order.status for order in orders.values()} == {"PAID"}
    assert all("rebuilt" in orders[code].needs_review for code in since)
    assert [orders[code].lines.filter(ticket__isnull=False).count() for code in (before.code, *since)] == [1, 2, 1]
    assert stock_of(product) == recount(product.quotas.get()) == (0, 4)
    assert Ticket.objects.values("secret").distinct().count() == Ticket.objects.count() == 4
    serials = sorted(Ticket.objects.values_list("serial", flat=True))
    assert serials == [1, 2, 3, 4]
    assert attention.waiting().review == 2
    paid_lines = [line for line in sandbox.control.ledger()["payment_intents"] if line["charges_succeeded"]]
    assert [line["amount_refunded"] for line in paid_lines] == [0, 0, 0]
    assert unpaid.code not in orders
    backfill.fetch_missed(everything=True)
    process_all()
    assert Ticket.objects.count() == 4, "reading the list again changes nothing"


# What a sale writes, in an order in which rows may be inserted again.
_TABLES = (
    "reservations_reservation", "reservations_reservationline", "reservations_claim", "ticketing_serialcounter",
    "ticketing_ticket", "reservations_order", "reservations_orderline", "payments_payment", "payments_webhookevent",
    "ticketing_outgoingemail", "payments_stripecursor",
)  # fmt: skip


def _everything() -> dict[str, str]:
    """The rows of each table, and the quotas' counters, as JSON: the backup."""
    found = {}
    with connection.cursor() as cursor:
        for table in (*_TABLES, "ticketing_quota"):
            cursor.execute(f"SELECT coalesce(json_agg(t), '[]')::text FROM {table} t")
            found[table] = cursor.fetchone()[0]
    return found


def _restore(kept: dict[str, str]) -> None:
    sql(f"TRUNCATE {', '.join(_TABLES)} CASCADE")
    for table in _TABLES:
        sql(f"INSERT INTO {table} SELECT * FROM json_populate_recordset(NULL::{table}, %s::json)", [kept[table]])
    sql(
        "UPDATE ticketing_quota q SET held = b.held, sold = b.sold"
        " FROM json_populate_recordset(NULL::ticketing_quota, %s::json) b WHERE b.id = q.id",
        [kept["ticketing_quota"]],
    )


@pytest.mark.row("HC-M4")
def test_hc_m4_a_settlement_chosen_as_the_victim_is_done_again_as_a_whole(client, sandbox, monkeypatch):
    """HC-M4: a deadlock is reported at its last statement, twice: the third time all of it is committed, once."""
    product = ProductFactory()
    order, payment = paid(client, sandbox, product)
    failures = [errors.DeadlockDetected("a test"), errors.SerializationFailure("a test")]
    real = settlement.orders.quotas.move_stock

    def unlucky(moves) -> None:
        real(moves)
        if failures:
            raise OperationalError("deadlock") from failures.pop()

    monkeypatch.setattr(settlement.orders.quotas, "move_stock", unlucky)
    event = deliver(client, events_of(sandbox, payment, "payment_intent.succeeded")[0])
    order.refresh_from_db()
    assert (order.status, event.status, event.attempts, failures) == ("PAID", "PROCESSED", 1, [])
    assert (Ticket.objects.count(), OutgoingEmail.objects.count(), stock_of(product)) == (1, 1, (0, 1))
    assert Ticket.objects.get().serial == 1


@pytest.mark.row("HC-M4")
def test_hc_m4_tries_have_an_end():
    calls = []

    @retried_on_conflict
    def unlucky() -> None:
        calls.append(1)
        raise OperationalError("deadlock") from errors.DeadlockDetected("a test")

    with pytest.raises(OperationalError):
        unlucky()
    assert len(calls) == 3


@pytest.mark.row("HC-M6", "P7")
@pytest.mark.parametrize("table", ["payments_webhookevent"])
def test_hc_m6_a_full_disk_is_503_until_there_is_room_and_staff_can_see_why(client, sandbox, table, log_lines):
    """HC-M6: PostgreSQL refuses each insert as it does on a full disk (53100): never 200 without a row; then sent again."""
    order, payment = paid(client, sandbox, ProductFactory())
    event = events_of(sandbox, payment, "payment_intent.succeeded")[0]
    sql(
        "CREATE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$;"
        f" CREATE TRIGGER disk_full BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION disk_full()"
    )
    try:
        answers = [post(client, each) for each in (event, made_up(), event)]
        assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(503, "not_stored")] * 3
        assert not WebhookEvent.objects.exists()
        with pytest.raises(DatabaseError):
            inbox.store(event)
    finally:
        sql("DROP FUNCTION disk_full() CASCADE")
    said = [line["level"] for line in log_lines() if line["event"] == "webhook could not be stored"]
    assert said == ["error"] * 3
    assert deliver(client, event).status == "PROCESSED"
    order.refresh_from_db()
    assert (order.status, Reservation.objects.get().status) == ("PAID", "CONFIRMED")


@pytest.mark.row("HC-M6")
def test_hc_m6_a_disk_that_fills_up_in_the_middle_of_settling_takes_all_of_it_back(client, sandbox):
    """HC-M6: the letter cannot be written: no ticket, no sale, the event waits; with room again everything is done."""
    product = ProductFactory()
    order, payment = paid(client, sandbox, product)
    sql("ALTER TABLE ticketing_outgoingemail ADD CONSTRAINT no_room CHECK (false) NOT VALID")
    try:
        event = deliver(client, events_of(sandbox, payment, "payment_intent.succeeded")[0])
        assert (event.status, event.attempts, "no_room" in event.last_error) == ("RECEIVED", 1, True)
        order.refresh_from_db()
        assert (order.status, Ticket.objects.count(), stock_of(product)) == ("AWAITING_PAYMENT", 0, (1, 0))
    finally:
        sql("ALTER TABLE ticketing_outgoingemail DROP CONSTRAINT no_room")
    process_all()
    order.refresh_from_db()
    assert (order.status, Ticket.objects.count(), emails.send_due(), stock_of(product)) == ("PAID", 1, 1, (0, 1))
