"""The pages of the catalogue and the basket. Everything here works without JavaScript.

Catalogue pages carry no cookie and nothing of the person who looks, so that a cache may keep them.
"""

import math
import re
import secrets
import time
import uuid
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.db.models import Min
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import cache_control
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from config import problems, rate_limits, signed_calls
from config.dates import clock_time, rfc3339
from config.money import Money
from config.origin import is_same_origin
from reservations import availability, choice, demand, holds, sweeping
from reservations.availability import Offer
from reservations.models import Order, Reservation, ReservationLine, UsedSignature
from reservations.pricing import Price
from ticketing.models import Event

BUYER_COOKIE_AGE = 30 * 24 * 3600
# Says to our scripts, to whom the buyer's cookie is closed, that asking `mine` is worth a request.
HOLDING_COOKIE = "holding"
HOLDING_COOKIE_AGE = 24 * 3600
JOINED = "joined"  # the message that comes with a way to choose again
OPEN = frozenset({"available", "low"})

_REFUSALS = (
    rate_limits.RateLimited,
    holds.SoldOut,
    holds.NotOnSale,
    holds.LimitExceeded,
    holds.InvalidPromoCode,
    holds.PromoCodeUsedUp,
    holds.InvalidLines,
)


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
        wanted = choice.wanted_lines(request.POST)
    except ValueError:
        return _event_page(request, event, errors=[_("Please choose how many with whole numbers.")], status=400)
    if not wanted:
        return _event_page(request, event, errors=[_("Please choose at least one ticket.")], status=400)
    buyer_key, code = _buyer_key(request), choice.promo_code(request.POST)
    try:
        # A new browser is a buyer of its own: whole schools and telephone networks share an address.
        attempt = rate_limits.attempt_of("hold", request.META)._replace(buyer=buyer_key)
        taken, was_there = holds.reserve(slug, lines=wanted, buyer_key=buyer_key, promo_code=code, attempt=attempt)
    except _REFUSALS as refusal:
        return _refused(request, event, refusal)
    if was_there:
        _say_what_joining_means(request, taken, wanted, code)
    response = HttpResponseRedirect(redirect("reservations:basket", taken.id).url, status=303)
    response.set_cookie(
        rate_limits.BUYER_COOKIE,
        buyer_key,
        max_age=BUYER_COOKIE_AGE,
        httponly=True,
        secure=request.is_secure(),
        samesite="Lax",
    )
    response.set_cookie(HOLDING_COOKIE, "1", max_age=HOLDING_COOKIE_AGE, secure=request.is_secure(), samesite="Lax")
    return response


@require_safe
def my_holds(request: HttpRequest) -> HttpResponse:
    """`/reservations/`: what this browser holds or may still pay."""
    return render(request, "reservations/my_holds.html", {"holds": _mine(request)})


@require_safe
def mine(request: HttpRequest) -> JsonResponse:
    """`/reservations/mine/`: the same for the scripts of pages that caches keep and that hence cannot know it."""
    found = [
        {
            "event": entry["event"].slug,
            "tickets": entry["tickets"],
            "status": entry["hold"].status.lower(),
            "expires_at": rfc3339(entry["hold"].expires_at),
            "server_time": rfc3339(entry["hold"].server_time),
            "url": entry["url"],
            "message": entry["message"],
            "ended_message": entry["ended_message"],
        }
        for entry in _mine(request)
    ]
    response = JsonResponse({"holds": found})
    if not found:
        response.delete_cookie(HOLDING_COOKIE, samesite="Lax")
    return response


@require_safe
def basket(request: HttpRequest, reservation_id: uuid.UUID) -> HttpResponse:
    """`/reservations/{id}/`: what is held, for how much, until when."""
    held = holds.look_up(reservation_id)
    if held is None:
        raise Http404
    reservation = Reservation.objects.select_related("event__organiser").get(pk=reservation_id)
    order = Order.objects.filter(reservation=reservation).first()
    told = list(messages.get_messages(request))
    context = {
        **hold_context(held, reservation),
        "notice": " ".join(str(message) for message in told if message.extra_tags != JOINED),
        "joined": " ".join(str(message) for message in told if message.extra_tags == JOINED),
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
            "not_extendable": _("The time cannot be extended here."),
        }
        messages.warning(request, reasons[refusal.code])
    else:
        messages.success(request, _("You have more time now."))
    return redirect("payments:checkout" if request.POST.get("next") == "pay" else "reservations:basket", reservation_id)


