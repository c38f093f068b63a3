"""Payments: our record of each attempt to pay, with its events and refunds. What concerns the whole order is on its page."""

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from config.money import Money
from payments import settlement, stripe_gateway, truth
from payments.admin import links
from payments.admin.refunds import RefundInline
from payments.admin.search import payments_matching
from payments.models import Payment, StatusChange
from ticketing.admin.actions import AT_MOST_WITH_NETWORK, Refused, carry_out, carry_out_one, dialog
from ticketing.admin.bases import RecordAdmin
from ticketing.admin.columns import (
    BAD,
    GOOD,
    PLAIN,
    WAITING,
    breakable,
    clipped,
    link_out,
    list_url,
    moment_column,
    scrollable,
    status_column,
    timeline,
)
from ticketing.admin.decorators import action, display
from ticketing.admin.history import StatusChangeAdmin


@admin.register(Payment)
class PaymentAdmin(RecordAdmin):
    list_display = [
        "__str__",
        "status_label",
        "amount_in_words",
        "refunded_in_words",
        "mode",
        "stripe_id_shown",
        "settled_by",
        "created",
        "error",
    ]
    list_filter = ["status", "mode", "settled_by", "is_livemode"]
    list_select_related = ["order"]
    readonly_preprocess_fields = {"request_params": scrollable}
    search_fields = ["order__code"]
    search_help_text = _("Order code, e-mail address, pi_…, cs_… or evt_…")
    actions = ["ask_stripe"]
    actions_detail = ["ask_stripe_now"]
    inlines = [RefundInline]
    fieldsets = [
        (
            None,
            {
                "fields": [
                    ("order_link", "attempt"),
                    ("status", "mode"),
                    ("amount_in_words", "received_in_words"),
                    ("refunded_in_words", "replays"),
                ]
            },
        ),
        (
            _("Stripe"),
            {
                "fields": [
                    ("intent_link", "session_link"),
                    ("is_livemode", "asked_at"),
                    "key",
                    "request_params",
                    "last_error",
                    "events",
                ]
            },
        ),
        (
            _("Times"),
            {
                "fields": [
                    ("created_at", "sent_at"),
                    ("succeeded_at", "settled_by"),
                    ("close_attempts", "next_attempt_at"),
                ]
            },
        ),
        (_("History"), {"fields": ["history"]}),
    ]

    created = moment_column("created_at", _("created at"))
    status_label = status_column(
        {"SUCCEEDED": GOOD, "OPEN": WAITING, "PROCESSING": WAITING, "NEW": PLAIN, "FAILED": BAD, "ORPHANED": BAD}
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Payment]:
        return super().get_queryset(request).select_related("order")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Payment], search_term: str
    ) -> tuple[QuerySet[Payment], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        wanted = payments_matching(term)
        if wanted is None:
            wanted = Q(order__email__iexact=term) if "@" in term else Q(order__code=term.upper())
        return queryset.filter(wanted), False

    @display(description=_("order"))
    def order_link(self, payment: Payment) -> SafeString:
        return links.order_link(payment)

    @display(description=_("amount"), ordering="amount_minor")
    def amount_in_words(self, payment: Payment) -> str:
        return str(payment.amount)

    @display(description=_("received"))
    def received_in_words(self, payment: Payment) -> str:
        return str(Money(payment.amount_received_minor, payment.currency))

    @display(description=_("refunded"), ordering="refunded_minor")
    def refunded_in_words(self, payment: Payment) -> str:
        return str(Money(payment.refunded_minor, payment.currency)) if payment.refunded_minor else "–"

    @display(description=_("Stripe id"))
    def stripe_id_shown(self, payment: Payment) -> SafeString:
        return clipped(payment.stripe_payment_intent_id or payment.stripe_session_id or "", 18)

    @display(description=_("last error"))
    def error(self, payment: Payment) -> SafeString:
        return clipped(payment.last_error, 24)

    @display(description=_("Stripe PaymentIntent"))
    def intent_link(self, payment: Payment) -> SafeString | str:
        return links.in_dashboard(payment, payment.stripe_payment_intent_id)

    @display(description=_("Stripe Checkout Session"))
    def session_link(self, payment: Payment) -> SafeString | str:
        return links.in_dashboard(payment, payment.stripe_session_id)

    @display(description=_("idempotency key"))
    def key(self, payment: Payment) -> SafeString:
        return breakable(payment.idempotency_key)

    @display(description=_("webhook events"))
    def events(self, payment: Payment) -> SafeString | str:
        """Of the payment and its refunds."""
        told_of = [payment.stripe_payment_intent_id, payment.stripe_session_id]
        told_of += payment.refunds.exclude(stripe_refund_id=None).values_list("stripe_refund_id", flat=True)
        found = links.events_about(*told_of)
        shown = links.listed(found[: links.EVENTS_SHOWN])
        if not payment.stripe_id:
            return shown
        everything = link_out(list_url("payments_webhookevent", q=payment.stripe_id), _now("in the webhook log"))
        return format_html("{}<p>{}</p>", shown, everything)

    @display(description=_("status changes"))
    def history(self, payment: Payment) -> SafeString:
        return timeline(StatusChange.objects.filter(kind="payment", object_id=str(payment.pk)))

    @admin.action(description=_("Ask Stripe"), permissions=["act"])
    def ask_stripe(self, request: HttpRequest, queryset: QuerySet[Payment]) -> None:
        carry_out(self, request, queryset, _ask, at_most=AT_MOST_WITH_NETWORK)

    @action(
        description=_("Ask Stripe"),
        permissions=["act"],
        url_path="ask-stripe",
        icon="sync",
        dialog=dialog(
            _("Ask Stripe?"),
            _("Fetches this payment, also one that is decided here, and makes our books agree with it."),
            _("Ask"),
        ),
    )
    def ask_stripe_now(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        return carry_out_one(self, request, object_id, _ask)


def _ask(payment: Payment) -> str:
    try:
        facts = truth.fetch(payment) if payment.stripe_id else truth.find(payment)
    except stripe_gateway.NO_WORD as error:
        raise Refused(_now("Stripe could not be asked (%(error)s).") % {"error": error}) from error
    if facts is None:
        raise Refused(_now("Stripe has nothing for it."))
    try:
        settlement.settle(payment.pk, facts=facts, by="staff")
    except settlement.WrongMode as error:
        raise Refused(_now("It is in Stripe's other mode (live or test) than our key.")) from error
    payment.refresh_from_db()
    words = {"theirs": facts.stripe_status, "ours": payment.get_status_display()}
    return _now("Stripe says %(theirs)s; here it is %(ours)s") % words


admin.site.register(StatusChange, StatusChangeAdmin)
