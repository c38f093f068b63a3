"""A webhook endpoint for tests: keeps what it got, and answers what it is told to."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Received:
    body: bytes
    signature: str
    at: float

    @property
    def event(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


class Receiver:
    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answers: list[int] = []
        """Statuses to answer, first to last; 200 when there are none left."""
        self.pause_seconds = 0.0
        self.busiest = 0
        self._busy = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/webhooks/stripe/"

    @property
    def types(self) -> list[str]:
        return [received.event["type"] for received in self.received]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def clear(self) -> None:
        while self._busy:
            time.sleep(0.01)
        with self._lock:
            self.received.clear()
            self.answers.clear()
            self.pause_seconds = 0.0
            self.busiest = 0

    def wait_for(self, enough: Callable[[Receiver], bool], *, seconds: float = 10.0) -> None:
        deadline = time.monotonic() + seconds
        while not enough(self):
            assert time.monotonic() < deadline, f"only these webhooks came: {self.types}"
            time.sleep(0.01)

    def take(self, received: Received) -> int:
        with self._lock:
            self._busy += 1
            self.busiest = max(self.busiest, self._busy)
            self.received.append(received)
            status = self.answers.pop(0) if self.answers else 200
        time.sleep(self.pause_seconds)
        with self._lock:
            self._busy -= 1
        return status

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.take(Received(body, self.headers["Stripe-Signature"], time.monotonic()))
                with contextlib.suppress(ConnectionError):  # a sender that gave up waiting
                    self.send_response(status)
                    self.send_header("Content-Length", "2")
                    self.end_headers()
                    self.wfile.write(b"ok")

            def log_message(self, *_: object) -> None:
                pass

        return Handler
