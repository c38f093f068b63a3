"""What is sent to Stripe to begin a payment, written down before it is sent.

No personal data in the metadata; they carry what is needed to rebuild an order that we lost (`payments.rebuilding`).
"""

import hashlib
import json
from collections import Counter
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.urls import reverse

from config.database import database_now
from payments.models import Payment
from reservations.models import Order, OrderLine, Reservation

# docs.stripe.com/payments/payment-methods#delayed-notification
SLOW = (
    "acss_debit",
    "au_becs_debit",
    "bacs_debit",
    "boleto",
    "customer_balance",
    "konbini",
    "multibanco",
    "nz_bank_account",
    "oxxo",
    "sepa_debit",
    "sofort",
    "us_bank_account",
)
VALUE = 500  # characters of one value of Stripe's metadata (docs.stripe.com/api/metadata)
# Stripe gives a session at least 30 minutes and at most a day; ours is ended by us when the hold ends. The hour on top
# lets the same parameters be sent again after an outage.
SESSION_LIVES_ON = timedelta(hours=1)
LONGEST_SESSION = timedelta(hours=23)


def new_payment(order: Order, *, attempt: int, mode: str) -> Payment:
    """The NEW payment with its key and parameters, in the caller's transaction."""
    params = _session(order, attempt) if mode == Payment.Mode.HOSTED else _intent(order, attempt)
    digest = hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()[:16]
    prefix = "cs" if mode == Payment.Mode.HOSTED else "pi"
    return Payment.objects.create(
        order=order,
        attempt=attempt,
        mode=mode,
        amount_minor=order.total_minor,
        currency=order.currency,
        request_params=params,
        idempotency_key=f"{prefix}:{order.code}:{attempt}:{digest}",
    )


def _intent(order: Order, attempt: int) -> dict[str, Any]:
    return {
        "amount": order.total_minor,
        "currency": order.currency.lower(),
        "automatic_payment_methods": {"enabled": True},
        **_without_slow_ones(order),
        "description": _description(order),
        "metadata": _metadata(order, attempt),
    }


def _session(order: Order, attempt: int) -> dict[str, Any]:
    """Amounts are ours alone: no promotion codes, adjustable quantities or automatic tax of Stripe's."""
    ends_at = Reservation.objects.values_list("expires_at", flat=True).get(pk=order.reservation_id)
    now = database_now()
    expires_at = min(max(ends_at, now) + SESSION_LIVES_ON, now + LONGEST_SESSION)
    metadata = _metadata(order, attempt)
    back = settings.PUBLIC_URL + reverse("payments:checkout", args=[order.reservation_id])
    return {
        "mode": "payment",
        "line_items": _line_items(order),
        "customer_email": order.email,
        "billing_address_collection": "required",
        **_without_slow_ones(order),
        "success_url": f"{settings.PUBLIC_URL}{order.get_absolute_url()}&redirect_status=returned",
        "cancel_url": f"{back}?back=1",
        "expires_at": int(expires_at.timestamp()),
        "metadata": metadata,
        "payment_intent_data": {"description": _description(order), "metadata": metadata},
        "expand": ["payment_intent"],
    }


def _without_slow_ones(order: Order) -> dict[str, Any]:
    """A seat that waits for a bank is nobody's for days: only where staff accept that, and while it ends before the start."""
    starts_at = min((line.slot.starts_at for line in order.lines.all() if line.slot), default=order.event.starts_at)
    is_in_time = database_now() + timedelta(days=settings.SLOW_PAYMENT_DAYS) <= starts_at
    if order.event.accepts_slow_payments and is_in_time:
        return {}
    return {"excluded_payment_method_types": list(SLOW)}


def _line_items(order: Order) -> list[dict[str, Any]]:
    units = Counter(
        (_title(line), line.price_minor - line.discount_minor)
        for line in order.lines.select_related("product", "slot__event")
    )
    return [
        {
            "quantity": count,
            "price_data": {
                "currency": order.currency.lower(),
                "unit_amount": price_minor,
                "product_data": {"name": title[:250]},
            },
        }
        for (title, price_minor), count in units.items()
    ]


def _title(line: OrderLine) -> str:
    return " · ".join(part for part in (line.product_name, line.slot_when) if part)


def _description(order: Order) -> str:
    return f"{order.event.name} ({order.code})"[:500]


def _metadata(order: Order, attempt: int) -> dict[str, str]:
    return {
        "env": settings.STRIPE_METADATA_ENV[:VALUE],
        "order": order.code,
        "reservation": str(order.reservation_id),
        "event": str(order.event_id),
        "attempt": str(attempt),
        **_snapshot(order),
    }


def _snapshot(order: Order) -> dict[str, str]:
    """The lines as product:slot:price:discount x count, over as many values as they need: lines, lines_2, lines_3…"""
    units = Counter(
        (line.product_id, line.slot_id or 0, line.price_minor, line.discount_minor) for line in order.lines.all()
    )
    values = [""]
    for unit, count in units.items():
        text = ":".join(map(str, unit)) + f"x{count}"
        if len(values[-1]) + 1 + len(text) > VALUE:
            values.append("")
        values[-1] += f",{text}" if values[-1] else text
    return {f"lines_{n}" if n > 1 else "lines": value for n, value in enumerate(values, start=1)}
