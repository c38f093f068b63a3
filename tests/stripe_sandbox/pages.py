"""What a browser sees: stripe.js, the payment form in its frame, the 3-D Secure page, the dashboard."""

from __future__ import annotations

import html
import json
from pathlib import Path
from string import Template

from aiohttp import web

from . import confirmation, money, payment_methods
from .checkout_sessions_pages import SessionPages, form_parts
from .sandbox import Sandbox

HERE = Path(__file__).parent
STATIC = HERE / "static"
TEMPLATES = HERE / "templates"

PAGE_HEADERS = {
    # Framed by any host page, as Stripe's own frames are; everything else only from here.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Pages:
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/", self.root),
            web.get("/v3/", self.stripe_js),
            web.get("/v3/stripe.js", self.stripe_js),
            web.get("/v3/payment-element", self.payment_element),
            web.get("/3ds/{authentication}", self.three_d_secure),
            web.post("/3ds/{authentication}", self.answer_three_d_secure),
            web.get("/dashboard", self.root),
            web.get("/dashboard/", self.dashboard),
            *SessionPages(self._sandbox).routes(),
            web.static("/static", STATIC),
        ]

    async def root(self, request: web.Request) -> web.Response:
        raise web.HTTPFound("/dashboard/")

    async def stripe_js(self, request: web.Request) -> web.Response:
        return web.Response(
            text=(STATIC / "stripe.js").read_text(),
            content_type="text/javascript",
            headers={"Cache-Control": "no-cache", "Cross-Origin-Resource-Policy": "cross-origin"},
        )

    async def payment_element(self, request: web.Request) -> web.Response:
        return _page("payment_element.html")

    async def dashboard(self, request: web.Request) -> web.Response:
        return _page("dashboard.html", merchant=self._sandbox.options.merchant)

    async def three_d_secure(self, request: web.Request) -> web.Response:
        authentication = self._authentication(request)
        intent = self._sandbox.state.get("payment_intent", authentication["payment_intent"])
        assert intent
        method = payment_methods.retrieve(self._sandbox, authentication["payment_method"])
        is_open = authentication["status"] == "pending" and intent["status"] == "requires_action"
        return _page(
            "three_d_secure.html" if is_open else "three_d_secure_closed.html",
            merchant=self._sandbox.options.merchant,
            amount=money.write(intent["amount"], intent["currency"]),
            currency=intent["currency"].upper(),
            card=f"{method['card']['brand'].capitalize()} •••• {method['card']['last4']}",
            status=intent["status"],
        )

    async def answer_three_d_secure(self, request: web.Request) -> web.Response:
        """Only this site's own page may answer for the buyer."""
        if request.headers.get("Origin") not in (None, f"{request.scheme}://{request.host}"):
            raise web.HTTPForbidden(text="Only the 3-D Secure page itself may answer.")
        authentication = self._authentication(request)
        try:
            succeeded = bool(json.loads(await request.text())["complete"])
        except (ValueError, KeyError, TypeError):
            raise web.HTTPBadRequest(text='Send {"complete": true} or {"complete": false}.') from None
        intent = confirmation.finish_authentication(self._sandbox, authentication["id"], succeeded=succeeded)
        self._sandbox.state.commit()
        return_url = authentication["return_url"]
        return web.json_response(
            {
                "status": intent["status"],
                "return_to": confirmation.return_address(intent, return_url) if return_url else None,
            }
        )

    def _authentication(self, request: web.Request) -> dict[str, str]:
        authentication = self._sandbox.state.get(confirmation.AUTHENTICATIONS, request.match_info["authentication"])
        if not authentication:
            raise web.HTTPNotFound(text="No such authentication.")
        return authentication


def _page(name: str, **values: str) -> web.Response:
    template = Template((TEMPLATES / name).read_text())
    values = {key: html.escape(value) for key, value in values.items()}
    return web.Response(
        text=template.substitute(values | form_parts()),
        content_type="text/html",
        headers=PAGE_HEADERS,
    )
