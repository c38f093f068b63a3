"""HC-D: money and the end of a hold cross each other. Every late payment ends as tickets or as a refund, by itself."""

import itertools
import os
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
from django.db import connection

from payments import attention, expiry, refunds, settlement, stripe_gateway, webhooks
from payments.models import Payment, Refund
from reservations import holds
from reservations.models import Order, Reservation, StatusChange
from tests.factories import EventFactory, ProductFactory, QuotaFactory
from tests.payments.endings import assert_books_agree, is_in_review, letter, letters, page, refund_list, told
from tests.payments.posting import deliver, events_of
from tests.purchases import check_out, end_time, hold, order_of, ordered, stock_of
from tests.races import at_once
from tests.stripe_sandbox.process import ControlError
from ticketing.models import Event, Product, Ticket

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).resolve().parents[2]
CANCEL = "/v1/payment_intents/*/cancel"
EVERYTHING = "/v1/*"
PAST = "2020-01-01T00:00:00Z"


def statuses(order: Order) -> tuple[str, str, str]:
    order.refresh_from_db()
    return order.status, Reservation.objects.get(pk=order.reservation_id).status, order.payments.latest("pk").status


def due_now() -> None:
    """Leases and waits are over."""
    Payment.objects.update(next_attempt_at=PAST, asked_at=None)
    Refund.objects.update(next_attempt_at=PAST)


def unreachable_cancel(sandbox, order: Order, *, seconds: float = 700) -> None:
    """The time to pay is long over, and Stripe did not answer when it was asked to cancel."""
    end_time(order.reservation_id, seconds=seconds)
    sandbox.control.add_fault("drop_before", path=EVERYTHING, count=0)
    assert expiry.close_due() == 0
    sandbox.control.clear_faults()
    assert statuses(order) == ("AWAITING_PAYMENT", "ORDERED", "OPEN")


def forced(client, sandbox, product: Product, quantity: int = 1) -> tuple[Order, Payment]:
    """An order that Stripe said nothing about for so long that staff gave its seats back."""
    order, payment = ordered(client, product, quantity)
    unreachable_cancel(sandbox, order)
    expiry.force_release(order.pk, by="staff:1", why="Stripe is away")
    assert statuses(order) == ("CANCELLED", "EXPIRED", "OPEN")
    return order, payment


def pays(client, sandbox, payment: Payment) -> None:
    """The buyer confirms, and Stripe tells us."""
    sandbox.control.pay(payment.stripe_payment_intent_id)
    assert deliver(client, events_of(sandbox, payment, "payment_intent.succeeded")[-1]).status == "PROCESSED"


@pytest.mark.row("HC-D1", "P10")
def test_hc_d1_a_buyer_who_pays_after_the_failed_cancel_gets_the_tickets(client, sandbox):
    """HC-D1: the seats are free, so they are taken again; the two backward moves are settlement's alone."""
    product = ProductFactory(quotas__capacity=2)
    order, payment = forced(client, sandbox, product, 2)
    assert "have not heard yet" in told(client, order)["message"]
    pays(client, sandbox, payment)
    assert statuses(order) == ("PAID", "CONFIRMED", "SUCCEEDED")
    assert_books_agree(sandbox)
    assert (stock_of(product), letters(order)) == ((0, 2), ["confirmation"])
    assert "Your hold had run out before your payment came, but there was still room." in letter(order, "confirmation")
    assert (told(client, order)["tickets"], "Your tickets are here" in page(client, order)) == (2, True)
    assert ends_of_reservation(order) == [("ORDERED", "EXPIRED", "staff:1"), ("EXPIRED", "CONFIRMED", "webhook")]
    assert not is_in_review(order)


def ends_of_reservation(order: Order) -> list[tuple[str, str, str]]:
    changes = StatusChange.objects.filter(kind="reservation", object_id=str(order.reservation_id)).order_by("id")
    moves = changes.values_list("from_status", "to_status", "by")
    return [move for move in moves if move[0] in ("ORDERED", "EXPIRED")]


