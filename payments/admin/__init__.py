"""Orders with their money, payments, and what Stripe told us.

The order's page is here and not in reservations.admin: it shows payments and asks Stripe, which stand above orders.
"""

from payments.admin import breaker, cursors, orders, payments, refunds, tallies, webhook_events

__all__ = ["breaker", "cursors", "orders", "payments", "refunds", "tallies", "webhook_events"]
