"""Which payment of ours is this object of Stripe's? By its id; else by the metadata we sent with it."""

from collections.abc import Callable

from django.conf import settings

from payments import stripe_gateway
from payments.models import Payment, Refund
from payments.stripe_gateway import Facts, RefundFacts
from reservations.models import Order


class NoMatch(Exception):
    """Nothing of ours, or not yet. `facts`: the object, where it carries our metadata and an order that we do not have."""

    def __init__(self, reason: str, *, facts: Facts | None = None) -> None:
        super().__init__(reason)
        self.facts = facts


def of_intent(intent_id: str) -> Payment:
    """The payment of this PaymentIntent; it is asked of Stripe only if no row names it. Raises NoMatch."""
    if payment := Payment.objects.filter(stripe_payment_intent_id=intent_id).first():
        return payment
    return _by_metadata(_found(lambda: stripe_gateway.retrieve_payment_intent(intent_id), intent_id))


def of_session(session_id: str) -> Payment:
    """The payment of this Checkout Session. Raises NoMatch."""
    if payment := Payment.objects.filter(stripe_session_id=session_id).first():
        return payment
    return _by_metadata(_found(lambda: stripe_gateway.retrieve_session(session_id), session_id))


def of_refund(facts: RefundFacts) -> Refund:
    """Our row for this refund. Raises NoMatch, also for one that was made at Stripe by hand."""
    if refund := Refund.objects.filter(stripe_refund_id=facts.id).first():
        return refund
    told = facts.metadata.get("refund", "")
    if facts.metadata.get("env") == _env() and told.isdecimal():
        ours = Refund.objects.filter(pk=int(told), stripe_refund_id=None)
        if refund := ours.filter(payment__stripe_payment_intent_id=facts.intent_id).first():
            return refund
    if Payment.objects.filter(stripe_payment_intent_id=facts.intent_id).exists():
        raise NoMatch(f"refund {facts.id} of our payment {facts.intent_id} was not asked for by us")
    raise NoMatch(f"no refund {facts.id}")


def _found(ask: Callable[[], Facts], object_id: str) -> Facts:
    try:
        return ask()
    except stripe_gateway.StripeRefused as refusal:
        if refusal.code == "resource_missing":
            raise NoMatch(f"Stripe does not know {object_id} under our key") from refusal
        raise


def _by_metadata(facts: Facts) -> Payment:
    """Ours by its metadata alone: the answer that named it was lost, or the event was quicker than our commit.

    One that our payment of this attempt does not know, because that is known under another id, was made for it a second
    time: it becomes a payment of its own, so that its money is not lost.
    """
    told, known_as = facts.metadata, facts.session_id or facts.intent_id or "?"
    if not told.get("order") or not told.get("env"):
        raise NoMatch(f"{known_as} does not carry our metadata")
    if told["env"] != _env() or facts.is_livemode != stripe_gateway.is_livemode():
        raise NoMatch(f"{known_as} belongs to {told['env']}")
    order = Order.objects.filter(code=told["order"]).first()
    if order is None:
        raise NoMatch(f"{known_as} is for the order {told['order']}, which is not here", facts=facts)
    payment = order.payments.filter(attempt=_number(told.get("attempt"))).first()
    if payment is None:
        raise NoMatch(f"{known_as} is for an attempt at {order.code} that is not here yet", facts=facts)
    if _fits(payment, facts):
        return payment
    if facts.status != Payment.Status.SUCCEEDED:
        raise NoMatch(f"{known_as} is a second one for {payment}, and nothing was paid with it")
    return orphan(order, facts)


def orphan(order: Order, facts: Facts) -> Payment:
    """A payment row for something that Stripe has and we have no row for; what was paid with it is then settled."""
    last = order.payments.order_by("-attempt").values_list("attempt", flat=True).first() or 0
    stripe_id = facts.intent_id or facts.session_id
    payment, _is_new = Payment.objects.get_or_create(
        idempotency_key=f"found:{stripe_id}",
        defaults={
            "order": order,
            "attempt": last + 1,
            "mode": Payment.Mode.HOSTED if facts.session_id else Payment.Mode.ELEMENTS,
            "status": Payment.Status.ORPHANED,
            "request_params": {},
            "stripe_payment_intent_id": facts.intent_id,
            "stripe_session_id": facts.session_id,
            "amount_minor": order.total_minor,
            "currency": order.currency,
            "is_livemode": facts.is_livemode,
        },
    )
    return payment


def _fits(payment: Payment, facts: Facts) -> bool:
    """Whether the ids agree as far as we know them. A session's PaymentIntent comes into being after the session."""
    if facts.session_id:
        return payment.mode == Payment.Mode.HOSTED and payment.stripe_session_id in (None, facts.session_id)
    return payment.stripe_payment_intent_id in (None, facts.intent_id)


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0


def _env() -> str:
    return settings.STRIPE_METADATA_ENV[:500]
