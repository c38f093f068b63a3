from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from config.state_machine import Transitions, status_is_known


class WebhookEventStatus(models.TextChoices):
    RECEIVED = "RECEIVED", _("received")
    PROCESSED = "PROCESSED", _("processed")
    IGNORED = "IGNORED", _("ignored")  # a type we do not handle
    PARKED = "PARKED", _("parked")  # nothing of ours matches it
    DEAD = "DEAD", _("dead")  # tried for a day in vain


class WebhookEvent(models.Model):
    """Something Stripe told us, stored before it was answered and acted on.

    Only its type and the id of its object are believed; the object itself is fetched from Stripe when it is processed.
    The payload is for people to read, and empty once it is old (`payments.purge`).
    """

    class Source(models.TextChoices):
        WEBHOOK = "WEBHOOK", _("webhook")
        BACKFILL = "BACKFILL", _("fetched from Stripe's list")

    Status = WebhookEventStatus
    TRANSITIONS: Transitions = {
        WebhookEventStatus.RECEIVED: frozenset({WebhookEventStatus.PARKED, WebhookEventStatus.DEAD}),  # by staff
        WebhookEventStatus.PROCESSED: frozenset({WebhookEventStatus.RECEIVED}),
        WebhookEventStatus.IGNORED: frozenset({WebhookEventStatus.RECEIVED}),
        WebhookEventStatus.PARKED: frozenset({WebhookEventStatus.RECEIVED}),
        WebhookEventStatus.DEAD: frozenset({WebhookEventStatus.RECEIVED}),
    }

    stripe_id = models.CharField(_("Stripe id"), max_length=255, unique=True, editable=False)
    type = models.CharField(_("type"), max_length=80)
    object_id = models.CharField(_("object"), max_length=255, blank=True, db_index=True)
    api_version = models.CharField(_("API version"), max_length=40, blank=True)
    is_livemode = models.BooleanField(_("live mode"), default=False)
    payload = models.JSONField(_("payload"), editable=False)
    status = models.CharField(
        _("status"), max_length=10, choices=WebhookEventStatus, default=WebhookEventStatus.RECEIVED
    )
    source = models.CharField(_("came by"), max_length=10, choices=Source, default=Source.WEBHOOK)
    duplicates = models.PositiveIntegerField(_("came again"), default=0)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    next_attempt_at = models.DateTimeField(_("next attempt at"), db_default=Now())
    last_error = models.TextField(_("last error"), blank=True)
    received_at = models.DateTimeField(_("received at"), db_default=Now(), editable=False)
    processed_at = models.DateTimeField(_("processed at"), null=True, blank=True)
    processing_ms = models.PositiveIntegerField(_("processing time (ms)"), null=True, blank=True)  # of the last attempt

    class Meta:
        verbose_name = _("webhook event")
        verbose_name_plural = _("webhook events")
        ordering = ["-id"]
        constraints = [status_is_known("webhook_event", WebhookEventStatus)]
        indexes = [
            # The sweep's question: what has nobody dealt with?
            models.Index(fields=["next_attempt_at"], condition=Q(status="RECEIVED"), name="webhook_event_due"),
            # The dashboard's question: what was given up?
            models.Index(fields=["id"], condition=Q(status__in=["PARKED", "DEAD"]), name="webhook_event_given_up"),
            # Is Stripe still talking to us?
            models.Index(fields=["-received_at"], name="webhook_event_by_time"),
            # The purge's question: whose payload is still kept?
            models.Index(
                fields=["processed_at"],
                condition=Q(status__in=["PROCESSED", "IGNORED"]) & ~Q(payload={}),
                name="webhook_event_payload_kept",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.stripe_id}"
