"""A small HTTP server that says what it is told to say, and remembers what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Say = Callable[[int], int]


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, say: Say) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.say = say
        self.mutex = threading.Lock()
        self.hangs_up_afterwards = False
        self.asked: list[tuple[str, str, bytes, str | None]] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients may go whenever they like."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.server.mutex:
            number = len(self.server.asked)
            self.server.asked.append((self.command, self.path, body, self.headers.get("Idempotency-Key")))
        status = self.server.say(number)
        if status == 0:  # hang up without a word
            self.close_connection = True
            return
        self.send_response(status)
        content = b"" if status == 304 else b"x" * (number % 3 * 1_000)
        if status != 304:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        if self.server.hangs_up_afterwards:
            self.close_connection = True

    do_POST = do_GET

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


@contextmanager
def serving(say: Say) -> Iterator[Server]:
    """`say`: from the number of a request to the status of its answer; 0 hangs up."""
    server = Server(say)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
