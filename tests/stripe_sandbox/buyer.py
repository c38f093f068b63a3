"""A buyer without a browser, and a hand that reaches into the account: both for tests only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import cards, payment_methods
from .call import Call
from .confirmation import confirm, finish_authentication, pending_authentication
from .errors import StripeError

if TYPE_CHECKING:
    from .sandbox import Sandbox

Record = dict[str, Any]


def pay(sandbox: Sandbox, intent: Record, card: str, complete: bool | None) -> Record:
    """What the page does when the buyer presses Pay. `card` is a test token or a test card number.

    `complete` answers a 3-D Secure page: True passes, False fails, None leaves it open. A decline is an
    outcome here, not an error: read the intent that comes back.
    """
    call = Call(request_id=None, is_publishable=True, params={"use_stripe_sdk": True})
    call.params["payment_method"] = _method_id(sandbox, card)
    try:
        confirm(sandbox, intent, call)
    except StripeError as error:
        if error.status != 402:
            raise
    authentication = pending_authentication(sandbox, intent["id"])
    if authentication and complete is not None:
        finish_authentication(sandbox, authentication["id"], succeeded=complete)
    return intent


def tamper(sandbox: Sandbox, intent: Record, changes: Record) -> Record:
    """Make Stripe's record say something else, e.g. another amount than was asked for. No event is sent."""
    allowed = {"amount", "currency", "metadata", "amount_received", "livemode"}
    if not changes.keys() <= allowed:
        raise ValueError(f"only {', '.join(sorted(allowed))} can be modified")
    intent.update(changes)
    charge = sandbox.state.get("charge", intent["latest_charge"] or "")
    if charge:
        charge.update({name: changes[name] for name in ("amount", "currency") if name in changes})
        if charge["status"] == "succeeded" and "amount" in changes:
            charge["amount_captured"] = changes["amount"]
            intent["amount_received"] = changes.get("amount_received", changes["amount"])
        sandbox.state.save("charge", charge)
    return sandbox.state.save("payment_intent", intent)


def _method_id(sandbox: Sandbox, card: str) -> str:
    number = card.replace(" ", "")
    if not number.isdigit():
        return card
    typed = {
        "number": number,
        "exp_month": 12,
        "exp_year": 2000 + (sandbox.clock.now() // 31_556_952 + 1970 + 2) % 100,
        "cvc": "1234" if cards.brand_of(number) == "amex" else "123",
    }
    call = Call(request_id=None, is_publishable=True, params={"type": "card", "card": typed})
    return str(payment_methods.create(sandbox, call)["id"])
