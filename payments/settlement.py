"""Settlement: our books follow the money. One function, many callers: webhook, status page, expiry, sweeps, staff.

A caller that has only a hint first fetches the truth from Stripe with no transaction open (`sync`); `settle` then
checks the facts and moves payment, order, reservation, tickets, e-mail, refund and counters together, in one commit. A
second call finds nothing to do. A success always ends as tickets or as a refund.
"""

from datetime import timedelta

import structlog
from celery.exceptions import SoftTimeLimitExceeded
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from config.database import retried_on_conflict
from config.failpoints import failpoint
from config.state_machine import move
from payments import refunds, stripe_gateway, truth
from payments.models import Payment, Refund
from payments.stripe_gateway import Facts
from reservations import holds, orders
from reservations.models import Order, Reservation

logger = structlog.get_logger(__name__)

ASK_AGAIN_AFTER = timedelta(seconds=2)
# A payment that nobody told us about: its webhook was lost and its buyer has left.
UNHEARD_OF_AFTER = timedelta(minutes=2)
ASK_BANK_AFTER = timedelta(hours=1)


class WrongMode(Exception):
    """Test money in a live office, or live money in a test: not ours to settle."""


def sync(order_id: int, *, by: str) -> None:
    """Asks Stripe about the order's undecided payment and settles what it says.

    At most once in ASK_AGAIN_AFTER per payment, however often and from wherever it is called: others meanwhile read
    what the first one found. Raises the gateway's exceptions when Stripe cannot be asked.
    """
    payment = Payment.objects.filter(order=order_id, status__in=Payment.UNDECIDED).first()
    if payment is None or not payment.stripe_id:
        return
    ours = Payment.objects.filter(Q(asked_at=None) | Q(asked_at__lte=Now() - ASK_AGAIN_AFTER), pk=payment.pk)
    if ours.update(asked_at=Now()):
        settle(payment.pk, facts=truth.fetch(payment), by=by)


def sweep_unheard_of(*, limit: int = 100) -> int:
    """Asks Stripe about open payments of which nothing was heard for minutes; how many were asked.

    Only while their order can still be paid in time: after that, payments.expiry closes them.
    """
    is_open = Q(status=Payment.Status.OPEN) & (Q(asked_at=None) | Q(asked_at__lte=Now() - UNHEARD_OF_AFTER))
    at_bank = Q(status=Payment.Status.PROCESSING) & (Q(asked_at=None) | Q(asked_at__lte=Now() - ASK_BANK_AFTER))
    quiet = Payment.objects.filter(
        is_open | at_bank,
        created_at__lte=Now() - UNHEARD_OF_AFTER,
        order__status=Order.Status.AWAITING_PAYMENT,
        order__reservation__status=Reservation.Status.ORDERED,
    )
    asked = 0
    for order_id in quiet.order_by("created_at").values_list("order_id", flat=True)[:limit]:
        try:
            sync(order_id, by="sweep")
        except stripe_gateway.StripePaused:
            break
        except stripe_gateway.NO_WORD as error:
            logger.warning("payment could not be asked after", order_id=order_id, error=str(error))
        except SoftTimeLimitExceeded:
            raise  # the task's time is over: what is left is found again
        except Exception:
            logger.exception("payment could not be settled", order_id=order_id)
        asked += 1
    return asked


def settle(payment_id: int, *, facts: Facts, by: str) -> Payment:
    """Makes our books agree with `facts`, freshly fetched. `by` says who noticed: webhook, poll, sync, expiry, sweep, staff.

    1. Lock reservation, order, payment, in that order. 2. What Stripe says never moves us backwards: a payment that
    is decided stays so, unless Stripe has taken money after all. 3. A success is believed only if amount and currency
    are the order's; otherwise nothing is issued and the money goes back. 4. Success confirms the order; if the order is
    paid already, the money goes back; if it was closed, it gets its stock again where there is still room, and else the
    money goes back. Each of these is this one commit. 5. Cancellation frees nothing by itself: whoever cancelled
    (payments.expiry) closes the order too.

    Raises WrongMode.
    """
    make_room(payment_id, facts=facts)
    return settle_in(payment_id, facts=facts, by=by)


def make_room(payment_id: int, *, facts: Facts) -> None:
    """Before a late success is settled, holds past their time give back what they still count for. In no transaction."""
    is_late = Payment.objects.filter(pk=payment_id, order__status=Order.Status.CANCELLED).exclude(status="SUCCEEDED")
    if facts.status == Payment.Status.SUCCEEDED and is_late.exists():
        holds.release_expired(at_most=10_000)


