"""Checkout and order pages, and the address that Stripe's webhooks come to."""

import uuid
from typing import Any

import structlog
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import RequestDataTooBig
from django.db import DatabaseError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from config import pages, problems, rate_limits
from config.dates import in_words
from payments import checkout, expiry, inbox, order_status, stripe_gateway, webhooks
from payments.forms import DetailsForm
from payments.models import Payment, Refund
from reservations import demand, holds
from reservations.models import Order, OrderLine, Reservation
from reservations.placement import NoSuchReservation
from reservations.pricing import price_of_order
from reservations.views import hold_context
from ticketing.models import EventKey, Ticket
from ticketing.qr_codes import key_of, qr_svg, qr_text

logger = structlog.get_logger(__name__)

WEBHOOK_MAX_BYTES = 1024 * 1024
POLL_SECONDS = 2
POLL_LIMIT = 15
PAUSED = "paused"  # the message of a payment that could not be begun on Stripe's page


@require_http_methods(["GET", "HEAD", "POST"])
def checkout_page(request: HttpRequest, reservation_id: uuid.UUID) -> HttpResponse:
    """`/reservations/{id}/checkout/`: first the buyer's details, then, once ordered, the payment."""
    held = holds.look_up(reservation_id)
    if held is None:
        raise Http404
    order = checkout.order_of(reservation_id)
    if request.method == "POST":
        return _details_posted(request, held, order)
    if order is not None and order.status == Order.Status.AWAITING_PAYMENT and held.is_live:
        return _payment_page(request, held, order)
    if order is not None:
        return redirect(order.get_absolute_url())
    if not held.is_live:
        return redirect("reservations:basket", reservation_id)
    return _details_page(request, held, DetailsForm())


def _details_posted(request: HttpRequest, held: holds.Hold, order: Order | None) -> HttpResponse:
    """The details, or, once ordered, just "continue": the order knows who buys."""
    is_continued = order is not None and "continue" in request.POST
    form = DetailsForm({"name": order.name, "email": order.email} if order and is_continued else request.POST)
    try:
        rate_limits.take("checkout", meta=request.META)
    except rate_limits.RateLimited as refusal:
        demand.limit_hit(refusal.limit, refusal.who)
        response = _refused(request, held, order, form, problems.wait_message(refusal), status=429)
        response["Retry-After"] = str(refusal.retry_after)
        return response
    if not form.is_valid():
        return _details_page(request, held, form, status=400)
    try:
        done = checkout.start(held.id, email=form.cleaned_data["email"], name=form.cleaned_data["name"])
    except (checkout.CheckoutEnded, NoSuchReservation):
        return redirect(order) if order else redirect("reservations:basket", held.id)
    except holds.PromoCodeUsedUp:
        message = _(
            "With this e-mail address, %(code)s has been used as often as it may be. Please give these tickets back and"
            " choose them again without the code."
        )
        return _refused(request, held, order, form, message % {"code": held.promo_code}, status=409)
    except checkout.PaymentUnavailable:
        messages.warning(request, _("Payment is paused."), extra_tags=PAUSED)
    except checkout.PaymentRefused as refusal:
        message = _("This cannot be paid as it is; we have been told. Your reference is %(code)s.")
        messages.error(request, message % {"code": refusal.order.code})
    else:
        return HttpResponseRedirect(_next_address(done), status=303)
    return HttpResponseRedirect(reverse("payments:checkout", args=[held.id]), status=303)


def _next_address(done: checkout.Checkout) -> str:
    """Where the buyer goes on: to Stripe's page, to the payment on ours, or to the order when there is nothing to pay."""
    if done.facts is None:
        return done.order.get_absolute_url()
    if done.facts.redirect_url:
        return done.facts.redirect_url
    if done.facts.session_id:  # it takes no payment any more; the order's page finds out why
        return f"{done.order.get_absolute_url()}&redirect_status=returned"
    return reverse("payments:checkout", args=[done.order.reservation_id])


def _refused(
    request: HttpRequest, held: holds.Hold, order: Order | None, form: DetailsForm, message: str, *, status: int
) -> HttpResponse:
    if order is not None and order.status == Order.Status.AWAITING_PAYMENT:
        return _payment_page(request, held, order, errors=[message], status=status)
    return _details_page(request, held, form, errors=[message], status=status)


def _details_page(
    request: HttpRequest, held: holds.Hold, form: DetailsForm, *, errors: list[str] | None = None, status: int = 200
) -> HttpResponse:
    notices = " ".join(str(message) for message in messages.get_messages(request))
    context = {**_hold_context(held), "form": form, "notice": notices, "errors": errors or []}
    return render(request, "payments/details.html", context, status=status)


