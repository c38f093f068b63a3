"""What the person who started the demo sees."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable
from typing import TextIO

STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


class Screen:
    """Prints lines; a terminal that has gone away, or that knows no UTF-8, must not stop the demo."""

    def __init__(self, stream: TextIO = sys.stdout, *, colour: bool | None = None) -> None:
        self.stream = stream
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[attr-defined]
        plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb" or not stream.isatty()
        self.colour = not plain if colour is None else colour
        self.began = time.monotonic()

    def style(self, text: str, *names: str) -> str:
        if not self.colour:
            return text
        return f"\x1b[{';'.join(STYLES[name] for name in names)}m{text}\x1b[0m"

    def line(self, text: str = "") -> None:
        with contextlib.suppress(OSError, ValueError):
            print(text, file=self.stream, flush=True)

    def step(self, text: str) -> None:
        self.line(f"{self.style(f'{time.monotonic() - self.began:5.1f} s', 'dim')}  {text}")

    def detail(self, text: str) -> None:
        self.line(f"{' ' * 9}{self.style(text, 'dim')}")

    def done(self, text: str) -> None:
        self.step(f"{self.style('ok', 'green')}  {text}")

    def event(self, text: str, tail: Iterable[str] = ()) -> None:
        """Something that happened while the demo ran."""
        self.line(f"{self.style(time.strftime('%H:%M:%S'), 'dim')}  {self.style(text, 'yellow')}")
        for line in tail:
            self.detail(line)

    def error(self, text: str, tail: Iterable[str] = ()) -> None:
        self.line(self.style(text, "red"))
        for line in tail:
            self.detail(line)

    def table(self, title: str, rows: Iterable[tuple[str, str]]) -> None:
        self.line(f"\n  {self.style(title, 'bold')}")
        shown = list(rows)
        width = max((len(name) for name, _ in shown), default=0)
        for name, value in shown:
            self.line(f"    {name:<{width}}  {value}")
