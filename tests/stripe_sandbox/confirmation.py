"""Confirming a PaymentIntent: authenticate the buyer if the card wants it, then try to take the money."""

from __future__ import annotations

import contextlib
import copy
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from . import charges, payment_methods
from .call import BACKGROUND, Call
from .cards import Decline
from .checkout_sessions_outcome import follow
from .errors import DOC_URL, StripeError, card_error, invalid_request, unexpected_state
from .identifiers import new_id

if TYPE_CHECKING:
    from .sandbox import Sandbox

Record = dict[str, Any]
AUTHENTICATIONS = "_authentication"
LATEST_AUTHENTICATION = "_latest_authentication"
JOBS = "_job"
CONFIRMABLE = ("requires_payment_method", "requires_confirmation", "requires_action")
AUTHENTICATION_FAILED = (
    "The provided PaymentMethod has failed authentication. You can provide payment_method_data or a new "
    "PaymentMethod to attempt to fulfill this PaymentIntent again."
)
DEBIT_FAILED = Decline("payment_method_provider_decline", "The customer's bank refused this debit.")


def confirm(sandbox: Sandbox, intent: Record, call: Call) -> Record:
    params = call.params
    _must_be_confirmable(intent)
    method = _method(sandbox, intent, params)
    must_allow(intent, method)
    _must_have_return_url(intent, method, params)
    abandon_authentications(sandbox, intent["id"])
    intent.update(payment_method=method["id"], next_action=None, last_payment_error=None)
    if "receipt_email" in params:
        intent["receipt_email"] = params["receipt_email"]
    if method["type"] == "sepa_debit":
        return _begin_debit(sandbox, intent, method, call)
    if payment_methods.test_card_of(sandbox, method).authentication != "required":
        return _charge(sandbox, intent, method, call, authenticated=False)
    if params.get("off_session") or params.get("error_on_requires_action"):
        _refuse_without_authentication(sandbox, intent, method, call)
    return _require_authentication(sandbox, intent, method, call)


def finish_authentication(sandbox: Sandbox, authentication_id: str, *, succeeded: bool) -> Record:
    """The buyer answered the bank's page. Returns the intent as it is now, also when the answer came too late."""
    authentication = sandbox.state.get(AUTHENTICATIONS, authentication_id)
    if not authentication:
        raise LookupError(authentication_id)
    intent = sandbox.state.get("payment_intent", authentication["payment_intent"])
    assert intent
    if authentication["status"] != "pending" or intent["status"] != "requires_action":
        return intent
    authentication["status"] = "succeeded" if succeeded else "failed"
    sandbox.state.save(AUTHENTICATIONS, authentication)
    intent["next_action"] = None
    method = payment_methods.retrieve(sandbox, authentication["payment_method"])
    if succeeded:
        # Declined after authentication: the intent says so, and there is no API caller to tell.
        with contextlib.suppress(StripeError):
            _charge(sandbox, intent, method, BACKGROUND, authenticated=True)
    else:
        error = {
            "code": "payment_intent_authentication_failure",
            "doc_url": f"{DOC_URL}payment-intent-authentication-failure",
            "message": AUTHENTICATION_FAILED,
            "payment_method": copy.deepcopy(method),
            "type": "invalid_request_error",
        }
        _fail(sandbox, intent, error, BACKGROUND)
    return intent


def finish_debit(sandbox: Sandbox, intent: Record, *, succeeded: bool) -> Record:
    """The bank answered."""
    if intent["status"] != "processing":
        return intent
    for job in sandbox.state.all(JOBS):
        if job["payment_intent"] == intent["id"]:
            sandbox.state.delete(JOBS, job["id"])
    charge = charges.end_debit(
        sandbox, charges.retrieve(sandbox, intent["latest_charge"]), decline=None if succeeded else DEBIT_FAILED
    )
    if succeeded:
        return _succeed(sandbox, intent, charge, BACKGROUND)
    sandbox.events.emit("charge.failed", charge, BACKGROUND)
    method = payment_methods.retrieve(sandbox, intent["payment_method"])
    _fail(sandbox, intent, _payment_error(charge, method, DEBIT_FAILED), BACKGROUND)
    return intent


