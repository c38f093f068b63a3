from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from ticketing.models import Product, Slot


class Conflict(models.Model):
    """Unmet demand: how often, in one minute, somebody was told that a product (at a slot) is sold out.

    Added up in each web process and written once a second (`reservations.demand`), so a rush costs few writes.
    """

    product = models.ForeignKey(Product, models.CASCADE, related_name="+", verbose_name=_("product"))
    slot = models.ForeignKey(Slot, models.CASCADE, related_name="+", null=True, blank=True, verbose_name=_("slot"))
    minute = models.DateTimeField(_("minute"))
    requests = models.PositiveIntegerField(_("requests"))
    units = models.PositiveIntegerField(_("units asked for"))

    class Meta:
        verbose_name = _("conflict")
        verbose_name_plural = _("conflicts")
        ordering = ["-minute", "product"]
        constraints = [
            models.UniqueConstraint(
                fields=["product", "slot", "minute"], nulls_distinct=False, name="conflict_counts_a_minute_once"
            ),
            models.CheckConstraint(condition=Q(requests__gt=0), name="conflict_counts_something"),
        ]
        indexes = [models.Index(fields=["minute"], name="conflict_by_minute")]

    def __str__(self) -> str:
        return f"{self.product_id}/{self.slot_id or '-'} {self.minute:%H:%M}: {self.requests}"


class Tally(models.Model):
    """How often in one minute something happened that needs no row of its own: repeated calls, refused webhooks."""

    name = models.CharField(_("what"), max_length=40)
    minute = models.DateTimeField(_("minute"))
    count = models.PositiveIntegerField(_("count"))

    class Meta:
        verbose_name = _("tally")
        verbose_name_plural = _("tallies")
        ordering = ["-minute", "name"]
        constraints = [
            models.UniqueConstraint(fields=["name", "minute"], name="tally_counts_a_minute_once"),
            models.CheckConstraint(condition=Q(count__gt=0), name="tally_counts_something"),
        ]
        indexes = [models.Index(fields=["-minute"], name="tally_by_minute")]

    def __str__(self) -> str:
        return f"{self.name} {self.minute:%H:%M}: {self.count}"


class LimitHit(models.Model):
    """Somebody who ran into a rate limit: which limit, who (a digest, or an address), how often in one minute."""

    limit = models.CharField(_("limit"), max_length=40)
    who = models.CharField(_("who"), max_length=64)
    minute = models.DateTimeField(_("minute"))
    hits = models.PositiveIntegerField(_("hits"))

    class Meta:
        verbose_name = _("rate limit hit")
        verbose_name_plural = _("rate limit hits")
        ordering = ["-minute", "-hits"]
        constraints = [
            models.UniqueConstraint(fields=["limit", "who", "minute"], name="limit_hit_counts_a_minute_once"),
            models.CheckConstraint(condition=Q(hits__gt=0), name="limit_hit_counts_something"),
        ]
        indexes = [models.Index(fields=["-minute"], name="limit_hit_by_minute")]

    def __str__(self) -> str:
        return f"{self.limit} {self.who} {self.minute:%H:%M}: {self.hits}"
