"""From a hold to an order, and what becomes of the order; prices unit by unit."""

import uuid

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from config.state_machine import MoveRefused
from reservations import holds, orders, placement, pricing
from reservations.models import Order, OrderLine, Reservation, ReservationLine, StatusChange
from tests.factories import EventFactory, ProductFactory
from tests.purchases import BUYER, check_out, end_time, hold, order_of, stock_of
from ticketing.models import OutgoingEmail, Ticket

pytestmark = pytest.mark.django_db


def place(reservation_id, **buyer):
    with transaction.atomic():
        return placement.place(reservation_id, **(BUYER | buyer))


@pytest.mark.row("P4", "HC-K3")
def test_an_order_freezes_one_line_per_unit():
    """P4: the lines are the units of the hold at the hold's prices, and the stock stays held."""
    event = EventFactory()
    dear, cheap = ProductFactory(event=event, price_minor=5000), ProductFactory(event=event, price_minor=1000)
    wanted = [holds.Wanted(dear.pk, None, 2), holds.Wanted(cheap.pk, None, 1)]
    held, _replayed = holds.reserve(event.slug, lines=wanted)
    order, is_new = place(held.id)
    assert is_new
    assert (order.status, order.total_minor, order.currency) == ("AWAITING_PAYMENT", 11000, "EUR")
    assert list(order.lines.values_list("position", "product", "price_minor", "is_sold")) == [
        (1, dear.pk, 5000, False),
        (2, dear.pk, 5000, False),
        (3, cheap.pk, 1000, False),
    ]
    assert Reservation.objects.get(pk=held.id).status == "ORDERED"
    assert (stock_of(dear), stock_of(cheap)) == ((2, 0), (1, 0))


@pytest.mark.row("P3")
def test_placing_again_finds_the_order_and_corrects_name_and_address():
    """P3: until it is paid; afterwards nothing changes any more."""
    held = hold(ProductFactory())
    first, _ = place(held.id)
    again, is_new = place(held.id, name="Countess", email="countess@example.org")
    assert (again.pk, is_new) == (first.pk, False)
    assert (again.name, again.email) == ("Countess", "countess@example.org")
    with transaction.atomic():
        orders.confirm(orders.lock(first.pk), by="test", why="paid")
    late, _ = place(held.id, name="Somebody", email="else@example.org")
    assert late.name == "Countess"
    assert OrderLine.objects.count() == 1


@pytest.mark.row("H4", "P4")
def test_a_hold_that_ended_cannot_be_ordered():
    """H4: past its time (though nobody swept it), released, expired, unknown."""
    over, released, swept = (hold(ProductFactory()) for _ in range(3))
    end_time(over.id)
    holds.release(released.id)
    Reservation.objects.filter(pk=swept.id).update(status="EXPIRED")
    for held in (over, released, swept):
        with pytest.raises(placement.HoldEnded):
            place(held.id)
    with pytest.raises(placement.NoSuchReservation):
        place(uuid.uuid4())
    assert not Order.objects.exists()


@pytest.mark.row("H6")
def test_what_was_ordered_or_paid_cannot_be_released(client):
    """H6: 409 `ordered` with the address that cancels; 409 `confirmed` once paid."""
    product = ProductFactory()
    held = hold(product)
    order, _ = place(held.id)
    answer = client.delete(f"/api/v1/reservations/{held.id}/")
    assert (answer.status_code, answer.json()["code"]) == (409, "ordered")
    assert answer.json()["cancel_url"] == f"http://testserver/api/v1/orders/{order.code}/cancel/?secret={order.secret}"
    with transaction.atomic():
        orders.confirm(orders.lock(order.pk), by="test", why="paid")
    assert client.delete(f"/api/v1/reservations/{held.id}/").json()["code"] == "confirmed"
    assert stock_of(product) == (0, 1)


@pytest.mark.row("T2", "HC-B12")
def test_hc_b12_a_free_order_needs_no_payment(client):
    """HC-B12: paid at once with its ticket and letter; asking again finds it, and makes nothing more."""
    product = ProductFactory(free=True)
    held = hold(product, 2)
    first, again = check_out(client, held.id), check_out(client, held.id)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["payment"] is None
    assert first.json()["order"]["status"] == again.json()["order"]["status"] == "paid"
    order = order_of(held.id)
    assert not order.payments.exists()
    assert Ticket.objects.count() == 2
    assert OutgoingEmail.objects.filter(reference=order.code).count() == 1
    assert stock_of(product) == (0, 2)


@pytest.mark.row("T3")
def test_confirming_moves_everything_together_and_only_once():
    """T3: order, reservation, tickets, letter and counters; a second time is refused and changes nothing."""
    product = ProductFactory()
    held = hold(product, 2)
    order, _ = place(held.id)
    with transaction.atomic():
        orders.confirm(orders.lock(order.pk), by="test", why="paid")
    with pytest.raises(MoveRefused), transaction.atomic():
        orders.confirm(orders.lock(order.pk), by="test", why="paid")
    order.refresh_from_db()
    assert (order.status, Reservation.objects.get(pk=held.id).status) == ("PAID", "CONFIRMED")
    assert order.paid_at is not None
    assert order.lines.filter(is_sold=True, ticket__isnull=False).count() == 2
    assert stock_of(product) == (0, 2)
    moves = StatusChange.objects.filter(kind="order").values_list("from_status", "to_status", "by")
    assert list(moves) == [("AWAITING_PAYMENT", "PAID", "test")]


