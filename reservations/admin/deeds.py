"""What staff do to a hold, in words: one domain call each."""

from django.http import HttpRequest
from django.utils.translation import gettext as _

from reservations import holds
from reservations.models import Reservation
from ticketing.admin.actions import Refused, staff_name

EXTENSIONS_MINUTES = (5, 10, 15, 30)


def release(reservation: Reservation, request: HttpRequest) -> str:
    if reservation.status in (Reservation.Status.RELEASED, Reservation.Status.EXPIRED):
        raise Refused(_("It has ended already; nothing is held."))
    try:
        holds.release(reservation.pk, by=staff_name(request))
    except holds.NotReleasable as refusal:
        if refusal.status == Reservation.Status.CONFIRMED:
            raise Refused(_("It is paid for.")) from refusal
        raise Refused(_("It was ordered: close its order instead.")) from refusal
    return _("released")


def extend(reservation: Reservation, request: HttpRequest, *, minutes: int) -> str:
    if minutes not in EXTENSIONS_MINUTES:
        raise Refused(_("Choose how many minutes."))
    try:
        holds.extend_by_staff(reservation.pk, minutes=minutes, by=staff_name(request))
    except holds.NotExtendable as refusal:
        raise Refused(_("It has ended already; there is nothing to extend.")) from refusal
    return _("extended by %(n)s minutes") % {"n": minutes}
