"""How a Checkout Session and its line items look: every field of API 2026-05-27.dahlia, most of them empty here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .checkout_sessions_outcome import customer_details
from .identifiers import new_id
from .metadata import merge

if TYPE_CHECKING:
    from .sandbox import Sandbox

Record = dict[str, Any]
COPIED = (
    "billing_address_collection", "cancel_url", "client_reference_id", "customer", "customer_email", "locale",
    "submit_type", "success_url",
)  # fmt: skip
ALWAYS_EMPTY = (
    "after_expiration", "client_secret", "consent", "consent_collection", "currency_conversion", "customer_account",
    "integration_identifier", "invoice", "managed_payments", "optional_items", "origin_context", "payment_intent",
    "payment_link", "payment_method_configuration_details", "permissions", "recovered_from",
    "saved_payment_method_options", "setup_intent", "shipping_address_collection", "shipping_cost", "subscription",
)  # fmt: skip
INVOICE_DATA = ("account_tax_ids", "custom_fields", "description", "footer", "issuer", "rendering_options")
TEXT_POSITIONS = ("after_submit", "shipping_address", "submit", "terms_of_service_acceptance")


def session_record(
    sandbox: Sandbox, params: Record, *, currency: str, amount: int, types: list[str], email: str | None
) -> Record:
    session_id = new_id("cs_test", 58)
    now = sandbox.clock.now()
    return dict.fromkeys(ALWAYS_EMPTY) | {name: params.get(name) for name in COPIED} | {
        "id": session_id,
        "object": "checkout.session",
        "adaptive_pricing": {"enabled": False},
        "allow_promotion_codes": params.get("allow_promotion_codes"),
        "amount_subtotal": amount,
        "amount_total": amount,
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "collected_information": {"business_name": None, "individual_name": None, "shipping_details": None},
        "created": now,
        "currency": currency,
        "custom_fields": [],
        "custom_text": dict.fromkeys(TEXT_POSITIONS),
        "customer_creation": None if params.get("customer") else "if_required",
        "customer_details": customer_details(email) if email else None,
        "discounts": [],
        "expires_at": params["expires_at"],
        "invoice_creation": {
            "enabled": False,
            "invoice_data": dict.fromkeys(INVOICE_DATA) | {"metadata": {}},
        },
        "livemode": False,
        "metadata": merge({}, params.get("metadata", {})),
        "mode": "payment",
        "payment_method_collection": "if_required",
        "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
        "payment_method_types": types,
        "payment_status": "unpaid" if amount else "no_payment_required",
        "phone_number_collection": {"enabled": False},
        "shipping_options": [],
        "status": "open",
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted_page",
        "url": f"{sandbox.base_url}/c/pay/{session_id}",
        "wallet_options": None,
    }  # fmt: skip


def line_item(sandbox: Sandbox, given: Record, currency: str) -> Record:
    data, quantity = given["price_data"], given["quantity"]
    total = data["unit_amount"] * quantity
    return {
        "id": new_id("li"),
        "object": "item",
        "adjustable_quantity": None,
        "amount_discount": 0,
        "amount_subtotal": total,
        "amount_tax": 0,
        "amount_total": total,
        "currency": currency,
        "description": data["product_data"]["name"],
        "metadata": {},
        "price": _price(sandbox, data, currency),
        "quantity": quantity,
    }


def _price(sandbox: Sandbox, data: Record, currency: str) -> Record:
    return {
        "id": new_id("price"),
        "object": "price",
        "active": False,
        "billing_scheme": "per_unit",
        "created": sandbox.clock.now(),
        "currency": currency,
        "custom_unit_amount": None,
        "livemode": False,
        "lookup_key": None,
        "metadata": {},
        "nickname": None,
        "product": new_id("prod", 14),
        "recurring": None,
        "tax_behavior": "unspecified",
        "tiers_mode": None,
        "transform_quantity": None,
        "type": "one_time",
        "unit_amount": data["unit_amount"],
        "unit_amount_decimal": str(data["unit_amount"]),
    }
