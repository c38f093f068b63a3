"""Reservations, promo codes and what staff see of the demand. Orders are shown by payments.admin, which also knows how
they are paid.
"""

from reservations.admin import demand, promo_codes, records, reservations, sweeps
from reservations.admin.reservations import uuid_in

__all__ = ["demand", "promo_codes", "records", "reservations", "sweeps", "uuid_in"]
