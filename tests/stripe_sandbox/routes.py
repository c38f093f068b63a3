"""Every supported operation of the API on one screen: method, path, parameters, function."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import (
    balance_transactions,
    charges,
    checkout_sessions,
    customers,
    intents,
    payment_methods,
    refunds,
    tables,
    webhook_endpoints,
)
from . import checkout_sessions_tables as session_tables
from .call import Call
from .params import Params

if TYPE_CHECKING:
    from .sandbox import Sandbox

Record = dict[str, Any]
Endpoint = Callable[..., Record]


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    params: Params
    endpoint: Endpoint
    open_to_browsers: bool = False
    """A publishable key may call it (for an intent: together with its client secret)."""
    pattern: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pattern", re.compile("^" + re.sub(r"{\w+}", "([^/]+)", self.path) + "$"))


def _retrieve_intent(sandbox: Sandbox, call: Call, intent_id: str) -> Record:
    return intents.retrieve(sandbox, intent_id)


def _retrieve_charge(sandbox: Sandbox, call: Call, charge_id: str) -> Record:
    return charges.retrieve(sandbox, charge_id)


def _retrieve_customer(sandbox: Sandbox, call: Call, customer_id: str) -> Record:
    return customers.retrieve(sandbox, customer_id)


def _retrieve_method(sandbox: Sandbox, call: Call, method_id: str) -> Record:
    return payment_methods.retrieve(sandbox, method_id)


def _retrieve_refund(sandbox: Sandbox, call: Call, refund_id: str) -> Record:
    return refunds.retrieve(sandbox, refund_id)


def _retrieve_balance_transaction(sandbox: Sandbox, call: Call, transaction_id: str) -> Record:
    return balance_transactions.retrieve(sandbox, transaction_id)


def _retrieve_session(sandbox: Sandbox, call: Call, session_id: str) -> Record:
    return checkout_sessions.retrieve(sandbox, session_id)


def _session_line_items(sandbox: Sandbox, call: Call, session_id: str) -> Record:
    session = checkout_sessions.retrieve(sandbox, session_id)
    return checkout_sessions.line_items(sandbox.state, session, call.params)


def _retrieve_webhook_endpoint(sandbox: Sandbox, call: Call, endpoint_id: str) -> Record:
    return webhook_endpoints.retrieve(sandbox, endpoint_id)


def _retrieve_event(sandbox: Sandbox, call: Call, event_id: str) -> Record:
    return sandbox.events.retrieve(event_id)


def _list_events(sandbox: Sandbox, call: Call) -> Record:
    return sandbox.events.list_page(call)


def _balance(sandbox: Sandbox, call: Call) -> Record:
    return balance_transactions.balance(sandbox)


ROUTES = (
    Route("POST", "/v1/payment_intents", tables.INTENT_CREATE, intents.create),
    Route("GET", "/v1/payment_intents", tables.INTENT_LIST, intents.list_page),
    Route("GET", "/v1/payment_intents/{intent}", tables.INTENT_RETRIEVE, _retrieve_intent, open_to_browsers=True),
    Route("POST", "/v1/payment_intents/{intent}", tables.INTENT_UPDATE, intents.update),
    Route(
        "POST", "/v1/payment_intents/{intent}/confirm", tables.INTENT_CONFIRM, intents.confirm_by_id,
        open_to_browsers=True,
    ),
    Route("POST", "/v1/payment_intents/{intent}/cancel", tables.INTENT_CANCEL, intents.cancel),
    Route("POST", "/v1/checkout/sessions", session_tables.SESSION_CREATE, checkout_sessions.create),
    Route("GET", "/v1/checkout/sessions", session_tables.SESSION_LIST, checkout_sessions.list_page),
    Route("GET", "/v1/checkout/sessions/{session}", tables.RETRIEVE, _retrieve_session),
    Route("POST", "/v1/checkout/sessions/{session}", session_tables.SESSION_UPDATE, checkout_sessions.update),
    Route("POST", "/v1/checkout/sessions/{session}/expire", session_tables.SESSION_EXPIRE, checkout_sessions.expire),
    Route("GET", "/v1/checkout/sessions/{session}/line_items", session_tables.LINE_ITEMS, _session_line_items),
    Route("GET", "/v1/charges", tables.CHARGE_LIST, charges.list_page),
    Route("GET", "/v1/charges/{charge}", tables.RETRIEVE, _retrieve_charge),
    Route("POST", "/v1/charges/{charge}", tables.CHARGE_UPDATE, charges.update),
    Route("POST", "/v1/refunds", tables.REFUND_CREATE, refunds.create),
    Route("GET", "/v1/refunds", tables.REFUND_LIST, refunds.list_page),
    Route("GET", "/v1/refunds/{refund}", tables.RETRIEVE, _retrieve_refund),
    Route("POST", "/v1/refunds/{refund}", tables.REFUND_UPDATE, refunds.update),
    Route(
        "POST", "/v1/payment_methods", tables.PAYMENT_METHOD_CREATE, payment_methods.create, open_to_browsers=True
    ),
    Route("GET", "/v1/payment_methods/{payment_method}", tables.RETRIEVE, _retrieve_method),
    Route("POST", "/v1/customers", tables.CUSTOMER_WRITE, customers.create),
    Route("GET", "/v1/customers", tables.CUSTOMER_LIST, customers.list_page),
    Route("GET", "/v1/customers/{customer}", tables.RETRIEVE, _retrieve_customer),
    Route("POST", "/v1/customers/{customer}", tables.CUSTOMER_WRITE, customers.update),
    Route("GET", "/v1/events", tables.EVENT_LIST, _list_events),
    Route("GET", "/v1/events/{id}", tables.RETRIEVE, _retrieve_event),
    Route("GET", "/v1/balance", tables.RETRIEVE, _balance),
    Route("GET", "/v1/balance_transactions", tables.BALANCE_TRANSACTION_LIST, balance_transactions.list_page),
    Route("GET", "/v1/balance_transactions/{id}", tables.RETRIEVE, _retrieve_balance_transaction),
    Route("POST", "/v1/webhook_endpoints", tables.WEBHOOK_ENDPOINT_CREATE, webhook_endpoints.create),
    Route("GET", "/v1/webhook_endpoints", tables.WEBHOOK_ENDPOINT_LIST, webhook_endpoints.list_page),
    Route("GET", "/v1/webhook_endpoints/{webhook_endpoint}", tables.RETRIEVE, _retrieve_webhook_endpoint),
    Route(
        "POST", "/v1/webhook_endpoints/{webhook_endpoint}", tables.WEBHOOK_ENDPOINT_UPDATE, webhook_endpoints.update
    ),
    Route("DELETE", "/v1/webhook_endpoints/{webhook_endpoint}", tables.NOTHING, webhook_endpoints.delete),
)  # fmt: skip


def find(method: str, path: str) -> tuple[Route, tuple[str, ...]] | None:
    for route in ROUTES:
        match = route.pattern.match(path)
        if match and route.method == method:
            return route, match.groups()
    return None
