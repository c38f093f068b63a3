"""In a rush, a wish that was refused a moment ago need not be put to the database again.

Only while a call for the event is under way in this process, only for exactly the same lines, and for 100 milliseconds:
it may refuse wrongly for that long, it never sells wrongly. A request with an idempotency key or a buyer always passes,
because it may be somebody's who holds the seat already.
"""

import threading
import time
from collections.abc import Hashable
from typing import Any

SECONDS = 0.1
REMEMBERED_AT_MOST = 1_000


class SoldOutGate:
    def __init__(self) -> None:
        self._refused: dict[Hashable, tuple[float, list[dict[str, Any]]]] = {}
        self._mutex = threading.Lock()

    def remember(self, wish: Hashable, lines: list[dict[str, Any]]) -> None:
        """`wish` was just refused, with what is left on `lines`."""
        with self._mutex:
            if len(self._refused) >= REMEMBERED_AT_MOST:
                self._refused.clear()
            self._refused[wish] = (time.monotonic() + SECONDS, lines)

    def refusal(self, wish: Hashable) -> list[dict[str, Any]] | None:
        """What `wish` was told less than 100 ms ago; None if it must ask."""
        until, lines = self._refused.get(wish, (0.0, []))
        return lines if time.monotonic() < until else None
