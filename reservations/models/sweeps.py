from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class SweepName(models.TextChoices):
    EXPIRED_HOLDS = "EXPIRED_HOLDS", _("expired holds")
    PURGE = "PURGE", _("purge of old rows")


class SweepRun(models.Model):
    """One run of a periodic clean-up: when, started by whom, how many rows it dealt with, what went wrong.

    A run that died has no `finished_at`; one that failed has an `error`; no run for minutes means nobody sweeps. All
    three are questions to these rows, so an alarm cannot be forgotten by the code that failed.
    """

    Name = SweepName

    name = models.CharField(_("sweep"), max_length=20, choices=SweepName)
    by = models.CharField(_("by"), max_length=40)  # beat, worker, command, endpoint, staff:<id>
    started_at = models.DateTimeField(_("started at"), db_default=Now(), editable=False)
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)
    dealt_with = models.PositiveIntegerField(_("dealt with"), default=0)
    error = models.CharField(_("error"), max_length=250, blank=True)

    class Meta:
        verbose_name = _("sweep run")
        verbose_name_plural = _("sweep runs")
        ordering = ["-started_at"]
        constraints = [
            models.CheckConstraint(condition=Q(name__in=SweepName.values), name="sweep_run_name_is_known"),
        ]
        indexes = [models.Index(fields=["name", "-started_at"], name="sweep_run_by_time")]

    def __str__(self) -> str:
        return f"{self.get_name_display()}, {self.started_at:%Y-%m-%d %H:%M:%S}"
