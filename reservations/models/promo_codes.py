from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from config.money import Money
from ticketing.models import Event, Product


class PromoCode(models.Model):
    """A discount for those who know the code. One use is one reservation: taken with the hold, freed when it ends unpaid.

    `uses` counts the reservations that are ACTIVE, ORDERED or CONFIRMED with this code; the hold functions of the
    database move it and nothing else does. The constraint is the last guard, as with quotas.
    """

    event = models.ForeignKey(Event, models.CASCADE, related_name="promo_codes", verbose_name=_("event"))
    code = models.CharField(
        _("code"),
        max_length=40,
        validators=[RegexValidator(r"^[A-Z0-9][A-Z0-9._-]*$", _("Letters, digits, dots, dashes and underscores."))],
        help_text=_("Buyers may type it in small letters."),
    )
    percent_off = models.PositiveSmallIntegerField(
        _("percent off"), null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(100)]
    )
    amount_off_minor = models.PositiveBigIntegerField(
        _("amount off each ticket, in minor units"), null=True, blank=True, validators=[MinValueValidator(1)]
    )
    products = models.ManyToManyField(
        Product, related_name="promo_codes", blank=True, verbose_name=_("products"), help_text=_("None: all.")
    )
    starts_at = models.DateTimeField(_("valid from"), null=True, blank=True, help_text=_("Empty: at once."))
    ends_at = models.DateTimeField(
        _("valid until"), null=True, blank=True, help_text=_("Empty: as long as tickets are.")
    )
    max_uses = models.PositiveIntegerField(
        _("most uses"), null=True, blank=True, help_text=_("Orders, not tickets. Empty: no limit.")
    )
    max_uses_per_buyer = models.PositiveIntegerField(
        _("most uses per buyer"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("A buyer is an e-mail address, and before it is known a browser. Empty: no limit."),
    )
    is_stopped = models.BooleanField(_("stopped"), default=False)
    uses = models.IntegerField(_("uses"), default=0, editable=False)

    class Meta:
        verbose_name = _("promo code")
        verbose_name_plural = _("promo codes")
        ordering = ["event", "code"]
        constraints = [
            models.UniqueConstraint(fields=["event", "code"], name="promo_codes_of_an_event_differ"),
            models.CheckConstraint(condition=Q(code=models.functions.Upper("code")), name="promo_code_is_in_capitals"),
            models.CheckConstraint(
                condition=Q(percent_off__isnull=False, amount_off_minor__isnull=True)
                | Q(percent_off__isnull=True, amount_off_minor__isnull=False),
                name="promo_code_is_percent_or_amount",
            ),
            models.CheckConstraint(
                condition=Q(percent_off__isnull=True) | Q(percent_off__range=(1, 100)),
                name="promo_code_percent_is_at_most_100",
            ),
            models.CheckConstraint(
                condition=Q(uses__gte=0) & (Q(max_uses__isnull=True) | Q(uses__lte=F("max_uses"))),
                name="promo_code_is_never_overused",
            ),
        ]

    def __str__(self) -> str:
        return self.code

    def clean(self) -> None:
        self.code = self.code.upper()
        if (self.percent_off is None) == (self.amount_off_minor is None):
            raise ValidationError(_("Give either a percentage or an amount."))

    @property
    def discount(self) -> str:
        """In words: what it takes off each ticket."""
        if self.percent_off is not None:
            return f"{self.percent_off} %"
        return str(Money(self.amount_off_minor or 0, self.event.currency))
