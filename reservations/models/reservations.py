import uuid

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from config.money import Money
from config.state_machine import Transitions, status_is_known
from reservations.models.promo_codes import PromoCode
from ticketing.models import Event, Product, Quota, Slot


class ReservationStatus(models.TextChoices):
    ACTIVE = "ACTIVE", _("active")
    ORDERED = "ORDERED", _("ordered")
    CONFIRMED = "CONFIRMED", _("confirmed")
    RELEASED = "RELEASED", _("released")
    EXPIRED = "EXPIRED", _("expired")


class Reservation(models.Model):
    """What a buyer holds until `expires_at`. Its id is random (122 bits) and is the authority to see and use it.

    Created and ended by the database functions of migrations/sql; only an ACTIVE one can simply expire, an ORDERED
    one belongs to `payments.expiry`.
    """

    Status = ReservationStatus
    TRANSITIONS: Transitions = {
        ReservationStatus.ORDERED: frozenset({ReservationStatus.ACTIVE}),
        # A payment may succeed after its hold ended; if there is still room, it gets it back (orders.revive, nobody else).
        ReservationStatus.CONFIRMED: frozenset(
            {ReservationStatus.ORDERED, ReservationStatus.EXPIRED, ReservationStatus.RELEASED}
        ),
        ReservationStatus.RELEASED: frozenset({ReservationStatus.ACTIVE, ReservationStatus.ORDERED}),
        ReservationStatus.EXPIRED: frozenset({ReservationStatus.ACTIVE, ReservationStatus.ORDERED}),
    }

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    # Here and below, an index that only the deletion of a catalogue row would ask is left out: each hold pays for each.
    event = models.ForeignKey(
        Event, models.PROTECT, related_name="reservations", verbose_name=_("event"), db_index=False
    )
    status = models.CharField(_("status"), max_length=12, choices=ReservationStatus, default=ReservationStatus.ACTIVE)
    buyer_key = models.CharField(_("buyer"), max_length=43, blank=True, editable=False)  # random, from a cookie
    promo_code = models.ForeignKey(
        PromoCode, models.PROTECT, related_name="reservations", null=True, blank=True, verbose_name=_("promo code")
    )
    currency = models.CharField(_("currency"), max_length=3)
    created_at = models.DateTimeField(_("created at"), db_default=Now(), editable=False)
    expires_at = models.DateTimeField(_("expires at"))
    extended_at = models.DateTimeField(_("extended at"), null=True, blank=True)
    is_time_fixed = models.BooleanField(_("its buyer cannot extend it"), default=False, db_default=False)
    kept_at = models.DateTimeField(_("kept while payment was paused"), null=True, blank=True)  # by the system, once
    ended_at = models.DateTimeField(_("ended at"), null=True, blank=True)  # released or expired

    class Meta:
        verbose_name = _("reservation")
        verbose_name_plural = _("reservations")
        ordering = ["-created_at"]
        constraints = [status_is_known("reservation", ReservationStatus)]
        indexes = [
            # Which holds of this event can be taken back? Asked whenever a quota looks full.
            models.Index(
                fields=["event", "expires_at"], condition=Q(status="ACTIVE"), name="reservation_active_of_event"
            ),
            # The admin's list, newest first.
            models.Index(fields=["-created_at"], name="reservation_by_time"),
            # What does this browser hold of this event?
            models.Index(
                fields=["event", "buyer_key"],
                condition=Q(status="ACTIVE") & ~Q(buyer_key=""),
                name="reservation_active_of_buyer",
            ),
            # Who used this code?
            models.Index(
                fields=["promo_code"], condition=Q(promo_code__isnull=False), name="reservation_of_promo_code"
            ),
            # The sweep's question, over all events.
            models.Index(fields=["expires_at"], condition=Q(status="ACTIVE"), name="reservation_active_expiry"),
            # The question of payments.expiry.
            models.Index(fields=["expires_at"], condition=Q(status="ORDERED"), name="reservation_ordered_expiry"),
            # The purge's question.
            models.Index(
                fields=["ended_at"], condition=Q(status__in=["RELEASED", "EXPIRED"]), name="reservation_ended"
            ),
        ]

    def __str__(self) -> str:
        return str(self.pk)

    def get_absolute_url(self) -> str:
        return reverse("reservations:basket", args=[self.pk])


