"""How money moves: our record of each attempt to pay, of what goes back, and of everything Stripe told us."""

from payments.models.history import StatusChange
from payments.models.payments import Payment
from payments.models.refunds import Refund
from payments.models.stripe_calls import Breaker, StripeCalls, StripeCursor
from payments.models.webhook_events import WebhookEvent

__all__ = ["Breaker", "Payment", "Refund", "StatusChange", "StripeCalls", "StripeCursor", "WebhookEvent"]
