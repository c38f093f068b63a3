"""Refunds: how each stands, submitting one now, and asking anew for one that failed. Whatever else is done by itself."""

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _
from unfold.enums import ActionVariant

from payments import attention, breaker, refunds
from payments.admin import links
from payments.models import Refund, StatusChange
from ticketing.admin.actions import (
    AT_MOST_WITH_NETWORK,
    Refused,
    ask_first,
    carry_out,
    carry_out_one,
    dialog,
    staff_name,
)
from ticketing.admin.bases import RecordAdmin, RecordInline
from ticketing.admin.columns import (
    BAD,
    GOOD,
    WAITING,
    breakable,
    clipped,
    moment,
    moment_column,
    status_column,
    timeline,
    two_lines,
)
from ticketing.admin.decorators import action, display

COLOURS = {"SUCCEEDED": GOOD, "REQUESTED": WAITING, "SUBMITTED": WAITING, "FAILED": BAD}


class OpenFilter(admin.SimpleListFilter):
    title = _("what is left to do")
    parameter_name = "open"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("not_done", _("not done")), ("owed", _("failed and still owed"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Refund]) -> QuerySet[Refund]:
        if self.value() == "not_done":
            return queryset.filter(status__in=Refund.OWED)
        return queryset.filter(pk__in=attention.refunds_owed().values("pk")) if self.value() == "owed" else queryset


class RefundInline(RecordInline):
    """Below its payment."""

    model = Refund
    verbose_name_plural = _("refunds")
    fields = [
        "page",
        "amount_in_words",
        "reason_in_words",
        "status_in_words",
        "attempts",
        "stripe_refund_id",
        "last_error",
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Refund]:
        return super().get_queryset(request).order_by("pk")

    @display(description=_("attempt"))
    def page(self, refund: Refund) -> SafeString:
        return links.refund_link(refund, refund.attempt)

    @display(description=_("amount"))
    def amount_in_words(self, refund: Refund) -> str:
        return str(refund.amount)

    @display(description=_("reason"))
    def reason_in_words(self, refund: Refund) -> str:
        return refund.get_reason_display()

    @display(description=_("status"))
    def status_in_words(self, refund: Refund) -> str:
        return refund.get_status_display()


