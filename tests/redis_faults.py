"""Redis as it may be met: one of a test's own, none at all, and one that takes the call and never answers."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from config import locks, rate_limits
from tests.brokers import closed_port


def forget() -> None:
    """This process has noticed nothing yet, and counted nothing."""
    for reach in (rate_limits._reach, locks._reach):
        reach._forget()
    rate_limits._memory.forget()


def nobody() -> str:
    return f"redis://127.0.0.1:{closed_port()}/0"


@contextmanager
def silent() -> Iterator[tuple[str, list[socket.socket]]]:
    """Connections are made (into the backlog) and nothing is ever said; with the address, the calls that came."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(128)
        server.setblocking(False)
        calls: list[socket.socket] = []
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0", calls
        try:
            while True:
                calls.append(server.accept()[0])
        except BlockingIOError:
            pass
        for call in calls:
            call.close()