@pytest.mark.row("T3")
@pytest.mark.parametrize("place_of_failure", ["in_settle_1", "in_settle_2", "in_settle_3"])
def test_confirming_that_fails_half_way_leaves_nothing(settings, place_of_failure):
    """T3: one transaction: no paid order without tickets, no ticket without its paid order, no gap in the serials."""
    product = ProductFactory()
    order, _ = place(hold(product).id)
    settings.FAILPOINTS = {place_of_failure: "raise"}
    with pytest.raises(RuntimeError), transaction.atomic():
        orders.confirm(orders.lock(order.pk), by="test", why="paid")
    order.refresh_from_db()
    assert order.status == "AWAITING_PAYMENT"
    assert not Ticket.objects.exists()
    assert not OutgoingEmail.objects.exists()
    settings.FAILPOINTS = {}
    with transaction.atomic():
        orders.confirm(orders.lock(order.pk), by="test", why="paid")
    assert Ticket.objects.get().serial == 1


@pytest.mark.row("T3")
def test_missing_tickets_are_issued_by_command_and_only_they(capsys):
    """T3: `ensure_tickets` finds paid orders with a line without ticket; again: nothing."""
    order, _ = place(hold(ProductFactory(), 3).id)
    with transaction.atomic():
        orders.confirm(orders.lock(order.pk), by="test", why="paid")
    lost = order.lines.first()
    ticket = lost.ticket
    OrderLine.objects.filter(pk=lost.pk).update(ticket=None)
    ticket.delete()
    call_command("ensure_tickets")
    assert capsys.readouterr().out == f"{order.code}: 1 issued\n"
    assert sorted(Ticket.objects.values_list("serial", flat=True)) == [2, 3, 4]
    call_command("ensure_tickets", order.code)
    assert capsys.readouterr().out == f"{order.code}: 0 issued\n"
    call_command("ensure_tickets")
    assert "no paid order" in capsys.readouterr().out
    with pytest.raises(CommandError, match="NOSUCH"):
        call_command("ensure_tickets", "NOSUCH")


@pytest.mark.row("T3")
def test_an_unpaid_order_gets_no_tickets():
    order, _ = place(hold(ProductFactory()).id)
    assert orders.ensure_tickets(order.pk) == 0
    assert not Ticket.objects.exists()


@pytest.mark.row("H6")
@pytest.mark.parametrize(("ending", "letters"), [("EXPIRED", 1), ("RELEASED", 0)])
def test_a_cancelled_order_gives_back_and_writes_only_when_its_time_ran_out(ending, letters):
    """H6: whoever cancelled by hand knows already."""
    product = ProductFactory()
    held = hold(product, 2)
    order, _ = place(held.id)
    with transaction.atomic():
        orders.cancel(orders.lock(order.pk), to=ending, by="test", why="test")
    order.refresh_from_db()
    assert (order.status, Reservation.objects.get(pk=held.id).status) == ("CANCELLED", ending)
    assert stock_of(product) == (0, 0)
    assert OutgoingEmail.objects.filter(kind="order_expired").count() == letters


@pytest.mark.row("H1")
def test_codes_and_secrets_cannot_be_guessed():
    """Codes can be read out (no 0, O, 1, I); secrets carry 192 bits and differ."""
    placed = [place(hold(ProductFactory()).id)[0] for _ in range(5)]
    assert all(len(order.code) == 10 and not set(order.code) & set("01OI") for order in placed)
    assert all(len(order.secret) >= 32 for order in placed)
    assert len({order.secret for order in placed}) == len({order.code for order in placed}) == 5


@pytest.mark.row("HC-L2")
@given(quantity=st.integers(1, 500), price=st.integers(0, 10**9), share=st.integers(0, 10**6))
def test_a_discount_spread_over_the_units_adds_up_exactly(quantity, price, share):
    """HC-L2: the units' discounts sum to the line's, differ by a minor unit at most, and exceed no price."""
    discount = price * quantity * share // 10**6
    line = ReservationLine(quantity=quantity, unit_price_minor=price, discount_minor=discount)
    units = pricing.unit_prices(line)
    discounts = [unit.discount_minor for unit in units]
    assert len(units) == quantity
    assert sum(discounts) == discount
    assert max(discounts) - min(discounts) <= 1
    assert max(discounts) <= price
    assert sum(unit.price_minor - unit.discount_minor for unit in units) == price * quantity - discount


@pytest.mark.row("HC-L2")
def test_an_order_of_a_discounted_hold_costs_what_the_hold_said(client):
    """HC-L2: 3 × 10.00 less 1.00, on the basket, on the order and over its lines."""
    held = hold(ProductFactory(price_minor=1000), 3)
    ReservationLine.objects.filter(reservation=held.id).update(discount_minor=100)
    assert client.get(f"/api/v1/reservations/{held.id}/").json()["total"]["amount_minor"] == 2900
    order, _ = place(held.id)
    assert order.total_minor == 2900
    assert list(order.lines.values_list("discount_minor", flat=True)) == [34, 33, 33]
