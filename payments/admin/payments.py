"""Payments: our record of each attempt to pay, read-only. Everything to do about one is on its order's page."""

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from config.money import Money
from payments.admin.search import payments_matching
from payments.models import Payment, StatusChange
from ticketing.admin.bases import RecordAdmin
from ticketing.admin.columns import (
    BAD,
    GOOD,
    PLAIN,
    WAITING,
    link_out,
    list_url,
    moment_column,
    scrollable,
    status_column,
    timeline,
)
from ticketing.admin.decorators import display
from ticketing.admin.history import StatusChangeAdmin


@admin.register(Payment)
class PaymentAdmin(RecordAdmin):
    list_display = ["__str__", "status_label", "amount_in_words", "mode", "stripe_payment_intent_id", "created"]
    list_filter = ["status", "mode", "is_livemode", "settled_by"]
    list_select_related = ["order"]
    readonly_preprocess_fields = {"request_params": scrollable}
    search_fields = ["order__code"]
    search_help_text = _("Order code, e-mail address, pi_…, cs_… or evt_…")
    fieldsets = [
        (None, {"fields": [("order", "attempt"), ("status", "mode"), ("amount_in_words", "received_in_words")]}),
        (
            _("Stripe"),
            {
                "fields": [
                    ("stripe_payment_intent_id", "stripe_session_id"),
                    ("is_livemode", "asked_at"),
                    "idempotency_key",
                    "request_params",
                    "last_error",
                    "events",
                ]
            },
        ),
        (_("Times"), {"fields": [("created_at", "succeeded_at"), ("next_attempt_at", "settled_by")]}),
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

    @display(description=_("amount"), ordering="amount_minor")
    def amount_in_words(self, payment: Payment) -> str:
        return str(payment.amount)

    @display(description=_("received"))
    def received_in_words(self, payment: Payment) -> str:
        return str(Money(payment.amount_received_minor, payment.currency))

    @display(description=_("webhook events"))
    def events(self, payment: Payment) -> SafeString | str:
        intent = payment.stripe_payment_intent_id
        return link_out(list_url("payments_webhookevent", q=intent), _("what Stripe told us")) if intent else ""

    @display(description=_("status changes"))
    def history(self, payment: Payment) -> SafeString:
        return timeline(StatusChange.objects.filter(kind="payment", object_id=str(payment.pk)))


admin.site.register(StatusChange, StatusChangeAdmin)
