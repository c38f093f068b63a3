"""Events that a webhook endpoint may ask for. Not all of them are ever sent from here; a test proves each name."""

from __future__ import annotations

EVENT_TYPES = (
    "balance.available",
    *(f"charge.{name}" for name in ("captured", "expired", "failed", "pending", "refunded", "succeeded", "updated")),
    *(
        f"charge.dispute.{name}"
        for name in ("closed", "created", "funds_reinstated", "funds_withdrawn", "updated")
    ),
    "charge.refund.updated",
    *(
        f"checkout.session.{name}"
        for name in ("async_payment_failed", "async_payment_succeeded", "completed", "expired")
    ),
    *(f"customer.{name}" for name in ("created", "deleted", "updated")),
    *(
        f"payment_intent.{name}"
        for name in (
            "amount_capturable_updated", "canceled", "created", "partially_funded", "payment_failed", "processing",
            "requires_action", "succeeded",
        )
    ),
    *(f"payout.{name}" for name in ("canceled", "created", "failed", "paid", "reconciliation_completed", "updated")),
    "radar.early_fraud_warning.created",
    "radar.early_fraud_warning.updated",
    *(f"refund.{name}" for name in ("created", "failed", "updated")),
    "review.closed",
    "review.opened",
)  # fmt: skip
