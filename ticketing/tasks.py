"""Celery leaves of ticketing."""

from celery import shared_task

from ticketing import emails


@shared_task(name="ticketing.send_email")
def send_email(*, email_id: int) -> None:
    emails.send(email_id)


@shared_task(name="ticketing.send_due_emails")
def send_due_emails() -> None:
    emails.send_due()
