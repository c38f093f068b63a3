"""What can go wrong with Stripe, by what is known afterwards."""


class StripeUnavailable(Exception):
    """No answer, or one that says nothing (timeout, 5xx, 429): the call may or may not have had its effect.

    `was_answered`: it was a 5xx, so the request has ended, and Stripe repeats this answer under the same key.
    `is_transient`: trying again at once may help.
    """

    def __init__(self, reason: str, *, was_answered: bool = False, is_transient: bool = True) -> None:
        super().__init__(reason)
        self.was_answered = was_answered
        self.is_transient = is_transient


class StripePaused(StripeUnavailable):
    """Nothing was sent: the circuit breaker is open."""

    def __init__(self, why: str) -> None:
        super().__init__(f"paused: {why}", is_transient=False)


class StripeRefused(Exception):
    """Stripe understood the request and refused it. `code` is Stripe's own (docs.stripe.com/error-codes).

    `is_about_the_request`: its parameters were wrong, so nothing was done under its key.
    """

    def __init__(self, code: str, message: str, *, is_about_the_request: bool = False) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.is_about_the_request = is_about_the_request


class StripeMisconfigured(Exception):
    """Stripe does not know our key, or there is none."""


# Whoever cannot get Stripe's word tells its caller to come back.
NO_WORD = (StripeUnavailable, StripeRefused, StripeMisconfigured)


class BadSignature(Exception):
    """The webhook is not from Stripe, or was changed on the way."""


class StaleSignature(BadSignature):
    """Rightly signed, but too long ago: a replay, or a clock that is wrong."""


class UnreadableEvent(Exception):
    """Rightly signed, but not an event."""
