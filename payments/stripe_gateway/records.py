"""What Stripe says, as records of our own: amounts in minor units, currencies in capitals, statuses in our words.

A status that Stripe invents later is "" here, and changes nothing anywhere.
"""

from dataclasses import dataclass, field
from typing import Any

from payments.models import Payment, Refund

_Status = Payment.Status

# docs.stripe.com/payments/paymentintents/lifecycle
_OF_INTENT = {
    "requires_payment_method": _Status.OPEN,
    "requires_confirmation": _Status.OPEN,
    "requires_action": _Status.OPEN,
    "processing": _Status.PROCESSING,
    "succeeded": _Status.SUCCEEDED,
    "canceled": _Status.CANCELLED,
}
# docs.stripe.com/api/refunds/object#refund_object-status
_OF_REFUND = {
    "pending": Refund.Status.SUBMITTED,
    "requires_action": Refund.Status.SUBMITTED,
    "succeeded": Refund.Status.SUCCEEDED,
    "failed": Refund.Status.FAILED,
    "canceled": Refund.Status.FAILED,
}


@dataclass(frozen=True, slots=True)
class Facts:
    """How a payment stands at Stripe at this moment, be it a PaymentIntent or a Checkout Session."""

    status: str  # of Payment.Status, or "" when unknown
    stripe_status: str  # in Stripe's own words
    amount_minor: int
    amount_received_minor: int
    currency: str
    is_livemode: bool
    intent_id: str | None
    session_id: str | None = None
    client_secret: str = field(default="", repr=False)  # lets its holder pay; never stored, never logged
    redirect_url: str = field(default="", repr=False)
    metadata: dict[str, str] = field(default_factory=dict)
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class RefundFacts:
    """How a refund stands at Stripe at this moment."""

    id: str
    status: str  # of Refund.Status, or "" when unknown
    stripe_status: str
    amount_minor: int
    currency: str
    intent_id: str | None
    metadata: dict[str, str]
    error: str


@dataclass(frozen=True, slots=True)
class Buyer:
    """What the buyer told Stripe when paying; empty where nothing was asked."""

    email: str
    name: str


def plain(answer: Any) -> dict[str, Any]:
    """A StripeObject is no dict."""
    return answer.to_dict() if hasattr(answer, "to_dict") else dict(answer or {})


def of_intent(answer: Any) -> Facts:
    found = plain(answer)
    return Facts(
        status=_OF_INTENT.get(found["status"], ""),
        stripe_status=str(found["status"]),
        amount_minor=int(found["amount"]),
        amount_received_minor=int(found.get("amount_received") or 0),
        currency=found["currency"].upper(),
        is_livemode=bool(found["livemode"]),
        intent_id=found["id"],
        client_secret=found.get("client_secret") or "",
        metadata=dict(found.get("metadata") or {}),
        last_error=_error_of(found),
    )


def of_session(answer: Any) -> Facts:
    """A Checkout Session whose PaymentIntent, if there is one yet, was expanded."""
    found = plain(answer)
    told = found.get("payment_intent")
    intent: dict[str, Any] = plain(told) if told and not isinstance(told, str) else {}
    status = _session_status(found, intent)
    received = int(intent.get("amount_received") or 0)
    return Facts(
        status=status,
        stripe_status=f"{found['status']}/{found['payment_status']}",
        amount_minor=int(found["amount_total"]),
        amount_received_minor=received or (int(found["amount_total"]) if status == _Status.SUCCEEDED else 0),
        currency=found["currency"].upper(),
        is_livemode=bool(found["livemode"]),
        intent_id=intent.get("id") or (told if isinstance(told, str) else None),
        session_id=found["id"],
        redirect_url=found.get("url") or "",
        metadata=dict(found.get("metadata") or {}),
        last_error=_error_of(intent),
    )


def _session_status(found: dict[str, Any], intent: dict[str, Any]) -> str:
    """docs.stripe.com/api/checkout/sessions/object#checkout_session_object-payment_status"""
    match found["status"], found["payment_status"]:
        case "open", _:
            return _Status.OPEN
        case "expired", _:
            return _Status.CANCELLED
        case "complete", ("paid" | "no_payment_required"):
            return _Status.SUCCEEDED
        case "complete", "unpaid":  # the bank decides, or has said no; a complete session cannot be paid again
            has_failed = intent.get("status") in {"requires_payment_method", "canceled"}
            return _Status.FAILED if has_failed else _Status.PROCESSING
    return ""


def of_refund(answer: Any) -> RefundFacts:
    found = plain(answer)
    told = found.get("payment_intent")
    return RefundFacts(
        id=found["id"],
        status=_OF_REFUND.get(found.get("status") or "", ""),
        stripe_status=str(found.get("status")),
        amount_minor=int(found["amount"]),
        currency=found["currency"].upper(),
        intent_id=told if isinstance(told, str) or told is None else plain(told)["id"],
        metadata=dict(found.get("metadata") or {}),
        error=str(found.get("failure_reason") or ""),
    )


def buyer_of(answer: Any) -> Buyer:
    """Of a PaymentIntent whose latest charge was expanded."""
    found = plain(answer)
    charge = plain(found.get("latest_charge") or {}) if not isinstance(found.get("latest_charge"), str) else {}
    details = charge.get("billing_details") or {}
    email = details.get("email") or found.get("receipt_email") or ""
    return Buyer(email=str(email), name=str(details.get("name") or ""))


def _error_of(intent: dict[str, Any]) -> str:
    error = intent.get("last_payment_error") or {}
    return str(error.get("message") or "")
