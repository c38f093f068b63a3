"""Celery leaves of reservations."""

from celery import shared_task

from reservations import holds


@shared_task(name="reservations.release_expired_holds")
def release_expired_holds() -> None:
    holds.release_expired()
