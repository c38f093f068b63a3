"""Webhooks that lie, come late, come in floods or not at all, and rows that are gone (HC-F)."""

import json
import threading
import time
from datetime import timedelta
from functools import partial

import pytest
from django.db.models import F, Sum
from django.db.models.functions import Now
from django.test import Client

from payments import attention, backfill, inbox, refunds, settlement, webhooks
from payments.models import Payment, Refund, WebhookEvent
from reservations import demand
from reservations.models import Order, Reservation, Tally
from tests.factories import ProductFactory, UserFactory
from tests.payments.posting import deliver, events_of, made_up, post, stored
from tests.purchases import hold, ordered, recount, sql, stock_of
from tests.races import at_once
from ticketing import emails
from ticketing.models import OutgoingEmail, Quota, Ticket

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _nothing_counted_yet():
    demand._tally.begin()
    yield
    demand._tally.begin()


def paid(client, sandbox, product=None, quantity: int = 1) -> tuple[Order, Payment, dict]:
    """Paid at Stripe; the event that tells it has not been delivered."""
    order, payment = ordered(client, product or ProductFactory(), quantity)
    sandbox.control.pay(payment.stripe_payment_intent_id)
    return order, payment, events_of(sandbox, payment, "payment_intent.succeeded")[0]


def tallied(name: str) -> int:
    demand.flush()
    return Tally.objects.filter(name=name).aggregate(n=Sum("count", default=0))["n"]


def an_hour_passes(event: WebhookEvent) -> None:
    """Since it arrived; its next attempt is due, and made."""
    WebhookEvent.objects.filter(pk=event.pk).update(
        received_at=F("received_at") - timedelta(hours=1), next_attempt_at=Now()
    )
    webhooks.sweep()
    event.refresh_from_db()


def process_all() -> None:
    WebhookEvent.objects.filter(status="RECEIVED").update(next_attempt_at=Now())
    webhooks.sweep(limit=10_000)


@pytest.mark.row("HC-F1")
def test_hc_f1_a_forged_event_leaves_a_count_and_nothing_else(client, log_lines):
    """HC-F1: no row, nothing of its body in the log; staff can see how often it happened."""
    event = made_up(data={"object": {"id": "pi_forged_by_mallory"}})
    for secret in ("whsec_guessed", "whsec_guessed_again"):
        assert post(client, event, secret=secret).status_code == 400
    assert client.post("/webhooks/stripe/", event, content_type="application/json").status_code == 400
    assert tallied("webhook_refused_signature") == 3
    assert not WebhookEvent.objects.exists()
    said = log_lines()
    assert [line["reason"] for line in said if line["event"] == "webhook refused"] == ["signature"] * 3
    assert "mallory" not in json.dumps(said)


@pytest.mark.row("HC-F2")
def test_hc_f2_a_genuine_webhook_played_again_does_nothing(client, sandbox):
    """HC-F2: within five minutes it is a duplicate; later its signature is too old."""
    _order, _payment, event = paid(client, sandbox)
    deliver(client, event)
    assert post(client, event).json() == {"received": True, "duplicate": True}
    assert post(client, event, sent_at=time.time() - 301).status_code == 400
    webhooks.process(stored(event).pk)
    assert (stored(event).duplicates, stored(event).attempts, Ticket.objects.count()) == (1, 1, 1)


@pytest.mark.row("HC-F3")
def test_hc_f3_with_a_wrong_clock_staff_are_told_and_the_list_of_events_is_read(client, sandbox):
    """HC-F3: ten minutes ahead: every webhook is refused for its time; the order is paid all the same."""
    order, _payment, event = paid(client, sandbox)
    ten_minutes_ago = time.time() - 600
    refused = [post(client, event, sent_at=ten_minutes_ago).status_code for _ in range(attention.BURST)]
    assert refused == [400] * attention.BURST
    assert tallied(attention.REFUSED_FOR_TIME) == attention.BURST
    assert any("clock" in hint for hint in attention.hints())
    assert attention.webhooks()[0] is False
    assert backfill.fetch_missed(everything=True) >= 1
    process_all()
    order.refresh_from_db()
    assert (order.status, Ticket.objects.count()) == ("PAID", 1)
    assert stored(event).source == "BACKFILL"


@pytest.mark.row("HC-F6")
def test_hc_f6_an_endpoint_that_stripe_has_disabled_is_noticed_and_worked_around(client, sandbox):
    """HC-F6: a payment was decided and no webhook told: the silence is shown, and Stripe's whole list is read."""
    seen, _payment, _event = paid(client, sandbox)
    settlement.sync(seen.pk, by="poll")
    assert attention.webhooks() == (True, "nothing missing"), "a minute's patience"
    Payment.objects.filter(order=seen).update(succeeded_at=Now() - timedelta(minutes=2))
    unseen, _payment, event = paid(client, sandbox)
    assert backfill.is_silent()
    assert any("do not arrive" in hint for hint in attention.hints())
    assert backfill.fetch_missed() > 0
    process_all()
    unseen.refresh_from_db()
    assert (unseen.status, stored(event).source, Ticket.objects.count()) == ("PAID", "BACKFILL", 2)
    assert backfill.fetch_missed() == 0, "read once"
    post(client, made_up(type="invoice.paid"))
    assert not backfill.is_silent(), "Stripe is heard again"


