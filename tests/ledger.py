"""Our books against Stripe's ledger, payment by payment and in total, both ways, to the cent (W1 of RELIABILITY).

The ledger is what the offline Stripe knows of money that really moved; nothing that we wrote down takes part in it.
`of_orders` narrows both sides to some orders, by their codes, where an office has others too.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from payments.models import Payment, Refund
from reservations.models import Order
from tests.stripe_sandbox.process import Control
from ticketing.models import Ticket


@dataclass(frozen=True)
class Line:
    """What one PaymentIntent brought, and what of it went back; minor units."""

    currency: str
    received: int
    refunded: int

    def __str__(self) -> str:
        return f"{self.received} {self.currency} received, {self.refunded} refunded"


def at_stripe(control: Control, *, of_orders: Collection[str] | None = None) -> dict[str, Line]:
    """Only what brought money."""
    return {
        row["id"]: Line(row["currency"].upper(), row["amount_received"], row["amount_refunded"])
        for row in rows_of(control, of_orders=of_orders)
        if row["amount_received"]
    }


def rows_of(control: Control, *, of_orders: Collection[str] | None = None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = control.ledger()["payment_intents"]
    return [row for row in rows if of_orders is None or row["metadata"].get("order") in of_orders]


def in_books(*, of_orders: Collection[str] | None = None) -> dict[str, Line]:
    """A refund counts from when Stripe has it, as it does there."""
    paid = Payment.objects.filter(status=Payment.Status.SUCCEEDED).prefetch_related("refunds")
    if of_orders is not None:
        paid = paid.filter(order__code__in=of_orders)
    return {payment.stripe_payment_intent_id or payment.stripe_id: _line(payment) for payment in paid}


def _line(payment: Payment) -> Line:
    """A payment in another currency than its order's has a refund that names it."""
    refunds = list(payment.refunds.all())
    at_stripe = {Refund.Status.SUBMITTED, Refund.Status.SUCCEEDED}
    currency = next((refund.currency for refund in refunds), payment.currency)
    refunded = sum(refund.amount_minor for refund in refunds if refund.status in at_stripe)
    return Line(currency, payment.amount_received_minor, refunded)


def differences(control: Control, *, of_orders: Collection[str] | None = None) -> list[str]:
    """In words, where the books and the ledger disagree; empty when every cent agrees."""
    theirs, ours = at_stripe(control, of_orders=of_orders), in_books(of_orders=of_orders)
    found = [
        f"{intent}: at Stripe {theirs.get(intent, 'nothing')}, in our books {ours.get(intent, 'nothing')}"
        for intent in sorted(theirs.keys() | ours.keys())
        if theirs.get(intent) != ours.get(intent)
    ]
    if totals(theirs) != totals(ours):
        found.append(f"in total at Stripe {dict(totals(theirs))}, in our books {dict(totals(ours))}")
    return found


def totals(lines: dict[str, Line]) -> Counter[tuple[str, str]]:
    """By currency: received and refunded."""
    total = Counter[tuple[str, str]]()
    for line in lines.values():
        total[line.currency, "received"] += line.received
        total[line.currency, "refunded"] += line.refunded
    return total


def without_an_end(control: Control, *, of_orders: Collection[str] | None = None) -> list[str]:
    """Payments that Stripe has taken and that ended neither as tickets nor as a refund of everything (I1).

    One payment is worth one order's tickets: what else was received for the order must have gone back.
    """
    found, served = [], Counter[str]()
    for row in rows_of(control, of_orders=of_orders):
        if not row["amount_received"] or row["amount_refunded"] == row["amount_received"]:
            continue
        order = Order.objects.filter(code=row["metadata"].get("order")).first()
        if order is None or not is_served(order):
            found.append(f"{row['id']}: {row['amount_received']} {row['currency']} kept, no tickets for it")
            continue
        served[order.code] += 1
        if (row["amount_received"], row["currency"].upper()) != (order.total_minor, order.currency):
            found.append(f"{row['id']}: {row['amount_received']} {row['currency']} kept for {order.total}")
        if row["amount_refunded"]:
            found.append(f"{row['id']}: {row['amount_refunded']} went back though {order.code} has its tickets")
    return found + [f"{code}: {times} payments kept" for code, times in served.items() if times > 1]


def is_served(order: Order) -> bool:
    """Paid, with exactly its tickets, all of them valid."""
    good = Ticket.objects.filter(order_line__order=order, status__in=[Ticket.Status.VALID, Ticket.Status.USED])
    return order.status == Order.Status.PAID and good.count() == order.lines.count() > 0