@pytest.mark.row("HC-D2", "P10")
def test_hc_d2_a_buyer_who_pays_when_it_is_sold_out_has_all_money_back(client, sandbox):
    """HC-D2: the refund is decided in the commit that learns of the money; page, letter and staff's list say so."""
    product = ProductFactory(quotas__capacity=1, price_minor=4200)
    order, payment = forced(client, sandbox, product)
    hold(product)
    pays(client, sandbox, payment)
    refund = Refund.objects.get()
    assert (refund.idempotency_key, refund.status) == (
        f"refund:late:{payment.stripe_payment_intent_id}:1",
        "REQUESTED",
    )
    assert "is on its way" in told(client, order)["message"]
    assert order.code in refund_list("not_done")
    refunds.submit_due()
    assert_books_agree(sandbox)
    assert statuses(order) == ("CANCELLED", "EXPIRED", "SUCCEEDED")
    assert sandbox.control.ledger()["totals"]["eur"]["net"] == 0
    assert (Ticket.objects.count(), stock_of(product), letters(order)) == (0, (1, 0), ["refund"])
    text = letter(order, "refund")
    assert "We are sorry" in text
    assert order.code in text
    assert "42.00" in text
    status = told(client, order)
    assert (status["refund"], status["done"]) == ("full", True)
    assert "refunded" in status["message"]
    assert status["message"] in page(client, order)
    assert order.code not in refund_list("not_done")


@pytest.mark.row("HC-D3")
def test_hc_d3_two_products_of_which_one_is_full_go_back_whole(client, sandbox):
    """HC-D3: all or nothing: nothing of what was free is taken either."""
    event = EventFactory()
    roomy, full = (ProductFactory(event=event, quotas__capacity=1) for _ in range(2))
    lines = [holds.Wanted(product.pk, None, 1) for product in (roomy, full)]
    held, _was_there = holds.reserve(event.slug, lines=lines)
    assert check_out(client, held.id).status_code == 201
    order = order_of(held.id)
    end_time(held.id, seconds=700)
    expiry.force_release(order.pk, by="staff:1", why="Stripe is away")
    hold(full)
    pays(client, sandbox, order.payments.get())
    refunds.submit_due()
    assert_books_agree(sandbox)
    assert (stock_of(roomy), stock_of(full), Ticket.objects.count()) == ((0, 0), (1, 0), 0)
    assert Refund.objects.get().amount_minor == order.total_minor == 5000
    assert (told(client, order)["refund"], letters(order)) == ("full", ["refund"])


@pytest.mark.row("HC-D4")
def test_hc_d4_books_first_and_stripe_second_would_sell_a_paid_seat(client, sandbox):
    """HC-D4, the guard off: releasing before Stripe has confirmed gives a paid buyer's seat to somebody else."""
    product = ProductFactory(quotas__capacity=1)
    order, payment = ordered(client, product)
    end_time(order.reservation_id)
    sandbox.control.pay(payment.stripe_payment_intent_id)
    expiry.force_release(order.pk, by="a test", why="the guard is off")
    hold(product)
    expiry.close_left_over()
    assert (statuses(order)[0], Refund.objects.get().reason) == ("CANCELLED", "LATE"), "a paid buyer without a seat"


@pytest.mark.row("HC-D4")
def test_hc_d4_the_buyer_confirms_between_our_choice_and_the_cancel(client, sandbox, settings):
    """HC-D4: the sweep has chosen the order; the buyer pays; the cancel is refused: tickets, and the seat is not sold."""
    product = ProductFactory(quotas__capacity=1)
    order, payment = ordered(client, product)
    end_time(order.reservation_id)
    sandbox.control.add_fault("hang_before", method="POST", path=CANCEL, count=1, seconds=1.5)
    sweep = threading.Thread(target=lambda: at_once([expiry.close_due]))
    sweep.start()
    sandbox.control.pay(payment.stripe_payment_intent_id)
    sweep.join()
    due_now()
    expiry.close_due()
    with pytest.raises(holds.SoldOut):
        hold(product)
    assert statuses(order) == ("PAID", "CONFIRMED", "SUCCEEDED")
    assert_books_agree(sandbox)
    assert (letters(order), told(client, order)["tickets"], stock_of(product)) == (["confirmation"], 1, (0, 1))


