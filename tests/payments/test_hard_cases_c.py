"""HC-C: who is first to know that it was paid. However the news comes, or does not come, there is one order."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial

import pytest
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from config.state_machine import MoveRefused
from payments import backfill, checkout, expiry, refunds, settlement, stripe_gateway, truth, webhooks
from payments.models import Payment, Refund, WebhookEvent
from reservations import holds, orders
from reservations.models import Order, Reservation
from tests.brokers import closed_port
from tests.factories import EventFactory, ProductFactory, SlotFactory
from tests.payments.endings import assert_books_agree, is_in_review, letter, letters, page, staff, told
from tests.payments.posting import SECRETS, deliver, events_of, post, stored
from tests.purchases import BUYER, check_out, end_time, hold, order_of, ordered, sql, stock_of
from tests.races import at_once, of_type
from tests.stripe_sandbox.process import ControlError
from ticketing.models import OutgoingEmail, Product, Quota, Ticket

pytestmark = pytest.mark.django_db(transaction=True)

PAST = "2020-01-01T00:00:00Z"


@pytest.fixture
def reach(sandbox, live_server) -> Iterator[Callable[..., None]]:
    """Lets Stripe send its events to a server of this process, over HTTP, as long as the test lasts."""
    endpoints = []

    def connect(endpoint: str = "we_default", *, url: str | None = None) -> None:
        endpoints.append(endpoint)
        sandbox.control.set_webhook(f"{url or live_server.url}/webhooks/stripe/", SECRETS[0], endpoint=endpoint)

    yield connect
    for endpoint in endpoints:
        sandbox.control.set_webhook(None, endpoint=endpoint)
    sandbox.control.clear_disruptions()
    sandbox.control.resume_webhooks()


def paid_at_stripe(client, sandbox, product: Product | None = None, quantity: int = 1) -> tuple[Order, Payment]:
    order, payment = ordered(client, product or ProductFactory(), quantity)
    sandbox.control.pay(payment.stripe_payment_intent_id)
    return order, payment


def success_of(sandbox, payment: Payment) -> dict:
    return events_of(sandbox, payment, "payment_intent.succeeded")[0]


def assert_paid_once(client, sandbox, order: Order) -> None:
    order.refresh_from_db()
    assert (order.status, order.needs_review) == ("PAID", "")
    assert letters(order) == ["confirmation"]
    assert told(client, order)["tickets"] == order.lines.count()
    assert_books_agree(sandbox)


def seen(sandbox, method: str = "GET") -> list[str]:
    return [each["path"] for each in sandbox.control.requests(method=method)]


@pytest.mark.row("HC-C1", "P7", "C1")
def test_hc_c1_the_redirect_finds_what_the_webhook_has_made(client, sandbox):
    """HC-C1: the tickets are on the page at once, and nobody asks Stripe for it."""
    order, payment = paid_at_stripe(client, sandbox, quantity=2)
    deliver(client, success_of(sandbox, payment))
    sandbox.control.clear_requests()
    text = page(client, order, f"&payment_intent={payment.stripe_payment_intent_id}&redirect_status=succeeded")
    assert "Your tickets are here" in text
    assert (seen(sandbox), Payment.objects.get().settled_by) == ([], "webhook")
    assert_paid_once(client, sandbox, order)


@pytest.mark.row("HC-C2", "C1")
def test_hc_c2_the_webhook_that_comes_after_the_redirect_does_nothing(client, sandbox):
    """HC-C2: the page asked and settled; a minute later the event is a row without an effect."""
    order, payment = paid_at_stripe(client, sandbox)
    assert "Confirming your purchase" in page(client, order, "&redirect_status=succeeded")
    assert client.post(order.address_of("payments:api-sync")).json()["order"] == "paid"
    before = list(OutgoingEmail.objects.values()), list(Ticket.objects.values()), list(Payment.objects.values())
    assert deliver(client, success_of(sandbox, payment)).status == "PROCESSED"
    assert before == (
        list(OutgoingEmail.objects.values()),
        list(Ticket.objects.values()),
        list(Payment.objects.values()),
    )
    assert Payment.objects.get().settled_by == "sync"
    assert_paid_once(client, sandbox, order)


@pytest.mark.row("HC-C3", "T3")
def test_hc_c3_without_the_lock_the_second_is_refused_and_not_done_twice(client, sandbox):
    """HC-C3, one guard off: both read "awaiting payment"; the guarded move of the status stops one of them, loudly."""
    order, _payment = paid_at_stripe(client, sandbox, quantity=2)
    ready = threading.Barrier(2)

    def unlocked() -> None:
        with transaction.atomic():
            unguarded = Order.objects.select_related("reservation", "event__organiser").get(pk=order.pk)
            assert unguarded.status == "AWAITING_PAYMENT"
            ready.wait(30)
            orders.confirm(unguarded, by="race", why="no lock")

    results = at_once([unlocked] * 2)
    assert (len(of_type(results, MoveRefused)), results.count(None)) == (1, 1), results
    assert Ticket.objects.count() == 2


@pytest.mark.row("HC-C3", "P9")
def test_hc_c3_webhook_page_and_sweep_at_the_same_moment(client, sandbox):
    """HC-C3: one converts, the others read its order: one letter, no error."""
    for _ in range(3):
        order, payment = paid_at_stripe(client, sandbox)
        event = success_of(sandbox, payment)
        post(client, event)
        facts = truth.fetch(payment)
        by_page = partial(client.post, order.address_of("payments:api-sync"))
        by_poll = partial(settlement.settle, payment.pk, facts=facts, by="poll")
        results = at_once([partial(webhooks.process, stored(event).pk), by_page, by_poll, by_poll])
        assert not of_type(results, Exception), results
        assert_paid_once(client, sandbox, order)


@pytest.mark.row("HC-C4", "T5")
def test_hc_c4_the_browser_is_gone_and_the_letter_brings_the_tickets(client, sandbox):
    """HC-C4: nobody opens a page; the letter carries the link of every ticket, and each link opens."""
    order, payment = paid_at_stripe(client, sandbox, quantity=2)
    deliver(client, success_of(sandbox, payment))
    text = letter(order, "confirmation")
    for ticket in Ticket.objects.all():
        assert ticket.get_absolute_url() in text
        assert client.get(ticket.get_absolute_url()).status_code == 200
    assert_paid_once(client, sandbox, order)


@pytest.mark.row("HC-C5", "P9")
def test_hc_c5_nobody_tells_us_and_the_sweep_asks_after_two_minutes(client, sandbox):
    """HC-C5: not sooner, since webhook and page normally come; then tickets and letter, though nobody looked."""
    product = ProductFactory()
    order, payment = paid_at_stripe(client, sandbox, product)
    Payment.objects.update(created_at=Now() - timedelta(seconds=110))
    assert settlement.sweep_unheard_of() == 0
    Payment.objects.update(created_at=Now() - timedelta(seconds=121))
    assert settlement.sweep_unheard_of() == 1
    assert (Payment.objects.get().settled_by, WebhookEvent.objects.count()) == ("sweep", 0)
    assert_paid_once(client, sandbox, order)
    assert stock_of(product) == (0, 1)
    assert payment.stripe_payment_intent_id in str(seen(sandbox))
    assert settlement.sweep_unheard_of() == 0


@pytest.mark.row("HC-C5", "P9")
@pytest.mark.parametrize("how", ["by intent", "by session"])
def test_hc_c5_an_event_that_was_dropped_is_fetched_from_stripes_list(client, sandbox, reach, how):
    """HC-C5: Stripe could not deliver it; the backfill stores it and it goes the way of all events."""
    reach(url=f"http://127.0.0.1:{closed_port()}")
    if how == "by intent":
        order, _payment = paid_at_stripe(client, sandbox)
    else:
        held = hold(ProductFactory())
        check_out(client, held.id, mode="hosted")
        order = order_of(held.id)
        sandbox.control.pay_session(order.payments.get().stripe_session_id)
    assert backfill.fetch_missed() >= 1
    assert set(WebhookEvent.objects.values_list("source", flat=True)) == {"BACKFILL"}
    assert backfill.fetch_missed() == 0, "each id once, though the lists overlap"
    WebhookEvent.objects.update(next_attempt_at=PAST)
    assert webhooks.sweep() >= 1
    assert Payment.objects.get().settled_by == "webhook"
    assert_paid_once(client, sandbox, order)
    assert not WebhookEvent.objects.exclude(status__in=["PROCESSED", "IGNORED"]).exists()


@pytest.mark.row("HC-C5", "HC-N4")
def test_hc_c5_where_stripe_believes_it_delivered_the_silence_is_noticed(client, sandbox):
    """HC-C5: something between us swallows every event with a 200; paid orders without one make us fetch them all."""
    order, _payment = paid_at_stripe(client, sandbox)
    settlement.sync(order.pk, by="poll")
    assert backfill.fetch_missed() == 0, "for Stripe everything is delivered"
    Payment.objects.update(succeeded_at=Now() - timedelta(seconds=90))
    assert backfill.is_silent()
    assert backfill.fetch_missed() >= 1
    webhooks.sweep()
    assert_paid_once(client, sandbox, order)


@pytest.mark.row("HC-C5", "HC-D1", "HC-D4")
def test_hc_c5_lost_until_the_time_to_pay_is_over(client, sandbox):
    """HC-C5: then the sweep that would give the seat away is the one that finds the money."""
    order, _payment = paid_at_stripe(client, sandbox)
    end_time(order.reservation_id)
    assert expiry.close_due() == 0
    assert Payment.objects.get().settled_by == "expiry"
    assert_paid_once(client, sandbox, order)


@pytest.mark.row("HC-C6", "C1")
def test_hc_c6_the_page_never_says_failed_while_it_is_not_known(client, sandbox):
    """HC-C6: the webhook is held back and Stripe does not answer: "waiting", with the reference, and no claim."""
    order, payment = paid_at_stripe(client, sandbox)
    sandbox.control.clear_requests()
    for _ in range(15):
        assert told(client, order) | {"message": ""} == {
            "order": "awaiting_payment",
            "payment": "open",
            "tickets": 0,
            "refund": "none",
            "done": False,
            "next_poll_ms": 2000,
            "sync_now": False,
            "message": "",
        }
    assert seen(sandbox) == [], "polling reads our books alone"
    sandbox.control.add_fault("drop_before", path="/v1/*", count=0)
    answer = client.post(order.address_of("payments:api-sync"))
    assert (answer.status_code, answer.json()["retryable"], "safe" in answer.json()["message"]) == (503, True, True)
    text = page(client, order, "&redirect_status=succeeded")
    assert order.code in text
    assert "failed" not in (text + told(client, order)["message"]).lower()
    sandbox.control.clear_faults()
    Payment.objects.update(asked_at=None)
    assert client.post(order.address_of("payments:api-sync")).json()["order"] == "paid"
    assert len(seen(sandbox)) <= 1 + 3, "one question, and the tries of the one that nobody answered"
    assert payment.stripe_payment_intent_id
    assert_paid_once(client, sandbox, order)


@pytest.mark.row("HC-C7")
def test_hc_c7_a_paid_orders_code_alone_opens_nothing(client, sandbox):
    """HC-C7: no ticket, no name, no difference between a code that exists and one that does not."""
    order, payment = paid_at_stripe(client, sandbox)
    deliver(client, success_of(sandbox, payment))
    same_id = {"X-Request-ID": "the-same-for-all"}
    for address in (f"/api/v1/orders/{{}}/status/?secret={'x' * 22}", f"/orders/{{}}/?secret={'x' * 22}"):
        real, guessed = (client.get(address.format(code), headers=same_id) for code in (order.code, "ZZZZZZZZZZ"))
        assert (real.status_code, guessed.status_code, real.content) == (404, 404, guessed.content)
        assert BUYER["name"].encode() not in real.content


@pytest.mark.row("HC-C8", "T3")
def test_hc_c8_task_webhook_buyer_and_staff_convert_again_at_once(client, sandbox):
    """HC-C8: ten more of each kind on a paid order: the same order, no new ticket, letter or row anywhere."""
    order, payment = paid_at_stripe(client, sandbox, quantity=2)
    deliver(client, success_of(sandbox, payment))
    again = success_of(sandbox, payment) | {"id": "evt_told_again"}
    post(client, again)
    facts, desk = truth.fetch(payment), staff()
    before = list(Ticket.objects.values()), list(OutgoingEmail.objects.values()), Order.objects.values().get()
    calls = [
        partial(settlement.settle, payment.pk, facts=facts, by="sweep"),
        partial(webhooks.process, stored(again).pk),
        partial(check_out, client, order.reservation_id),
        partial(client.post, order.address_of("payments:api-sync")),
        partial(desk.post, "/admin/reservations/order/", {"action": "ask_stripe", "_selected_action": [order.pk]}),
        partial(orders.ensure_tickets, order.pk),
    ]
    results = at_once(calls * 2)
    assert not of_type(results, Exception), results
    assert before == (
        list(Ticket.objects.values()),
        list(OutgoingEmail.objects.values()),
        Order.objects.values().get(),
    )
    codes = [answer.json()["order"]["code"] for answer in results[2::6]]
    assert codes == [order.code] * 2
    assert_paid_once(client, sandbox, order)


@pytest.mark.row("HC-C9", "P9")
def test_hc_c9_the_success_is_told_before_the_checkout_has_noted_its_intent(client, sandbox, settings):
    """HC-C9: our row is still NEW while Stripe's event is processed: found by its metadata; the checkout then agrees."""
    held = hold(ProductFactory())
    settings.FAILPOINTS = {"after_stripe_before_commit": "sleep:3"}
    answers = []
    page_waits = threading.Thread(target=lambda: answers.extend(at_once([partial(checkout.start, held.id, **BUYER)])))
    page_waits.start()
    while not (made := sandbox.control.ledger()["payment_intents"]):
        time.sleep(0.02)
    sandbox.control.pay(made[0]["id"])
    [told_of] = sandbox.control.events(event_type="payment_intent.succeeded")
    assert Payment.objects.get().status == "NEW"
    assert deliver(client, {k: v for k, v in told_of.items() if k != "deliveries"}).status == "PROCESSED"
    page_waits.join()
    order = order_of(held.id)
    assert [type(answer) for answer in answers] == [checkout.Checkout], answers
    assert (order.payments.count(), len(sandbox.control.ledger()["payment_intents"])) == (1, 1)
    assert_paid_once(client, sandbox, order)


