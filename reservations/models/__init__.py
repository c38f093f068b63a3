"""Who has claimed what, for how much, until when."""

from reservations.models.history import StatusChange
from reservations.models.orders import Order, OrderLine
from reservations.models.reservations import Claim, Reservation, ReservationKey, ReservationLine, UsedSignature

__all__ = [
    "Claim",
    "Order",
    "OrderLine",
    "Reservation",
    "ReservationKey",
    "ReservationLine",
    "StatusChange",
    "UsedSignature",
]
