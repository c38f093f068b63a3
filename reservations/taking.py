"""One attempt to take a hold, as the JSON contract answers it: behind `api.Reservations` and behind its fast path."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from config import rate_limits
from config.problems import Problem, rate_limited
from config.rate_limits import RateLimited
from reservations import demand, holds
from reservations.holds import Hold, Wanted


def take(
    event: str, *, lines: Sequence[Wanted], key: str | None, promo_code: str, meta: Mapping[str, Any]
) -> tuple[Hold, bool]:
    """The hold, and whether it was there before. `meta`: the request's WSGI environment. Raises Problem."""
    attempt = rate_limits.attempt_of("hold", meta)
    try:
        hold, was_there = holds.reserve(event, lines=lines, key=key, promo_code=promo_code, attempt=attempt)
    except holds.SoldOut as refusal:
        for line in refusal.lines:
            demand.conflict(line["product"], line["slot"], line["requested"])
        raise Problem(409, "sold_out", _("Not enough tickets are left."), lines=refusal.lines) from None
    except RateLimited as refusal:
        demand.limit_hit(refusal.limit, refusal.who)
        raise rate_limited(refusal) from None
    except holds.Refusal as refusal:
        if isinstance(refusal, holds.KeyReused):
            demand.tally("hold_key_reused")
        raise _problem(refusal, promo_code) from None
    if was_there:
        demand.tally("hold_replayed")
    return hold, was_there


def _problem(refusal: holds.Refusal, promo_code: str) -> Problem:
    match refusal:
        case holds.NotOnSale():
            return Problem(409, "not_on_sale", _("This is not on sale at the moment."), lines=refusal.lines)
        case holds.LimitExceeded():
            message = _("That is more than one order may contain.")
            return Problem(409, "limit_exceeded", message, lines=refusal.lines)
        case holds.PromoCodeUsedUp():
            message = _("This promo code has been used as often as it may be.")
            return Problem(409, "limit_exceeded", message, promo_code=promo_code)
        case holds.KeyReused():
            message = _("This Idempotency-Key was used for another request.")
            return Problem(422, "idempotency_key_reused", message)
        case holds.InvalidPromoCode():
            message = str(_WRONG_CODE[refusal.reason])
            return Problem(400, "invalid", message, fields={"promo_code": [message]})
        case holds.InvalidLines():
            message = _("The request names a product or slot that this event does not have.")
            return Problem(400, "invalid", message, fields={"lines": refusal.mistakes})
        case holds.UnknownEvent():
            message = _("There is no such event.")
            return Problem(400, "invalid", message, fields={"event": [message]})
    raise refusal


_WRONG_CODE = {
    "unknown": _lazy("This promo code is not known."),
    "not_valid_now": _lazy("This promo code is not valid now."),
    "not_for_these": _lazy("This promo code is not for what was chosen."),
}
