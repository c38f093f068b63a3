"""`/_control/checkout_sessions`: a buyer of the hosted page without a browser, for tests; the dashboard's list."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from . import buyer, checkout_sessions
from .call import BACKGROUND
from .checkout_sessions_outcome import SESSIONS
from .checkout_sessions_payment import complete_without_payment, pay
from .confirmation import finish_authentication, pending_authentication
from .errors import StripeError
from .sandbox import Sandbox

Record = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class SessionControl:
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def table(self) -> list[tuple[Any, str, Handler]]:
        path = "/_control/checkout_sessions"
        return [
            (web.get, path, self.sessions),
            (web.get, f"{path}/{{session}}", self.session),
            (web.post, f"{path}/{{session}}/pay", self.pay),
            (web.post, f"{path}/{{session}}/expire", self.expire),
        ]

    async def sessions(self, request: web.Request) -> web.Response:
        """Newest first, with their line items and addresses to open."""
        newest = list(self._sandbox.state.newest_first(SESSIONS))[: int(request.query.get("limit", "200"))]
        return _json({"data": [self._whole(session) for session in newest]})

    async def session(self, request: web.Request) -> web.Response:
        session = self._session(request)
        return _json({"checkout_session": self._whole(session), "payment_intent": self._intent(session)})

    async def pay(self, request: web.Request) -> web.Response:
        """What the hosted page does when the buyer presses Pay; a decline is an outcome, not an error."""
        session, given = self._session(request), await _body(request)
        if not session["amount_total"]:
            return _json(self._whole(complete_without_payment(self._sandbox, session, given.get("billing", {}))))
        self._confirm(session, given)
        intent = self._intent(session)
        pending = pending_authentication(self._sandbox, intent["id"]) if intent else None
        if pending and given.get("complete") is not None:
            finish_authentication(self._sandbox, pending["id"], succeeded=bool(given["complete"]))
        return _json(self._whole(session))

    async def expire(self, request: web.Request) -> web.Response:
        return _json(checkout_sessions.expire(self._sandbox, BACKGROUND, request.match_info["session"]))

    def _confirm(self, session: Record, given: Record) -> None:
        card, billing = given.get("card", "pm_card_visa"), given.get("billing", {})
        method_id = buyer.method_id(self._sandbox, card, {"email": session["customer_email"]} | billing)
        try:
            pay(self._sandbox, session, method_id)
        except StripeError as error:
            if error.status != 402:
                raise

    def _whole(self, session: Record) -> Record:
        return session | {"line_items": checkout_sessions.line_items(self._sandbox.state, session, {"limit": 100})}

    def _intent(self, session: Record) -> Record | None:
        return self._sandbox.state.get("payment_intent", session["payment_intent"] or "")

    def _session(self, request: web.Request) -> Record:
        return checkout_sessions.retrieve(self._sandbox, request.match_info["session"])


async def _body(request: web.Request) -> Record:
    text = await request.text()
    body = json.loads(text) if text else {}
    if not isinstance(body, dict):
        raise TypeError("send a JSON object")
    return body


def _json(body: Any) -> web.Response:
    return web.json_response(body, headers={"Cache-Control": "no-store"})
