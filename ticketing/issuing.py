"""Tickets come into being here, and only here."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction

from ticketing import qr_codes
from ticketing.models import Product, SerialCounter, Ticket


@dataclass(frozen=True, slots=True)
class Unit:
    """One ticket that somebody is owed. `issue_key` names what it is owed for, once and for all."""

    issue_key: str
    product: Product
    slot_id: int | None
    holder_name: str
    holder_email: str


@transaction.atomic
def issue(*, event_id: int, units: Sequence[Unit], now: datetime) -> list[Ticket]:
    """Issues what is missing of `units` and returns all their tickets, in the order of `units`.

    The event's serial counter is locked first, so callers at the same moment take turns: the second finds the first
    one's tickets by issue key and adds nothing, and serials have no gaps, since counter and tickets commit together.
    """
    counter = _locked_counter(event_id)
    found = {ticket.issue_key: ticket for ticket in Ticket.objects.filter(issue_key__in=[u.issue_key for u in units])}
    missing = [unit for unit in units if unit.issue_key not in found]
    if missing:
        made = Ticket.objects.bulk_create(
            _ticket(unit, event_id=event_id, serial=counter.last_serial + position, now=now)
            for position, unit in enumerate(missing, start=1)
        )
        counter.last_serial += len(made)
        counter.save(update_fields=["last_serial"])
        found.update((ticket.issue_key, ticket) for ticket in made)
    return [found[unit.issue_key] for unit in units]


def _locked_counter(event_id: int) -> SerialCounter:
    SerialCounter.objects.get_or_create(event_id=event_id)
    counter = SerialCounter.objects.select_for_update(of=("self",)).select_related("event").get(event_id=event_id)
    if not counter.event.keys.exists():
        qr_codes.make_key(counter.event)
    return counter


def _ticket(unit: Unit, *, event_id: int, serial: int, now: datetime) -> Ticket:
    product = unit.product
    days = product.valid_days if product.kind == Product.Kind.PASS else None
    return Ticket(
        issue_key=unit.issue_key,
        event_id=event_id,
        product=product,
        slot_id=unit.slot_id,
        serial=serial,
        holder_name=unit.holder_name,
        holder_email=unit.holder_email,
        entries_total=product.entries if product.kind == Product.Kind.PASS else 1,
        valid_from=now if days else None,
        valid_until=now + timedelta(days=days) if days else None,
    )