LOST = {
    "the payment": ["payments_payment"],
    "order and payment": ["payments_payment", "reservations_orderline", "reservations_order"],
    "everything": [
        "payments_payment",
        "reservations_orderline",
        "reservations_order",
        "reservations_claim",
        "reservations_reservationline",
        "reservations_reservation",
    ],
}


def lose(which: str) -> None:
    """As a backup without these rows; the counters say what is left."""
    for table in LOST[which]:
        sql(f"DELETE FROM {table}")
    if which == "everything":
        sql("UPDATE ticketing_quota SET held = 0")


def hours_pass(event: WebhookEvent) -> None:
    WebhookEvent.objects.filter(pk=event.pk).update(
        received_at=F("received_at") - timedelta(minutes=61), next_attempt_at=PAST
    )


@pytest.mark.row("HC-C9", "HC-F10", "P12")
@pytest.mark.parametrize("has_room", [True, False])
def test_hc_c9_after_an_hour_a_lost_order_is_rebuilt_from_stripe(client, sandbox, has_room):
    """HC-C9: order, reservation and payment are gone; code, lines and prices come back: tickets, or all the money."""
    event = EventFactory()
    seats, meals = ProductFactory(event=event, quotas__capacity=3), ProductFactory(event=event, price_minor=900)
    slot = SlotFactory(event=event)
    Quota.objects.create(event=event, slot=slot, name="slot", capacity=5).products.add(meals)
    lines = [holds.Wanted(seats.pk, None, 3), holds.Wanted(meals.pk, slot.pk, 2)]
    held, _was_there = holds.reserve(event.slug, lines=lines)
    assert check_out(client, held.id).status_code == 201
    lost = order_of(held.id)
    payment = lost.payments.get()
    sandbox.control.pay(payment.stripe_payment_intent_id)
    told_of = success_of(sandbox, payment)
    lose("everything")
    waiting = deliver(client, told_of)
    assert (waiting.status, lost.code in waiting.last_error) == ("RECEIVED", True)
    assert not Order.objects.exists(), "within the hour it may merely be early"
    if not has_room:
        hold(seats)
    hours_pass(waiting)
    webhooks.sweep()
    order = Order.objects.get()
    assert stored(told_of).status == "PROCESSED"
    assert (order.code, str(order.reservation_id), order.total_minor) == (lost.code, str(held.id), 3 * 2500 + 2 * 900)
    units = order.lines.order_by("position").values_list("product", "slot", "price_minor")
    assert Counter(units) == {(seats.pk, None, 2500): 3, (meals.pk, slot.pk, 900): 2}
    refunds.submit_due()
    assert (order.status, Ticket.objects.count()) == (("PAID", 5) if has_room else ("CANCELLED", 0))
    assert Refund.objects.count() == (0 if has_room else 1)
    assert stock_of(seats) == ((0, 3) if has_room else (1, 0))
    assert "rebuilt" in order.needs_review
    assert is_in_review(order)
    assert letters(order) == [], "no address came with the card"
    assert "knows no address" in order.needs_review
    assert_books_agree(sandbox)
    hours_pass(stored(told_of))
    assert webhooks.sweep() == 0