def abandon_authentications(sandbox: Sandbox, intent_id: str) -> None:
    authentication = pending_authentication(sandbox, intent_id)
    if authentication:
        authentication["status"] = "abandoned"
        sandbox.state.save(AUTHENTICATIONS, authentication)


def pending_authentication(sandbox: Sandbox, intent_id: str) -> Record | None:
    latest = sandbox.state.get(LATEST_AUTHENTICATION, intent_id)
    authentication = sandbox.state.get(AUTHENTICATIONS, latest["authentication"]) if latest else None
    return authentication if authentication and authentication["status"] == "pending" else None


def return_address(intent: Record, return_url: str) -> str:
    """Where the buyer lands, with what stripe.js appends (docs.stripe.com/payments/accept-a-payment)."""
    status = {"succeeded": "succeeded", "processing": "pending"}.get(intent["status"], "failed")
    query = urlencode(
        {
            "payment_intent": intent["id"],
            "payment_intent_client_secret": intent["client_secret"],
            "redirect_status": status,
        }
    )
    parts = urlsplit(return_url)
    return urlunsplit(parts._replace(query=f"{parts.query}&{query}" if parts.query else query))


def must_allow(intent: Record, method: Record) -> None:
    if method["type"] not in intent["payment_method_types"]:
        raise invalid_request(
            f"The PaymentMethod provided ({method['type']}) is not allowed for this PaymentIntent. Please attach "
            "another PaymentMethod or update the PaymentIntent to allow this type of PaymentMethod to continue.",
            param="payment_method",
        )


def _must_be_confirmable(intent: Record) -> None:
    if intent["status"] == "succeeded":
        raise unexpected_state(
            "You cannot confirm this PaymentIntent because it has already succeeded after being previously confirmed.",
            dict(intent),
        )
    if intent["status"] not in CONFIRMABLE:
        raise unexpected_state(
            f"You cannot confirm this PaymentIntent because it has a status of {intent['status']}. Only a "
            f"PaymentIntent with one of the following statuses may be confirmed: {', '.join(CONFIRMABLE)}.",
            dict(intent),
        )


def _method(sandbox: Sandbox, intent: Record, params: Record) -> Record:
    method_id = params.get("payment_method") or intent["payment_method"]
    if not method_id:
        raise unexpected_state(
            "You cannot confirm this PaymentIntent because it's missing a payment method. You can either update the "
            "PaymentIntent with a payment method and then confirm it again, or confirm it again directly with a "
            "payment method or ConfirmationToken.",
            dict(intent),
        )
    return payment_methods.retrieve(sandbox, method_id, in_path=False)


def _must_have_return_url(intent: Record, method: Record, params: Record) -> None:
    """Stripe demands it of every such intent; a plain card is let through here, so that one line of SDK code can pay."""
    if method["type"] == "card":
        return
    automatic = intent["automatic_payment_methods"]
    may_redirect = automatic and automatic["allow_redirects"] == "always"
    if may_redirect and not any(params.get(name) for name in ("return_url", "use_stripe_sdk", "off_session")):
        raise invalid_request(
            "This PaymentIntent is configured to accept payment methods enabled in your Dashboard. Because some "
            "of these payment methods might redirect your customer off of your page, you must provide a "
            "`return_url`. If you don't want to accept redirect-based payment methods, set "
            "`automatic_payment_methods[enabled]` to `true` and `automatic_payment_methods[allow_redirects]` to "
            "`never` when creating Setup Intents and Payment Intents.",
        )


