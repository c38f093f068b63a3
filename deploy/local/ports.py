"""Loopback ports for the embedded services."""

from __future__ import annotations

import random
import socket

# Below the range the kernel hands out for outgoing connections (32768 and up): a service that died must
# find its port free again ten seconds later, not lent to somebody's client socket.
SERVICE_PORTS = range(20_000, 30_000)


def is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port(*, avoid: frozenset[int] = frozenset()) -> int:
    for candidate in random.sample(SERVICE_PORTS, 200):
        if candidate not in avoid and is_free(candidate):
            return candidate
    raise RuntimeError("no free port between 20000 and 29999 on 127.0.0.1")


def next_free(first: int, *, attempts: int = 100) -> int:
    for candidate in range(first, first + attempts):
        if is_free(candidate):
            return candidate
    raise RuntimeError(f"no free port from {first} to {first + attempts - 1} on 127.0.0.1")
