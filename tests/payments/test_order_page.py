"""What the order page says in each of its states, and what it must not say."""

import re

import pytest

from payments import expiry, refunds, settlement, truth
from payments.models import Payment, Refund
from reservations.models import Order, Reservation
from tests.factories import ProductFactory
from tests.purchases import check_out, end_time, hold, ordered

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.row("T7")]


def page_of(client, order: Order, more: str = "") -> str:
    answer = client.get(order.get_absolute_url() + more)
    assert answer.status_code == 200
    return " ".join(re.sub(r"<[^>]+>", " ", answer.content.decode()).split())


def phase_of(client, order: Order) -> str:
    return client.get(order.get_absolute_url()).context["phase"]


def late(client, sandbox, *, price_minor: int = 2500) -> tuple[Order, Refund]:
    """Released by force, sold to another, paid after all."""
    product = ProductFactory(quotas__capacity=1, price_minor=price_minor)
    order, payment = ordered(client, product)
    end_time(order.reservation_id, seconds=700)
    expiry.force_release(order.pk, by="staff:1", why="a test")
    hold(product)
    sandbox.control.pay(payment.stripe_payment_intent_id)
    settlement.settle(payment.pk, facts=truth.fetch(payment), by="webhook")
    return order, Refund.objects.get()


@pytest.mark.row("HC-D5")
def test_hc_d5_seats_released_by_force_say_nothing_about_charges(client, sandbox):
    """HC-D5: nobody knows yet whether it was paid."""
    order, _payment = ordered(client, ProductFactory())
    end_time(order.reservation_id, seconds=700)
    expiry.force_release(order.pk, by="staff:1", why="a test")
    assert phase_of(client, order) == "unheard"
    page = page_of(client, order)
    assert "not heard yet" in page
    assert "not charged" not in page
    assert client.get(order.address_of("payments:api-status")).json()["done"] is False


@pytest.mark.row("HC-D2", "P10")
def test_hc_d2_late_money_is_followed_until_it_is_back(client, sandbox):
    """HC-D2: amount, reason and date; the page polls only while something is to come."""
    order, refund = late(client, sandbox)
    assert phase_of(client, order) == "refunding"
    page = page_of(client, order)
    assert "after the time to pay" in page
    assert "Your refund of €25.00 is on its way" in page
    assert "On its way since" in page
    assert "not charged" not in page
    refunds.submit(refund.pk)
    assert phase_of(client, order) == "refunded"
    page = page_of(client, order)
    assert "refunded €25.00 in full" in page
    assert "Sent back on" in page
    assert client.get(order.get_absolute_url()).context["config"]["done"] is True


@pytest.mark.row("HC-D10")
def test_hc_d10_a_refund_tried_again_is_one_refund_on_its_way(client, sandbox):
    """HC-D10: the buyer does not see our trouble, and no state in which the money seems lost."""
    order, refund = late(client, sandbox)
    sandbox.control.set_balance(sufficient=False)
    refunds.submit(refund.pk)
    refund.refresh_from_db()
    sandbox.control.fail_refund(refund.stripe_refund_id)
    Refund.objects.update(next_attempt_at="2020-01-01T00:00:00Z")
    refunds.submit(refund.pk)
    assert list(Refund.objects.order_by("id").values_list("status", flat=True)) == ["FAILED", "REQUESTED"]
    order.refresh_from_db()
    assert order.needs_review
    context = client.get(order.get_absolute_url()).context
    assert (context["phase"], len(context["refunds"])) == ("refunding", 1)
    assert "did not arrive" not in page_of(client, order)
    Refund.objects.update(status="FAILED")
    Payment.objects.update(refunded_minor=0)
    assert phase_of(client, order) == "review"
    page = page_of(client, order)
    assert "by hand" in page
    assert "did not arrive" in page


@pytest.mark.row("HC-B8")
def test_hc_b8_money_that_does_not_fit_goes_back_and_says_why(client, sandbox):
    """HC-B8: the order was marked for staff, and the buyer reads of the refund all the same."""
    order, payment = ordered(client, ProductFactory())
    sandbox.control.modify(payment.stripe_payment_intent_id, amount=payment.amount_minor - 1)
    sandbox.control.pay(payment.stripe_payment_intent_id)
    settlement.sync(order.pk, by="sync")
    assert phase_of(client, order) == "refunding"
    assert "not what the order costs" in page_of(client, order)


@pytest.mark.row("HC-B10")
def test_hc_b10_a_second_payment_is_a_word_beside_the_tickets(client, sandbox):
    """HC-B10: also while staff look at the order."""
    order, first = ordered(client, ProductFactory())
    Payment.objects.filter(pk=first.pk).update(status="CANCELLED")
    check_out(client, order.reservation_id)
    for payment in order.payments.order_by("-attempt"):
        sandbox.control.pay(payment.stripe_payment_intent_id)
        settlement.settle(payment.pk, facts=truth.fetch(payment), by="webhook")
    Order.objects.update(needs_review="odd")
    assert phase_of(client, order) == "paid"
    page = page_of(client, order)
    assert "You paid twice" in page
    assert "goes back the way it came; you need not do anything" in page
    Refund.objects.update(status="SUCCEEDED", stripe_refund_id="re_1", succeeded_at="2026-01-02T12:00:00Z")
    assert "went back the way it came" in page_of(client, order)
    assert "Sent back on Fri, 2 January 2026, 13:00" in page_of(client, order)


@pytest.mark.row("HC-D8", "H6")
@pytest.mark.parametrize(("to", "phase"), [("EXPIRED", "expired"), ("RELEASED", "cancelled")])
def test_hc_d8_what_stripe_ended_unpaid_was_not_charged(client, sandbox, to, phase):
    order, _payment = ordered(client, ProductFactory())
    expiry.close(order.pk, to=to, by="buyer", why="a test")
    assert phase_of(client, order) == phase
    assert "You were not charged" in page_of(client, order)
    assert Reservation.objects.get(pk=order.reservation_id).status == to


@pytest.mark.row("HC-C6")
def test_hc_c6_closed_by_staff_after_money_came_is_not_called_unpaid(client, sandbox):
    """HC-C6: what was done by hand is not in our books."""
    order, payment = ordered(client, ProductFactory())
    expiry.close(order.pk, to="RELEASED", by="staff:1", why="a test")
    Payment.objects.filter(pk=payment.pk).update(status="SUCCEEDED", amount_received_minor=payment.amount_minor)
    assert phase_of(client, order) == "closed"
    page = page_of(client, order)
    assert "closed by our staff" in page
    assert "not charged" not in page


@pytest.mark.row("HC-D5", "C1")
def test_past_its_time_and_not_yet_closed_the_page_offers_no_payment(client, sandbox):
    order, _payment = ordered(client, ProductFactory())
    assert phase_of(client, order) == "awaiting"
    end_time(order.reservation_id)
    assert phase_of(client, order) == "over"
    page = page_of(client, order)
    assert "Back to payment" not in page
    assert "not charged" not in page
