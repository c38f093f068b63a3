"""An order as its buyer may know it: how far it is, what to do next, and the tickets it holds. Reads only."""

import secrets
from dataclasses import dataclass
from typing import Any

from django.db.models import Count
from django.utils.translation import gettext as _

from payments.models import Payment, WebhookEvent
from reservations.models import Order

POLL_MS = 2_000


class NoSuchOrder(Exception):
    """Unknown code or wrong secret: the two are not told apart."""


@dataclass(frozen=True, slots=True)
class OrderStatus:
    """`payment` is None for a free order; `is_done`: tickets complete, or closed with nothing owed."""

    order: Order
    payment: Payment | None
    tickets: int
    is_done: bool
    should_sync: bool  # Stripe has told us something that we could not deal with yet: asking it now is worth while
    message: str

    def as_json(self) -> dict[str, Any]:
        """The shape of `GET …/status/`."""
        return {
            "order": self.order.status.lower(),
            "payment": self.payment.status.lower() if self.payment else "none",
            "tickets": self.tickets,
            "refund": "none",
            "done": self.is_done,
            "next_poll_ms": 0 if self.is_done else POLL_MS,
            "sync_now": self.should_sync,
            "message": self.message,
        }


def find(code: str, *, secret: str) -> Order:
    """The order, for whoever knows its secret. Raises NoSuchOrder."""
    order = Order.objects.select_related("event__organiser", "reservation").filter(code=code).first()
    if order is None or not secrets.compare_digest(order.secret.encode(), secret.encode()):
        raise NoSuchOrder
    return order


def status_of(order: Order) -> OrderStatus:
    """How far the order is, from our own books alone."""
    payment = order.payments.order_by("-attempt").first()
    counts = order.lines.aggregate(lines=Count("pk"), tickets=Count("ticket"))
    is_complete = order.status == Order.Status.PAID and counts["tickets"] == counts["lines"]
    is_closed = order.status == Order.Status.CANCELLED and not order.needs_review
    return OrderStatus(
        order=order,
        payment=payment,
        tickets=counts["tickets"],
        is_done=is_complete or is_closed,
        should_sync=payment is not None and payment.status in Payment.UNDECIDED and _has_stuck_event(payment),
        message=_message(order, payment, is_complete=is_complete),
    )


def _has_stuck_event(payment: Payment) -> bool:
    told = WebhookEvent.objects.filter(object_id=payment.stripe_payment_intent_id or "-")
    return (
        told.exclude(status__in=[WebhookEvent.Status.PROCESSED, WebhookEvent.Status.IGNORED])
        .exclude(last_error="")
        .exists()
    )


def _message(order: Order, payment: Payment | None, *, is_complete: bool) -> str:
    if order.needs_review:
        return _("We are checking your payment by hand and will write to you. Your reference is %(code)s.") % {
            "code": order.code
        }
    if is_complete:
        return _("Your tickets are here.")
    if order.status == Order.Status.PAID:
        return _("Paid. Your tickets are on their way.")
    if order.status == Order.Status.CANCELLED and payment is not None and payment.status == Payment.Status.SUCCEEDED:
        return _("This order was closed by our staff. Your reference is %(code)s.") % {"code": order.code}
    if order.status == Order.Status.CANCELLED:
        return _("This order was closed. You were not charged.")
    if payment is not None and payment.status == Payment.Status.PROCESSING:
        return _("Your bank is deciding. Your tickets stay yours until it answers.")
    return _("Waiting for your payment.")
