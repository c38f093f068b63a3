"""The page that Stripe hosts for a Checkout Session, at the session's `url`."""

from __future__ import annotations

import html
import json
from pathlib import Path
from string import Template
from typing import Any

from aiohttp import web

from . import cards, checkout_sessions, ibans, money, payment_methods
from .call import Call
from .checkout_sessions_outcome import SESSIONS
from .checkout_sessions_payment import check_billing, complete_without_payment, must_be_open, pay, success_address
from .errors import StripeError, invalid_request
from .sandbox import Sandbox

Record = dict[str, Any]
HERE = Path(__file__).parent
TEMPLATES = HERE / "templates"
PAGE_HEADERS = {
    # Frames from here: the bank's page of 3-D Secure.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
LONGEST_TEXT = 500
ADDRESS_PARTS = ("line1", "line2", "postal_code", "city", "state", "country")
VERBS = {"book": "Book", "donate": "Donate"}
COUNTRIES = {
    "AT": "Austria", "AU": "Australia", "BE": "Belgium", "BG": "Bulgaria", "CA": "Canada", "CH": "Switzerland",
    "CY": "Cyprus", "CZ": "Czechia", "DE": "Germany", "DK": "Denmark", "EE": "Estonia", "ES": "Spain",
    "FI": "Finland", "FR": "France", "GB": "United Kingdom", "GR": "Greece", "HR": "Croatia", "HU": "Hungary",
    "IE": "Ireland", "IS": "Iceland", "IT": "Italy", "JP": "Japan", "LI": "Liechtenstein", "LT": "Lithuania",
    "LU": "Luxembourg", "LV": "Latvia", "MT": "Malta", "NL": "Netherlands", "NO": "Norway", "NZ": "New Zealand",
    "PL": "Poland", "PT": "Portugal", "RO": "Romania", "SE": "Sweden", "SI": "Slovenia", "SK": "Slovakia",
    "US": "United States",
}  # fmt: skip


class SessionPages:
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def routes(self) -> list[web.AbstractRouteDef]:
        return [web.get("/c/pay/{session}", self.show), web.post("/c/pay/{session}", self.submit)]

    async def show(self, request: web.Request) -> web.Response:
        session = self._session(request)
        checkout_sessions.expire_due(self._sandbox)
        self._sandbox.state.commit()
        return self._open(session) if session["status"] == "open" else self._closed(session)

    async def submit(self, request: web.Request) -> web.Response:
        """Only this site's own page may pay for the buyer."""
        if request.headers.get("Origin") not in (None, f"{request.scheme}://{request.host}"):
            raise web.HTTPForbidden(text="Only the hosted page itself may pay.")
        session = self._session(request)
        try:
            return web.json_response(self._pay(session, await _typed(request)))
        except StripeError as error:
            # The payment of a card that was declined is for the merchant's eyes, as at Stripe.
            told = {name: error.error.get(name) for name in ("code", "message", "param")}
            is_closed = session["status"] != "open"
            return web.json_response({"error": told, "is_closed": is_closed}, status=error.status)
        finally:
            self._sandbox.state.commit()

    def _pay(self, session: Record, typed: Record) -> Record:
        must_be_open(self._sandbox, session)
        billing = _billing(typed)
        check_billing(session, billing)
        if not session["amount_total"]:
            complete_without_payment(self._sandbox, session, billing)
            return {"go": success_address(session)}
        intent = pay(self._sandbox, session, self._method(session, typed, billing))
        if intent["status"] == "requires_action":
            return {"client_secret": intent["client_secret"], "after": success_address(session)}
        return {"go": success_address(session)}

    def _method(self, session: Record, typed: Record, billing: Record) -> str:
        kind = typed.get("method")
        if kind not in session["payment_method_types"]:
            raise invalid_request("This way of paying is not offered here.", param="method")
        params: Record = {"type": kind, "billing_details": billing}
        if kind == "card":
            params["card"] = _card(typed.get("card"))
        else:
            params["sepa_debit"] = {"iban": str(typed.get("iban", ""))}
        call = Call(request_id=None, is_publishable=True, params=params)
        return str(payment_methods.create(self._sandbox, call)["id"])

    def _open(self, session: Record) -> web.Response:
        total = money.write(session["amount_total"], session["currency"])
        is_free = not session["amount_total"]
        verb = VERBS.get(session["submit_type"] or "", "Pay")
        return _page(
            "checkout.html",
            merchant=self._sandbox.options.merchant,
            key=self._sandbox.options.publishable_key,
            total=total,
            email=(session["customer_details"] or {}).get("email") or "",
            label="Complete order" if is_free else f"{verb} {total}",
            name_label="Name on card" if session["payment_method_types"] == ["card"] and not is_free else "Full name",
            name_autocomplete="cc-name" if session["payment_method_types"] == ["card"] and not is_free else "name",
            raw={
                "items": self._items(session),
                "back": _link(session["cancel_url"], f"← Back to {self._sandbox.options.merchant}"),
                "methods": "" if is_free else _methods(session["payment_method_types"]),
                "address": _address() if session["billing_address_collection"] == "required" else "",
            },
        )

    def _closed(self, session: Record) -> web.Response:
        if session["status"] == "expired":
            heading, link = "This session has expired", _link(session["cancel_url"], "Back to the shop")
            text = "You were not charged. Please go back to the shop and start again."
        else:
            heading, link = "You’re all done here", _link(success_address(session), "See your order")
            text = "This payment was completed before. Nothing more is needed, and you will not be charged again."
        merchant = self._sandbox.options.merchant
        return _page("checkout_closed.html", merchant=merchant, heading=heading, text=text, raw={"link": link})

    def _items(self, session: Record) -> str:
        details = checkout_sessions.details_of(self._sandbox.state, session)
        return "".join(_item(item, details["about"][item["id"]]) for item in details["items"])

    def _session(self, request: web.Request) -> Record:
        session = self._sandbox.state.get(SESSIONS, request.match_info["session"])
        if not session:
            raise web.HTTPNotFound(text="No such Checkout Session.")
        return session


def form_parts() -> dict[str, str]:
    """The fields that the hosted page and the Payment Element share, and the test numbers they offer."""
    return {
        "card_fields": (TEMPLATES / "card_fields.html").read_text(),
        "debit_fields": (TEMPLATES / "debit_fields.html").read_text(),
        "hints": html.escape(json.dumps(card_hints())),
        "ibans": html.escape(json.dumps(iban_hints())),
    }


def card_hints() -> list[dict[str, str]]:
    """The numbers worth a button in the card form."""
    hints = (
        ("4242424242424242", "Succeeds"),
        ("4000002760003184", "Asks for 3-D Secure"),
        ("4000000000000002", "Declined"),
        ("4000000000009995", "Insufficient funds"),
        ("4000008400001629", "3-D Secure, then declined"),
        ("4000000000000069", "Expired card"),
    )
    return [{"number": number, "outcome": outcome, "brand": cards.brand_of(number)} for number, outcome in hints]


def iban_hints() -> list[dict[str, str]]:
    return [
        {"number": ibans.SUCCEEDS, "outcome": "Succeeds after a while"},
        {"number": ibans.FAILS, "outcome": "Fails after a while"},
    ]


def _item(item: Record, about: str | None) -> str:
    each = money.write(item["price"]["unit_amount"], item["currency"])
    count = f"{item['quantity']} × {each}" if item["quantity"] > 1 else ""
    notes = "".join(f"<small>{html.escape(note)}</small>" for note in (about, count) if note)
    total = money.write(item["amount_total"], item["currency"])
    return f"<li><span>{html.escape(item['description'])}{notes}</span><strong>{html.escape(total)}</strong></li>"


def _link(url: str | None, text: str) -> str:
    return f'<a href="{html.escape(url)}">{html.escape(text)}</a>' if url else ""


def _methods(types: list[str]) -> str:
    first = "card" if "card" in types else types[0]
    return _fill(
        "checkout_methods.html",
        form_parts()
        | {
            "choice_hidden": "" if types[1:] else "hidden",
            "card_checked": "checked" if first == "card" else "",
            "debit_checked": "" if first == "card" else "checked",
        },
    )


def _address() -> str:
    options = (f'<option value="{code}">{html.escape(name)}</option>' for code, name in COUNTRIES.items())
    return _fill("checkout_address.html", {"countries": "".join(options)})


def _card(typed: Any) -> Record:
    try:
        return {
            "number": str(typed["number"]),
            "exp_month": int(typed["exp_month"]),
            "exp_year": int(typed["exp_year"]),
            "cvc": str(typed["cvc"]),
        }
    except (KeyError, TypeError, ValueError):
        raise invalid_request("Your card details are incomplete.", param="number") from None


def _billing(typed: Record) -> Record:
    """Only texts, and an empty one is none: what comes from a page may be anything."""
    address = typed.get("address") or {}
    return {
        "email": _text(typed.get("email")),
        "name": _text(typed.get("name")),
        "address": {part: _text(address.get(part)) for part in ADDRESS_PARTS} if address else None,
    }


def _text(value: Any) -> str | None:
    return str(value)[:LONGEST_TEXT] if value else None


async def _typed(request: web.Request) -> Record:
    try:
        typed = json.loads(await request.text())
    except ValueError:
        typed = None
    if not isinstance(typed, dict) or not isinstance(typed.get("address") or {}, dict):
        raise web.HTTPBadRequest(text="Send what the page sends: a JSON object.")
    return typed


def _page(name: str, *, raw: dict[str, str], **values: str) -> web.Response:
    escaped = {key: html.escape(value) for key, value in values.items()}
    text = _fill(name, escaped | form_parts() | raw)
    return web.Response(text=text, content_type="text/html", headers=PAGE_HEADERS)


def _fill(name: str, values: dict[str, str]) -> str:
    return Template((TEMPLATES / name).read_text()).substitute(values)
