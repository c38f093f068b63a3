"""Checkout Sessions in payment mode: the merchant's side. The buyer's side is checkout_sessions_payment.py.

Since API 2022-08-01 there is no PaymentIntent until the buyer confirms; a session that is no longer open has no url.
"""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from . import customers, lists, money
from .call import BACKGROUND, Call
from .checkout_sessions_outcome import OPEN_SESSIONS, SESSIONS, close_expired
from .checkout_sessions_record import line_item, session_record
from .confirmation import abandon_authentications
from .errors import StripeError, invalid_request, resource_missing
from .metadata import merge

if TYPE_CHECKING:
    from .sandbox import Sandbox
    from .state import State

Record = dict[str, Any]
DETAILS = "_session_details"
"""Line items, and what the PaymentIntent will be given: kept beside the session, as Stripe does not show them with it."""
SHORTEST_SECONDS = 30 * 60
LONGEST_SECONDS = 24 * 3600
DEFAULT_PAGE = 10
KNOWN_TYPES = ("card", "sepa_debit")
SWITCHED_OFF = {"adaptive_pricing": "enabled", "automatic_tax": "enabled"}
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+")


def create(sandbox: Sandbox, call: Call) -> Record:
    params = call.params
    _refuse_what_is_missing_here(params)
    for name in ("success_url", "cancel_url"):
        _check_url(params.get(name), name)
    check_email(params.get("customer_email"), "customer_email")
    params.setdefault("expires_at", sandbox.clock.now() + LONGEST_SECONDS)
    _check_expiry(sandbox, params["expires_at"])
    currency = _one_currency(params["line_items"])
    items = [line_item(sandbox, given, currency) for given in params["line_items"]]
    amount = sum(item["amount_total"] for item in items)
    _check_total(amount, currency)
    session = session_record(
        sandbox, params, currency=currency, amount=amount, types=_types(sandbox, params, currency),
        email=_known_email(sandbox, params),
    )  # fmt: skip
    sandbox.state.save(DETAILS, _details(session, items, params))
    sandbox.state.save(OPEN_SESSIONS, {"id": session["id"], "expires_at": session["expires_at"]})
    return sandbox.state.save(SESSIONS, session)


def retrieve(sandbox: Sandbox, session_id: str) -> Record:
    session = sandbox.state.get(SESSIONS, session_id)
    if not session:
        raise resource_missing("checkout.session", session_id, param="session")
    return session


def update(sandbox: Sandbox, call: Call, session_id: str) -> Record:
    session = retrieve(sandbox, session_id)
    if "metadata" in call.params:
        session["metadata"] = merge(session["metadata"], call.params["metadata"])
    return sandbox.state.save(SESSIONS, session)


def expire(sandbox: Sandbox, call: Call, session_id: str) -> Record:
    session = retrieve(sandbox, session_id)
    if session["status"] != "open":
        raise invalid_request(
            'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a status of '
            f"`{session['status']}`."
        )
    return _expire(sandbox, session, call)


def expire_due(sandbox: Sandbox) -> None:
    """What Stripe does by itself when `expires_at` has come."""
    for entry in sandbox.state.all(OPEN_SESSIONS):
        if entry["expires_at"] <= sandbox.clock.time():
            _expire(sandbox, retrieve(sandbox, entry["id"]), BACKGROUND)


def list_page(sandbox: Sandbox, call: Call) -> Record:
    params = call.params
    wanted = {name: params[name] for name in ("customer", "payment_intent", "status") if name in params}
    email = params.get("customer_details", {}).get("email")

    def matches(session: Record) -> bool:
        known = session["customer_details"] or {}
        return all(session[name] == value for name, value in wanted.items()) and email in (None, known.get("email"))

    return lists.page(sandbox.state, SESSIONS, params, url="/v1/checkout/sessions", matches=matches)


def line_items(state: State, session: Record, params: Record) -> Record:
    """In the order they were given."""
    items = details_of(state, session)["items"]
    ids = [item["id"] for item in items]
    for name in ("starting_after", "ending_before"):
        if name in params and params[name] not in ids:
            raise resource_missing("line item", params[name], param=name, in_path=False)
    limit = params.get("limit", DEFAULT_PAGE)
    if "starting_after" in params:
        items = items[ids.index(params["starting_after"]) + 1 :]
    chosen = items[:limit]
    if "ending_before" in params:
        items = items[: ids.index(params["ending_before"])]
        chosen = items[-limit:]
    url = f"/v1/checkout/sessions/{session['id']}/line_items"
    return {"object": "list", "data": copy.deepcopy(chosen), "has_more": len(items) > limit, "url": url}


