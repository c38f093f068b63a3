"""What each movement of money did to the account's balance (docs.stripe.com/reports/balance-transaction-types).

A card payment costs 2.9 % and 30 of the smallest unit; a refund costs nothing and gives no fee back. Nothing is ever
paid out, so everything stays `pending` and the balance is the sum of all `net`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import lists
from .call import Call
from .errors import resource_missing
from .identifiers import new_id

if TYPE_CHECKING:
    from .sandbox import Sandbox

Record = dict[str, Any]
FEE_PER_MILLE = 29
FEE_FIXED_MINOR = 30
AVAILABLE_AFTER_SECONDS = 7 * 24 * 3600


def of_charge(sandbox: Sandbox, charge: Record) -> Record:
    kind = "charge" if charge["payment_method_details"]["type"] == "card" else "payment"
    amount = charge["amount_captured"]
    return _record(sandbox, charge, kind, amount, fee=fee_of(amount), category="charge")


def of_refund(sandbox: Sandbox, refund: Record) -> Record:
    kind = "refund" if refund["destination_details"]["type"] == "card" else "payment_refund"
    return _record(sandbox, refund, kind, -refund["amount"], fee=0, category="refund")


def of_refund_failure(sandbox: Sandbox, refund: Record) -> Record:
    """The money that did not reach the buyer comes back."""
    return _record(sandbox, refund, "refund_failure", refund["amount"], fee=0, category="refund_failure")


def change_amount(sandbox: Sandbox, transaction_id: str, amount: int, currency: str) -> None:
    """After a test has tampered with its charge."""
    transaction = retrieve(sandbox, transaction_id)
    transaction.update(_amounts(amount, currency, fee=fee_of(amount)))
    sandbox.state.save("balance_transaction", transaction)


def retrieve(sandbox: Sandbox, transaction_id: str) -> Record:
    transaction = sandbox.state.get("balance_transaction", transaction_id)
    if not transaction:
        raise resource_missing("balance transaction", transaction_id, param="id")
    return transaction


def list_page(sandbox: Sandbox, call: Call) -> Record:
    wanted = {name: call.params[name] for name in ("currency", "source", "type") if name in call.params}
    return lists.page(
        sandbox.state,
        "balance_transaction",
        call.params,
        url="/v1/balance_transactions",
        matches=lambda transaction: all(transaction[name] == value for name, value in wanted.items()),
    )


def balance(sandbox: Sandbox) -> Record:
    totals: dict[str, int] = {}
    for transaction in sandbox.state.all("balance_transaction"):
        totals[transaction["currency"]] = totals.get(transaction["currency"], 0) + transaction["net"]
    pending = [_amount(amount, currency) for currency, amount in sorted((totals or {"eur": 0}).items())]
    available = [_amount(0, part["currency"]) for part in pending]
    return {"object": "balance", "available": available, "livemode": False, "pending": pending}


def fee_of(amount: int) -> int:
    return (amount * FEE_PER_MILLE + 500) // 1000 + FEE_FIXED_MINOR


def _amount(amount: int, currency: str) -> Record:
    return {"amount": amount, "currency": currency, "source_types": {"card": amount}}


def _record(sandbox: Sandbox, source: Record, kind: str, amount: int, *, fee: int, category: str) -> Record:
    now = sandbox.clock.now()
    transaction = {
        "id": new_id("txn"),
        "object": "balance_transaction",
        "available_on": now + AVAILABLE_AFTER_SECONDS,
        "balance_type": "payments",
        "created": now,
        "description": source.get("description"),
        "exchange_rate": None,
        "reporting_category": category,
        "source": source["id"],
        "status": "pending",
        "type": kind,
        **_amounts(amount, source["currency"], fee=fee),
    }
    return sandbox.state.save("balance_transaction", transaction)


def _amounts(amount: int, currency: str, *, fee: int) -> Record:
    details = {
        "amount": fee,
        "application": None,
        "currency": currency,
        "description": "Stripe processing fees",
        "type": "stripe_fee",
    }
    return {
        "amount": amount,
        "currency": currency,
        "fee": fee,
        "fee_details": [details] if fee else [],
        "net": amount - fee,
    }
