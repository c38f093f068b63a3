"""An order as its buyer may know it: how far it is, what to do next, and the tickets it holds. Reads only."""

import secrets
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Count
from django.utils.translation import gettext as _

from config.money import Money
from payments.models import Payment, Refund, WebhookEvent
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
    refund: str  # none, partial, full
    is_done: bool
    should_sync: bool  # Stripe has told us something that we could not deal with yet: asking it now is worth while
    message: str
    is_owed: bool = False  # some of the money that goes back is not there yet
    is_undecided: bool = False  # a payment of it may still succeed
    refunds: list[Refund] = field(default_factory=list)  # as its buyer counts them: a failed one tried again is one

    def as_json(self) -> dict[str, Any]:
        """The shape of `GET …/status/`."""
        return {
            "order": self.order.status.lower(),
            "payment": self.payment.status.lower() if self.payment else "none",
            "tickets": self.tickets,
            "refund": self.refund,
            "done": self.is_done,
            "next_poll_ms": 0 if self.is_done else POLL_MS,
            "sync_now": self.should_sync,
            "message": self.message,
        }


@dataclass(frozen=True, slots=True)
class _Money:
    """What was received for the order and what of it went or goes back; minor units."""

    received: int
    going_back: int  # asked for, on its way, or done
    is_owed: bool  # some of that is not done yet
    last_refund: Refund | None
    refunds: list[Refund] = field(default_factory=list)

    def state(self, order: Order) -> str:
        """Of the order itself: that a second payment for it went back does not make a paid order a refunded one."""
        kept = self.received - self.going_back
        if not self.going_back or (order.status == Order.Status.PAID and kept >= order.total_minor):
            return "none"
        return "partial" if kept else "full"


def find(code: str, *, secret: str) -> Order:
    """The order, for whoever knows its secret. Raises NoSuchOrder."""
    order = Order.objects.select_related("event__organiser", "reservation").filter(code=code).first()
    if order is None or not secrets.compare_digest(order.secret.encode(), secret.encode()):
        raise NoSuchOrder
    return order


def status_of(order: Order) -> OrderStatus:
    """How far the order is, from our own books alone."""
    payments = list(order.payments.order_by("attempt"))
    payment = _telling(payments)
    money = _money(payments)
    counts = order.lines.aggregate(lines=Count("pk"), tickets=Count("ticket"))
    is_complete = order.status == Order.Status.PAID and counts["tickets"] == counts["lines"]
    all_went_back = money.received > 0 and money.going_back == money.received and not money.is_owed
    is_undecided = any(each.status in Payment.UNDECIDED for each in payments)
    is_closed = order.status == Order.Status.CANCELLED and not money.is_owed and not is_undecided
    return OrderStatus(
        order=order,
        payment=payment,
        tickets=counts["tickets"],
        refund=money.state(order),
        is_done=is_complete or (is_closed and (all_went_back or not order.needs_review)),
        should_sync=payment is not None and payment.status in Payment.UNDECIDED and _has_stuck_event(payment),
        message=_message(order, payment, money, is_complete=is_complete, is_undecided=is_undecided),
        is_owed=money.is_owed,
        is_undecided=is_undecided,
        refunds=money.refunds,
    )


def _telling(payments: list[Payment]) -> Payment | None:
    """The payment that says how the order stands: the one that was paid with, else the latest."""
    paid = [payment for payment in payments if payment.status == Payment.Status.SUCCEEDED]
    telling = paid or payments
    return telling[-1] if telling else None


def _money(payments: list[Payment]) -> _Money:
    received = sum(payment.amount_received_minor for payment in payments)
    if not received:
        return _Money(0, 0, is_owed=False, last_refund=None)
    refunds = list(Refund.objects.filter(payment__in=payments).order_by("id"))
    good = [refund for refund in refunds if refund.status != Refund.Status.FAILED]
    return _Money(
        received=received,
        going_back=sum(payment.refunded_minor for payment in payments),
        is_owed=any(refund.status in Refund.OWED for refund in good),
        last_refund=good[-1] if good else None,
        refunds=[refund for refund in refunds if refund in good or not _is_repeated(refund, refunds)],
    )


def _is_repeated(refund: Refund, refunds: list[Refund]) -> bool:
    """Whether a later row does what this one, which failed, was to do."""
    same = (refund.payment_id, refund.amount_minor)
    return any(other.pk > refund.pk and (other.payment_id, other.amount_minor) == same for other in refunds)


def _has_stuck_event(payment: Payment) -> bool:
    told = WebhookEvent.objects.filter(
        object_id__in=[payment.stripe_payment_intent_id or "-", payment.stripe_session_id or "-"]
    )
    return (
        told.exclude(status__in=[WebhookEvent.Status.PROCESSED, WebhookEvent.Status.IGNORED])
        .exclude(last_error="")
        .exists()
    )


def _message(order: Order, payment: Payment | None, money: _Money, *, is_complete: bool, is_undecided: bool) -> str:
    if order.status == Order.Status.CANCELLED and money.last_refund is not None:
        return _refund_message(money.last_refund)
    if is_complete:
        return _("Your tickets are here.")
    if order.needs_review:
        return _("We are checking your payment by hand and will write to you. Your reference is %(code)s.") % {
            "code": order.code
        }
    if order.status == Order.Status.PAID:
        return _("Paid. Your tickets are on their way.")
    if order.status == Order.Status.CANCELLED and payment is not None and payment.status == Payment.Status.SUCCEEDED:
        return _("This order was closed by our staff. Your reference is %(code)s.") % {"code": order.code}
    if order.status == Order.Status.CANCELLED and is_undecided:
        return _(
            "We have not heard yet whether your payment went through. If it did, you get your tickets while there are"
            " some left, and else all of your money back."
        )
    if order.status == Order.Status.CANCELLED:
        return _("This order was closed. You were not charged.")
    if payment is not None and payment.status == Payment.Status.PROCESSING:
        return _("Your bank is deciding. Your tickets stay yours until it answers.")
    return _("Waiting for your payment.")


def _refund_message(refund: Refund) -> str:
    """For an order that was closed though money had come for it."""
    amount = Money(refund.amount_minor, refund.currency)
    why = {
        Refund.Reason.LATE: _("Your payment came after the time to pay, and your tickets were gone by then."),
        Refund.Reason.MISMATCH: _("What was paid is not what the order costs, so no tickets were issued."),
    }.get(Refund.Reason(refund.reason), _("This order was closed."))
    if refund.status == Refund.Status.SUCCEEDED:
        return f"{why} {_('You have been refunded %(amount)s in full.') % {'amount': amount}}"
    return f"{why} {_('Your refund of %(amount)s is on its way.') % {'amount': amount}}"
