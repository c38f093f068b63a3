"""Purchases as buyers make them, over the JSON contract, and the hands of the clock."""

import uuid
from datetime import timedelta
from typing import Any

from django.db import connection
from django.db.models.functions import Now
from django.test import Client

from payments.models import Payment
from reservations import holds
from reservations.models import Claim, Order, Reservation
from ticketing.models import Product, Quota, Slot

BUYER = {"email": "ada@example.org", "name": "Ada Lovelace"}


def hold(product: Product, quantity: int = 1, *, slot: Slot | None = None, key: str | None = None) -> holds.Hold:
    """A granted hold, by the domain function."""
    wanted = holds.Wanted(product.pk, slot.pk if slot else None, quantity)
    return holds.reserve(product.event.slug, lines=[wanted], key=key)[0]


def line(product: Product, quantity: int = 1, slot: Slot | None = None) -> dict[str, Any]:
    return {"product": product.pk, "slot": slot.pk if slot else None, "quantity": quantity}


def ask(client: Client, event: str, lines: list[dict[str, Any]], *, key: str | None = None, **more: Any) -> Any:
    """`POST /api/v1/reservations/`."""
    headers = {"Idempotency-Key": key} if key is not None else {}
    body = {"event": event, "lines": lines, **more}
    return client.post("/api/v1/reservations/", body, content_type="application/json", headers=headers)


def check_out(client: Client, reservation_id: uuid.UUID | str, **details: Any) -> Any:
    """`POST /api/v1/reservations/{id}/checkout/`."""
    address = f"/api/v1/reservations/{reservation_id}/checkout/"
    return client.post(address, BUYER | details, content_type="application/json")


def order_of(reservation_id: uuid.UUID | str) -> Order:
    return Order.objects.select_related("reservation", "event").get(reservation=reservation_id)


def ordered(client: Client, product: Product, quantity: int = 1, **details: Any) -> tuple[Order, Payment]:
    """An order that awaits its payment, open at the offline Stripe."""
    held = hold(product, quantity)
    answer = check_out(client, held.id, **details)
    assert answer.status_code == 201, answer.content
    order = order_of(held.id)
    return order, order.payments.get()


def end_time(reservation_id: uuid.UUID | str, *, seconds: float = 1) -> None:
    """The reservation's time ran out `seconds` ago, by the database's clock."""
    over = Now() - timedelta(seconds=seconds)
    assert Reservation.objects.filter(pk=reservation_id).update(expires_at=over) == 1


def counters(quota: Quota) -> tuple[int, int]:
    """(held, sold) as stored now."""
    return Quota.objects.values_list("held", "sold").get(pk=quota.pk)


def stock_of(product: Product) -> tuple[int, int]:
    """(held, sold) of the product's only quota."""
    return counters(product.quotas.get())


def recount(quota: Quota) -> tuple[int, int]:
    """(held, sold) counted anew from the claims: what the counters must say."""
    held = sold = 0
    for claim in Claim.objects.filter(quota=quota).select_related("line__reservation"):
        status = claim.line.reservation.status
        held += claim.quantity if status in (Reservation.Status.ACTIVE, Reservation.Status.ORDERED) else 0
        sold += claim.quantity if status == Reservation.Status.CONFIRMED else 0
    return held, sold


def sql(statement: str, parameters: list[Any] | None = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