@pytest.mark.row("HC-C9", "HC-F10")
@pytest.mark.parametrize("which", ["the payment", "order and payment"])
def test_hc_c9_a_part_that_was_lost_is_made_good_too(client, sandbox, which):
    """HC-C9: whichever rows are gone, an hour later the money is an order with its tickets, the seat counted once."""
    product = ProductFactory(quotas__capacity=2)
    _order, payment = paid_at_stripe(client, sandbox, product)
    told_of = success_of(sandbox, payment)
    lose(which)
    hours_pass(deliver(client, told_of))
    webhooks.sweep()
    order = Order.objects.get()
    assert stored(told_of).status == "PROCESSED"
    assert (order.status, Ticket.objects.count(), stock_of(product)) == ("PAID", 1, (0, 1))
    assert is_in_review(order) == (which == "order and payment")
    assert_books_agree(sandbox)


@pytest.mark.row("HC-C9", "HC-J4")
def test_hc_c9_three_events_of_one_lost_order_rebuild_it_once(client, sandbox):
    product = ProductFactory(quotas__capacity=2)
    _order, payment = paid_at_stripe(client, sandbox, product)
    told_of = success_of(sandbox, payment)
    lose("everything")
    copies = [told_of | {"id": f"evt_copy_{n}"} for n in range(3)]
    for copy in copies:
        post(client, copy)
        hours_pass(stored(copy))
    results = at_once([partial(webhooks.process, stored(copy).pk) for copy in copies])
    assert results == [None] * 3
    WebhookEvent.objects.update(next_attempt_at=PAST)
    webhooks.sweep()
    assert {stored(copy).status for copy in copies} == {"PROCESSED"}
    assert (Order.objects.count(), Payment.objects.count(), Ticket.objects.count()) == (1, 1, 1)
    assert_books_agree(sandbox)


