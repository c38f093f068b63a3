"""`/_control/`: what tests and probes may do that a merchant cannot. JSON in, JSON out, no CORS.

Process.Control is the typed client of these paths.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from . import API_VERSION, buyer, confirmation, intents, ledger, refunds, webhook_endpoints
from .call import BACKGROUND
from .checkout_sessions_control import SessionControl
from .errors import StripeError
from .sandbox import Sandbox
from .webhooks import ENDPOINTS

Record = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
CHANGEABLE: dict[str, Callable[[Any], Any]] = {
    "debit_settles_after_seconds": float,
    "refund_settles_after_seconds": float,
    "balance_is_insufficient": bool,
}


class Control:
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def routes(self) -> list[web.RouteDef]:
        get, post, put, delete = web.get, web.post, web.put, web.delete
        table = [
            (get, "/_control/", self.index),
            (get, "/_control/ledger", self.ledger),
            (get, "/_control/clock", self.clock),
            (post, "/_control/clock/advance", self.advance),
            (get, "/_control/settings", self.settings),
            (put, "/_control/settings", self.change_settings),
            (get, "/_control/events", self.events),
            (post, "/_control/events/{event}/resend", self.resend),
            (get, "/_control/deliveries", self.deliveries),
            (post, "/_control/webhooks/pause", self.pause),
            (post, "/_control/webhooks/resume", self.resume),
            (post, "/_control/webhooks/wait", self.wait_for_webhooks),
            (get, "/_control/webhooks/endpoints", self.endpoints),
            (put, "/_control/webhooks/endpoints/{endpoint}", self.set_endpoint),
            (post, "/_control/webhooks/endpoints/{endpoint}/roll", self.roll_secret),
            (post, "/_control/webhooks/endpoints/{endpoint}/disable", self.disable_endpoint),
            (get, "/_control/webhooks/disruptions", self.disruptions),
            (post, "/_control/webhooks/disruptions", self.add_disruption),
            (delete, "/_control/webhooks/disruptions", self.clear_disruptions),
            (get, "/_control/faults", self.faults),
            (post, "/_control/faults", self.add_fault),
            (delete, "/_control/faults", self.clear_faults),
            (get, "/_control/requests", self.requests),
            (delete, "/_control/requests", self.clear_requests),
            (get, "/_control/payment_intents", self.payments),
            (get, "/_control/payment_intents/{intent}", self.payment),
            (post, "/_control/payment_intents/{intent}/modify", self.modify),
            (post, "/_control/payment_intents/{intent}/pay", self.pay),
            (post, "/_control/payment_intents/{intent}/authenticate", self.authenticate),
            (post, "/_control/payment_intents/{intent}/settle", self.settle),
            (post, "/_control/payment_intents/{intent}/refund", self.refund_from_dashboard),
            (get, "/_control/refunds", self.refunds),
            (post, "/_control/refunds/{refund}/finish", self.finish_refund),
            (post, "/_control/reset", self.reset),
            *SessionControl(self._sandbox).table(),
        ]
        return [verb(path, self._guard(handler)) for verb, path, handler in table]

    def _guard(self, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            if request.method != "GET" and request.content_type != "application/json":
                # Another site's page cannot send this type without asking first, and is never answered yes.
                return _json({"error": "send application/json"}, 415)
            try:
                response = await handler(request)
            except StripeError as error:
                return _json({"error": str(error), "stripe_error": error.error}, error.status)
            except (KeyError, TypeError, ValueError) as error:
                return _json({"error": f"{type(error).__name__}: {error}"}, 400)
            finally:
                self._sandbox.state.commit()
            return response

        return guarded

    # The account

    async def index(self, request: web.Request) -> web.Response:
        return _json({"sandbox": "offline Stripe", "api_version": API_VERSION, "now": self._sandbox.clock.now()})

    async def ledger(self, request: web.Request) -> web.Response:
        return _json(ledger.ledger(self._sandbox))

    async def reset(self, request: web.Request) -> web.Response:
        self._sandbox.reset()
        return _json({"reset": True})

    async def clock(self, request: web.Request) -> web.Response:
        return _json({"now": self._sandbox.clock.now(), "offset_seconds": self._sandbox.clock.offset_seconds})

    async def advance(self, request: web.Request) -> web.Response:
        self._sandbox.clock.advance(float((await _body(request))["seconds"]))
        self._sandbox.agenda.do_what_is_due()
        return await self.clock(request)

    async def settings(self, request: web.Request) -> web.Response:
        return _json(self._sandbox.settings)

    async def change_settings(self, request: web.Request) -> web.Response:
        given = await _body(request)
        settings = self._sandbox.change_settings(**{name: CHANGEABLE[name](value) for name, value in given.items()})
        if not settings["balance_is_insufficient"]:
            refunds.pay_waiting(self._sandbox)
        return _json(settings)

    # Events and webhooks

    async def events(self, request: web.Request) -> web.Response:
        """Newest first; `?id=`, `?type=` and `?object=<id>` narrow it, `?limit=` bounds it."""
        found = self._events_of(request.query.get("object"), request.query.get("type"))
        if wanted := request.query.get("id"):
            found = [event for event in found if event["id"] == wanted]
        return _json({"data": found[: int(request.query.get("limit", "100"))]})

    async def resend(self, request: web.Request) -> web.Response:
        event = self._sandbox.events.retrieve(request.match_info["event"])
        copies = int((await _body(request)).get("copies", 1))
        return _json({"deliveries": self._sandbox.webhooks.resend(event, copies=copies)})

    async def deliveries(self, request: web.Request) -> web.Response:
        state = request.query.get("state")
        deliveries, event = self._sandbox.webhooks.deliveries, request.query.get("event")
        found = deliveries.of_event(event) if event else deliveries.all()
        return _json({"data": [delivery for delivery in found if not state or delivery["state"] == state]})

    async def pause(self, request: web.Request) -> web.Response:
        return _json(self._sandbox.change_settings(webhooks_paused=True))

    async def resume(self, request: web.Request) -> web.Response:
        given = await _body(request)
        self._sandbox.webhooks.deliveries.rearrange(given.get("order", "due"), seed=int(given.get("seed", 0)))
        settings = self._sandbox.change_settings(webhooks_paused=False)
        self._sandbox.webhooks.wake()
        return _json(settings)

    async def wait_for_webhooks(self, request: web.Request) -> web.Response:
        """Answers when no delivery is due or under way; those waiting for a later retry do not count."""
        seconds = float((await _body(request)).get("seconds", 10))
        try:
            await asyncio.wait_for(self._sandbox.webhooks.idle(), seconds)
        except TimeoutError:
            return _json({"error": f"webhooks still busy after {seconds} s"}, 504)
        return _json({"idle": True})

    async def endpoints(self, request: web.Request) -> web.Response:
        return _json({"data": self._sandbox.webhooks.endpoints()})

    async def set_endpoint(self, request: web.Request) -> web.Response:
        given = await _body(request)
        endpoint = self._sandbox.webhooks.set_endpoint(
            given["url"],
            list(given.get("secrets", [])),
            endpoint_id=request.match_info["endpoint"],
            enabled_events=given.get("enabled_events"),
            is_enabled=bool(given.get("is_enabled", True)),
            api_version=given.get("api_version", API_VERSION),
        )
        self._sandbox.webhooks.wake()
        return _json({"endpoint": endpoint})

    async def roll_secret(self, request: web.Request) -> web.Response:
        overlap = float((await _body(request)).get("overlap_seconds", 0))
        return _json(webhook_endpoints.roll(self._sandbox, request.match_info["endpoint"], overlap_seconds=overlap))

    async def disable_endpoint(self, request: web.Request) -> web.Response:
        """As Stripe does after days without an answer; what is under way is dropped."""
        endpoint = webhook_endpoints.find(self._sandbox, request.match_info["endpoint"])
        return _json(self._sandbox.state.save(ENDPOINTS, endpoint | {"is_enabled": False}))

    async def disruptions(self, request: web.Request) -> web.Response:
        return _json({"data": self._sandbox.disruptions.all()})

    async def add_disruption(self, request: web.Request) -> web.Response:
        return _json(self._sandbox.disruptions.add(**await _body(request)))

    async def clear_disruptions(self, request: web.Request) -> web.Response:
        self._sandbox.disruptions.clear()
        return _json({"data": []})

    # The API itself

    async def faults(self, request: web.Request) -> web.Response:
        return _json({"data": self._sandbox.faults.all()})

    async def add_fault(self, request: web.Request) -> web.Response:
        return _json(self._sandbox.faults.add(**await _body(request)))

    async def clear_faults(self, request: web.Request) -> web.Response:
        self._sandbox.faults.clear()
        return _json({"data": []})

    async def requests(self, request: web.Request) -> web.Response:
        return _json({"data": self._sandbox.request_log.all()})

    async def clear_requests(self, request: web.Request) -> web.Response:
        self._sandbox.request_log.clear()
        return _json({"data": []})

    # One payment

    async def payments(self, request: web.Request) -> web.Response:
        """Newest first, with what a list of payments shows."""
        newest = list(self._sandbox.state.newest_first("payment_intent"))[: int(request.query.get("limit", "200"))]
        return _json({"data": [intent | {"charge": self._latest_charge(intent)} for intent in newest]})

    async def payment(self, request: web.Request) -> web.Response:
        intent = self._intent(request)
        of_intent = [charge for charge in self._sandbox.state.all("charge") if charge["payment_intent"] == intent["id"]]
        given_back = self._refunds_of(intent["id"])
        events = self._events_of(intent["id"])
        return _json({"payment_intent": intent, "charges": of_intent, "refunds": given_back, "events": events})

    async def modify(self, request: web.Request) -> web.Response:
        return _json(buyer.tamper(self._sandbox, self._intent(request), await _body(request)))

    async def pay(self, request: web.Request) -> web.Response:
        given = await _body(request)
        intent = buyer.pay(
            self._sandbox, self._intent(request), given.get("card", "pm_card_visa"), given.get("complete")
        )
        return _json(intent)

    async def authenticate(self, request: web.Request) -> web.Response:
        intent = self._intent(request)
        pending = confirmation.pending_authentication(self._sandbox, intent["id"])
        if not pending:
            raise ValueError(f"{intent['id']} waits for no authentication (it is {intent['status']})")
        complete = bool((await _body(request)).get("complete", True))
        return _json(confirmation.finish_authentication(self._sandbox, pending["id"], succeeded=complete))

    async def settle(self, request: web.Request) -> web.Response:
        succeeded = bool((await _body(request)).get("succeeded", True))
        return _json(confirmation.finish_debit(self._sandbox, self._intent(request), succeeded=succeeded))

    # Refunds

    async def refunds(self, request: web.Request) -> web.Response:
        """Oldest first; `?payment_intent=` narrows it."""
        return _json({"data": self._refunds_of(request.query.get("payment_intent"))})

    async def refund_from_dashboard(self, request: web.Request) -> web.Response:
        """As a person does there: the office hears of it by webhook only."""
        given, intent = await _body(request), self._intent(request)
        charge = refunds.refundable_charge(self._sandbox, intent)
        amount = None if given.get("amount") is None else int(given["amount"])
        reason = given.get("reason", "requested_by_customer")
        return _json(refunds.begin(self._sandbox, charge, BACKGROUND, amount=amount, reason=reason))

    async def finish_refund(self, request: web.Request) -> web.Response:
        given = await _body(request)
        refund = refunds.retrieve(self._sandbox, request.match_info["refund"])
        reason = given.get("failure_reason")
        return _json(refunds.finish(self._sandbox, refund, given["status"], failure_reason=reason))

    def _refunds_of(self, intent_id: str | None) -> list[Record]:
        found = self._sandbox.state.all("refund")
        return [refund for refund in found if not intent_id or refund["payment_intent"] == intent_id]

    def _events_of(self, subject: str | None, event_type: str | None = None) -> list[Record]:
        """With their deliveries."""
        return [
            event | {"deliveries": self._sandbox.webhooks.deliveries.of_event(event["id"])}
            for event in self._sandbox.state.newest_first("event")
            if (not event_type or event["type"] == event_type)
            and (not subject or subject in _names(event["data"]["object"]))
        ]

    def _latest_charge(self, intent: Record) -> Record | None:
        return self._sandbox.state.get("charge", intent["latest_charge"] or "")

    def _intent(self, request: web.Request) -> Record:
        return intents.retrieve(self._sandbox, request.match_info["intent"])


def _names(subject: Record) -> tuple[str, str | None]:
    return subject["id"], subject.get("payment_intent")


async def _body(request: web.Request) -> Record:
    text = await request.text()
    body = json.loads(text) if text else {}
    if not isinstance(body, dict):
        raise TypeError("send a JSON object")
    return body


def _json(body: Any, status: int = 200) -> web.Response:
    return web.json_response(body, status=status, headers={"Cache-Control": "no-store"})
