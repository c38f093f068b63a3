"""An order that we lost (a backup restored, a row deleted by hand) comes back from what Stripe still knows of it.

Its payment succeeded and carries our metadata: the order's code, its reservation, its event and a snapshot of its
lines. The order is written down again as a cancelled one, so that settling it is an ordinary late success: tickets if
there is room, else the money goes back. Staff are shown it either way.
"""

import re
import uuid

import structlog
from django.db import transaction

from config.database import retried_on_conflict
from payments import matching, stripe_gateway
from payments.models import Payment
from payments.stripe_gateway import Buyer, Facts
from reservations import placement
from reservations.models import Order
from reservations.placement import LostLine, LostOrder

logger = structlog.get_logger(__name__)

_UNIT = re.compile(r"(\d{1,15}):(\d{1,15}):(\d{1,15}):(\d{1,15})x(\d{1,4})")
MOST_UNITS = 1_000


class CannotRebuild(Exception):
    """What Stripe knows is not enough, or it does not add up: staff decide."""


def rebuild(facts: Facts) -> Payment:
    """The payment of a lost order, ready to be settled; the same one when called again. No transaction is open.

    Raises CannotRebuild.
    """
    if facts.status != Payment.Status.SUCCEEDED or not facts.intent_id:
        raise CannotRebuild("nothing was paid")
    lost = _read(facts, buyer=stripe_gateway.buyer_of_intent(facts.intent_id))
    return _write(lost, facts)


@retried_on_conflict
@transaction.atomic
def _write(lost: LostOrder, facts: Facts) -> Payment:
    order = Order.objects.filter(code=lost.code).first()
    if order is None:
        try:
            order = placement.write_down_again(lost)
        except placement.DoesNotFit as reason:
            raise CannotRebuild(str(reason)) from reason
        why = "rebuilt from Stripe's copy; its buyer's old link is dead"
        if not lost.email:
            why += ", and Stripe knows no address to write to"
        Order.objects.filter(pk=order.pk).update(needs_review=why)
        logger.critical("order rebuilt from stripe", order=order.code, intent=facts.intent_id)
    return matching.orphan(order, facts)


def _read(facts: Facts, *, buyer: Buyer) -> LostOrder:
    told = facts.metadata
    try:
        reservation_id = uuid.UUID(told["reservation"])
        event_id = int(told["event"])
    except (KeyError, ValueError) as error:
        raise CannotRebuild("its metadata name no reservation and event") from error
    if not re.fullmatch(r"[0-9A-Z]{6,12}", told["order"]):
        raise CannotRebuild("its order code is none of ours")
    names = ["lines", *(f"lines_{n}" for n in range(2, 40))]
    text = ",".join(told[name] for name in names if told.get(name))
    lines = [LostLine(*map(int, unit.groups())) for part in text.split(",") if (unit := _UNIT.fullmatch(part))]
    if not lines or len(lines) != len(text.split(",")) or sum(line.quantity for line in lines) > MOST_UNITS:
        raise CannotRebuild("its lines cannot be read")
    total = sum((line.price_minor - line.discount_minor) * line.quantity for line in lines)
    if total != facts.amount_minor:
        raise CannotRebuild(f"its lines come to {total}, its amount is {facts.amount_minor} (minor units)")
    return LostOrder(
        code=told["order"],
        reservation_id=reservation_id,
        event_id=event_id,
        currency=facts.currency,
        email=buyer.email,
        name=buyer.name,
        lines=lines,
    )
