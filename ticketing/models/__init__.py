"""What is sold, who gets in, and the mail that tells them."""

from ticketing.models.catalogue import Event, Organiser, Product, Slot
from ticketing.models.emails import OutgoingEmail
from ticketing.models.history import StatusChange
from ticketing.models.stock import Quota
from ticketing.models.tickets import EventKey, SerialCounter, Ticket
from ticketing.models.users import User

__all__ = [
    "Event",
    "EventKey",
    "Organiser",
    "OutgoingEmail",
    "Product",
    "Quota",
    "SerialCounter",
    "Slot",
    "StatusChange",
    "Ticket",
    "User",
]