def from_live_mode(sandbox, payment: Payment, event: dict) -> dict:
    return event | {"livemode": True}


def from_another_office(sandbox, payment: Payment, event: dict) -> dict:
    """One Stripe account, two installations: theirs came to us too. Our row does not know it."""
    metadata = payment.request_params["metadata"] | {"env": "staging.example.org"}
    sandbox.control.modify(payment.stripe_payment_intent_id, metadata=metadata)
    sql("UPDATE payments_payment SET stripe_payment_intent_id = 'pi_ours'")
    return event


def from_another_account(sandbox, payment: Payment, event: dict) -> dict:
    return made_up(id=event["id"], data={"object": {"id": "pi_of_somebody_else"}})


FOREIGN = [from_live_mode, from_another_office, from_another_account]


@pytest.mark.row("HC-F7")
@pytest.mark.parametrize("case", FOREIGN, ids=[case.__name__ for case in FOREIGN])
def test_hc_f7_what_belongs_to_another_mode_office_or_account_is_parked(client, sandbox, case):
    """HC-F7: tried for an hour, since it might be early; then left to staff. Nothing of ours moves."""
    order, payment, event = paid(client, sandbox)
    row = deliver(client, case(sandbox, payment, event))
    assert row.status == "RECEIVED"
    an_hour_passes(row)
    assert (row.status, attention.waiting().parked) == ("PARKED", 1)
    order.refresh_from_db()
    assert (order.status, Ticket.objects.count(), Payment.objects.get().status) == ("AWAITING_PAYMENT", 0, "OPEN")
    assert not Refund.objects.exists()


@pytest.mark.row("HC-F8")
def test_hc_f8_a_success_without_metadata_is_found_by_its_id(client, sandbox):
    order, payment, event = paid(client, sandbox)
    sandbox.control.modify(payment.stripe_payment_intent_id, metadata={})
    assert deliver(client, event).status == "PROCESSED"
    order.refresh_from_db()
    assert (order.status, order.needs_review, Ticket.objects.count()) == ("PAID", "", 1)


@pytest.mark.row("HC-F8")
@pytest.mark.parametrize(
    "metadata", [{}, {"env": "testserver"}, {"order": "NOT-OURS", "env": "testserver", "attempt": "x"}]
)
def test_hc_f8_a_success_that_nothing_names_is_kept_for_staff(client, sandbox, metadata):
    """HC-F8: id unknown and metadata missing or nonsense: never a crash, never a guess by amount."""
    order, payment, event = paid(client, sandbox)
    sandbox.control.modify(payment.stripe_payment_intent_id, metadata=metadata)
    sql("UPDATE payments_payment SET stripe_payment_intent_id = 'pi_ours'")
    row = deliver(client, event)
    an_hour_passes(row)
    assert (row.status, attention.waiting().parked) == ("PARKED", 1)
    assert payment.stripe_payment_intent_id in row.last_error or "NOT-OURS" in row.last_error
    order.refresh_from_db()
    assert (order.status, Ticket.objects.count()) == ("AWAITING_PAYMENT", 0)


@pytest.mark.row("HC-F9")
@pytest.mark.parametrize("is_guest", [False, True])
def test_hc_f9_a_buyer_whose_account_is_gone_gets_ticket_and_letter(client, sandbox, mailoutbox, is_guest):
    """HC-F9: the order keeps the address it was placed with; its link opens the tickets without an account."""
    order, _payment, event = paid(client, sandbox)
    if not is_guest:
        user = UserFactory()
        Order.objects.update(user=user)
        user.delete()
    assert deliver(client, event).status == "PROCESSED"
    order.refresh_from_db()
    assert (order.status, order.user_id) == ("PAID", None)
    assert emails.send_due() == 1
    (letter,) = mailoutbox
    ticket = Ticket.objects.get()
    assert (letter.to, ticket.get_absolute_url() in letter.body) == ([order.email], True)
    assert Client().get(ticket.get_absolute_url()).status_code == 200
    assert ticket.number in Client().get(order.get_absolute_url()).content.decode()


def lose_order() -> None:
    """By hand in SQL: the order with its payment; what the reservation holds stays."""
    sql("DELETE FROM payments_payment")
    sql("DELETE FROM reservations_orderline")
    sql("DELETE FROM reservations_order")


def lose_everything() -> None:
    """The hold too, and what it held: as an older backup would have it."""
    lose_order()
    sql("DELETE FROM reservations_claim")
    sql("DELETE FROM reservations_reservationline")
    sql("DELETE FROM reservations_reservation")
    sql("UPDATE ticketing_quota SET held = 0, sold = 0")


