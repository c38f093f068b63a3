"""A buyer without a browser, and a hand that reaches into the account: both for tests only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import balance_transactions, cards, charges, payment_methods
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
    call.params["payment_method"] = method_id(sandbox, card)
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
    """Make Stripe's record say something else, e.g. another amount than was asked for. No event is sent.

    With `status="succeeded"` the money is really there, whatever the intent was before.
    """
    allowed = {"amount", "currency", "metadata", "amount_received", "livemode", "status"}
    if not changes.keys() <= allowed:
        raise ValueError(f"only {', '.join(sorted(allowed))} can be modified")
    if changes.get("status") not in (None, "succeeded"):
        raise ValueError("a status can only be made succeeded")
    intent.update(changes)
    if "status" in changes:
        _take_money(sandbox, intent, changes)
    charge = sandbox.state.get("charge", intent["latest_charge"] or "")
    if charge:
        charge.update({name: changes[name] for name in ("amount", "currency") if name in changes})
        if charge["status"] == "succeeded" and "amount" in changes:
            charge["amount_captured"] = changes["amount"]
            intent["amount_received"] = changes.get("amount_received", changes["amount"])
        if charge["status"] == "succeeded":
            balance_transactions.change_amount(
                sandbox, charge["balance_transaction"], charge["amount_captured"], charge["currency"]
            )
        sandbox.state.save("charge", charge)
    return sandbox.state.save("payment_intent", intent)


def _take_money(sandbox: Sandbox, intent: Record, changes: Record) -> None:
    charge = sandbox.state.get("charge", intent["latest_charge"] or "")
    if not charge or charge["status"] != "succeeded":
        method = payment_methods.retrieve(sandbox, "pm_card_visa")
        charge = charges.attempt(sandbox, intent, method, decline=None, authenticated=False)
    intent.update(
        latest_charge=charge["id"],
        payment_method=charge["payment_method"],
        amount_received=changes.get("amount_received", charge["amount_captured"]),
    )


def method_id(sandbox: Sandbox, card: str, billing: Record | None = None) -> str:
    """`card`: a test token, or a number as it would be typed (then with `billing` details)."""
    number = card.replace(" ", "")
    if not number.isdigit():
        method = payment_methods.retrieve(sandbox, card, in_path=False)
        if card != method["id"] and billing:
            payment_methods.bill_to(sandbox, method, billing)
        return str(method["id"])
    typed = {
        "number": number,
        "exp_month": 12,
        "exp_year": 2000 + (sandbox.clock.now() // 31_556_952 + 1970 + 2) % 100,
        "cvc": "1234" if cards.brand_of(number) == "amex" else "123",
    }
    call = Call(request_id=None, is_publishable=True, params={"type": "card", "card": typed})
    call.params["billing_details"] = billing
    return str(payment_methods.create(sandbox, call)["id"])