# --- events as Stripe really sends them, over HTTP to a server ---


def work_off() -> None:
    """What a worker does with everything that waits."""
    WebhookEvent.objects.filter(status="RECEIVED").update(next_attempt_at=PAST)
    webhooks.sweep()


@pytest.mark.row("HC-C10", "P9")
@pytest.mark.parametrize("seed", range(4))
def test_hc_c10_shuffled_deliveries_end_in_tickets_and_no_failure(client, sandbox, reach, seed):
    """HC-C10: a decline and the success, sent by Stripe in a shuffled order: the rank of what is true decides."""
    reach()
    sandbox.control.pause_webhooks()
    order, payment = ordered(client, ProductFactory())
    sandbox.control.pay(payment.stripe_payment_intent_id, "4000000000009995")
    sandbox.control.pay(payment.stripe_payment_intent_id)
    sandbox.control.resume_webhooks(order="shuffle" if seed else "reverse", seed=seed)
    sandbox.control.wait_for_webhooks()
    arrived = list(WebhookEvent.objects.order_by("id").values_list("type", flat=True))
    assert {"payment_intent.succeeded", "payment_intent.payment_failed"} <= set(arrived)
    for event in WebhookEvent.objects.order_by("id"):
        webhooks.process(event.pk)
    assert_paid_once(client, sandbox, order)
    assert not WebhookEvent.objects.filter(status="RECEIVED").exists()