@retried_on_conflict
@transaction.atomic
def settle_in(payment_id: int, *, facts: Facts, by: str) -> Payment:
    """`settle` for callers with a transaction of their own, who call `make_room` before it."""
    if facts.is_livemode != stripe_gateway.is_livemode():
        logger.critical("payment in the other mode", payment=payment_id, livemode=facts.is_livemode)
        raise WrongMode("live and test mode are mixed")
    order_id = Payment.objects.values_list("order_id", flat=True).get(pk=payment_id)
    order = orders.lock(order_id)
    payment = Payment.objects.select_for_update(of=("self",)).get(pk=payment_id)
    _learn_ids(payment, facts, by=by)
    status = facts.status
    # The bank's "no" leaves its error on the intent; without one, "open" after "processing" is an answer grown old.
    is_stale = payment.status == Payment.Status.PROCESSING and status == Payment.Status.OPEN and not facts.last_error
    if status == Payment.Status.SUCCEEDED and payment.status in payment.TRANSITIONS[status]:
        _succeed(payment, order, facts, by=by)
    elif status in payment.TRANSITIONS and payment.status in payment.TRANSITIONS[status] and not is_stale:
        move(payment, status, by=by, why=f"Stripe says {facts.stripe_status}")
    return _note_error(payment, facts)


def _learn_ids(payment: Payment, facts: Facts, *, by: str) -> None:
    """The answer that named the payment was lost, or, with a session, its PaymentIntent came later."""
    if payment.status == Payment.Status.NEW:
        move(
            payment,
            Payment.Status.OPEN,
            by=by,
            why="found at Stripe",
            stripe_payment_intent_id=facts.intent_id,
            stripe_session_id=facts.session_id,
            is_livemode=facts.is_livemode,
        )
    elif facts.intent_id and not payment.stripe_payment_intent_id:
        payment.stripe_payment_intent_id = facts.intent_id
        payment.save(update_fields=["stripe_payment_intent_id"])


def _succeed(payment: Payment, order: Order, facts: Facts, *, by: str) -> None:
    was = payment.status
    move(
        payment,
        Payment.Status.SUCCEEDED,
        by=by,
        why=f"Stripe says {facts.stripe_status}",
        amount_received_minor=facts.amount_received_minor,
        settled_by=by,
        succeeded_at=Now(),
    )
    failpoint("in_settle_0")
    if was not in Payment.UNDECIDED:
        logger.critical("paid after all", order=order.code, payment=payment.pk, our_books_said=was)
    if difference := _difference(payment, facts):
        _does_not_fit(payment, order, facts, difference, by=by)
    elif order.status == Order.Status.AWAITING_PAYMENT:
        orders.confirm(order, by=by, why="paid")
        logger.info("order paid", order=order.code, payment=payment.pk, by=by)
    elif order.status == Order.Status.PAID:
        refunds.give_back(payment, order, reason=Refund.Reason.SURPLUS, by=by, note="the order had been paid already")
    else:
        _late(payment, order, by=by)


def _late(payment: Payment, order: Order, *, by: str) -> None:
    """Paid after the order was closed: tickets if there is still room for all of it, else the money goes back."""
    try:
        with transaction.atomic():
            orders.revive(order, by=by, why="paid late, there was still room")
    except orders.NoRoom as no_room:
        order.refresh_from_db()
        refunds.give_back(payment, order, reason=Refund.Reason.LATE, by=by, note=str(no_room))
    else:
        logger.warning("order paid late", order=order.code, payment=payment.pk, by=by)


def _does_not_fit(payment: Payment, order: Order, facts: Facts, difference: str, *, by: str) -> None:
    refunds.give_back(payment, order, reason=Refund.Reason.MISMATCH, by=by, note=difference, currency=facts.currency)
    Order.objects.filter(pk=order.pk).update(needs_review=difference)
    logger.critical("payment does not fit its order", order=order.code, payment=payment.pk, reason=difference)
    if order.status == Order.Status.AWAITING_PAYMENT:
        orders.cancel(order, to=Reservation.Status.RELEASED, by=by, why=difference, is_told=False)


def _difference(payment: Payment, facts: Facts) -> str:
    """In words, how what was paid differs from what was owed; empty when it fits."""
    if (facts.amount_received_minor, facts.currency) == (payment.amount_minor, payment.currency):
        return ""
    paid = f"{facts.amount_received_minor} {facts.currency}"
    return f"paid {paid} instead of {payment.amount_minor} {payment.currency} (minor units)"


def _note_error(payment: Payment, facts: Facts) -> Payment:
    """A declined card changes nothing but what staff can read."""
    if facts.last_error and facts.last_error[:250] != payment.last_error:
        payment.last_error = facts.last_error[:250]
        payment.save(update_fields=["last_error"])
    return payment
