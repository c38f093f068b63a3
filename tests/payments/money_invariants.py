"""What is true of money, seats and tickets at every moment, in words where it is not: V and I of the specification.

Stripe's ledger is the oracle. Each function reads the database and Stripe's ledger and knows nothing of how the product
decides; together they say what is wrong, and nothing when nothing is.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import Model

from payments.models import Payment, Refund, WebhookEvent
from payments.models import StatusChange as PaymentChange
from reservations.models import Order, OrderLine, Reservation
from reservations.models import StatusChange as OrderChange
from tests.ledger import rows_of
from tests.stripe_sandbox.process import Control
from ticketing.models import OutgoingEmail, Ticket

SUCCESSES = ("payment_intent.succeeded", "checkout.session.async_payment_succeeded")
TOLD: dict[str, tuple[str, ...]] = {
    "AWAITING_PAYMENT": ("ORDERED",),
    "PAID": ("CONFIRMED",),
    "CANCELLED": ("EXPIRED", "RELEASED"),
}


@dataclass
class Books:
    """Everything that money is about, read once."""

    orders: list[Order]
    payments: dict[int, list[Payment]]  # by order
    refunds: dict[int, list[Refund]]  # by payment
    tickets: Counter[int]  # valid ones, by order
    units: Counter[int]  # lines, by order
    ledger: dict[str, dict[str, Any]]  # Stripe's, by PaymentIntent
    refunds_at_stripe: list[dict[str, Any]]
    sessions: dict[str, dict[str, Any]]
    taken: Collection[str] = ()


def read(control: Control) -> Books:
    payments, refunds = defaultdict(list), defaultdict(list)
    for payment in Payment.objects.order_by("attempt"):
        payments[payment.order_id].append(payment)
    for refund in Refund.objects.order_by("id"):
        refunds[refund.payment_id].append(refund)
    valid = Ticket.objects.filter(status="VALID").values_list("order_line__order", flat=True)
    return Books(
        orders=list(Order.objects.select_related("reservation")),
        payments=payments,
        refunds=refunds,
        tickets=Counter(valid),
        units=Counter(OrderLine.objects.values_list("order", flat=True)),
        ledger={row["id"]: row for row in rows_of(control)},
        refunds_at_stripe=control.refunds(),
        sessions={session["id"]: session for session in control.sessions()},
    )


def offending(control: Control, *, taken: Collection[str] = ()) -> list[str]:
    """`taken`: PaymentIntents that were paid although Stripe had called them canceled."""
    books = read(control)
    books.taken = taken
    return [words for check in CHECKS for words in check(books)]


def counters(books: Books) -> Iterator[str]:
    """V1, V2, V16, I2."""
    with connection.cursor() as cursor:
        cursor.execute("""
            SELECT q.name, q.capacity, q.held, q.sold,
                COALESCE(sum(c.quantity) FILTER (WHERE r.status IN ('ACTIVE', 'ORDERED')), 0),
                COALESCE(sum(c.quantity) FILTER (WHERE r.status = 'CONFIRMED'), 0)
            FROM ticketing_quota q LEFT JOIN reservations_claim c ON c.quota_id = q.id
            LEFT JOIN reservations_reservationline l ON l.id = c.line_id
            LEFT JOIN reservations_reservation r ON r.id = l.reservation_id GROUP BY q.id""")
        for name, capacity, held, sold, claimed, bought in cursor.fetchall():
            if (held, sold) != (claimed, bought):
                yield f"V2 {name}: held {held}, sold {sold}; counted {claimed} and {bought}"
            if held + sold > capacity:
                yield f"V1 {name}: {held} held and {sold} sold of {capacity}"
        cursor.execute("""
            SELECT c.code, c.uses, c.max_uses, count(r.id) FROM reservations_promocode c
            LEFT JOIN reservations_reservation r
                ON r.promo_code_id = c.id AND r.status IN ('ACTIVE', 'ORDERED', 'CONFIRMED') GROUP BY c.id""")
        for code, uses, most, counted in cursor.fetchall():
            if uses != counted or (most is not None and uses > most):
                yield f"V16 {code}: {uses} uses, counted {counted}, at most {most}"


def orders_and_tickets(books: Books) -> Iterator[str]:
    """V4, V5, V10, V12: an order's state, its reservation's, its lines and its tickets are one story."""
    for order in books.orders:
        if order.reservation.status not in TOLD[order.status]:
            yield f"V12 {order.code} is {order.status}, its reservation {order.reservation.status}"
        expected = books.units[order.pk] if order.status == "PAID" else 0
        if books.tickets[order.pk] != expected:
            yield f"V4 {order.code} is {order.status} with {books.tickets[order.pk]} tickets instead of {expected}"
    lost = Reservation.objects.filter(status__in=["ORDERED", "CONFIRMED"], order=None).count()
    if lost:
        yield f"V12 {lost} reservations are ordered or confirmed without an order"
    with connection.cursor() as cursor:
        cursor.execute("""
            SELECT o.code, o.total_minor, sum(l.price_minor - l.discount_minor) FROM reservations_order o
            JOIN reservations_orderline l ON l.order_id = o.id
            GROUP BY o.id HAVING o.total_minor <> sum(l.price_minor - l.discount_minor)""")
        yield from (f"V10 {code}: {total} instead of {lines}" for code, total, lines in cursor.fetchall())
        cursor.execute("""
            SELECT event_id, count(*), max(serial), min(serial) FROM ticketing_ticket
            GROUP BY event_id HAVING count(*) <> max(serial) OR min(serial) <> 1""")
        yield from (f"V13 serials with gaps: {row}" for row in cursor.fetchall())


def money_of_orders(books: Books) -> Iterator[str]:
    """V5, V6, V8, V9, I1: a paid order keeps exactly one payment, of its total; everything else received goes back."""
    for order in books.orders:
        paid = [payment for payment in books.payments[order.pk] if payment.status == "SUCCEEDED"]
        kept = [payment for payment in paid if not payment.refunded_minor and not _failed(books, payment)]
        if order.status == "PAID" and order.total_minor:
            sums = [(payment.amount_received_minor, payment.currency) for payment in kept]
            if sums != [(order.total_minor, order.currency)]:
                yield f"V5/V8 {order.code} is PAID ({order.total_minor} {order.currency}) by {sums}"
            yield from (words for payment in kept for words in _is_really_there(books, payment))
        else:
            yield from (f"V3 {order.code} is {order.status}, {payment} is kept" for payment in kept)
        for payment in paid:
            going = payment.refunded_minor
            if going not in (0, payment.amount_received_minor):
                yield f"V9 of {payment} only {going} of {payment.amount_received_minor} goes back"
            if _failed(books, payment) and not going and not order.needs_review:
                yield f"V3 the refund of {payment} failed, and nobody is told"


def _failed(books: Books, payment: Payment) -> bool:
    return any(refund.status == "FAILED" for refund in books.refunds[payment.pk])


def _is_really_there(books: Books, payment: Payment) -> Iterator[str]:
    row = books.ledger.get(payment.stripe_payment_intent_id or "")
    if row is None or (row["amount_received"], row["charges_succeeded"]) != (payment.amount_received_minor, 1):
        yield f"I4 {payment} has {payment.amount_received_minor} in our books, at Stripe {row}"
    elif row["amount_refunded"]:
        yield f"V6 {payment} keeps its tickets though {row['amount_refunded']} went back"


def ended_payments(books: Books) -> Iterator[str]:
    """Seats were given back because nothing can be charged any more: so it must be at Stripe."""
    for payment in (payment for each in books.payments.values() for payment in each):
        if payment.status not in ("CANCELLED", "FAILED", "ORPHANED"):
            continue
        session = books.sessions.get(payment.stripe_session_id or "")
        if session is not None and session["status"] == "open":
            yield f"{payment} is {payment.status}, its session can still be paid"
        row = books.ledger.get(payment.stripe_payment_intent_id or "")
        if row is not None and session is None and row["status"] != "canceled" and row["id"] not in books.taken:
            yield f"{payment} is {payment.status}, at Stripe {row['status']}"


def refunds(books: Books) -> Iterator[str]:
    """V7, V20, HC-D12: never more than was received, each of ours at most once at Stripe, by somebody for a reason."""
    for payment in (payment for each in books.payments.values() for payment in each):
        rows = books.refunds[payment.pk]
        good = sum(refund.amount_minor for refund in rows if refund.status != "FAILED")
        if good != payment.refunded_minor or good > payment.amount_received_minor:
            yield f"V7 {payment}: {good} in refunds, {payment.refunded_minor} noted, of {payment.amount_received_minor}"
        yield from (f"V20 {refund} is nobody's" for refund in rows if not refund.by or not refund.reason)
    for row in books.ledger.values():
        if row["amount_refunded"] > row["amount_received"]:
            yield f"V7 {row['id']}: {row['amount_refunded']} of {row['amount_received']} went back"
    known = {str(refund.pk) for rows in books.refunds.values() for refund in rows}
    made = Counter(refund["metadata"].get("refund") for refund in books.refunds_at_stripe)
    yield from (f"{times} refunds at Stripe are our {ours}" for ours, times in made.items() if times > 1)
    yield from (f"a refund at Stripe is our {ours}, which is unknown" for ours in made.keys() - known)


def events(books: Books) -> Iterator[str]:
    """V17, V18: what was dealt with has had its effect."""
    by_id = {name: payment for each in books.payments.values() for payment in each for name in _names(payment)}
    for told in WebhookEvent.objects.filter(status="PROCESSED", type__in=SUCCESSES):
        payment = by_id.get(told.object_id)
        if payment is None or payment.status != "SUCCEEDED":
            yield f"V18 {told} is processed, its payment is {payment and payment.status}"
        elif not payment.settled_by:
            yield f"V18 nobody has settled {payment}"


def _names(payment: Payment) -> list[str]:
    return [name for name in (payment.stripe_payment_intent_id, payment.stripe_session_id) if name]


def letters(books: Books) -> Iterator[str]:
    """V19, I9: one confirmation for each paid order, one letter for each payment that goes back."""
    sent = Counter(OutgoingEmail.objects.values_list("kind", "reference"))
    for order in books.orders:
        confirmations = sent["confirmation", order.code]
        if confirmations != (order.status == "PAID"):
            yield f"V19 {order.code} is {order.status} with {confirmations} confirmations"
        gone_back = sum(bool(books.refunds[payment.pk]) for payment in books.payments[order.pk])
        if sent["refund", order.code] != gone_back:
            yield f"V19 {order.code}: {sent['refund', order.code]} letters about {gone_back} payments that went back"


def history(books: Books) -> Iterator[str]:
    """V21, I6: only allowed moves, each from where the last one led, and the last one to where the row is."""
    for model, changes in MOVED:
        statuses = {str(pk): status for pk, status in model._default_manager.values_list("pk", "status")}
        last: dict[str, str] = {}
        for line in changes.objects.filter(kind=model._meta.model_name).order_by("id"):
            allowed = line.from_status == line.to_status or line.from_status in _sources(model, line.to_status)
            follows = last.get(line.object_id, line.from_status) == line.from_status
            if not allowed or not follows:
                yield f"V21 {line}, after {last.get(line.object_id)}"
            last[line.object_id] = line.to_status
        wrong = [name for name, status in last.items() if name in statuses and statuses[name] != status]
        yield from (f"V21 {model.__name__} {name} is not where its history says" for name in wrong)


def _sources(model: Any, to: str) -> frozenset[str]:
    found: frozenset[str] = model.TRANSITIONS.get(to, frozenset())
    return found


MOVED: list[tuple[type[Model], Any]] = [
    (Payment, PaymentChange),
    (Refund, PaymentChange),
    (WebhookEvent, PaymentChange),
    (Order, OrderChange),
    (Reservation, OrderChange),
]
CHECKS: list[Callable[[Books], Iterator[str]]] = [
    counters, orders_and_tickets, money_of_orders, ended_payments, refunds, events, letters, history,
]  # fmt: skip


def turned_away(refund_ids: Collection[int]) -> list[str]:
    """HC-D1: of these late payments, sent back for want of room, those that had room but for holds past their time."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH over AS (
                SELECT c.quota_id, sum(c.quantity) AS places FROM reservations_claim c
                JOIN reservations_reservationline l ON l.id = c.line_id
                JOIN reservations_reservation r ON r.id = l.reservation_id
                WHERE r.status = 'ACTIVE' AND r.expires_at <= clock_timestamp() GROUP BY c.quota_id
            )
            SELECT o.code FROM payments_refund f
            JOIN payments_payment p ON p.id = f.payment_id JOIN reservations_order o ON o.id = p.order_id
            JOIN reservations_reservationline l ON l.reservation_id = o.reservation_id
            JOIN reservations_claim c ON c.line_id = l.id JOIN ticketing_quota q ON q.id = c.quota_id
            LEFT JOIN over ON over.quota_id = q.id
            WHERE f.id = ANY (%s) AND f.reason = 'LATE' AND f.note LIKE 'its places%%'
            GROUP BY f.id, o.code
            HAVING bool_and(q.capacity - q.held - q.sold + COALESCE(over.places, 0) >= c.quantity)
                AND bool_or(COALESCE(over.places, 0) > 0)
            """,
            [list(refund_ids)],
        )
        return [f"HC-D1 {code} was paid late and sent away, with room for it" for (code,) in cursor.fetchall()]