@require_POST
def release(request: HttpRequest, reservation_id: uuid.UUID) -> HttpResponse:
    """The basket's "give back" button; `next=choose` goes on to the event's page."""
    try:
        is_known = holds.release(reservation_id)
    except holds.NotReleasable:
        messages.warning(request, _("This was ordered already."))
        return redirect("reservations:basket", reservation_id)
    if not is_known:
        raise Http404
    if request.POST.get("next") == "choose":
        return redirect(Event.objects.get(reservations=reservation_id))
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
    _row, is_first_use = UsedSignature.objects.get_or_create(signature=signature)
    if not is_first_use:
        return JsonResponse({"code": "forbidden", "message": _("The signature was refused.")}, status=403)
    released = sweeping.sweep_expired_holds(by="endpoint", for_seconds=sweeping.ENDPOINT_SECONDS)
    # What is left after the time for one call is released by the next.
    return JsonResponse({"released": released, "left": sweeping.holds_over()})


def hold_context(held: holds.Hold, reservation: Reservation) -> dict[str, Any]:
    """What every page that shows a running hold needs: lines, price and the clock."""
    zone = reservation.event.time_zone
    lines = list(reservation.lines.select_related("product", "slot"))
    for line in lines:
        line.reservation = reservation
        if line.slot:
            line.slot.event = reservation.event
    return {
        "reservation": held,
        "event": reservation.event,
        "lines": [_line_context(line) for line in lines],
        "price": Price(held.total + held.discount, held.discount, held.promo_code),
        "total": held.total,
        "is_free": not held.total,
        "server_time": held.server_time,
        "held_until": clock_time(held.expires_at, zone, seconds=True),
    }


def _line_context(line: ReservationLine) -> dict[str, Any]:
    return {
        "product_id": line.product_id,
        "product_name": line.product_name,
        "slot_id": line.slot_id,
        "slot_when": line.slot_when,
        "quantity": line.quantity,
        "unit_price": line.unit_price,
        "price": line.unit_price * line.quantity,
        "discount": Money(line.discount_minor, line.reservation.currency),
    }


def _mine(request: HttpRequest) -> list[dict[str, Any]]:
    found = holds.of_buyer(_known_buyer(request))
    events = {event.slug: event for event in Event.objects.filter(slug__in={held.event_slug for held in found})}
    return [_mine_context(held, events[held.event_slug]) for held in found]


def _mine_context(held: holds.Hold, event: Event) -> dict[str, Any]:
    is_ordered = held.status == Reservation.Status.ORDERED
    tickets = sum(line.quantity for line in held.lines)
    seconds = max(0, (held.expires_at - held.server_time).total_seconds())
    if is_ordered:
        message = ngettext(
            "Your order of %(n)s ticket for %(event)s waits for its payment",
            "Your order of %(n)s tickets for %(event)s waits for its payment",
            tickets,
        )
        ended_message = _("The time to pay for %(event)s is over.")
    else:
        message = ngettext(
            "You are holding %(n)s ticket for %(event)s", "You are holding %(n)s tickets for %(event)s", tickets
        )
        ended_message = _("Your hold for %(event)s has ended. Nothing was charged.")
    return {
        "hold": held,
        "event": event,
        "tickets": tickets,
        "is_ordered": is_ordered,
        "minutes_left": math.ceil(seconds / 60),
        "held_until": clock_time(held.expires_at, event.time_zone, seconds=True),
        "url": reverse("payments:checkout" if is_ordered else "reservations:basket", args=[held.id]),
        "message": message % {"n": tickets, "event": event.name},
        "ended_message": ended_message % {"event": event.name},
    }


def _published(slug: str) -> Event:
    return get_object_or_404(Event.objects.select_related("organiser"), slug=slug, status=Event.Status.PUBLISHED)


