"""What becomes of an order: confirmed with its tickets, or cancelled with its stock given back.

Locks, here and above: reservation, order, (payment,) tickets and the event's serial counter, and the quotas last.
"""

from collections import Counter
from datetime import datetime
from typing import Any

import psycopg
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Now

from config.database import database_now, retried_on_conflict
from config.failpoints import failpoint
from config.money import Money
from config.state_machine import MoveRefused, move
from reservations import holds
from reservations.models import Claim, Order, OrderLine, PromoCode, Reservation
from ticketing import emails, issuing, quotas
from ticketing.models import Event, OutgoingEmail, Ticket


def lock(order_id: int) -> Order:
    """The order, with its reservation and itself locked in that order. Only inside a transaction."""
    reservation_id = Order.objects.values_list("reservation_id", flat=True).get(pk=order_id)
    Reservation.objects.select_for_update(of=("self",)).get(pk=reservation_id)
    return (
        Order.objects.select_for_update(of=("self",)).select_related("reservation", "event__organiser").get(pk=order_id)
    )


def confirm(order: Order, *, by: str, why: str) -> None:
    """The order is paid (or free): reservation CONFIRMED, tickets issued, e-mail queued, held becomes sold.

    All in the caller's transaction, on an order that `lock` returned; the quotas come last. A closed order's stock is no
    longer held: MoveRefused (see `revive`).
    """
    if order.status != Order.Status.AWAITING_PAYMENT:
        raise MoveRefused(f"order {order.code} is {order.status}, not awaiting payment")
    _confirm(order, by=by, why=why, is_late=False)


def _confirm(order: Order, *, by: str, why: str, is_late: bool) -> None:
    """`is_late`: the stock had been given back, so it is sold without having been held."""
    now = database_now()
    move(order.reservation, Reservation.Status.CONFIRMED, by=by, why=why, ended_at=None)
    move(order, Order.Status.PAID, by=by, why=why, paid_at=now, cancelled_at=None)
    failpoint("in_settle_1")
    tickets = _issue(order, now=now)
    failpoint("in_settle_2")
    _queue_confirmation(order, tickets, is_late=is_late)
    order.lines.update(is_sold=True)
    failpoint("in_settle_3")
    claimed = Counter[int]()
    for quota_id, quantity in Claim.objects.filter(line__reservation=order.reservation).values_list(
        "quota_id", "quantity"
    ):
        claimed[quota_id] += quantity
    quotas.move_stock({quota: quotas.Move(held=0 if is_late else -n, sold=n) for quota, n in claimed.items()})


class NoRoom(Exception):
    """The order cannot be had any more: its stock is taken, or it is not on sale now. The message says which."""


def revive(order: Order, *, by: str, why: str) -> None:
    """A CANCELLED order was paid late: all of it is sold after all, as `confirm` would have done.

    In a transaction of its own within the caller's, on an order that `lock` returned; raises NoRoom, and then that inner
    transaction must be rolled back. Whether there is room is decided by the counters' own constraints, so the quotas can
    come last here too.
    """
    if order.status != Order.Status.CANCELLED:
        raise MoveRefused(f"order {order.code} is {order.status}, not cancelled")
    if reason := _why_not_sold_now(order):
        raise NoRoom(reason)
    try:
        _take_code_again(order)
        _confirm(order, by=by, why=why, is_late=True)
    except IntegrityError as error:
        if _constraint_of(error) in _WITHOUT_ROOM:
            raise NoRoom(_WITHOUT_ROOM[_constraint_of(error)]) from error
        raise


_WITHOUT_ROOM = {
    "quota_is_never_oversold": "its places were sold meanwhile",
    "promo_code_is_never_overused": "its promo code was used up meanwhile",
}


def _constraint_of(error: IntegrityError) -> str:
    cause = error.__cause__
    return (cause.diag.constraint_name or "") if isinstance(cause, psycopg.Error) else ""


def _why_not_sold_now(order: Order) -> str:
    """In words, why nobody could buy this now though there may be room; empty when it is on sale."""
    event = order.event
    if event.status != Event.Status.PUBLISHED:
        return f"the event is {event.get_status_display()}"
    now = database_now()
    for line in order.lines.select_related("product", "slot"):
        ends_at = line.slot.ends_at if line.slot else event.ends_at
        if line.product.is_stopped or now >= min(line.product.sale_ends_at or ends_at, ends_at):
            return f"{line.product.name} is no longer on sale"
    return ""


def _take_code_again(order: Order) -> None:
    if order.reservation.promo_code_id:
        PromoCode.objects.filter(pk=order.reservation.promo_code_id).update(uses=F("uses") + 1)


def cancel(order: Order, *, to: str, by: str, why: str, is_told: bool = True) -> None:
    """The order will not be paid: CANCELLED, and its reservation `to` EXPIRED or RELEASED, stock given back.

    In the caller's transaction, on an order that `lock` returned, and only once Stripe can no longer charge for it.
    `is_told`: a buyer whose time is over gets a letter.
    """
    move(order, Order.Status.CANCELLED, by=by, why=why, cancelled_at=Now())
    if to == Reservation.Status.EXPIRED and is_told:
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


def _queue_confirmation(order: Order, tickets: list[Ticket], *, is_late: bool = False) -> None:
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
            "is_late": is_late,
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


def queue_refund_notice(order: Order, *, amount: Money, why: str, dedupe_key: str) -> None:
    """`why`: late, surplus or mismatch; the letter's words depend on it."""
    emails.queue(
        kind=OutgoingEmail.Kind.REFUND,
        to=order.email,
        reference=order.code,
        dedupe_key=dedupe_key,
        context={
            **_letterhead(order),
            "order": {
                "code": order.code,
                "name": order.name,
                "total": str(order.total),
                "url": settings.PUBLIC_URL + order.get_absolute_url(),
            },
            "amount": str(amount),
            "why": why,
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
