"""Celery leaves of monitoring."""

from celery import shared_task

from monitoring import heartbeats


@shared_task(name="monitoring.beat")
def beat() -> None:
    heartbeats.beat("beat")
