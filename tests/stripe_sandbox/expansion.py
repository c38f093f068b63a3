"""`expand[]=latest_charge`: ids replaced by the objects they name (docs.stripe.com/api/expanding_objects)."""

from __future__ import annotations

import copy
from typing import Any

from . import checkout_sessions
from .errors import StripeError, invalid_request
from .state import State

EXPANDABLE: dict[str, dict[str, str]] = {
    "payment_intent": {"customer": "customer", "latest_charge": "charge", "payment_method": "payment_method"},
    "charge": {
        "balance_transaction": "balance_transaction", "customer": "customer", "payment_intent": "payment_intent",
    },
    "refund": {
        "balance_transaction": "balance_transaction", "charge": "charge",
        "failure_balance_transaction": "balance_transaction", "payment_intent": "payment_intent",
    },
    "balance_transaction": {"source": "charge refund"},
    "checkout.session": {"customer": "customer", "payment_intent": "payment_intent"},
    "payment_method": {"customer": "customer"},
    "customer": {},
    "event": {},
    "balance": {},
    "webhook_endpoint": {},
}  # fmt: skip
DEEPEST = 4


def expand(state: State, answer: dict[str, Any], paths: list[str]) -> dict[str, Any]:
    """A deep copy, so that whoever gets it cannot change what the sandbox knows."""
    expanded = copy.deepcopy(answer)
    for path in paths:
        parts = path.split(".")
        if len(parts) > DEEPEST:
            raise invalid_request(
                f"You cannot expand more than {DEEPEST} levels of a property. The property "
                f"'{path}' has {len(parts)} levels."
            )
        targets = [expanded]
        if expanded.get("object") == "list":
            if parts[0] != "data":
                raise _refused(path)
            targets, parts = expanded["data"], parts[1:]
        for target in targets:
            _expand_one(state, target, parts, path)
    return expanded


def _expand_one(state: State, target: dict[str, Any], parts: list[str], path: str) -> None:
    if not parts:
        return
    if target["object"] == "checkout.session" and parts[0] == "line_items" and parts[1:] in ([], ["data"]):
        # Not an id that becomes an object: it is left out unless asked for.
        target["line_items"] = checkout_sessions.line_items(state, target, {})
        return
    kinds = EXPANDABLE[target["object"]]
    if parts[0] not in kinds:
        raise _refused(path)
    value = target.get(parts[0])
    if isinstance(value, str):
        value = target[parts[0]] = copy.deepcopy(_find(state, kinds[parts[0]], value))
    if isinstance(value, dict):
        _expand_one(state, value, parts[1:], path)


def _find(state: State, kinds: str, record_id: str) -> dict[str, Any] | None:
    """Some properties name objects of more than one kind."""
    found = (state.get(kind, record_id) for kind in kinds.split())
    return next((record for record in found if record), None)


def _refused(path: str) -> StripeError:
    return invalid_request(f"This property cannot be expanded ({path}).", param="expand")
