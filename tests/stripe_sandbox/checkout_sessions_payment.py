"""Checkout Sessions, the buyer's side: one PaymentIntent for however many cards it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import intents, payment_methods
from .call import BACKGROUND, Call
from .checkout_sessions import check_email, details_of, expire_due
from .checkout_sessions_outcome import SESSION_OF_INTENT, SESSIONS, complete, customer_details
from .confirmation import confirm
from .errors import invalid_request

if TYPE_CHECKING:
    from .sandbox import Sandbox

Record = dict[str, Any]
ADDRESS_WANTED = ("line1", "postal_code", "city", "country")
HANDED_ON = ("description", "receipt_email", "statement_descriptor_suffix", "capture_method")


def pay(sandbox: Sandbox, session: Record, method_id: str) -> Record:
    """Returns the intent. A declined card raises, and leaves the session open for another."""
    must_be_open(sandbox, session)
    payment_methods.retrieve(sandbox, method_id, in_path=False)
    call = Call(request_id=None, is_publishable=True, params={"payment_method": method_id, "use_stripe_sdk": True})
    return confirm(sandbox, _intent(sandbox, session), call)


def complete_without_payment(sandbox: Sandbox, session: Record, billing: Record) -> Record:
    must_be_open(sandbox, session)
    email = billing.get("email") or (session["customer_details"] or {}).get("email")
    details = customer_details(email, name=billing.get("name"), address=billing.get("address"))
    return complete(sandbox, session, details, BACKGROUND, intent=None)


def check_billing(session: Record, billing: Record) -> None:
    """What Stripe's page asks of a buyer, said again here: a page can be bypassed."""
    wanted = {"email": "Your email address is incomplete.", "name": "Your name is incomplete."}
    for name, message in wanted.items():
        if not billing.get(name):
            raise invalid_request(message, code="parameter_missing", param=name)
    check_email(billing["email"], "email")
    if session["billing_address_collection"] == "required":
        address = billing.get("address") or {}
        for part in ADDRESS_WANTED:
            if not address.get(part):
                message = "Your billing address is incomplete."
                raise invalid_request(message, code="parameter_missing", param=part)


def must_be_open(sandbox: Sandbox, session: Record) -> None:
    expire_due(sandbox)
    if session["status"] == "expired":
        raise invalid_request("This session has expired. You were not charged.")
    if session["status"] == "complete":
        raise invalid_request("This session is already complete. You were not charged again.")


def success_address(session: Record) -> str:
    return str(session["success_url"]).replace("{CHECKOUT_SESSION_ID}", session["id"])


def _intent(sandbox: Sandbox, session: Record) -> Record:
    """Made when the buyer first confirms, and kept for the next try."""
    if session["payment_intent"]:
        return intents.retrieve(sandbox, session["payment_intent"])
    given = details_of(sandbox.state, session)["intent"]
    params: Record = {name: given[name] for name in HANDED_ON if name in given} | {
        "amount": session["amount_total"],
        "currency": session["currency"],
        "metadata": given.get("metadata", {}),
        "payment_method_types": session["payment_method_types"],
    }
    if session["customer"]:
        params["customer"] = session["customer"]
    intent = intents.create(sandbox, Call(request_id=None, params=params))
    sandbox.state.save(SESSION_OF_INTENT, {"id": intent["id"], "session": session["id"]})
    session["payment_intent"] = intent["id"]
    sandbox.state.save(SESSIONS, session)
    return intent
