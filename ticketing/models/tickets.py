import secrets

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from config.state_machine import Transitions, status_is_known
from ticketing.models.catalogue import Event, Product, Slot


def new_secret() -> str:
    """128 random bits in 22 characters that are safe in addresses."""
    return secrets.token_urlsafe(16)


class SerialCounter(models.Model):
    """The last ticket serial given out for an event; its row lock makes serials gapless."""

    event = models.OneToOneField(Event, models.CASCADE, primary_key=True, related_name="serial_counter")
    last_serial = models.PositiveIntegerField(default=0)

    class Meta:
        verbose_name = _("serial counter")
        verbose_name_plural = _("serial counters")

    def __str__(self) -> str:
        return f"{self.event}: {self.last_serial}"


class EventKey(models.Model):
    """The Ed25519 key that signs an event's QR codes, so that a door without network can tell ours from forged ones."""

    event = models.ForeignKey(Event, models.CASCADE, related_name="keys", verbose_name=_("event"))
    private_key = models.BinaryField(editable=False)  # raw, 32 bytes
    public_key = models.BinaryField(editable=False)  # raw, 32 bytes
    created_at = models.DateTimeField(_("created at"), db_default=Now(), editable=False)

    class Meta:
        verbose_name = _("event key")
        verbose_name_plural = _("event keys")

    def __str__(self) -> str:
        return f"{self.event}: {bytes(self.public_key).hex()[:16]}"


class TicketStatus(models.TextChoices):
    VALID = "VALID", _("valid")
    USED = "USED", _("used")
    BLOCKED = "BLOCKED", _("blocked")
    VOID = "VOID", _("void")
    REFUNDED = "REFUNDED", _("refunded")
    TRANSFERRED = "TRANSFERRED", _("transferred")


class Ticket(models.Model):
    """The one thing a buyer keeps: an admission (one entry), a pass (several, or a period), or a claim to a drop."""

    Status = TicketStatus
    TRANSITIONS: Transitions = {
        TicketStatus.VALID: frozenset({TicketStatus.USED, TicketStatus.BLOCKED}),
        TicketStatus.USED: frozenset({TicketStatus.VALID}),
        TicketStatus.BLOCKED: frozenset({TicketStatus.VALID, TicketStatus.USED}),
        TicketStatus.VOID: frozenset({TicketStatus.VALID, TicketStatus.USED, TicketStatus.BLOCKED}),
        TicketStatus.REFUNDED: frozenset({TicketStatus.VOID}),
        TicketStatus.TRANSFERRED: frozenset({TicketStatus.VALID}),
    }

    # What this ticket was issued for (the order line, as "order-line:<id>"): issuing twice finds the first one.
    issue_key = models.CharField(_("issued for"), max_length=64, unique=True, editable=False)
    event = models.ForeignKey(Event, models.PROTECT, related_name="tickets", verbose_name=_("event"))
    product = models.ForeignKey(Product, models.PROTECT, related_name="tickets", verbose_name=_("product"))
    slot = models.ForeignKey(
        Slot, models.PROTECT, related_name="tickets", null=True, blank=True, verbose_name=_("slot")
    )
    serial = models.PositiveIntegerField(_("serial"))
    secret = models.CharField(_("secret"), max_length=43, unique=True, default=new_secret, editable=False)
    status = models.CharField(_("status"), max_length=12, choices=TicketStatus, default=TicketStatus.VALID)
    holder_name = models.CharField(_("holder"), max_length=150, blank=True)
    holder_email = models.EmailField(_("holder's e-mail address"), blank=True)
    entries_total = models.PositiveSmallIntegerField(_("entries"), default=1, validators=[MinValueValidator(1)])
    entries_used = models.PositiveSmallIntegerField(_("entries used"), default=0)
    valid_from = models.DateTimeField(_("valid from"), null=True, blank=True)
    valid_until = models.DateTimeField(_("valid until"), null=True, blank=True)
    issued_at = models.DateTimeField(_("issued at"), db_default=Now(), editable=False)

    class Meta:
        verbose_name = _("ticket")
        verbose_name_plural = _("tickets")
        ordering = ["-id"]
        constraints = [
            status_is_known("ticket", TicketStatus),
            models.UniqueConstraint(fields=["event", "serial"], name="ticket_serials_are_unique_within_an_event"),
            models.CheckConstraint(
                condition=Q(entries_used__lte=F("entries_total")), name="ticket_admits_at_most_its_entries"
            ),
        ]

    def __str__(self) -> str:
        return self.number

    @property
    def number(self) -> str:
        """The serial as people read it out: `7-000123` (event, serial)."""
        return f"{self.event_id}-{self.serial:06d}"

    def get_absolute_url(self) -> str:
        return reverse("ticketing:ticket", args=[self.secret])
