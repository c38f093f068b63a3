"""The first numbers on the admin's index. Each is one cheap query, and nobody pays for, or sees, what is not theirs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, Min, Q, Sum
from django.http import HttpRequest
from django.urls import reverse
from django.utils.timesince import timesince
from django.utils.translation import gettext as _

from config.database import database_now
from config.money import Money
from monitoring.heartbeats import SILENT_AFTER
from monitoring.models import Heartbeat
from payments import attention, breaker, expiry
from payments.models import WebhookEvent
from reservations import sweeping
from reservations.admin import figures
from reservations.models import Order, Reservation
from ticketing.admin.columns import list_url
from ticketing.models import OutgoingEmail, SerialCounter

WEEK = timedelta(days=7)
# An order is paid or closed at most this long after it was made; lets its sales be found by the index on created_at.
LONGEST_ORDER = timedelta(days=2)
LATE_AFTER = timedelta(minutes=5)

GOOD, WARNING, BAD = "good", "warning", "bad"


@dataclass(frozen=True, slots=True)
class Card:
    """One number. `url` is where to read on: the list behind it."""

    title: str
    value: str
    note: str = ""
    level: str = ""
    url: str = ""
    icon: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    title: str
    cards: list[Card]


def numbers(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Unfold's DASHBOARD_CALLBACK: what templates/admin/index.html shows."""
    now = database_now()
    groups = [Group(title, [*cards]) for title, cards in _groups(request, now)]
    context.update(card_groups=groups, warnings=list(_warnings()))
    return context


def _groups(request: HttpRequest, now: datetime) -> Iterator[tuple[str, Iterator[Card]]]:
    may: Callable[[str], bool] = request.user.has_perm
    if may("reservations.view_order"):
        yield _("Sales"), _sales(now)
    if may("reservations.view_reservation"):
        yield _("Holds"), _holds(now)
    if may("payments.view_webhookevent"):
        yield _("Stripe's webhooks"), _webhooks(now)
    if may("ticketing.view_outgoingemail"):
        yield _("Mail"), _mail(now)
    if may("monitoring.view_heartbeat"):
        yield _("Office"), _office(now)


def _sales(now: datetime) -> Iterator[Card]:
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    is_today = Q(paid_at__gte=midnight)
    paid = Order.objects.filter(
        status=Order.Status.PAID, paid_at__gte=now - WEEK, created_at__gte=now - WEEK - LONGEST_ORDER
    )
    rows: list[Any] = list(
        paid.values("currency")
        .annotate(
            week=Count("pk"),
            today=Count("pk", filter=is_today),
            week_minor=Sum("total_minor"),
            today_minor=Sum("total_minor", filter=is_today),
        )
        .order_by("currency")
    )
    orders = list_url("reservations_order", status__exact=Order.Status.PAID)
    for title, period in ((_("Orders paid today"), "today"), (_("Orders paid in 7 days"), "week")):
        revenue = [str(Money(row[f"{period}_minor"] or 0, row["currency"])) for row in rows if row[period]]
        count = sum(row[period] for row in rows)
        yield Card(title, str(count), ", ".join(revenue) or _("no revenue"), url=orders, icon="payments")
    # Serials have no gaps, so the counters know how many tickets there are without counting them.
    issued = SerialCounter.objects.aggregate(n=Sum("last_serial"))["n"] or 0
    yield Card(
        _("Tickets issued"), str(issued), _("in all"), url=list_url("ticketing_ticket"), icon="confirmation_number"
    )
    review = Order.objects.exclude(needs_review="").count()
    yield Card(
        _("Orders to look at"),
        str(review),
        _("money and order do not fit") if review else _("none"),
        BAD if review else GOOD,
        list_url("reservations_order", review="yes") if review else "",
        "flag",
    )
    stuck, failed = expiry.stuck().count(), attention.refunds_owed().count()
    yield Card(
        _("Orders that cannot be closed"),
        str(stuck),
        _("Stripe does not say that they are unpaid") if stuck else _("none"),
        BAD if stuck else GOOD,
        list_url("reservations_order", stuck="yes") if stuck else "",
        "lock",
    )
    yield Card(
        _("Refunds that failed"),
        str(failed),
        _("their money is still the buyers'") if failed else _("none"),
        BAD if failed else GOOD,
        list_url("payments_refund", open="owed") if failed else "",
        "currency_exchange",
    )


def _holds(now: datetime) -> Iterator[Card]:
    live = figures.added_up(figures.live_by_event(now))
    ordered = Reservation.objects.filter(status=Reservation.Status.ORDERED)
    stuck = ordered.filter(expires_at__lte=now - LATE_AFTER).count()
    over = sweeping.holds_over(for_at_least=LATE_AFTER)
    dashboard = reverse("admin:reservations_reservation_dashboard")
    yield Card(_("Live holds"), str(live.holds), _("%(n)s units held") % {"n": live.units}, "", dashboard, "timer")
    yield Card(
        _("Orders awaiting payment"),
        str(live.ordered),
        _("%(n)s over time for 5 minutes") % {"n": stuck} if stuck else _("none over time"),
        BAD if stuck else "",
        list_url("reservations_order", status__exact=Order.Status.AWAITING_PAYMENT),
        "credit_card",
    )
    if over:
        yield Card(
            _("Holds not yet released"),
            str(over),
            _("over for 5 minutes; they take no stock from buyers, but nobody sweeps"),
            WARNING,
            list_url("reservations_sweeprun"),
            "cleaning_services",
        )


