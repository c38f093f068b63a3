"""Charges: one attempt at taking the money of a PaymentIntent, successful or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import balance_transactions, lists
from .call import Call
from .cards import Decline
from .errors import resource_missing
from .identifiers import new_id
from .metadata import merge

if TYPE_CHECKING:
    from .sandbox import Sandbox

Record = dict[str, Any]


def attempt(
    sandbox: Sandbox, intent: Record, method: Record, *, decline: Decline | None, authenticated: bool
) -> Record:
    """A card charge, which is answered at once."""
    succeeded = decline is None
    charge = _charge(sandbox, intent, method) | {
        "amount_captured": intent["amount"] if succeeded else 0,
        "captured": succeeded,
        "failure_code": decline.code if decline else None,
        "failure_message": decline.message if decline else None,
        "outcome": _outcome(decline),
        "paid": succeeded,
        "payment_method_details": {"type": "card", "card": _card_details(intent, method, authenticated, decline)},
        "status": "succeeded" if succeeded else "failed",
    }
    return _finish(sandbox, charge)


def begin_debit(sandbox: Sandbox, intent: Record, method: Record) -> Record:
    """A bank debit, which is answered days later."""
    charge = _charge(sandbox, intent, method) | {
        "amount_captured": intent["amount"],
        "captured": True,
        "outcome": _outcome(None),
        "payment_method_details": {"type": "sepa_debit", "sepa_debit": dict(method["sepa_debit"], mandate=None)},
        "status": "pending",
    }
    charge["payment_method_details"]["sepa_debit"].pop("generated_from")
    return _finish(sandbox, charge)


def end_debit(sandbox: Sandbox, charge: Record, *, decline: Decline | None) -> Record:
    charge["status"] = "failed" if decline else "succeeded"
    charge["paid"] = decline is None
    if decline:
        charge.update(
            amount_captured=0, captured=False, failure_code=decline.code, failure_message=decline.message,
            outcome=_outcome(decline),
        )  # fmt: skip
    return _finish(sandbox, charge)


def retrieve(sandbox: Sandbox, charge_id: str) -> Record:
    charge = sandbox.state.get("charge", charge_id)
    if not charge:
        raise resource_missing("charge", charge_id, param="id")
    return charge


def update(sandbox: Sandbox, call: Call, charge_id: str) -> Record:
    charge = retrieve(sandbox, charge_id)
    before = dict(charge)
    if "description" in call.params:
        charge["description"] = call.params["description"]
    if "metadata" in call.params:
        charge["metadata"] = merge(charge["metadata"], call.params["metadata"])
    sandbox.state.save("charge", charge)
    sandbox.events.emit_update("charge.updated", before, charge, call)
    return charge


def list_page(sandbox: Sandbox, call: Call) -> Record:
    wanted = {name: call.params[name] for name in ("customer", "payment_intent") if name in call.params}
    return lists.page(
        sandbox.state,
        "charge",
        call.params,
        url="/v1/charges",
        matches=lambda charge: all(charge[name] == value for name, value in wanted.items()),
    )


def _finish(sandbox: Sandbox, charge: Record) -> Record:
    if charge["paid"]:
        charge["balance_transaction"] = balance_transactions.of_charge(sandbox, charge)["id"]
        charge["receipt_url"] = f"{sandbox.base_url}/dashboard/#/payments/{charge['payment_intent']}"
    return sandbox.state.save("charge", charge)


def _charge(sandbox: Sandbox, intent: Record, method: Record) -> Record:
    return {
        "id": new_id("ch" if method["type"] == "card" else "py"),
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": 0,
        "amount_refunded": 0,
        "application": None,
        "application_fee": None,
        "application_fee_amount": None,
        "balance_transaction": None,
        "billing_details": method["billing_details"],
        "calculated_statement_descriptor": sandbox.options.merchant.upper()[:22],
        "captured": False,
        "created": sandbox.clock.now(),
        "currency": intent["currency"],
        "customer": intent["customer"],
        "description": intent["description"],
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": None,
        "failure_message": None,
        "fraud_details": {},
        "livemode": False,
        "metadata": dict(intent["metadata"]),
        "on_behalf_of": None,
        "outcome": None,
        "paid": False,
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": None,
        "receipt_email": intent["receipt_email"],
        "receipt_number": None,
        "receipt_url": None,
        "refunded": False,
        "review": None,
        "shipping": intent["shipping"],
        "source_transfer": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": intent["statement_descriptor_suffix"],
        "status": "pending",
        "transfer_data": None,
        "transfer_group": None,
    }


def _card_details(intent: Record, method: Record, authenticated: bool, decline: Decline | None) -> Record:
    card = method["card"]
    copied = ("brand", "country", "exp_month", "exp_year", "fingerprint", "funding", "last4", "regulated_status")
    return {name: card[name] for name in copied} | {
        "amount_authorized": None if decline else intent["amount"],
        "authorization_code": None,
        "checks": {
            "address_line1_check": None,
            "address_postal_code_check": None,
            "cvc_check": "fail" if decline and decline.code == "incorrect_cvc" else "pass",
        },
        "installments": None,
        "mandate": None,
        "network": card["brand"],
        "network_token": {"used": False},
        "network_transaction_id": None,
        "three_d_secure": _three_d_secure() if authenticated else None,
        "wallet": None,
    }


def _three_d_secure() -> Record:
    return {
        "authentication_flow": "challenge",
        "electronic_commerce_indicator": "05",
        "exemption_indicator": None,
        "result": "authenticated",
        "result_reason": None,
        "transaction_id": new_id("tdsecure"),
        "version": "2.2.0",
    }


def _outcome(decline: Decline | None) -> Record:
    risk_level = "highest" if decline and decline.blocked else "normal"
    outcome: Record = {
        "advice_code": None,
        "network_advice_code": None,
        "network_decline_code": None,
        "network_status": "approved_by_network",
        "reason": None,
        "risk_level": risk_level,
        "risk_score": 79 if risk_level == "highest" else 12,
        "seller_message": "Payment complete.",
        "type": "authorized",
    }
    if decline and decline.blocked:
        blocked = "Stripe blocked this payment as too risky."
        outcome |= {"network_status": "not_sent_to_network", "reason": "highest_risk_level", "type": "blocked"}
        return outcome | {"seller_message": blocked}
    if decline:
        outcome |= {
            "network_status": "declined_by_network",
            "reason": decline.decline_code or decline.code,
            "seller_message": "The bank did not return any further details with this decline.",
            "type": "issuer_declined",
        }
    return outcome