def details_of(state: State, session: Record) -> Record:
    details = state.get(DETAILS, session["id"])
    assert details
    return details


def check_email(email: str | None, param: str) -> None:
    if email is not None and not EMAIL.fullmatch(email):
        raise invalid_request(f"Invalid email address: {email}", code="email_invalid", param=param)


def _expire(sandbox: Sandbox, session: Record, call: Call) -> Record:
    intent = sandbox.state.get("payment_intent", session["payment_intent"] or "")
    close_expired(sandbox, session, call)
    if intent:
        # The buyer had tried: whoever still answers the bank's page changes nothing any more.
        abandon_authentications(sandbox, intent["id"])
        intent.update(
            status="canceled", canceled_at=sandbox.clock.now(), cancellation_reason="expired", next_action=None
        )
        sandbox.state.save("payment_intent", intent)
        sandbox.events.emit("payment_intent.canceled", intent, call)
    return session


def _details(session: Record, items: list[Record], params: Record) -> Record:
    products = [given["price_data"]["product_data"] for given in params["line_items"]]
    about = {item["id"]: product.get("description") for item, product in zip(items, products, strict=True)}
    return {"id": session["id"], "items": items, "about": about, "intent": params.get("payment_intent_data", {})}


def _refuse_what_is_missing_here(params: Record) -> None:
    """Parameters that may only say no: silence about a yes would hide a mistake."""
    asked = [name for name, switch in SWITCHED_OFF.items() if params.get(name, {}).get(switch)]
    asked += ["allow_promotion_codes"] if params.get("allow_promotion_codes") else []
    if asked:
        raise invalid_request(f"The offline Stripe knows {asked[0]} only switched off.", param=asked[0])


def _check_url(url: str | None, param: str) -> None:
    if url is None:
        return
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise invalid_request("Not a valid URL", code="url_invalid", param=param)


def _check_expiry(sandbox: Sandbox, expires_at: int) -> None:
    seconds = expires_at - sandbox.clock.now()
    if seconds < SHORTEST_SECONDS:
        raise _expiry("at least 30 minutes")
    if seconds > LONGEST_SECONDS:
        raise _expiry("less than 24 hours")


def _expiry(bound: str) -> StripeError:
    message = f"The `expires_at` timestamp must be {bound} from Checkout Session creation."
    return invalid_request(message, param="expires_at")


def _one_currency(given: list[Record]) -> str:
    if not given:
        raise invalid_request("Missing required param: line_items.", code="parameter_missing", param="line_items")
    currencies = sorted({str(item["price_data"]["currency"]).lower() for item in given})
    if currencies[1:]:
        raise invalid_request(
            f"All line items must be in one currency. You provided: {', '.join(currencies)}.", param="line_items"
        )
    return currencies[0]


def _check_total(amount: int, currency: str) -> None:
    if amount == 0:
        money.check(money.MAXIMUM_MINOR, currency)
        return
    try:
        money.check(amount, currency)
    except StripeError as error:
        if error.error.get("code") != "amount_too_small":
            raise
        least = money.write(money.MINIMUM_MINOR[currency], currency)
        message = f"The Checkout Session's total amount due must add up to at least {least} {currency}"
        raise invalid_request(message, code="amount_too_small") from None


def _types(sandbox: Sandbox, params: Record, currency: str) -> list[str]:
    given: list[str] | None = params.get("payment_method_types")
    if given is None:
        switched_on = sandbox.options.payment_method_types
        excluded = params.get("excluded_payment_method_types", [])
        return [name for name in switched_on if name not in excluded and (name != "sepa_debit" or currency == "eur")]
    for name in given:
        if name not in KNOWN_TYPES:
            raise invalid_request(
                f"The payment method type provided: {name} is invalid. Please ensure the provided type is activated "
                "in your dashboard (https://dashboard.stripe.com/account/payments/settings) and your account is "
                "enabled for any preview features that you are trying to use.",
                param="payment_method_types",
            )
    if not given:
        message = "You must provide at least one payment method type."
        raise invalid_request(message, param="payment_method_types")
    if "sepa_debit" in given and currency != "eur":
        raise invalid_request(
            f"The currency provided ({currency}) is invalid for one or more payment method types on this Checkout "
            "Session. The payment method type `sepa_debit` takes only eur.",
            param="payment_method_types",
        )
    return given


def _known_email(sandbox: Sandbox, params: Record) -> str | None:
    email: str | None = params.get("customer_email")
    if "customer" in params:
        if email:
            message = "You may only specify one of these parameters: customer, customer_email."
            raise invalid_request(message, param="customer")
        email = customers.retrieve(sandbox, params["customer"], param="customer", in_path=False)["email"]
    return email