def _require_authentication(sandbox: Sandbox, intent: Record, method: Record, call: Call) -> Record:
    authentication = sandbox.state.save(
        AUTHENTICATIONS,
        {
            "id": new_id("payatt"),
            "payment_intent": intent["id"],
            "payment_method": method["id"],
            "return_url": call.params.get("return_url"),
            "status": "pending",
            "created": sandbox.clock.now(),
        },
    )
    sandbox.state.save(LATEST_AUTHENTICATION, {"id": intent["id"], "authentication": authentication["id"]})
    url = f"{sandbox.base_url}/3ds/{authentication['id']}"
    if call.params.get("return_url") and not call.params.get("use_stripe_sdk"):
        action: Record = {
            "type": "redirect_to_url",
            "redirect_to_url": {"return_url": call.params["return_url"], "url": url},
        }
    else:
        action = {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect", "stripe_js": url}}
    intent.update(status="requires_action", next_action=action)
    sandbox.state.save("payment_intent", intent)
    sandbox.events.emit("payment_intent.requires_action", intent, call)
    return intent


def _refuse_without_authentication(sandbox: Sandbox, intent: Record, method: Record, call: Call) -> None:
    decline = Decline(
        "authentication_required",
        "Your card was declined. This transaction requires authentication.",
        "authentication_required",
    )
    charge = charges.attempt(sandbox, intent, method, decline=decline, authenticated=False)
    _decline(sandbox, intent, method, charge, decline, call)


def _charge(sandbox: Sandbox, intent: Record, method: Record, call: Call, *, authenticated: bool) -> Record:
    decline = payment_methods.test_card_of(sandbox, method).decline
    charge = charges.attempt(sandbox, intent, method, decline=decline, authenticated=authenticated)
    if decline:
        _decline(sandbox, intent, method, charge, decline, call)
    return _succeed(sandbox, intent, charge, call)


def _succeed(sandbox: Sandbox, intent: Record, charge: Record, call: Call) -> Record:
    intent.update(
        status="succeeded",
        amount_received=charge["amount_captured"],
        latest_charge=charge["id"],
        last_payment_error=None,
        next_action=None,
        processing=None,
    )
    sandbox.state.save("payment_intent", intent)
    sandbox.events.emit("charge.succeeded", charge, call)
    sandbox.events.emit("payment_intent.succeeded", intent, call)
    follow(sandbox, intent, call)
    return intent


def _decline(sandbox: Sandbox, intent: Record, method: Record, charge: Record, decline: Decline, call: Call) -> None:
    """Always raises: the buyer may try again with another card on the same intent."""
    sandbox.events.emit("charge.failed", charge, call)
    error = _payment_error(charge, method, decline)
    _fail(sandbox, intent, error, call)
    raise card_error(
        decline.message,
        code=decline.code,
        decline_code=decline.decline_code,
        charge=charge["id"],
        payment_intent=copy.deepcopy(intent),
        payment_method=copy.deepcopy(method),
    )


def _fail(sandbox: Sandbox, intent: Record, error: Record, call: Call) -> None:
    intent.update(
        status="requires_payment_method",
        payment_method=None,
        last_payment_error=error,
        next_action=None,
        processing=None,
        latest_charge=error.get("charge", intent["latest_charge"]),
    )
    sandbox.state.save("payment_intent", intent)
    sandbox.events.emit("payment_intent.payment_failed", intent, call)
    follow(sandbox, intent, call)


def _begin_debit(sandbox: Sandbox, intent: Record, method: Record, call: Call) -> Record:
    charge = charges.begin_debit(sandbox, intent, method)
    intent.update(status="processing", latest_charge=charge["id"])
    sandbox.state.save("payment_intent", intent)
    sandbox.state.save(
        JOBS,
        {
            "id": new_id("job"),
            "due_at": sandbox.clock.time() + sandbox.settings["debit_settles_after_seconds"],
            "payment_intent": intent["id"],
            "outcome": payment_methods.debit_outcome_of(sandbox, method),
        },
    )
    sandbox.events.emit("payment_intent.processing", intent, call)
    sandbox.events.emit("charge.pending", charge, call)
    follow(sandbox, intent, call)
    return intent


def _payment_error(charge: Record, method: Record, decline: Decline) -> Record:
    error = {
        "charge": charge["id"],
        "code": decline.code,
        "doc_url": DOC_URL + decline.code.replace("_", "-"),
        "message": decline.message,
        "payment_method": copy.deepcopy(method),
        "type": "card_error",
    }
    return error | ({"decline_code": decline.decline_code} if decline.decline_code else {})
