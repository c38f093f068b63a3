"""What was really paid. Tests compare a ticket office's books with this and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .sandbox import Sandbox

Record = dict[str, Any]


def ledger(sandbox: Sandbox) -> Record:
    charges: dict[str, list[Record]] = {}
    for charge in sandbox.state.all("charge"):
        charges.setdefault(charge["payment_intent"], []).append(charge)
    intents = [_line(intent, charges.get(intent["id"], [])) for intent in sandbox.state.all("payment_intent")]
    refunds = [_refund_line(refund) for refund in sandbox.state.all("refund")]
    return {"payment_intents": intents, "refunds": refunds, "totals": _totals(intents)}


def _line(intent: Record, charges: list[Record]) -> Record:
    paid = [charge for charge in charges if charge["status"] == "succeeded"]
    return {
        "id": intent["id"],
        "status": intent["status"],
        "amount": intent["amount"],
        "currency": intent["currency"],
        "amount_received": sum(charge["amount_captured"] for charge in paid),
        "amount_refunded": sum(charge["amount_refunded"] for charge in paid),
        "charges_succeeded": len(paid),
        "charges_failed": sum(charge["status"] == "failed" for charge in charges),
        "created": intent["created"],
        "metadata": intent["metadata"],
    }


def _refund_line(refund: Record) -> Record:
    copied = ("id", "payment_intent", "charge", "amount", "currency", "status", "reason", "created", "metadata")
    return {name: refund[name] for name in copied}


def _totals(intents: list[Record]) -> dict[str, Record]:
    totals: dict[str, Record] = {}
    for line in intents:
        total = totals.setdefault(line["currency"], {"received": 0, "refunded": 0, "net": 0, "succeeded": 0})
        total["received"] += line["amount_received"]
        total["refunded"] += line["amount_refunded"]
        total["net"] += line["amount_received"] - line["amount_refunded"]
        total["succeeded"] += line["status"] == "succeeded"
    return totals
