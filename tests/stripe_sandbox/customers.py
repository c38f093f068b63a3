"""Customers: just enough to name who pays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import lists
from .call import Call
from .errors import resource_missing
from .identifiers import new_id
from .metadata import merge

if TYPE_CHECKING:
    from .sandbox import Sandbox

Record = dict[str, Any]
WRITABLE = ("address", "description", "email", "name", "phone")


def create(sandbox: Sandbox, call: Call) -> Record:
    customer: Record = {
        "id": new_id("cus", 14),
        "object": "customer",
        "balance": 0,
        "created": sandbox.clock.now(),
        "currency": None,
        "default_source": None,
        "delinquent": False,
        "discount": None,
        "invoice_prefix": new_id("", 8)[1:].upper(),
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "livemode": False,
        "metadata": merge({}, call.params.get("metadata", {})),
        "next_invoice_sequence": 1,
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": None,
    } | {name: call.params.get(name) for name in WRITABLE}
    sandbox.state.save("customer", customer)
    sandbox.events.emit("customer.created", customer, call)
    return customer


def retrieve(sandbox: Sandbox, customer_id: str, *, param: str = "id", in_path: bool = True) -> Record:
    customer = sandbox.state.get("customer", customer_id)
    if not customer:
        raise resource_missing("customer", customer_id, param=param, in_path=in_path)
    return customer


def update(sandbox: Sandbox, call: Call, customer_id: str) -> Record:
    customer = retrieve(sandbox, customer_id)
    before = dict(customer)
    customer.update({name: call.params[name] for name in WRITABLE if name in call.params})
    if "metadata" in call.params:
        customer["metadata"] = merge(customer["metadata"], call.params["metadata"])
    sandbox.state.save("customer", customer)
    sandbox.events.emit_update("customer.updated", before, customer, call)
    return customer


def list_page(sandbox: Sandbox, call: Call) -> Record:
    email = call.params.get("email")
    return lists.page(
        sandbox.state,
        "customer",
        call.params,
        url="/v1/customers",
        matches=lambda customer: email is None or customer["email"] == email,
    )
