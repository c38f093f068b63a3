"""Virtual time: real seconds plus an offset that tests move forward. It never moves back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class Clock:
    def __init__(self, offset_seconds: float = 0.0) -> None:
        self.offset_seconds = offset_seconds
        self.moved = asyncio.Event()
        self._on_advance: list[Callable[[float], None]] = []

    def time(self) -> float:
        return time.time() + self.offset_seconds

    def now(self) -> int:
        return int(self.time())

    def on_advance(self, callback: Callable[[float], None]) -> None:
        self._on_advance.append(callback)

    def advance(self, seconds: float) -> int:
        if seconds < 0:
            raise ValueError("time does not run backwards")
        self.offset_seconds += seconds
        for callback in self._on_advance:
            callback(self.offset_seconds)
        return self.now()
