"""Shapes of the JSON contract: checkout and orders."""

from collections.abc import Callable
from typing import Any

from rest_framework import serializers

from config.dates import rfc3339
from payments.checkout import Checkout
from payments.models import Payment, Refund
from reservations.models import Order, OrderLine
from reservations.names import validate_name
from reservations.serializers import MoneySerializer
from ticketing.models import EventKey, Ticket
from ticketing.qr_codes import key_of, qr_text

ORDER_STATUSES = [status.lower() for status in Order.Status.values]
REFUND_STATUSES = [status.lower() for status in Refund.Status.values]
TICKET_STATUSES = [status.lower() for status in Ticket.Status.values]

Absolute = Callable[[str], str]  # makes a full address of a path


class CheckoutRequestSerializer(serializers.Serializer):
    email = serializers.EmailField(max_length=254)
    name = serializers.CharField(max_length=150, validators=[validate_name])
    mode = serializers.ChoiceField(
        choices=["elements", "hosted"], required=False, help_text="Where to pay; without it, as the event has it"
    )


class CheckoutOrderSerializer(serializers.Serializer):
    code = serializers.CharField()
    secret = serializers.CharField()
    status = serializers.ChoiceField(choices=ORDER_STATUSES)
    url = serializers.URLField()
    status_url = serializers.URLField()


class CheckoutPaymentSerializer(serializers.Serializer):
    id = serializers.IntegerField()
    mode = serializers.ChoiceField(choices=["elements", "hosted"])
    stripe_payment_intent_id = serializers.CharField(allow_null=True)
    client_secret = serializers.CharField(allow_null=True)
    redirect_url = serializers.URLField(allow_null=True)


class CheckoutSerializer(serializers.Serializer):
    """Documents the answer; `checkout_json` makes it."""

    order = CheckoutOrderSerializer()
    payment = CheckoutPaymentSerializer(allow_null=True)


class OrderStatusSerializer(serializers.Serializer):
    """Documents the answer; `OrderStatus.as_json` makes it."""

    order = serializers.ChoiceField(choices=ORDER_STATUSES)
    payment = serializers.CharField()
    tickets = serializers.IntegerField()
    refund = serializers.ChoiceField(choices=["none", "partial", "full"])
    done = serializers.BooleanField()
    next_poll_ms = serializers.IntegerField()
    sync_now = serializers.BooleanField()
    message = serializers.CharField()


class OrderLineSerializer(serializers.Serializer):
    id = serializers.IntegerField()
    product = serializers.IntegerField()
    slot = serializers.IntegerField(allow_null=True)
    price = MoneySerializer()
    discount = MoneySerializer()
    ticket = serializers.IntegerField(allow_null=True, help_text="The ticket's serial")


class TicketSerializer(serializers.Serializer):
    serial = serializers.IntegerField()
    number = serializers.CharField()
    status = serializers.ChoiceField(choices=TICKET_STATUSES)
    secret = serializers.CharField()
    qr = serializers.CharField()
    entries_total = serializers.IntegerField()
    entries_used = serializers.IntegerField()
    valid_from = serializers.DateTimeField(allow_null=True)
    valid_until = serializers.DateTimeField(allow_null=True)
    url = serializers.URLField()
    pdf_url = serializers.URLField(allow_null=True)


class RefundSerializer(serializers.Serializer):
    id = serializers.IntegerField()
    status = serializers.ChoiceField(choices=REFUND_STATUSES)
    amount = MoneySerializer()
    at = serializers.DateTimeField(help_text="When it succeeded, else when it was asked for")


class OrderSerializer(serializers.Serializer):
    """Documents the answer; `order_json` makes it."""

    code = serializers.CharField()
    status = serializers.ChoiceField(choices=ORDER_STATUSES)
    event = serializers.CharField()
    lines = OrderLineSerializer(many=True)
    tickets = TicketSerializer(many=True)
    refunds = RefundSerializer(many=True)
    total = MoneySerializer()


def checkout_json(done: Checkout, *, absolute: Absolute) -> dict[str, Any]:
    """The answer to a checkout; `absolute` makes full addresses of paths."""
    payment, facts = None, done.facts
    if done.payment is not None:
        is_hosted = done.payment.mode == Payment.Mode.HOSTED
        intent_id = facts.intent_id if facts else done.payment.stripe_payment_intent_id
        payment = {
            "id": done.payment.pk,
            "mode": done.payment.mode.lower(),
            "stripe_payment_intent_id": None if is_hosted else intent_id,
            "client_secret": (facts.client_secret or None) if facts and not is_hosted else None,
            "redirect_url": (facts.redirect_url or None) if facts and is_hosted else None,
        }
    return {"order": placed_json(done.order, absolute=absolute), "payment": payment}


def placed_json(order: Order, *, absolute: Absolute) -> dict[str, Any]:
    """The order's part of a checkout's answer."""
    return {
        "code": order.code,
        "secret": order.secret,
        "status": order.status.lower(),
        "url": absolute(order.get_absolute_url()),
        "status_url": absolute(order.address_of("payments:api-status")),
    }


def order_json(order: Order, *, absolute: Absolute) -> dict[str, Any]:
    """An order with its lines and tickets."""
    lines = list(order.lines.select_related("ticket__event"))
    for line in lines:
        line.order = order
    tickets = [line.ticket for line in lines if line.ticket]
    key = key_of(order.event) if tickets else None
    return {
        "code": order.code,
        "status": order.status.lower(),
        "event": order.event.slug,
        "lines": [_line_json(line) for line in lines],
        "tickets": [_ticket_json(ticket, key, absolute) for ticket in tickets],
        "refunds": [_refund_json(refund) for refund in Refund.objects.filter(payment__order=order).order_by("id")],
        "total": order.total.as_json(),
    }


def _refund_json(refund: Refund) -> dict[str, Any]:
    return {
        "id": refund.pk,
        "status": refund.status.lower(),
        "amount": refund.amount.as_json(),
        "at": rfc3339(refund.succeeded_at or refund.created_at),
    }


def _line_json(line: OrderLine) -> dict[str, Any]:
    return {
        "id": line.pk,
        "product": line.product_id,
        "slot": line.slot_id,
        "price": line.price.as_json(),
        "discount": line.discount.as_json(),
        "ticket": line.ticket.serial if line.ticket else None,
    }


def _ticket_json(ticket: Ticket, key: EventKey | None, absolute: Absolute) -> dict[str, Any]:
    return {
        "serial": ticket.serial,
        "number": ticket.number,
        "status": ticket.status.lower(),
        "secret": ticket.secret,
        "qr": qr_text(ticket, key),
        "entries_total": ticket.entries_total,
        "entries_used": ticket.entries_used,
        "valid_from": rfc3339(ticket.valid_from) if ticket.valid_from else None,
        "valid_until": rfc3339(ticket.valid_until) if ticket.valid_until else None,
        "url": absolute(ticket.get_absolute_url()),
        "pdf_url": None,
    }