def _payment_page(
    request: HttpRequest, held: holds.Hold, order: Order, *, errors: list[str] | None = None, status: int = 200
) -> HttpResponse:
    payment = order.payments.order_by("-attempt").first()
    if payment is not None and payment.status == Payment.Status.PROCESSING:
        return redirect(order)  # the bank decides: there is nothing to do here
    told = list(messages.get_messages(request))
    context = {
        **_hold_context(held),
        "order": order,
        "cancel_url": order.address_of("payments:cancel"),
        "errors": errors or [],
        "notice": " ".join(str(message) for message in told if message.extra_tags != PAUSED),
    }
    if payment is not None and payment.mode == Payment.Mode.HOSTED:
        is_paused = any(message.extra_tags == PAUSED for message in told)
        context |= {"is_paused": is_paused, "is_back": "back" in request.GET}
        return render(request, "payments/pay_hosted.html", context, status=status)
    context |= {"config": _pay_config(request, held, order), "stripe_js_url": settings.STRIPE_JS_URL}
    return render(request, "payments/pay.html", context, status=status)


def _pay_config(request: HttpRequest, held: holds.Hold, order: Order) -> dict[str, str]:
    return {
        "checkout_url": reverse("payments:api-checkout", args=[held.id]),
        "publishable_key": settings.STRIPE_PUBLISHABLE_KEY,
        "email": order.email,
        "name": order.name,
        "return_url": request.build_absolute_uri(order.get_absolute_url()),
        "status_url": order.address_of("payments:api-status"),
        "event_url": order.event.get_absolute_url(),
        "extend_url": reverse("reservations:api-extend", args=[held.id]),
    }


def _hold_context(held: holds.Hold) -> dict[str, Any]:
    return hold_context(held, Reservation.objects.select_related("event__organiser").get(pk=held.id))


@require_safe
def order_page(request: HttpRequest, code: str) -> HttpResponse:
    """`/orders/{code}/?secret=…`: how far the order is; its tickets once it is paid.

    What Stripe's redirect adds to the address (`redirect_status=succeeded`) is a hint to show "confirming", no proof.
    """
    order = _order(request, code)
    status = order_status.status_of(order)
    lines = list(order.lines.select_related("product", "slot", "ticket"))
    for line in lines:
        line.order = order
        if line.slot:
            line.slot.event = order.event
    phase = _phase(status, has_returned="redirect_status" in request.GET)
    context = {
        "order": order,
        "event": order.event,
        "lines": lines,
        "price": price_of_order(order, lines),
        "tickets": _tickets_context(order, lines),
        "phase": phase,
        "message": "" if phase == "paid" else status.message,  # the heading says it
        "refunds": [_refund_context(refund, order) for refund in status.refunds],
        "pay_url": reverse("payments:checkout", args=[order.reservation_id]),
        "config": {
            "status_url": order.address_of("payments:api-status"),
            "sync_url": order.address_of("payments:api-sync"),
            "phase": phase,
            "done": status.is_done,
            "poll_seconds": POLL_SECONDS,
            "poll_limit": POLL_LIMIT,
        },
        "notice": " ".join(str(message) for message in messages.get_messages(request)),
    }
    return render(request, "payments/order.html", context)


def _phase(status: order_status.OrderStatus, *, has_returned: bool) -> str:
    """Which of its faces the order page shows: paid, confirming, awaiting, over (being closed), and review; when it is
    closed: refunding, refunded, unheard (Stripe has not said whether it was paid), closed by staff, expired, cancelled.
    """
    order, payment = status.order, status.payment
    if order.status == Order.Status.PAID and status.is_done:
        return "paid"
    if order.status == Order.Status.CANCELLED and status.refund == "full":
        return "refunding" if status.is_owed else "refunded"
    if order.needs_review:
        return "review"
    if order.status == Order.Status.CANCELLED:
        return _closed_phase(status)
    if order.status == Order.Status.PAID:
        return "confirming"
    is_deciding = payment is not None and payment.status == Payment.Status.PROCESSING
    if has_returned or is_deciding:
        return "confirming"
    held = holds.look_up(order.reservation_id)
    return "awaiting" if held is not None and held.is_live else "over"


def _closed_phase(status: order_status.OrderStatus) -> str:
    if status.is_undecided:
        return "unheard"
    if status.payment is not None and status.payment.status == Payment.Status.SUCCEEDED:
        return "closed"
    return "expired" if status.order.reservation.status == Reservation.Status.EXPIRED else "cancelled"


