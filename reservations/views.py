"""The pages of the catalogue and the basket. Everything here works without JavaScript.

Catalogue pages carry no cookie and nothing of the person who looks, so that a cache may keep them.
"""

import secrets
import time
import uuid
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.db.models import Min
from django.db.models.functions import Now
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import cache_control
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from config import signed_calls
from config.dates import clock_time
from config.money import Money
from config.origin import is_same_origin
from reservations import availability, holds
from reservations.availability import Offer
from reservations.models import Order, Reservation, UsedSignature
from ticketing.models import Event

BUYER_COOKIE = "buyer"
MOST_LINES = 50  # as in the API
BUYER_COOKIE_AGE = 30 * 24 * 3600


@require_safe
@cache_control(public=True, max_age=5)
def event_list(request: HttpRequest) -> HttpResponse:
    """`/`: what is on, soonest first."""
    events = list(
        Event.objects.filter(status=Event.Status.PUBLISHED)
        .select_related("organiser")
        .annotate(from_price_minor=Min("products__price_minor"))
    )
    free, as_of = availability.of_events([event.pk for event in events])
    shown = [
        {
            "event": event,
            "from_price": Money(event.from_price_minor, event.currency) if event.from_price_minor is not None else None,
            "is_free": event.from_price_minor == 0,
            "state": _state_of_event(free[event.pk]),
        }
        for event in events
        if as_of is None or event.ends_at > as_of
    ]
    return render(request, "reservations/event_list.html", {"events": shown})


@require_safe
@cache_control(public=True, max_age=1)
def event_detail(request: HttpRequest, slug: str) -> HttpResponse:
    """`/events/{slug}/`: the products and what is left of them."""
    return _event_page(request, _published(slug))


@csrf_exempt  # no cookie authenticates here; the form's origin is checked instead (config.origin)
@require_POST
def hold(request: HttpRequest, slug: str) -> HttpResponse:
    """The choice on the event page: takes the hold and goes on to the basket, or shows the page again with the reason."""
    event = _published(slug)
    if not is_same_origin(request):
        return _event_page(
            request, event, errors=[_("The form came from another site. Please try again here.")], status=403
        )
    try:
        wanted = _chosen(request.POST)
    except ValueError:
        return _event_page(request, event, errors=[_("Please choose how many with whole numbers.")], status=400)
    if not wanted:
        return _event_page(request, event, errors=[_("Please choose at least one ticket.")], status=400)
    buyer_key = _buyer_key(request)
    try:
        taken, _is_replayed = holds.reserve(slug, lines=wanted, buyer_key=buyer_key)
    except holds.SoldOut as refusal:
        conflict = _conflict(event, refusal.lines)
        return _event_page(request, event, errors=[_("Not enough tickets are left.")], conflict=conflict, status=409)
    except holds.NotOnSale:
        return _event_page(request, event, errors=[_("Something you chose is not on sale now.")], status=409)
    except holds.LimitExceeded as refusal:
        limit = refusal.lines[0]["max_per_order"]
        message = ngettext("At most %(n)s per order, please.", "At most %(n)s of these per order, please.", limit)
        return _event_page(request, event, errors=[message % {"n": limit}], status=409)
    except holds.InvalidLines:
        return _event_page(request, event, errors=[_("Please choose a time for your tickets.")], status=400)
    response = HttpResponseRedirect(redirect("reservations:basket", taken.id).url, status=303)
    response.set_cookie(
        BUYER_COOKIE, buyer_key, max_age=BUYER_COOKIE_AGE, httponly=True, secure=request.is_secure(), samesite="Lax"
    )
    return response


@require_safe
def basket(request: HttpRequest, reservation_id: uuid.UUID) -> HttpResponse:
    """`/reservations/{id}/`: what is held, for how much, until when."""
    held = holds.look_up(reservation_id)
    if held is None:
        raise Http404
    reservation = Reservation.objects.select_related("event__organiser").get(pk=reservation_id)
    order = Order.objects.filter(reservation=reservation).first()
    notices = [str(message) for message in messages.get_messages(request)]
    context = {
        **hold_context(held, reservation),
        "notice": " ".join(notices),
        "order_url": order.get_absolute_url() if order else "",
    }
    return render(request, "reservations/basket.html", context)


@require_POST
def extend(request: HttpRequest, reservation_id: uuid.UUID) -> HttpResponse:
    """The basket's "more time" button; `next=pay` returns to the payment page."""
    try:
        if holds.extend(reservation_id) is None:
            raise Http404
    except holds.NotExtendable as refusal:
        reasons = {
            "already_extended": _("The time was extended before; that works once."),
            "ended": _("The time is over."),
            "not_extendable": _("This event does not extend the time."),
        }
        messages.warning(request, reasons[refusal.code])
    else:
        messages.success(request, _("You have more time now."))
    return redirect("payments:checkout" if request.POST.get("next") == "pay" else "reservations:basket", reservation_id)


@require_POST
def release(request: HttpRequest, reservation_id: uuid.UUID) -> HttpResponse:
    """The basket's "give back" button."""
    try:
        is_known = holds.release(reservation_id)
    except holds.NotReleasable:
        messages.warning(request, _("This was ordered already."))
        return redirect("reservations:basket", reservation_id)
    if not is_known:
        raise Http404
    return redirect("reservations:basket", reservation_id)