class ReservationLine(models.Model):
    """So many of one product (at one slot), at the price of the moment it was held."""

    # Found by the unique constraint's index.
    reservation = models.ForeignKey(Reservation, models.CASCADE, related_name="lines", db_index=False)
    product = models.ForeignKey(Product, models.PROTECT, related_name="+", db_index=False)
    slot = models.ForeignKey(Slot, models.PROTECT, related_name="+", null=True, blank=True, db_index=False)
    quantity = models.PositiveSmallIntegerField(_("quantity"))
    unit_price_minor = models.PositiveBigIntegerField(_("unit price in minor units"))
    discount_minor = models.PositiveBigIntegerField(_("discount on the line in minor units"), default=0)

    class Meta:
        verbose_name = _("reservation line")
        verbose_name_plural = _("reservation lines")
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["reservation", "product", "slot"],
                nulls_distinct=False,
                name="reservation_line_names_a_product_and_slot_once",
            ),
            models.CheckConstraint(condition=Q(quantity__gt=0), name="reservation_line_quantity_is_positive"),
            models.CheckConstraint(
                condition=Q(discount_minor__lte=models.F("unit_price_minor") * models.F("quantity")),
                name="reservation_line_discount_is_at_most_its_price",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} × {self.product}"

    @property
    def product_name(self) -> str:
        return self.product.name

    @property
    def slot_when(self) -> str:
        return self.slot.when if self.slot else ""

    @property
    def unit_price(self) -> Money:
        return Money(self.unit_price_minor, self.reservation.currency)

    @property
    def total(self) -> Money:
        return Money(self.unit_price_minor * self.quantity - self.discount_minor, self.reservation.currency)


class Claim(models.Model):
    """What a line took from a quota, written down with the taking.

    Release, sale and recount read claims only, never today's mapping of products to quotas.
    """

    line = models.ForeignKey(ReservationLine, models.CASCADE, related_name="claims", db_index=False)  # as above
    quota = models.ForeignKey(Quota, models.PROTECT, related_name="claims")
    quantity = models.PositiveSmallIntegerField(_("quantity"))

    class Meta:
        verbose_name = _("claim")
        verbose_name_plural = _("claims")
        constraints = [
            models.UniqueConstraint(fields=["line", "quota"], name="claim_names_a_quota_once_per_line"),
            models.CheckConstraint(condition=Q(quantity__gt=0), name="claim_quantity_is_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} of quota {self.quota_id}"


class UsedSignature(models.Model):
    """A signature that the maintenance endpoint has accepted; the same one again is a replay."""

    signature = models.CharField(_("signature"), max_length=64, primary_key=True)
    used_at = models.DateTimeField(_("used at"), db_default=Now(), editable=False)

    class Meta:
        verbose_name = _("used signature")
        verbose_name_plural = _("used signatures")

    def __str__(self) -> str:
        return self.signature[:12]


class ReservationKey(models.Model):
    """A client's idempotency key, bound to the reservation it was granted; refusals bind nothing."""

    key = models.CharField(_("key"), max_length=255, primary_key=True)
    request_hash = models.CharField(_("request hash"), max_length=64)
    reservation = models.ForeignKey(Reservation, models.CASCADE, related_name="keys")
    created_at = models.DateTimeField(_("created at"), db_default=Now(), editable=False)

    class Meta:
        verbose_name = _("idempotency key")
        verbose_name_plural = _("idempotency keys")

    def __str__(self) -> str:
        return self.key
