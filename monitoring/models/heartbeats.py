from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class Heartbeat(models.Model):
    """When a part of the office last showed a sign of life, by the database's clock."""

    part = models.CharField(
        _("part"), max_length=40, primary_key=True
    )  # "beat": schedule, broker and a worker, all three
    at = models.DateTimeField(_("at"), db_default=Now())

    class Meta:
        verbose_name = _("heartbeat")
        verbose_name_plural = _("heartbeats")

    def __str__(self) -> str:
        return f"{self.part}: {self.at:%Y-%m-%d %H:%M:%S}"
