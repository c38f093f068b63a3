"""Deliveries: one row for each event, endpoint and copy, saying when its next attempt is due.

Pending rows are kept in a heap by due time, so that thousands of finished or waiting ones cost nothing.
"""

from __future__ import annotations

import heapq
import random
from typing import Any

from .clock import Clock
from .identifiers import new_id
from .state import State

Record = dict[str, Any]
DELIVERIES = "_delivery"


class Deliveries:
    def __init__(self, state: State, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self.forget()
        for delivery in state.all(DELIVERIES):
            self._index(delivery)

    def forget(self) -> None:
        self._by_event: dict[str, list[Record]] = {}
        self._pending: dict[str, Record] = {}
        self._due: list[tuple[float, int, str]] = []
        self._pushes = 0

    def add(
        self,
        event: Record,
        endpoint: Record,
        *,
        state: str = "pending",
        delay: float = 0.0,
        wrong_signature: bool = False,
    ) -> Record:
        now = self._clock.time()
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
        return self._state.save(DELIVERIES, delivery)

    def of_event(self, event_id: str) -> list[Record]:
        return list(self._by_event.get(event_id, []))

    def all(self) -> list[Record]:
        return self._state.all(DELIVERIES)

    def reschedule(self, delivery: Record, at: float) -> None:
        delivery["next_attempt_at"] = at
        self._push(delivery)
        self._save(delivery)

    def end(self, delivery: Record, state: str) -> None:
        delivery.update(state=state, next_attempt_at=None)
        self._pending.pop(delivery["id"], None)
        self._save(delivery)

    def take_due(self) -> Record | None:
        """The one that is due longest; whoever takes it must end or reschedule it."""
        if self.next_due_at() is None or self._due[0][0] > self._clock.time():
            return None
        return self._pending[heapq.heappop(self._due)[2]]

    def next_due_at(self) -> float | None:
        while self._due and not self._is_current(self._due[0]):
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def rearrange(self, order: str, *, seed: int) -> None:
        """Give everything that is due another order: `reverse`, or `shuffle` by a seed."""
        due = []
        while delivery := self.take_due():
            due.append(delivery)
        if order == "reverse":
            due.reverse()
        elif order == "shuffle":
            random.Random(seed).shuffle(due)
        start = self._clock.time() - 1.0
        for position, delivery in enumerate(due):
            self.reschedule(delivery, start + position / 1_000_000)

    def _index(self, delivery: Record) -> None:
        self._by_event.setdefault(delivery["event"], []).append(delivery)
        if delivery["state"] == "pending":
            self._pending[delivery["id"]] = delivery
            self._push(delivery)

    def _push(self, delivery: Record) -> None:
        self._pushes += 1
        heapq.heappush(self._due, (delivery["next_attempt_at"], self._pushes, delivery["id"]))

    def _is_current(self, entry: tuple[float, int, str]) -> bool:
        delivery = self._pending.get(entry[2])
        return delivery is not None and delivery["next_attempt_at"] == entry[0]

    def _save(self, delivery: Record) -> None:
        """Not after a reset: what was under way then must not come back."""
        if self._state.get(DELIVERIES, delivery["id"]) is delivery:
            self._state.save(DELIVERIES, delivery)
