"""What staff paste into the search box: codes, addresses, names, serials, and Stripe's ids."""

from django.db.models import Q

from payments.models import Payment, WebhookEvent
from reservations.admin import uuid_in
from ticketing.admin.tickets import by_number
from ticketing.models import Ticket


def payments_matching(term: str) -> Q | None:
    """Payments by one of Stripe's ids (pi_…, cs_…, evt_…); None when it is no such id."""
    prefix = term.partition("_")[0]
    if prefix == "pi":
        return Q(stripe_payment_intent_id=term)
    if prefix == "cs":
        return Q(stripe_session_id=term)
    if prefix == "evt":
        objects = WebhookEvent.objects.filter(stripe_id=term).values_list("object_id", flat=True)
        return Q(stripe_payment_intent_id__in=objects) | Q(stripe_session_id__in=objects)
    return None


def orders_matching(term: str) -> Q:
    """Orders by the first reading of `term` that makes sense; indexed lookups, except for names."""
    if (of_payment := payments_matching(term)) is not None:
        return Q(pk__in=Payment.objects.filter(of_payment).values("order"))
    if reservation_id := uuid_in(term):
        return Q(reservation=reservation_id)
    if "@" in term:
        return Q(email__in={term, term.lower()})  # by its index; iexact would read the whole table
    readings = Q(code=term.upper()) | Q(name__icontains=term)
    if (of_ticket := by_number(term)) is not None:
        readings |= Q(pk__in=Ticket.objects.filter(of_ticket).values("order_line__order"))
    return readings
