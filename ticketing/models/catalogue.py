from zoneinfo import available_timezones

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from config.dates import in_words, span_in_words
from config.money import Money
from config.state_machine import status_is_known


def validate_time_zone(name: str) -> None:
    if name not in available_timezones():
        raise ValidationError(_("%(name)s is not a time zone; write it like Europe/Berlin."), params={"name": name})


class Organiser(models.Model):
    """Who sells: a club, a theatre, a school."""

    name = models.CharField(_("name"), max_length=120)
    slug = models.SlugField(_("short name"), unique=True)
    email = models.EmailField(_("e-mail address"), blank=True, help_text=_("Where buyers' answers go."))
    created_at = models.DateTimeField(_("created at"), db_default=Now(), editable=False)

    class Meta:
        verbose_name = _("organiser")
        verbose_name_plural = _("organisers")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class EventStatus(models.TextChoices):
    """Whether buyers see it. Set by staff in the admin, in any direction."""

    DRAFT = "DRAFT", _("draft")
    PUBLISHED = "PUBLISHED", _("published")
    CANCELLED = "CANCELLED", _("cancelled")


class PaymentMode(models.TextChoices):
    """Where buyers of an event pay, unless an API client asks for the other."""

    ELEMENTS = "ELEMENTS", _("on our page")
    HOSTED = "HOSTED", _("on Stripe's page")


