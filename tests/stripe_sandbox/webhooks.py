"""Delivery of events to webhook endpoints: signed, bounded, repeated until answered with a 2xx.

A delivery is a row that says when its next attempt is due, so a restart goes on where the last process
stopped. Stripe's own schedule stretches over three days (docs.stripe.com/webhooks#automatic-retries);
this one is faster at first and gives up after the same three days, of virtual time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import time
from typing import TYPE_CHECKING, Any

import aiohttp

from . import API_VERSION, signatures
from .identifiers import new_id

if TYPE_CHECKING:
    from .sandbox import Sandbox

Record = dict[str, Any]
logger = logging.getLogger(__name__)

ENDPOINTS = "_endpoint"
DELIVERIES = "_delivery"
GIVE_UP_AFTER_SECONDS = 3 * 24 * 3600
KEPT_ANSWER_CHARACTERS = 500
LONGEST_SLEEP_SECONDS = 60.0


class Webhooks:
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._in_flight: set[str] = set()
        # Indexes over the stored deliveries, so that thousands of finished ones cost nothing.
        self._pending: dict[str, Record] = {}
        self._by_event: dict[str, list[Record]] = {}
        for delivery in sandbox.state.all(DELIVERIES):
            self._index(delivery)
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(sandbox.options.webhook_concurrency)
        sandbox.clock.on_advance(lambda _: self._wake.set())

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
    ) -> Record | None:
        if not url:
            self._sandbox.state.delete(ENDPOINTS, endpoint_id)
            return None
        endpoint = {
            "id": endpoint_id,
            "url": url,
            "secrets": secrets,
            "enabled_events": enabled_events or ["*"],
            "is_enabled": is_enabled,
            "api_version": api_version,
        }
        return self._sandbox.state.save(ENDPOINTS, endpoint)

    # Queue

    def enqueue(self, event: Record) -> None:
        for endpoint in self.endpoints():
            if endpoint["is_enabled"] and (
                "*" in endpoint["enabled_events"] or event["type"] in endpoint["enabled_events"]
            ):
                self._enqueue_for(event, endpoint)
        self._count_pending(event)

    def resend(self, event: Record, *, copies: int = 1) -> list[str]:
        """Deliver once more, whatever happened before, as the Dashboard's button does."""
        endpoints = [endpoint for endpoint in self.endpoints() if endpoint["is_enabled"]]
        sent = [self._add(event, endpoint)["id"] for endpoint in endpoints for _ in range(copies)]
        self._count_pending(event)
        self._wake.set()
        return sent

    def _enqueue_for(self, event: Record, endpoint: Record) -> None:
        disruption = self._sandbox.disruptions.take(event["type"])
        kind = disruption["kind"] if disruption else None
        if kind == "drop":
            self._add(event, endpoint, state="dropped")
            return
        delay = disruption["seconds"] if disruption and kind == "delay" else 0.0
        for _ in range(disruption["copies"] if disruption and kind == "duplicate" else 1):
            self._add(event, endpoint, delay=delay, wrong_signature=kind == "wrong_signature")
        self._wake.set()

    def _add(
        self,
        event: Record,
        endpoint: Record,
        *,
        state: str = "pending",
        delay: float = 0.0,
        wrong_signature: bool = False,
    ) -> Record:
        now = self._sandbox.clock.time()
        delivery = {
            "id": new_id("del"),
            "event": event["id"],
            "type": event["type"],
            "endpoint": endpoint["id"],
            "state": state,
            "created": now,
            "next_attempt_at": now + delay if state == "pending" else None,
            "wrong_signature": wrong_signature,
            "attempts": [],
        }
        self._index(delivery)
        return self._sandbox.state.save(DELIVERIES, delivery)

    def _index(self, delivery: Record) -> None:
        self._by_event.setdefault(delivery["event"], []).append(delivery)
        if delivery["state"] == "pending":
            self._pending[delivery["id"]] = delivery

    def _end(self, delivery: Record, state: str) -> None:
        delivery.update(state=state, next_attempt_at=None)
        self._pending.pop(delivery["id"], None)

    def forget(self) -> None:
        self._pending.clear()
        self._by_event.clear()

    def deliveries(self, event_id: str | None = None) -> list[Record]:
        return self._sandbox.state.all(DELIVERIES) if event_id is None else list(self._by_event.get(event_id, []))

    def _count_pending(self, event: Record) -> None:
        """Endpoints that have not answered 2xx yet; one whose delivery we dropped on purpose counts too."""
        waiting, done = set(), set()
        for delivery in self._by_event.get(event["id"], []):
            (done if delivery["state"] == "delivered" else waiting).add(delivery["endpoint"])
        event["pending_webhooks"] = len(waiting - done)
        self._sandbox.state.save("event", event)

    def rearrange(self, order: str, *, seed: int = 0) -> None:
        """Give everything that is due another order: `reverse`, or `shuffle` by a seed."""
        due = self._due(even_if_paused=True)
        if order == "reverse":
            due.reverse()
        elif order == "shuffle":
            random.Random(seed).shuffle(due)
        start = self._sandbox.clock.time() - 1.0
        for position, delivery in enumerate(due):
            delivery["next_attempt_at"] = start + position / 1_000_000
            self._sandbox.state.save(DELIVERIES, delivery)

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
                    for delivery in self._due():
                        self._start(session, delivery)
                    await self._sleep()
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    async def idle(self) -> None:
        """Return when nothing is due any more."""
        while self._in_flight or self._due():
            self._wake.set()
            await asyncio.sleep(0.01)

    def _start(self, session: aiohttp.ClientSession, delivery: Record) -> None:
        self._in_flight.add(delivery["id"])
        task = asyncio.create_task(self._attempt(session, delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _waiting(self, *, even_if_paused: bool = False) -> list[Record]:
        if self._sandbox.settings["webhooks_paused"] and not even_if_paused:
            return []
        return [delivery for name, delivery in self._pending.items() if name not in self._in_flight]

    def _due(self, *, even_if_paused: bool = False) -> list[Record]:
        now = self._sandbox.clock.time()
        waiting = self._waiting(even_if_paused=even_if_paused)
        due = [delivery for delivery in waiting if delivery["next_attempt_at"] <= now]
        return sorted(due, key=lambda delivery: delivery["next_attempt_at"])

    async def _sleep(self) -> None:
        now = self._sandbox.clock.time()
        pauses = [delivery["next_attempt_at"] - now for delivery in self._waiting()]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), max(0.0, min([LONGEST_SLEEP_SECONDS, *pauses])))

    async def _attempt(self, session: aiohttp.ClientSession, delivery: Record) -> None:
        try:
            async with self._slots:
                await self._send(session, delivery)
        except Exception:
            logger.exception("delivery %s broke", delivery["id"])
            self._reschedule(delivery)
        finally:
            self._in_flight.discard(delivery["id"])
            self._sandbox.state.commit()
            self._wake.set()

    async def _send(self, session: aiohttp.ClientSession, delivery: Record) -> None:
        state = self._sandbox.state
        event = state.get("event", delivery["event"])
        endpoint = state.get(ENDPOINTS, delivery["endpoint"])
        if not event or not endpoint or not endpoint["is_enabled"]:
            self._end(delivery, "dropped")
            state.save(DELIVERIES, delivery)
            return
        body = json.dumps(event | {"api_version": endpoint["api_version"]}, indent=2).encode()
        started = time.monotonic()
        attempt: Record = {"at": self._sandbox.clock.now(), "status": None, "error": None, "answer": ""}
        try:
            async with session.post(
                endpoint["url"], data=body, headers=self._headers(body, endpoint, delivery), allow_redirects=False
            ) as response:
                attempt["status"] = response.status
                attempt["answer"] = (await response.content.read(4096)).decode(errors="replace")[
                    :KEPT_ANSWER_CHARACTERS
                ]
        except TimeoutError:
            attempt["error"] = "Timed out connecting to remote host"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            attempt["error"] = f"{type(error).__name__}: {error}"[:KEPT_ANSWER_CHARACTERS]
        attempt["milliseconds"] = round((time.monotonic() - started) * 1000)
        delivery["attempts"].append(attempt)
        if attempt["status"] and 200 <= attempt["status"] < 300:
            self._end(delivery, "delivered")
        else:
            self._reschedule(delivery)
        if state.get("event", event["id"]) is event:  # not so if the account was reset meanwhile
            state.save(DELIVERIES, delivery)
            self._count_pending(event)

    def _headers(self, body: bytes, endpoint: Record, delivery: Record) -> dict[str, str]:
        secrets = ["whsec_not_yours"] if delivery["wrong_signature"] else endpoint["secrets"]
        return {
            "Content-Type": "application/json; charset=utf-8",
            "Cache-Control": "no-cache",
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
            # Real time, not virtual: receivers compare it with their own clock.
            "Stripe-Signature": signatures.header(body, secrets, timestamp=int(time.time())),
        }

    def _reschedule(self, delivery: Record) -> None:
        pauses = self._sandbox.options.retry_seconds
        pause = pauses[min(max(len(delivery["attempts"]) - 1, 0), len(pauses) - 1)]
        next_attempt_at = self._sandbox.clock.time() + pause
        if next_attempt_at - delivery["created"] > GIVE_UP_AFTER_SECONDS:
            self._end(delivery, "failed")
        else:
            delivery["next_attempt_at"] = next_attempt_at