@pytest.mark.row("HC-C10")
def test_hc_c10_a_failure_told_after_the_tickets_changes_nothing(client, sandbox):
    order, payment = ordered(client, ProductFactory())
    sandbox.control.pay(payment.stripe_payment_intent_id, "4000000000009995")
    sandbox.control.pay(payment.stripe_payment_intent_id)
    deliver(client, success_of(sandbox, payment))
    message = told(client, order)["message"]
    deliver(client, events_of(sandbox, payment, "payment_intent.payment_failed")[0])
    assert (told(client, order)["message"], letters(order)) == (message, ["confirmation"])
    assert_paid_once(client, sandbox, order)


@pytest.mark.row("HC-C11", "P7")
def test_hc_c11_stripe_sends_everything_five_times_at_once(client, sandbox, reach):
    """HC-C11: one row for each id, the others counted, one effect."""
    reach()
    sandbox.control.disrupt_webhooks("duplicate", copies=5, count=50)
    order, _payment = paid_at_stripe(client, sandbox)
    sandbox.control.wait_for_webhooks(seconds=30)
    work_off()
    success = WebhookEvent.objects.get(type="payment_intent.succeeded")
    assert (success.status, success.duplicates) == ("PROCESSED", 4)
    assert_paid_once(client, sandbox, order)


