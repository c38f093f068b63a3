"""Which parameters each endpoint supports. A test proves every line against Stripe's own OpenAPI file."""

from __future__ import annotations

from dataclasses import replace

from . import API_VERSION
from .event_types import EVENT_TYPES
from .params import Boolean, Created, Field, Hash, Integer, ListOf, Metadata, OneOf, Params, Text

EXPAND = ListOf(Text(), maximum=20)
PAGE: dict[str, Field] = {
    "limit": Integer(minimum=1, maximum=100),
    "starting_after": Text(),
    "ending_before": Text(),
    "expand": EXPAND,
}
RETRIEVE = Params({"expand": EXPAND})
NOTHING = Params()

ADDRESS: dict[str, Field] = {
    name: Text(clearable=True) for name in ("city", "country", "line1", "line2", "postal_code", "state")
}
BILLING_DETAILS = Hash(
    {
        "address": Hash(ADDRESS, clearable=True),
        "email": Text(clearable=True),
        "name": Text(clearable=True),
        "phone": Text(clearable=True),
    }
)
_SHIPPING: dict[str, Field] = {
    "address": Hash({name: Text() for name in ADDRESS}),
    "carrier": Text(),
    "name": Text(),
    "phone": Text(),
    "tracking_number": Text(),
}
SHIPPING = Hash(_SHIPPING, required=("address", "name"))
AUTOMATIC_PAYMENT_METHODS = Hash(
    {"enabled": Boolean(), "allow_redirects": OneOf(("always", "never"))}, required=("enabled",)
)
MANDATE_ONLINE = Hash({"ip_address": Text(), "user_agent": Text()}, required=("ip_address", "user_agent"))
CUSTOMER_ACCEPTANCE = Hash({"type": OneOf(("online", "offline")), "online": MANDATE_ONLINE}, required=("type",))
MANDATE_DATA = Hash({"customer_acceptance": CUSTOMER_ACCEPTANCE}, required=("customer_acceptance",), clearable=True)

_INTENT: dict[str, Field] = {
    "payment_method_types": ListOf(Text()),
    "payment_method": Text(),
    "receipt_email": Text(clearable=True),
    "expand": EXPAND,
}
_INTENT_DATA: dict[str, Field] = _INTENT | {
    "amount": Integer(),
    "currency": Text(maximum=3),
    "customer": Text(),
    "description": Text(maximum=1000),
    "metadata": Metadata(),
    "shipping": replace(SHIPPING, clearable=True),
    "statement_descriptor_suffix": Text(maximum=22),
}
_CONFIRM: dict[str, Field] = {
    "error_on_requires_action": Boolean(),
    "mandate_data": MANDATE_DATA,
    "off_session": Boolean(),
    "return_url": Text(),
    "use_stripe_sdk": Boolean(),
}

INTENT_CREATE = Params(
    _INTENT_DATA
    | _CONFIRM
    | {
        "automatic_payment_methods": AUTOMATIC_PAYMENT_METHODS,
        "capture_method": OneOf(("automatic", "automatic_async")),
        "confirm": Boolean(),
        "confirmation_method": OneOf(("automatic",)),
        "excluded_payment_method_types": ListOf(Text()),
        "metadata": Metadata(clearable=False),
        "receipt_email": Text(),
        "shipping": SHIPPING,
    },
    required=("amount", "currency"),
)
INTENT_UPDATE = Params(_INTENT_DATA)
INTENT_CONFIRM = Params(_INTENT | _CONFIRM | {"client_secret": Text()})
INTENT_CANCEL = Params(
    {
        "cancellation_reason": OneOf(("duplicate", "fraudulent", "requested_by_customer", "abandoned")),
        "expand": EXPAND,
    }
)
INTENT_RETRIEVE = Params({"client_secret": Text(), "expand": EXPAND})
INTENT_LIST = Params(PAGE | {"created": Created(), "customer": Text()})

CHARGE_UPDATE = Params({"description": Text(maximum=40000), "metadata": Metadata(), "expand": EXPAND})
CHARGE_LIST = Params(PAGE | {"created": Created(), "customer": Text(), "payment_intent": Text()})

REFUND_CREATE = Params(
    {
        "amount": Integer(),
        "charge": Text(),
        "expand": EXPAND,
        "metadata": Metadata(),
        "payment_intent": Text(),
        "reason": OneOf(("duplicate", "fraudulent", "requested_by_customer")),
    }
)
REFUND_UPDATE = Params({"metadata": Metadata(), "expand": EXPAND})
REFUND_LIST = Params(PAGE | {"charge": Text(), "created": Created(), "payment_intent": Text()})

BALANCE_TRANSACTION_LIST = Params(
    PAGE | {"created": Created(), "currency": Text(maximum=3), "source": Text(), "type": Text()}
)

_WEBHOOK_ENDPOINT: dict[str, Field] = {
    "description": Text(clearable=True),
    "enabled_events": ListOf(OneOf(("*", *EVENT_TYPES))),
    "expand": EXPAND,
    "metadata": Metadata(),
    "url": Text(),
}
WEBHOOK_ENDPOINT_CREATE = Params(
    _WEBHOOK_ENDPOINT | {"api_version": OneOf((API_VERSION,))}, required=("enabled_events", "url")
)
WEBHOOK_ENDPOINT_UPDATE = Params(_WEBHOOK_ENDPOINT | {"disabled": Boolean()})
WEBHOOK_ENDPOINT_LIST = Params(PAGE)

PAYMENT_METHOD_CREATE = Params(
    {
        "type": OneOf(("card", "sepa_debit")),
        "billing_details": BILLING_DETAILS,
        "sepa_debit": Hash({"iban": Text()}, required=("iban",)),
        "card": Hash(
            {"number": Text(), "exp_month": Integer(), "exp_year": Integer(), "cvc": Text()},
            required=("number", "exp_month", "exp_year"),
        ),
        "metadata": Metadata(clearable=False),
        "expand": EXPAND,
    },
)

CUSTOMER_DATA: dict[str, Field] = {
    "address": Hash(ADDRESS, clearable=True),
    "description": Text(clearable=True),
    "email": Text(maximum=512, clearable=True),
    "metadata": Metadata(),
    "name": Text(maximum=256, clearable=True),
    "phone": Text(maximum=20, clearable=True),
    "expand": EXPAND,
}
CUSTOMER_WRITE = Params(CUSTOMER_DATA)
CUSTOMER_LIST = Params(PAGE | {"created": Created(), "email": Text(maximum=512)})

EVENT_LIST = Params(
    PAGE | {"created": Created(), "delivery_success": Boolean(), "type": Text(), "types": ListOf(Text(), maximum=20)}
)