@pytest.mark.row("HC-D5")
@pytest.mark.parametrize("becomes", ["cancelled", "paid with room", "paid without room"])
def test_hc_d5_staff_force_what_stripe_says_nothing_about(client, sandbox, becomes):
    """HC-D5: never by the clock alone; alerted after ten minutes; released by hand; then Stripe is asked on."""
    product = ProductFactory(quotas__capacity=1)
    order, payment = ordered(client, product)
    unreachable_cancel(sandbox, order, seconds=300)
    assert (attention.waiting().stuck, list(expiry.stuck())) == (0, [])
    end_time(order.reservation_id, seconds=3000)
    assert (attention.waiting().stuck, list(expiry.stuck())) == (1, [order])
    with pytest.raises(holds.SoldOut):
        hold(product)
    assert told(client, order)["order"] == "awaiting_payment", "the clock alone decides nothing"
    expiry.force_release(order.pk, by="staff:1", why="Stripe is away")
    assert (statuses(order), stock_of(product)) == (("CANCELLED", "EXPIRED", "OPEN"), (0, 0))
    assert "have not heard yet" in told(client, order)["message"]
    assert (told(client, order)["done"], attention.waiting().stuck) == (False, 0)
    if becomes != "cancelled":
        sandbox.control.pay(payment.stripe_payment_intent_id)
    if becomes == "paid without room":
        hold(product)
    due_now()
    assert expiry.close_left_over() == (becomes == "cancelled")
    refunds.submit_due()
    assert_books_agree(sandbox)
    ends = {
        "cancelled": ("CANCELLED", "EXPIRED", "CANCELLED"),
        "paid with room": ("PAID", "CONFIRMED", "SUCCEEDED"),
        "paid without room": ("CANCELLED", "EXPIRED", "SUCCEEDED"),
    }
    assert statuses(order) == ends[becomes]
    kinds = {"cancelled": [], "paid with room": ["confirmation"], "paid without room": ["refund"]}
    assert letters(order) == kinds[becomes]
    assert told(client, order)["done"]


@pytest.mark.row("HC-D5")
def test_hc_d5_the_answer_to_the_cancel_is_lost_and_the_seat_waits(client, sandbox):
    """HC-D5: cancelled at Stripe, unheard by us: not sold meanwhile; the next try sees it and gives the seat back."""
    product = ProductFactory(quotas__capacity=1)
    order, _payment = ordered(client, product)
    end_time(order.reservation_id)
    sandbox.control.add_fault("drop_after", method="POST", path=CANCEL, count=3)
    assert expiry.close_due() == 0
    assert statuses(order) == ("AWAITING_PAYMENT", "ORDERED", "OPEN")
    with pytest.raises(holds.SoldOut):
        hold(product)
    due_now()
    assert expiry.close_due() == 1
    assert_books_agree(sandbox)
    assert (stock_of(product), letters(order)) == ((0, 0), ["order_expired"])
    assert "not charged" in told(client, order)["message"]


@pytest.mark.row("HC-D5")
def test_hc_d5_force_release_refuses_what_is_in_time_or_paid(client, sandbox):
    order, payment = ordered(client, ProductFactory())
    with pytest.raises(expiry.NotStuck):
        expiry.force_release(order.pk, by="staff:1", why="too early")
    sandbox.control.pay(payment.stripe_payment_intent_id)
    settlement.sync(order.pk, by="poll")
    end_time(order.reservation_id, seconds=700)
    with pytest.raises(expiry.AlreadyPaid):
        expiry.force_release(order.pk, by="staff:1", why="too late")
    assert statuses(order) == ("PAID", "CONFIRMED", "SUCCEEDED")


@pytest.mark.row("HC-D6", "HC-C16")
@pytest.mark.parametrize("is_paid", [True, False])
def test_hc_d6_the_bank_takes_its_time_and_the_seat_is_kept(client, debit_sandbox, is_paid):
    """HC-D6: past the hold's time and past ten minutes: not released, not stuck, the buyer knows who decides."""
    product = ProductFactory(quotas__capacity=1)
    order, payment = ordered(client, product)
    debit_sandbox.control.pay(payment.stripe_payment_intent_id, "pm_success_de")
    deliver(client, events_of(debit_sandbox, payment, "payment_intent.processing")[0])
    end_time(order.reservation_id, seconds=3 * 86_400)
    due_now()
    assert expiry.close_due() == 0
    assert (statuses(order), attention.waiting().stuck) == (("AWAITING_PAYMENT", "ORDERED", "PROCESSING"), 0)
    with pytest.raises(holds.SoldOut):
        hold(product)
    assert "Your bank is deciding" in told(client, order)["message"]
    assert "Your bank is deciding" in page(client, order)
    debit_sandbox.control.settle(payment.stripe_payment_intent_id, succeeded=is_paid)
    outcome = "payment_intent.succeeded" if is_paid else "payment_intent.payment_failed"
    deliver(client, events_of(debit_sandbox, payment, outcome)[0])
    due_now()
    expiry.close_due()
    assert_books_agree(debit_sandbox)
    assert statuses(order) == (("PAID", "CONFIRMED", "SUCCEEDED") if is_paid else ("CANCELLED", "EXPIRED", "CANCELLED"))
    assert letters(order) == (["confirmation"] if is_paid else ["order_expired"])


