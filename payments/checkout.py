"""Checkout: from a hold to something the buyer can pay.

1. One commit: the order with its lines frozen, and the payment NEW with its idempotency key and the exact parameters.
2. Outside any transaction: Stripe.
3. One commit: the payment OPEN with Stripe's id.

A crash anywhere leaves a row that says what to do next; calling again does only what is missing. A free order is
confirmed in the first commit.
"""

import hashlib
import json
import uuid
from collections import Counter
from dataclasses import dataclass
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction

from config.database import database_now, retried_on_conflict
from config.failpoints import failpoint
from payments import opening, stripe_gateway
from payments.models import Payment
from payments.stripe_gateway import Intent
from reservations import orders, placement
from reservations.models import Order, Reservation

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Checkout:
    """`payment` is None for a free order, `intent` also once it is paid; `is_replayed`: the order had been placed before."""

    order: Order
    payment: Payment | None
    intent: Intent | None
    is_replayed: bool


class CheckoutEnded(Exception):
    """The hold's time is over, or the order was closed."""


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


def start(reservation_id: uuid.UUID, *, email: str, name: str) -> Checkout:
    """Places the order, or finds it, and makes it payable.

    Raises CheckoutEnded, PaymentUnavailable, PaymentRefused, placement.NoSuchReservation, holds.PromoCodeUsedUp.
    """
    order, payment, is_new = _write_down(reservation_id, email=email, name=name)
    if payment is None or order.status == Order.Status.PAID:
        return Checkout(order, payment, None, not is_new)
    failpoint("before_stripe")
    try:
        intent = opening.open_payment(payment)
    except (opening.PaymentClosed, opening.NeverMade):
        raise CheckoutEnded from None
    except (stripe_gateway.StripeUnavailable, stripe_gateway.StripeMisconfigured) as error:
        logger.warning("payment could not be opened", order=order.code, payment=payment.pk, error=str(error))
        raise PaymentUnavailable(order) from error
    except stripe_gateway.StripeRefused as error:
        logger.critical("payment refused by stripe", order=order.code, payment=payment.pk, error=str(error))
        raise PaymentRefused(order, error.code) from error
    return Checkout(order, payment, intent, not is_new)


@retried_on_conflict
@transaction.atomic
def _write_down(reservation_id: uuid.UUID, *, email: str, name: str) -> tuple[Order, Payment | None, bool]:
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
    return order, _payment_of(order), is_new


def _is_over(order: Order) -> bool:
    return Reservation.objects.filter(pk=order.reservation_id, expires_at__lte=database_now()).exists()


def _payment_of(order: Order) -> Payment:
    """The order's payment; a new attempt when the last one was cancelled or failed at Stripe without the order's end."""
    last = order.payments.order_by("-attempt").first()
    if last is None:
        return _new_payment(order, attempt=1)
    is_lost = last.status not in (*Payment.UNDECIDED, Payment.Status.SUCCEEDED)
    return _new_payment(order, attempt=last.attempt + 1) if is_lost and order.status != Order.Status.PAID else last


def _new_payment(order: Order, *, attempt: int) -> Payment:
    params = _parameters(order, attempt)
    digest = hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()[:16]
    return Payment.objects.create(
        order=order,
        attempt=attempt,
        amount_minor=order.total_minor,
        currency=order.currency,
        request_params=params,
        idempotency_key=f"pi:{order.code}:{attempt}:{digest}",
    )


def _parameters(order: Order, attempt: int) -> dict[str, Any]:
    """What is sent to Stripe. No personal data; the metadata carry the order's lines as product:slot:price x count."""
    units = Counter((line.product_id, line.slot_id or 0, line.price_minor) for line in order.lines.all())
    lines = ",".join(f"{product}:{slot}:{price}x{count}" for (product, slot, price), count in units.items())
    return {
        "amount": order.total_minor,
        "currency": order.currency.lower(),
        "automatic_payment_methods": {"enabled": True},
        "description": f"{order.event.name} ({order.code})"[:500],
        "metadata": {
            "env": settings.STRIPE_METADATA_ENV[:500],
            "order": order.code,
            "reservation": str(order.reservation_id),
            "event": str(order.event_id),
            "attempt": str(attempt),
            "lines": lines[:500],
        },
    }


def order_of(reservation_id: uuid.UUID) -> Order | None:
    """The order placed from this reservation, if any: decides which step the checkout page shows."""
    return Order.objects.select_related("event__organiser").filter(reservation_id=reservation_id).first()
