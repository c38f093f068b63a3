"""From our rows to Stripe's dashboard, and between what belongs together: payments, refunds, webhook events."""

from collections.abc import Iterable

from django.conf import settings
from django.db.models import QuerySet
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from payments.models import Payment, Refund, WebhookEvent
from ticketing.admin.columns import breakable, link_out, link_to, moment, side_by_side

DASHBOARD = "https://dashboard.stripe.com/"
REAL_API = "https://api.stripe.com"
EVENTS_SHOWN = 30


def in_dashboard(payment: Payment, text: str | None) -> SafeString | str:
    """`text`, one of Stripe's ids, as a link to the payment's page there; plain while another than Stripe answers."""
    intent = payment.stripe_payment_intent_id
    if not text or not intent or settings.STRIPE_API_BASE != REAL_API:
        return breakable(text) if text else ""
    mode = "" if payment.is_livemode else "test/"
    return link_out(f"{DASHBOARD}{mode}payments/{intent}", text)


def payment_link(payment: Payment) -> SafeString:
    return link_to("payments_payment_change", payment.pk, payment)


def order_link(payment: Payment) -> SafeString:
    return link_to("reservations_order_change", payment.order_id, payment.order.code)


def refund_link(refund: Refund, text: object = None) -> SafeString:
    return link_to("payments_refund_change", refund.pk, text or refund)


def events_about(*object_ids: str | None) -> QuerySet[WebhookEvent]:
    """What Stripe told us about any of these objects, the latest first."""
    wanted = [object_id for object_id in object_ids if object_id]
    return WebhookEvent.objects.filter(object_id__in=wanted).defer("payload").order_by("-pk")


def listed(events: Iterable[WebhookEvent]) -> SafeString | str:
    """One event a line: when, what, and what became of it."""
    lines = [
        (moment(event.received_at), link_to("payments_webhookevent_change", event.pk, event.type), _outcome(event))
        for event in events
    ]
    if not lines:
        return _("None yet.")
    return format_html("<ul>{}</ul>", format_html_join("", "<li>{} · {} · {}</li>", lines))


def _outcome(event: WebhookEvent) -> str:
    return f"{event.get_status_display()}, {event.get_source_display()}"


def subject_of(event: WebhookEvent) -> SafeString | str:
    """Our rows that the event is about: its order, payment and, if it is of one, refund."""
    if event.object_id.startswith("re_"):
        refund = _refunds().filter(stripe_refund_id=event.object_id).first()
        if refund is not None:
            of_refund = refund_link(refund, _("its refund"))
            return side_by_side(order_link(refund.payment), payment_link(refund.payment), of_refund)
    payments = Payment.objects.select_related("order")
    found = (
        payments.filter(stripe_payment_intent_id=event.object_id).first()
        or payments.filter(stripe_session_id=event.object_id).first()
        if event.object_id
        else None
    )
    return side_by_side(order_link(found), payment_link(found)) if found else _("nothing of ours")


def _refunds() -> QuerySet[Refund]:
    return Refund.objects.select_related("payment__order")
