from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from config.state_machine import Transitions, status_is_known


class BreakerStatus(models.TextChoices):
    CLOSED = "CLOSED", _("closed")  # calls go through
    OPEN = "OPEN", _("open")  # no call is made
    HALF_OPEN = "HALF_OPEN", _("half open")  # one call tries whether Stripe is back


class Breaker(models.Model):
    """The circuit breaker of the calls to Stripe, one row shared by every process (`payments.breaker`)."""

    Status = BreakerStatus
    TRANSITIONS: Transitions = {
        BreakerStatus.OPEN: frozenset({BreakerStatus.CLOSED, BreakerStatus.HALF_OPEN}),
        BreakerStatus.HALF_OPEN: frozenset({BreakerStatus.OPEN}),
        BreakerStatus.CLOSED: frozenset({BreakerStatus.OPEN, BreakerStatus.HALF_OPEN}),
    }

    name = models.CharField(_("name"), max_length=20, primary_key=True)  # "stripe"
    status = models.CharField(_("status"), max_length=10, choices=BreakerStatus, default=BreakerStatus.CLOSED)
    why = models.CharField(_("why"), max_length=250, blank=True)
    changed_at = models.DateTimeField(_("since"), db_default=Now())
    probe_until = models.DateTimeField(_("probe under way until"), null=True, blank=True)

    class Meta:
        verbose_name = _("circuit breaker")
        verbose_name_plural = _("circuit breakers")
        constraints = [status_is_known("breaker", BreakerStatus)]

    def __str__(self) -> str:
        return self.name


class StripeCalls(models.Model):
    """How many calls to Stripe ended how, in ten seconds, over all processes. Statistics: the table is unlogged."""

    class Outcome(models.TextChoices):
        OK = "OK", _("answered")
        REFUSED = "REFUSED", _("refused")  # understood, and said no: Stripe is well
        LIMITED = "LIMITED", _("too many requests")
        UNAVAILABLE = "UNAVAILABLE", _("no answer, or a failure")
        MISCONFIGURED = "MISCONFIGURED", _("our key is refused")

    at = models.DateTimeField(_("ten seconds from"))
    operation = models.CharField(_("operation"), max_length=40)
    outcome = models.CharField(_("outcome"), max_length=14, choices=Outcome)
    calls = models.PositiveIntegerField(_("calls"))
    milliseconds = models.PositiveBigIntegerField(_("milliseconds, added up"))

    class Meta:
        verbose_name = _("calls to Stripe")
        verbose_name_plural = _("calls to Stripe")
        ordering = ["-at"]
        constraints = [
            models.UniqueConstraint(fields=["at", "operation", "outcome"], name="stripe_calls_are_counted_once"),
            models.CheckConstraint(condition=Q(calls__gt=0), name="stripe_calls_count_something"),
        ]

    def __str__(self) -> str:
        return f"{self.operation} {self.outcome}: {self.calls}"


class StripeCursor(models.Model):
    """How far something was read from Stripe's lists, so that the next run goes on from there."""

    name = models.CharField(_("list"), max_length=20, primary_key=True)
    read_to = models.DateTimeField(_("read to"))  # created at Stripe at most then
    finished_at = models.DateTimeField(_("last run finished at"), null=True, blank=True)

    class Meta:
        verbose_name = _("place in Stripe's lists")
        verbose_name_plural = _("places in Stripe's lists")

    def __str__(self) -> str:
        return self.name
