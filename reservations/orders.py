"""What becomes of an order: confirmed with its tickets, or cancelled with its stock given back.

Locks, here and above: reservation, order, (payment,) tickets and the event's serial counter, and the quotas last.
"""

from collections import Counter
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from config.database import database_now, retried_on_conflict
from config.failpoints import failpoint
from config.state_machine import move
from reservations import holds
from reservations.models import Claim, Order, OrderLine, Reservation
from ticketing import emails, issuing, quotas
from ticketing.models import OutgoingEmail, Ticket


def lock(order_id: int) -> Order:
    """The order, with its reservation and itself locked in that order. Only inside a transaction."""
    reservation_id = Order.objects.values_list("reservation_id", flat=True).get(pk=order_id)
    Reservation.objects.select_for_update(of=("self",)).get(pk=reservation_id)
    return (
        Order.objects.select_for_update(of=("self",)).select_related("reservation", "event__organiser").get(pk=order_id)
    )


def confirm(order: Order, *, by: str, why: str) -> None:
    """The order is paid (or free): reservation CONFIRMED, tickets issued, e-mail queued, held becomes sold.

    All in the caller's transaction, on an order that `lock` returned; the quotas come last.
    """
    now = database_now()
    move(order.reservation, Reservation.Status.CONFIRMED, by=by, why=why)
    move(order, Order.Status.PAID, by=by, why=why, paid_at=now)
    failpoint("in_settle_1")
    tickets = _issue(order, now=now)
    failpoint("in_settle_2")
    _queue_confirmation(order, tickets)
    order.lines.update(is_sold=True)
    failpoint("in_settle_3")
    claimed = Counter[int]()
    for quota_id, quantity in Claim.objects.filter(line__reservation=order.reservation).values_list(
        "quota_id", "quantity"
    ):
        claimed[quota_id] += quantity
    quotas.move_stock({quota: quotas.Move(held=-n, sold=n) for quota, n in claimed.items()})


def cancel(order: Order, *, to: str, by: str, why: str) -> None:
    """The order will not be paid: CANCELLED, and its reservation `to` EXPIRED or RELEASED, stock given back.

    In the caller's transaction, on an order that `lock` returned, and only once Stripe can no longer charge for it.
    """
    move(order, Order.Status.CANCELLED, by=by, why=why, cancelled_at=Now())
    if to == Reservation.Status.EXPIRED:
        _queue_expiry_notice(order)
    holds.end_ordered(order.reservation_id, to=to, by=by, why=why)


@retried_on_conflict
@transaction.atomic
def ensure_tickets(order_id: int) -> int:
    """Issues what a paid order lacks; how many tickets that were. Any number of times, at once, from anywhere."""
    order = lock(order_id)
    if order.status != Order.Status.PAID:
        return 0
    before = order.lines.filter(ticket__isnull=False).count()
    tickets = _issue(order, now=database_now())
    _queue_confirmation(order, tickets)
    return len(tickets) - before


def _issue(order: Order, *, now: datetime) -> list[Ticket]:
    lines = list(order.lines.select_related("product").order_by("position"))
    units = [
        issuing.Unit(
            issue_key=line.issue_key,
            product=line.product,
            slot_id=line.slot_id,
            holder_name=order.name,
            holder_email=order.email,
        )
        for line in lines
    ]
    tickets = issuing.issue(event_id=order.event_id, units=units, now=now)
    for line, ticket in zip(lines, tickets, strict=True):
        line.ticket = ticket
    OrderLine.objects.bulk_update(lines, ["ticket"])
    return tickets


def _queue_confirmation(order: Order, tickets: list[Ticket]) -> None:
    emails.queue(
        kind=OutgoingEmail.Kind.CONFIRMATION,
        to=order.email,
        reference=order.code,
        dedupe_key=f"confirmation:{order.code}",
        context={
            **_letterhead(order),
            "order": {
                "code": order.code,
                "name": order.name,
                "total": str(order.total),
                "url": settings.PUBLIC_URL + order.get_absolute_url(),
            },
            "tickets": [
                {
                    "number": ticket.number,
                    "product_name": ticket.product.name,
                    "slot_when": ticket.slot.when if ticket.slot else "",
                    "url": settings.PUBLIC_URL + ticket.get_absolute_url(),
                }
                for ticket in tickets
            ],
        },
    )


def _queue_expiry_notice(order: Order) -> None:
    emails.queue(
        kind=OutgoingEmail.Kind.ORDER_EXPIRED,
        to=order.email,
        reference=order.code,
        dedupe_key=f"order_expired:{order.code}",
        context={
            **_letterhead(order),
            "order": {"code": order.code, "name": order.name, "total": str(order.total)},
            "event_url": settings.PUBLIC_URL + order.event.get_absolute_url(),
        },
    )


def _letterhead(order: Order) -> dict[str, Any]:
    event = order.event
    return {
        "organiser_name": event.organiser.name,
        "reply_to": event.organiser.email,
        "event": {
            "name": event.name,
            "when": event.when,
            "venue_name": event.venue_name,
            "venue_address": event.venue_address,
        },
    }
