"""PaymentIntents: create, read, change, cancel. Taking the money is in confirmation.py.

Statuses and what leads where: docs.stripe.com/payments/paymentintents/lifecycle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import customers, lists, money, payment_methods
from .call import Call
from .checkout_sessions_outcome import must_be_bare
from .confirmation import abandon_authentications, confirm, must_allow
from .errors import invalid_request, resource_missing, unexpected_state
from .identifiers import new_client_secret, new_id
from .metadata import merge
from .tables import ADDRESS

if TYPE_CHECKING:
    from .sandbox import Sandbox

Record = dict[str, Any]
OPEN = ("requires_payment_method", "requires_confirmation", "requires_action")
CANCELABLE = (
    "requires_payment_method", "requires_capture", "requires_confirmation", "requires_action", "processing",
)  # fmt: skip
KNOWN_TYPES = ("card", "sepa_debit")
COPIED = ("description", "receipt_email", "statement_descriptor_suffix")
# What a browser with the client secret may see (docs.stripe.com/api/payment_intents/object, "publishable key").
PUBLIC = (
    "id", "object", "amount", "amount_details", "automatic_payment_methods", "canceled_at", "cancellation_reason",
    "capture_method", "client_secret", "confirmation_method", "created", "currency", "description",
    "last_payment_error", "livemode", "next_action", "payment_method", "payment_method_configuration_details",
    "payment_method_types", "processing", "receipt_email", "setup_future_usage", "shipping", "status",
)  # fmt: skip


def create(sandbox: Sandbox, call: Call) -> Record:
    params = call.params
    currency = params["currency"].lower()
    money.check(params["amount"], currency)
    automatic, types = _payment_method_types(sandbox, params)
    if "customer" in params:
        customers.retrieve(sandbox, params["customer"], param="customer", in_path=False)
    intent = _intent(sandbox, call, currency, automatic, types)
    if "payment_method" in params:
        _choose_method(sandbox, intent, params["payment_method"])
    sandbox.state.save("payment_intent", intent)
    sandbox.events.emit("payment_intent.created", intent, call)
    return confirm(sandbox, intent, call) if params.get("confirm") else intent


def retrieve(sandbox: Sandbox, intent_id: str) -> Record:
    intent = sandbox.state.get("payment_intent", intent_id)
    if not intent:
        raise resource_missing("payment_intent", intent_id, param="intent")
    return intent


def update(sandbox: Sandbox, call: Call, intent_id: str) -> Record:
    intent, params = retrieve(sandbox, intent_id), call.params
    frozen = [name for name in ("amount", "currency", "payment_method", "payment_method_types") if name in params]
    if frozen and intent["status"] not in OPEN:
        raise unexpected_state(
            f"This PaymentIntent's {frozen[0]} could not be updated because it has a status of {intent['status']}. "
            f"You may only update the {frozen[0]} of a PaymentIntent with one of the following statuses: "
            f"{', '.join(OPEN)}.",
            dict(intent),
        )
    if frozen:
        must_be_bare(sandbox, intent)
    asked = intent | params
    amount, currency = asked["amount"], asked["currency"].lower()
    money.check(amount, currency)
    if "customer" in params:
        customers.retrieve(sandbox, params["customer"], param="customer", in_path=False)
    metadata = merge(intent["metadata"], params["metadata"]) if "metadata" in params else intent["metadata"]
    if "payment_method_types" in params:
        intent["payment_method_types"] = _known(params["payment_method_types"])
        intent["automatic_payment_methods"] = None
    if "payment_method" in params:
        _choose_method(sandbox, intent, params["payment_method"])
    intent.update({name: params[name] for name in (*COPIED, "customer") if name in params})
    if "shipping" in params:
        intent["shipping"] = _shipping(params["shipping"])
    intent.update(amount=amount, currency=currency, metadata=metadata)
    return sandbox.state.save("payment_intent", intent)


def confirm_by_id(sandbox: Sandbox, call: Call, intent_id: str) -> Record:
    intent = retrieve(sandbox, intent_id)
    must_be_bare(sandbox, intent)
    return confirm(sandbox, intent, call)


def cancel(sandbox: Sandbox, call: Call, intent_id: str) -> Record:
    intent = retrieve(sandbox, intent_id)
    # A bank debit under way cannot be called back; Stripe names "processing" for rarer methods only.
    if intent["status"] not in CANCELABLE or intent["status"] == "processing":
        raise unexpected_state(
            f"You cannot cancel this PaymentIntent because it has a status of {intent['status']}. Only a PaymentIntent "
            f"with one of the following statuses may be canceled: {', '.join(CANCELABLE)}.",
            dict(intent),
        )
    must_be_bare(sandbox, intent)
    abandon_authentications(sandbox, intent["id"])
    intent.update(
        status="canceled",
        canceled_at=sandbox.clock.now(),
        cancellation_reason=call.params.get("cancellation_reason"),
        next_action=None,
    )
    sandbox.state.save("payment_intent", intent)
    sandbox.events.emit("payment_intent.canceled", intent, call)
    return intent


def list_page(sandbox: Sandbox, call: Call) -> Record:
    customer = call.params.get("customer")
    return lists.page(
        sandbox.state,
        "payment_intent",
        call.params,
        url="/v1/payment_intents",
        matches=lambda intent: customer is None or intent["customer"] == customer,
    )


def public(intent: Record) -> Record:
    return {name: intent[name] for name in PUBLIC if name in intent}


def _choose_method(sandbox: Sandbox, intent: Record, method_id: str) -> None:
    method = payment_methods.retrieve(sandbox, method_id, in_path=False)
    must_allow(intent, method)
    abandon_authentications(sandbox, intent["id"])
    intent.update(payment_method=method["id"], status="requires_confirmation", next_action=None)


def _payment_method_types(sandbox: Sandbox, params: Record) -> tuple[Record | None, list[str]]:
    automatic = params.get("automatic_payment_methods")
    if "payment_method_types" in params:
        if automatic and automatic["enabled"]:
            raise invalid_request(
                "You may only specify one of these parameters: automatic_payment_methods, payment_method_types.",
                param="automatic_payment_methods",
            )
        return None, _known(params["payment_method_types"])
    if automatic and not automatic["enabled"]:
        return None, ["card"]
    # Since API 2023-08-16 automatic payment methods are on unless said otherwise.
    excluded = params.get("excluded_payment_method_types", [])
    switched_on = [
        name
        for name in sandbox.options.payment_method_types
        if _fits(name, params["currency"]) and name not in excluded
    ]
    return {"allow_redirects": "always"} | (automatic or {}) | {"enabled": True}, switched_on


def _fits(method_type: str, currency: str) -> bool:
    return method_type != "sepa_debit" or currency.lower() == "eur"


def _known(types: list[str]) -> list[str]:
    for name in types:
        if name not in KNOWN_TYPES:
            raise invalid_request(
                f"The payment method type provided: {name} is invalid. Please ensure the provided type is activated "
                "in your dashboard (https://dashboard.stripe.com/account/payments/settings) and your account is "
                "enabled for any preview features that you are trying to use.",
                code="payment_intent_invalid_parameter",
                param="payment_method_types",
            )
    return types


def _shipping(given: Record | None) -> Record | None:
    """What was not given is said to be nothing."""
    if given is None:
        return None
    address = dict.fromkeys(ADDRESS) | given["address"]
    return dict.fromkeys(("carrier", "phone", "tracking_number")) | given | {"address": address}


def _intent(sandbox: Sandbox, call: Call, currency: str, automatic: Record | None, types: list[str]) -> Record:
    params = call.params
    intent_id = new_id("pi")
    return {
        "id": intent_id,
        "object": "payment_intent",
        "amount": params["amount"],
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": automatic,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": params.get("capture_method", "automatic_async"),
        "client_secret": new_client_secret(intent_id),
        "confirmation_method": "automatic",
        "created": sandbox.clock.now(),
        "currency": currency,
        "customer": params.get("customer"),
        "customer_account": None,
        "description": params.get("description"),
        "excluded_payment_method_types": params.get("excluded_payment_method_types"),
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "metadata": merge({}, params.get("metadata", {})),
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": None,
        "payment_method_configuration_details": None,
        "payment_method_options": {
            "card": {
                "installments": None,
                "mandate_options": None,
                "network": None,
                "request_three_d_secure": "automatic",
            }
        },
        "payment_method_types": types,
        "processing": None,
        "receipt_email": params.get("receipt_email"),
        "review": None,
        "setup_future_usage": None,
        "shipping": _shipping(params.get("shipping")),
        "statement_descriptor": None,
        "statement_descriptor_suffix": params.get("statement_descriptor_suffix"),
        "status": "requires_payment_method",
        "transfer_data": None,
        "transfer_group": None,
    }