def _webhooks(now: datetime) -> Iterator[Card]:
    status = WebhookEvent.Status
    sums = WebhookEvent.objects.filter(status__in=[status.RECEIVED, status.DEAD, status.PARKED]).aggregate(
        waiting=Count("pk", filter=Q(status=status.RECEIVED)),
        oldest=Min("received_at", filter=Q(status=status.RECEIVED)),
        dead=Count("pk", filter=Q(status=status.DEAD)),
        parked=Count("pk", filter=Q(status=status.PARKED)),
    )
    is_late = bool(sums["oldest"] and now - sums["oldest"] > LATE_AFTER)
    note = _("the oldest for %(age)s") % {"age": timesince(sums["oldest"], now)} if sums["oldest"] else _("none")
    yield _events_card(_("Waiting"), sums["waiting"], note, WARNING if is_late else "", status.RECEIVED, "inbox")
    dead, parked = sums["dead"], sums["parked"]
    yield _events_card(_("Dead"), dead, _("tried for a day in vain"), BAD if dead else GOOD, status.DEAD, "error")
    yield _events_card(
        _("Parked"), parked, _("match nothing of ours"), WARNING if parked else GOOD, status.PARKED, "help"
    )


def _events_card(title: str, count: int, note: str, level: str, status: str, icon: str) -> Card:
    address = list_url("payments_webhookevent", status__exact=status)
    return Card(title, str(count), note if count else _("none"), level, address, icon)


def _mail(now: datetime) -> Iterator[Card]:
    status = OutgoingEmail.Status
    sums = OutgoingEmail.objects.filter(status__in=[status.PENDING, status.DEAD]).aggregate(
        pending=Count("pk", filter=Q(status=status.PENDING)),
        oldest=Min("created_at", filter=Q(status=status.PENDING)),
        dead=Count("pk", filter=Q(status=status.DEAD)),
    )
    is_late = bool(sums["oldest"] and now - sums["oldest"] > LATE_AFTER)
    age = _("the oldest for %(age)s") % {"age": timesince(sums["oldest"], now)} if sums["oldest"] else _("none")
    pending = list_url("ticketing_outgoingemail", status__exact=status.PENDING)
    yield Card(_("To be sent"), str(sums["pending"]), age, WARNING if is_late else "", pending, "outgoing_mail")
    dead, address = sums["dead"], list_url("ticketing_outgoingemail", status__exact=status.DEAD)
    note = _("never arrived: send again") if dead else _("none")
    yield Card(_("Given up"), str(dead), note, BAD if dead else GOOD, address, "unsubscribe")


def _office(now: datetime) -> Iterator[Card]:
    at = Heartbeat.objects.filter(part="beat").values_list("at", flat=True).first()
    address = list_url("monitoring_heartbeat")
    if at is None:
        yield Card(_("Schedule and workers"), _("silent"), _("no sign of life yet"), BAD, address, "monitor_heart")
        return
    is_fresh = now - at <= SILENT_AFTER
    seconds = max(0, int((now - at).total_seconds()))
    age = _("%(n)s s ago") % {"n": seconds} if seconds < 120 else _("%(age)s ago") % {"age": timesince(at, now)}
    value = _("alive") if is_fresh else _("silent")
    yield Card(_("Schedule and workers"), value, age, GOOD if is_fresh else BAD, address, "monitor_heart")


def _warnings() -> Iterator[str]:
    """What a shop that takes real money must not say about itself."""
    yield from _paused_payments()
    yield from attention.hints()
    if settings.IS_DEMO:
        yield _("This is a demonstration, not a shop (DEMO=on).")
    if not settings.STRIPE_SECRET_KEY:
        yield _("No Stripe key is set: only free products can be sold (STRIPE_SECRET_KEY).")
    elif "_test_" in settings.STRIPE_SECRET_KEY:
        yield _("Stripe is in test mode: no real money moves.")
    if settings.EMAIL_BACKEND.endswith("filebased.EmailBackend"):
        yield _("No mail provider is set: e-mails are only written to files (RESEND_API_KEY or EMAIL_URL).")


def _paused_payments() -> Iterator[str]:
    found = breaker.state()
    if found.is_closed:
        return
    since = f"{found.since:%H:%M} UTC" if found.since else "–"
    if found.is_paused_by_staff:
        yield _("Staff have paused payments since %(since)s: %(why)s") % {"since": since, "why": found.why}
    elif found.why == breaker.CONFIG:
        yield _("Payments are paused since %(since)s: Stripe refuses our key (STRIPE_SECRET_KEY).") % {"since": since}
    else:
        text = _("Payments are paused since %(since)s: Stripe does not answer. One call tries again every half minute.")
        yield text % {"since": since}