def hosted(client, product: Product, quantity: int = 1) -> tuple[Order, Payment]:
    held = hold(product, quantity)
    assert check_out(client, held.id, mode="hosted").status_code == 201
    order = order_of(held.id)
    return order, order.payments.get()


@pytest.mark.row("HC-D7", "H9")
def test_hc_d7_stripes_page_left_open_past_the_hold_ends_with_it(client, sandbox):
    """HC-D7: Stripe would keep the session for an hour more; ours expires it, and our page says what happened."""
    product = ProductFactory(quotas__capacity=1)
    order, payment = hosted(client, product)
    sandbox.control.advance(16 * 60)
    assert sandbox.control.session(payment.stripe_session_id)["checkout_session"]["status"] == "open"
    end_time(order.reservation_id)
    assert expiry.close_due() == 1
    assert sandbox.control.session(payment.stripe_session_id)["checkout_session"]["status"] == "expired"
    assert statuses(order) == ("CANCELLED", "EXPIRED", "CANCELLED")
    text = page(client, order, "&redirect_status=returned")
    assert "You were not charged" in text
    assert (letters(order), stock_of(product)) == (["order_expired"], (0, 0))
    hold(product)
    assert_books_agree(sandbox)


@pytest.mark.row("HC-D7", "HC-D4")
def test_hc_d7_paying_and_expiring_a_session_at_the_same_moment(client, sandbox):
    """HC-D7: 400 "not open" is no end: Stripe is asked what became of it. Either way ledger, seat and order agree."""
    ends = set()
    for _ in range(5):
        product = ProductFactory(quotas__capacity=1)
        order, payment = hosted(client, product)
        end_time(order.reservation_id)
        at_once([expiry.close_due, partial(sandbox.control.pay_session, payment.stripe_session_id), expiry.close_due])
        due_now()
        expiry.close_due()
        ends.add(statuses(order))
        assert_books_agree(sandbox)
    assert ends <= {("PAID", "CONFIRMED", "SUCCEEDED"), ("CANCELLED", "EXPIRED", "CANCELLED")}


@pytest.mark.row("HC-D8")
def test_hc_d8_pressing_pay_on_an_expired_session_charges_nothing(client, sandbox):
    """HC-D8: Stripe refuses; no charge, no ticket, and our page says "not charged"."""
    product = ProductFactory(quotas__capacity=1)
    order, payment = hosted(client, product)
    end_time(order.reservation_id)
    assert expiry.close_due() == 1
    with pytest.raises(ControlError):
        sandbox.control.pay_session(payment.stripe_session_id)
    assert sandbox.control.ledger()["totals"] == {}
    assert "You were not charged" in page(client, order)
    assert (told(client, order)["done"], Ticket.objects.count(), stock_of(product)) == (True, 0, (0, 0))
    assert_books_agree(sandbox)


NO_LONGER_SOLD = {
    "event cancelled": lambda event: Event.objects.filter(pk=event.pk).update(status="CANCELLED"),
    "event past": lambda event: Event.objects.filter(pk=event.pk).update(
        starts_at=PAST, ends_at="2020-01-01T03:00:00Z"
    ),
    "sales closed": lambda event: Product.objects.filter(event=event).update(sale_ends_at=PAST),
}


@pytest.mark.row("HC-D9")
@pytest.mark.parametrize("case", NO_LONGER_SOLD)
def test_hc_d9_late_money_for_what_is_not_sold_any_more_goes_back(client, sandbox, case):
    """HC-D9: though there is room: nothing is issued, the reason is noted for staff, the buyer is written to."""
    product = ProductFactory(quotas__capacity=5)
    order, payment = forced(client, sandbox, product)
    NO_LONGER_SOLD[case](product.event)
    pays(client, sandbox, payment)
    refunds.submit_due()
    assert_books_agree(sandbox)
    refund = Refund.objects.get()
    assert (refund.reason, refund.status, letters(order)) == ("LATE", "SUCCEEDED", ["refund"])
    assert refund.note
    assert (told(client, order)["refund"], stock_of(product)) == ("full", (0, 0))


