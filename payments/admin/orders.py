"""Orders: everything about one on one page, and what staff may do about it."""

from itertools import chain
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _
from unfold.dataclasses import UnfoldAction
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminTextInputWidget

from payments import expiry, order_status, settlement, stripe_gateway
from payments.admin.search import orders_matching
from payments.models import Payment, Refund
from payments.models import StatusChange as PaymentChange
from reservations import orders
from reservations.models import Order, OrderLine, Reservation
from reservations.models import StatusChange as OrderChange
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
    clipped,
    event_column,
    link_out,
    link_to,
    list_url,
    moment_column,
    side_by_side,
    status_column,
    timeline,
    two_lines,
)
from ticketing.admin.decorators import action, display

REFUND_STATES = {
    "none": _("Nothing of the order's own price."),
    "partial": _("Part of the order's money goes or went back."),
    "full": _("All of the order's money goes or went back."),
}


class NeedsReviewFilter(admin.SimpleListFilter):
    title = _("needs review")
    parameter_name = "review"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("a person must look"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Order]) -> QuerySet[Order]:
        return queryset.exclude(needs_review="") if self.value() == "yes" else queryset


class StuckFilter(admin.SimpleListFilter):
    title = _("cannot be closed")
    parameter_name = "stuck"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("Stripe does not confirm its end"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Order]) -> QuerySet[Order]:
        return queryset.filter(pk__in=expiry.stuck().values("pk")) if self.value() == "yes" else queryset


class ReleaseForm(BaseDialogForm):
    why = forms.CharField(
        label=_("Why, for your colleagues"),
        max_length=250,
        widget=UnfoldAdminTextInputWidget,
        help_text=_("It stays in the order's history, beside your account."),
    )


