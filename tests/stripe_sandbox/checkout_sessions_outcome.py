"""What a payment's outcome means for the Checkout Session that it belongs to.

Apart from checkout_sessions.py, because confirmation.py calls it and must not be called back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .call import Call
from .errors import StripeError, invalid_request

if TYPE_CHECKING:
    from .sandbox import Sandbox

Record = dict[str, Any]
SESSIONS = "checkout.session"
OPEN_SESSIONS = "_open_session"
"""Only ids, so that looking for what has expired costs nothing as the years go by."""
SESSION_OF_INTENT = "_session_of_intent"


def session_of(sandbox: Sandbox, intent_id: str) -> Record | None:
    link = sandbox.state.get(SESSION_OF_INTENT, intent_id)
    return sandbox.state.get(SESSIONS, link["session"]) if link else None


def follow(sandbox: Sandbox, intent: Record, call: Call) -> None:
    """Called whenever a payment succeeded, began to process, or failed."""
    session = session_of(sandbox, intent["id"])
    if not session:
        return
    if session["status"] == "open":
        # A declined card leaves the session open for another one.
        if intent["status"] in ("succeeded", "processing"):
            complete(sandbox, session, _details(sandbox, session, intent), call, intent=intent)
    elif session["payment_status"] == "unpaid" and intent["status"] == "succeeded":
        session["payment_status"] = "paid"
        _say(sandbox, "checkout.session.async_payment_succeeded", session, call)
    elif session["payment_status"] == "unpaid" and intent["status"] == "requires_payment_method":
        _say(sandbox, "checkout.session.async_payment_failed", session, call)


def complete(sandbox: Sandbox, session: Record, details: Record, call: Call, *, intent: Record | None) -> Record:
    """`intent` is None where nothing had to be paid."""
    if intent:
        session["payment_status"] = "paid" if intent["status"] == "succeeded" else "unpaid"
    session.update(status="complete", url=None, customer_details=details)
    sandbox.state.delete(OPEN_SESSIONS, session["id"])
    return _say(sandbox, "checkout.session.completed", session, call)


def close_expired(sandbox: Sandbox, session: Record, call: Call) -> Record:
    session.update(status="expired", url=None)
    sandbox.state.delete(OPEN_SESSIONS, session["id"])
    return _say(sandbox, "checkout.session.expired", session, call)


def must_be_bare(sandbox: Sandbox, intent: Record) -> None:
    """Stripe lets nobody but Checkout itself steer a payment that Checkout began."""
    if sandbox.state.get(SESSION_OF_INTENT, intent["id"]):
        raise refusal(intent)


def refusal(intent: Record) -> StripeError:
    return invalid_request(
        "You cannot perform this action on PaymentIntents created by Checkout. To cancel the payment, expire the "
        "Checkout Session instead.",
        payment_intent=dict(intent),
    )


def customer_details(email: str | None, *, name: str | None = None, address: Record | None = None) -> Record:
    return {
        "address": address,
        "business_name": None,
        "email": email,
        "individual_name": None,
        "name": name,
        "phone": None,
        "tax_exempt": "none",
        "tax_ids": None,
    }


def _details(sandbox: Sandbox, session: Record, intent: Record) -> Record:
    method = sandbox.state.get("payment_method", intent["payment_method"] or "") or {}
    billing = method.get("billing_details") or {}
    known = session["customer_details"] or {}
    address = billing.get("address") or {}
    return customer_details(
        billing.get("email") or known.get("email"),
        name=billing.get("name"),
        address=dict(address) if any(address.values()) else None,
    )


def _say(sandbox: Sandbox, event_type: str, session: Record, call: Call) -> Record:
    sandbox.state.save(SESSIONS, session)
    sandbox.events.emit(event_type, session, call)
    return session
