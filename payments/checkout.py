"""Checkout: from a hold to something the buyer can pay, on our page or on Stripe's.

1. One commit: the order with its lines frozen, and the payment NEW with its idempotency key and the exact parameters.
2. Outside any transaction: Stripe.
3. One commit: the payment OPEN with Stripe's id.

A crash anywhere leaves a row that says what to do next; calling again does only what is missing. A free order is
confirmed in the first commit. Another mode ends the first payment at Stripe before it begins one of its own.
"""

import uuid
from dataclasses import dataclass

import structlog
from django.db import transaction
from django.db.models import F

from config import features
from config.database import database_now, retried_on_conflict
from config.failpoints import failpoint
from payments import expiry, opening, outage, stripe_gateway
from payments.models import Payment
from payments.parameters import new_payment
from payments.stripe_gateway import Facts
from reservations import holds, orders, placement
from reservations.models import Order, Reservation

logger = structlog.get_logger(__name__)

HOSTED_FLAG = "hosted-checkout"


@dataclass(frozen=True, slots=True)
class Checkout:
    """`payment` is None for a free order, `facts` also once it is paid; `is_replayed`: the order had been placed before."""

    order: Order
    payment: Payment | None
    facts: Facts | None
    is_replayed: bool


class CheckoutEnded(Exception):
    """The hold's time is over, or the order was closed."""


class ModeFixed(Exception):
    """The payment was begun in the other mode and cannot be ended now."""


class PaymentUnavailable(Exception):
    """Stripe cannot be reached. The order stands and keeps its stock; calling again makes only what is missing."""

    def __init__(self, order: Order) -> None:
        super().__init__("payment unavailable")
        self.order = order


class PaymentRefused(Exception):
    """Stripe will not take this payment at all (a price below its minimum, say). `code` is Stripe's."""

    def __init__(self, order: Order, code: str) -> None:
        super().__init__(code)
        self.order = order
        self.code = code


def start(reservation_id: uuid.UUID, *, email: str, name: str, mode: str | None = None) -> Checkout:
    """Places the order, or finds it, and makes it payable. `mode` None: the event's, or the one it was begun in.

    Raises CheckoutEnded, ModeFixed, PaymentUnavailable, PaymentRefused, placement.NoSuchReservation, holds.PromoCodeUsedUp.
    """
    order, payment, is_new = _write_down(reservation_id, email=email, name=name, mode=mode)
    if payment is not None and order.status == Order.Status.AWAITING_PAYMENT and _is_other(payment, mode, order):
        _end_first(payment, order)
        order, payment, _again = _write_down(reservation_id, email=email, name=name, mode=mode)
    if payment is None or order.status == Order.Status.PAID:
        return Checkout(order, payment, None, not is_new)
    if not is_new:
        Payment.objects.filter(pk=payment.pk).update(replays=F("replays") + 1)
    failpoint("before_stripe")
    return Checkout(order, payment, _opened(order, payment), not is_new)


def _opened(order: Order, payment: Payment) -> Facts:
    try:
        facts = opening.open_payment(payment)
    except (opening.PaymentClosed, opening.NeverMade):
        raise CheckoutEnded from None
    except (stripe_gateway.StripeUnavailable, stripe_gateway.StripeMisconfigured) as error:
        logger.warning("payment could not be opened", order=order.code, payment=payment.pk, error=str(error))
        outage.keep(order.reservation_id)
        raise PaymentUnavailable(order) from error
    except stripe_gateway.StripeRefused as error:
        logger.critical("payment refused by stripe", order=order.code, payment=payment.pk, error=str(error))
        raise PaymentRefused(order, error.code) from error
    failpoint("after_opened")
    return facts


def mode_of(order: Order, asked: str | None) -> str:
    """Hosted only while its flag lets it."""
    mode = asked or order.event.payment_mode
    if mode == Payment.Mode.HOSTED and features.is_on(HOSTED_FLAG, subject=str(order.reservation_id)):
        return Payment.Mode.HOSTED
    return Payment.Mode.ELEMENTS


def _is_other(payment: Payment, mode: str | None, order: Order) -> bool:
    return mode is not None and payment.status in Payment.UNDECIDED and payment.mode != mode_of(order, mode)


def _end_first(payment: Payment, order: Order) -> None:
    try:
        expiry.end_payment(payment, by="checkout", why="the buyer pays in the other mode")
    except expiry.AlreadyPaid:
        return  # and settled: the order is paid
    except expiry.CannotTell as error:
        logger.warning("mode cannot be changed", order=order.code, payment=payment.pk)
        raise ModeFixed from error


@retried_on_conflict
@transaction.atomic
def _write_down(
    reservation_id: uuid.UUID, *, email: str, name: str, mode: str | None
) -> tuple[Order, Payment | None, bool]:
    try:
        order, is_new = placement.place(reservation_id, email=email, name=name)
    except placement.HoldEnded:
        raise CheckoutEnded from None
    if order.status == Order.Status.CANCELLED or (order.status == Order.Status.AWAITING_PAYMENT and _is_over(order)):
        raise CheckoutEnded
    if order.total_minor == 0:
        if order.status == Order.Status.AWAITING_PAYMENT:
            orders.confirm(orders.lock(order.pk), by="checkout", why="nothing to pay")
            order.refresh_from_db()
        return order, None, is_new
    return order, _payment_of(order, mode), is_new


def _is_over(order: Order) -> bool:
    return Reservation.objects.filter(pk=order.reservation_id, expires_at__lte=database_now()).exists()


def _payment_of(order: Order, mode: str | None) -> Payment:
    """The order's payment; a new attempt when the last one was cancelled or failed at Stripe without the order's end."""
    last = order.payments.order_by("-attempt").first()
    if last is None:
        return _new_payment(order, attempt=1, mode=mode_of(order, mode))
    if order.status == Order.Status.PAID:
        return order.payments.filter(status=Payment.Status.SUCCEEDED).order_by("attempt").first() or last
    is_lost = last.status not in (*Payment.UNDECIDED, Payment.Status.SUCCEEDED)
    return _new_payment(order, attempt=last.attempt + 1, mode=mode_of(order, mode or last.mode)) if is_lost else last


def _new_payment(order: Order, *, attempt: int, mode: str) -> Payment:
    """On Stripe's page nobody sees our clock, so the time it runs to is not moved by the buyer."""
    holds.fix_time(order.reservation_id, is_fixed=mode == Payment.Mode.HOSTED)
    return new_payment(order, attempt=attempt, mode=mode)


def order_of(reservation_id: uuid.UUID) -> Order | None:
    """The order placed from this reservation, if any: decides which step the checkout page shows."""
    return Order.objects.select_related("event__organiser").filter(reservation_id=reservation_id).first()