@pytest.mark.row("HC-C11", "P7", "P9")
def test_hc_c11_fifty_deliveries_at_once_are_one_row_and_forty_nine_duplicates(client, sandbox):
    """HC-C11: fifty requests together, and workers on the row meanwhile: one effect, all the rest counted."""
    order, payment = paid_at_stripe(client, sandbox, quantity=2)
    event = success_of(sandbox, payment)
    answers = at_once([partial(post, client, event)] * 50)
    assert not of_type(answers, Exception), answers
    assert [answer.status_code for answer in answers] == [200] * 50
    assert sorted(answer.json()["duplicate"] for answer in answers) == [False] + [True] * 49
    row = WebhookEvent.objects.get()
    assert row.duplicates == 49
    at_once([partial(webhooks.process, row.pk)] * 8)
    row.refresh_from_db()
    assert row.status == "PROCESSED"
    assert_paid_once(client, sandbox, order)


@pytest.mark.row("HC-C12", "P9")
def test_hc_c12_two_endpoints_on_one_address_are_one_effect(client, sandbox, reach):
    """HC-C12: Stripe sends the same event to both: one row, one duplicate."""
    reach()
    reach("we_second")
    order, _payment = paid_at_stripe(client, sandbox)
    sandbox.control.wait_for_webhooks(seconds=30)
    work_off()
    success = WebhookEvent.objects.get(type="payment_intent.succeeded")
    assert (success.status, success.duplicates) == ("PROCESSED", 1)
    assert_paid_once(client, sandbox, order)


@pytest.mark.row("HC-C12", "P9")
def test_hc_c12_one_fact_under_two_ids_is_one_effect_in_turn_too(client, sandbox):
    """HC-C12: settling is idempotent for the payment, not for the event: the second id finds it done."""
    order, payment = paid_at_stripe(client, sandbox)
    first = success_of(sandbox, payment)
    second = first | {"id": "evt_the_same_fact"}
    for event in (first, second, first):
        assert deliver(client, event).status == "PROCESSED"
    assert WebhookEvent.objects.count() == 2
    assert_paid_once(client, sandbox, order)


@pytest.mark.row("HC-C13")
def test_hc_c13_declined_once_then_paid_is_one_charge(client, sandbox):
    """HC-C13: in between the order waits on; the bank's words are for staff; the success ends it."""
    order, payment = ordered(client, ProductFactory())
    sandbox.control.pay(payment.stripe_payment_intent_id, "4000000000009995")
    deliver(client, events_of(sandbox, payment, "payment_intent.payment_failed")[0])
    assert (told(client, order)["order"], told(client, order)["done"]) == ("awaiting_payment", False)
    assert "insufficient funds" in Payment.objects.get().last_error
    assert letters(order) == [], "no letter about a decline"
    sandbox.control.pay(payment.stripe_payment_intent_id, "4242424242424242")
    deliver(client, success_of(sandbox, payment))
    [line] = sandbox.control.ledger()["payment_intents"]
    assert (line["charges_succeeded"], line["charges_failed"]) == (1, 1)
    assert_paid_once(client, sandbox, order)


