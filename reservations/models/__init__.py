"""Who has claimed what, for how much, until when."""

from reservations.models.demand import Conflict, LimitHit, Tally
from reservations.models.history import StatusChange
from reservations.models.orders import Order, OrderLine
from reservations.models.promo_codes import PromoCode
from reservations.models.reservations import Claim, Reservation, ReservationKey, ReservationLine, UsedSignature
from reservations.models.sweeps import SweepRun

__all__ = [
    "Claim",
    "Conflict",
    "LimitHit",
    "Order",
    "OrderLine",
    "PromoCode",
    "Reservation",
    "ReservationKey",
    "ReservationLine",
    "StatusChange",
    "SweepRun",
    "Tally",
    "UsedSignature",
]