@pytest.mark.row("HC-F10")
@pytest.mark.parametrize("is_room", [True, False], ids=["room", "sold out"])
def test_hc_f10_an_order_that_is_gone_comes_back_from_stripe(client, sandbox, is_room):
    """HC-F10: after an hour of looking for it: written down anew, then tickets or all of the money; staff look at it."""
    product = ProductFactory(quotas__capacity=2, price_minor=1700)
    order, _payment, event = paid(client, sandbox, product, 2)
    lose_everything()
    if not is_room:
        hold(product)
    row = deliver(client, event)
    assert (row.status, Order.objects.count()) == ("RECEIVED", 0), "it may only be late"
    an_hour_passes(row)
    assert row.status == "PROCESSED"
    again = Order.objects.get()
    assert (again.code, again.total_minor, again.reservation_id) == (order.code, 3400, order.reservation_id)
    assert "rebuilt" in again.needs_review
    assert ("no address" in again.needs_review) is (again.email == "")
    assert attention.waiting().review == 1
    quota = Quota.objects.get(products=product)
    if is_room:
        assert (again.status, Ticket.objects.count(), stock_of(product)) == ("PAID", 2, (0, 2))
        assert not Refund.objects.exists()
    else:
        refunds.submit_due()
        assert (again.status, Ticket.objects.count(), stock_of(product)) == ("CANCELLED", 0, (1, 0))
        (line,) = sandbox.control.ledger()["payment_intents"]
        assert (line["amount_received"], line["amount_refunded"]) == (3400, 3400)
    assert recount(quota) == stock_of(product)
    for _ in range(2):
        webhooks.process(row.pk)
        deliver(client, event | {"id": "evt_again"})
    assert (Order.objects.count(), Payment.objects.count()) == (1, 1)
    assert Ticket.objects.count() == (2 if is_room else 0)
    assert len(sandbox.control.refunds()) == (0 if is_room else 1)


@pytest.mark.row("HC-F10")
def test_hc_f10_an_order_that_is_gone_while_its_hold_is_not(client, sandbox):
    """HC-F10: the stock that the hold still counts for is not counted twice."""
    product = ProductFactory(quotas__capacity=2)
    _order, _payment, event = paid(client, sandbox, product, 2)
    lose_order()
    sql("UPDATE reservations_reservation SET status = 'ACTIVE'")
    row = deliver(client, event)
    an_hour_passes(row)
    assert (row.status, Order.objects.get().status, Ticket.objects.count()) == ("PROCESSED", "PAID", 2)
    assert Reservation.objects.get().status == "CONFIRMED"
    assert stock_of(product) == recount(product.quotas.get()) == (0, 2)


@pytest.mark.row("HC-F11")
def test_hc_f11_five_megabytes_are_refused_and_storing_asks_stripe_nothing(client, sandbox):
    """HC-F11: unread and unstored; an event of an ordinary size is stored without a call to Stripe."""
    _order, _payment, event = paid(client, sandbox)
    sandbox.control.clear_requests()
    huge = post(client, event | {"padding": "x" * 5 * 1024 * 1024})
    assert (huge.status_code, WebhookEvent.objects.count()) == (413, 0)
    assert post(client, event).status_code == 200
    assert sandbox.control.requests() == []


@pytest.mark.row("HC-F12")
def test_hc_f12_a_flood_is_stored_at_once_and_worked_off_later(client, sandbox):
    """HC-F12: eight senders without a pause, each event twice, a sale's among them; then the sweeps drain it."""
    order, _payment, event = paid(client, sandbox)
    flood = [made_up(id=f"evt_{number}", type="invoice.paid") for number in range(200)] + [event]
    waiting, lock, answers = [*flood, *flood], threading.Lock(), []
    sandbox.control.clear_requests()

    def send() -> None:
        while True:
            with lock:
                if not waiting:
                    return
                next_one = waiting.pop()
            answers.append(post(Client(), next_one).status_code)

    at_once([send] * 8)
    assert answers == [200] * 402
    assert (WebhookEvent.objects.count(), WebhookEvent.objects.aggregate(n=Sum("duplicates"))["n"]) == (201, 201)
    assert sandbox.control.requests() == [], "stored only"
    WebhookEvent.objects.update(next_attempt_at=Now())
    runs = [webhooks.sweep() for _ in range(3)]
    assert runs == [1, 0, 0], "what we do not handle is nobody's work"
    order.refresh_from_db()
    assert (order.status, OutgoingEmail.objects.count()) == ("PAID", 1)
    assert not WebhookEvent.objects.filter(status="RECEIVED").exists()


@pytest.mark.row("HC-F12")
def test_hc_f12_workers_that_drain_together_do_each_event_once(client, sandbox):
    events = [paid(client, sandbox)[2] for _ in range(4)]
    for event in events:
        post(client, event)
    due = [stored(event).pk for event in events]
    WebhookEvent.objects.update(next_attempt_at=Now())
    at_once([partial(webhooks.sweep)] * 4)
    rows = WebhookEvent.objects.filter(pk__in=due)
    assert [(row.status, row.attempts) for row in rows] == [("PROCESSED", 1)] * 4
    assert Ticket.objects.count() == OutgoingEmail.objects.count() == 4
    assert inbox.due(limit=10) == []
