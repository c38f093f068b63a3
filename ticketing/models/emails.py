from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from config.state_machine import Transitions, status_is_known


class EmailStatus(models.TextChoices):
    PENDING = "PENDING", _("pending")
    SENT = "SENT", _("sent")
    DEAD = "DEAD", _("given up")


class OutgoingEmail(models.Model):
    """A letter to be sent: committed with its cause, sent by a worker, found by a sweep when nobody nudged.

    The context is frozen at the cause, so a later change of the event does not rewrite what was promised.
    """

    class Kind(models.TextChoices):
        CONFIRMATION = "confirmation", _("confirmation with tickets")
        ORDER_EXPIRED = "order_expired", _("the hold ended unpaid")
        REFUND = "refund", _("money goes back")

    Status = EmailStatus
    TRANSITIONS: Transitions = {
        EmailStatus.SENT: frozenset({EmailStatus.PENDING}),
        EmailStatus.DEAD: frozenset({EmailStatus.PENDING}),
        EmailStatus.PENDING: frozenset({EmailStatus.DEAD, EmailStatus.SENT}),  # sent again by staff
    }

    dedupe_key = models.CharField(_("dedupe key"), max_length=120, unique=True, editable=False)
    kind = models.CharField(_("kind"), max_length=24, choices=Kind)
    to = models.EmailField(_("to"))
    reference = models.CharField(_("reference"), max_length=64, db_index=True)  # the order's code
    context = models.JSONField(_("context"), editable=False)
    status = models.CharField(_("status"), max_length=10, choices=EmailStatus, default=EmailStatus.PENDING)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    next_attempt_at = models.DateTimeField(_("next attempt at"), db_default=Now())
    last_error = models.CharField(_("last error"), max_length=250, blank=True)
    provider_id = models.CharField(_("provider's id"), max_length=120, blank=True)
    created_at = models.DateTimeField(_("created at"), db_default=Now(), editable=False)
    sent_at = models.DateTimeField(_("sent at"), null=True, blank=True)

    class Meta:
        verbose_name = _("outgoing e-mail")
        verbose_name_plural = _("outgoing e-mails")
        ordering = ["-id"]
        constraints = [
            status_is_known("email", EmailStatus),
            models.CheckConstraint(
                condition=Q(status="SENT", sent_at__isnull=False) | ~Q(status="SENT"), name="email_sent_has_its_time"
            ),
        ]
        indexes = [
            # The sweep's question: what is due?
            models.Index(fields=["next_attempt_at"], condition=Q(status="PENDING"), name="email_due"),
            models.Index(fields=["id"], condition=Q(status="DEAD"), name="email_given_up"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.reference}"
