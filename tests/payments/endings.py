"""How a hard case ended: by Stripe's ledger and our books together, and in the words that buyers and staff read."""

import html
import re
from collections import Counter
from typing import Any

from django.core import mail
from django.test import Client

from payments import attention
from payments.models import Payment, Refund
from reservations.models import Order
from tests.factories import UserFactory
from tests.purchases import recount
from tests.stripe_sandbox.process import SandboxProcess
from ticketing import emails
from ticketing.models import OutgoingEmail, Quota, Ticket

ENDED_WELL = (Refund.Status.REQUESTED, Refund.Status.SUBMITTED, Refund.Status.SUCCEEDED)


def assert_books_agree(sandbox: SandboxProcess) -> None:
    """I1 to I4 of the hard cases: what Stripe took is a paid order with its tickets, or goes back; counters are a recount."""
    kept: Counter[int] = Counter()
    for line in sandbox.control.ledger()["payment_intents"]:
        payment = Payment.objects.filter(stripe_payment_intent_id=line["id"]).first()
        if not line["amount_received"]:
            assert payment is None or payment.amount_received_minor == 0, line
            continue
        assert payment is not None, f"Stripe took money for {line['id']}, and no row knows it"
        assert (payment.status, payment.amount_received_minor) == ("SUCCEEDED", line["amount_received"])
        _assert_refunds_agree(payment, line)
        kept[payment.order_id] += payment.amount_received_minor - payment.refunded_minor
    for order in Order.objects.select_related("reservation"):
        _assert_order_is_whole(order, kept[order.pk])
    for quota in Quota.objects.all():
        assert (quota.held, quota.sold) == recount(quota)
        assert quota.held + quota.sold <= quota.capacity
    serials = list(Ticket.objects.values_list("event_id", "serial"))
    assert len(set(serials)) == len(serials) == Ticket.objects.values("secret").distinct().count()


def _assert_refunds_agree(payment: Payment, line: dict[str, Any]) -> None:
    rows = list(payment.refunds.all())
    assert payment.refunded_minor == sum(row.amount_minor for row in rows if row.status in ENDED_WELL)
    at_stripe = sum(row.amount_minor for row in rows if row.status in ("SUBMITTED", "SUCCEEDED"))
    assert at_stripe == line["amount_refunded"], "our refunds are Stripe's"


def _assert_order_is_whole(order: Order, kept: int) -> None:
    is_paid = order.status == Order.Status.PAID
    is_owed = attention.refunds_owed().filter(payment__order=order).exists()
    assert kept == (order.total_minor if is_paid else 0) or is_owed, f"{order.code} is {order.status} and keeps {kept}"
    assert (order.reservation.status == "CONFIRMED") == is_paid
    tickets = order.lines.filter(ticket__isnull=False).count()
    assert tickets == (order.lines.count() if is_paid else 0)
    assert OutgoingEmail.objects.filter(reference=order.code, kind="confirmation").count() == (
        is_paid and order.email != ""
    )


def told(client: Client, order: Order) -> dict[str, Any]:
    """What the status call answers."""
    answer = client.get(order.address_of("payments:api-status"))
    assert answer.status_code == 200
    return answer.json()


def page(client: Client, order: Order, more: str = "") -> str:
    """The words of the order's page."""
    answer = client.get(order.get_absolute_url() + more)
    assert answer.status_code == 200
    return words(answer.content.decode())


def words(text: str) -> str:
    """As a person reads a page: no markup, single blanks."""
    body = re.sub(r"<(script|style).*?</\1>", " ", text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body)))


def letters(order: Order) -> list[str]:
    """The kinds of letters written about this order, in order."""
    return list(OutgoingEmail.objects.filter(reference=order.code).order_by("id").values_list("kind", flat=True))


def letter(order: Order, kind: str) -> str:
    """The subject and the text of the one letter of this kind, as it goes out now."""
    row = OutgoingEmail.objects.get(reference=order.code, kind=kind)
    mail.outbox.clear()
    assert emails.send(row.pk), "it goes out, once"
    [sent] = mail.outbox
    assert sent.to == [order.email]
    return words(f"{sent.subject} {sent.body}")


def staff() -> Client:
    """A browser in which a superuser is signed in to the back office."""
    desk = Client()
    desk.force_login(UserFactory(staff=True))
    return desk


def is_in_review(order: Order) -> bool:
    """Whether staff find the order on their list, and the index counts it."""
    assert (attention.waiting().review > 0) == Order.objects.exclude(needs_review="").exists()
    return order.code in staff().get("/admin/reservations/order/?review=yes").content.decode()


def refund_list(which: str) -> str:
    """The words of staff's list of refunds, `not_done` or `owed`."""
    return words(staff().get(f"/admin/payments/refund/?open={which}").content.decode())
