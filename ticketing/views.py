"""The ticket page: opened by its secret, shown at the door."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from config.dates import in_words
from ticketing.models import Ticket
from ticketing.qr_codes import qr_svg, qr_text


def ticket(request: HttpRequest, secret: str) -> HttpResponse:
    """`/tickets/{secret}/`: whoever has the address has the ticket."""
    found = get_object_or_404(
        Ticket.objects.select_related("event__organiser", "product", "slot__event"), secret=secret
    )
    zone = found.event.time_zone
    shown = {
        "serial": found.serial,
        "number": found.number,
        "status": found.status,
        "holder_name": found.holder_name,
        "product_name": found.product.name,
        "entries_total": found.entries_total,
        "entries_used": found.entries_used,
        "valid_from_text": in_words(found.valid_from, zone) if found.valid_from else "",
        "valid_until_text": in_words(found.valid_until, zone) if found.valid_until else "",
    }
    context = {
        "ticket": shown,
        "event": found.event,
        "slot_when": found.slot.when if found.slot else "",
        "qr_svg": qr_svg(qr_text(found)),
    }
    return render(request, "ticketing/ticket.html", context)