def late_refund(client, sandbox) -> tuple[Order, Payment, Refund]:
    product = ProductFactory(quotas__capacity=1)
    order, payment = forced(client, sandbox, product)
    hold(product)
    pays(client, sandbox, payment)
    return order, payment, Refund.objects.get()


@pytest.mark.row("HC-D10")
def test_hc_d10_without_money_in_the_balance_the_refund_is_on_its_way(client, sandbox):
    """HC-D10: pending is owed, not failed: no second one is sent, however often the sweep comes."""
    sandbox.control.set_balance(sufficient=False)
    order, payment, refund = late_refund(client, sandbox)
    for _ in range(3):
        due_now()
        refunds.submit_due()
    refund.refresh_from_db()
    assert (refund.status, len(sandbox.control.refunds())) == ("SUBMITTED", 1)
    assert "is on its way" in told(client, order)["message"]
    assert (told(client, order)["done"], order.code in refund_list("not_done")) == (False, True)
    sandbox.control.set_balance(sufficient=True)
    deliver(client, events_of(sandbox, payment, "refund.updated")[-1])
    refund.refresh_from_db()
    assert refund.status == "SUCCEEDED"
    assert (told(client, order)["done"], order.code in refund_list("not_done")) == (True, False)
    assert_books_agree(sandbox)


@pytest.mark.row("HC-D10")
def test_hc_d10_a_refund_that_fails_again_and_again_stays_on_staffs_list(client, sandbox):
    """HC-D10: a new key after a failure only, three rows at most; then it is owed until a person has dealt with it."""
    order, payment, _first = late_refund(client, sandbox)
    for attempt in (1, 2, 3):
        due_now()
        refunds.submit_due()
        sent = Refund.objects.get(attempt=attempt)
        assert sent.status == "SUCCEEDED"
        sandbox.control.fail_refund(sent.stripe_refund_id)
        deliver(client, events_of(sandbox, payment, "refund.failed")[-1])
        assert is_in_review(order)
    keys = list(Refund.objects.values_list("idempotency_key", flat=True))
    assert (len(set(keys)), set(Refund.objects.values_list("status", flat=True))) == (3, {"FAILED"})
    due_now()
    assert refunds.submit_due() == 0
    assert (attention.waiting().refunds, order.code in refund_list("owed")) == (1, True)
    assert_books_agree(sandbox)
    again = refunds.try_again(Refund.objects.get(attempt=3), by="staff:1")
    refunds.submit(again.pk, by="staff:1")
    due_now()
    refunds.submit_due()
    again.refresh_from_db()
    assert (again.status, attention.waiting().refunds) == ("SUCCEEDED", 0)
    assert (letters(order), told(client, order)["refund"]) == (["refund"], "full")
    assert_books_agree(sandbox)


@pytest.mark.row("HC-D11", "P10")
@pytest.mark.parametrize(("place", "at_stripe"), [("before_refund", 0), ("after_refund_before_commit", 1)])
def test_hc_d11_killed_around_the_call_there_is_one_refund(client, sandbox, place, at_stripe):
    """HC-D11: a real process, killed for good. Row and key were committed before; the sweep ends it, once."""
    order, _payment, refund = late_refund(client, sandbox)
    assert killed_while_submitting(refund, sandbox, place) == -signal.SIGKILL
    refund.refresh_from_db()
    assert (refund.status, refund.attempts, len(sandbox.control.refunds())) == ("REQUESTED", 1, at_stripe)
    assert "is on its way" in told(client, order)["message"]
    assert refunds.submit_due() == 0, "its lease is not over"
    due_now()
    assert refunds.submit_due() == 1
    refund.refresh_from_db()
    assert (refund.status, len(sandbox.control.refunds())) == ("SUCCEEDED", 1)
    assert_books_agree(sandbox)
    assert letters(order) == ["refund"]


