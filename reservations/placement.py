"""From a hold to an order: what the buyer agreed to pay is written down, line by line, and frozen."""

import uuid
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from django.db import connection
from django.db.models import Q
from django.db.models.functions import Now

from config.state_machine import move
from reservations import holds
from reservations.models import Claim, Order, OrderLine, PromoCode, Reservation, ReservationLine
from reservations.pricing import unit_prices
from ticketing.models import Product, Quota, Slot


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


@dataclass(frozen=True, slots=True)
class LostLine:
    """`slot_id` 0: none. Price and discount are those of one unit."""

    product_id: int
    slot_id: int
    price_minor: int
    discount_minor: int
    quantity: int


@dataclass(frozen=True, slots=True)
class LostOrder:
    """What is known of an order that is not in the books any more."""

    code: str
    reservation_id: uuid.UUID
    event_id: int
    currency: str
    email: str
    name: str
    lines: list[LostLine]


class DoesNotFit(Exception):
    """The lost order names something that does not exist, or a reservation that says otherwise."""


_END_OF: dict[str, Callable[..., None]] = {
    Reservation.Status.ACTIVE: holds.end_active,
    Reservation.Status.ORDERED: holds.end_ordered,
}


def write_down_again(lost: LostOrder) -> Order:
    """The order as a CANCELLED one, with its reservation EXPIRED if that is lost too; nothing is held or sold by it.

    Runs inside the caller's transaction. Raises DoesNotFit.
    """
    reservation = Reservation.objects.select_for_update(of=("self",)).filter(pk=lost.reservation_id).first()
    if reservation is None:
        reservation = _reservation_again(lost)
    elif Order.objects.filter(reservation=reservation).exists():
        raise DoesNotFit("its reservation has another order")
    elif reservation.status in _END_OF:  # its order was lost alone; what it holds is given back first
        end = _END_OF[reservation.status]
        end(reservation.pk, to=Reservation.Status.EXPIRED, by="rebuilding", why="its order is rebuilt")
    elif reservation.status not in (Reservation.Status.EXPIRED, Reservation.Status.RELEASED):
        raise DoesNotFit(f"its reservation is {reservation.status} without an order")
    order = Order.objects.create(
        code=lost.code,
        reservation=reservation,
        event_id=lost.event_id,
        status=Order.Status.CANCELLED,
        cancelled_at=Now(),
        email=lost.email,
        name=lost.name or lost.email,
        currency=lost.currency,
        total_minor=sum((line.price_minor - line.discount_minor) * line.quantity for line in lost.lines),
    )
    _lines_again(order, lost)
    return Order.objects.get(pk=order.pk)


def _reservation_again(lost: LostOrder) -> Reservation:
    products = Product.objects.filter(event=lost.event_id, pk__in={line.product_id for line in lost.lines})
    slots = Slot.objects.filter(event=lost.event_id, pk__in={line.slot_id for line in lost.lines} - {0})
    if products.count() != len({line.product_id for line in lost.lines}):
        raise DoesNotFit("its products are not here")
    if slots.count() != len({line.slot_id for line in lost.lines} - {0}):
        raise DoesNotFit("its slots are not here")
    reservation = Reservation.objects.create(
        pk=lost.reservation_id,
        event_id=lost.event_id,
        status=Reservation.Status.EXPIRED,
        currency=lost.currency,
        expires_at=Now(),
        ended_at=Now(),
    )
    by_place: dict[tuple[int, int], list[LostLine]] = defaultdict(list)
    for line in lost.lines:
        by_place[line.product_id, line.slot_id].append(line)
    for (product_id, slot_id), units in by_place.items():
        quantity = sum(unit.quantity for unit in units)
        row = ReservationLine.objects.create(
            reservation=reservation,
            product_id=product_id,
            slot_id=slot_id or None,
            quantity=quantity,
            unit_price_minor=units[0].price_minor,
            discount_minor=sum(unit.discount_minor * unit.quantity for unit in units),
        )
        # What it drew on then is lost with it; what the product draws on today is the best there is.
        drawn = Quota.objects.filter(products=product_id).filter(Q(slot=None) | Q(slot=slot_id or None))
        Claim.objects.bulk_create(Claim(line=row, quota=quota, quantity=quantity) for quota in drawn)
    return reservation


def _lines_again(order: Order, lost: LostOrder) -> None:
    rows = {(row.product_id, row.slot_id or 0): row for row in order.reservation.lines.all()}
    units = [line for line in lost.lines for _unit in range(line.quantity)]
    if any((unit.product_id, unit.slot_id) not in rows for unit in units):
        raise DoesNotFit("its reservation is for something else")
    OrderLine.objects.bulk_create(
        OrderLine(
            order=order,
            reservation_line=rows[unit.product_id, unit.slot_id],
            position=position,
            product_id=unit.product_id,
            slot_id=unit.slot_id or None,
            price_minor=unit.price_minor,
            discount_minor=unit.discount_minor,
        )
        for position, unit in enumerate(units, start=1)
    )
