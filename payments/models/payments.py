from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from config.money import Money
from config.state_machine import Transitions, status_is_known
from reservations.models import Order


class PaymentStatus(models.TextChoices):
    NEW = "NEW", _("new")  # written down, Stripe not yet known to have it
    OPEN = "OPEN", _("open")  # the buyer can pay
    PROCESSING = "PROCESSING", _("processing")  # the bank decides
    SUCCEEDED = "SUCCEEDED", _("succeeded")
    CANCELLED = "CANCELLED", _("cancelled")
    FAILED = "FAILED", _("failed")
    ORPHANED = "ORPHANED", _("orphaned")  # Stripe has, or may have, something that nobody can pay any more


class Payment(models.Model):
    """One Stripe PaymentIntent (or Checkout Session), from before it exists.

    The row, with its idempotency key and the exact parameters, is committed before Stripe is called: a crash anywhere
    leaves a row that says what to do next. Amounts are minor units. `client_secret` is never stored.
    """

    class Mode(models.TextChoices):
        ELEMENTS = "ELEMENTS", _("on our page")
        HOSTED = "HOSTED", _("on Stripe's page")

    Status = PaymentStatus
    TRANSITIONS: Transitions = {
        PaymentStatus.OPEN: frozenset({PaymentStatus.NEW, PaymentStatus.PROCESSING}),
        PaymentStatus.PROCESSING: frozenset({PaymentStatus.OPEN}),
        # Whatever we believed, money that Stripe has taken is never denied.
        PaymentStatus.SUCCEEDED: frozenset(
            {
                PaymentStatus.OPEN,
                PaymentStatus.PROCESSING,
                PaymentStatus.CANCELLED,
                PaymentStatus.FAILED,
                PaymentStatus.ORPHANED,
            }
        ),
        PaymentStatus.CANCELLED: frozenset({PaymentStatus.NEW, PaymentStatus.OPEN, PaymentStatus.PROCESSING}),
        PaymentStatus.FAILED: frozenset({PaymentStatus.OPEN, PaymentStatus.PROCESSING}),
        PaymentStatus.ORPHANED: frozenset({PaymentStatus.NEW}),
    }
    UNDECIDED = (PaymentStatus.NEW, PaymentStatus.OPEN, PaymentStatus.PROCESSING)

    order = models.ForeignKey(Order, models.PROTECT, related_name="payments", verbose_name=_("order"))
    attempt = models.PositiveSmallIntegerField(_("attempt"), default=1)
    mode = models.CharField(_("mode"), max_length=10, choices=Mode, default=Mode.ELEMENTS)
    status = models.CharField(_("status"), max_length=12, choices=PaymentStatus, default=PaymentStatus.NEW)
    idempotency_key = models.CharField(_("idempotency key"), max_length=120, unique=True, editable=False)
    request_params = models.JSONField(_("parameters sent to Stripe"), editable=False)
    stripe_payment_intent_id = models.CharField(
        _("Stripe PaymentIntent"), max_length=80, unique=True, null=True, blank=True, editable=False
    )
    stripe_session_id = models.CharField(
        _("Stripe Checkout Session"), max_length=120, unique=True, null=True, blank=True, editable=False
    )
    amount_minor = models.PositiveBigIntegerField(_("amount in minor units"))
    amount_received_minor = models.PositiveBigIntegerField(_("received in minor units"), default=0)
    refunded_minor = models.PositiveBigIntegerField(
        _("refunded in minor units"),
        default=0,
        help_text=_("The sum of its refunds, asked for or done, that have not failed."),
    )
    currency = models.CharField(_("currency"), max_length=3)
    is_livemode = models.BooleanField(_("live mode"), default=False)
    last_error = models.CharField(_("last error"), max_length=250, blank=True)
    settled_by = models.CharField(_("settled by"), max_length=20, blank=True)  # webhook, poll, sync, expiry, sweep
    replays = models.PositiveIntegerField(_("times the checkout was repeated"), default=0)
    asked_at = models.DateTimeField(_("Stripe last asked at"), null=True, blank=True)
    sent_at = models.DateTimeField(_("first sent to Stripe at"), null=True, blank=True)
    close_attempts = models.PositiveIntegerField(_("attempts to close"), default=0)
    next_attempt_at = models.DateTimeField(_("next attempt to close at"), db_default=Now())
    created_at = models.DateTimeField(_("created at"), db_default=Now(), editable=False)
    succeeded_at = models.DateTimeField(_("succeeded at"), null=True, blank=True)

    class Meta:
        verbose_name = _("payment")
        verbose_name_plural = _("payments")
        ordering = ["-id"]
        constraints = [
            status_is_known("payment", PaymentStatus),
            models.UniqueConstraint(fields=["order", "attempt"], name="payment_attempts_differ_within_an_order"),
            models.UniqueConstraint(
                fields=["order"],
                condition=Q(status__in=["NEW", "OPEN", "PROCESSING"]),
                name="payment_undecided_is_at_most_one_per_order",
            ),
            models.CheckConstraint(
                condition=Q(status__in=["NEW", "ORPHANED", "CANCELLED"])
                | Q(stripe_payment_intent_id__isnull=False)
                | Q(stripe_session_id__isnull=False),
                name="payment_open_is_known_to_stripe",
            ),
            models.CheckConstraint(
                condition=Q(refunded_minor__lte=F("amount_received_minor")),
                name="payment_refunds_are_at_most_what_was_received",
            ),
        ]
        indexes = [
            # The sweeps' question: which payments may Stripe have decided without our noticing?
            models.Index(
                fields=["created_at"], condition=Q(status__in=["NEW", "OPEN", "PROCESSING"]), name="payment_undecided"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.order.code}/{self.attempt}"

    @property
    def stripe_id(self) -> str:
        """What Stripe calls it: the Checkout Session, or the PaymentIntent; empty while it is not known."""
        return self.stripe_session_id or self.stripe_payment_intent_id or ""

    @property
    def amount(self) -> Money:
        return Money(self.amount_minor, self.currency)
