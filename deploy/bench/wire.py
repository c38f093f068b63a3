"""HTTP/1.1 as far as a load generator needs it: one request at a time on a connection, answers of a known length."""

from __future__ import annotations

import errno
import socket

READ_AT_MOST = 65_536
WITHOUT_BODY = (204, 304)
KEY_PLACE = b"{key}"  # stands where each request shall carry an Idempotency-Key of its own


class BadAnswer(Exception):
    """The server said something that this client does not understand, or hung up; the message is counted."""


def request(method: str, path: str, *, host: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    """The bytes of a request, made once and sent many times."""
    said = {"Host": host, "Accept": "application/json", **(headers or {})}
    if body:
        said |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in said.items())
    return head.encode("ascii") + b"\r\n" + body


def answer_at(data: bytes) -> tuple[int, int] | None:
    """Status and whole length of the answer that `data` begins with; None while its head is incomplete."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    if not data.startswith(b"HTTP/1.") or not data[9:12].isdigit():
        raise BadAnswer("no HTTP")
    status = int(data[9:12])
    if status in WITHOUT_BODY:
        return status, end + 4
    head = data[: end + 2].lower()
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        raise BadAnswer("no Content-Length")
    return status, end + 4 + int(head[at + 17 : head.index(b"\r", at + 2)])


class Connection:
    """One non-blocking connection. `began` is when its request was sent, or should have been."""

    __slots__ = ("_data", "began", "socket")

    def __init__(self, address: tuple[str, int]) -> None:
        """Starts to connect; the socket is writable when that is done."""
        self.began = 0.0
        self._data = b""
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = self.socket.connect_ex(address)
        if code not in (0, errno.EINPROGRESS):
            self.close()
            raise BadAnswer(errno.errorcode.get(code, str(code)))

    def fileno(self) -> int:
        return self.socket.fileno()

    def send(self, content: bytes, began: float) -> None:
        self.began = began
        try:
            sent = self.socket.send(content)
        except OSError as error:
            raise BadAnswer(_name_of(error)) from error
        if sent != len(content):  # requests are far smaller than a socket's buffer
            raise BadAnswer("partly sent")

    def receive(self) -> int | None:
        """The status, once the whole answer is there."""
        try:
            data = self.socket.recv(READ_AT_MOST)
        except BlockingIOError:
            return None
        except OSError as error:
            raise BadAnswer(_name_of(error)) from error
        if not data:
            raise BadAnswer("hung up")
        if self._data:
            data = self._data + data
        found = answer_at(data)
        if found is None or len(data) < found[1]:
            self._data = data
            return None
        if len(data) > found[1]:
            raise BadAnswer("more than one answer")
        self._data = b""
        return found[0]

    def close(self) -> None:
        self.socket.close()


def _name_of(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, type(error).__name__)
