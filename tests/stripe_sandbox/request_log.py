"""The last API requests, so that a test can count the calls that were made, and with which key."""

from __future__ import annotations

from collections import deque
from typing import Any

Record = dict[str, Any]
KEPT = 20_000
SECRET = frozenset(("number", "cvc", "client_secret"))


class RequestLog:
    def __init__(self) -> None:
        self._entries: deque[Record] = deque(maxlen=KEPT)

    def add(self, entry: Record) -> Record:
        self._entries.append(entry)
        return entry

    def all(self) -> list[Record]:
        return list(self._entries)

    def clear(self) -> None:
        self._entries.clear()


def redact(params: Any) -> Any:
    if isinstance(params, dict):
        return {name: "[hidden]" if name in SECRET else redact(value) for name, value in params.items()}
    if isinstance(params, list):
        return [redact(item) for item in params]
    return params
