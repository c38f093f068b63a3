"""What about the money needs a person, and signs that Stripe does not reach us. Reads only."""

from collections.abc import Iterator
from dataclasses import astuple, dataclass
from datetime import timedelta

from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Sum
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from payments import backfill, expiry
from payments.models import Refund, WebhookEvent
from reservations.models import Order, Tally

REFUSED_FOR_TIME = "webhook_refused_timestamp"
BURST = 5  # one alone may be a replay; several are rightly signed and late, so a clock is wrong
BURST_WITHIN = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many of each kind wait for a person."""

    review: int
    stuck: int
    refunds: int
    dead: int
    parked: int

    @property
    def total(self) -> int:
        return sum(astuple(self))


def waiting() -> Waiting:
    """Each kind counted by itself: an order may be marked for review because of its refund."""
    status = WebhookEvent.Status
    given_up = WebhookEvent.objects.filter(status__in=[status.DEAD, status.PARKED]).aggregate(
        dead=Count("pk", filter=Q(status=status.DEAD)), parked=Count("pk", filter=Q(status=status.PARKED))
    )
    return Waiting(
        review=Order.objects.exclude(needs_review="").count(),
        stuck=expiry.stuck().count(),
        refunds=refunds_owed().count(),
        **given_up,
    )


def refunds_owed() -> QuerySet[Refund]:
    """Refunds that failed for good: the money is ours again, and nothing is under way to give it back."""
    anew = Refund.objects.filter(
        payment=OuterRef("payment"),
        reason=OuterRef("reason"),
        amount_minor=OuterRef("amount_minor"),
        pk__gt=OuterRef("pk"),
    )
    left = F("payment__amount_received_minor") - F("payment__refunded_minor")
    return Refund.objects.filter(~Exists(anew), status=Refund.Status.FAILED, amount_minor__lte=left)


def refused_for_time() -> int:
    """Webhooks of the last minutes that were rightly signed and refused as too old (or from the future)."""
    lately = Tally.objects.filter(name=REFUSED_FOR_TIME, minute__gt=Now() - BURST_WITHIN)
    return lately.aggregate(n=Sum("count", default=0))["n"]


def webhooks() -> tuple[bool, str]:
    """Whether Stripe's webhooks reach us, as far as can be seen, and what is wrong, for a health check."""
    if refused_for_time() >= BURST:
        return False, "webhooks are refused for their time: this machine's clock is wrong, or somebody replays them"
    if backfill.is_silent():
        return False, "silent: payments were decided, and no webhook told of them"
    return True, "nothing missing"


def hints() -> Iterator[str]:
    """The same for staff, with what to do."""
    if (refused := refused_for_time()) >= BURST:
        text = _("%(n)s webhooks were refused in 15 minutes because of their time: is this machine's clock right?")
        yield text % {"n": refused}
    if backfill.is_silent():
        yield _("Stripe's webhooks do not arrive: payments are noticed late. See the endpoint in Stripe's dashboard.")
