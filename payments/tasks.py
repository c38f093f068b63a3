"""Celery leaves of payments."""

from celery import shared_task

from payments import expiry, purge, webhooks


@shared_task(name="payments.process_webhook_event")
def process_webhook_event(*, webhook_event_id: int) -> None:
    webhooks.process(webhook_event_id)


@shared_task(name="payments.sweep_webhook_events")
def sweep_webhook_events() -> None:
    webhooks.sweep()


@shared_task(name="payments.sweep_expired_orders")
def sweep_expired_orders() -> None:
    expiry.close_due()


@shared_task(name="payments.empty_old_payloads")
def empty_old_payloads() -> None:
    purge.empty_old_payloads(for_seconds=purge.TASK_SECONDS)
