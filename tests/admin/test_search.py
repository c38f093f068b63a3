"""Whatever a buyer reads out or a mail contains finds the order (T1, T11)."""

import pytest
from django.test import Client
from django.urls import reverse

from reservations.models import Order
from tests.admin.catalogue import paid_order, webhook_event
from tests.factories import ProductFactory
from ticketing.models import Ticket

pytestmark = pytest.mark.row("T1")


@pytest.fixture
def order(db) -> Order:
    """One of three orders; the others are of other buyers, events and serials."""
    for number in range(2):
        paid_order(ProductFactory(), 4, email=f"other{number}@example.org", name=f"Other {number}")
    return paid_order(ProductFactory(), 6, email="grace@example.org", name="Grace Hopper")


def _found(desk: Client, model: str, term: str) -> list[int]:
    page = desk.get(reverse(f"admin:{model}_changelist"), {"q": term})
    return [row.pk for row in page.context["cl"].result_list]


def _terms(order: Order) -> dict[str, str]:
    payment = order.payments.get()
    intent = payment.stripe_payment_intent_id or ""
    webhook_event(77, object_id=intent)
    last = Ticket.objects.filter(order_line__order=order).order_by("-serial").first()
    assert last is not None
    return {
        "code": order.code,
        "code in small letters": order.code.lower(),
        "e-mail": "Grace@example.org",
        "name": "hopper",
        "serial": "6",
        "number": last.number,
        "payment": intent,
        "event": "evt_77",
        "reservation": str(order.reservation_id),
    }


def test_orders_are_found_by_all_their_names(desk: Client, order: Order) -> None:
    for what, term in _terms(order).items():
        assert _found(desk, "reservations_order", term) == [order.pk], what


def test_payments_and_reservations_too(desk: Client, order: Order) -> None:
    terms = _terms(order)
    for what in ("code", "e-mail", "payment", "event"):
        expected = [order.payments.get().pk]
        assert _found(desk, "payments_payment", terms[what].lower() if what == "e-mail" else terms[what]) == expected
    for what in ("code", "e-mail", "reservation"):
        assert [str(pk) for pk in _found(desk, "reservations_reservation", terms[what])] == [str(order.reservation_id)]


def test_tickets_by_serial_and_number(desk: Client, order: Order) -> None:
    ticket = Ticket.objects.get(order_line__order=order, serial=6)
    assert _found(desk, "ticketing_ticket", "6") == [ticket.pk]
    assert _found(desk, "ticketing_ticket", f"{ticket.event_id}-000006") == [ticket.pk]
    assert _found(desk, "ticketing_ticket", f"{ticket.event_id + 1}-000006") == []


def test_webhook_events_and_letters(desk: Client, order: Order) -> None:
    event = webhook_event(77, object_id="pi_seven")
    for term in ("evt_77", "pi_seven", "payment_intent."):
        assert _found(desk, "payments_webhookevent", term) == [event.pk]
    assert len(_found(desk, "ticketing_outgoingemail", order.code)) == 1


def test_an_orders_page_tells_its_story_in_order(desk: Client, order: Order) -> None:
    """Reservation, order and payment in one list, by time."""
    text = desk.get(reverse("admin:reservations_order_change", args=[order.pk])).content.decode()
    moves = ["ACTIVE → ORDERED", "NEW → OPEN", "OPEN → SUCCEEDED", "ORDERED → CONFIRMED", "AWAITING_PAYMENT → PAID"]
    places = [text.index(move) for move in moves]
    assert places == sorted(places)
    assert f"/orders/{order.code}/?secret=" in text
