from django.db import models
from django.utils.translation import gettext_lazy as _

from config.state_machine import StatusChange as AbstractStatusChange


class StatusChange(AbstractStatusChange):
    """Every status move of a reservation or an order: who, when, from, to, why. Append-only."""

    class Meta(AbstractStatusChange.Meta):
        verbose_name = _("status change of an order")
        verbose_name_plural = _("status changes of orders")
        indexes = [models.Index(fields=["kind", "object_id"], name="reservations_history_of")]
