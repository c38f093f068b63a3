from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from ticketing.models.catalogue import Event, Slot


class Quota(models.Model):
    """A counted stock. A product may draw on several (its tier, its slot, the venue): all must have room.

    `held` and `sold` are moved by the database functions behind `ticketing.quotas` and by nothing else; the
    constraint is the last guard, whoever writes.
    """

    event = models.ForeignKey(Event, models.CASCADE, related_name="quotas", verbose_name=_("event"))
    slot = models.ForeignKey(
        Slot,
        models.CASCADE,
        related_name="quotas",
        null=True,
        blank=True,
        verbose_name=_("slot"),
        help_text=_("Empty: counts over all slots."),
    )
    name = models.CharField(_("name"), max_length=120)
    capacity = models.PositiveIntegerField(_("capacity"))
    held = models.IntegerField(_("held"), default=0, editable=False)
    sold = models.IntegerField(_("sold"), default=0, editable=False)

    class Meta:
        verbose_name = _("quota")
        verbose_name_plural = _("quotas")
        ordering = ["event", "slot__starts_at", "id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(held__gte=0) & Q(sold__gte=0) & Q(capacity__gte=F("held") + F("sold")),
                name="quota_is_never_oversold",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.slot})" if self.slot_id else self.name

    @property
    def free(self) -> int:
        """By the counters alone: holds past their time still count as held here until somebody takes them back."""
        return self.capacity - self.held - self.sold
