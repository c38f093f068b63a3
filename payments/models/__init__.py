"""How money moves: our record of each attempt to pay, and of everything Stripe told us."""

from payments.models.history import StatusChange
from payments.models.payments import Payment
from payments.models.webhook_events import WebhookEvent

__all__ = ["Payment", "StatusChange", "WebhookEvent"]
