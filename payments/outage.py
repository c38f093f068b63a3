"""While Stripe is out of reach: nobody loses a seat over it, and its return is noticed without a buyer trying.

Each hold whose payment cannot go on gets more time once, from the system, beside the buyer's own extension.
"""

import uuid

import structlog

from payments import breaker, stripe_gateway
from reservations import holds

logger = structlog.get_logger(__name__)

KEEP_MINUTES = 10
ABOUT_TO_END_SECONDS = 60


def keep(reservation_id: uuid.UUID) -> bool:
    """The payment of a hold could not be begun: it gets its minutes, unless it has had them."""
    return holds.keep([reservation_id], minutes=KEEP_MINUTES) == 1


def tend() -> None:
    """While calls are stopped: gives holds that are about to end more time, and asks Stripe whether it is back."""
    if breaker.state().is_closed:
        return
    if kept := holds.keep_ending(within_seconds=ABOUT_TO_END_SECONDS, minutes=KEEP_MINUTES):
        logger.warning("holds kept while payment is paused", count=kept)
    try:
        stripe_gateway.ping()
    except stripe_gateway.NO_WORD as error:
        logger.info("stripe is still away", error=str(error))