@csrf_exempt  # authenticated by its signature (config.signed_calls)
@require_POST
def release_expired_holds(request: HttpRequest) -> HttpResponse:
    """`POST /maintenance/release-expired-holds/`: the sweep, for a scheduler outside; signed, and each call once."""
    try:
        signature = signed_calls.verify(
            request.headers.get("X-Signature", ""), request.body, secret=settings.MAINTENANCE_SECRET, now=time.time()
        )
    except signed_calls.SignatureRefused:
        return JsonResponse({"code": "forbidden", "message": _("The signature was refused.")}, status=403)
    UsedSignature.objects.filter(used_at__lt=Now() - timedelta(seconds=4 * signed_calls.TOLERANCE_SECONDS)).delete()
    _row, is_first_use = UsedSignature.objects.get_or_create(signature=signature)
    if not is_first_use:
        return JsonResponse({"code": "forbidden", "message": _("The signature was refused.")}, status=403)
    return JsonResponse({"released": holds.release_expired()})


def hold_context(held: holds.Hold, reservation: Reservation) -> dict[str, Any]:
    """What every page that shows a running hold needs: lines, total and the clock."""
    zone = reservation.event.time_zone
    lines = list(reservation.lines.select_related("product", "slot"))
    for line in lines:
        line.reservation = reservation
        if line.slot:
            line.slot.event = reservation.event
    return {
        "reservation": held,
        "event": reservation.event,
        "lines": lines,
        "total": held.total,
        "is_free": not held.total,
        "server_time": held.server_time,
        "held_until": clock_time(held.expires_at, zone, seconds=True),
    }


def _published(slug: str) -> Event:
    return get_object_or_404(Event.objects.select_related("organiser"), slug=slug, status=Event.Status.PUBLISHED)


def _event_page(
    request: HttpRequest,
    event: Event,
    *,
    errors: list[str] | None = None,
    conflict: list[dict[str, Any]] | None = None,
    status: int = 200,
) -> HttpResponse:
    offers = availability.offers(event)
    state = availability.state_of([_free(offer) for offer in offers])
    context = {
        "event": event,
        "offers": [_offer_context(offer, request.POST) for offer in offers],
        "errors": errors or [],
        "conflict": conflict,
        "can_buy": state in {"available", "low"},
        "announced": state == "not_on_sale",
    }
    return render(request, "reservations/event_detail.html", context, status=status)


def _free(offer: Offer) -> availability.Free:
    return availability.Free(offer.product.pk, None, offer.available, offer.state)


def _offer_context(offer: Offer, chosen: QueryDict) -> dict[str, Any]:
    product = offer.product
    quantity = chosen.get(f"quantity-{product.pk}", "0")
    return {
        "product": product,
        "price": product.price,
        "is_free": product.price_minor == 0,
        "state": offer.state,
        "available": offer.available,
        "state_note": _state_note(offer),
        "field": f"quantity-{product.pk}",
        "quantity": int(quantity) if quantity.isdecimal() and len(quantity) < 5 else 0,
        "slot_field": f"slot-{product.pk}",
        "slots": [
            {
                "slot": entry.slot,
                "state": entry.state,
                "available": entry.available,
                "chosen": chosen.get(f"slot-{product.pk}") == str(entry.slot.pk),
            }
            for entry in offer.slots
        ],
    }


def _state_note(offer: Offer) -> str:
    if offer.state == "not_on_sale" and offer.product.sale_starts_at and not offer.product.is_stopped:
        return _("On sale from %(when)s") % {"when": offer.product.sale_opening}
    return ""


def _state_of_event(free: list[availability.Free]) -> str:
    words = {"available": "on_sale", "low": "on_sale", "not_on_sale": "announced"}
    state = availability.state_of(free)
    return words.get(state, state)


def _chosen(form: QueryDict) -> list[holds.Wanted]:
    """The lines that the form asks for; ValueError for quantities or slots that are no numbers."""
    wanted: list[holds.Wanted] = []
    for name, value in form.items():
        if len(wanted) > MOST_LINES:
            raise ValueError(name)
        if not name.startswith("quantity-") or not str(value).strip():
            continue
        product_id, quantity = _whole(name.removeprefix("quantity-")), _whole(str(value).strip())
        if quantity > 1_000 or not 0 < product_id < 2**63:
            raise ValueError(name)
        if quantity:
            slot = form.get(f"slot-{product_id}")
            slot_id = _whole(slot) if slot else None
            if slot_id is not None and not 0 < slot_id < 2**63:
                raise ValueError(name)
            wanted.append(holds.Wanted(product_id, slot_id, quantity))
    return wanted


def _whole(text: str) -> int:
    """Digits and nothing else: int() would also take "1_0" and digits of other scripts."""
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ValueError(text)
    return int(text)


def _conflict(event: Event, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    products = {product.pk: product.name for product in event.products.all()}
    slots = {slot.pk: slot for slot in event.slots.all()}
    return [
        {
            "product_name": products[line["product"]],
            "slot_when": slots[line["slot"]].when if line["slot"] else "",
            "requested": line["requested"],
            "available": line["available"],
        }
        for line in lines
    ]


def _buyer_key(request: HttpRequest) -> str:
    """The random name this browser is known by; it lets a returning buyer find the hold, and carries nothing else."""
    known = request.COOKIES.get(BUYER_COOKIE, "")
    return known if len(known) == 22 and known.isascii() else secrets.token_urlsafe(16)
