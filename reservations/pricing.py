"""From the prices frozen on a reservation to the price of each unit."""

from dataclasses import dataclass

from reservations.models import ReservationLine


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
