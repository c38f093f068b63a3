"""Outgoing e-mail: queued as a row with its cause, sent by a worker, at least once and normally exactly once.

A sender takes an e-mail by pushing its `next_attempt_at` into the future (a lease) before it speaks to the provider;
whoever dies in between leaves a row that the sweep takes up when the lease is over. The Message-ID is made from the
dedupe key, so that mail programs recognise even a letter sent twice as one.
"""

import hashlib
from datetime import timedelta
from typing import Any

import structlog
from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.template.loader import render_to_string

from config.failpoints import failpoint
from config.nudges import nudge
from config.state_machine import MoveRefused, move
from ticketing.models import OutgoingEmail

logger = structlog.get_logger(__name__)

LEASE = timedelta(minutes=2)
WAITS = [timedelta(seconds=s) for s in (20, 60, 300, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600)]


def queue(*, kind: str, to: str, reference: str, dedupe_key: str, context: dict[str, Any]) -> None:
    """Writes the e-mail down in the caller's transaction; a second call with the same key changes nothing.

    Whose address is not known (an order rebuilt from Stripe's copy) gets none: staff are shown that order.
    """
    if not to:
        logger.error("no address to write to", kind=kind, reference=reference)
        return
    email, is_new = OutgoingEmail.objects.get_or_create(
        dedupe_key=dedupe_key, defaults={"kind": kind, "to": to, "reference": reference, "context": context}
    )
    if is_new:
        nudge("ticketing.send_email", queue="email", email_id=email.pk)


def send(email_id: int) -> bool:
    """Sends one e-mail if it is due and nobody else is at it; True when it went out."""
    email = _take(email_id)
    if email is None:
        return False
    failpoint("before_email")
    try:
        provider_id = _deliver(email)  # network: outside any transaction
    except SoftTimeLimitExceeded:
        raise  # the task's time is over, not the letter's fault: its lease ends and the sweep finds it
    except Exception as error:  # whatever the provider's client raises, the letter is tried again
        _put_off(email, error)
        return False
    failpoint("after_email_before_mark")
    try:
        move(email, OutgoingEmail.Status.SENT, by="email", why="sent", sent_at=Now(), provider_id=provider_id)
    except MoveRefused:
        return False  # the lease ran out and another sender was quicker
    logger.info("e-mail sent", email=email.pk, kind=email.kind, reference=email.reference)
    return True


def send_due(*, limit: int = 100) -> int:
    """Sends up to `limit` e-mails that are due, oldest first; the number that went out."""
    due = OutgoingEmail.objects.filter(status=OutgoingEmail.Status.PENDING, next_attempt_at__lte=Now())
    ids = list(due.order_by("next_attempt_at", "id").values_list("pk", flat=True)[:limit])
    return sum(send(email_id) for email_id in ids)


@transaction.atomic
def send_again(email: OutgoingEmail, *, by: str) -> None:
    """Puts an e-mail back in the queue, for staff: a letter that never arrived."""
    if email.status != OutgoingEmail.Status.PENDING:
        move(email, OutgoingEmail.Status.PENDING, by=by, why="sent again", attempts=0, sent_at=None)
    OutgoingEmail.objects.filter(pk=email.pk).update(next_attempt_at=Now(), attempts=0)
    nudge("ticketing.send_email", queue="email", email_id=email.pk)


def _take(email_id: int) -> OutgoingEmail | None:
    due = OutgoingEmail.objects.filter(pk=email_id, status=OutgoingEmail.Status.PENDING, next_attempt_at__lte=Now())
    taken = due.update(next_attempt_at=Now() + LEASE, attempts=F("attempts") + 1)
    return OutgoingEmail.objects.get(pk=email_id) if taken else None


def _deliver(email: OutgoingEmail) -> str:
    name = f"emails/{email.kind}"
    subject = render_to_string(f"{name}.subject.txt", email.context).strip()
    message = EmailMultiAlternatives(
        subject=" ".join(subject.split()),
        body=render_to_string(f"{name}.txt", email.context),
        to=[email.to],
        reply_to=[address] if (address := email.context.get("reply_to")) else None,
        headers={"Message-ID": _message_id(email)},
    )
    message.attach_alternative(render_to_string(f"{name}.html", email.context), "text/html")
    message.send()
    status = getattr(message, "anymail_status", None)
    return str(getattr(status, "message_id", "") or "")


def _message_id(email: OutgoingEmail) -> str:
    domain = settings.DEFAULT_FROM_EMAIL.rpartition("@")[2].rstrip(">") or "localhost"
    return f"<{hashlib.sha256(email.dedupe_key.encode()).hexdigest()[:32]}@{domain}>"


def _put_off(email: OutgoingEmail, error: Exception) -> None:
    reason = f"{type(error).__name__}: {error}"[:250]
    logger.warning(
        "e-mail not sent", email=email.pk, kind=email.kind, attempts=email.attempts, error=type(error).__name__
    )
    if email.attempts > len(WAITS):
        move(email, OutgoingEmail.Status.DEAD, by="email", why="given up", last_error=reason)
        logger.error("e-mail given up", email=email.pk, kind=email.kind, reference=email.reference)
        return
    OutgoingEmail.objects.filter(pk=email.pk).update(
        next_attempt_at=Now() + WAITS[email.attempts - 1], last_error=reason
    )
