"""A payment at Stripe: the one module that knows whether it is a PaymentIntent or a Checkout Session."""

from payments import stripe_gateway
from payments.models import Payment
from payments.stripe_gateway import Facts

_NAMING = ("env", "order", "attempt")  # the metadata that tell our payments apart


def make(payment: Payment) -> Facts:
    """Makes it, by its committed key and parameters; the same one if that key has made it before."""
    make_it = stripe_gateway.create_session if _is_hosted(payment) else stripe_gateway.create_payment_intent
    return make_it(payment.request_params, idempotency_key=payment.idempotency_key)


def find(payment: Payment) -> Facts | None:
    """What Stripe has for this payment, by the metadata sent along; None when there is nothing."""
    sent = payment.request_params["metadata"]
    naming = {name: sent[name] for name in _NAMING}
    find_it = stripe_gateway.find_session if _is_hosted(payment) else stripe_gateway.find_payment_intent
    return find_it(naming, since=payment.created_at)


def fetch(payment: Payment) -> Facts:
    """How a payment that Stripe is known to have stands there now."""
    if payment.stripe_session_id:
        return stripe_gateway.retrieve_session(payment.stripe_session_id)
    return stripe_gateway.retrieve_payment_intent(payment.stripe_payment_intent_id or "")


def end(payment: Payment, facts: Facts | None = None) -> Facts:
    """Asks Stripe to end it, so that nothing can be charged any more, and says how it stands afterwards.

    `facts` name one that our row does not know yet. The key is one of its own for each attempt, committed before
    (`close_attempts`): Stripe would repeat a refusal ("it is processing") under the same key for a day, whatever became
    of it meanwhile. Ending twice does no harm.
    """
    session_id = facts.session_id if facts else payment.stripe_session_id
    intent_id = facts.intent_id if facts else payment.stripe_payment_intent_id
    key = f"cancel:{payment.idempotency_key}:{payment.close_attempts}"
    try:
        if (
            session_id
        ):  # its PaymentIntent cannot be cancelled apart from it (docs.stripe.com/api/payment_intents/cancel)
            return stripe_gateway.expire_session(session_id, idempotency_key=key)
        return stripe_gateway.cancel_payment_intent(intent_id or "", idempotency_key=key)
    except stripe_gateway.StripeRefused:  # too late to end: see what became of it
        if session_id:
            return stripe_gateway.retrieve_session(session_id)
        return stripe_gateway.retrieve_payment_intent(intent_id or "")


def _is_hosted(payment: Payment) -> bool:
    return payment.mode == Payment.Mode.HOSTED