@admin.register(Refund)
class RefundAdmin(RecordAdmin):
    list_display = ["of_payment", "status_label", "why", "asked", "attempts", "next_look", "stripe_refund_id", "error"]
    list_filter = [OpenFilter, "status", "reason"]
    list_select_related = ["payment__order"]
    search_fields = ["stripe_refund_id"]
    search_help_text = _("Order code, e-mail address, re_… or pi_…")
    actions = ["submit_now", "try_again"]
    actions_detail = ["submit_this_now", "try_this_again"]
    offered_in_status = {"submit_this_now": Refund.OWED, "try_this_again": (Refund.Status.FAILED,)}
    fieldsets = [
        (
            None,
            {
                "fields": [
                    ("order_link", "payment_link"),
                    ("status", "amount_in_words"),
                    ("reason", "by"),
                    ("note", "attempt"),
                ]
            },
        ),
        (
            _("Stripe"),
            {
                "fields": [
                    "stripe_link",
                    ("attempts", "next_look"),
                    ("sent_at", "last_error"),
                    "key",
                    "events",
                ]
            },
        ),
        (_("Times"), {"fields": [("created_at", "succeeded_at")]}),
        (_("History"), {"fields": ["history"]}),
    ]

    asked = moment_column("created_at", _("asked for at"))
    status_label = status_column(COLOURS)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Refund]:
        return super().get_queryset(request).select_related("payment__order")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Refund], search_term: str
    ) -> tuple[QuerySet[Refund], bool]:
        term = search_term.strip()
        return (queryset.filter(_matching(term)) if term else queryset), False

    @display(description=_("order"))
    def order_link(self, refund: Refund) -> SafeString:
        return links.order_link(refund.payment)

    @display(description=_("payment"))
    def payment_link(self, refund: Refund) -> SafeString:
        return links.payment_link(refund.payment)

    @display(description=_("payment and amount"), ordering="amount_minor")
    def of_payment(self, refund: Refund) -> SafeString:
        return two_lines(refund.payment, refund.amount)

    @display(description=_("reason"), ordering="reason")
    def why(self, refund: Refund) -> SafeString:
        return clipped(refund.get_reason_display(), 40)

    @display(description=_("amount"), ordering="amount_minor")
    def amount_in_words(self, refund: Refund) -> str:
        return str(refund.amount)

    @display(description=_("next attempt at"), ordering="next_attempt_at")
    def next_look(self, refund: Refund) -> SafeString | str:
        return moment(refund.next_attempt_at) if refund.status in Refund.OWED else "–"

    @display(description=_("Stripe refund"))
    def stripe_link(self, refund: Refund) -> SafeString | str:
        return links.in_dashboard(refund.payment, refund.stripe_refund_id) or _now("not known to Stripe yet")

    @display(description=_("idempotency key"))
    def key(self, refund: Refund) -> SafeString | str:
        return breakable(refund.idempotency_key)

    @display(description=_("last error"))
    def error(self, refund: Refund) -> SafeString:
        return clipped(refund.last_error)

    @display(description=_("webhook events"))
    def events(self, refund: Refund) -> SafeString | str:
        return links.listed(links.events_about(refund.stripe_refund_id)[: links.EVENTS_SHOWN])

    @display(description=_("status changes"))
    def history(self, refund: Refund) -> SafeString:
        return timeline(StatusChange.objects.filter(kind="refund", object_id=str(refund.pk)))

    @admin.action(description=_("Submit now"), permissions=["act"])
    def submit_now(self, request: HttpRequest, queryset: QuerySet[Refund]) -> HttpResponse | None:
        question = _now("Send these refunds to Stripe now? Their money leaves our account.")
        page = ask_first(self, request, queryset, action="submit_now", question=question, button=_now("Yes, submit"))
        if page is None:
            carry_out(self, request, queryset, lambda refund: _submit(refund, request), at_most=AT_MOST_WITH_NETWORK)
        return page

    @admin.action(description=_("Try again"), permissions=["act"])
    def try_again(self, request: HttpRequest, queryset: QuerySet[Refund]) -> HttpResponse | None:
        question = _now("Ask for these refunds anew? Each that failed becomes a new refund, which is sent at once.")
        page = ask_first(self, request, queryset, action="try_again", question=question, button=_now("Yes, try again"))
        if page is None:
            carry_out(self, request, queryset, lambda refund: _try_again(refund, request), at_most=AT_MOST_WITH_NETWORK)
        return page

    @action(
        description=_("Submit now"),
        permissions=["act"],
        url_path="submit-now",
        icon="send_money",
        variant=ActionVariant.PRIMARY,
        dialog=dialog(
            _("Send this refund to Stripe now?"),
            _("Its money leaves our account. If Stripe has it already, it is only asked how it stands."),
            _("Submit"),
        ),
    )
    def submit_this_now(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        return carry_out_one(self, request, object_id, lambda refund: _submit(refund, request))

    @action(
        description=_("Try again"),
        permissions=["act"],
        url_path="try-again",
        icon="replay",
        variant=ActionVariant.PRIMARY,
        dialog=dialog(
            _("Ask for this refund anew?"),
            _("It failed, so the buyer is still owed the money. A new refund is made, and sent at once."),
            _("Try again"),
        ),
    )
    def try_this_again(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        return carry_out_one(self, request, object_id, lambda refund: _try_again(refund, request))


def _matching(term: str) -> Q:
    if term.startswith("re_"):
        return Q(stripe_refund_id=term)
    if term.startswith("pi_"):
        return Q(payment__stripe_payment_intent_id=term)
    if "@" in term:
        return Q(payment__order__email__in={term, term.lower()})
    return Q(payment__order__code=term.upper())


def _submit(refund: Refund, request: HttpRequest) -> str:
    try:
        refunds.submit_now(refund, by=staff_name(request))
    except refunds.NotOpen as refusal:
        raise Refused(_now("It is %(status)s already.") % {"status": refund.get_status_display()}) from refusal
    return _said_by_stripe(refund)


def _try_again(refund: Refund, request: HttpRequest) -> str:
    try:
        anew = refunds.try_again(refund, by=staff_name(request))
    except refunds.NotOpen as refusal:
        raise Refused(_now("It did not fail, or its money has gone back since.")) from refusal
    refunds.submit_now(anew, by=staff_name(request))
    return _said_by_stripe(anew)


def _said_by_stripe(refund: Refund) -> str:
    """What became of it, in words; Refused where Stripe did not take it."""
    refund.refresh_from_db()
    if refund.status == Refund.Status.REQUESTED:
        if breaker.is_open():
            raise Refused(_now("Nothing was sent: calls to Stripe are paused. It goes out once they are not."))
        text = _now("Stripe has not taken it (%(error)s). It is tried again by itself.")
        raise Refused(text % {"error": refund.last_error or _now("somebody else is sending it")})
    if refund.status == Refund.Status.FAILED:
        raise Refused(_now("It failed at Stripe: %(error)s") % {"error": refund.last_error})
    return _now("attempt %(n)s is %(status)s") % {"n": refund.attempt, "status": refund.get_status_display()}
