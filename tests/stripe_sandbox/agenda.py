"""What the bank does later, on the virtual clock: bank debits and refunds that end days after they began."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from . import checkout_sessions, refunds
from .confirmation import JOBS, finish_debit

if TYPE_CHECKING:
    from .sandbox import Sandbox

LOOK_EVERY_SECONDS = 1.0


class Agenda:
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._wake = asyncio.Event()
        sandbox.clock.on_advance(lambda _: self._wake.set())

    async def run(self) -> None:
        while True:
            self._wake.clear()
            self.do_what_is_due()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), LOOK_EVERY_SECONDS)

    def do_what_is_due(self) -> None:
        state = self._sandbox.state
        for job in state.all(JOBS):
            if job["due_at"] <= self._sandbox.clock.time():
                state.delete(JOBS, job["id"])
                if intent := state.get("payment_intent", job["payment_intent"]):
                    finish_debit(self._sandbox, intent, succeeded=job["outcome"] == "succeeded")
        refunds.finish_due(self._sandbox)
        checkout_sessions.expire_due(self._sandbox)
        state.commit()
