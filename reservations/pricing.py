"""From the prices frozen on a reservation to the price of each unit, and to what a buyer is shown."""

from collections.abc import Sequence
from dataclasses import dataclass

from config.money import Money
from reservations.models import Order, OrderLine, ReservationLine


@dataclass(frozen=True, slots=True)
class Price:
    """What all lines cost together before their discount, the discount, and the promo code it comes from."""

    gross: Money
    discount: Money
    promo_code: str


def price_of_order(order: Order, lines: Sequence[OrderLine]) -> Price:
    gross = sum((line.price for line in lines), Money(0, order.currency))
    discount = sum((line.discount for line in lines), Money(0, order.currency))
    code = order.reservation.promo_code
    return Price(gross, discount, code.code if code else "")


@dataclass(frozen=True, slots=True)
class UnitPrice:
    """Minor units; the discounts of a line's units add up to the line's discount exactly."""

    price_minor: int
    discount_minor: int


def unit_prices(line: ReservationLine) -> list[UnitPrice]:
    """The line's price, unit by unit; a discount that does not divide evenly goes to the first units, a minor unit each."""
    share, remainder = divmod(line.discount_minor, line.quantity)
    return [
        UnitPrice(line.unit_price_minor, share + (1 if position < remainder else 0))
        for position in range(line.quantity)
    ]