class Event(models.Model):
    """Something people buy tickets for."""

    Status = EventStatus
    PaymentMode = PaymentMode

    organiser = models.ForeignKey(Organiser, models.PROTECT, related_name="events", verbose_name=_("organiser"))
    name = models.CharField(_("name"), max_length=160)
    slug = models.SlugField(_("address"), unique=True, max_length=80, help_text=_("The page will be /events/…/"))
    status = models.CharField(_("status"), max_length=12, choices=Status, default=Status.DRAFT)
    summary = models.CharField(_("summary"), max_length=200, blank=True, help_text=_("One line for the list."))
    description = models.TextField(_("description"), blank=True)
    venue_name = models.CharField(_("venue"), max_length=160, blank=True)
    venue_address = models.CharField(_("venue's address"), max_length=250, blank=True)
    starts_at = models.DateTimeField(_("starts at"))
    ends_at = models.DateTimeField(_("ends at"))
    time_zone = models.CharField(
        _("time zone"), max_length=64, default="Europe/Berlin", validators=[validate_time_zone]
    )
    currency = models.CharField(
        _("currency"),
        max_length=3,
        default="EUR",
        validators=[RegexValidator(r"^[A-Z]{3}$", _("Three capitals, like EUR."))],
    )
    hold_window_minutes = models.PositiveSmallIntegerField(
        _("hold time (minutes)"),
        default=15,
        validators=[MinValueValidator(5), MaxValueValidator(60)],
        help_text=_("How long a chosen ticket stays the buyer's before it is paid: 5 to 60."),
    )
    extension_minutes = models.PositiveSmallIntegerField(
        _("extension (minutes)"),
        default=10,
        validators=[MaxValueValidator(60)],
        help_text=_("Added once on request; 0 switches extensions off."),
    )
    payment_mode = models.CharField(
        _("buyers pay"),
        max_length=10,
        choices=PaymentMode,
        default=PaymentMode.ELEMENTS,
        help_text=_("Stripe's page also asks for the billing address. The hold's time is the same in both."),
    )
    accepts_slow_payments = models.BooleanField(
        _("bank debits accepted"),
        default=False,
        help_text=_(
            "Also ways to pay that take days (bank debits, vouchers). Their places stay kept until the bank answers; they "
            "are not offered where that may be after the start."
        ),
    )
    created_at = models.DateTimeField(_("created at"), db_default=Now(), editable=False)

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        ordering = ["starts_at", "id"]
        constraints = [
            status_is_known("event", EventStatus),
            models.CheckConstraint(condition=Q(ends_at__gt=F("starts_at")), name="event_ends_after_it_starts"),
            models.CheckConstraint(
                condition=Q(hold_window_minutes__range=(5, 60)), name="event_hold_window_is_5_to_60_minutes"
            ),
            models.CheckConstraint(
                condition=Q(payment_mode__in=PaymentMode.values), name="event_payment_mode_is_known"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("reservations:event", args=[self.slug])

    @property
    def when(self) -> str:
        return span_in_words(self.starts_at, self.ends_at, self.time_zone)

    @property
    def poster(self) -> int:
        """Which of the eight drawn posters stands for this event."""
        return sum(self.slug.encode()) % 8


class Slot(models.Model):
    """One time at which an event can be attended."""

    event = models.ForeignKey(Event, models.CASCADE, related_name="slots", verbose_name=_("event"))
    starts_at = models.DateTimeField(_("starts at"))
    ends_at = models.DateTimeField(_("ends at"))

    class Meta:
        verbose_name = _("slot")
        verbose_name_plural = _("slots")
        ordering = ["starts_at", "id"]
        constraints = [
            models.UniqueConstraint(fields=["event", "starts_at"], name="slot_times_differ_within_an_event"),
            models.CheckConstraint(condition=Q(ends_at__gt=F("starts_at")), name="slot_ends_after_it_starts"),
        ]

    def __str__(self) -> str:
        return self.when

    @property
    def when(self) -> str:
        return span_in_words(self.starts_at, self.ends_at, self.event.time_zone)


class ProductKind(models.TextChoices):
    """What the buyer gets, and how it is used at the door."""

    ADMISSION = "ADMISSION", _("admission")
    PASS = "PASS", _("pass")
    DROP = "DROP", _("drop")


class Product(models.Model):
    """A thing with a price: an admission, a pass of several entries, a piece of a limited drop.

    What it draws its stock from is said by its quotas; a product without one cannot be bought. A product is sold by
    slot where one of its quotas belongs to a slot.
    """

    Kind = ProductKind

    event = models.ForeignKey(Event, models.CASCADE, related_name="products", verbose_name=_("event"))
    name = models.CharField(_("name"), max_length=120)
    description = models.CharField(_("description"), max_length=300, blank=True)
    kind = models.CharField(_("kind"), max_length=10, choices=Kind, default=Kind.ADMISSION)
    price_minor = models.PositiveBigIntegerField(
        _("price in minor units"), help_text=_("2500 is 25.00 in most currencies; 0 is free.")
    )
    position = models.PositiveSmallIntegerField(_("position"), default=0)
    max_per_order = models.PositiveSmallIntegerField(
        _("most per order"), default=10, validators=[MinValueValidator(1), MaxValueValidator(100)]
    )
    sale_starts_at = models.DateTimeField(_("sale starts at"), null=True, blank=True, help_text=_("Empty: at once."))
    sale_ends_at = models.DateTimeField(
        _("sale ends at"),
        null=True,
        blank=True,
        help_text=_("At the latest, and if empty, when the event or slot ends."),
    )
    is_stopped = models.BooleanField(_("selling stopped"), default=False, help_text=_("Capacity stays as it is."))
    entries = models.PositiveSmallIntegerField(
        _("entries"), default=1, validators=[MinValueValidator(1)], help_text=_("A pass may admit several times.")
    )
    valid_days = models.PositiveSmallIntegerField(
        _("valid for days"), null=True, blank=True, help_text=_("For passes, counted from the purchase. Empty: no end.")
    )
    quotas = models.ManyToManyField("ticketing.Quota", related_name="products", verbose_name=_("quotas"), blank=True)

    class Meta:
        verbose_name = _("product")
        verbose_name_plural = _("products")
        ordering = ["position", "id"]
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=ProductKind.values), name="product_kind_is_known"),
            models.CheckConstraint(condition=Q(max_per_order__gte=1), name="product_order_limit_is_at_least_one"),
            models.CheckConstraint(condition=Q(entries__gte=1), name="product_admits_at_least_once"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def price(self) -> Money:
        return Money(self.price_minor, self.event.currency)

    @property
    def kind_label(self) -> str:
        return self.get_kind_display()

    @property
    def entries_note(self) -> str:
        """What a pass gives, in words; empty for everything else."""
        if self.kind != self.Kind.PASS:
            return ""
        entries = _("%(n)s entries") % {"n": self.entries}
        return f"{entries}, {_('valid for %(n)s days') % {'n': self.valid_days}}" if self.valid_days else str(entries)

    @property
    def sale_opening(self) -> str:
        return in_words(self.sale_starts_at, self.event.time_zone) if self.sale_starts_at else ""
