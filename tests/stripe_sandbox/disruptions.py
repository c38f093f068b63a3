"""Scripted trouble on the webhook road: dropped, doubled, delayed, wrongly signed.

Reordering needs no kind of its own: pause, let events pile up, resume with another order.
"""

from __future__ import annotations

import fnmatch
from typing import Any

from .identifiers import new_id
from .state import State

Record = dict[str, Any]
KINDS = ("drop", "delay", "duplicate", "wrong_signature")
DISRUPTIONS = "_disruption"


class Disruptions:
    def __init__(self, state: State) -> None:
        self._state = state

    def add(self, kind: str, *, event_type: str = "*", count: int = 1, seconds: float = 0.0, copies: int = 2) -> Record:
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}")
        disruption = {
            "id": new_id("dis"),
            "kind": kind,
            "event_type": event_type,
            "remaining": count,
            "seconds": float(seconds),
            "copies": int(copies),
        }
        return self._state.save(DISRUPTIONS, disruption)

    def take(self, event_type: str) -> Record | None:
        for disruption in self._state.all(DISRUPTIONS):
            if fnmatch.fnmatchcase(event_type, disruption["event_type"]):
                disruption["remaining"] -= 1
                if disruption["remaining"] > 0:
                    self._state.save(DISRUPTIONS, disruption)
                else:
                    self._state.delete(DISRUPTIONS, disruption["id"])
                return disruption
        return None

    def all(self) -> list[Record]:
        return self._state.all(DISRUPTIONS)

    def clear(self) -> None:
        for disruption in self.all():
            self._state.delete(DISRUPTIONS, disruption["id"])