def _refund_context(refund: Refund, order: Order) -> dict[str, Any]:
    words = {
        Refund.Status.REQUESTED: _("On its way since %(when)s"),
        Refund.Status.SUBMITTED: _("On its way since %(when)s"),
        Refund.Status.SUCCEEDED: _("Sent back on %(when)s"),
        Refund.Status.FAILED: _("It did not arrive; we are looking into it"),
    }[Refund.Status(refund.status)]
    when = in_words(refund.succeeded_at or refund.created_at, order.event.time_zone)
    return {
        "amount": refund.amount,
        "words": words % {"when": when} if "%(when)s" in words else words,
        "reason": refund.reason,
        "is_done": refund.status == Refund.Status.SUCCEEDED,
        "has_failed": refund.status == Refund.Status.FAILED,
    }


def _tickets_context(order: Order, lines: list[OrderLine]) -> list[dict[str, Any]]:
    issued = [(line, line.ticket) for line in lines if line.ticket]
    key = key_of(order.event) if issued else None
    return [_ticket_context(line, ticket, key) for line, ticket in issued]


def _ticket_context(line: OrderLine, ticket: Ticket, key: EventKey | None) -> dict[str, Any]:
    ticket.event = line.order.event
    zone = ticket.event.time_zone
    return {
        "serial": ticket.serial,
        "number": ticket.number,
        "product_name": line.product_name,
        "slot_when": line.slot_when,
        "status": ticket.status,
        "url": ticket.get_absolute_url(),
        "qr_svg": qr_svg(qr_text(ticket, key)),
        "holder_name": ticket.holder_name,
        "entries_total": ticket.entries_total,
        "valid_until_text": in_words(ticket.valid_until, zone) if ticket.valid_until else "",
    }


@require_POST
def cancel(request: HttpRequest, code: str) -> HttpResponse:
    """The "cancel this order" button: Stripe first, then the stock."""
    order = _order(request, code)
    try:
        rate_limits.take("sync", meta=request.META)
        expiry.close(order.pk, to=Reservation.Status.RELEASED, by="buyer", why="cancelled by the buyer")
    except rate_limits.RateLimited as refusal:
        demand.limit_hit(refusal.limit, refusal.who)
        return pages.too_many_requests(request, refusal)
    except expiry.AlreadyPaid:
        messages.warning(request, _("This order is paid and cannot be cancelled here."))
    except expiry.BankDecides:
        messages.warning(request, _("Your bank is still deciding about this payment, so we cannot cancel it now."))
    except expiry.CannotTell:
        messages.warning(request, _("The payment service does not answer. Please try again in a minute."))
    return redirect(order.get_absolute_url())


def _order(request: HttpRequest, code: str) -> Order:
    try:
        return order_status.find(code, secret=request.GET.get("secret", ""))
    except order_status.NoSuchOrder:
        raise Http404 from None


@csrf_exempt  # authenticated by Stripe's signature over the raw body
@require_POST
def stripe_webhook(request: HttpRequest) -> HttpResponse:
    """`POST /webhooks/stripe/`: verified, stored, answered. Nothing is done here but that, so it stays fast.

    Never 200 without a row: what cannot be stored is answered 503, and Stripe sends it again.
    """
    try:
        if int(request.headers.get("Content-Length") or 0) > WEBHOOK_MAX_BYTES or len(request.body) > WEBHOOK_MAX_BYTES:
            return _webhook_problem(413, "too_large")
    except (ValueError, RequestDataTooBig):
        return _webhook_problem(413, "too_large")
    try:
        event = stripe_gateway.read_webhook(request.body, request.headers.get("Stripe-Signature", ""))
    except stripe_gateway.StaleSignature:
        logger.warning("webhook refused", reason="timestamp")
        demand.tally("webhook_refused_timestamp")
        return _webhook_problem(400, "bad_signature")
    except stripe_gateway.BadSignature:
        logger.warning("webhook refused", reason="signature")
        demand.tally("webhook_refused_signature")
        return _webhook_problem(400, "bad_signature")
    except stripe_gateway.UnreadableEvent:
        logger.warning("webhook refused", reason="unreadable")
        demand.tally("webhook_refused_unreadable")
        return _webhook_problem(400, "invalid")
    try:
        is_new = inbox.store(event, is_handled=event["type"] in webhooks.HANDLERS)
    except RecursionError:
        return _webhook_problem(400, "invalid")  # nested deeper than anything Stripe sends
    except DatabaseError:
        logger.exception("webhook could not be stored")
        return _webhook_problem(503, "not_stored")
    return JsonResponse({"received": True, "duplicate": not is_new})


def _webhook_problem(status: int, code: str) -> JsonResponse:
    return JsonResponse({"code": code, "message": "The event was not accepted."}, status=status)
