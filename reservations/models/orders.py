import secrets

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from config.money import Money
from config.state_machine import Transitions, status_is_known
from reservations.models.reservations import Reservation, ReservationLine
from ticketing.models import Event, Product, Slot, Ticket, User

_UNMISTAKABLE = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"  # no 0/O, no 1/I


def new_code() -> str:
    """An order code to read out on the telephone: 10 characters, 50 bits, no guarantee of secrecy."""
    return "".join(secrets.choice(_UNMISTAKABLE) for _unused in range(10))


def new_secret() -> str:
    """192 random bits: the authority to see the order."""
    return secrets.token_urlsafe(24)


class OrderStatus(models.TextChoices):
    AWAITING_PAYMENT = "AWAITING_PAYMENT", _("awaiting payment")
    PAID = "PAID", _("paid")
    CANCELLED = "CANCELLED", _("cancelled")


class Order(models.Model):
    """What a buyer agreed to pay; made once from a reservation, its lines and prices frozen."""

    Status = OrderStatus
    TRANSITIONS: Transitions = {
        OrderStatus.PAID: frozenset({OrderStatus.AWAITING_PAYMENT, OrderStatus.CANCELLED}),  # late: orders.revive
        OrderStatus.CANCELLED: frozenset({OrderStatus.AWAITING_PAYMENT}),
    }

    code = models.CharField(_("code"), max_length=12, unique=True, default=new_code, editable=False)
    secret = models.CharField(_("secret"), max_length=43, unique=True, default=new_secret, editable=False)
    reservation = models.OneToOneField(Reservation, models.PROTECT, related_name="order", editable=False)
    event = models.ForeignKey(Event, models.PROTECT, related_name="orders", verbose_name=_("event"))
    user = models.ForeignKey(
        User, models.SET_NULL, related_name="orders", null=True, blank=True, verbose_name=_("account")
    )
    status = models.CharField(_("status"), max_length=20, choices=OrderStatus, default=OrderStatus.AWAITING_PAYMENT)
    email = models.EmailField(_("e-mail address"))
    name = models.CharField(_("name"), max_length=150)
    total_minor = models.PositiveBigIntegerField(_("total in minor units"))
    currency = models.CharField(_("currency"), max_length=3)
    needs_review = models.CharField(
        _("needs review"),
        max_length=250,
        blank=True,
        help_text=_("Why a person must look at it; empty: nothing to do."),
    )
    created_at = models.DateTimeField(_("created at"), db_default=Now(), editable=False)
    paid_at = models.DateTimeField(_("paid at"), null=True, blank=True)
    cancelled_at = models.DateTimeField(_("cancelled at"), null=True, blank=True)

    class Meta:
        verbose_name = _("order")
        verbose_name_plural = _("orders")
        ordering = ["-id"]
        constraints = [
            status_is_known("order", OrderStatus),
            models.CheckConstraint(
                condition=~Q(status="PAID") | Q(paid_at__isnull=False), name="order_paid_has_its_time"
            ),
        ]
        indexes = [
            models.Index(fields=["email"], name="order_by_email"),
            models.Index(fields=["created_at"], name="order_by_time"),
            # The dashboard's question: what must a person look at?
            models.Index(fields=["id"], condition=~Q(needs_review=""), name="order_needs_review"),
        ]

    def __str__(self) -> str:
        return self.code

    @property
    def total(self) -> Money:
        return Money(self.total_minor, self.currency)

    def get_absolute_url(self) -> str:
        """With the secret: only for the buyer, and for links in e-mails."""
        return self.address_of("payments:order")

    def address_of(self, url_name: str) -> str:
        """The address of one of the order's pages or calls, secret included."""
        return f"{reverse(url_name, args=[self.code])}?secret={self.secret}"


class OrderLine(models.Model):
    """One unit of what was bought, and the ticket for it."""

    order = models.ForeignKey(Order, models.CASCADE, related_name="lines")
    reservation_line = models.ForeignKey(ReservationLine, models.PROTECT, related_name="order_lines")
    position = models.PositiveSmallIntegerField(_("position"))
    product = models.ForeignKey(Product, models.PROTECT, related_name="+")
    slot = models.ForeignKey(Slot, models.PROTECT, related_name="+", null=True, blank=True)
    price_minor = models.PositiveBigIntegerField(_("price in minor units"))
    discount_minor = models.PositiveBigIntegerField(_("discount in minor units"), default=0)
    is_sold = models.BooleanField(_("counts as sold"), default=False)
    ticket = models.OneToOneField(Ticket, models.PROTECT, related_name="order_line", null=True, blank=True)

    class Meta:
        verbose_name = _("order line")
        verbose_name_plural = _("order lines")
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["order", "position"], name="order_line_positions_differ"),
            models.CheckConstraint(
                condition=Q(discount_minor__lte=F("price_minor")), name="order_line_discount_is_at_most_its_price"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.order_id}/{self.position}"

    @property
    def issue_key(self) -> str:
        """What `ticketing.issuing` knows this unit by."""
        return f"order-line:{self.pk}"

    @property
    def product_name(self) -> str:
        return self.product.name

    @property
    def slot_when(self) -> str:
        return self.slot.when if self.slot else ""

    @property
    def price(self) -> Money:
        return Money(self.price_minor, self.order.currency)

    @property
    def discount(self) -> Money:
        return Money(self.discount_minor, self.order.currency)
