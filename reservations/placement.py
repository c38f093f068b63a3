"""From a hold to an order: what the buyer agreed to pay is written down, line by line, and frozen."""

import uuid

from django.db import connection

from config.state_machine import move
from reservations import holds
from reservations.models import Order, OrderLine, PromoCode, Reservation
from reservations.pricing import unit_prices


class HoldEnded(Exception):
    """The hold's time is over, or it was released: there is nothing to order."""


class NoSuchReservation(Exception):
    """There is no reservation with this id."""


def place(reservation_id: uuid.UUID, *, email: str, name: str) -> tuple[Order, bool]:
    """The order for this reservation, and whether it is new. Runs inside the caller's transaction.

    1. Lock the reservation. 2. If it was ordered before, return that order; while it awaits payment, name and e-mail
    may still be corrected. 3. By the database's clock, refuse a hold past its time. 4. ACTIVE → ORDERED, and the
    order with one line per unit.

    Raises HoldEnded, NoSuchReservation, and holds.PromoCodeUsedUp where this e-mail address has used the reservation's
    promo code as often as one buyer may.
    """
    reservation = _lock(reservation_id)
    if reservation.status in (Reservation.Status.ORDERED, Reservation.Status.CONFIRMED):
        return _corrected(reservation, email=email, name=name), False
    if reservation.status != Reservation.Status.ACTIVE or _is_over(reservation):
        raise HoldEnded
    _refuse_code_used_up(reservation, email=email)
    move(reservation, Reservation.Status.ORDERED, by="buyer", why="checkout")
    lines = list(reservation.lines.order_by("id"))
    prices = [(line, price) for line in lines for price in unit_prices(line)]
    order = Order.objects.create(
        reservation=reservation,
        event_id=reservation.event_id,
        email=email,
        name=name,
        currency=reservation.currency,
        total_minor=sum(price.price_minor - price.discount_minor for _line, price in prices),
    )
    OrderLine.objects.bulk_create(
        OrderLine(
            order=order,
            reservation_line=line,
            position=position,
            product_id=line.product_id,
            slot_id=line.slot_id,
            price_minor=price.price_minor,
            discount_minor=price.discount_minor,
        )
        for position, (line, price) in enumerate(prices, start=1)
    )
    return order, True


def _lock(reservation_id: uuid.UUID) -> Reservation:
    try:
        return Reservation.objects.select_for_update(of=("self",)).get(pk=reservation_id)
    except Reservation.DoesNotExist:
        raise NoSuchReservation from None


def _is_over(reservation: Reservation) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s <= clock_timestamp()", [reservation.expires_at])
        return cursor.fetchone()[0]


def _corrected(reservation: Reservation, *, email: str, name: str) -> Order:
    order = Order.objects.select_for_update(of=("self",)).get(reservation=reservation)
    if order.status == Order.Status.AWAITING_PAYMENT and (order.email, order.name) != (email, name):
        _refuse_code_used_up(reservation, email=email)
        order.email, order.name = email, name
        order.save(update_fields=["email", "name"])
    return order


def _refuse_code_used_up(reservation: Reservation, *, email: str) -> None:
    """The limit per buyer, now that the buyer has an address. The code's row is locked: two orders are counted in turn."""
    if reservation.promo_code_id is None:
        return
    code = PromoCode.objects.select_for_update(of=("self",), no_key=True).get(pk=reservation.promo_code_id)
    if code.max_uses_per_buyer is None:
        return
    others = Order.objects.filter(reservation__promo_code=code, email__iexact=email).exclude(reservation=reservation)
    if others.exclude(status=Order.Status.CANCELLED).count() >= code.max_uses_per_buyer:
        raise holds.PromoCodeUsedUp
