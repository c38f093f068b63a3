"""Celery leaves of payments."""

from celery import shared_task

from payments import backfill, breaker, expiry, outage, purge, refunds, settlement, webhooks


@shared_task(name="payments.process_webhook_event")
def process_webhook_event(*, webhook_event_id: int) -> None:
    webhooks.process(webhook_event_id)


@shared_task(name="payments.sweep_webhook_events")
def sweep_webhook_events() -> None:
    webhooks.sweep()


@shared_task(name="payments.sweep_expired_orders")
def sweep_expired_orders() -> None:
    expiry.close_due()


@shared_task(name="payments.sweep_left_over_payments")
def sweep_left_over_payments() -> None:
    expiry.close_left_over()


@shared_task(name="payments.sweep_unheard_of_payments")
def sweep_unheard_of_payments() -> None:
    settlement.sweep_unheard_of()


@shared_task(name="payments.submit_refund")
def submit_refund(*, refund_id: int) -> None:
    refunds.submit(refund_id)


@shared_task(name="payments.submit_due_refunds")
def submit_due_refunds() -> None:
    refunds.submit_due()


@shared_task(name="payments.fetch_missed_events")
def fetch_missed_events() -> None:
    backfill.fetch_missed_in_turn()


@shared_task(name="payments.tend_to_outage")
def tend_to_outage() -> None:
    outage.tend()


@shared_task(name="payments.empty_old_payloads")
def empty_old_payloads() -> None:
    purge.empty_old_payloads(for_seconds=purge.TASK_SECONDS)


@shared_task(name="payments.forget_old_calls")
def forget_old_calls() -> None:
    breaker.forget_old_calls()
