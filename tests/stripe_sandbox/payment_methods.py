"""PaymentMethods: cards typed into the element, and Stripe's ready-made test tokens."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from . import cards, ibans
from .call import Call
from .errors import invalid_request, resource_missing
from .identifiers import new_id

if TYPE_CHECKING:
    from .sandbox import Sandbox

Record = dict[str, Any]
SCENARIOS = "_scenario"
DEBIT_TOKENS = {"pm_success_de": ibans.SUCCEEDS, "pm_failed_de": ibans.FAILS}


def create(sandbox: Sandbox, call: Call) -> Record:
    params = call.params
    kind = params.get("type", "card")
    if kind not in params:
        raise invalid_request(f"Missing required param: {kind}.", code="parameter_missing", param=kind)
    if kind == "sepa_debit":
        return _create_debit(sandbox, params)
    if not call.is_publishable:
        # Stripe refuses this unless an account asks for it; here it keeps card numbers out of our servers for good.
        raise invalid_request(
            "Sending credit card numbers directly to the Stripe API is generally unsafe. To continue processing use "
            "Stripe.js, the Stripe mobile bindings, or Stripe Elements.",
            param="card[number]",
        )
    today = datetime.fromtimestamp(sandbox.clock.now(), UTC)
    number = cards.check(params["card"], year=today.year, month=today.month)
    test_card = cards.look_up(number)
    method = _card(sandbox, test_card, params["card"]["exp_month"], cards.full_year(params["card"]["exp_year"]))
    method["billing_details"] = _billing_details(params.get("billing_details"))
    method["metadata"] = params.get("metadata", {})
    return _save(sandbox, method, {"card": number if number in cards.CARDS else "live"})


def _create_debit(sandbox: Sandbox, params: Record) -> Record:
    billing = params.get("billing_details") or {}
    for name in ("name", "email"):
        if not billing.get(name):
            param = f"billing_details[{name}]"
            raise invalid_request(f"Missing required param: {param}.", code="parameter_missing", param=param)
    iban = ibans.check(params["sepa_debit"]["iban"])
    method = _debit(sandbox, iban) | {
        "billing_details": _billing_details(billing), "metadata": params.get("metadata", {}),
    }  # fmt: skip
    return _save(sandbox, method, {"debit": ibans.outcome_of(iban)})


def retrieve(sandbox: Sandbox, method_id: str, *, param: str = "payment_method", in_path: bool = True) -> Record:
    """A stored PaymentMethod, or a fresh one for a test token such as pm_card_visa."""
    method = sandbox.state.get("payment_method", method_id)
    if method:
        return method
    if method_id in cards.TOKENS:
        test_card = cards.TOKENS[method_id]
        month_and_year = datetime.fromtimestamp(sandbox.clock.now(), UTC)
        method = _card(sandbox, test_card, month_and_year.month, month_and_year.year + 1)
        return _save(sandbox, method, {"card": test_card.number})
    if method_id in DEBIT_TOKENS:
        iban = DEBIT_TOKENS[method_id]
        return _save(sandbox, _debit(sandbox, iban), {"debit": ibans.outcome_of(iban)})
    raise resource_missing("PaymentMethod", method_id, param=param, in_path=in_path)


def bill_to(sandbox: Sandbox, method: Record, billing: Record) -> Record:
    method["billing_details"] = _billing_details(billing)
    return sandbox.state.save("payment_method", method)


def test_card_of(sandbox: Sandbox, method: Record) -> cards.TestCard:
    scenario = sandbox.state.get(SCENARIOS, method["id"]) or {}
    return cards.look_up(scenario.get("card", "live"))


def debit_outcome_of(sandbox: Sandbox, method: Record) -> str:
    scenario = sandbox.state.get(SCENARIOS, method["id"]) or {}
    return str(scenario.get("debit", "succeeded"))


def _save(sandbox: Sandbox, method: Record, scenario: Record) -> Record:
    sandbox.state.save(SCENARIOS, {"id": method["id"], **scenario})
    return sandbox.state.save("payment_method", method)


def _card(sandbox: Sandbox, card: cards.TestCard, exp_month: int, exp_year: int) -> Record:
    return _method(sandbox, "card") | {
        "card": {
            "brand": card.brand,
            "checks": {
                "address_line1_check": None,
                "address_postal_code_check": None,
                "cvc_check": "unchecked",
            },
            "country": card.country,
            "display_brand": card.brand,
            "exp_month": exp_month,
            "exp_year": exp_year,
            "fingerprint": cards.fingerprint(card.number),
            "funding": card.funding,
            "generated_from": None,
            "last4": card.number[-4:],
            "networks": {"available": [card.brand], "preferred": None},
            "regulated_status": "unregulated",
            "three_d_secure_usage": {"supported": card.authentication != "unsupported"},
            "wallet": None,
        }
    }


def _debit(sandbox: Sandbox, iban: str) -> Record:
    return _method(sandbox, "sepa_debit") | {
        "sepa_debit": {
            "bank_code": iban[4:12],
            "branch_code": "",
            "country": iban[:2],
            "fingerprint": cards.fingerprint(iban),
            "generated_from": {"charge": None, "setup_attempt": None},
            "last4": iban[-4:],
        }
    }


def _method(sandbox: Sandbox, kind: str) -> Record:
    return {
        "id": new_id("pm"),
        "object": "payment_method",
        "allow_redisplay": "unspecified",
        "billing_details": _billing_details(None),
        "created": sandbox.clock.now(),
        "customer": None,
        "livemode": False,
        "metadata": {},
        "type": kind,
    }


def _billing_details(given: Record | None) -> Record:
    given = given or {}
    address = given.get("address") or {}
    return {
        "address": {part: address.get(part) for part in ("city", "country", "line1", "line2", "postal_code", "state")},
        "email": given.get("email"),
        "name": given.get("name"),
        "phone": given.get("phone"),
        "tax_id": None,
    }
