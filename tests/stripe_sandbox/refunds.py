"""Refunds: money given back, at once, some days later, or in the end not at all.

Statuses and what leads where: docs.stripe.com/refunds. The charge counts a refund from its beginning, and no longer
once it failed or was canceled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import balance_transactions, charges, lists, money, payment_methods
from .call import BACKGROUND, Call
from .errors import StripeError, invalid_request, resource_missing
from .identifiers import new_id
from .metadata import merge

if TYPE_CHECKING:
    from .sandbox import Sandbox

Record = dict[str, Any]
JOBS = "_refund_job"
NEXT = {"pending": ("succeeded", "failed", "canceled"), "succeeded": ("failed", "canceled")}
"""Real cards are slow: a refund may fail days after it succeeded, and the Dashboard may still cancel it for a while."""
FAILURE_REASONS = (
    "charge_for_pending_refund_disputed", "declined", "expired_or_canceled_card", "insufficient_funds",
    "lost_or_stolen_card", "merchant_request", "unknown",
)  # fmt: skip


def create(sandbox: Sandbox, call: Call) -> Record:
    charge = _named_charge(sandbox, call.params)
    return begin(sandbox, charge, call, **{name: call.params.get(name) for name in ("amount", "reason", "metadata")})


def begin(
    sandbox: Sandbox,
    charge: Record,
    call: Call,
    *,
    amount: int | None = None,
    reason: str | None = None,
    metadata: dict[str, str] | None = None,
) -> Record:
    refund = _refund(sandbox, charge, _amount(charge, amount), reason, merge({}, metadata))
    card = payment_methods.test_card_of(sandbox, payment_methods.retrieve(sandbox, charge["payment_method"]))
    if sandbox.settings["balance_is_insufficient"]:
        refund.update(status="pending", pending_reason="insufficient_funds")
    elif card.refund == "pending":
        refund.update(status="pending", pending_reason="processing")
    _move_money(sandbox, refund)
    sandbox.state.save("refund", refund)
    before = dict(charge)
    _add_to_charge(sandbox, charge, refund["amount"])
    sandbox.events.emit("refund.created", refund, call)
    sandbox.events.emit_update("charge.refunded", before, charge, call)
    _schedule(sandbox, refund, card.refund)
    return refund


def finish(sandbox: Sandbox, refund: Record, status: str, *, failure_reason: str | None = None) -> Record:
    """What the bank or the Dashboard decides later."""
    if status not in NEXT.get(refund["status"], ()):
        raise ValueError(f"{refund['id']} is {refund['status']} and cannot become {status}")
    if failure_reason and (status != "failed" or failure_reason not in FAILURE_REASONS):
        raise ValueError(f"a failure_reason is for a failed refund, and one of {', '.join(FAILURE_REASONS)}")
    sandbox.state.delete(JOBS, refund["id"])
    before = dict(refund) | {"failure_balance_transaction": None, "failure_reason": None}
    refund["status"] = status
    refund.pop("pending_reason", None)
    if status == "failed":
        refund["failure_reason"] = failure_reason or "expired_or_canceled_card"
    _move_money(sandbox, refund)
    sandbox.state.save("refund", refund)
    if status != "succeeded":
        _add_to_charge(sandbox, charges.retrieve(sandbox, refund["charge"]), -refund["amount"])
    _tell(sandbox, before, refund, BACKGROUND)
    if status == "failed":
        sandbox.events.emit("refund.failed", refund, BACKGROUND)
    return refund


def pay_waiting(sandbox: Sandbox) -> None:
    """There is money in the balance again."""
    for refund in sandbox.state.all("refund"):
        if refund["status"] == "pending" and refund.get("pending_reason") == "insufficient_funds":
            finish(sandbox, refund, "succeeded")


def finish_due(sandbox: Sandbox) -> None:
    for job in sandbox.state.all(JOBS):
        if job["due_at"] <= sandbox.clock.time():
            finish(sandbox, retrieve(sandbox, job["id"]), job["outcome"])


def retrieve(sandbox: Sandbox, refund_id: str) -> Record:
    refund = sandbox.state.get("refund", refund_id)
    if not refund:
        raise resource_missing("refund", refund_id, param="id")
    return refund


def update(sandbox: Sandbox, call: Call, refund_id: str) -> Record:
    refund = retrieve(sandbox, refund_id)
    before = dict(refund)
    if "metadata" in call.params:
        refund["metadata"] = merge(refund["metadata"], call.params["metadata"])
    sandbox.state.save("refund", refund)
    _tell(sandbox, before, refund, call)
    return refund


def list_page(sandbox: Sandbox, call: Call) -> Record:
    wanted = {name: call.params[name] for name in ("charge", "payment_intent") if name in call.params}
    return lists.page(
        sandbox.state,
        "refund",
        call.params,
        url="/v1/refunds",
        matches=lambda refund: all(refund[name] == value for name, value in wanted.items()),
    )


def refundable_charge(sandbox: Sandbox, intent: Record) -> Record:
    charge = sandbox.state.get("charge", intent["latest_charge"] or "")
    if not charge or charge["status"] != "succeeded":
        raise _nothing_to_refund(intent["id"])
    return charge


def _nothing_to_refund(intent_id: str) -> StripeError:
    return invalid_request(
        f"This PaymentIntent ({intent_id}) does not have a successful charge to refund.", param="payment_intent"
    )


def _named_charge(sandbox: Sandbox, params: Record) -> Record:
    named = [name for name in ("charge", "payment_intent") if name in params]
    if len(named) != 1:
        rule = "You may only specify one of" if named else "You must supply one of"
        raise invalid_request(f"{rule} these parameters: charge, payment_intent.", param=named[0] if named else None)
    if named == ["payment_intent"]:
        intent = sandbox.state.get("payment_intent", params["payment_intent"])
        if not intent:
            raise resource_missing("payment_intent", params["payment_intent"], param="payment_intent")
        return refundable_charge(sandbox, intent)
    charge = sandbox.state.get("charge", params["charge"])
    if not charge:
        raise resource_missing("charge", params["charge"], param="charge")
    if charge["status"] != "succeeded":
        raise _nothing_to_refund(charge["payment_intent"])
    return charge


def _amount(charge: Record, asked: int | None) -> int:
    left = int(charge["amount_captured"] - charge["amount_refunded"])
    if left <= 0:
        raise invalid_request(f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
    if asked is None:
        return left
    if asked < 1:
        raise invalid_request("Invalid positive integer", code="parameter_invalid_integer", param="amount")
    if asked > left:
        # Stripe sends no code with this one.
        raise invalid_request(
            f"Refund amount ({money.write(asked, charge['currency'])}) is greater than unrefunded amount on charge "
            f"({money.write(left, charge['currency'])})",
            param="amount",
        )
    return asked


def _add_to_charge(sandbox: Sandbox, charge: Record, amount: int) -> None:
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] >= charge["amount_captured"]
    sandbox.state.save("charge", charge)


def _move_money(sandbox: Sandbox, refund: Record) -> None:
    """Out of the balance unless it is empty, and back into it when the refund came to nothing."""
    is_over = refund["status"] in ("failed", "canceled")
    if refund["balance_transaction"] and is_over:
        refund["failure_balance_transaction"] = balance_transactions.of_refund_failure(sandbox, refund)["id"]
    elif not (refund["balance_transaction"] or is_over or refund.get("pending_reason") == "insufficient_funds"):
        refund["balance_transaction"] = balance_transactions.of_refund(sandbox, refund)["id"]


def _schedule(sandbox: Sandbox, refund: Record, behaviour: str) -> None:
    outcome = {"pending": "succeeded", "fails_later": "failed"}.get(behaviour)
    if outcome and refund.get("pending_reason") != "insufficient_funds":
        due_at = sandbox.clock.time() + sandbox.settings["refund_settles_after_seconds"]
        sandbox.state.save(JOBS, {"id": refund["id"], "due_at": due_at, "outcome": outcome})


def _tell(sandbox: Sandbox, before: Record, refund: Record, call: Call) -> None:
    """Stripe says the same under both names, the older one for cards and bank debits only."""
    for event_type in ("refund.updated", "charge.refund.updated"):
        sandbox.events.emit_update(event_type, before, refund, call)


def _refund(sandbox: Sandbox, charge: Record, amount: int, reason: str | None, metadata: dict[str, str]) -> Record:
    method_type = charge["payment_method_details"]["type"]
    card = {"reference_status": "pending", "reference_type": "acquirer_reference_number", "type": "refund"}
    return {
        "id": new_id("re" if method_type == "card" else "pyr"),
        "object": "refund",
        "amount": amount,
        "balance_transaction": None,
        "charge": charge["id"],
        "created": sandbox.clock.now(),
        "currency": charge["currency"],
        "destination_details": {"type": method_type} | ({"card": card} if method_type == "card" else {}),
        "metadata": metadata,
        "payment_intent": charge["payment_intent"],
        "reason": reason,
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": "succeeded",
        "transfer_reversal": None,
    }