@pytest.mark.row("HC-C14", "H9")
@pytest.mark.parametrize("mode", ["elements", "hosted"])
def test_hc_c14_approved_hours_after_the_hold_charges_nothing(client, sandbox, mode):
    """HC-C14: the bank's page was left open; the payment ended with the hold; "not charged" on page and in the letter."""
    product = ProductFactory(quotas__capacity=1)
    held = hold(product)
    assert check_out(client, held.id, mode=mode).status_code == 201
    order = order_of(held.id)
    payment = order.payments.get()
    if mode == "hosted":
        paying = sandbox.control.pay_session(payment.stripe_session_id, "pm_card_authenticationRequired", complete=None)
        assert paying["status"] == "open"
        intent_id = sandbox.control.session(payment.stripe_session_id)["payment_intent"]["id"]
    else:
        intent_id = payment.stripe_payment_intent_id
        sandbox.control.pay(intent_id, "pm_card_authenticationRequired", complete=None)
    end_time(order.reservation_id)
    assert expiry.close_due() == 1
    sandbox.control.advance(3 * 3600)
    with pytest.raises(ControlError):
        sandbox.control.authenticate(intent_id)
    assert sandbox.control.ledger()["totals"].get("eur", {"received": 0})["received"] == 0
    assert "not charged" in told(client, order)["message"]
    assert "You were not charged" in page(client, order)
    assert letters(order) == ["order_expired"]
    assert (Ticket.objects.count(), stock_of(product)) == (0, (0, 0))
    assert_books_agree(sandbox)


@pytest.mark.row("HC-C15")
def test_hc_c15_a_made_up_redirect_is_asked_of_stripe_and_stays_pending(client, sandbox):
    """HC-C15: somebody else's paid intent in the address, and a claim of success: Stripe says unpaid, so it is."""
    _paid, paid_with = paid_at_stripe(client, sandbox)
    deliver(client, success_of(sandbox, paid_with))
    order, _payment = ordered(client, ProductFactory())
    for claim in ("succeeded", "returned", "<script>"):
        text = page(client, order, f"&payment_intent={paid_with.stripe_payment_intent_id}&redirect_status={claim}")
        assert "Your ticket is here" not in text
    answer = client.post(order.address_of("payments:api-sync") + "&redirect_status=succeeded").json()
    assert (answer["order"], answer["tickets"], answer["done"]) == ("awaiting_payment", 0, False)
    assert Ticket.objects.filter(event=order.event).count() == 0
    assert_books_agree(sandbox)


@pytest.mark.row("HC-C16")
def test_hc_c16_cards_alone_unless_the_account_offers_debits(client, sandbox):
    """HC-C16: a debit cannot even be tried where the account has not switched it on."""
    order, payment = ordered(client, ProductFactory())
    with pytest.raises(ControlError):
        sandbox.control.pay(payment.stripe_payment_intent_id, "pm_success_de")
    assert told(client, order)["payment"] == "open"


@pytest.mark.row("HC-C16", "HC-D6")
@pytest.mark.parametrize("is_paid", [True, False])
def test_hc_c16_three_days_at_the_bank(client, debit_sandbox, is_paid):
    """HC-C16: "waiting for your bank"; the sweep asks seldom and does not interfere; then the bank's word decides."""
    product = ProductFactory(quotas__capacity=1)
    order, payment = ordered(client, product)
    debit_sandbox.control.pay(payment.stripe_payment_intent_id, "pm_success_de")
    deliver(client, events_of(debit_sandbox, payment, "payment_intent.processing")[0])
    end_time(order.reservation_id, seconds=2 * 86_400)
    Payment.objects.update(created_at=Now() - timedelta(days=2), asked_at=Now() - timedelta(minutes=59))
    assert settlement.sweep_unheard_of() == 0, "a bank is not asked every minute"
    assert "Your bank is deciding" in told(client, order)["message"]
    assert stripe_gateway.retrieve_payment_intent(payment.stripe_payment_intent_id).status == "PROCESSING"
    debit_sandbox.control.settle(payment.stripe_payment_intent_id, succeeded=is_paid)
    Payment.objects.update(asked_at=Now() - timedelta(minutes=61), next_attempt_at=PAST)
    assert settlement.sweep_unheard_of() == 1
    expiry.close_due()
    order.refresh_from_db()
    assert order.status == ("PAID" if is_paid else "CANCELLED")
    assert letters(order) == (["confirmation"] if is_paid else ["order_expired"])
    assert Reservation.objects.get().status == ("CONFIRMED" if is_paid else "EXPIRED")
    assert_books_agree(debit_sandbox)