class LineInline(RecordInline):
    model = OrderLine
    verbose_name_plural = _("lines")
    fields = ["position", "product", "slot_when", "price_in_words", "discount_in_words", "is_sold", "ticket_link"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[OrderLine]:
        return super().get_queryset(request).select_related("order", "product", "slot__event", "ticket")

    @display(description=_("slot"))
    def slot_when(self, line: OrderLine) -> str:
        return line.slot_when

    @display(description=_("price"))
    def price_in_words(self, line: OrderLine) -> str:
        return str(line.price)

    @display(description=_("discount"))
    def discount_in_words(self, line: OrderLine) -> str:
        return str(line.discount) if line.discount_minor else ""

    @display(description=_("ticket"))
    def ticket_link(self, line: OrderLine) -> SafeString | str:
        return link_to("ticketing_ticket_change", line.ticket.pk, line.ticket.number) if line.ticket else ""


class PaymentInline(RecordInline):
    model = Payment
    fields = ["page", "status_in_words", "amount_in_words", "stripe_payment_intent_id", "settled_by", "last_error"]

    @display(description=_("attempt"))
    def page(self, payment: Payment) -> SafeString:
        return link_to("payments_payment_change", payment.pk, payment.attempt)

    @display(description=_("status"))
    def status_in_words(self, payment: Payment) -> str:
        return payment.get_status_display()

    @display(description=_("amount"))
    def amount_in_words(self, payment: Payment) -> str:
        return str(payment.amount)


@admin.register(Order)
class OrderAdmin(RecordAdmin):
    list_display = ["code", "status_label", "review", "buyer", "event_name", "total_in_words", "created"]
    list_filter = ["status", NeedsReviewFilter, StuckFilter, ("event", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["event"]
    date_hierarchy = "created_at"
    search_fields = ["code"]
    search_help_text = _("Code, name, e-mail address, ticket (17 or 7-000017), reservation id, pi_… or evt_…")
    actions = ["ensure_tickets", "ask_stripe", "close"]
    actions_detail = ["ensure_these_tickets", "ask_stripe_now", "close_this", "force_release", "review_is_done"]
    offered_in_status = {
        "ensure_these_tickets": (Order.Status.PAID,),
        "ask_stripe_now": (Order.Status.AWAITING_PAYMENT,),
        "close_this": (Order.Status.AWAITING_PAYMENT,),
        "force_release": (Order.Status.AWAITING_PAYMENT,),
        "review_is_done": tuple(Order.Status),
    }
    inlines = [LineInline, PaymentInline]
    fieldsets = [
        (None, {"fields": [("code", "status"), ("event", "total_in_words"), "needs_review", "pages"]}),
        (_("Buyer"), {"fields": [("name", "email"), "user"]}),
        (_("Refunds"), {"fields": ["refunds"]}),
        (_("Times"), {"fields": [("created_at", "paid_at"), "cancelled_at"]}),
        (_("What happened"), {"fields": ["history"]}),
    ]

    event_name = event_column
    created = moment_column("created_at", _("created at"))
    status_label = status_column({"PAID": GOOD, "AWAITING_PAYMENT": WAITING, "CANCELLED": BAD})

    def get_queryset(self, request: HttpRequest) -> QuerySet[Order]:
        return super().get_queryset(request).select_related("event", "user")

    def get_actions_detail(self, request: HttpRequest, object_id: int) -> list[UnfoldAction]:
        """Releasing by force is only for what cannot be closed in the ordinary way."""
        offered = super().get_actions_detail(request, object_id)
        is_stuck = str(object_id).isdecimal() and _is_stuck(int(object_id))
        return [one for one in offered if is_stuck or one.method.original_function_name != "force_release"]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Order], search_term: str
    ) -> tuple[QuerySet[Order], bool]:
        term = search_term.strip()
        return (queryset.filter(orders_matching(term)) if term else queryset), False

    @display(description=_("buyer"), ordering="name")
    def buyer(self, order: Order) -> SafeString:
        return two_lines(order.name, order.email)

    @display(description=_("needs review"), ordering="needs_review")
    def review(self, order: Order) -> SafeString | str:
        """Why, in full when it is pointed at."""
        return clipped(order.needs_review, 44) if order.needs_review else ""

    @display(description=_("total"), ordering="total_minor")
    def total_in_words(self, order: Order) -> str:
        return str(order.total)

    @display(description=_("see also"))
    def pages(self, order: Order) -> SafeString:
        page = link_out(order.get_absolute_url(), _("the buyer's page"))
        reservation = link_to("reservations_reservation_change", order.reservation_id, _("its reservation"))
        letters = link_out(list_url("ticketing_outgoingemail", q=order.code), _("its e-mails"))
        return side_by_side(page, reservation, letters)

    @display(description=_("refunds"))
    def refunds(self, order: Order) -> SafeString:
        """Of all its payments."""
        state = REFUND_STATES[order_status.status_of(order).refund]
        rows = list(_refunds_of(order).select_related("payment__order").order_by("pk"))
        return render_to_string("admin/refunds_of_order.html", {"refunds": rows, "state": state})

    @display(description=_("status changes"))
    def history(self, order: Order) -> SafeString:
        """Of the order, its reservation, its payments and refunds, in time order."""
        payments = [str(pk) for pk in order.payments.values_list("pk", flat=True)]
        refunds = [str(pk) for pk in _refunds_of(order).values_list("pk", flat=True)]
        return timeline(
            chain(
                OrderChange.objects.filter(kind="order", object_id=str(order.pk)),
                OrderChange.objects.filter(kind="reservation", object_id=str(order.reservation_id)),
                PaymentChange.objects.filter(kind="payment", object_id__in=payments),
                PaymentChange.objects.filter(kind="refund", object_id__in=refunds),
            )
        )

    @admin.action(description=_("Ensure tickets"), permissions=["act"])
    def ensure_tickets(self, request: HttpRequest, queryset: QuerySet[Order]) -> None:
        carry_out(self, request, queryset, _ensure_tickets)

    @admin.action(description=_("Ask Stripe"), permissions=["act"])
    def ask_stripe(self, request: HttpRequest, queryset: QuerySet[Order]) -> None:
        carry_out(self, request, queryset, lambda order: _ask(order, request), at_most=AT_MOST_WITH_NETWORK)

    @admin.action(description=_("Close unpaid order"), permissions=["act"])
    def close(self, request: HttpRequest, queryset: QuerySet[Order]) -> HttpResponse | None:
        question = _now("Close these orders? Their payments are cancelled at Stripe and their tickets go back on sale.")
        page = ask_first(self, request, queryset, action="close", question=question, button=_now("Yes, close"))
        if page is None:
            carry_out(self, request, queryset, lambda order: _close(order, request), at_most=AT_MOST_WITH_NETWORK)
        return page

    @action(
        description=_("Ensure tickets"),
        permissions=["act"],
        url_path="ensure-tickets",
        icon="confirmation_number",
        dialog=dialog(_("Ensure tickets?"), _("Issues what this order is owed and lacks; else nothing."), _("Ensure")),
    )
    def ensure_these_tickets(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        return carry_out_one(self, request, object_id, _ensure_tickets)

    @action(
        description=_("Ask Stripe"),
        permissions=["act"],
        url_path="ask-stripe",
        icon="sync",
        dialog=dialog(_("Ask Stripe?"), _("Fetches the payment and makes our books agree with it."), _("Ask")),
    )
    def ask_stripe_now(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        return carry_out_one(self, request, object_id, lambda order: _ask(order, request))

    @action(
        description=_("Close unpaid order"),
        permissions=["act"],
        url_path="close",
        icon="cancel",
        variant=ActionVariant.DANGER,
        dialog=dialog(
            _("Close this order?"),
            _("Its payment is cancelled at Stripe first; then its tickets go back on sale. This cannot be undone."),
            _("Close order"),
        ),
    )
    def close_this(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        return carry_out_one(self, request, object_id, lambda order: _close(order, request))

    @action(
        description=_("Release seats by force"),
        permissions=["act"],
        url_path="force-release",
        icon="warning",
        variant=ActionVariant.DANGER,
        dialog=dialog(
            _("Release the seats of this order by force?"),
            _(
                "Stripe has not confirmed that nothing can be charged for it. Its places go back on sale at once and the "
                "order is closed; the buyer gets no letter. Stripe is asked on, and if the buyer has paid, or still pays, "
                "they get their tickets where there is room, and else all of their money back."
            ),
            _("Release the seats"),
            form=ReleaseForm,
        ),
    )
    def force_release(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        why = form.cleaned_data["why"]
        return carry_out_one(self, request, object_id, lambda order: _force_release(order, request, why))

    @action(
        description=_("Review done"),
        permissions=["act"],
        url_path="review-done",
        icon="task_alt",
        dialog=dialog(
            _("Is the money of this order dealt with?"),
            _(
                "See its refunds first: what is owed and cannot be refunded from here must be paid in another way. The mark "
                "is then taken away; a paid order without tickets is closed and its places go back on sale. The buyer gets "
                "no letter from us."
            ),
            _("Review done"),
        ),
    )
    def review_is_done(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        return carry_out_one(self, request, object_id, lambda order: _review_done(order, request))


def _refunds_of(order: Order) -> QuerySet[Refund]:
    return Refund.objects.filter(payment__order=order)


def _is_stuck(order_id: int) -> bool:
    return expiry.stuck().filter(pk=order_id).exists()


def _force_release(order: Order, request: HttpRequest, why: str) -> str:
    if not _is_stuck(order.pk):
        raise Refused(
            _now("It is not stuck: it is closed, a bank is deciding, or it can still be closed by asking Stripe.")
        )
    try:
        expiry.force_release(order.pk, by=staff_name(request), why=why)
    except expiry.AlreadyPaid as refusal:
        raise Refused(_now("It is paid.")) from refusal
    except expiry.NotStuck as refusal:
        raise Refused(_now("It was closed meanwhile.")) from refusal
    return _now("released by force, its stock is free again")


def _review_done(order: Order, request: HttpRequest) -> str:
    if not order.needs_review:
        raise Refused(_now("It needs no review."))
    expiry.review_done(order.pk, by=f"staff:{request.user.pk}")
    return _now("reviewed")


def _ensure_tickets(order: Order) -> str:
    if order.status != Order.Status.PAID:
        raise Refused(_now("It is not paid; no tickets are owed."))
    issued = orders.ensure_tickets(order.pk)
    return _now("%(n)s tickets issued") % {"n": issued} if issued else _now("nothing was missing")


def _ask(order: Order, request: HttpRequest) -> str:
    try:
        settlement.sync(order.pk, by="staff")
    except (*stripe_gateway.NO_WORD, settlement.WrongMode) as error:
        raise Refused(_now("Stripe could not be asked (%(error)s).") % {"error": error}) from error
    order.refresh_from_db(fields=["status", "needs_review"])
    return _now("is %(status)s") % {"status": order.get_status_display()}


def _close(order: Order, request: HttpRequest) -> str:
    if order.status != Order.Status.AWAITING_PAYMENT:
        raise Refused(_now("It is %(status)s; only unpaid orders are closed.") % {"status": order.get_status_display()})
    try:
        expiry.close(order.pk, to=Reservation.Status.RELEASED, by=staff_name(request), why="closed by staff")
    except expiry.AlreadyPaid as refusal:
        raise Refused(
            _now("Stripe has its money. Either it is settled now, or it needs review: see above.")
        ) from refusal
    except expiry.CannotTell as refusal:
        text = _now(
            "Stripe did not say for certain that nothing will be charged. The seats stay kept; try again later."
        )
        raise Refused(text) from refusal
    return _now("closed, its stock is free again")
