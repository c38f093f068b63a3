"""Ctrl-C and its relatives, turned into something the supervisor asks for at safe moments."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# `make` passes on a signal that the whole group may have received already: one wish, not two.
SAME_WISH_SECONDS = 0.5


class StopRequested(Exception):
    """Somebody asked the demo to end."""


class Interrupts:
    def __init__(self) -> None:
        self.wishes = 0
        self._last_at = float("-inf")
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def install(self) -> None:
        for number in STOPPING:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # started with nohup: it is meant to outlive the terminal
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._last_at > SAME_WISH_SECONDS:
            self.wishes += 1
            self._last_at = now
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, b"!")

    @property
    def is_urgent(self) -> bool:
        return self.wishes > 1

    def pause(self, seconds: float, *, readable: int | None = None) -> bool:
        """Wait, or less if something can be read; raises StopRequested once somebody asked for the end."""
        watched = [self._reader] if readable is None else [self._reader, readable]
        ready, _, _ = select.select(watched, [], [], seconds)
        if self.wishes:
            raise StopRequested
        return readable in ready