def _event_page(
    request: HttpRequest,
    event: Event,
    *,
    errors: list[str] | None = None,
    conflict: list[dict[str, Any]] | None = None,
    code_error: str = "",
    wait_seconds: int = 0,
    status: int = 200,
) -> HttpResponse:
    offers = availability.offers(event)
    state = availability.state_of([_free(offer) for offer in offers])
    code = choice.promo_code(request.POST or request.GET)
    context = {
        "event": event,
        "offers": [_offer_context(offer, request.POST) for offer in offers],
        "errors": errors or [],
        "conflict": conflict,
        "can_buy": state in OPEN,
        "state": state,
        "code": code,
        "code_error": code_error,
        "wait_seconds": wait_seconds,
        "takes_codes": bool(code) or event.promo_codes.filter(is_stopped=False).exists(),
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
        "is_open": offer.state in OPEN,
        "available": offer.available,
        "state_note": _state_note(offer),
        "field": f"quantity-{product.pk}",
        # What is closed is not chosen: its field cannot be seen, and would be refused again.
        "quantity": int(quantity) if offer.state in OPEN and quantity.isdecimal() and len(quantity) < 5 else 0,
        "slot_field": f"slot-{product.pk}",
        "slots": [
            {
                "slot": entry.slot,
                "state": entry.state,
                "is_open": entry.state in OPEN,
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


def _refused(request: HttpRequest, event: Event, refusal: Exception) -> HttpResponse:
    """The event's page again: what was chosen is kept, and the reason is said."""
    match refusal:
        case rate_limits.RateLimited():
            demand.limit_hit(refusal.limit, refusal.who)
            errors = [problems.wait_message(refusal)]
            response = _event_page(request, event, errors=errors, wait_seconds=refusal.retry_after, status=429)
            response["Retry-After"] = str(refusal.retry_after)
            return response
        case holds.SoldOut():
            for line in refusal.lines:
                demand.conflict(line["product"], line["slot"], line["requested"])
            conflict = _conflict(event, refusal.lines)
            return _event_page(request, event, conflict=conflict, status=409)
        case holds.NotOnSale():
            return _event_page(request, event, errors=[_("Something you chose is not on sale now.")], status=409)
        case holds.LimitExceeded():
            limit = refusal.lines[0]["max_per_order"]
            message = ngettext("At most %(n)s per order, please.", "At most %(n)s of these per order, please.", limit)
            return _event_page(request, event, errors=[message % {"n": limit}], status=409)
        case holds.InvalidPromoCode():
            code_error = {
                "unknown": _("We do not know this code for this event. Please check how it is written."),
                "not_valid_now": _("This code is not valid at the moment."),
                "not_for_these": _("This code is for other tickets than those you chose."),
            }[refusal.reason]
            return _event_page(request, event, code_error=code_error, status=400)
        case holds.PromoCodeUsedUp():
            code_error = _("This code has been used up. Without it, the tickets cost their full price.")
            return _event_page(request, event, code_error=code_error, status=409)
        case _:  # InvalidLines: the page offers no other mistake
            return _event_page(request, event, errors=[_("Please choose a time for your tickets.")], status=400)


def _say_what_joining_means(request: HttpRequest, held: holds.Hold, wanted: list[holds.Wanted], code: str) -> None:
    """One browser holds one event once: who asked for something else is told so; who asked for the same need not be."""
    asked = {(line.product_id, line.slot_id): line.quantity for line in wanted}
    if asked != {(line.product_id, line.slot_id): line.quantity for line in held.lines}:
        text = _("You already hold these for this event. To choose others, give these back first.")
    elif code and code.upper() != held.promo_code:
        text = _("You already hold these. To use a promo code, give them back first and choose again.")
    else:
        return
    messages.info(request, text, extra_tags=JOINED)


def _state_of_event(free: list[availability.Free]) -> str:
    words = {"available": "on_sale", "low": "on_sale", "not_on_sale": "announced"}
    state = availability.state_of(free)
    return words.get(state, state)


def _conflict(event: Event, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    products = {product.pk: product.name for product in event.products.all()}
    slots = {slot.pk: slot for slot in event.slots.all()}
    return [
        {
            "product_id": line["product"],
            "product_name": products[line["product"]],
            "slot_when": slots[line["slot"]].when if line["slot"] else "",
            "requested": line["requested"],
            "available": line["available"],
        }
        for line in lines
    ]


def _known_buyer(request: HttpRequest) -> str:
    known = request.COOKIES.get(rate_limits.BUYER_COOKIE, "")
    return known if re.fullmatch(r"[A-Za-z0-9_-]{22}", known) else ""


def _buyer_key(request: HttpRequest) -> str:
    """The random name this browser is known by; it lets a returning buyer find the hold, and carries nothing else."""
    return _known_buyer(request) or secrets.token_urlsafe(16)
