"""Every periodic task, one line with its reason.

Each is a sweep: it looks for rows that should have been dealt with and deals with them. The nudge that normally does
the work at once may be lost at any time; these may not. `FALLBACK` are the ones the worker runs by itself, without
Redis, while the broker is unreachable or beat is silent (monitoring.fallback).
"""

from typing import Any


def _every(seconds: float, task: str, queue: str) -> dict[str, Any]:
    # A run that waited longer than its own period is pointless: the next one finds the same rows.
    return {"task": task, "schedule": seconds, "options": {"queue": queue, "expires": max(seconds, 15)}}


SCHEDULE = {
    "events that no task picked up": _every(10, "payments.sweep_webhook_events", "checkout"),
    "orders whose time to pay is over": _every(15, "payments.sweep_expired_orders", "checkout"),
    "payments whose order no longer waits for them": _every(30, "payments.sweep_left_over_payments", "checkout"),
    "payments nobody told us about": _every(30, "payments.sweep_unheard_of_payments", "checkout"),
    "refunds that are not done": _every(30, "payments.submit_due_refunds", "checkout"),
    "events Stripe could not deliver": _every(120, "payments.fetch_missed_events", "background"),
    "is Stripe back?": _every(10, "payments.tend_to_outage", "checkout"),
    "holds past their time": _every(60, "reservations.release_expired_holds", "background"),
    "e-mails that are still unsent": _every(15, "ticketing.send_due_emails", "email"),
    "rows that nobody needs any more": _every(3600, "reservations.purge_old_rows", "background"),
    "what Stripe sent, long after it was dealt with": _every(3600, "payments.empty_old_payloads", "background"),
    "statistics of calls to Stripe, a month later": _every(3600, "payments.forget_old_calls", "background"),
    "proof that beat and the workers live": _every(15, "monitoring.beat", "background"),
}

# Each runs in a thread of its own there, so that a slow mail server or Stripe does not hold up the rest.
FALLBACK = (
    "payments.sweep_webhook_events",
    "payments.sweep_expired_orders",
    "payments.sweep_left_over_payments",
    "payments.sweep_unheard_of_payments",
    "payments.submit_due_refunds",
    "payments.tend_to_outage",
    "reservations.release_expired_holds",
    "ticketing.send_due_emails",
)

CAN_WAIT = (
    "reservations.purge_old_rows",
    "payments.empty_old_payloads",
    "payments.forget_old_calls",
    "payments.fetch_missed_events",  # payments nobody told us about are asked after one by one meanwhile
)
