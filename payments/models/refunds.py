from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from config.money import Money
from config.state_machine import Transitions, status_is_known
from payments.models.payments import Payment


class RefundStatus(models.TextChoices):
    REQUESTED = "REQUESTED", _("requested")  # written down; Stripe is not known to have it
    SUBMITTED = "SUBMITTED", _("submitted")  # Stripe has it, the money is on its way
    SUCCEEDED = "SUCCEEDED", _("succeeded")
    FAILED = "FAILED", _("failed")


class RefundReason(models.TextChoices):
    """Why money goes back. The first three are decided by settlement, in the commit that learns of the money."""

    LATE = "LATE", _("paid too late, no room left")
    SURPLUS = "SURPLUS", _("the order was paid already")
    MISMATCH = "MISMATCH", _("another amount or currency than the order's")
    STAFF = "STAFF", _("decided by staff")


class Refund(models.Model):
    """Money that goes back to a buyer, from before Stripe knows of it.

    The row, with its idempotency key, is committed with its cause; `payments.refunds` submits it and follows it. Amounts
    are minor units. Their sum is kept on the payment, whose constraint lets it never exceed what was received.
    """

    Status = RefundStatus
    Reason = RefundReason
    TRANSITIONS: Transitions = {
        RefundStatus.SUBMITTED: frozenset({RefundStatus.REQUESTED}),
        RefundStatus.SUCCEEDED: frozenset({RefundStatus.REQUESTED, RefundStatus.SUBMITTED}),
        # Also one that had succeeded: the buyer's bank may send the money back (docs.stripe.com/refunds#failed-refunds).
        RefundStatus.FAILED: frozenset({RefundStatus.REQUESTED, RefundStatus.SUBMITTED, RefundStatus.SUCCEEDED}),
    }
    OWED = (RefundStatus.REQUESTED, RefundStatus.SUBMITTED)
    AUTOMATIC = (RefundReason.LATE, RefundReason.SURPLUS, RefundReason.MISMATCH)

    payment = models.ForeignKey(Payment, models.PROTECT, related_name="refunds", verbose_name=_("payment"))
    attempt = models.PositiveSmallIntegerField(_("attempt"), default=1)  # a failed one is tried again as a new row
    idempotency_key = models.CharField(_("idempotency key"), max_length=120, unique=True, editable=False)
    amount_minor = models.PositiveBigIntegerField(_("amount in minor units"))
    currency = models.CharField(_("currency"), max_length=3)
    reason = models.CharField(_("reason"), max_length=10, choices=RefundReason)
    note = models.CharField(_("note"), max_length=250, blank=True)
    by = models.CharField(_("asked for by"), max_length=120)
    status = models.CharField(_("status"), max_length=10, choices=RefundStatus, default=RefundStatus.REQUESTED)
    stripe_refund_id = models.CharField(
        _("Stripe refund"), max_length=80, unique=True, null=True, blank=True, editable=False
    )
    sent_at = models.DateTimeField(_("first sent to Stripe at"), null=True, blank=True)
    attempts = models.PositiveIntegerField(_("attempts to submit"), default=0)
    next_attempt_at = models.DateTimeField(_("next attempt at"), db_default=Now())
    last_error = models.CharField(_("last error"), max_length=250, blank=True)
    created_at = models.DateTimeField(_("created at"), db_default=Now(), editable=False)
    succeeded_at = models.DateTimeField(_("succeeded at"), null=True, blank=True)

    class Meta:
        verbose_name = _("refund")
        verbose_name_plural = _("refunds")
        ordering = ["-id"]
        constraints = [
            status_is_known("refund", RefundStatus),
            models.CheckConstraint(condition=Q(reason__in=RefundReason.values), name="refund_reason_is_known"),
            models.CheckConstraint(condition=Q(amount_minor__gt=0), name="refund_amount_is_positive"),
            models.CheckConstraint(
                condition=~Q(status__in=["SUBMITTED", "SUCCEEDED"]) | Q(stripe_refund_id__isnull=False),
                name="refund_submitted_is_known_to_stripe",
            ),
            # By itself the office gives a payment's money back once; after a failure, once more.
            models.UniqueConstraint(
                fields=["payment"],
                condition=Q(reason__in=["LATE", "SURPLUS", "MISMATCH"]) & ~Q(status="FAILED"),
                name="refund_by_itself_is_at_most_one_per_payment",
            ),
        ]
        indexes = [
            # The sweep's question: what is not done yet?
            models.Index(
                fields=["next_attempt_at"], condition=Q(status__in=["REQUESTED", "SUBMITTED"]), name="refund_due"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.payment}: {self.amount}"

    @property
    def amount(self) -> Money:
        return Money(self.amount_minor, self.currency)