def killed_while_submitting(refund: Refund, sandbox, place: str) -> int:
    """The exit code of a worker's process that comes to `place`."""
    server = os.environ["DATABASE_URL"].rpartition("/")[0]
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "DATABASE_URL": f"{server}/{connection.settings_dict['NAME']}",
        "STRIPE_API_BASE": sandbox.api_base,
        "DEBUG": "on",
        "FAILPOINTS": f"{place}=kill",
    }
    script = f"import django; django.setup(); from payments import refunds; refunds.submit({refund.pk})"
    return subprocess.run([sys.executable, "-c", script], check=False, env=environment, cwd=ROOT, timeout=60).returncode


@pytest.mark.row("HC-D11")
def test_hc_d11_a_crash_before_the_decision_is_committed_leaves_neither_money_nor_refund(client, sandbox, settings):
    """HC-D11: money learnt of and money given back are one commit."""
    product = ProductFactory(quotas__capacity=1)
    order, payment = forced(client, sandbox, product)
    hold(product)
    settings.FAILPOINTS = {"before_webhook_commit": "raise"}
    sandbox.control.pay(payment.stripe_payment_intent_id)
    event = deliver(client, events_of(sandbox, payment, "payment_intent.succeeded")[0])
    assert (event.status, Refund.objects.count(), statuses(order)[2]) == ("RECEIVED", 0, "OPEN")
    settings.FAILPOINTS = {}
    event.next_attempt_at = PAST
    event.save()
    webhooks.sweep()
    refunds.submit_due()
    assert (Refund.objects.get().status, len(sandbox.control.refunds())) == ("SUCCEEDED", 1)
    assert_books_agree(sandbox)


@pytest.mark.row("HC-D12", "P10")
@pytest.mark.parametrize("fault", ["drop_after", "http_500_after", "malformed", "http_500_before", "drop_before"])
def test_hc_d12_whatever_becomes_of_the_answer_there_is_one_refund(client, sandbox, settings, fault):
    """HC-D12: sent again only after the refunds of the payment were looked through."""
    settings.STRIPE_TRIES = 1
    order, _payment, refund = late_refund(client, sandbox)
    sandbox.control.add_fault(fault, method="POST", path="/v1/refunds", count=1)
    sandbox.control.clear_requests()
    for _ in range(3):
        refunds.submit_due()
        due_now()
    refund.refresh_from_db()
    assert (refund.status, [each["status"] for each in sandbox.control.refunds()]) == ("SUCCEEDED", ["succeeded"])
    sent = [(each["method"], each["path"]) for each in sandbox.control.requests(path="/v1/refunds")]
    assert all(before == ("GET", "/v1/refunds") for before, now in itertools.pairwise(sent) if now[0] == "POST")
    assert ("GET", "/v1/refunds") in sent, "looked for before anything was sent again"
    assert_books_agree(sandbox)
    assert (letters(order), told(client, order)["refund"]) == (["refund"], "full")


@pytest.mark.row("HC-D12")
def test_hc_d12_without_looking_a_new_key_would_refund_twice(client, sandbox):
    """HC-D12, the guard off: after a 500 that had succeeded, a fresh key without a look is a second refund."""
    _order, payment = ordered(client, ProductFactory())
    sandbox.control.pay(payment.stripe_payment_intent_id)
    params = {"payment_intent": payment.stripe_payment_intent_id, "amount": 100, "metadata": {}}
    sandbox.control.add_fault("http_500_after", method="POST", path="/v1/refunds", count=1)
    with pytest.raises(stripe_gateway.StripeUnavailable):
        stripe_gateway.create_refund(params, idempotency_key="the first")
    stripe_gateway.create_refund(params, idempotency_key="another")
    assert len(sandbox.control.refunds()) == 2


def test_quotas_shared_by_a_late_order_are_counted_once_each(client, sandbox):
    """A late order whose product draws on two quotas takes both again or neither."""
    event = EventFactory()
    wide, narrow = QuotaFactory(event=event, capacity=5), QuotaFactory(event=event, capacity=1)
    both = ProductFactory(event=event, quotas=[wide, narrow])
    order, payment = forced(client, sandbox, both)
    other = ProductFactory(event=event, quotas=[narrow])
    hold(other)
    pays(client, sandbox, payment)
    refunds.submit_due()
    wide.refresh_from_db()
    narrow.refresh_from_db()
    assert ((wide.held, wide.sold), (narrow.held, narrow.sold)) == ((0, 0), (1, 0))
    assert statuses(order)[0] == "CANCELLED"
    assert_books_agree(sandbox)
