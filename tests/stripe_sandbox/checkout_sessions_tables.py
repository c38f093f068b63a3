"""The parameters of Checkout Sessions, proved against Stripe's OpenAPI file like those of tables.py."""

from __future__ import annotations

from .params import Boolean, Created, Field, Hash, Integer, ListOf, Metadata, OneOf, Params, Text
from .tables import EXPAND, PAGE

LOCALES = (
    "auto", "bg", "cs", "da", "de", "el", "en", "en-GB", "es", "es-419", "et", "fi", "fil", "fr", "fr-CA", "hr", "hu",
    "id", "it", "ja", "ko", "lt", "lv", "ms", "mt", "nb", "nl", "pl", "pt", "pt-BR", "ro", "ru", "sk", "sl", "sv",
    "th", "tr", "vi", "zh", "zh-HK", "zh-TW",
)  # fmt: skip
SWITCH = Hash({"enabled": Boolean()}, required=("enabled",))
PRICE_DATA = Hash(
    {
        "currency": Text(maximum=3),
        "product_data": Hash({"name": Text(), "description": Text(maximum=40000)}, required=("name",)),
        "unit_amount": Integer(minimum=0),
    },
    required=("currency", "product_data", "unit_amount"),
)
LINE_ITEM = Hash({"price_data": PRICE_DATA, "quantity": Integer(minimum=1)}, required=("price_data", "quantity"))
INTENT_DATA: dict[str, Field] = {
    "capture_method": OneOf(("automatic", "automatic_async")),
    "description": Text(maximum=1000),
    "metadata": Metadata(clearable=False),
    "receipt_email": Text(),
    "statement_descriptor_suffix": Text(maximum=22),
}

SESSION_CREATE = Params(
    {
        "adaptive_pricing": Hash({"enabled": Boolean()}),
        "allow_promotion_codes": Boolean(),
        "automatic_tax": SWITCH,
        "billing_address_collection": OneOf(("auto", "required")),
        "cancel_url": Text(),
        "client_reference_id": Text(maximum=200),
        "customer": Text(),
        "customer_creation": OneOf(("if_required",)),
        "customer_email": Text(),
        "excluded_payment_method_types": ListOf(Text()),
        "expand": EXPAND,
        "expires_at": Integer(),
        "line_items": ListOf(LINE_ITEM),
        "locale": OneOf(LOCALES),
        "metadata": Metadata(clearable=False),
        "mode": OneOf(("payment",)),
        "payment_intent_data": Hash(INTENT_DATA),
        "payment_method_types": ListOf(Text()),
        "submit_type": OneOf(("auto", "book", "donate", "pay")),
        "success_url": Text(),
        "ui_mode": OneOf(("hosted_page",)),
    },
    required=("line_items", "mode", "success_url"),
)
SESSION_UPDATE = Params({"metadata": Metadata(), "expand": EXPAND})
SESSION_EXPIRE = Params({"expand": EXPAND})
SESSION_LIST = Params(
    PAGE
    | {
        "created": Created(),
        "customer": Text(),
        "customer_details": Hash({"email": Text()}, required=("email",)),
        "payment_intent": Text(),
        "status": OneOf(("complete", "expired", "open")),
    }
)
LINE_ITEMS = Params(PAGE)
