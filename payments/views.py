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
from payments import checkout, expiry, inbox, order_status, stripe_gateway
from payments.forms import DetailsForm
from payments.models import Payment
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


@require_http_methods(["GET", "HEAD", "POST"])
def checkout_page(request: HttpRequest, reservation_id: uuid.UUID) -> HttpResponse:
    """`/reservations/{id}/checkout/`: first the buyer's details, then, once ordered, the payment."""
    held = holds.look_up(reservation_id)
    if held is None:
        raise Http404
    if request.method == "POST":
        return _details_posted(request, held)
    order = checkout.order_of(reservation_id)
    if order is not None and order.status == Order.Status.AWAITING_PAYMENT and held.is_live:
        return _pay_page(request, held, order)
    if order is not None:
        return redirect(order.get_absolute_url())
    if not held.is_live:
        return redirect("reservations:basket", reservation_id)
    return _details_page(request, held, DetailsForm())


def _details_posted(request: HttpRequest, held: holds.Hold) -> HttpResponse:
    form = DetailsForm(request.POST)
    try:
        rate_limits.take("checkout", meta=request.META)
    except rate_limits.RateLimited as refusal:
        demand.limit_hit(refusal.limit, refusal.who)
        response = _details_page(request, held, form, errors=[problems.wait_message(refusal)], status=429)
        response["Retry-After"] = str(refusal.retry_after)
        return response
    if not form.is_valid():
        return _details_page(request, held, form, status=400)
    try:
        done = checkout.start(held.id, email=form.cleaned_data["email"], name=form.cleaned_data["name"])
    except (checkout.CheckoutEnded, NoSuchReservation):
        return redirect("reservations:basket", held.id)
    except holds.PromoCodeUsedUp:
        code = held.promo_code
        message = _(
            "With this e-mail address, %(code)s has been used as often as it may be. Please give these tickets back and"
            " choose them again without the code."
        )
        return _details_page(request, held, form, errors=[message % {"code": code}], status=409)
    except checkout.PaymentUnavailable:
        pass  # the payment page asks again, and says so while Stripe does not answer
    except checkout.PaymentRefused as refusal:
        message = _("This cannot be paid as it is; we have been told. Your reference is %(code)s.")
        messages.error(request, message % {"code": refusal.order.code})
    else:
        if done.payment is None:
            return HttpResponseRedirect(done.order.get_absolute_url(), status=303)
        if done.facts is not None and done.facts.redirect_url:
            return HttpResponseRedirect(done.facts.redirect_url, status=303)
    return HttpResponseRedirect(reverse("payments:checkout", args=[held.id]), status=303)


def _details_page(
    request: HttpRequest, held: holds.Hold, form: DetailsForm, *, errors: list[str] | None = None, status: int = 200
) -> HttpResponse:
    notices = " ".join(str(message) for message in messages.get_messages(request))
    context = {**_hold_context(held), "form": form, "notice": notices, "errors": errors or []}
    return render(request, "payments/details.html", context, status=status)


def _pay_page(request: HttpRequest, held: holds.Hold, order: Order) -> HttpResponse:
    config = {
        "checkout_url": reverse("payments:api-checkout", args=[held.id]),
        "publishable_key": settings.STRIPE_PUBLISHABLE_KEY,
        "email": order.email,
        "name": order.name,
        "return_url": request.build_absolute_uri(order.get_absolute_url()),
        "event_url": order.event.get_absolute_url(),
        "extend_url": reverse("reservations:api-extend", args=[held.id]),
    }
    context = {
        **_hold_context(held),
        "order": order,
        "config": config,
        "stripe_js_url": settings.STRIPE_JS_URL,
        "cancel_url": order.address_of("payments:cancel"),
        "notice": " ".join(str(message) for message in messages.get_messages(request)),
    }
    return render(request, "payments/pay.html", context)


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
        "pay_url": reverse("payments:checkout", args=[order.reservation_id]),
        "config": {
            "status_url": order.address_of("payments:api-status"),
            "sync_url": order.address_of("payments:api-sync"),
            "phase": phase,
            "poll_seconds": POLL_SECONDS,
            "poll_limit": POLL_LIMIT,
        },
        "notice": " ".join(str(message) for message in messages.get_messages(request)),
    }
    return render(request, "payments/order.html", context)


def _phase(status: order_status.OrderStatus, *, has_returned: bool) -> str:
    order, payment = status.order, status.payment
    if order.needs_review:
        return "review"
    if order.status == Order.Status.CANCELLED:
        return "cancelled"
    if order.status == Order.Status.PAID:
        return "paid" if status.is_done else "confirming"
    is_deciding = payment is not None and payment.status == Payment.Status.PROCESSING
    return "confirming" if has_returned or is_deciding else "awaiting"


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
        is_new = inbox.store(event)
    except RecursionError:
        return _webhook_problem(400, "invalid")  # nested deeper than anything Stripe sends
    except DatabaseError:
        logger.exception("webhook could not be stored")
        return _webhook_problem(503, "not_stored")
    return JsonResponse({"received": True, "duplicate": not is_new})


def _webhook_problem(status: int, code: str) -> JsonResponse:
    return JsonResponse({"code": code, "message": "The event was not accepted."}, status=status)
