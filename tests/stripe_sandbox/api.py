"""One API request from wire to wire.

1. Scripted faults that strike before anything happened. 2. Key, path, version, parameters: what fails
here stores nothing. 3. The idempotency key. 4. The endpoint, without awaiting, and one commit of all it
changed. 5. Scripted faults that strike after it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from aiohttp import web

from . import API_VERSION, expansion, forms, intents, keys, routes
from .call import Call
from .errors import (
    StripeError,
    invalid_request,
    key_revoked,
    lock_timeout,
    permission_missing,
    rate_limited,
    server_error,
    unrecognized_url,
)
from .idempotency import StoredAnswer
from .identifiers import new_id
from .request_log import redact
from .sandbox import Sandbox

Record = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
logger = logging.getLogger(__name__)

CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, HEAD, POST, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, Stripe-Version",
    "Access-Control-Expose-Headers": "Request-Id, Idempotent-Replayed, Stripe-Should-Retry",
    "Access-Control-Max-Age": "300",
}
VERSION_FORM = re.compile(r"\d{4}-\d{2}-\d{2}(\.[a-z]+)?(;.*)?")


STRIKES_FIRST: dict[str, Callable[[], StripeError]] = {
    "http_401": key_revoked,
    "http_403": permission_missing,
    "http_429": rate_limited,
    "lock_timeout": lock_timeout,
    "http_500_before": lambda: server_error(should_retry=None),
    "hang_before": lambda: server_error(should_retry=None),
}
REACHABLE_IN_AN_OUTAGE = ("/_control/", "/dashboard", "/static/dashboard")
UNKNOWN_STATUS = "status_of_a_later_version"


class Api:
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    async def outage(self, request: web.Request, go_on: Handler) -> web.StreamResponse:
        """Around everything: while connections are refused, nothing is answered but what steers this process."""
        if request.path.startswith(REACHABLE_IN_AN_OUTAGE):
            return await go_on(request)
        if not self._sandbox.faults.refuses(request.method, request.path):
            return await go_on(request)
        entry = self._log(request)
        entry["fault"] = "refuse"
        return _cut(request, entry)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.method == "OPTIONS" and request.path.startswith("/v1/"):
            return web.Response(status=204, headers=CORS)
        entry = self._log(request)
        fault = self._sandbox.faults.take(request.method, request.path)
        kind = entry["fault"] = fault["kind"] if fault else None
        if fault and kind == "hang_before":
            await asyncio.sleep(fault["seconds"])
        if kind == "drop_before":
            return _cut(request, entry)
        try:
            answer, headers = await self._answer(request, entry, fault)
        except StripeError as error:
            answer, headers = _error_answer(error, entry["request_id"])
        except web.HTTPRequestEntityTooLarge:
            too_large = StripeError(413, "invalid_request_error", "Request body is too large.")
            answer, headers = _error_answer(too_large, entry["request_id"])
        except Exception:
            logger.exception("%s %s broke the sandbox", request.method, request.path)
            answer, headers = _error_answer(server_error(should_retry=None), entry["request_id"])
        self._sandbox.state.commit()
        entry["status"] = answer.status
        if kind in ("drop_after", "malformed"):
            return _cut(request, entry) if kind == "drop_after" else _respond(answer, headers, entry, cut_off=True)
        if kind == "unknown_status":
            answer = replace(answer, body=json.dumps(_with_unknown_status(json.loads(answer.body)), indent=2))
        return _respond(answer, headers, entry)

    async def _answer(
        self, request: web.Request, entry: Record, fault: Record | None
    ) -> tuple[StoredAnswer, dict[str, str]]:
        kind = fault["kind"] if fault else None
        if strike := STRIKES_FIRST.get(kind or ""):
            raise strike()
        call, route, arguments = await self._understand(request, entry)
        key = call.idempotency_key if route.method == "POST" else None
        scope = "pk" if call.is_publishable else "sk"
        if key:
            stored = self._sandbox.idempotency.begin(scope, key, f"POST {request.path}", call.params)
            if stored:
                entry["is_replay"] = True
                return stored, _replayed(stored)
        try:
            if fault and kind == "hang":
                await asyncio.sleep(fault["seconds"])
            answer, headers = self._execute(call, route, arguments)
            if kind == "http_500_after":
                # What was stored is replayed, so retrying with this key is pointless; Stripe says so in a header.
                answer, headers = _error_answer(server_error(should_retry=False), entry["request_id"])
            if key:
                self._sandbox.idempotency.finish(scope, key, answer)
                headers |= {"Idempotency-Key": key, "Original-Request": answer.request_id}
        finally:
            if key:
                self._sandbox.idempotency.release(scope, key)
        return answer, headers

    async def _understand(self, request: web.Request, entry: Record) -> tuple[Call, routes.Route, tuple[str, ...]]:
        is_publishable = keys.is_publishable(request.headers.get("Authorization"), self._sandbox.options)
        entry["key"] = "publishable" if is_publishable else "secret"
        found = routes.find(request.method, request.path)
        if not found:
            raise unrecognized_url(request.method, request.path)
        route, arguments = found
        _check_version(request.headers.get("Stripe-Version"))
        text = (
            request.query_string
            if request.method in ("GET", "DELETE")
            else (await request.read()).decode(errors="replace")
        )
        given = forms.decode(text)
        entry["params"] = redact(given)
        params = route.params.read(given)
        call = Call(entry["request_id"], entry["idempotency_key"], is_publishable, request.path, params)
        if is_publishable:
            intent = intents.retrieve(self._sandbox, arguments[0]) if arguments else None
            keys.check_browser_access(route, params, intent)
        return call, route, arguments

    def _execute(
        self, call: Call, route: routes.Route, arguments: tuple[str, ...]
    ) -> tuple[StoredAnswer, dict[str, str]]:
        assert call.request_id
        try:
            result = route.endpoint(self._sandbox, call, *arguments)
            if call.is_publishable and result["object"] == "payment_intent":
                result = intents.public(result)
            expanded = expansion.expand(self._sandbox.state, result, call.params.get("expand", []))
        except StripeError as error:
            if call.is_publishable and "payment_intent" in error.error:
                error.error["payment_intent"] = intents.public(error.error["payment_intent"])
            return _error_answer(error, call.request_id)
        return StoredAnswer(200, json.dumps(expanded, indent=2), call.request_id), {}

    def _log(self, request: web.Request) -> Record:
        return self._sandbox.request_log.add(
            {
                "request_id": new_id("req", 14),
                "at": self._sandbox.clock.time(),
                "method": request.method,
                "path": request.path,
                "key": None,
                "idempotency_key": request.headers.get("Idempotency-Key") or None,
                "params": {},
                "status": None,
                "is_replay": False,
                "fault": None,
            }
        )


def _check_version(version: str | None) -> None:
    """Any version that looks like one is accepted, as at Stripe; answers have the shape of API_VERSION all the same.

    The product pins API_VERSION (a test of it says so); probes and other people's clients may speak their SDK's default.
    """
    if version and not VERSION_FORM.fullmatch(version):
        raise invalid_request(f"Invalid Stripe API version: {version}.")


def _error_answer(error: StripeError, request_id: str) -> tuple[StoredAnswer, dict[str, str]]:
    headers = {} if error.should_retry is None else {"Stripe-Should-Retry": str(error.should_retry).lower()}
    if error.error.get("code") == "rate_limit":
        headers["Stripe-Rate-Limited-Reason"] = "global-rate"
    return StoredAnswer(error.status, json.dumps(error.body(request_id), indent=2), request_id), headers


def _replayed(stored: StoredAnswer) -> dict[str, str]:
    headers = {"Idempotent-Replayed": "true", "Original-Request": stored.request_id}
    return headers | ({"Stripe-Should-Retry": "false"} if stored.status >= 500 else {})


def _respond(answer: StoredAnswer, headers: dict[str, str], entry: Record, *, cut_off: bool = False) -> web.Response:
    body = answer.body[: len(answer.body) // 2] if cut_off else answer.body
    if entry["path"].startswith("/v1/"):  # browsers may call the API, and nothing else of ours
        headers |= CORS
    if entry["idempotency_key"]:
        headers["Idempotency-Key"] = entry["idempotency_key"]
    return web.Response(
        status=answer.status,
        text=body,
        content_type="application/json",
        headers=headers
        | {"Request-Id": entry["request_id"], "Stripe-Version": API_VERSION, "Cache-Control": "no-cache, no-store"},
    )


def _with_unknown_status(answer: Record) -> Record:
    """Of the object that was asked for, or of each in a list."""
    if answer.get("object") == "list":
        return answer | {"data": [_with_unknown_status(one) for one in answer["data"]]}
    return answer | {"status": UNKNOWN_STATUS} if "status" in answer else answer


def _cut(request: web.Request, entry: Record) -> web.Response:
    """Drop the connection without an answer."""
    entry["is_cut"] = True
    if request.transport:
        request.transport.abort()
    return web.Response(status=500)
