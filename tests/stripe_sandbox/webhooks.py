"""Delivery of events to webhook endpoints: signed, bounded, repeated until answered with a 2xx.

Stripe's own schedule stretches over three days (docs.stripe.com/webhooks#automatic-retries); this one is
faster at first and gives up after the same three days, of virtual time. A restart goes on where the last
process stopped, because every delivery is a stored row.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from typing import TYPE_CHECKING, Any

import aiohttp

from . import API_VERSION, signatures
from .deliveries import Deliveries

if TYPE_CHECKING:
    from .sandbox import Sandbox

Record = dict[str, Any]
logger = logging.getLogger(__name__)

ENDPOINTS = "_endpoint"
GIVE_UP_AFTER_SECONDS = 3 * 24 * 3600
KEPT_ANSWER_CHARACTERS = 500
LONGEST_SLEEP_SECONDS = 60.0
_NEW_ENDPOINT: Record = {"description": None, "metadata": {}, "old_secrets": [], "is_from_api": False}


class Webhooks:
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self.deliveries = Deliveries(sandbox.state, sandbox.clock)
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        sandbox.clock.on_advance(lambda _: self._wake.set())
        for endpoint in self.endpoints():  # a state file of an earlier version knows less of them
            sandbox.state.save(ENDPOINTS, _NEW_ENDPOINT | {"created": sandbox.clock.now()} | endpoint)

    # Endpoints

    def endpoints(self) -> list[Record]:
        return self._sandbox.state.all(ENDPOINTS)

    def set_endpoint(
        self,
        url: str | None,
        secrets: list[str],
        *,
        endpoint_id: str = "we_default",
        enabled_events: list[str] | None = None,
        is_enabled: bool = True,
        api_version: str = API_VERSION,
        description: str | None = None,
        metadata: dict[str, str] | None = None,
        is_from_api: bool = False,
    ) -> Record | None:
        if not url:
            self._sandbox.state.delete(ENDPOINTS, endpoint_id)
            return None
        endpoint = _NEW_ENDPOINT | {
            "id": endpoint_id,
            "created": self._sandbox.clock.now(),
            "url": url,
            "secrets": secrets,
            "enabled_events": enabled_events or ["*"],
            "is_enabled": is_enabled,
            "api_version": api_version,
            "description": description,
            "metadata": metadata or {},
            "is_from_api": is_from_api,
        }
        return self._sandbox.state.save(ENDPOINTS, endpoint)

    def forget_endpoints_of_the_api(self) -> None:
        for endpoint in self.endpoints():
            if endpoint["is_from_api"]:
                self._sandbox.state.delete(ENDPOINTS, endpoint["id"])

    # Queue

    def enqueue(self, event: Record) -> None:
        for endpoint in self.endpoints():
            wanted = endpoint["enabled_events"]
            if endpoint["is_enabled"] and ("*" in wanted or event["type"] in wanted):
                self._enqueue_for(event, endpoint)
        self._count_pending(event)
        self._wake.set()

    def resend(self, event: Record, *, copies: int = 1) -> list[str]:
        """Deliver once more, whatever happened before, as the Dashboard's button does."""
        endpoints = [endpoint for endpoint in self.endpoints() if endpoint["is_enabled"]]
        sent = [self.deliveries.add(event, endpoint)["id"] for endpoint in endpoints for _ in range(copies)]
        self._count_pending(event)
        self._wake.set()
        return sent

    def _enqueue_for(self, event: Record, endpoint: Record) -> None:
        disruption = self._sandbox.disruptions.take(event["type"]) or {"kind": None}
        kind = disruption["kind"]
        state = "dropped" if kind == "drop" else "pending"
        delay = disruption["seconds"] if kind == "delay" else 0.0
        for _ in range(disruption["copies"] if kind == "duplicate" else 1):
            self.deliveries.add(event, endpoint, state=state, delay=delay, wrong_signature=kind == "wrong_signature")

    def _count_pending(self, event: Record) -> None:
        """Endpoints that have not answered 2xx yet; one whose delivery was dropped on purpose counts too."""
        deliveries = self.deliveries.of_event(event["id"])
        done = {delivery["endpoint"] for delivery in deliveries if delivery["state"] == "delivered"}
        event["pending_webhooks"] = len({delivery["endpoint"] for delivery in deliveries} - done)
        self._sandbox.state.save("event", event)

    # Delivery

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=self._sandbox.options.webhook_timeout_seconds)
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector, trust_env=False) as session:
            try:
                while True:
                    self._wake.clear()
                    self._start_due(session)
                    await self._sleep()
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    async def idle(self) -> None:
        """Return when nothing is due or under way."""
        # Polled: a heap, a clock and a set of tasks would all have to ring a bell.
        while self._tasks or self._seconds_to_next() <= 0:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    def _start_due(self, session: aiohttp.ClientSession) -> None:
        while self._has_room() and not self._is_paused() and (delivery := self.deliveries.take_due()):
            task = asyncio.create_task(self._attempt(session, delivery))
            self._tasks.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake.set()

    def _has_room(self) -> bool:
        return len(self._tasks) < self._sandbox.options.webhook_concurrency

    def _is_paused(self) -> bool:
        return bool(self._sandbox.settings["webhooks_paused"])

    def _seconds_to_next(self) -> float:
        due_at = self.deliveries.next_due_at()
        if due_at is None or self._is_paused():
            return LONGEST_SLEEP_SECONDS
        return min(due_at - self._sandbox.clock.time(), LONGEST_SLEEP_SECONDS)

    async def _sleep(self) -> None:
        pause = max(0.0, self._seconds_to_next()) if self._has_room() else LONGEST_SLEEP_SECONDS
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), pause)

    async def _attempt(self, session: aiohttp.ClientSession, delivery: Record) -> None:
        try:
            await self._send(session, delivery)
        except Exception:
            logger.exception("delivery %s broke", delivery["id"])
            self._try_again_later(delivery)
        finally:
            self._sandbox.state.commit()

    async def _send(self, session: aiohttp.ClientSession, delivery: Record) -> None:
        event = self._sandbox.state.get("event", delivery["event"])
        endpoint = self._sandbox.state.get(ENDPOINTS, delivery["endpoint"])
        if not event or not endpoint or not endpoint["is_enabled"]:
            self.deliveries.end(delivery, "dropped")
            return
        body = json.dumps(event | {"api_version": endpoint["api_version"]}, indent=2).encode()
        attempt = await self._post(session, endpoint["url"], body, self._headers(body, endpoint, delivery))
        delivery["attempts"].append(attempt)
        if attempt["status"] and 200 <= attempt["status"] < 300:
            self.deliveries.end(delivery, "delivered")
        else:
            self._try_again_later(delivery)
        if self._sandbox.state.get("event", event["id"]) is event:  # not so if the account was reset meanwhile
            self._count_pending(event)

    async def _post(self, session: aiohttp.ClientSession, url: str, body: bytes, headers: dict[str, str]) -> Record:
        started = time.monotonic()
        attempt: Record = {"at": self._sandbox.clock.now(), "status": None, "error": None, "answer": ""}
        try:
            async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                attempt["status"] = response.status
                answer = await response.content.read(4 * KEPT_ANSWER_CHARACTERS)
                attempt["answer"] = answer.decode(errors="replace")[:KEPT_ANSWER_CHARACTERS]
        except TimeoutError:
            attempt["error"] = "Timed out connecting to remote host"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            attempt["error"] = f"{type(error).__name__}: {error}"[:KEPT_ANSWER_CHARACTERS]
        attempt["milliseconds"] = round((time.monotonic() - started) * 1000)
        return attempt

    def _headers(self, body: bytes, endpoint: Record, delivery: Record) -> dict[str, str]:
        now = self._sandbox.clock.time()
        rolled = [old["secret"] for old in endpoint["old_secrets"] if old["valid_until"] > now]
        secrets = ["whsec_not_yours"] if delivery["wrong_signature"] else [*endpoint["secrets"], *rolled]
        return {
            "Content-Type": "application/json; charset=utf-8",
            "Cache-Control": "no-cache",
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
            # Real time, not virtual: receivers compare it with their own clock.
            "Stripe-Signature": signatures.header(body, secrets, timestamp=int(time.time())),
        }

    def _try_again_later(self, delivery: Record) -> None:
        pauses = self._sandbox.options.retry_seconds
        pause = pauses[min(max(len(delivery["attempts"]) - 1, 0), len(pauses) - 1)]
        at = self._sandbox.clock.time() + pause
        if at - delivery["created"] > GIVE_UP_AFTER_SECONDS:
            self.deliveries.end(delivery, "failed")
        else:
            self.deliveries.reschedule(delivery, at)
